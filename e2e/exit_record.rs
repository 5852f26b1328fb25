//! How a container ended, as `run --keep` wrote it down; `wait`. With a watcher: exit_watcher.

use harness::{Bundle, Feature, Finished, Host, Stop, Value, ensure, ensure_eq, json, limit};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{major, minor};
use nix::unistd::Pid;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

pub(crate) const MIB: u64 = 1 << 20;

pub(crate) fn trials() -> Feature {
    Feature::new("exit_record")
        .trial("run --keep writes down every code", |host| {
            let all = std::env::var_os("WHARF_E2E_FULL").is_some();
            let some = [0, 1, 2, 42, 63, 64, 125, 126, 127, 128, 129, 137, 143, 254, 255];
            for code in (0..256).filter(|code| all || some.contains(code)) {
                let (ran, exit) = kept(host, host.bundle()?.payload(&["exit", &code.to_string()]))?;
                ensure_eq!(ran.code(), Some(code));
                ensure_eq!((&exit["ended"], &exit["code"]), (&json!("exited"), &json!(code)));
                ensure_eq!(exit["witness"], "run");
                ensure!(exit.get("sent").is_none() && exit.get("reason").is_none(), "{exit}");
            }
            Ok(())
        })
        .trial("run --keep writes down every signal that ends", |host| {
            for signal in Signal::iterator().filter(|signal| ends(*signal)) {
                let name = signal.as_str().trim_start_matches("SIG");
                // The first process of a pid namespace is deaf to its own signals.
                let (ran, exit) = kept(host, without_core(host)?.payload(&["kill-self", name]))?;
                ensure_eq!(ran.code(), Some(128 + signal as i32), "{name}");
                ensure_eq!((&exit["ended"], &exit["signal"]), (&json!("signaled"), &json!(signal as i32)), "{name}");
                if !core_is_piped()? {
                    ensure_eq!(exit["core"], false, "{name}");
                }
            }
            Ok(())
        })
        .trial("a core is told of, by whichever thread", |host| {
            if core_is_piped()? {
                return Err(Stop::skipped("a program of this host takes the cores"));
            }
            for words in [["kill-self", "SEGV"], ["crash-in-thread", "ABRT"]] {
                let bundle = host.bundle()?.without_namespace("pid").set("/root/readonly", json!(false));
                let (ran, exit) = kept(host, with_core(bundle).payload(&words))?;
                ensure_eq!(
                    (ran.code(), &exit["core"]),
                    (exit["signal"].as_i64().map(|n| 128 + n as i32), &json!(true))
                );
            }
            Ok(())
        })
        .trial("4 MiB on stderr and a crash: all of it arrives, and the record says what happened", |host| {
            let bundle = without_core(host)?;
            let bundle = with_core(bundle).set("/root/readonly", json!(false));
            let bundle = bundle.payload(&["flood", "stderr", "4", ";", "sleep", "200", ";", "kill-self", "SEGV"]);
            bundle.save()?;
            let mut command = host.runtime.command();
            command.args(["run", "--keep", "--bundle", bundle.dir_text(), bundle.id()]);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
            let mut read = Vec::new();
            child.stderr.take().ok_or_else(|| Stop::failed("no pipe"))?.read_to_end(&mut read)?;
            ensure_eq!(child.wait()?.code(), Some(139));
            ensure_eq!(read.iter().filter(|byte| **byte == b'x').count() as u64, 4 * MIB);
            let exit = told(host, &bundle)?;
            ensure_eq!((&exit["signal"], &exit["core"]), (&json!(11), &json!(true)), "{exit}");
            let lasted = seconds_between(&exit["started"], &exit["finished"])?;
            ensure!((0.2..30.0).contains(&lasted), "{lasted} s: {exit}");
            host.runtime.must(&["delete", bundle.id()]).map(drop)
        })
        .trial("the times are those of the payload", |host| {
            let before = date()?;
            let (_, exit) = kept(host, host.bundle()?.payload(&["sleep", "300"]))?;
            let lasted = seconds_between(&exit["started"], &exit["finished"])?;
            ensure!((0.3..5.0).contains(&lasted), "{lasted} s: {exit}");
            let after = date()?;
            let [started, finished] = ["started", "finished"].map(|name| exit[name].as_str().unwrap_or("").to_owned());
            ensure!(before <= started && finished <= after && finished.ends_with('Z'), "{before} {exit} {after}");
            Ok(())
        })
        .trial("what it used is what its cgroup has counted", |host| {
            host.needs_controller("memory")?;
            let bundle = host.bundle()?.payload(&["spin", "600", ";", "alloc", "40", ";", "wait-file", "/go"]);
            bundle.save()?;
            let running = host.spawn(&["run", "--keep", "--bundle", bundle.dir_text(), bundle.id()])?;
            let begun = Instant::now();
            while running.stdout_so_far().lines().count() < 2 {
                ensure!(begun.elapsed() < limit(20), "it does not come to its end: {}", running.stdout_so_far());
                std::thread::sleep(Duration::from_millis(5));
            }
            let pid = state(host, &bundle)?["pid"].as_i64().unwrap_or(0);
            let (cpu, peak) = counted_by_hand(host, pid as i32)?;
            std::fs::write(bundle.rootfs().join("go"), "")?;
            ensure_eq!(running.finish()?.code(), Some(0));
            let exit = told(host, &bundle)?;
            let told = ["cpu_user", "cpu_system"].map(|name| exit[name].as_u64().unwrap_or(0)).iter().sum::<u64>();
            // What it did after we looked is in its record too.
            ensure!(told >= cpu * 95 / 100 && told <= cpu * 105 / 100 + 60_000, "{told} µs, by hand {cpu}: {exit}");
            let most = exit["memory_peak"].as_u64().unwrap_or(0);
            ensure!(most >= 40 * MIB && most.abs_diff(peak) <= peak / 20, "{most} bytes, by hand {peak}: {exit}");
            host.runtime.must(&["delete", bundle.id()]).map(drop)
        })
        .trial("bytes of block devices are told", |host| {
            host.needs_controller(if host.is_v2() { "io" } else { "blkio" })?;
            let on_disk = |path: &&&str| {
                let device = std::fs::metadata(path).map_or(0, |about| about.dev());
                Path::new(&format!("/sys/dev/block/{}:{}", major(device), minor(device))).exists()
            };
            let Some(place) = ["/var/tmp", "/root", "/"].iter().find(on_disk) else {
                return Err(Stop::skipped("nothing here is on a block device"));
            };
            let dir = PathBuf::from(place).join(host.unique("io"));
            std::fs::create_dir(&dir)?;
            let bundle = host.bundle()?.mount("/disk", "bind", &dir.to_string_lossy(), &["bind", "rw"]);
            let ended = kept(host, bundle.payload(&["write-direct", "/disk/file", "4"]));
            std::fs::remove_dir_all(&dir)?;
            let (_, exit) = ended?;
            ensure_eq!(exit["code"], 0, "{exit}");
            let written = exit["io_written"].as_u64().unwrap_or(0);
            ensure!((4 * MIB..8 * MIB).contains(&written) && exit["io_read"].is_u64(), "{exit}");
            Ok(())
        })
        .trial("a run that was killed leaves an unknown end, and no wrong one", |host| {
            let bundle = host.bundle()?.payload(&["sleep"]);
            bundle.save()?;
            let running = host.spawn(&["run", "--keep", "--bundle", bundle.dir_text(), bundle.id()])?;
            let begun = Instant::now();
            let pid = loop {
                let found = host.runtime.call(&["state", bundle.id()])?;
                let state: Value = serde_json::from_str(&found.stdout).unwrap_or_default();
                if state["status"] == "running" {
                    break state["pid"].as_i64().unwrap_or(0) as i32;
                }
                ensure!(begun.elapsed() < limit(20), "it does not run: {found}");
                std::thread::sleep(Duration::from_millis(5));
            };
            kill(Pid::from_raw(running.pid()), Signal::SIGKILL)?;
            running.finish()?;
            kill(Pid::from_raw(pid), Signal::SIGKILL)?;
            nix::sys::wait::waitpid(Pid::from_raw(pid), None)?;
            let state = state(host, &bundle)?;
            ensure!(state["annotations"]["dev.wharf.exit.unknown"].is_string(), "{state}");
            let waited = host.runtime.call(&["wait", bundle.id()])?;
            ensure!(waited.code() == Some(125) && waited.stderr.contains("its witness"), "{waited}");
            host.runtime.must(&["delete", bundle.id()]).map(drop)
        })
        .trial("a fork bomb that is ended is told as killed by whom, and not as out of anything", |host| {
            host.needs_controller("pids")?;
            let bundle = host.bundle()?.set("/linux/resources/pids/limit", json!(64)).payload(&["fork-bomb"]);
            bundle.save()?;
            let neighbour = host.start(&host.bundle()?.payload(&["sleep"]))?;
            let running = host.runtime.spawn(&["run", "--keep", "--bundle", bundle.dir_text(), bundle.id()])?;
            let begun = Instant::now();
            loop {
                let found = host.runtime.call(&["ps", "--format", "json", bundle.id()])?;
                let pids: Vec<i32> = serde_json::from_str(&found.stdout).unwrap_or_default();
                if pids.len() >= 32 {
                    break;
                }
                ensure!(begun.elapsed() < limit(20), "{} processes", pids.len());
                std::thread::sleep(Duration::from_millis(10));
            }
            host.runtime.must(&["kill", bundle.id(), "KILL"])?;
            ensure_eq!(running.finish()?.code(), Some(137));
            let exit = told(host, &bundle)?;
            ensure_eq!((&exit["signal"], &exit["sent"]["by"]), (&json!(9), &json!("kill")), "{exit}");
            ensure!(exit.get("oom").is_none(), "{exit}");
            ensure_eq!(neighbour.status()?, "running");
            host.runtime.must(&["delete", bundle.id()]).map(drop)
        })
        .trial("an output that nobody reads costs run no memory, and it can be killed", |host| {
            let bundle = host.bundle()?.payload(&["flood", "stdout", "1024"]);
            bundle.save()?;
            let mut command = host.runtime.command();
            command.args(["run", "--keep", "--bundle", bundle.dir_text(), bundle.id()]);
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
            let begun = Instant::now();
            while host.runtime.call(&["state", bundle.id()])?.code() != Some(0) {
                ensure!(begun.elapsed() < limit(20), "it does not run");
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(Duration::from_millis(300));
            let before = memory(child.id())?;
            std::thread::sleep(Duration::from_millis(700));
            let after = memory(child.id())?;
            ensure!(after <= before + 16, "{before} KiB grew to {after} KiB");
            host.runtime.must(&["kill", bundle.id(), "KILL"])?;
            ensure_eq!(child.wait()?.code(), Some(137));
            let exit = told(host, &bundle)?;
            ensure_eq!((&exit["signal"], &exit["sent"]["by"]), (&json!(9), &json!("kill")), "{exit}");
            host.runtime.must(&["delete", bundle.id()]).map(drop)
        })
        .trial("run without --keep, and every container that nobody watches, leaves no trace of this", |host| {
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            let pid = container.pid()?;
            container.kill("USR1")?;
            let dir = host.root().join(container.id());
            let names: Vec<_> = std::fs::read_dir(&dir)?.flatten().map(|entry| entry.file_name()).collect();
            let notes = ["started", "signal.10", "witness.lock", "exit.json"];
            ensure!(notes.iter().all(|note| !names.iter().any(|name| name == note)), "{names:?}");
            container.delete_force()?;
            container.reap(pid).map(drop)
        })
        .trial("run --keep of another runtime's container writes its end down too", |host| {
            let host = host.handing_on_to("runc")?;
            for (words, code) in [(["exit", "7"], 7), (["kill-self", "TERM"], 143)] {
                let (ran, exit) = kept(&host, without_core(&host)?.payload(&words))?;
                ensure_eq!(ran.code(), Some(code), "{ran}");
                ensure_eq!(exit["witness"], "run");
                ensure!(exit["code"] == code || exit["signal"] == code - 128, "{exit}");
            }
            Ok(())
        })
        .trial("without a witness wait tells what it sees itself, and later nothing", |host| {
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            let pid = container.pid()?;
            let waiting = host.spawn(&["wait", container.id()])?;
            std::thread::sleep(Duration::from_millis(200));
            container.kill("KILL")?;
            // It looks before we do.
            std::thread::sleep(Duration::from_millis(200));
            ensure_eq!(container.reap(pid)?, 137);
            ensure_eq!(waiting.finish()?.code(), Some(137));
            let late = container.call("wait", &[])?;
            ensure!(late.code() == Some(125) && late.stderr.contains("reaped by the engine"), "{late}");
            container.delete()
        })
        .trial("wait for an unknown container says that it does not exist", |host| {
            let said = host.runtime.call(&["wait", "nobody"])?;
            ensure!(said.code() == Some(125) && said.stderr.contains("does not exist"), "{said}");
            Ok(())
        })
        .trial("the record stays until the container is deleted, and is in state and list", |host| {
            let bundle = host.bundle()?.payload(&["exit", "7"]);
            bundle.save()?;
            host.runtime.call(&["run", "--keep", "--bundle", bundle.dir_text(), bundle.id()])?;
            for _ in 0..2 {
                ensure_eq!(state(host, &bundle)?["annotations"]["dev.wharf.exit.code"], "7");
                ensure_eq!(host.runtime.call(&["wait", bundle.id()])?.code(), Some(7));
            }
            let list: Value = serde_json::from_str(&host.runtime.must(&["list", "--format", "json"])?)?;
            let row = list.as_array().into_iter().flatten().find(|row| row["id"] == bundle.id());
            ensure_eq!(row.map(|row| &row["annotations"]["dev.wharf.exit.code"]), Some(&json!("7")));
            host.runtime.must(&["delete", bundle.id()])?;
            let gone = host.runtime.call(&["wait", bundle.id()])?;
            ensure!(gone.stderr.contains("does not exist"), "{gone}");
            Ok(())
        })
}

/// Runs the bundle to its end and reads what `run` has written down.
pub(crate) fn kept(host: &Host, bundle: Bundle) -> Result<(Finished, Value), Stop> {
    bundle.save()?;
    let ran = host.runtime.call(&["run", "--keep", "--bundle", bundle.dir_text(), bundle.id()])?;
    let exit = told(host, &bundle)?;
    host.runtime.must(&["delete", bundle.id()])?;
    Ok((ran, exit))
}

pub(crate) fn told(host: &Host, bundle: &Bundle) -> Result<Value, Stop> {
    Ok(serde_json::from_str(&host.runtime.must(&["wait", "--format", "json", bundle.id()])?)?)
}

fn state(host: &Host, bundle: &Bundle) -> Result<Value, Stop> {
    Ok(serde_json::from_str(&host.runtime.must(&["state", bundle.id()])?)?)
}

/// Without a pid namespace: its first process is deaf to its own signals.
pub(crate) fn without_core(host: &Host) -> Result<Bundle, Stop> {
    Ok(rlimit_core(host.bundle()?.without_namespace("pid"), 0))
}

pub(crate) fn with_core(bundle: Bundle) -> Bundle {
    rlimit_core(bundle, 64 * MIB)
}

fn rlimit_core(bundle: Bundle, most: u64) -> Bundle {
    bundle.set("/process/rlimits", json!([{"type": "RLIMIT_CORE", "soft": most, "hard": most}]))
}

/// A core that a program is given is no matter of the limit.
pub(crate) fn core_is_piped() -> Result<bool, Stop> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/core_pattern")?.starts_with('|'))
}

/// Ends whoever does nothing about it.
pub(crate) fn ends(signal: Signal) -> bool {
    use Signal::*;
    !matches!(signal, SIGCHLD | SIGCONT | SIGSTOP | SIGTSTP | SIGTTIN | SIGTTOU | SIGURG | SIGWINCH)
}

/// Microseconds of CPU and the most bytes of memory, as the cgroup of this process has them now.
pub(crate) fn counted_by_hand(host: &Host, pid: i32) -> Result<(u64, u64), Stop> {
    let file = |controller: &str, v1: &str, v2: &str| -> Result<String, Stop> {
        let table = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let path = table.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (names, path) = (parts.next()?, parts.next()?);
            let own = if host.is_v2() { names.is_empty() } else { names.split(',').any(|name| name == controller) };
            own.then(|| path.trim_start_matches('/').to_owned())
        });
        let dir = host.controller_dir(controller).unwrap_or_default().join(path.unwrap_or_default());
        Ok(std::fs::read_to_string(dir.join(if host.is_v2() { v2 } else { v1 }))?)
    };
    let number = |text: &str| text.trim().parse::<u64>().unwrap_or(0);
    let cpu = file("cpuacct", "cpuacct.usage", "cpu.stat");
    let cpu = match host.is_v2() {
        false => number(&cpu?) / 1000,
        true => {
            let text = std::fs::read_to_string(v2_dir(pid)?.join("cpu.stat"))?;
            number(text.lines().find_map(|line| line.strip_prefix("usage_usec ")).unwrap_or(""))
        }
    };
    Ok((cpu, number(&file("memory", "memory.max_usage_in_bytes", "memory.peak")?)))
}

fn v2_dir(pid: i32) -> Result<PathBuf, Stop> {
    let table = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = table.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or("");
    Ok(Path::new("/sys/fs/cgroup").join(path))
}

/// Anonymous memory of a process, KiB.
pub(crate) fn memory(pid: u32) -> Result<u64, Stop> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:"));
    let number = line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok());
    number.ok_or_else(|| Stop::failed(rollup))
}

/// Now, as `date -u` writes it.
fn date() -> Result<String, Stop> {
    let out = std::process::Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.%NZ"]).output()?;
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// Between two times in RFC 3339 that are less than an hour apart.
pub(crate) fn seconds_between(from: &Value, to: &Value) -> Result<f64, Stop> {
    let seconds = |time: &Value| -> Option<f64> {
        let mut parts = time.as_str()?.trim_end_matches('Z').rsplit(':');
        let second: f64 = parts.next()?.parse().ok()?;
        Some(second + 60.0 * parts.next()?.parse::<f64>().ok()?)
    };
    match (seconds(from), seconds(to)) {
        (Some(from), Some(to)) => Ok((to - from).rem_euclid(3600.0)),
        _ => Err(Stop::failed(format!("no times: {from} {to}"))),
    }
}
