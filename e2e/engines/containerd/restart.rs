//! containerd and its shims are killed around running containers.

use super::{Containerd, RUN, code, with};
use crate::engines::common::{keeps_exits, names, share, signal};
use harness::{Feature, Outcome, Stop, ensure, ensure_eq, wait_until};
use nix::sys::signal::Signal;
use std::path::Path;

pub(super) fn trials(feature: Feature) -> Feature {
    feature
        .trial("containers outlive a killed containerd, and the next one has them again", with(survive))
        .trial("an exit while containerd is down is told by the next one", with(exit_meanwhile))
        .trial(
            "a killed shim's container is taken away whole",
            with(|engine| {
                let (id, pid) = engine.detached(&[], &["sh", "-c", "sleep 1001 & sleep 1002 & wait"])?;
                signal(shim_of(pid)?, Signal::SIGKILL)?;
                taken_away(engine, &id, pid)
            }),
        )
        .trial(
            "a shim killed while containerd is down: the next one takes its container away",
            with(|engine| {
                let (id, pid) = engine.detached(&[], &["sleep", "1001"])?;
                let shim = shim_of(pid)?;
                engine.end(Signal::SIGKILL)?;
                signal(shim, Signal::SIGKILL)?;
                engine.launch()?;
                taken_away(engine, &id, pid)
            }),
        )
        .trial("many containers outlive a restart of containerd", with(many))
}

fn survive(engine: &Containerd<'_>) -> Outcome {
    let (id, pid) = engine.detached(&[], &["sleep", "1000"])?;
    engine.end(Signal::SIGKILL)?;
    ensure!(Path::new(&format!("/proc/{pid}")).exists(), "the payload went with containerd");
    engine.launch()?;
    ensure_eq!(engine.task(&id)?, (pid, "RUNNING".to_owned()));
    code(engine.exec(&id, &[], &["sh", "-c", "exit 11"])?, 11)?;
    engine.must(&["task", "pause", &id])?;
    engine.must(&["task", "resume", &id])?;
    engine.must(&["task", "kill", "--signal", "KILL", &id])?;
    ensure_eq!(engine.exit_code(&id)?, 137);
    engine.nothing_left()
}

fn exit_meanwhile(engine: &Containerd<'_>) -> Outcome {
    keeps_exits()?;
    let dir = engine.host.new_dir("sign")?;
    let mount = format!("type=bind,src={},dst=/sign,options=rbind:rw", dir.display());
    let script = "until [ -e /sign/go ]; do sleep 0.01; done; exit 42";
    let (id, pid) = engine.detached(&["--mount", &mount], &["sh", "-c", script])?;
    engine.end(Signal::SIGKILL)?;
    std::fs::write(dir.join("go"), "")?;
    wait_until("the payload's end", || Ok(!Path::new(&format!("/proc/{pid}")).exists()))?;
    engine.launch()?;
    ensure_eq!(engine.exit_code(&id)?, 42);
    engine.nothing_left()
}

fn many(engine: &Containerd<'_>) -> Outcome {
    let mut all = Vec::new();
    for _ in 0..share(80) {
        all.push(engine.detached(&[], &["sleep", "1000"])?);
    }
    engine.end(Signal::SIGKILL)?;
    engine.launch()?;
    for (id, pid) in &all {
        ensure_eq!(engine.task(id)?, (*pid, "RUNNING".to_owned()), "{id}");
    }
    Ok(())
}

/// The payload's parent.
fn shim_of(pid: i32) -> Result<i32, Stop> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let parent = text.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
    parent.ok_or_else(|| Stop::failed(format!("no parent in {text:?}")))
}

/// No process, no state directory, no socket: containerd may keep the exit, or the container without a task.
fn taken_away(engine: &Containerd<'_>, id: &str, pid: i32) -> Outcome {
    let gone = || !std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|text| !text.contains(") Z "));
    wait_until("the payload's end", || Ok(gone()))?;
    let state = Path::new(RUN).join("runc").join(engine.host.tag());
    wait_until("the runtime's state to go", || Ok(names(&state).is_empty()))?;
    let running =
        || -> Result<bool, Stop> { Ok(engine.must(&["task", "ls"])?.lines().any(|line| line.contains("RUNNING"))) };
    wait_until("the task to be no longer running", || Ok(!running()?))?;
    engine.ctr(&["task", "rm", "--force", id])?;
    engine.must(&["container", "rm", id])?;
    // The dead shim's socket stays, whatever the runtime.
    for socket in names(&Path::new(RUN).join("s")) {
        std::fs::remove_file(Path::new(RUN).join("s").join(socket))?;
    }
    engine.nothing_left()
}
