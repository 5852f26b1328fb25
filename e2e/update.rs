//! update: limits of a living container change, all that is asked or nothing; read from the kernel's files, and felt.

use harness::{Bundle, Container, Feature, Finished, Host, Outcome, Stop, Value, ensure, ensure_eq, json};
use std::io::Write;
use std::path::PathBuf;

const MIB: u64 = 1 << 20;

pub(crate) fn trials() -> Feature {
    Feature::new("update")
        .trial("every option sets its limit, and leaves the others", |host| each_option(host, None))
        .trial("--resources FILE sets the same limits", |host| each_option(host, Some(false)))
        .trial("--resources - reads them from stdin", |host| each_option(host, Some(true)))
        .trial("a created and a paused container take new limits", |host| {
            host.needs_controller("pids")?;
            let container = host.create(&sleeper(host)?)?;
            updated(&container, &["--pids-limit", "41"])?;
            container.start()?;
            ensure_eq!(read(host, &container, "pids", "pids.max", "pids.max")?, "41");
            ensure_eq!(container.call("pause", &[])?.code(), Some(0));
            updated(&container, &["--pids-limit=42"])?;
            ensure_eq!(read(host, &container, "pids", "pids.max", "pids.max")?, "42");
            ensure_eq!(container.status()?, "paused");
            container.delete_force()
        })
        .trial("a payload feels the new limit of processes", |host| {
            host.needs_controller("pids")?;
            let bundle = host.bundle()?.payload(&["wait-file", "/tmp/go", ";", "fork", "30"]);
            let container = host.start(&bundle)?;
            updated(&container, &["--pids-limit", "8"])?;
            std::fs::write(bundle.rootfs().join("tmp/go"), "")?;
            let fork = &container.lines(2)?[1];
            ensure_eq!(fork["refused"], "EAGAIN");
            ensure!(fork["made"].as_u64().is_some_and(|made| made < 8), "{}", fork["made"]);
            container.wait_for_status("stopped")?;
            container.delete()
        })
        .trial("memory and swap are raised and lowered together", |host| {
            host.needs_controller("memory")?;
            let container = host.start(&sleeper(host)?)?;
            for (memory, both) in [(64, 96), (256, 512), (512, 512), (32, 48), (32, 64)] {
                updated(&container, &["--memory", &format!("{memory}M"), "--memory-swap", &format!("{both}m")])?;
                ensure_eq!(memory_limit(host, &container)?, (memory * MIB).to_string());
                let swap = if host.is_v2() { both - memory } else { both };
                ensure_eq!(swap_limit(host, &container)?, (swap * MIB).to_string());
            }
            container.delete_force()
        })
        .trial("only memory, or only swap: the sum of both stays, or the memory", |host| {
            host.needs_controller("memory")?;
            let container = host.start(&sleeper(host)?)?;
            updated(&container, &["--memory", "64M", "--memory-swap", "96M"])?;
            updated(&container, &["--memory", "48M"])?;
            ensure_eq!(memory_limit(host, &container)?, (48 * MIB).to_string());
            let swap = if host.is_v2() { 48 } else { 96 };
            ensure_eq!(swap_limit(host, &container)?, (swap * MIB).to_string());
            updated(&container, &["--memory-swap", "80M"])?;
            ensure_eq!(memory_limit(host, &container)?, (48 * MIB).to_string());
            let swap = if host.is_v2() { 32 } else { 80 };
            ensure_eq!(swap_limit(host, &container)?, (swap * MIB).to_string());
            if host.runtime.name() == "wharf" {
                let said = refused(&container, &["--memory", "128M"])?;
                ensure!(said.stderr.contains("below the limit of memory alone"), "{said}");
                ensure_eq!(memory_limit(host, &container)?, (48 * MIB).to_string());
            }
            container.delete_force()
        })
        .trial("-1 takes limits away", |host| {
            host.needs_controller("memory")?;
            host.needs_controller("pids")?;
            host.needs_controller("cpu")?;
            let container = host.start(&sleeper(host)?)?;
            let limits = ["--memory", "64M", "--memory-swap", "64M", "--pids-limit", "9", "--cpu-quota", "30000"];
            updated(&container, &limits)?;
            updated(&container, &["--memory", "-1", "--pids-limit", "-1", "--cpu-quota=-1"])?;
            let none = if host.is_v2() { "max" } else { "9223372036854771712" };
            ensure_eq!(
                (memory_limit(host, &container)?.as_str(), swap_limit(host, &container)?.as_str()),
                (none, none)
            );
            ensure_eq!(read(host, &container, "pids", "pids.max", "pids.max")?, "max");
            let quota = read(host, &container, "cpu", "cpu.cfs_quota_us", "cpu.max")?;
            ensure_eq!(quota, if host.is_v2() { "max 100000" } else { "-1" });
            container.delete_force()
        })
        .trial("a quota alone keeps the period, and a period alone the quota", |host| {
            host.needs_controller("cpu")?;
            host.except("runc", "falls back to the usual period")?;
            let container = host.start(&sleeper(host)?)?;
            for (options, expected) in [
                (&["--cpu-quota", "20000", "--cpu-period", "50000"][..], ("20000", "50000")),
                (&["--cpu-quota", "30000"], ("30000", "50000")),
                (&["--cpu-period", "80000"], ("30000", "80000")),
                // Each of them only together with the other.
                (&["--cpu-quota", "900000", "--cpu-period", "1000000"], ("900000", "1000000")),
                (&["--cpu-quota", "1000", "--cpu-period", "1000"], ("1000", "1000")),
            ] {
                updated(&container, options)?;
                let found = match host.is_v2() {
                    true => read(host, &container, "cpu", "", "cpu.max")?,
                    false => {
                        let quota = read(host, &container, "cpu", "cpu.cfs_quota_us", "")?;
                        format!("{quota} {}", read(host, &container, "cpu", "cpu.cfs_period_us", "")?)
                    }
                };
                ensure_eq!(found, format!("{} {}", expected.0, expected.1), "{options:?}");
            }
            container.delete_force()
        })
        .trial("a value that the kernel refuses takes back what was set before it, and is named", |host| {
            host.only_wharf("others stop half-way")?;
            for controller in ["memory", "cpu", "pids"] {
                host.needs_controller(controller)?;
            }
            let container = host.start(&sleeper(host)?)?;
            let good = ["--memory", "64M", "--memory-swap", "96M", "--cpu-share", "512", "--pids-limit", "77"];
            updated(&container, &[&good[..], &["--cpu-quota", "20000", "--cpu-period", "50000"]].concat())?;
            let before = everything(host, &container)?;
            let changes = ["--memory", "256M", "--memory-swap", "512M", "--cpu-share", "99", "--cpu-quota", "5000"];
            let said = refused(&container, &[&changes[..], &["--cpuset-cpus", "9999"]].concat())?;
            ensure!(said.last_line().contains("cpuset.cpus") && said.last_line().contains("[cpu/cpus]"), "{said}");
            ensure_eq!(everything(host, &container)?, before);
            let lower = ["--memory", "16M", "--memory-swap", "16M", "--cpu-period", "1000", "--cpuset-cpus", "9999"];
            refused(&container, &lower)?;
            ensure_eq!(everything(host, &container)?, before);
            container.delete_force()
        })
        .trial("A4.7: a live container gets new limits at once, and of an impossible change nothing is left", |host| {
            host.only_wharf("others stop half-way")?;
            for controller in ["memory", "cpu", "pids", "cpuset"] {
                host.needs_controller(controller)?;
            }
            let container = host.start(&sleeper(host)?)?;
            let quota = ["--cpu-quota", "30000", "--cpu-period", "100000", "--cpuset-cpus", "0"];
            updated(&container, &[&["--memory", "96M", "--pids-limit", "70"][..], &quota].concat())?;
            let pids = read(host, &container, "pids", "pids.max", "pids.max")?;
            let cpu = read(host, &container, "cpu", "cpu.cfs_quota_us", "cpu.max")?;
            let cpus = read(host, &container, "cpuset", "cpuset.cpus", "cpuset.cpus")?;
            ensure_eq!((memory_limit(host, &container)?, pids.as_str()), ((96 * MIB).to_string(), "70"));
            ensure_eq!((cpu.split(' ').next(), cpus.as_str()), (Some("30000"), "0"));
            let stats: harness::Value =
                serde_json::from_str(&host.runtime.must(&["events", "--stats", container.id()])?)?;
            ensure_eq!(stats["data"]["memory"]["usage"]["limit"], 96 * MIB);
            ensure_eq!(stats["data"]["pids"]["limit"], 70);
            let before = everything(host, &container)?;
            refused(&container, &["--memory", "128M", "--pids-limit", "80", "--cpuset-cpus", "4095"])?;
            refused(&container, &["--pids-limit", "80", "--cpu-period", "1"])?;
            ensure_eq!(everything(host, &container)?, before);
            container.delete_force()
        })
        .trial("rates of block devices are taken back too", |host| {
            host.only_wharf("others stop half-way")?;
            host.needs_controller(if host.is_v2() { "io" } else { "blkio" })?;
            let Some(device) = block_device() else { return Err(Stop::skipped("this host has no block device")) };
            let container = host.start(&sleeper(host)?)?;
            let (major, minor) = device;
            let rate = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
            let set = |text: &Value| told(host, &container, &text.to_string());
            let said = set(&json!({"blockIO": {"throttleReadBpsDevice": rate(1 << 20)}}))?;
            if said.stderr.contains("CONFIG_BLK_DEV_THROTTLING") {
                return Err(Stop::skipped("this kernel does not throttle block devices"));
            }
            ensure_eq!(said.code(), Some(0), "{said}");
            let controller = if host.is_v2() { "io" } else { "blkio" };
            let look = || read(host, &container, controller, "blkio.throttle.read_bps_device", "io.max");
            let before = look()?;
            ensure!(before.contains(&format!("{major}:{minor}")) && before.contains("1048576"), "{before}");
            let said = set(&json!({
                "blockIO": {"throttleReadBpsDevice": rate(4096), "throttleWriteBpsDevice": rate(8192)},
                "hugepageLimits": [{"pageSize": "3KB", "limit": 1}],
            }))?;
            ensure!(said.code() == Some(1) && said.stderr.contains("hugepageLimits/0/limit"), "{said}");
            ensure_eq!(look()?, before);
            container.delete_force()
        })
        .trial("a limit below what is used is refused where that is asked for, and by v1 always", |host| {
            host.needs_controller("memory")?;
            let container = host.start(&host.bundle()?.payload(&["hold", "40"]))?;
            container.lines(1)?;
            let before = memory_limit(host, &container)?;
            let said = told(host, &container, r#"{"memory": {"limit": 4194304, "checkBeforeUpdate": true}}"#)?;
            // v1 may find pages to take back in swap.
            if host.is_v2() || said.code() != Some(0) {
                ensure!(said.code() == Some(1), "{said}");
                if host.runtime.name() == "wharf" {
                    ensure!(said.last_line().contains("it uses "), "{said}");
                }
                ensure_eq!(memory_limit(host, &container)?, before);
            }
            ensure_eq!(container.status()?, "running");
            container.delete_force()
        })
        .trial("a weight is set on a container that has just stopped being idle", |host| {
            host.needs_controller("cpu")?;
            host.except("runc", "1.1 has no cpu-idle on v1")?;
            let container = host.start(&sleeper(host)?)?;
            updated(&container, &["--cpu-idle", "1"])?;
            ensure_eq!(read(host, &container, "cpu", "cpu.idle", "cpu.idle")?, "1");
            updated(&container, &["--cpu-share", "2048", "--cpu-idle", "0"])?;
            ensure_eq!(read(host, &container, "cpu", "cpu.idle", "cpu.idle")?, "0");
            ensure_eq!(
                read(host, &container, "cpu", "cpu.shares", "cpu.weight")?,
                if host.is_v2() { "174" } else { "2048" }
            );
            container.delete_force()
        })
        .trial("device rules of a living container are replaced, and the same rules again are no change", |host| {
            host.only_wharf("others leave device rules alone")?;
            let full = json!({"allow": true, "type": "c", "major": 240, "minor": 7, "access": "rw"});
            let deny = json!({"allow": false, "access": "rwm"});
            let bundle = host.bundle()?.capabilities(&["bounding", "effective", "permitted"], &["CAP_MKNOD"]);
            let bundle =
                bundle.push("/linux/devices", json!({"path": "/dev/none", "type": "c", "major": 240, "minor": 7}));
            let look = ["open", "/dev/none", "r"];
            let words: Vec<&str> =
                [&look[..], &[";", "wait-file", "/tmp/one", ";"], &look, &[";", "wait-file", "/tmp/two", ";"], &look]
                    .concat();
            let bundle = bundle.payload(&words);
            let container = host.start(&bundle)?;
            ensure_eq!(container.lines(1)?[0].errno(), "EPERM");
            let allow = json!({"devices": [deny, full]}).to_string();
            ensure_eq!(told(host, &container, &allow)?.code(), Some(0));
            std::fs::write(bundle.rootfs().join("tmp/one"), "")?;
            // Nobody serves the device, which only those who may use it are told.
            ensure_eq!(container.lines(3)?[2].errno(), "ENXIO");
            ensure_eq!(told(host, &container, &json!({"devices": [deny]}).to_string())?.code(), Some(0));
            std::fs::write(bundle.rootfs().join("tmp/two"), "")?;
            ensure_eq!(container.lines(5)?[4].errno(), "EPERM");
            container.delete_force()
        })
        .trial("device rules that a hook has added to survive an update with the rules of the config", |host| {
            host.only_wharf("others leave device rules alone")?;
            if host.is_v2() {
                return Err(Stop::skipped("rules are added to from outside on v1"));
            }
            host.needs_controller("devices")?;
            let bundle = sleeper(host)?;
            let rules = bundle.config["linux"]["resources"]["devices"].clone();
            let container = host.start(&bundle)?;
            let dir = dir(host, &container, "devices")?;
            std::fs::write(dir.join("devices.allow"), "c 10:229 rw")?;
            let update = json!({"devices": rules, "pids": {"limit": 50}}).to_string();
            ensure_eq!(told(host, &container, &update)?.code(), Some(0));
            ensure!(std::fs::read_to_string(dir.join("devices.list"))?.contains("c 10:229 rw"), "it is gone");
            container.delete_force()
        })
        .trial("files of v2 are written in the kernel's own words", |host| {
            host.needs_v2("memory")?;
            let container = host.start(&sleeper(host)?)?;
            let text = r#"{"unified": {"memory.high": "33554432", "cgroup.max.depth": "3"}}"#;
            ensure_eq!(told(host, &container, text)?.code(), Some(0));
            ensure_eq!(read(host, &container, "memory", "", "memory.high")?, "33554432");
            container.delete_force()
        })
        .trial("what is not honoured is refused by name", |host| {
            host.only_wharf("others ignore it")?;
            let container = host.start(&sleeper(host)?)?;
            for (options, name) in [
                (&["--kernel-memory", "64M"][..], "kernel memory"),
                (&["--l3-cache-schema", "L3:0=f"], "--l3-cache-schema"),
                (&["--mem-bw-schema", "MB:0=20"], "--mem-bw-schema"),
            ] {
                let said = refused(&container, options)?;
                ensure!(said.code() == Some(1) && said.last_line().contains(name), "{said}");
            }
            container.delete_force()
        })
        .trial("input that makes no sense is refused with its place, and changes nothing", |host| {
            host.only_wharf("others word it differently")?;
            let container = host.start(&sleeper(host)?)?;
            let before = everything(host, &container)?;
            for (options, why) in [
                (&["--memory", "lots"][..], "--memory \"lots\""),
                (&["--pids-limit", "many"], "--pids-limit \"many\""),
                (&["--cpu-share", "-5"], "[cpu/shares]"),
                (&["--blkio-weight", "70000"], "[blockIO/weight]"),
                (&["--blkio-weight", "5"], "[blockIO/weight]"),
                (&["--cpuset-cpus", "all"], "[cpu/cpus]"),
                (&["--memory", "64M", "--memory-swap", "32M"], "[memory/swap]"),
                (&["--resources", "/nowhere", "--memory", "1G"], "--resources and --memory"),
                (&["--resources", "/nowhere/at/all"], "/nowhere/at/all: No such file or directory"),
            ] {
                let said = refused(&container, options)?;
                ensure!(said.last_line().contains(why), "{options:?}: {said}");
            }
            for (text, why) in [
                ("{\"memory\": {\"limit\": \"much\"}}", "[memory/limit]"),
                ("{\"memory\": ", "stdin line 1"),
                ("", "stdin line 1"),
                ("{\"memory\": {\"limit\": -7}}", "[memory/limit]"),
            ] {
                let said = told(host, &container, text)?;
                ensure!(said.code() == Some(1) && said.last_line().contains(why), "{text}: {said}");
            }
            ensure_eq!(everything(host, &container)?, before);
            container.delete_force()
        })
        .trial("a stopped container is not running, and an unknown one does not exist", |host| {
            let container = host.start(&host.bundle()?.payload(&["nothing"]))?;
            container.wait_for_status("stopped")?;
            host.except("runc", "writes to the cgroup of a stopped container")?;
            let said = refused(&container, &["--pids-limit", "5"])?;
            ensure!(said.stderr.contains("container not running"), "{said}");
            container.delete()?;
            let said = host.runtime.call(&["update", "--pids-limit", "5", "nobody"])?;
            ensure!(said.code() == Some(1) && said.stderr.contains("does not exist"), "{said}");
            Ok(())
        })
        .trial("many updates at once leave the limits of one of them", |host| {
            host.needs_controller("memory")?;
            host.needs_controller("pids")?;
            let container = host.start(&sleeper(host)?)?;
            let mut running = Vec::new();
            for number in 1..=12 {
                let (memory, pids) = (format!("{}M", 100 + number), (100 + number).to_string());
                let options = ["update", "--memory", &memory, "--pids-limit", &pids, container.id()];
                running.push(host.spawn(&options)?);
            }
            for one in running {
                let said = one.finish()?;
                ensure_eq!(said.code(), Some(0), "{said}");
            }
            if host.runtime.name() == "wharf" {
                let pids: u64 = read(host, &container, "pids", "pids.max", "pids.max")?.parse()?;
                ensure_eq!(memory_limit(host, &container)?, (pids * MIB).to_string());
            }
            container.delete_force()
        })
}

fn sleeper(host: &Host) -> Result<Bundle, Stop> {
    Ok(host.bundle()?.payload(&["sleep"]))
}

fn updated(container: &Container<'_>, options: &[&str]) -> Outcome {
    let said = container.call("update", options)?;
    ensure!(said.code() == Some(0) && said.stdout.is_empty() && said.stderr.is_empty(), "{said}");
    Ok(())
}

fn refused(container: &Container<'_>, options: &[&str]) -> Result<Finished, Stop> {
    let said = container.call("update", options)?;
    match said.code() {
        Some(0) => Err(Stop::failed(format!("it was taken: {said}"))),
        _ => Ok(said),
    }
}

/// `update --resources -`
fn told(host: &Host, container: &Container<'_>, text: &str) -> Result<Finished, Stop> {
    let mut file = std::fs::File::create(host.dir().join("resources.json"))?;
    file.write_all(text.as_bytes())?;
    let mut command = host.runtime.command();
    command.stdin(std::fs::File::open(host.dir().join("resources.json"))?);
    command.args(["update", "--resources", "-", container.id()]);
    host.runtime.spawn_command(command)?.finish()
}

fn dir(host: &Host, container: &Container<'_>, controller: &str) -> Result<PathBuf, Stop> {
    let top = host.controller_dir(controller);
    Ok(top.ok_or_else(|| Stop::skipped(format!("this host has no {controller} controller")))?.join(container.id()))
}

/// A control file of the container, by its name on v1 and on v2.
fn read(host: &Host, container: &Container<'_>, controller: &str, v1: &str, v2: &str) -> Result<String, Stop> {
    let name = if host.is_v2() { v2 } else { v1 };
    Ok(std::fs::read_to_string(dir(host, container, controller)?.join(name))?.trim().to_owned())
}

fn memory_limit(host: &Host, container: &Container<'_>) -> Result<String, Stop> {
    read(host, container, "memory", "memory.limit_in_bytes", "memory.max")
}

fn swap_limit(host: &Host, container: &Container<'_>) -> Result<String, Stop> {
    read(host, container, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max")
        .map_err(|_| Stop::skipped("this kernel does not account swap"))
}

/// Every limit that this file's trials touch.
fn everything(host: &Host, container: &Container<'_>) -> Result<Vec<String>, Stop> {
    let mut found = Vec::new();
    for (controller, v1, v2) in [
        ("memory", "memory.limit_in_bytes", "memory.max"),
        ("memory", "memory.memsw.limit_in_bytes", "memory.swap.max"),
        ("memory", "memory.soft_limit_in_bytes", "memory.low"),
        ("cpu", "cpu.shares", "cpu.weight"),
        ("cpu", "cpu.cfs_quota_us", "cpu.max"),
        ("cpu", "cpu.cfs_period_us", "cpu.idle"),
        ("cpuset", "cpuset.cpus", "cpuset.cpus"),
        ("pids", "pids.max", "pids.max"),
    ] {
        if host.controller_dir(controller).is_some() {
            found.push(format!("{v2} {}", read(host, container, controller, v1, v2).unwrap_or_default()));
        }
    }
    Ok(found)
}

/// `None`: by options; else by a file, or by stdin.
fn each_option(host: &Host, by_stdin: Option<bool>) -> Outcome {
    let container = host.start(&sleeper(host)?)?;
    let both = |v1: &'static str, v2: &'static str| if host.is_v2() { v2 } else { v1 };
    let sets = |controller, v1, v2, option, value, property, shown| Case {
        controller,
        file: both(v1, v2),
        option,
        value,
        property,
        shown,
    };
    let cases = [
        sets("cpu", "cpu.shares", "cpu.weight", "--cpu-share", "256", "cpu/shares", both("256", "35")),
        sets("cpu", "cpu.cfs_period_us", "cpu.max", "--cpu-period", "40000", "cpu/period", both("40000", "max 40000")),
        sets("cpu", "cpu.cfs_quota_us", "cpu.max", "--cpu-quota", "20000", "cpu/quota", both("20000", "20000 40000")),
        sets("cpu", "cpu.cfs_burst_us", "cpu.max.burst", "--cpu-burst", "3000", "cpu/burst", "3000"),
        sets("cpuset", "cpuset.cpus", "cpuset.cpus", "--cpuset-cpus", "0", "cpu/cpus", "0"),
        sets("cpuset", "cpuset.mems", "cpuset.mems", "--cpuset-mems", "0", "cpu/mems", "0"),
        sets("memory", "memory.limit_in_bytes", "memory.max", "--memory", "1073741824", "memory/limit", "1073741824"),
        sets(
            "memory",
            "memory.soft_limit_in_bytes",
            "memory.low",
            "--memory-reservation",
            "8388608",
            "memory/reservation",
            "8388608",
        ),
        sets("pids", "pids.max", "pids.max", "--pids-limit", "33", "pids/limit", "33"),
    ];
    let mut set: Vec<(&str, &str, &str)> = Vec::new();
    for Case { controller, file, option, value, property, shown } in cases {
        if option == "--cpu-burst" && host.runtime.name() == "runc" {
            continue;
        }
        if host.controller_dir(controller).is_none() || !dir(host, &container, controller)?.join(file).exists() {
            println!("skipped: {option}: this host has no {file}");
            continue;
        }
        let (part, name) = property.split_once('/').unwrap_or_default();
        let is_text = part == "cpu" && option.starts_with("--cpuset");
        let typed = if is_text { json!(value) } else { json!(value.parse::<u64>()?) };
        let text = json!({ part: { name: typed } }).to_string();
        let said = match by_stdin {
            None => container.call("update", &[option, value])?,
            Some(true) => told(host, &container, &text)?,
            Some(false) => {
                let file = host.dir().join("limits.json");
                std::fs::write(&file, &text)?;
                container.call("update", &["-r", &file.to_string_lossy()])?
            }
        };
        ensure!(said.code() == Some(0) && said.stdout.is_empty() && said.stderr.is_empty(), "{said}");
        // Quota and period share a file on v2.
        set.retain(|(_, earlier, _)| *earlier != file);
        set.push((controller, file, shown));
        for (controller, file, shown) in &set {
            ensure_eq!(read(host, &container, controller, file, file)?, *shown, "{option}: {file}");
        }
    }
    container.delete_force()
}

/// One limit: where it shows, the option, the property that is the same, and what the kernel shows then.
struct Case<'a> {
    controller: &'a str,
    file: &'a str,
    option: &'a str,
    value: &'a str,
    property: &'a str,
    shown: &'a str,
}

/// Numbers of a whole disk.
fn block_device() -> Option<(u64, u64)> {
    for entry in std::fs::read_dir("/sys/block").ok()?.flatten() {
        let text = std::fs::read_to_string(entry.path().join("dev")).ok()?;
        let (major, minor) = text.trim().split_once(':')?;
        if let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) {
            return Some((major, minor));
        }
    }
    None
}
