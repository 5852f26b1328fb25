//! Resources: what the limits are in the container's cgroup, and that they bind.

use super::engine::Podman;
use super::{Case, case};
use harness::{Stop, ensure};
use std::fs;

const SLEEP: &[&str] = &["sleep", "1000"];

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("--memory: the limit of the cgroup", "33554432", |podman| {
            podman.start("c", &["--memory", "32m"], SLEEP)?;
            podman.cgroup("c", "memory", "memory.limit_in_bytes", "memory.max")
        }),
        case("--memory: a payload beyond the limit is killed", "137; counted by the cgroup", |podman| {
            let command = ["sh", "-c", "tail /dev/zero; echo it ended with $?; sleep 1000"];
            podman.start("c", &["--memory", "16m", "--memory-swap", "16m"], &command)?;
            let log = podman.wait_for_log("c", "it ended with")?;
            let code = log.rsplit("it ended with ").next().and_then(|rest| rest.lines().next()).unwrap_or_default();
            let events = podman.cgroup("c", "memory", "memory.oom_control", "memory.events")?;
            let counted = events.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count != "0"));
            Ok(format!("{code}; {}", if counted { "counted by the cgroup".to_owned() } else { events }))
        }),
        case("--memory: Podman knows that the kernel killed it", "137, OOM true", |podman| {
            // conmon 2.1 misses the event of v1, whichever runtime is used.
            podman.host.needs_v2("memory")?;
            podman.start("c", &["--memory", "16m", "--memory-swap", "16m"], &["tail", "/dev/zero"])?;
            let code = podman.must(&["wait", "c"])?;
            Ok(format!("{code}, OOM {}", podman.inspect("c", "{{.State.OOMKilled}}")?))
        }),
        case("--memory-swap, --memory-reservation", "swap right, reservation 16777216", |podman| {
            let options = ["--memory", "32m", "--memory-swap", "64m", "--memory-reservation", "16m"];
            podman.start("c", &options, SLEEP)?;
            let swap = podman.cgroup("c", "memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
            let soft = podman.cgroup("c", "memory", "memory.soft_limit_in_bytes", "memory.low")?;
            // v1 counts memory and swap together; a kernel without swap accounting has no such file.
            let wanted = if podman.host.is_v2() { "33554432" } else { "67108864" };
            let right = swap.as_deref().is_ok_and(|swap| swap == wanted) || swap.is_err();
            Ok(format!("swap {}, reservation {soft}", if right { "right" } else { "wrong" }))
        }),
        case("--cpus", "half of the period", |podman| {
            podman.start("c", &["--cpus", "0.5"], SLEEP)?;
            let (quota, period) = quota(podman, "c")?;
            Ok(if quota * 2 == period { "half of the period".to_owned() } else { format!("{quota} of {period}") })
        }),
        case("--cpu-shares, --cpuset-cpus", "weight right, cpus 0", |podman| {
            podman.start("c", &["--cpu-shares", "512", "--cpuset-cpus", "0"], SLEEP)?;
            let weight = podman.cgroup("c", "cpu", "cpu.shares", "cpu.weight")?;
            let cpus = podman.cgroup("c", "cpuset", "cpuset.cpus", "cpuset.cpus")?;
            // 512 of 1024 shares; on v2 the formula of the specification's conversion, or its later form.
            let right = ["512", "20", "59"].contains(&weight.as_str());
            Ok(format!("weight {}, cpus {cpus}", if right { "right".to_owned() } else { weight }))
        }),
        case("--pids-limit: the limit of the cgroup, and it binds", "20; fork refused", |podman| {
            podman.start(
                "c",
                &["--pids-limit", "20"],
                &["sh", "-c", "for i in $(seq 40); do sleep 1000 & done; wait"],
            )?;
            podman.wait_for_log("c", "can't fork")?;
            let limit =
                fs::read_to_string(podman.cgroup_dir("c", "pids").map(|dir| dir.join("pids.max")).or_else(|_| {
                    // The shell itself has ended; a new one tells.
                    podman.start("d", &["--pids-limit", "20"], SLEEP)?;
                    podman.cgroup_dir("d", "pids").map(|dir| dir.join("pids.max"))
                })?)?;
            Ok(format!("{}; fork refused", limit.trim()))
        }),
        case("--blkio-weight, where the kernel has it", "500 or refused", |podman| {
            let ran = podman.run(&["--blkio-weight", "500"], &["true"])?;
            let refused = ran.code() == Some(126) || ran.code() == Some(127) || ran.code() == Some(125);
            ensure!(ran.code() == Some(0) || (refused && ran.stderr.contains("weight")), "{ran}");
            Ok("500 or refused".to_owned())
        }),
        case("--ulimit", "soft 100, hard 200", |podman| {
            podman.sh(
                &["--ulimit", "nofile=100:200", "--ulimit", "nproc=1000:1000"],
                "echo soft $(ulimit -Sn), hard $(ulimit -Hn)",
            )
        }),
        case("--oom-score-adj", "500", |podman| podman.sh(&["--oom-score-adj", "500"], "cat /proc/self/oom_score_adj")),
        case("--shm-size", "1024 KiB", |podman| {
            podman.sh(&["--shm-size", "1m"], "df -k /dev/shm | awk 'NR==2 {print $2 \" KiB\"}'")
        }),
        case("--cgroups no-conmon: limits all the same", "33554432", |podman| {
            podman.start("c", &["--cgroups", "no-conmon", "--memory", "32m"], SLEEP)?;
            podman.cgroup("c", "memory", "memory.limit_in_bytes", "memory.max")
        }),
        case("--cgroupns host and private: what /proc/self/cgroup shows", "host: its path; private: /", |podman| {
            let script = "cat /proc/self/cgroup";
            let shared = podman.sh(&["--cgroupns", "host"], script)?;
            let private = podman.sh(&["--cgroupns", "private"], script)?;
            ensure!(shared.contains(&format!("/{}/libpod-", podman.host.tag())), "host: {shared}");
            // v1 beside v2 has hierarchies in which Podman makes no cgroup.
            let roots = private.lines().filter(|line| line.ends_with(":/")).count();
            ensure!(roots == private.lines().count(), "private: {private}");
            Ok("host: its path; private: /".to_owned())
        }),
        case("/sys/fs/cgroup: its own limits, read-only", "33554432, read-only", |podman| {
            let script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max; \
                mkdir /sys/fs/cgroup/x /sys/fs/cgroup/memory/x 2>/dev/null && echo writable || echo read-only";
            Ok(podman.sh(&["--memory", "32m", "--cgroupns", "private"], script)?.lines().collect::<Vec<_>>().join(", "))
        }),
    ]
}

/// Quota and period in µs.
pub(crate) fn quota(podman: &Podman, name: &str) -> Result<(i64, i64), Stop> {
    let text = podman.cgroup(name, "cpu", "cpu.cfs_quota_us", "cpu.max")?;
    let period = podman.cgroup(name, "cpu", "cpu.cfs_period_us", "cpu.max")?;
    let first = text.split_whitespace().next().unwrap_or_default().parse()?;
    let second = period.split_whitespace().last().unwrap_or_default().parse()?;
    Ok((first, second))
}
