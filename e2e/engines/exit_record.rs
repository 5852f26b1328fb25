//! Exit records under real engines, with a watcher by configuration: what it says is what the engine was told, and after a
//! kill of engine, shim or watcher it is right, or says that nobody knows.

use super::case::Choice;
use super::podman::engine::{IMAGE, Podman};
use super::routing::Containerd;
use crate::exit_watcher::{never_wrong, watcher};
use harness::{Feature, Host, Outcome, Running, Stop, Value, ensure, ensure_eq, json, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn trials() -> Feature {
    Feature::new("exit records of engines")
        .trial("Podman's exit codes, signals and stops are in the record", podman)
        .trial("conmon or the watcher is killed: right, or unknown", podman_killed)
        .trial("Podman is killed while it is attached: what ends later is in the record", attached_killed)
        .trial("containerd's exit codes are in the record, however short the life", containerd)
        .trial("the shim or the watcher is killed: right, or unknown", containerd_killed)
        .trial("containerd itself is killed: what ends meanwhile is in the record", daemon_killed)
}

fn configuration(host: &Host) -> Result<PathBuf, Stop> {
    host.only_wharf("only wharf has exit records")?;
    let path = host.dir().join("watchers.json");
    fs::write(&path, r#"{"exit_record": "watcher"}"#)?;
    Ok(path)
}

fn wharf(host: &Host, root: &Path, words: &[&str]) -> Result<Running, Stop> {
    let mut command = Command::new(host.runtime.program());
    command.arg("--root").arg(root).args(words);
    host.program(command)
}

/// How many short lives: 100 where all is asked for.
fn lives() -> i32 {
    if std::env::var_os("WHARF_E2E_FULL").is_some() { 100 } else { 6 }
}

/// A container that was initialized and not yet started, and somebody who waits for its end.
struct Initialized<'h> {
    podman: Podman<'h>,
    id: String,
    waiting: Running,
}

const ROOT: &str = "/run/wharf";

impl<'h> Initialized<'h> {
    fn new(host: &'h Host, podman: Podman<'h>, name: &str, script: &str) -> Result<Self, Stop> {
        let flag = format!("config={}", configuration(host)?.display());
        let parent = format!("/{}", host.tag());
        let words = ["create", "--name", name, "--network", "none", "--cgroup-parent", &parent];
        podman.must(&[&words[..], &[IMAGE, "sh", "-c", script]].concat())?;
        podman.must(&["--runtime-flag", &flag, "init", name])?;
        let id = podman.inspect(name, "{{.Id}}")?;
        ensure!(watcher(&id)?.is_some(), "{name} has no watcher");
        let waiting = wharf(host, Path::new(ROOT), &["wait", "--format", "json", &id])?;
        let reading = Path::new(ROOT).join(&id).join("readers.lock");
        wait_until("wait to wait", || Ok(reading.exists()))?;
        Ok(Initialized { podman, id, waiting })
    }

    /// The record, and Podman, to be used again.
    fn end(self) -> Result<(Value, Podman<'h>), Stop> {
        let waited = self.waiting.finish()?;
        let exit = serde_json::from_str(&waited.stdout);
        Ok((exit.map_err(|_| Stop::failed(waited.to_string()))?, self.podman))
    }
}

fn engine(host: &Host) -> Result<Podman<'_>, Stop> {
    Podman::new(host, &Choice { name: "wharf", program: host.runtime.program(), peer: false })
}

fn podman(host: &Host) -> Outcome {
    configuration(host)?;
    let mut podman = engine(host)?;
    for number in 0..lives() {
        let (name, code) = (format!("c{number}"), number * 51 % 256);
        let one = Initialized::new(host, podman, &name, &format!("exit {code}"))?;
        one.podman.must(&["start", &name])?;
        ensure_eq!(one.podman.must(&["wait", &name])?, code.to_string());
        let exit;
        (exit, podman) = one.end()?;
        if never_wrong(&exit)? {
            ensure_eq!((&exit["ended"], &exit["code"]), (&json!("exited"), &json!(code)));
            // Only the watcher has looked into the cgroup.
            ensure!(exit["cpu_user"].is_u64(), "{exit}");
        }
        podman.must(&["rm", &name])?;
    }
    // It ignores the first signal of a stop.
    let one = Initialized::new(host, podman, "deaf", "trap '' TERM; echo ready; while :; do sleep 0.05; done")?;
    one.podman.must(&["start", "deaf"])?;
    one.podman.wait_for_log("deaf", "ready")?;
    one.podman.must(&["stop", "--time", "5", "deaf"])?;
    ensure_eq!(one.podman.inspect("deaf", "{{.State.ExitCode}}")?, "137");
    let (exit, podman) = one.end()?;
    if never_wrong(&exit)? {
        ensure_eq!((&exit["signal"], &exit["reason"]), (&json!(9), &json!("kill 9 by uid 0")), "{exit}");
    }
    ensure!(podman.call(&["stop", "deaf"])?.code() == Some(0), "a stop of what has ended is an error");
    podman.must(&["rm", "deaf"])?;
    ensure!(!podman.known()?, "wharf still knows a container");
    Ok(())
}

fn podman_killed(host: &Host) -> Outcome {
    configuration(host)?;
    let one = Initialized::new(host, engine(host)?, "orphan", "exec sleep 1000")?;
    one.podman.must(&["start", "orphan"])?;
    let pid = one.podman.pid("orphan")?;
    let conmon: i32 = one.podman.inspect("orphan", "{{.State.ConmonPid}}")?.parse()?;
    let beside = watcher(&one.id)?.unwrap_or(0);
    let id = one.id.clone();
    killed(conmon)?;
    kill(Pid::from_raw(pid), Signal::SIGTERM)?;
    wharf(host, Path::new(ROOT), &["kill", &one.id, "KILL"])?.finish()?;
    collected(pid)?;
    let (exit, podman) = one.end()?;
    if never_wrong(&exit)? {
        ensure_eq!((&exit["signal"], &exit["sent"]["by"]), (&json!(9), &json!("kill")), "{exit}");
    }
    collected(beside)?;
    podman.must(&["rm", "--force", "--time", "0", "orphan"])?;
    // Without its conmon Podman does not ask the runtime to delete it.
    wharf(host, Path::new(ROOT), &["delete", "--force", &id])?.finish()?;

    let one = Initialized::new(host, podman, "blind", "exec sleep 1000")?;
    one.podman.must(&["start", "blind"])?;
    killed(watcher(&one.id)?.unwrap_or(0))?;
    let state = wharf(host, Path::new(ROOT), &["state", &one.id])?.finish()?;
    ensure!(!state.stdout.contains("dev.wharf.exit"), "it runs: {state}");
    one.podman.must(&["kill", "blind"])?;
    ensure_eq!(one.podman.must(&["wait", "blind"])?, "137");
    // Who waited has seen it, and no more than that.
    let (exit, podman) = one.end()?;
    ensure_eq!(exit["witness"], "wait");
    if never_wrong(&exit)? {
        ensure_eq!(exit["signal"], 9, "{exit}");
    }
    ensure!(exit.get("memory_peak").is_none(), "{exit}");
    podman.must(&["rm", "--force", "--time", "0", "blind"]).map(drop)
}

fn attached_killed(host: &Host) -> Outcome {
    configuration(host)?;
    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    let one = Initialized::new(host, engine(host)?, "left", script)?;
    let attached = one.podman.spawn(&["start", "--attach", "left"])?;
    one.podman.wait_for_log("left", "ready")?;
    kill(Pid::from_raw(attached.pid()), Signal::SIGKILL)?;
    attached.finish()?;
    ensure_eq!(one.podman.inspect("left", "{{.State.Status}}")?, "running");
    wharf(host, Path::new(ROOT), &["kill", &one.id])?.finish()?;
    ensure_eq!(one.podman.must(&["wait", "left"])?, "9");
    let (exit, podman) = one.end()?;
    if never_wrong(&exit)? {
        ensure_eq!((&exit["code"], &exit["sent"]["signal"]), (&json!(9), &json!(15)), "{exit}");
    }
    podman.must(&["rm", "left"])?;
    ensure!(!podman.known()?, "wharf still knows a container");
    Ok(())
}

fn killed(pid: i32) -> Outcome {
    kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    collected(pid)
}

/// It has ended, and is collected where it was left to us.
fn collected(pid: i32) -> Outcome {
    wait_until("a process to end", || {
        let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
        Ok(!Path::new(&format!("/proc/{pid}")).exists())
    })
}

/// A task of containerd's, and its record.
struct Task<'a, 'h> {
    host: &'h Host,
    engine: &'a Containerd<'h>,
    id: String,
}

impl<'a, 'h> Task<'a, 'h> {
    fn run(host: &'h Host, engine: &'a Containerd<'h>, rootfs: &str, words: &[&str]) -> Result<Self, Stop> {
        let id = host.unique("task-");
        let program = host.runtime.program().to_string_lossy().into_owned();
        let cgroup = format!("/{}/{id}", host.tag());
        let options = ["run", "--detach", "--rootfs", "--runc-binary", &program, "--cgroup", &cgroup, rootfs, &id];
        engine.must(&[&options[..], words].concat())?;
        Ok(Task { host, engine, id })
    }

    fn wharf(&self, words: &[&str]) -> Result<harness::Finished, Stop> {
        wharf(self.host, &self.engine.root(), &[words, &[&self.id]].concat())?.finish()
    }

    fn exit(&self) -> Result<Value, Stop> {
        let waited = self.wharf(&["wait", "--format", "json"])?;
        serde_json::from_str(&waited.stdout).map_err(|_| Stop::failed(waited.to_string()))
    }

    fn state(&self) -> Result<Value, Stop> {
        Ok(serde_json::from_str(&self.wharf(&["state"])?.stdout)?)
    }

    /// The exit code that containerd has.
    fn delete(self) -> Result<i32, Stop> {
        wait_until("the task to stop", || {
            let list = self.engine.must(&["task", "list"])?;
            Ok(list.lines().any(|line| line.starts_with(&self.id) && line.contains("STOPPED")))
        })?;
        let deleted = self.engine.ctr(&["task", "delete", &self.id])?;
        let _ = self.engine.ctr(&["container", "delete", &self.id]);
        ensure!(!self.engine.root().join(&self.id).exists(), "the record of {} is left", self.id);
        let Some((_, number)) = deleted.stderr.rsplit_once("exit code ") else { return Ok(0) };
        let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().map_err(|_| Stop::failed(deleted.to_string()))
    }
}

fn no_cgroups(host: &Host) {
    for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        let _ = fs::remove_dir(hierarchy.path().join(host.tag()));
    }
    let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(host.tag()));
}

fn containerd(host: &Host) -> Outcome {
    let engine = Containerd::start(host, &configuration(host)?)?;
    let bundle = host.bundle()?;
    let rootfs = bundle.rootfs().to_string_lossy().into_owned();
    for number in 0..lives() {
        let code = number * 51 % 256;
        let task = Task::run(host, &engine, &rootfs, &["/bin/payload", "exit", &code.to_string()])?;
        let exit = task.exit()?;
        if never_wrong(&exit)? {
            ensure_eq!(
                (&exit["ended"], &exit["code"], &exit["witness"]),
                (&json!("exited"), &json!(code), &json!("watcher"))
            );
            ensure_eq!(task.state()?["annotations"]["dev.wharf.exit.code"], code.to_string());
        }
        ensure_eq!(task.delete()?, code);
    }
    let task = Task::run(host, &engine, &rootfs, &["/bin/payload", "sleep"])?;
    engine.must(&["task", "kill", "--signal", "SIGKILL", &task.id])?;
    let exit = task.exit()?;
    if never_wrong(&exit)? {
        ensure_eq!((&exit["signal"], &exit["reason"]), (&json!(9), &json!("kill 9 by uid 0")), "{exit}");
    }
    ensure_eq!(task.delete()?, 137);
    no_cgroups(host);
    Ok(())
}

fn containerd_killed(host: &Host) -> Outcome {
    let engine = Containerd::start(host, &configuration(host)?)?;
    let bundle = host.bundle()?;
    let rootfs = bundle.rootfs().to_string_lossy().into_owned();
    let task = Task::run(host, &engine, &rootfs, &["/bin/payload", "sleep"])?;
    killed(watcher(&task.id)?.unwrap_or(0))?;
    engine.must(&["task", "kill", "--signal", "SIGKILL", &task.id])?;
    wait_until("it to stop", || Ok(task.state()?["status"] == "stopped"))?;
    ensure!(task.state()?["annotations"]["dev.wharf.exit.unknown"].is_string(), "{}", task.state()?);
    ensure_eq!(task.delete()?, 137);

    let task = Task::run(host, &engine, &rootfs, &["/bin/payload", "sleep", "1500", ";", "exit", "9"])?;
    let pid = task.state()?["pid"].as_i64().unwrap_or(0) as i32;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let shim = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0);
    let beside = watcher(&task.id)?.unwrap_or(0);
    // containerd itself takes away what a dead shim leaves, and kills it: both are an end to be told.
    let root = engine.root();
    let waiting = wharf(host, &root, &["wait", "--format", "json", &task.id])?;
    wait_until("wait to wait", || Ok(root.join(&task.id).join("readers.lock").exists()))?;
    killed(shim)?;
    let waited = waiting.finish()?;
    let exit: Value = serde_json::from_str(&waited.stdout).map_err(|_| Stop::failed(waited.to_string()))?;
    let right = !never_wrong(&exit)? || exit["code"] == 9 || (exit["signal"] == 9 && exit["sent"]["by"] == "delete");
    ensure!(right, "{exit}");
    collected(pid)?;
    collected(beside)?;
    let _ = engine.ctr(&["task", "delete", "--force", &task.id]);
    let _ = engine.ctr(&["container", "delete", &task.id]);
    no_cgroups(host);
    Ok(())
}

fn daemon_killed(host: &Host) -> Outcome {
    let engine = Containerd::start(host, &configuration(host)?)?;
    let bundle = host.bundle()?;
    let rootfs = bundle.rootfs().to_string_lossy().into_owned();
    let payload = ["/bin/payload", "wait-signal", ";", "exit", "9"];
    let ended = Task::run(host, &engine, &rootfs, &payload)?;
    let lives = Task::run(host, &engine, &rootfs, &["/bin/payload", "sleep"])?;
    engine.end(Signal::SIGKILL)?;
    // Until it listens, the first process of a pid namespace is deaf.
    wait_until("it to end", || {
        ended.wharf(&["kill"])?;
        Ok(ended.state()?["status"] == "stopped")
    })?;
    let exit = ended.exit()?;
    if never_wrong(&exit)? {
        ensure_eq!((&exit["code"], &exit["sent"]["signal"]), (&json!(9), &json!(15)), "{exit}");
    }
    ensure_eq!(lives.state()?["status"], "running");
    engine.launch()?;
    engine.must(&["task", "kill", "--signal", "SIGKILL", &lives.id])?;
    let exit = lives.exit()?;
    if never_wrong(&exit)? {
        ensure_eq!((&exit["signal"], &exit["sent"]["by"]), (&json!(9), &json!("kill")), "{exit}");
    }
    ensure_eq!(lives.delete()?, 137);
    // What containerd makes of an end that it was not there for is its own matter.
    let _ = engine.ctr(&["task", "delete", "--force", &ended.id]);
    let _ = engine.ctr(&["container", "delete", &ended.id]);
    no_cgroups(host);
    Ok(())
}
