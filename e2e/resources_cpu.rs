//! linux.resources.cpu: shares, quota and period, cpusets, idle.

use harness::{Bundle, Feature, Host, Stop, ensure, ensure_eq, json};

fn with_cgroup(host: &Host, controller: &str) -> Result<Bundle, Stop> {
    host.needs_controller(controller)?;
    let options = ["nosuid", "noexec", "nodev", "ro"];
    Ok(host.bundle()?.namespace("cgroup", None).mount("/sys/fs/cgroup", "cgroup", "cgroup", &options))
}

fn read(host: &Host, bundle: Bundle, file: &str) -> Result<String, Stop> {
    let [read] = host.lines(&bundle.payload(&["read", &format!("/sys/fs/cgroup/{file}")]))?;
    ensure_eq!(read.errno(), "", "{file}");
    Ok(read.text("/text").trim().to_owned())
}

pub(crate) fn trials() -> Feature {
    Feature::new("resources_cpu")
        .trial("quota and period are those of the config", |host| {
            let asked = || {
                Ok::<_, Stop>(
                    with_cgroup(host, "cpu")?.set("/linux/resources/cpu", json!({"quota": 20_000, "period": 50_000})),
                )
            };
            if host.is_v2() {
                ensure_eq!(read(host, asked()?, "cpu.max")?, "20000 50000");
            } else {
                ensure_eq!(read(host, asked()?, "cpu/cpu.cfs_quota_us")?, "20000");
                ensure_eq!(read(host, asked()?, "cpu/cpu.cfs_period_us")?, "50000");
            }
            Ok(())
        })
        .trial("a quota without a period, and a period without a quota, work", |host| {
            let quota = with_cgroup(host, "cpu")?.set("/linux/resources/cpu", json!({"quota": 30_000}));
            let period = with_cgroup(host, "cpu")?.set("/linux/resources/cpu", json!({"period": 80_000}));
            if host.is_v2() {
                ensure_eq!(read(host, quota, "cpu.max")?, "30000 100000");
                ensure_eq!(read(host, period, "cpu.max")?, "max 80000");
            } else {
                ensure_eq!(read(host, quota, "cpu/cpu.cfs_quota_us")?, "30000");
                ensure_eq!(read(host, period, "cpu/cpu.cfs_period_us")?, "80000");
            }
            Ok(())
        })
        .trial("a quota slows a payload down", |host| {
            let file = if host.is_v2() { "cpu.stat" } else { "cpu/cpu.stat" };
            let bundle =
                with_cgroup(host, "cpu")?.set("/linux/resources/cpu", json!({"quota": 5_000, "period": 50_000}));
            let bundle = bundle.payload(&["spin", "400", ";", "read", &format!("/sys/fs/cgroup/{file}")]);
            let [_, stat] = host.lines(&bundle)?;
            let throttled = stat.text("/text").lines().find_map(|line| line.strip_prefix("nr_throttled "));
            let count: u64 = throttled.and_then(|count| count.trim().parse().ok()).unwrap_or(0);
            ensure!(count >= 2, "throttled {count} times: {stat:?}");
            Ok(())
        })
        .trial("shares are those of the config", |host| {
            let bundle = |shares: u64| {
                Ok::<_, Stop>(with_cgroup(host, "cpu")?.set("/linux/resources/cpu/shares", json!(shares)))
            };
            if host.is_v2() {
                // Between the ends of both scales the conversion is the runtime's choice; the ends and 1024 are not.
                ensure_eq!(read(host, bundle(2)?, "cpu.weight")?, "1");
                ensure_eq!(read(host, bundle(262_144)?, "cpu.weight")?, "10000");
                let middle: u64 = read(host, bundle(1024)?, "cpu.weight")?.parse().unwrap_or(0);
                ensure!([39, 100].contains(&middle), "1024 shares became weight {middle}");
            } else {
                for shares in [2, 512, 4096] {
                    ensure_eq!(read(host, bundle(shares)?, "cpu/cpu.shares")?, shares.to_string());
                }
            }
            Ok(())
        })
        .trial("the payload runs on the processors and memory nodes of the config", |host| {
            let bundle = with_cgroup(host, "cpuset")?.set("/linux/resources/cpu", json!({"cpus": "0", "mems": "0"}));
            let report = host.report(&bundle)?;
            ensure_eq!((report.text("/affinity"), report.text("/memory_nodes")), ("0", "0"));
            Ok(())
        })
        .trial("processors that do not exist are refused by name", |host| {
            let bundle = with_cgroup(host, "cpuset")?.set("/linux/resources/cpu/cpus", json!("4000"));
            let said = host.create_fails(&bundle)?;
            ensure!(said.stderr.contains("cpuset") || said.stderr.contains("cpus"), "{said}");
            Ok(())
        })
        .trial("idle is that of the config", |host| {
            host.except("runc", "1.1 does not know it")?;
            let bundle = with_cgroup(host, "cpu")?.set("/linux/resources/cpu/idle", json!(1));
            let file = if host.is_v2() { "cpu.idle" } else { "cpu/cpu.idle" };
            ensure_eq!(read(host, bundle, file)?, "1");
            Ok(())
        })
        .trial("burst is that of the config", |host| {
            host.except("runc", "1.1 does not know it")?;
            let cpu = json!({"quota": 20_000, "period": 50_000, "burst": 10_000});
            let bundle = with_cgroup(host, "cpu")?.set("/linux/resources/cpu", cpu);
            let file = if host.is_v2() { "cpu.max.burst" } else { "cpu/cpu.cfs_burst_us" };
            ensure_eq!(read(host, bundle, file)?, "10000");
            Ok(())
        })
        .trial("a quota that the kernel does not take is refused by name", |host| {
            let bundle = with_cgroup(host, "cpu")?.set("/linux/resources/cpu", json!({"quota": 10, "period": 100_000}));
            host.create_fails(&bundle)?;
            Ok(())
        })
}
