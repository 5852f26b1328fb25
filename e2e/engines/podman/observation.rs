//! What Podman tells of a running container, held against the kernel's files.

use super::{Case, case};
use harness::{Value, ensure};
use std::fs;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("top: the processes of the container", "1 sh, sleep", |podman| {
            podman.start("c", &[], &["sh", "-c", "sleep 1000 & echo ready; wait"])?;
            podman.wait_for_log("c", "ready")?;
            let table = podman.wait_for("both processes", || {
                let table = podman.must(&["top", "c", "pid", "comm"])?;
                Ok((table.contains("sleep") && table.lines().count() == 3).then_some(table))
            })?;
            let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
            // Which number the second one has is up to the kernel.
            Ok(rows
                .map(|row| if row[0] == "1" { row.join(" ") } else { row[1].to_owned() })
                .collect::<Vec<_>>()
                .join(", "))
        }),
        case(
            "top: capabilities, seccomp and user, through the container's namespaces",
            "none filter sailor",
            |podman| {
                podman.start("c", &["--user", "sailor", "--cap-drop", "ALL"], &["sleep", "1000"])?;
                let table = podman.must(&["top", "c", "capeff", "seccomp", "user"])?;
                Ok(table.lines().nth(1).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" "))
            },
        ),
        case("stats: memory and processes as in the cgroup", "2 processes, memory counted, limit 64 MiB", |podman| {
            // A shell variable: on cgroup v2 Podman counts anonymous memory alone.
            let script = "x=$(head -c 9437184 /dev/zero | tr '\\0' x); sleep 1000 & echo ready; wait";
            podman.start("c", &["--memory", "64m"], &["sh", "-c", script])?;
            podman.wait_for_log("c", "ready")?;
            let text = podman.must(&[
                "stats",
                "--no-stream",
                "--format",
                "{{.PIDs}}|{{.MemUsageBytes}}|{{.MemUsage}}",
                "c",
            ])?;
            let parts: Vec<&str> = text.split('|').collect();
            let own = podman.cgroup("c", "memory", "memory.usage_in_bytes", "memory.current")?.parse::<u64>()?;
            ensure!(own > 8 << 20, "the cgroup counts {own} bytes");
            let [pids, bytes, usage] = parts[..] else { return Ok(text) };
            let used = bytes.split('/').next().unwrap_or_default().trim();
            let counted = used.ends_with("MiB")
                && used.trim_end_matches("MiB").parse::<f64>().is_ok_and(|mib| (8.0..64.0).contains(&mib));
            let limit = if bytes.contains("64MiB") && usage.contains("67.11MB") { "64 MiB" } else { bytes };
            Ok(format!("{pids} processes, memory {}, limit {limit}", if counted { "counted" } else { used }))
        }),
        case("ps: status and the host's pid", "Up, the pid of state", |podman| {
            podman.start("c", &[], &["sleep", "1000"])?;
            let line = podman.must(&["ps", "--format", "{{.Status}}|{{.Pid}}"])?;
            let pid = podman.pid("c")?.to_string();
            let up = if line.starts_with("Up") { "Up" } else { &line };
            Ok(format!("{up}, {}", if line.ends_with(&format!("|{pid}")) { "the pid of state" } else { &line }))
        }),
        case("logs --follow ends with the container", "one two three", |podman| {
            podman.start("c", &[], &["sh", "-c", "for word in one two three; do echo $word; sleep 0.1; done"])?;
            Ok(podman.must(&["logs", "--follow", "c"])?.split_whitespace().collect::<Vec<_>>().join(" "))
        }),
        case("a megabyte of output is logged whole", "1048576 bytes", |podman| {
            podman.start("c", &[], &["sh", "-c", "dd if=/dev/zero bs=1024 count=1024 2>/dev/null | tr '\\0' x"])?;
            podman.must(&["wait", "c"])?;
            let log = podman.wait_for("the whole log", || {
                let log = podman.must(&["logs", "c"])?;
                Ok((log.len() >= 1 << 20).then_some(log))
            })?;
            Ok(format!("{} bytes", log.matches('x').count()))
        }),
        case("events: create, start, died with the exit code", "create start died 6", |podman| {
            podman.start("c", &[], &["sh", "-c", "exit 6"])?;
            podman.must(&["wait", "c"])?;
            let all = podman.wait_for("the end", || {
                let text = podman.must(&["events", "--stream=false", "--format", "json", "--filter", "container=c"])?;
                Ok(text.contains("\"died\"").then_some(text))
            })?;
            let mut seen = Vec::new();
            for line in all.lines() {
                let event: Value = line.parse().unwrap_or_default();
                let status = event["Status"].as_str().unwrap_or_default().to_owned();
                if ["create", "start", "died"].contains(&status.as_str()) {
                    seen.push(status);
                }
                if let Some(code) = event["ContainerExitCode"].as_i64().filter(|_| event["Status"] == "died") {
                    seen.push(code.to_string());
                }
            }
            // Podman writes the start and a quick end at once.
            seen.sort_by_key(|word| ["create", "start", "died"].iter().position(|known| word == known).unwrap_or(3));
            Ok(seen.join(" "))
        }),
        case("container inspect: times of start and end", "started, then finished", |podman| {
            podman.start("c", &[], &["sleep", "0.2"])?;
            podman.must(&["wait", "c"])?;
            let times = podman.inspect("c", "{{.State.StartedAt.UnixNano}} {{.State.FinishedAt.UnixNano}}")?;
            let times: Vec<i128> = times.split(' ').filter_map(|time| time.parse().ok()).collect();
            let lasted = times.get(1).unwrap_or(&0) - times.first().unwrap_or(&0);
            Ok(if lasted > 100_000_000 { "started, then finished".to_owned() } else { format!("{times:?}") })
        }),
        case("the OCI runtime as info tells it", "its own version", |podman| {
            let seen = podman.must(&["info", "--format", "{{.Host.OCIRuntime.Name}}|{{.Host.OCIRuntime.Version}}"])?;
            let (name, version) = seen.split_once('|').unwrap_or_default();
            ensure!(name == podman.runtime(), "{seen}");
            let first = version.lines().next().unwrap_or_default();
            Ok(if first.starts_with(name) && first.contains("version") { "its own version".to_owned() } else { seen })
        }),
        case("diff and export see what was written", "A /new; new in the archive", |podman| {
            podman.start("c", &[], &["touch", "/new"])?;
            podman.must(&["wait", "c"])?;
            // Without `container` it would be an image's whose id begins with c, where there is one.
            let diff = podman.must(&["container", "diff", "c"])?;
            let archive = podman.dir().join("archive.tar");
            podman.must(&["export", "--output", &archive.display().to_string(), "c"])?;
            let tar = std::process::Command::new("tar").arg("-tf").arg(&archive).output()?;
            let names = String::from_utf8_lossy(&tar.stdout).into_owned();
            let line = diff.lines().find(|line| *line == "A /new").unwrap_or_default();
            Ok(format!(
                "{line}; {} in the archive",
                if names.lines().any(|name| name == "new") { "new" } else { "nothing" }
            ))
        }),
        case("the log file of conmon is closed when the container ends", "0 monitors", |podman| {
            podman.start("c", &[], &["true"])?;
            podman.must(&["wait", "c"])?;
            let dir = podman.dir().display().to_string();
            podman.wait_for("conmon to end", || {
                let all = fs::read_dir("/proc")?.flatten();
                let alive = all.filter(|entry| {
                    let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                    line.starts_with(b"/usr/bin/conmon") && String::from_utf8_lossy(&line).contains(&dir)
                });
                Ok((alive.count() == 0).then_some("0 monitors".to_owned()))
            })
        }),
    ]
}
