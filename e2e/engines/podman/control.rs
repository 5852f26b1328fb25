//! Pause, and new limits for a running container.

use super::limits::quota;
use super::{Case, case};
use harness::ensure_eq;
use std::fs;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("pause: nothing moves; unpause: it goes on", "paused and still, running and moving", |podman| {
            let volume = podman.dir().join("v");
            fs::create_dir(&volume)?;
            let script = "while :; do echo x >>/v/beats; sleep 0.02; done";
            podman.start("c", &["--volume", &format!("{}:/v", volume.display())], &["sh", "-c", script])?;
            let beats = || fs::metadata(volume.join("beats")).map(|meta| meta.len()).unwrap_or(0);
            podman.wait_for("a beat", || Ok((beats() > 0).then_some(())))?;
            podman.must(&["pause", "c"])?;
            let status = podman.inspect("c", "{{.State.Status}}")?;
            let before = beats();
            std::thread::sleep(std::time::Duration::from_millis(300));
            let still = if beats() == before { "still" } else { "moving" };
            podman.must(&["unpause", "c"])?;
            podman.wait_for("another beat", || Ok((beats() > before).then_some(())))?;
            Ok(format!("{status} and {still}, {} and moving", podman.inspect("c", "{{.State.Status}}")?))
        }),
        case("a paused container: exec is refused, rm --force removes it", "255 or 125, 0 left", |podman| {
            podman.start("c", &[], &["sleep", "1000"])?;
            podman.must(&["pause", "c"])?;
            let exec = podman.call(&["exec", "c", "true"])?;
            podman.must(&["rm", "--force", "--time", "0", "c"])?;
            let left = podman.must(&["ps", "--all", "--quiet"])?.lines().count();
            let refused = matches!(exec.code(), Some(255 | 125));
            Ok(format!("{}, {left} left", if refused { "255 or 125".to_owned() } else { exec.to_string() }))
        }),
        case("pod pause and unpause", "paused paused, running running", |podman| {
            super::namespaces::pod(podman)?;
            let both = || -> Result<String, harness::Stop> {
                let states = [podman.inspect("a", "{{.State.Status}}")?, podman.inspect("b", "{{.State.Status}}")?];
                Ok(states.join(" "))
            };
            podman.must(&["pod", "pause", "p"])?;
            let paused = both()?;
            podman.must(&["pod", "unpause", "p"])?;
            Ok(format!("{paused}, {}", both()?))
        }),
        case("update --memory, --cpu-quota: the cgroup has them", "67108864, half of the period", |podman| {
            podman.start("c", &["--memory", "32m"], &["sleep", "1000"])?;
            podman.must(&["update", "--memory", "64m", "--cpu-quota", "50000", "--cpu-period", "100000", "c"])?;
            let memory = podman.cgroup("c", "memory", "memory.limit_in_bytes", "memory.max")?;
            let (quota, period) = quota(podman, "c")?;
            let cpu =
                if quota * 2 == period { "half of the period".to_owned() } else { format!("{quota} of {period}") };
            Ok(format!("{memory}, {cpu}"))
        }),
        case("update --cpu-shares and --cpuset-cpus", "changed, cpus 0", |podman| {
            podman.start("c", &[], &["sleep", "1000"])?;
            let before = podman.cgroup("c", "cpu", "cpu.shares", "cpu.weight")?;
            podman.must(&["update", "--cpu-shares", "2000", "--cpuset-cpus", "0", "c"])?;
            let after = podman.cgroup("c", "cpu", "cpu.shares", "cpu.weight")?;
            let cpus = podman.cgroup("c", "cpuset", "cpuset.cpus", "cpuset.cpus")?;
            Ok(format!("{}, cpus {cpus}", if before == after { "not changed" } else { "changed" }))
        }),
        case("update: a value that the kernel refuses changes nothing", "not 0, 33554432", |podman| {
            podman.start("c", &["--memory", "32m"], &["sleep", "1000"])?;
            let failed = podman.call(&["update", "--memory", "64m", "--cpuset-cpus", "4000", "c"])?;
            ensure_eq!(podman.inspect("c", "{{.State.Status}}")?, "running");
            let memory = podman.cgroup("c", "memory", "memory.limit_in_bytes", "memory.max")?;
            Ok(format!("{}, {memory}", if failed.code() == Some(0) { "0" } else { "not 0" }))
        })
        .unlike("crun", "keeps what it had applied before the refused value"),
    ]
}
