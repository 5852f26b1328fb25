//! linux.resources.memory: read from the container's own cgroup, and felt.

use harness::{Bundle, Feature, Host, Stop, ensure, ensure_eq, json};

/// A bundle that can read its own cgroup at /sys/fs/cgroup.
fn with_cgroup(host: &Host) -> Result<Bundle, Stop> {
    host.needs_controller("memory")?;
    let options = ["nosuid", "noexec", "nodev", "ro"];
    Ok(host.bundle()?.namespace("cgroup", None).mount("/sys/fs/cgroup", "cgroup", "cgroup", &options))
}

const MIB: u64 = 1 << 20;

pub(crate) fn trials() -> Feature {
    Feature::new("resources_memory")
        .trial("the limit is that of the config", |host| {
            let file =
                if host.is_v2() { "/sys/fs/cgroup/memory.max" } else { "/sys/fs/cgroup/memory/memory.limit_in_bytes" };
            let bundle =
                with_cgroup(host)?.set("/linux/resources/memory/limit", json!(64 * MIB)).payload(&["read", file]);
            let [read] = host.lines(&bundle)?;
            ensure_eq!(read["text"], format!("{}\n", 64 * MIB));
            Ok(())
        })
        .trial("a payload beyond the limit is killed and one below lives", |host| {
            let memory = json!({"limit": 40 * MIB, "swap": 40 * MIB});
            let ask = |mebibytes: &str| {
                let bundle = with_cgroup(host)?.set("/linux/resources/memory", memory.clone());
                host.run(&bundle.payload(&["alloc", mebibytes]))
            };
            let fits = ask("10")?;
            ensure_eq!((fits.code(), fits.report()?["allocated"].as_u64()), (Some(0), Some(10)));
            let beyond = ask("100")?;
            ensure_eq!(beyond.code(), Some(137), "{}", beyond.finished);
            Ok(())
        })
        .trial("memory and swap together have their limit", |host| {
            let memory = json!({"limit": 32 * MIB, "swap": 48 * MIB});
            let (file, expected) = match host.is_v2() {
                true => ("/sys/fs/cgroup/memory.swap.max", 16 * MIB),
                false => ("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", 48 * MIB),
            };
            let [read] =
                host.lines(&with_cgroup(host)?.set("/linux/resources/memory", memory).payload(&["read", file]))?;
            if read.errno() == "ENOENT" {
                return Err(Stop::skipped("this kernel does not account swap"));
            }
            ensure_eq!(read["text"], format!("{expected}\n"));
            Ok(())
        })
        .trial("the reservation is that of the config", |host| {
            let file = match host.is_v2() {
                true => "/sys/fs/cgroup/memory.low",
                false => "/sys/fs/cgroup/memory/memory.soft_limit_in_bytes",
            };
            let bundle =
                with_cgroup(host)?.set("/linux/resources/memory/reservation", json!(24 * MIB)).payload(&["read", file]);
            let [read] = host.lines(&bundle)?;
            ensure_eq!(read["text"], format!("{}\n", 24 * MIB));
            Ok(())
        })
        .trial("-1 is no limit", |host| {
            let file =
                if host.is_v2() { "/sys/fs/cgroup/memory.max" } else { "/sys/fs/cgroup/memory/memory.limit_in_bytes" };
            let bundle = with_cgroup(host)?.set("/linux/resources/memory/limit", json!(-1)).payload(&["read", file]);
            let [read] = host.lines(&bundle)?;
            let text = read.text("/text").trim();
            ensure!(text == "max" || text.parse::<u64>().is_ok_and(|limit| limit > 1 << 60), "{text}");
            Ok(())
        })
        .trial("swappiness and disableOOMKiller of v1 are set, or refused by name on v2", |host| {
            let memory = json!({"swappiness": 30, "disableOOMKiller": true});
            let bundle = with_cgroup(host)?.set("/linux/resources/memory", memory);
            if host.is_v2() {
                // v2 has neither: to pass over them in silence would be to pretend.
                host.only_wharf("peers pass over them")?;
                host.create_fails(&bundle)?;
                return Ok(());
            }
            let at = "/sys/fs/cgroup/memory/memory.";
            let bundle =
                bundle.payload(&["read", &format!("{at}swappiness"), ";", "read", &format!("{at}oom_control")]);
            let [swappiness, oom] = host.lines(&bundle)?;
            ensure_eq!(swappiness["text"], "30\n");
            ensure!(oom.text("/text").contains("oom_kill_disable 1"), "{oom:?}");
            Ok(())
        })
        .trial("a limit that is too small for the container to start is told as such", |host| {
            let memory = json!({"limit": 4096, "swap": 4096});
            let ran = host.run(&with_cgroup(host)?.set("/linux/resources/memory", memory))?;
            ensure!(ran.code() != Some(0), "it ran in 4096 bytes");
            ensure!(!ran.finished.stderr.is_empty(), "it failed without a word");
            if host.runtime.name() == "wharf" {
                let file = if host.is_v2() { "memory.max" } else { "memory.limit_in_bytes" };
                let told = format!("{file} 4096 is below what the set-up needs now");
                ensure!(ran.finished.last_line().contains(&told), "{}", ran.finished);
                ensure!(ran.finished.last_line().contains("[linux/resources/memory/limit]"), "{}", ran.finished);
            }
            Ok(())
        })
}
