//! Limits under systemd, in both views: the unit's property, and the kernel's file. And annotations as properties.

use super::{create_fails, file, is_gone, needs_systemd, scope, show, start, systemctl, unit};
use harness::{Bundle, Feature, Host, Outcome, Stop, ensure, ensure_eq, json};

const MIB: u64 = 1 << 20;

/// A property, what `systemctl show` says of it, the file and what that says.
type View = (&'static str, &'static str, &'static str, &'static str);

const LIMITS: &[View] = &[
    ("MemoryMax", "67108864", "memory.max", "67108864"),
    // 96 MiB of memory and swap are 32 MiB of swap.
    ("MemorySwapMax", "33554432", "memory.swap.max", "33554432"),
    ("MemoryLow", "16777216", "memory.low", "16777216"),
    // 512 shares, by the quadratic formula.
    ("CPUWeight", "59", "cpu.weight", "59"),
    // 24.69 per cent: systemd has whole ones, and is told of 25.
    ("CPUQuotaPerSecUSec", "250ms", "cpu.max", "12345 50000"),
    ("CPUQuotaPeriodUSec", "50ms", "cpu.max", "12345 50000"),
    ("AllowedCPUs", "0", "cpuset.cpus", "0"),
    ("AllowedMemoryNodes", "0", "cpuset.mems", "0"),
    ("TasksMax", "50", "pids.max", "50"),
    ("IOWeight", "4950", "io.weight", "default 4950"),
    ("MemoryHigh", "62914560", "memory.high", "62914560"),
];

fn limited(host: &Host) -> Result<Bundle, Stop> {
    let bundle = scope(host)?.payload(&["sleep"]).set(
        "/linux/resources",
        json!({
            "memory": {"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 16 * MIB},
            "cpu": {"shares": 512, "quota": 12345, "period": 50000, "cpus": "0", "mems": "0"},
            "pids": {"limit": 50},
            "devices": [{"allow": false, "access": "rwm"}],
            "unified": {"memory.high": "60M", "memory.oom.group": "1"},
        }),
    );
    // Without a scheduler that weighs, the kernel has no such file.
    let weighs = std::path::Path::new("/sys/fs/cgroup/system.slice/io.weight").exists();
    Ok(if weighs { bundle.set("/linux/resources/blockIO", json!({"weight": 500})) } else { bundle })
}

fn both_views(bundle: &Bundle, views: &[View]) -> Outcome {
    for (property, shown, name, text) in views {
        if *property == "IOWeight" && bundle.config["linux"]["resources"]["blockIO"].is_null() {
            continue;
        }
        ensure_eq!(show(&unit(bundle), property)?, *shown, "{property}");
        // BFQ's own file has the weight as it was asked for.
        let bfq = *name == "io.weight" && file(bundle, "io.bfq.weight").is_ok();
        ensure_eq!(file(bundle, name)?, if bfq { "default 100" } else { *text }, "{name}");
    }
    Ok(())
}

pub(crate) fn trials() -> Feature {
    Feature::new("systemd_properties")
        .trial("limits are in the unit's properties and in the kernel's files, before the payload runs", |host| {
            needs_systemd(host)?;
            let bundle = limited(host)?;
            let container = super::create(host, &bundle)?;
            both_views(&bundle, LIMITS)?;
            ensure_eq!(file(&bundle, "memory.oom.group")?, "1");
            ensure_eq!(show(&unit(&bundle), "Delegate")?, "yes");
            ensure_eq!(show(&unit(&bundle), "DefaultDependencies")?, "no");
            ensure_eq!(show(&unit(&bundle), "Description")?, format!("wharf container {}", bundle.id()));
            container.delete_force()
        })
        .trial("they outlast a reload of systemd", |host| {
            needs_systemd(host)?;
            let bundle = limited(host)?;
            let container = start(host, &bundle)?;
            systemctl(&["daemon-reload"])?;
            for (property, shown, name, _) in LIMITS.iter().filter(|view| view.2 != "cpu.max" && view.2 != "io.weight")
            {
                ensure_eq!(show(&unit(&bundle), property)?, *shown, "{property}");
                let (_, _, _, text) = LIMITS.iter().find(|view| view.2 == *name).expect("it is from the list");
                ensure_eq!(file(&bundle, name)?, *text, "{name}");
            }
            // Where systemd writes it again, it is never less than what was asked for.
            let quota = file(&bundle, "cpu.max")?;
            ensure!(["12345 50000", "12500 50000"].contains(&quota.as_str()), "{quota}");
            container.delete_force()
        })
        .trial("no limit is infinity, and an idle cgroup has the weight of one", |host| {
            needs_systemd(host)?;
            let bundle = scope(host)?.payload(&["sleep"]).set(
                "/linux/resources",
                json!({"memory": {"limit": -1}, "pids": {"limit": -1}, "cpu": {"quota": -1, "idle": 1}}),
            );
            let container = start(host, &bundle)?;
            for (property, shown, name, text) in [
                ("MemoryMax", "infinity", "memory.max", "max"),
                ("MemorySwapMax", "infinity", "memory.swap.max", "max"),
                ("TasksMax", "infinity", "pids.max", "max"),
                ("CPUQuotaPerSecUSec", "infinity", "cpu.max", "max 100000"),
                ("CPUWeight", "idle", "cpu.idle", "1"),
            ] {
                ensure_eq!(show(&unit(&bundle), property)?, shown, "{property}");
                ensure_eq!(file(&bundle, name)?, text, "{name}");
            }
            systemctl(&["daemon-reload"])?;
            ensure_eq!(file(&bundle, "cpu.idle")?, "1", "after a reload");
            container.delete_force()
        })
        .trial("update changes both views, and a reload changes neither back", |host| {
            needs_systemd(host)?;
            let bundle = limited(host)?;
            let container = start(host, &bundle)?;
            let options = [
                "--memory",
                "50331648",
                "--memory-swap",
                "100663296",
                "--cpu-quota",
                "20000",
                "--cpu-share",
                "1024",
                "--pids-limit",
                "77",
                "--memory-reservation",
                "8388608",
            ];
            let said = container.call("update", &options)?;
            ensure_eq!(said.code(), Some(0), "{said}");
            let views: &[View] = &[
                ("MemoryMax", "50331648", "memory.max", "50331648"),
                ("MemorySwapMax", "50331648", "memory.swap.max", "50331648"),
                ("MemoryLow", "8388608", "memory.low", "8388608"),
                ("CPUQuotaPerSecUSec", "400ms", "cpu.max", "20000 50000"),
                ("CPUWeight", "100", "cpu.weight", "100"),
                ("TasksMax", "77", "pids.max", "77"),
                ("AllowedCPUs", "0", "cpuset.cpus", "0"),
            ];
            both_views(&bundle, views)?;
            systemctl(&["daemon-reload"])?;
            both_views(&bundle, views)?;
            // A quota that systemd cannot hold is exact in the file.
            let said = container.call("update", &["--cpu-quota", "12345"])?;
            ensure_eq!(said.code(), Some(0), "{said}");
            both_views(&bundle, &[("CPUQuotaPerSecUSec", "250ms", "cpu.max", "12345 50000")])?;
            container.delete_force()
        })
        .trial("an update that the kernel refuses changes neither", |host| {
            needs_systemd(host)?;
            let bundle = limited(host)?;
            let container = start(host, &bundle)?;
            let said = container.call("update", &["--pids-limit", "9", "--cpuset-cpus", "4000"])?;
            ensure!(said.code() != Some(0), "{said}");
            both_views(&bundle, LIMITS)?;
            container.delete_force()
        })
        .trial("org.systemd.property: the unit has it, and a malformed one is refused at its place", |host| {
            needs_systemd(host)?;
            let bundle = scope(host)?.payload(&["sleep"]).set(
                "/annotations",
                json!({
                    "org.systemd.property.TimeoutStopSec": "7", "org.systemd.property.KillSignal": "int32 12",
                    "org.systemd.property.CollectMode": "'inactive'", "org.systemd.property.TasksMax": "uint64 44",
                    "org.systemd.property.Documentation": "['man:wharf', \"man:systemd\"]",
                    "org.systemd.property.RuntimeMaxUSec": "uint64 3600000000",
                }),
            );
            let container = start(host, &bundle)?;
            for (property, shown) in [
                ("TimeoutStopUSec", "7s"),
                ("KillSignal", "12"),
                ("CollectMode", "inactive"),
                ("TasksMax", "44"),
                ("Documentation", "man:wharf man:systemd"),
                ("RuntimeMaxUSec", "1h"),
            ] {
                ensure_eq!(show(&unit(&bundle), property)?, shown, "{property}");
            }
            ensure_eq!(file(&bundle, "pids.max")?, "44");
            container.delete_force()?;
            is_gone(&bundle)?;
            for (name, value) in [
                ("TimeoutStopSec", "soon"),
                ("CPUWeight", "uint64 1 2"),
                ("CPUWeight", "uint64 -1"),
                ("Documentation", "['a', 1]"),
                ("X", "1"),
                ("CPU_Weight", "1"),
                ("PIDs", "@au [1]"),
                ("Delegate", "false"),
            ] {
                let key = format!("org.systemd.property.{name}");
                let said = create_fails(host, &scope(host)?.set("/annotations", json!({ &key: value })))?;
                ensure!(said.last_line().contains(&format!("[annotations/{key}]")), "{value}: {said}");
            }
            // What only systemd can judge is refused in its words.
            let bundle = scope(host)?.set("/annotations", json!({"org.systemd.property.NoSuchThing": "true"}));
            let said = create_fails(host, &bundle)?;
            ensure!(said.last_line().contains("NoSuchThing"), "{said}");
            Ok(())
        })
}
