//! pause and resume: every process stands still, and goes on.

use harness::{Bundle, Container, Feature, Host, Outcome, Stop, ensure, ensure_eq};
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub(crate) fn trials() -> Feature {
    Feature::new("pause")
        .trial("a paused container stands still until it is resumed", |host| {
            let bundle = host.bundle()?.payload(&["count", "/tmp/count"]);
            let container = host.start(&bundle)?;
            container.lines(1)?;
            goes_on(&bundle)?;
            silent(&container, "pause")?;
            stands_still(&bundle)?;
            ensure_eq!(container.status()?, "paused");
            ensure!(is_frozen(host, bundle.id())?, "the kernel does not say that it is frozen");
            silent(&container, "resume")?;
            goes_on(&bundle)?;
            ensure_eq!(container.status()?, "running");
            ensure!(!is_frozen(host, bundle.id())?, "the kernel says that it is frozen");
            container.delete_force()
        })
        .trial("processes in cgroups below the container's stand still with it", |host| {
            let bundle = host.bundle()?.payload(&["spawn", "/bin/payload", "count", "/tmp/count"]);
            let container = host.start(&bundle)?;
            let child = child_of(container.pid()?)?;
            let nested = freezer(host, bundle.id())?.join("nested");
            std::fs::create_dir(&nested)?;
            std::fs::write(nested.join("cgroup.procs"), child.to_string())?;
            goes_on(&bundle)?;
            silent(&container, "pause")?;
            stands_still(&bundle)?;
            silent(&container, "resume")?;
            goes_on(&bundle)?;
            container.delete_force()
        })
        .trial("a created container is paused as it waits, and starts once it is resumed", |host| {
            let bundle = host.bundle()?.payload(&["count", "/tmp/count"]);
            let container = host.create(&bundle)?;
            silent(&container, "pause")?;
            ensure_eq!(container.status()?, "paused");
            host.except("runc", "waits for the frozen process")?;
            let said = container.call("start", &[])?;
            ensure!(said.code() == Some(1) && said.stderr.contains("paused"), "{said}");
            silent(&container, "resume")?;
            ensure_eq!(container.status()?, "created");
            container.start()?;
            goes_on(&bundle)?;
            container.delete_force()
        })
        .trial("what is paused already or is not paused is refused, and stays as it is", |host| {
            let bundle = host.bundle()?.payload(&["count", "/tmp/count"]);
            let container = host.start(&bundle)?;
            container.lines(1)?;
            let said = container.call("resume", &[])?;
            ensure!(said.code() == Some(1) && said.stderr.contains("container not paused"), "{said}");
            goes_on(&bundle)?;
            silent(&container, "pause")?;
            let said = container.call("pause", &[])?;
            ensure!(said.code() == Some(1), "{said}");
            stands_still(&bundle)?;
            container.delete_force()
        })
        .trial("a stopped container is not running", |host| {
            let container = host.start(&host.bundle()?.payload(&["nothing"]))?;
            container.wait_for_status("stopped")?;
            let said = container.call("pause", &[])?;
            ensure!(said.code() == Some(1) && said.stderr.contains("container not running"), "{said}");
            ensure_eq!(container.call("resume", &[])?.code(), Some(1));
            container.delete()
        })
        .trial("an unknown container does not exist", |host| {
            for verb in ["pause", "resume"] {
                let said = host.runtime.call(&[verb, "nobody"])?;
                ensure!(said.code() == Some(1) && said.stderr.contains("does not exist"), "{said}");
            }
            Ok(())
        })
        .trial("SIGKILL ends a paused container", |host| {
            for options in [&[][..], &["--all"]] {
                let container = paused(host, host.bundle()?)?;
                let mut call = vec!["kill"];
                call.extend_from_slice(options);
                call.extend([container.id(), "KILL"]);
                host.runtime.must(&call)?;
                container.wait_for_status("stopped")?;
                container.delete()?;
            }
            Ok(())
        })
        .trial("SIGKILL ends every process of a paused container without a pid namespace", |host| {
            let bundle = host.bundle()?.without_namespace("pid").payload(&["spawn", "/bin/payload", "sleep"]);
            let container = host.start(&bundle)?;
            let child = child_of(container.pid()?)?;
            silent(&container, "pause")?;
            host.runtime.must(&["kill", "--all", container.id(), "KILL"])?;
            container.wait_for_status("stopped")?;
            ensure!(!is_alive(child), "the child lives");
            container.delete()
        })
        .trial("other signals wait until a paused container is resumed", |host| {
            let bundle = host.bundle()?.payload(&["wait-signal"]);
            let container = host.start(&bundle)?;
            container.lines(1)?;
            silent(&container, "pause")?;
            container.kill("TERM")?;
            std::thread::sleep(Duration::from_millis(50));
            ensure_eq!(container.status()?, "paused");
            ensure_eq!(container.lines(1)?.len(), 1);
            silent(&container, "resume")?;
            ensure_eq!(container.lines(2)?[1]["signal"], "SIGTERM");
            container.delete_force()
        })
        .trial("delete by force ends a paused container", |host| paused(host, host.bundle()?)?.delete_force())
        .trial("delete of a paused container is refused", |host| {
            let container = paused(host, host.bundle()?)?;
            let said = container.call("delete", &[])?;
            ensure!(said.code() == Some(1) && said.stderr.contains("paused"), "{said}");
            ensure_eq!(container.status()?, "paused");
            container.delete_force()
        })
        .trial("a container that forks on and on can be paused", |host| {
            let bundle = host.bundle()?.payload(&["fork-on"]);
            let container = host.start(&bundle)?;
            container.lines(1)?;
            for _ in 0..20 {
                silent(&container, "pause")?;
                ensure!(is_frozen(host, bundle.id())?, "the kernel does not say that it is frozen");
                silent(&container, "resume")?;
            }
            container.delete_force()
        })
        .trial("a container inside a frozen cgroup is not resumed, and that is told", |host| {
            host.only_wharf("others do not look")?;
            if host.is_v2() {
                return Err(Stop::skipped("cgroup v2 tells nothing of the cgroups above"));
            }
            let above = host.unique("above");
            let bundle = host.bundle()?.set("/linux/cgroupsPath", format!("/{above}/c").into()).payload(&["sleep"]);
            let container = host.start(&bundle)?;
            let state = freezer(host, &above)?.join("freezer.state");
            silent(&container, "pause")?;
            std::fs::write(&state, "FROZEN")?;
            let said = container.call("resume", &[])?;
            ensure!(said.code() == Some(1) && said.stderr.contains("a cgroup above it is frozen"), "{said}");
            std::fs::write(&state, "THAWED")?;
            ensure_eq!(container.status()?, "running");
            container.delete_force()
        })
}

fn silent(container: &Container<'_>, verb: &str) -> Outcome {
    let said = container.call(verb, &[])?;
    ensure!(said.code() == Some(0) && said.stdout.is_empty() && said.stderr.is_empty(), "{said}");
    Ok(())
}

fn paused(host: &Host, bundle: Bundle) -> Result<Container<'_>, Stop> {
    let container = host.start(&bundle.payload(&["sleep"]))?;
    silent(&container, "pause")?;
    Ok(container)
}

fn counted(bundle: &Bundle) -> Result<u64, Stop> {
    let text = std::fs::read_to_string(bundle.rootfs().join("tmp/count")).unwrap_or_default();
    Ok(text.trim().parse().unwrap_or(0))
}

fn goes_on(bundle: &Bundle) -> Outcome {
    let (begun, first) = (Instant::now(), counted(bundle)?);
    while counted(bundle)? <= first {
        ensure!(begun.elapsed() < Duration::from_secs(15), "it stands still at {first}");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn stands_still(bundle: &Bundle) -> Outcome {
    let read = || std::fs::read(bundle.rootfs().join("tmp/count"));
    let first = read()?;
    std::thread::sleep(Duration::from_millis(60));
    ensure_eq!(read()?, first, "it counts on");
    Ok(())
}

fn freezer(host: &Host, path: &str) -> Result<PathBuf, Stop> {
    let top = if host.is_v2() { Some(PathBuf::from("/sys/fs/cgroup")) } else { host.controller_dir("freezer") };
    Ok(top.ok_or_else(|| Stop::skipped("this host has no freezer"))?.join(path))
}

fn is_frozen(host: &Host, path: &str) -> Result<bool, Stop> {
    let dir = freezer(host, path)?;
    Ok(match host.is_v2() {
        true => std::fs::read_to_string(dir.join("cgroup.events"))?.lines().any(|line| line == "frozen 1"),
        false => std::fs::read_to_string(dir.join("freezer.state"))?.trim() == "FROZEN",
    })
}

/// The first child of a process, once there is one.
fn child_of(pid: i32) -> Result<i32, Stop> {
    for _ in 0..2000 {
        let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        if let Some(child) = text.split_whitespace().next() {
            return Ok(child.parse()?);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Err(Stop::failed(format!("process {pid} has no child")))
}

fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).is_some_and(|state| state != "Z")
}
