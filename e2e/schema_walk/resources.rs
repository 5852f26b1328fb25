//! `linux/resources`: the control files of the container's cgroup, and what devices may be used.

use super::row::{Row, control_file, equal};
use harness::{Bundle, Host, Stop, Value, ensure, json};

const MIB: u64 = 1 << 20;

/// Numbers of a whole disk of this host.
fn disk() -> Result<(u64, u64), Stop> {
    for entry in std::fs::read_dir("/sys/block")?.flatten() {
        let read = |name: &str| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let (size, numbers) = (read("size"), read("dev"));
        if let (Some((major, minor)), false) = (numbers.trim().split_once(':'), size.trim() == "0") {
            return Ok((major.parse()?, minor.parse()?));
        }
    }
    Err(Stop::failed("this host has no disk"))
}

/// The three parts of a throttle; v1 has a file for each kind, v2 a line of io.max.
fn throttle(parts: [&'static str; 3], kind: &'static str, v1: &'static str, v2: &'static str) -> Vec<Row> {
    let row = move |property| {
        Row::new(property)
            .edit(move |_, bundle| {
                let (major, minor) = disk()?;
                let rate = json!([{ "major": major, "minor": minor, "rate": 1_234_567 }]);
                Ok(bundle.set(&format!("/linux/resources/blockIO/{kind}"), rate))
            })
            .look(move |host, bundle| {
                let (major, minor) = disk()?;
                let file = format!("blkio.throttle.{v1}_device");
                let text = control_file(host, bundle, ["blkio", &file], ["io", "io.max"])?;
                let expected = match host.is_v2() {
                    true => format!("{v2}=1234567"),
                    false => format!("{major}:{minor} 1234567"),
                };
                ensure!(text.contains(&format!("{major}:{minor}")) && text.contains(&expected), "{text:?}");
                Ok(())
            })
    };
    parts.map(row).into()
}

/// The parts of a weight of a device; which file has it is the scheduler's affair.
fn weight_of_device(property: &'static str, file: &'static str) -> Row {
    Row::new(property)
        .edit(move |_, bundle| {
            let (major, minor) = disk()?;
            let mut weight = json!({ "major": major, "minor": minor, "weight": 321 });
            if property.ends_with("leafWeight") {
                weight = json!({ "major": major, "minor": minor, "leafWeight": 321 });
            }
            Ok(bundle.set("/linux/resources/blockIO/weightDevice", json!([weight])))
        })
        .look(move |host, bundle| {
            let (major, minor) = disk()?;
            let text = control_file(host, bundle, ["blkio", file], ["io", "io.bfq.weight"])
                .or_else(|_| control_file(host, bundle, ["blkio", "blkio.bfq.weight_device"], ["io", "io.weight"]))?;
            ensure!(text.contains(&format!("{major}:{minor} ")), "{text:?}");
            Ok(())
        })
}

/// /dev/log-of-kernel is /dev/kmsg (1:11), which a container may not open unless a rule says so.
fn device_rule(
    property: &'static str,
    rules: Value,
    words: &'static [&'static str],
    expected: &'static [&'static str],
) -> Row {
    let at = property.replace('*', &(rules.as_array().map_or(1, Vec::len) - 1).to_string());
    let node = json!([{ "path": "/dev/log-of-kernel", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666 }]);
    Row::new(property)
        .at(&at)
        .payload(words)
        .beside(move |_, bundle| {
            let bundle = bundle.capabilities(&["bounding", "permitted", "effective"], &["CAP_MKNOD", "CAP_SYSLOG"]);
            Ok(bundle.set("/linux/devices", node.clone()))
        })
        .set("/linux/resources/devices", rules)
        .lines(move |lines| equal(lines.iter().map(|line| line.errno()).collect::<Vec<_>>(), expected))
}

fn device_rules() -> Vec<Row> {
    const OPEN: &[&str] = &["open", "/dev/log-of-kernel", "r"];
    const BOTH: &[&str] = &["open", "/dev/log-of-kernel", "r", ";", "open", "/dev/log-of-kernel", "w"];
    const OTHER: &[&str] =
        &["open", "/dev/log-of-kernel", "r", ";", "mknod", "/var/n", "c", "1", "12", ";", "open", "/var/n", "r"];
    const BLOCK: &[&str] =
        &["open", "/dev/log-of-kernel", "r", ";", "mknod", "/var/n", "b", "1", "11", ";", "open", "/var/n", "r"];
    let deny = json!({ "allow": false, "access": "rwm" });
    let rule = |access: &str| json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": access });
    let (read, all) = (rule("r"), rule("rwm"));
    vec![
        device_rule("linux/resources/devices/*/allow", json!([deny, all]), OPEN, &[""]),
        // 1:11 as a character device alone: a block device of these numbers would be ENXIO if it were allowed.
        device_rule("linux/resources/devices/*/type", json!([deny, all]), BLOCK, &["", "", "EPERM"]),
        device_rule("linux/resources/devices/*/major", json!([deny, all]), OPEN, &[""]),
        device_rule("linux/resources/devices/*/minor", json!([deny, all]), OTHER, &["", "", "EPERM"]),
        device_rule("linux/resources/devices/*/access", json!([deny, read]), BOTH, &["", "EPERM"]),
    ]
}

fn memory() -> Vec<Row> {
    let at = |name: &str| format!("/linux/resources/memory/{name}");
    let row = |property: &'static str, value: Value| {
        let pointer = at(property.rsplit('/').next().unwrap_or_default());
        Row::new(property).edit(move |_, bundle| Ok(bundle.set(&pointer, value.clone())))
    };
    vec![
        row("linux/resources/memory/limit", json!(64 * MIB))
            .cgroup(["memory", "memory.limit_in_bytes", "67108864"], ["memory", "memory.max", "67108864"]),
        row("linux/resources/memory/swap", json!(96 * MIB))
            .beside(|_, bundle| Ok(bundle.set("/linux/resources/memory/limit", json!(64 * MIB))))
            .cgroup(["memory", "memory.memsw.limit_in_bytes", "100663296"], ["memory", "memory.swap.max", "33554432"]),
        row("linux/resources/memory/reservation", json!(32 * MIB))
            .cgroup(["memory", "memory.soft_limit_in_bytes", "33554432"], ["memory", "memory.low", "33554432"]),
        row("linux/resources/memory/kernel", json!(32 * MIB)),
        row("linux/resources/memory/kernelTCP", json!(16 * MIB))
            .cgroup(["memory", "memory.kmem.tcp.limit_in_bytes", "16777216"], ["memory", "", ""]),
        row("linux/resources/memory/swappiness", json!(13))
            .cgroup(["memory", "memory.swappiness", "13"], ["memory", "", ""]),
        row("linux/resources/memory/disableOOMKiller", json!(true))
            .cgroup(["memory", "memory.oom_control", "oom_kill_disable 1"], ["memory", "", ""]),
        // It is always true on kernels of today, so false is the value that tells.
        row("linux/resources/memory/useHierarchy", json!(false)),
        row("linux/resources/memory/checkBeforeUpdate", json!(true))
            .beside(|_, bundle| Ok(bundle.set("/linux/resources/memory/limit", json!(64 * MIB))))
            .look(|host, bundle| {
                host.create(bundle)?.delete_force()?;
                Err(Stop::skipped("a new cgroup uses no memory that a limit could be below; `update` has trials of it"))
            }),
    ]
}

fn cpu() -> Vec<Row> {
    let row = |property: &'static str, value: Value| {
        let pointer = format!("/{property}");
        Row::new(property).edit(move |_, bundle| Ok(bundle.set(&pointer, value.clone())))
    };
    let quota = |_: &Host, bundle: Bundle| Ok(bundle.set("/linux/resources/cpu/quota", json!(30_000)));
    vec![
        row("linux/resources/cpu/shares", json!(512)).look(|host, bundle| {
            let text = control_file(host, bundle, ["cpu", "cpu.shares"], ["cpu", "cpu.weight"])?;
            // 100 is v2's own default.
            let is = if host.is_v2() { text.trim() != "100" } else { text.trim() == "512" };
            ensure!(is, "{text:?}");
            Ok(())
        }),
        row("linux/resources/cpu/quota", json!(20_000))
            .cgroup(["cpu", "cpu.cfs_quota_us", "20000"], ["cpu", "cpu.max", "20000 100000"]),
        row("linux/resources/cpu/period", json!(50_000))
            .cgroup(["cpu", "cpu.cfs_period_us", "50000"], ["cpu", "cpu.max", "max 50000"]),
        row("linux/resources/cpu/burst", json!(7_000))
            .beside(quota)
            .cgroup(["cpu", "cpu.cfs_burst_us", "7000"], ["cpu", "cpu.max.burst", "7000"]),
        row("linux/resources/cpu/idle", json!(1)).cgroup(["cpu", "cpu.idle", "1"], ["cpu", "cpu.idle", "1"]),
        row("linux/resources/cpu/realtimePeriod", json!(900_000))
            .cgroup(["cpu", "cpu.rt_period_us", "900000"], ["cpu", "", ""]),
        row("linux/resources/cpu/realtimeRuntime", json!(12_345))
            .cgroup(["cpu", "cpu.rt_runtime_us", "12345"], ["cpu", "", ""]),
        row("linux/resources/cpu/cpus", json!("0")).report("/affinity", json!("0")),
        row("linux/resources/cpu/mems", json!("0")).look(|host, bundle| {
            // With one node of memory a process sees the same without it; the file does not.
            let text = control_file(host, bundle, ["cpuset", "cpuset.mems"], ["cpuset", "cpuset.mems"])?;
            ensure!(bundle.config.pointer("/linux/resources/cpu/mems").is_some(), "not asked for");
            equal(text.trim(), "0")
        }),
    ]
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = memory();
    rows.extend(cpu());
    rows.extend(device_rules());
    rows.extend(throttle(
        [
            "linux/resources/blockIO/throttleReadBpsDevice/*/major",
            "linux/resources/blockIO/throttleReadBpsDevice/*/minor",
            "linux/resources/blockIO/throttleReadBpsDevice/*/rate",
        ],
        "throttleReadBpsDevice",
        "read_bps",
        "rbps",
    ));
    rows.extend(throttle(
        [
            "linux/resources/blockIO/throttleWriteBpsDevice/*/major",
            "linux/resources/blockIO/throttleWriteBpsDevice/*/minor",
            "linux/resources/blockIO/throttleWriteBpsDevice/*/rate",
        ],
        "throttleWriteBpsDevice",
        "write_bps",
        "wbps",
    ));
    rows.extend(throttle(
        [
            "linux/resources/blockIO/throttleReadIOPSDevice/*/major",
            "linux/resources/blockIO/throttleReadIOPSDevice/*/minor",
            "linux/resources/blockIO/throttleReadIOPSDevice/*/rate",
        ],
        "throttleReadIOPSDevice",
        "read_iops",
        "riops",
    ));
    rows.extend(throttle(
        [
            "linux/resources/blockIO/throttleWriteIOPSDevice/*/major",
            "linux/resources/blockIO/throttleWriteIOPSDevice/*/minor",
            "linux/resources/blockIO/throttleWriteIOPSDevice/*/rate",
        ],
        "throttleWriteIOPSDevice",
        "write_iops",
        "wiops",
    ));
    rows.extend([
        weight_of_device("linux/resources/blockIO/weightDevice/*/major", "blkio.weight_device"),
        weight_of_device("linux/resources/blockIO/weightDevice/*/minor", "blkio.weight_device"),
        weight_of_device("linux/resources/blockIO/weightDevice/*/weight", "blkio.weight_device"),
        weight_of_device("linux/resources/blockIO/weightDevice/*/leafWeight", "blkio.leaf_weight_device"),
        Row::new("linux/resources/blockIO/weight").set("/linux/resources/blockIO/weight", json!(321)).look(
            |host, bundle| {
                let text = control_file(host, bundle, ["blkio", "blkio.weight"], ["io", "io.bfq.weight"])
                    .or_else(|_| control_file(host, bundle, ["blkio", "blkio.bfq.weight"], ["io", "io.weight"]))?;
                // As it is, or converted to the scale of io.weight.
                ensure!(text.contains("321") || text.contains("3142"), "{text:?}");
                Ok(())
            },
        ),
        Row::new("linux/resources/blockIO/leafWeight")
            .set("/linux/resources/blockIO/leafWeight", json!(321))
            .cgroup(["blkio", "blkio.leaf_weight", "321"], ["io", "", ""]),
        Row::new("linux/resources/pids/limit")
            .set("/linux/resources/pids/limit", json!(77))
            .cgroup(["pids", "pids.max", "77"], ["pids", "pids.max", "77"]),
        Row::new("linux/resources/network/classID")
            .set("/linux/resources/network/classID", json!(1_048_577))
            .cgroup(["net_cls", "net_cls.classid", "1048577"], ["", "", ""]),
        Row::new("linux/resources/unified/*")
            .at("linux/resources/unified/cgroup.max.depth")
            .set("/linux/resources/unified", json!({ "cgroup.max.depth": "3" }))
            .cgroup(["", "", ""], ["cgroup", "cgroup.max.depth", "3"]),
    ]);
    for property in ["linux/resources/network/priorities/*/name", "linux/resources/network/priorities/*/priority"] {
        rows.push(
            Row::new(property)
                .set("/linux/resources/network/priorities", json!([{ "name": "lo", "priority": 7 }]))
                .cgroup(["net_prio", "net_prio.ifpriomap", "lo 7"], ["", "", ""]),
        );
    }
    for property in ["linux/resources/hugepageLimits/*/pageSize", "linux/resources/hugepageLimits/*/limit"] {
        rows.push(
            Row::new(property)
                .set("/linux/resources/hugepageLimits", json!([{ "pageSize": "2MB", "limit": 8 * MIB }]))
                .look(|host, bundle| {
                    let files = ["hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max"];
                    let text = control_file(host, bundle, ["hugetlb", files[0]], ["hugetlb", files[1]])?;
                    equal(text.trim(), "8388608")
                }),
        );
    }
    for property in ["linux/resources/rdma/*/hcaHandles", "linux/resources/rdma/*/hcaObjects"] {
        rows.push(
            Row::new(property)
                .at(&property.replace('*', "mlx5_1"))
                .set("/linux/resources/rdma", json!({ "mlx5_1": { "hcaHandles": 3, "hcaObjects": 1000 } }))
                .cgroup(
                    ["rdma", "rdma.max", "mlx5_1 hca_handle=3 hca_object=1000"],
                    ["rdma", "rdma.max", "mlx5_1 hca_handle=3 hca_object=1000"],
                ),
        );
    }
    rows
}
