//! `--systemd-cgroup`: the container's cgroup is a scope of systemd's, from create to delete.

pub(crate) mod podman;
pub(crate) mod pods;
pub(crate) mod properties;
pub(crate) mod service;
pub(crate) mod trouble;

use harness::{Bundle, Container, Feature, Finished, Host, Outcome, Stop, ensure, ensure_eq, json, limit};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

const CGROUPS: &str = "/sys/fs/cgroup";

pub(crate) fn trials() -> Feature {
    Feature::new("systemd")
        .trial("the scope is there from create on, holds every process, and is gone with delete", |host| {
            needs_systemd(host)?;
            let bundle = scope(host)?.payload(&["sleep"]);
            let container = create(host, &bundle)?;
            ensure_eq!(show(&unit(&bundle), "ActiveState")?, "active");
            ensure_eq!(show(&unit(&bundle), "Slice")?, "system.slice");
            let path = format!("/system.slice/{}", unit(&bundle));
            ensure_eq!(show(&unit(&bundle), "ControlGroup")?, path);
            ensure_eq!(cgroup_of(container.pid()?)?, path);
            container.start()?;
            ensure_eq!(container.status()?, "running");
            let joined = host.spawn(&["exec", bundle.id(), "/bin/payload", "sleep"])?;
            let begun = Instant::now();
            while std::fs::read_to_string(format!("{CGROUPS}{path}/cgroup.procs"))?.lines().count() != 2 {
                ensure!(begun.elapsed() < limit(15), "the process that joins does not come to the scope");
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            let events = container.call("events", &["--stats"])?;
            ensure!(events.stdout.contains(r#""current":2"#), "{events}");
            container.kill("KILL")?;
            joined.finish()?;
            container.wait_for_status("stopped")?;
            container.delete()?;
            is_gone(&bundle)
        })
        .trial("run ends with the scope gone, and with the payload's exit code", |host| {
            needs_systemd(host)?;
            let bundle = scope(host)?.payload(&["exit", "7"]);
            let finished = call(host, &["run", "--bundle", bundle.dir_text(), bundle.id()], &bundle)?;
            ensure_eq!(finished.code(), Some(7), "{finished}");
            is_gone(&bundle)
        })
        .trial("SLICE:PREFIX:NAME: slices inside of slices, and what is meant where a part is empty", |host| {
            needs_systemd(host)?;
            let tag = host.tag().replace('-', "_");
            for (path, cgroup) in [
                (format!("{tag}a-b.slice:p:{tag}"), format!("/{tag}a.slice/{tag}a-b.slice/p-{tag}.scope")),
                (format!(":p:{tag}"), format!("/system.slice/p-{tag}.scope")),
                (format!("-.slice::{tag}"), format!("/-{tag}.scope")),
                (String::new(), format!("/system.slice/wharf-{}c3.scope", host.tag().to_owned() + "-")),
            ] {
                let bundle = host.bundle()?.payload(&["sleep"]).set("/linux/cgroupsPath", json!(path));
                let container = create(host, &bundle)?;
                ensure_eq!(cgroup_of(container.pid()?)?, cgroup, "{path:?}");
                container.delete_force()?;
                ensure!(!PathBuf::from(format!("{CGROUPS}{cgroup}")).exists(), "{cgroup} is left");
            }
            // systemd takes an empty slice away when it likes.
            for slice in [format!("{tag}a-b.slice"), format!("{tag}a.slice")] {
                systemctl(&["stop", &slice])?;
            }
            Ok(())
        })
        .trial("a path that is no unit's is refused by name", |host| {
            needs_systemd(host)?;
            for path in
                ["/a/b", "a.slice:b", "a:b:c", "a.slice:b:", "a.slice:b:c.slice", "a.slice:b:c/d", "a--b.slice:b:c"]
            {
                let bundle = host.bundle()?.set("/linux/cgroupsPath", json!(path));
                let said = create_fails(host, &bundle)?;
                ensure!(said.last_line().contains("[linux/cgroupsPath]"), "{path}: {said}");
            }
            Ok(())
        })
        .trial("a paused container is one of the kernel's freezer, and is deleted by force all the same", |host| {
            needs_systemd(host)?;
            let bundle = scope(host)?.payload(&["sleep"]);
            let container = start(host, &bundle)?;
            container.call("pause", &[])?;
            ensure_eq!(container.status()?, "paused");
            ensure_eq!(file(&bundle, "cgroup.freeze")?, "1");
            systemctl(&["daemon-reload"])?;
            ensure_eq!(container.status()?, "paused");
            container.call("resume", &[])?;
            ensure_eq!(container.status()?, "running");
            container.call("pause", &[])?;
            container.delete_force()?;
            is_gone(&bundle)
        })
        .trial("run.oci.systemd.subgroup is the container's cgroup, inside of the scope", |host| {
            needs_systemd(host)?;
            let bundle = scope(host)?
                .payload(&["sleep"])
                .set("/annotations", json!({"run.oci.systemd.subgroup": "inner"}))
                .set("/linux/resources/pids", json!({"limit": 33}));
            let container = start(host, &bundle)?;
            let path = format!("/system.slice/{}/inner", unit(&bundle));
            ensure_eq!(cgroup_of(container.pid()?)?, path);
            ensure_eq!(std::fs::read_to_string(format!("{CGROUPS}{path}/pids.max"))?, "33\n");
            ensure_eq!(show(&unit(&bundle), "TasksMax")?, "33");
            let [joined] = container.exec_lines(&[], &["read", "/proc/self/cgroup"])?;
            ensure_eq!(joined.text("/text").trim(), format!("0::{path}"));
            container.delete_force()?;
            is_gone(&bundle)?;
            let bundle = scope(host)?.set("/annotations", json!({"run.oci.systemd.subgroup": "../up"}));
            let said = create_fails(host, &bundle)?;
            ensure!(said.last_line().contains("[annotations/run.oci.systemd.subgroup]"), "{said}");
            Ok(())
        })
        .trial("a scope that systemctl stops is a container that has stopped", |host| {
            needs_systemd(host)?;
            let bundle = scope(host)?.payload(&["sleep"]);
            let container = start(host, &bundle)?;
            systemctl(&["kill", "--signal=KILL", &unit(&bundle)])?;
            container.wait_for_status("stopped")?;
            container.delete()?;
            is_gone(&bundle)
        })
        .trial("starts and stops in a row leave no unit, and a bus that answers", |host| {
            needs_systemd(host)?;
            let whole = std::env::var_os("WHARF_E2E_FULL").is_some();
            let failed = || systemctl(&["list-units", "--all", "--no-legend", "--state=failed"]);
            let before = failed()?;
            for turn in 0..if whole { 300 } else { 15 } {
                let bundle = host.bundle()?.payload(&["nothing"]).with_id(&format!("{}-again", host.tag()));
                let bundle =
                    bundle.set("/linux/cgroupsPath", json!(format!("system.slice:wharf:{}-again", host.tag())));
                let finished = call(host, &["run", "--bundle", bundle.dir_text(), bundle.id()], &bundle)?;
                ensure_eq!(finished.code(), Some(0), "turn {turn}: {finished}");
                std::fs::remove_dir_all(bundle.dir())?;
                if turn % 15 == 14 {
                    is_gone(&bundle)?;
                }
            }
            ensure_eq!(failed()?, before, "failed units");
            let begun = Instant::now();
            systemctl(&["show", "--property=Version"])?;
            ensure!(begun.elapsed() < limit(2), "the bus took {:?}", begun.elapsed());
            Ok(())
        })
}

/// Skips where `--systemd-cgroup` cannot be.
pub(crate) fn needs_systemd(host: &Host) -> Outcome {
    if !std::path::Path::new("/run/systemd/system").is_dir() {
        return Err(Stop::skipped("systemd does not run on this host"));
    }
    host.needs_v2("memory")
}

/// A bundle whose cgroup is `wharf-ID.scope` in `system.slice`.
pub(crate) fn scope(host: &Host) -> Result<Bundle, Stop> {
    let bundle = host.bundle()?;
    let path = format!("system.slice:wharf:{}", bundle.id());
    Ok(bundle.set("/linux/cgroupsPath", json!(path)))
}

pub(crate) fn unit(bundle: &Bundle) -> String {
    format!("wharf-{}.scope", bundle.id())
}

/// A control file of the scope.
pub(crate) fn file(bundle: &Bundle, name: &str) -> Result<String, Stop> {
    let path = format!("{CGROUPS}/system.slice/{}/{name}", unit(bundle));
    Ok(std::fs::read_to_string(path)?.trim_end().to_owned())
}

pub(crate) fn command(host: &Host, args: &[&str]) -> Command {
    let mut command = host.runtime.command();
    command.arg("--systemd-cgroup").args(args);
    command
}

pub(crate) fn create<'h>(host: &'h Host, bundle: &Bundle) -> Result<Container<'h>, Stop> {
    Container::create_by(host, bundle, |args| command(host, args))
}

pub(crate) fn start<'h>(host: &'h Host, bundle: &Bundle) -> Result<Container<'h>, Stop> {
    let container = create(host, bundle)?;
    container.start()?;
    Ok(container)
}

pub(crate) fn call(host: &Host, args: &[&str], bundle: &Bundle) -> Result<Finished, Stop> {
    bundle.save()?;
    host.runtime.spawn_command(command(host, args))?.finish()
}

/// `create`, which must fail and leave no unit.
pub(crate) fn create_fails(host: &Host, bundle: &Bundle) -> Result<Finished, Stop> {
    let said = call(host, &["create", "--bundle", bundle.dir_text(), bundle.id()], bundle)?;
    if said.code() == Some(0) {
        let _ = host.runtime.call(&["delete", "--force", bundle.id()]);
        return Err(Stop::failed(format!("create of {} should have been refused", bundle.id())));
    }
    is_gone(bundle)?;
    Ok(said)
}

pub(crate) fn systemctl(args: &[&str]) -> Result<String, Stop> {
    let output = Command::new("systemctl").args(args).output()?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(Stop::failed(format!("systemctl {args:?}: {}", String::from_utf8_lossy(&output.stderr)))),
    }
}

pub(crate) fn show(unit: &str, property: &str) -> Result<String, Stop> {
    Ok(systemctl(&["show", "--value", "--property", property, unit])?.trim_end().to_owned())
}

/// systemd knows no such unit, and there is no such cgroup.
pub(crate) fn is_gone(bundle: &Bundle) -> Outcome {
    ensure_eq!(show(&unit(bundle), "LoadState")?, "not-found", "{}", unit(bundle));
    let path = PathBuf::from(format!("{CGROUPS}/system.slice/{}", unit(bundle)));
    ensure!(!path.exists(), "{} is left", path.display());
    Ok(())
}

fn cgroup_of(pid: i32) -> Result<String, Stop> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    Ok(text.trim().strip_prefix("0::").unwrap_or_default().to_owned())
}
