//! A watcher beside a container: what it tells, what it costs, and a limit of lifetime.

use crate::exit_record::{core_is_piped, counted_by_hand, ends, memory, seconds_between, with_core};
use harness::{Bundle, Container, Feature, Host, Stop, Value, ensure, ensure_eq, json, limit};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

pub(crate) fn trials() -> Feature {
    Feature::new("exit_watcher")
        .trial("a watcher tells what the engine was told, however short the life was", |host| {
            let count = if std::env::var_os("WHARF_E2E_FULL").is_some() { 256 } else { 24 };
            for number in 0..count {
                let code = number * 37 % 256;
                let container = watched(host, &["exit", &code.to_string()])?;
                let pid = container.pid()?;
                container.start()?;
                // The fastest parent there can be.
                ensure_eq!(waitpid(Pid::from_raw(pid), None)?, WaitStatus::Exited(Pid::from_raw(pid), code));
                let exit = exit(&container)?;
                ensure_eq!(exit["witness"], "watcher");
                if never_wrong(&exit)? {
                    ensure_eq!((&exit["ended"], &exit["code"]), (&json!("exited"), &json!(code)));
                    ensure_eq!(container.call("wait", &[])?.code(), Some(code));
                    ensure_eq!(container.state()?["annotations"]["dev.wharf.exit.code"], code.to_string());
                }
                container.delete()?;
            }
            Ok(())
        })
        .trial("a watcher tells every signal and core as the engine was told", |host| {
            for signal in Signal::iterator().filter(|signal| ends(*signal)) {
                let name = signal.as_str().trim_start_matches("SIG");
                let bundle = with_core(watched_bundle(host)?.without_namespace("pid"));
                let bundle = bundle.set("/root/readonly", json!(false)).payload(&["kill-self", name]);
                agrees(host, &bundle, name)?;
            }
            Ok(())
        })
        .trial("of a process with threads it is the end of the process that is told", |host| {
            for words in [&["end-by-thread", "7"][..], &["end-by-thread", "0"], &["crash-in-thread", "SEGV"]] {
                let bundle = with_core(watched_bundle(host)?.without_namespace("pid"));
                agrees(host, &bundle.set("/root/readonly", json!(false)).payload(words), words[0])?;
            }
            Ok(())
        })
        .trial("the record is there before the engine has collected its child", |host| {
            let container = watched(host, &["exit", "3"])?;
            let pid = container.pid()?;
            container.start()?;
            container.wait_for_status("stopped")?;
            ensure_eq!(exit(&container)?["code"], 3);
            ensure_eq!(container.reap(pid)?, 3);
            ensure_eq!(exit(&container)?["code"], 3);
            container.delete()
        })
        .trial("who killed it is told where it was wharf", |host| {
            let container = watched(host, &["sleep"])?;
            let pid = container.pid()?;
            container.start()?;
            // The payload is process 1 and deaf to these: they are not what ends it.
            container.kill("TERM")?;
            container.kill("USR1")?;
            std::thread::sleep(Duration::from_millis(100));
            ensure_eq!(container.status()?, "running");
            container.kill("KILL")?;
            let exit = exit(&container)?;
            ensure_eq!((&exit["signal"], &exit["sent"]["by"]), (&json!(9), &json!("kill")), "{exit}");
            ensure_eq!(container.reap(pid)?, 137);
            ensure_eq!(container.state()?["annotations"]["dev.wharf.exit.reason"], "kill 9 by uid 0");
            container.delete()
        })
        .trial("an end by somebody else's hand is not wharf's", |host| {
            let container = watched(host, &["sleep"])?;
            let pid = container.pid()?;
            container.start()?;
            container.kill("USR1")?;
            kill(Pid::from_raw(pid), Signal::SIGKILL)?;
            let exit = exit(&container)?;
            ensure!(exit.get("reason").is_none() && exit["sent"]["signal"] == 10 && exit["signal"] == 9, "{exit}");
            ensure_eq!(container.reap(pid)?, 137);
            container.delete()
        })
        .trial("a payload that ends by itself when it is asked to was not killed", |host| {
            let bundle = watched_bundle(host)?.payload(&["wait-signal", ";", "exit", "5"]);
            let container = host.start(&bundle)?;
            let pid = container.pid()?;
            container.lines(1)?;
            container.kill("TERM")?;
            let exit = exit(&container)?;
            ensure_eq!((&exit["code"], &exit["sent"]["signal"]), (&json!(5), &json!(15)), "{exit}");
            ensure_eq!(container.reap(pid)?, 5);
            ensure!(exit.get("reason").is_none(), "{exit}");
            container.delete()
        })
        .trial("who waits is told of a delete by force, with all that the record has", |host| {
            for _ in 0..5 {
                let container = watched(host, &["sleep"])?;
                let pid = container.pid()?;
                container.start()?;
                let waiting = host.spawn(&["wait", "--format", "json", container.id()])?;
                std::thread::sleep(Duration::from_millis(150));
                container.delete_force()?;
                ensure_eq!(container.reap(pid)?, 137);
                let waited = waiting.finish()?;
                let exit: Value = serde_json::from_str(&waited.stdout)?;
                ensure_eq!((&exit["signal"], &exit["sent"]["by"]), (&json!(9), &json!("delete")), "{exit}");
                ensure_eq!((&exit["witness"], &exit["reason"]), (&json!("watcher"), &json!("delete 9 by uid 0")));
            }
            Ok(())
        })
        .trial("a lifetime ends every process within a fifth of a second, whatever they ignore", |host| {
            host.needs_controller("pids")?;
            let bundle = host.bundle()?.set("/annotations", json!({"dev.wharf.lifetime": "3s"}));
            let words = ["ignore-signals", ";", "spawn", "/bin/payload", "sleep"];
            let bundle = bundle.without_namespace("pid").payload(&words);
            let container = host.create(&bundle)?;
            let pid = container.pid()?;
            container.start()?;
            let begun = Instant::now();
            container.lines(1)?;
            let child = child_of(pid)?;
            container.kill("TERM")?;
            let exit = exit(&container)?;
            let took = begun.elapsed().as_secs_f64();
            ensure!((2.8..3.2 + slack()).contains(&took), "it took {took} s");
            ensure_eq!(container.reap(pid)?, 137);
            ensure!(ended(child)?, "process {child} is left");
            ensure_eq!((&exit["signal"], &exit["sent"]["by"]), (&json!(9), &json!("lifetime")), "{exit}");
            ensure_eq!(container.state()?["annotations"]["dev.wharf.exit.reason"], "lifetime");
            let lasted = seconds_between(&exit["started"], &exit["finished"])?;
            ensure!((3.0..3.2 + slack()).contains(&lasted), "{lasted} s: {exit}");
            container.delete()
        })
        .trial("a lifetime of run is its own too", |host| {
            let bundle = host.bundle()?.set("/annotations", json!({"dev.wharf.lifetime": "2s"})).payload(&["sleep"]);
            bundle.save()?;
            let ran = host.runtime.call(&["run", "--keep", "--bundle", bundle.dir_text(), bundle.id()])?;
            ensure_eq!(ran.code(), Some(137), "{ran}");
            let exit: Value = serde_json::from_str(&host.runtime.must(&["wait", "--format", "json", bundle.id()])?)?;
            ensure_eq!((&exit["reason"], &exit["signal"]), (&json!("lifetime"), &json!(9)), "{exit}");
            let lasted = seconds_between(&exit["started"], &exit["finished"])?;
            ensure!((2.0..2.2 + slack()).contains(&lasted), "{lasted} s: {exit}");
            host.runtime.must(&["delete", bundle.id()]).map(drop)
        })
        .trial("a lifetime ends a paused container", |host| {
            host.needs_controller("freezer").or_else(|_| host.needs_v2("pids"))?;
            let bundle = host.bundle()?.set("/annotations", json!({"dev.wharf.lifetime": "1s"})).payload(&["sleep"]);
            let container = host.start(&bundle)?;
            let pid = container.pid()?;
            container.call("pause", &[])?;
            ensure_eq!(container.status()?, "paused");
            ensure_eq!(exit(&container)?["reason"], "lifetime");
            ensure_eq!(container.reap(pid)?, 137);
            container.delete()
        })
        .trial("a lifetime does not begin before the start, and a shorter life is not its doing", |host| {
            let bundle = host.bundle()?.set("/annotations", json!({"dev.wharf.lifetime": "500ms"}));
            let container = host.create(&bundle.payload(&["exit", "4"]))?;
            std::thread::sleep(Duration::from_millis(900));
            ensure_eq!(container.status()?, "created");
            let pid = container.pid()?;
            container.start()?;
            let exit = exit(&container)?;
            ensure_eq!(container.reap(pid)?, 4);
            ensure!(exit["code"] == 4 && exit.get("reason").is_none() && exit.get("sent").is_none(), "{exit}");
            container.delete()
        })
        .trial("what it used is what its cgroup has counted", |host| {
            host.needs_controller("memory")?;
            let container = watched(host, &["spin", "600", ";", "alloc", "40", ";", "sleep"])?;
            let pid = container.pid()?;
            container.start()?;
            container.lines(2)?;
            let (cpu, peak) = counted_by_hand(host, pid)?;
            container.kill("KILL")?;
            container.reap(pid)?;
            let exit = exit(&container)?;
            let told = ["cpu_user", "cpu_system"].map(|name| exit[name].as_u64().unwrap_or(0)).iter().sum::<u64>();
            ensure!(told >= cpu * 95 / 100 && told <= cpu * 105 / 100 + 60_000, "{told} µs, by hand {cpu}: {exit}");
            let most = exit["memory_peak"].as_u64().unwrap_or(0);
            ensure!(most.abs_diff(peak) <= peak / 20, "{most} bytes, by hand {peak}: {exit}");
            container.delete()
        })
        .trial("a watcher that was killed leaves an unknown end, and no wrong one", |host| {
            let container = watched(host, &["sleep"])?;
            let pid = container.pid()?;
            container.start()?;
            let watcher = watcher_of(&container)?;
            kill(Pid::from_raw(watcher), Signal::SIGKILL)?;
            container.reap(watcher)?;
            container.kill("KILL")?;
            ensure_eq!(container.reap(pid)?, 137);
            let state = container.state()?;
            ensure!(state["annotations"]["dev.wharf.exit.unknown"].is_string(), "{state}");
            ensure!(state["annotations"].get("dev.wharf.exit.reason").is_none(), "{state}");
            let waited = container.call("wait", &[])?;
            ensure!(waited.code() == Some(125) && waited.stderr.contains("its witness"), "{waited}");
            container.delete()
        })
        .trial("a watcher that is stopped holds up nobody for long", |host| {
            let container = watched(host, &["sleep"])?;
            let watcher = Pid::from_raw(watcher_of(&container)?);
            let pid = container.pid()?;
            container.start()?;
            kill(watcher, Signal::SIGSTOP)?;
            container.kill("KILL")?;
            ensure_eq!(container.reap(pid)?, 137);
            ensure_eq!(container.status()?, "stopped");
            kill(watcher, Signal::SIGCONT)?;
            container.delete()?;
            container.reap(watcher.as_raw()).map(drop)
        })
        .trial("a watcher ends with its container, and with a create that fails", |host| {
            let container = watched(host, &["sleep"])?;
            let watcher = watcher_of(&container)?;
            let pid = container.pid()?;
            container.delete_force()?;
            container.reap(pid)?;
            ensure_eq!(container.reap(watcher)?, 0);
            let bundle = watched_bundle(host)?.payload(&["sleep"]);
            bundle.save()?;
            let pid_file = host.dir().join("missing").join("pid");
            let file = pid_file.to_str().unwrap_or_default();
            let said =
                host.runtime.call(&["create", "--pid-file", file, "--bundle", bundle.dir_text(), bundle.id()])?;
            ensure_eq!(said.code(), Some(1), "{said}");
            Ok(())
        })
        .trial("a watcher holds nothing of the caller's, and little memory", |host| {
            let container = watched(host, &["sleep"])?;
            let watcher = watcher_of(&container)?;
            let of = |name: &str| std::fs::read_link(format!("/proc/{watcher}/{name}"));
            ensure_eq!(of("cwd")?.to_string_lossy(), "/");
            let own = format!("/{}/", container.id());
            for entry in std::fs::read_dir(format!("/proc/{watcher}/fd"))?.flatten() {
                let number = entry.file_name().to_string_lossy().into_owned();
                let what = std::fs::read_link(entry.path())?.to_string_lossy().into_owned();
                let expected = match number.as_str() {
                    "0" | "1" | "2" => what == "/dev/null",
                    _ => {
                        let kinds = ["anon_inode:[eventfd]", "anon_inode:[pidfd]", "anon_inode:inotify", "pidfd:"];
                        kinds.contains(&what.as_str())
                            || format!("{what}/").contains(&own)
                            || what.starts_with("/sys/fs/cgroup/")
                            || (what.starts_with("/proc/") && what.ends_with("/stat"))
                    }
                };
                ensure!(expected, "descriptor {number} is {what}");
            }
            let anonymous = memory(watcher as u32)?;
            println!("a watcher's anonymous memory: {anonymous} KiB");
            let release = host.runtime.program().to_string_lossy().contains("/release/");
            ensure!(anonymous <= if release { 150 } else { 300 }, "{anonymous} KiB");
            container.delete_force()
        })
        .trial("what cannot be is refused by name", |host| {
            for (annotation, value) in [
                ("dev.wharf.lifetime", "soon"),
                ("dev.wharf.lifetime", "0"),
                ("dev.wharf.exit-record", "perhaps"),
                ("dev.wharf.other", "1"),
            ] {
                let failed = host.create_fails(&host.bundle()?.set("/annotations", json!({annotation: value})))?;
                ensure!(failed.last_line().contains(&format!("[annotations/{annotation}]")), "{failed}");
            }
            Ok(())
        })
        .trial("the configuration asks for watchers, and an annotation for none", |host| {
            let file = host.dir().join("watchers.json");
            std::fs::write(&file, r#"{"exit_record": "watcher"}"#)?;
            let file = file.to_string_lossy().into_owned();
            for (annotations, expected) in [(json!({}), true), (json!({"dev.wharf.exit-record": "none"}), false)] {
                let bundle = host.bundle()?.set("/annotations", annotations).payload(&["sleep"]);
                bundle.save()?;
                host.runtime.must(&["--config", &file, "create", "--bundle", bundle.dir_text(), bundle.id()])?;
                ensure_eq!(watcher(bundle.id())?.is_some(), expected);
                host.runtime.must(&["delete", "--force", bundle.id()])?;
            }
            Ok(())
        })
}

/// What the record says is what we, the parent, are told.
fn agrees(host: &Host, bundle: &Bundle, what: &str) -> Result<(), Stop> {
    let container = host.create(bundle)?;
    let pid = Pid::from_raw(container.pid()?);
    container.start()?;
    let told = waitpid(pid, None)?;
    let exit = exit(&container)?;
    if !never_wrong(&exit)? {
        return container.delete();
    }
    match told {
        WaitStatus::Exited(_, code) => ensure_eq!((&exit["ended"], &exit["code"]), (&json!("exited"), &json!(code))),
        WaitStatus::Signaled(_, signal, core) => {
            ensure_eq!(exit["signal"], signal as i32, "{what}");
            // Where we were faster than the watcher, it does not know.
            ensure!(exit["core"] == core || exit["core"].is_null(), "{what}: {exit}, and core {core}");
            if exit["core"].is_null() {
                println!("{what}: the core was not seen");
            }
            let dumps = [Signal::SIGSEGV, Signal::SIGABRT, Signal::SIGQUIT].contains(&signal);
            if dumps && !core_is_piped()? {
                ensure!(core, "{what}: no core");
            }
        }
        other => return Err(Stop::failed(format!("{what}: {other:?}"))),
    }
    container.delete()
}

/// False where a parent was faster than the watcher, and the kernel keeps no status for others.
pub(crate) fn never_wrong(exit: &Value) -> Result<bool, Stop> {
    if exit["ended"] != "unknown" {
        return Ok(true);
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split(|sign: char| !sign.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    ensure!(version < (6, 15), "unknown on Linux {release}: {exit}");
    println!("unknown before Linux 6.15");
    Ok(false)
}

/// Where time limits are stretched, everything takes longer.
fn slack() -> f64 {
    (limit(1).as_secs_f64() - 1.0) / 10.0
}

fn watched_bundle(host: &Host) -> Result<Bundle, Stop> {
    Ok(host.bundle()?.set("/annotations", json!({"dev.wharf.exit-record": "watcher"})))
}

fn watched<'h>(host: &'h Host, words: &[&str]) -> Result<Container<'h>, Stop> {
    host.create(&watched_bundle(host)?.payload(words))
}

fn exit(container: &Container<'_>) -> Result<Value, Stop> {
    let said = container.call("wait", &["--format", "json"])?;
    ensure_eq!(said.code(), Some(0), "{said}");
    Ok(serde_json::from_str(&said.stdout)?)
}

fn watcher_of(container: &Container<'_>) -> Result<i32, Stop> {
    watcher(container.id())?.ok_or_else(|| Stop::failed(format!("{} has no watcher", container.id())))
}

/// The watcher is the one that has the container's lock file open.
pub(crate) fn watcher(id: &str) -> Result<Option<i32>, Stop> {
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if !std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line.starts_with(b"wharf-watcher\0")) {
            continue;
        }
        let Ok(open) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        let lock = format!("/{id}/witness.lock");
        let holds = |path: std::path::PathBuf| path.to_string_lossy().ends_with(&lock);
        if open.flatten().any(|fd| std::fs::read_link(fd.path()).is_ok_and(holds)) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

fn child_of(pid: i32) -> Result<i32, Stop> {
    let parent = |stat: &str| stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse::<i32>().ok();
    let begun = Instant::now();
    loop {
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Some(child) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if std::fs::read_to_string(entry.path().join("stat")).is_ok_and(|stat| parent(&stat) == Some(pid)) {
                return Ok(child);
            }
        }
        ensure!(begun.elapsed() < Duration::from_millis(2500), "process {pid} has no child");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// It is gone, or will be when we have collected it.
fn ended(pid: i32) -> Result<bool, Stop> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        let _ = waitpid(Pid::from_raw(pid), Some(nix::sys::wait::WaitPidFlag::WNOHANG));
        if !std::path::Path::new(&format!("/proc/{pid}")).exists() {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(false)
}
