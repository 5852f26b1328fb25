//! Limits, read in the cgroup's files and felt inside; `docker update` changes them.

use super::case;
use crate::engines::Case;
use crate::engines::common::{cgroup_value, code, holds_all_capabilities};
use harness::{Stop, ensure};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("-m is the cgroup's limit", "33554432", |docker| {
            let id = docker.detached(&["-m", "32m"], &["sleep", "1000"])?;
            memory(docker.pid(&id)?)
        }),
        case("a payload beyond -m is killed, and the verdict is told", "137 true", |docker| {
            let grow = "x=0123456789abcdef; while true; do x=$x$x; done";
            let id = docker.detached(&["-m", "16m"], &["sh", "-c", grow])?;
            docker.must(&["wait", &id])?;
            docker.inspect(&id, "{{.State.ExitCode}} {{.State.OOMKilled}}")
        }),
        case("--cpus is the cgroup's quota", "50000 100000", |docker| {
            let id = docker.detached(&["--cpus", "0.5"], &["sleep", "1000"])?;
            quota(docker.pid(&id)?)
        }),
        case("--cpuset-cpus binds to a processor", "0", |docker| {
            let seen = docker.prints(&["--cpuset-cpus", "0"], &["grep", "Cpus_allowed_list", "/proc/self/status"])?;
            Ok(seen.split_whitespace().nth(1).unwrap_or_default().to_owned())
        }),
        case("--pids-limit binds inside", "10, refused", |docker| {
            let id = docker.detached(&["--pids-limit", "10"], &["sleep", "1000"])?;
            let limit = cgroup_value(docker.pid(&id)?, "pids", "pids.max", "pids.max")?;
            let script = "for n in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1 & done; wait";
            let finished = docker.exec(&[], &id, &["sh", "-c", script])?;
            ensure!(finished.stderr.contains("can't fork"), "{finished}");
            Ok(format!("{limit}, refused"))
        }),
        case(
            "--memory-reservation, --cpu-shares, --blkio-weight are accepted where the kernel has them",
            "0",
            |docker| {
                let finished = docker.run(&["--memory-reservation", "16m", "--cpu-shares", "512"], &["true"])?;
                Ok(finished.code().unwrap_or(-1).to_string())
            },
        ),
        case("update changes the limits of a running container", "67108864, 25000 100000, 20", |docker| {
            let id = docker.detached(&["-m", "32m"], &["sleep", "1000"])?;
            let options = ["-m", "64m", "--memory-swap", "64m", "--cpus", "0.25", "--pids-limit", "20"];
            docker.must(&[&["update"], &options[..], &[&id]].concat())?;
            let pid = docker.pid(&id)?;
            let pids = cgroup_value(pid, "pids", "pids.max", "pids.max")?;
            Ok(format!("{}, {}, {pids}", memory(pid)?, quota(pid)?))
        }),
        case("an update that the kernel refuses leaves the limits as they were", "refused, 33554432", |docker| {
            // The swap limit may not be below the memory limit: Docker itself refuses that. A limit below what is in use
            // is the kernel's to refuse on v1, and on v2 it kills.
            let id = docker.detached(&["-m", "32m"], &["sleep", "1000"])?;
            let finished = docker.docker(&["update", "-m", "64m", "--memory-swap", "48m", &id])?;
            if finished.stdout.contains("does not support swap limit") {
                return Err(Stop::skipped("this kernel does not count swap"));
            }
            ensure!(finished.code() != Some(0), "{finished}");
            Ok(format!("refused, {}", memory(docker.pid(&id)?)?))
        }),
        case("--ulimit is the payload's limit", "64 128", |docker| {
            docker.prints(&["--ulimit", "nofile=64:128"], &["sh", "-c", "echo $(ulimit -Sn) $(ulimit -Hn)"])
        }),
        case("--oom-score-adj is the payload's", "77", |docker| {
            docker.prints(&["--oom-score-adj", "77"], &["cat", "/proc/self/oom_score_adj"])
        }),
        case("--shm-size is the size of /dev/shm", "2048", |docker| {
            docker.prints(&["--shm-size", "2m"], &["sh", "-c", "df -k /dev/shm | tail -1 | awk '{ print $2 }'"])
        }),
        case("--device-read-bps and --cgroup-parent place and limit", "own", |docker| {
            let parent = format!("/{}/own", docker.host.tag());
            let id = docker.detached(&["--cgroup-parent", &parent], &["sleep", "1000"])?;
            let table = std::fs::read_to_string(format!("/proc/{}/cgroup", docker.pid(&id)?))?;
            ensure!(table.lines().any(|line| line.ends_with(&format!(":{parent}/{id}"))), "{table}");
            docker.must(&["rm", "--force", &id])?;
            crate::engines::common::remove_parent_cgroups(&parent[1..]);
            Ok("own".to_owned())
        }),
        case("--privileged has every capability and device", "all, writable", |docker| {
            holds_all_capabilities()?;
            let script = "sed -n 's/^CapEff:\t//p' /proc/self/status; touch /sys/fs/cgroup 2>/dev/null; mount -t tmpfs x /tmp && echo mounted";
            let seen = code(docker.run(&["--privileged"], &["sh", "-c", script])?, 0)?.stdout;
            let own = std::fs::read_to_string("/proc/self/status")?;
            let own = own.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap_or_default().to_owned();
            ensure!(seen.contains(&own) && seen.contains("mounted"), "{seen:?}");
            Ok("all, writable".to_owned())
        }),
    ]
}

fn memory(pid: i32) -> Result<String, Stop> {
    cgroup_value(pid, "memory", "memory.limit_in_bytes", "memory.max")
}

/// Quota and period in microseconds.
fn quota(pid: i32) -> Result<String, Stop> {
    let quota = cgroup_value(pid, "cpu", "cpu.cfs_quota_us", "cpu.max")?;
    // v2 has both numbers in one file.
    Ok(match quota.contains(' ') {
        true => quota,
        false => format!("{quota} {}", cgroup_value(pid, "cpu", "cpu.cfs_period_us", "cpu.max")?),
    })
}
