//! dockerd and shims are killed around running containers.

use super::case;
use crate::engines::Case;
use crate::engines::common::{code, keeps_exits};
use harness::{ensure, wait_until};
use nix::sys::signal::Signal;
use std::path::Path;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("containers outlive a killed dockerd, and the next one has them again", "running, 11, 137", |docker| {
            let id = docker.detached(&["--network", "none"], &["sleep", "1000"])?;
            let pid = docker.pid(&id)?;
            docker.end(Signal::SIGKILL)?;
            ensure!(Path::new(&format!("/proc/{pid}")).exists(), "the payload went with dockerd");
            docker.launch()?;
            ensure!(docker.pid(&id)? == pid, "another process");
            let status = docker.inspect(&id, "{{.State.Status}}")?;
            let exec = docker.exec(&[], &id, &["sh", "-c", "exit 11"])?.code().unwrap_or(-1);
            docker.must(&["kill", &id])?;
            Ok(format!("{status}, {exec}, {}", docker.exit_code(&id)?))
        }),
        case("an exit while dockerd is down is told by the next one", "42", |docker| {
            keeps_exits()?;
            let (dir, volume) = docker.volume("/sign")?;
            let script = "until [ -e /sign/go ]; do sleep 0.01; done; exit 42";
            let id = docker.detached(&["--network", "none", "--volume", &volume], &["sh", "-c", script])?;
            let pid = docker.pid(&id)?;
            docker.end(Signal::SIGKILL)?;
            std::fs::write(dir.join("go"), "")?;
            wait_until("the payload's end", || Ok(!Path::new(&format!("/proc/{pid}")).exists()))?;
            docker.launch()?;
            docker.exit_code(&id)
        }),
        case("a container of a restart policy comes back with the next dockerd", "ok", |docker| {
            let id = docker.detached(&["--network", "none", "--restart", "always"], &["sleep", "1000"])?;
            let pid = docker.pid(&id)?;
            docker.end(Signal::SIGKILL)?;
            crate::engines::common::signal(pid, Signal::SIGKILL)?;
            docker.launch()?;
            wait_until("another process", || Ok(![0, pid].contains(&docker.pid(&id)?)))?;
            Ok(code(docker.exec(&[], &id, &["echo", "ok"])?, 0)?.stdout.trim().to_owned())
        }),
    ]
}
