//! Limits of `ctr run`, read in the kernel's files, and metrics.

use super::{Containerd, with};
use crate::engines::common::cgroup_value;
use harness::{Feature, Outcome, Stop, ensure, ensure_eq};

pub(super) fn trials(feature: Feature) -> Feature {
    feature
        .trial(
            "--memory-limit is the cgroup's limit",
            with(|engine| {
                let (_, pid) = engine.detached(&["--memory-limit", "33554432"], &["sleep", "1000"])?;
                ensure_eq!(cgroup_value(pid, "memory", "memory.limit_in_bytes", "memory.max")?, "33554432");
                Ok(())
            }),
        )
        .trial(
            "a payload beyond --memory-limit is killed, and containerd tells 137",
            with(|engine| {
                let grow = "x=0123456789abcdef; while true; do x=$x$x; done";
                let (id, _) = engine.detached(&["--memory-limit", "16777216"], &["sh", "-c", grow])?;
                ensure_eq!(engine.exit_code(&id)?, 137);
                Ok(())
            }),
        )
        .trial("--cpus, --cpu-quota with --cpu-period, and --cpu-shares are the cgroup's", with(cpu))
        .trial("--cgroup places the container, \"\" leaves it where its shim is", with(place))
        .trial("task metrics tells what the cgroup's files tell", with(metrics))
}

fn cpu(engine: &Containerd<'_>) -> Outcome {
    let quota = |options: &[&str]| -> Result<String, Stop> {
        let (_, pid) = engine.detached(options, &["sleep", "1000"])?;
        let quota = cgroup_value(pid, "cpu", "cpu.cfs_quota_us", "cpu.max")?;
        // v2 has both numbers in one file.
        Ok(match quota.contains(' ') {
            true => quota,
            false => format!("{quota} {}", cgroup_value(pid, "cpu", "cpu.cfs_period_us", "cpu.max")?),
        })
    };
    ensure_eq!(quota(&["--cpus", "0.5"])?, "50000 100000");
    ensure_eq!(quota(&["--cpu-quota", "30000", "--cpu-period", "60000"])?, "30000 60000");
    let (_, pid) = engine.detached(&["--cpu-shares", "2048"], &["sleep", "1000"])?;
    let seen = cgroup_value(pid, "cpu", "cpu.shares", "cpu.weight")?;
    // v2 has weights of 1 to 10000 for shares of 2 to 262144; runtimes differ in how they turn one into the other.
    ensure!(seen == "2048" || (seen.parse::<u32>().is_ok_and(|weight| weight > 1 && weight != 100)), "{seen}");
    Ok(())
}

fn place(engine: &Containerd<'_>) -> Outcome {
    let path = format!("/{}/place", engine.host.tag());
    let (_, pid) = engine.detached(&["--cgroup", &path], &["sleep", "1000"])?;
    let table = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    ensure!(table.lines().any(|line| line.ends_with(&format!(":{path}"))), "{table}");
    Ok(())
}

fn metrics(engine: &Containerd<'_>) -> Outcome {
    let (id, pid) = engine.detached(&["--memory-limit", "33554432"], &["sleep", "1000"])?;
    let table = engine.must(&["task", "metrics", &id])?;
    let value = |names: &[&str]| {
        let mut lines = table.lines().filter_map(|line| line.split_once(char::is_whitespace));
        lines.find(|(name, _)| names.contains(name)).map(|(_, value)| value.trim().to_owned())
    };
    ensure_eq!(value(&["memory.limit_in_bytes", "memory.usage_limit"]).as_deref(), Some("33554432"));
    ensure_eq!(value(&["pids.current"]).as_deref(), Some("1"));
    let peak: u64 = value(&["cpuacct.usage", "cpu.usage_usec"]).and_then(|text| text.parse().ok()).unwrap_or(0);
    ensure!(peak > 0, "no time of the processor was used: {table}");
    ensure!(cgroup_value(pid, "pids", "pids.current", "pids.current")? == "1", "pids.current");
    Ok(())
}
