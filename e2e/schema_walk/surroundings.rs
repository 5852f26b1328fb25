//! `linux`: namespaces, devices, paths, and what the kernel keeps for a process.

use super::mounts::mapped;
use super::row::{Row, equal};
use harness::{Stop, ensure, json};

fn device(property: &'static str, look: fn(&harness::Report) -> harness::Outcome) -> Row {
    Row::new(property)
        .payload(&["lstat", "/dev/cargo"])
        .set(
            "/linux/devices",
            json!([{ "path": "/dev/cargo", "type": "c", "major": 1, "minor": 11, "fileMode": 0o640, "uid": 7, "gid": 8 }]),
        )
        .lines(move |lines| look(&lines[0]))
}

fn offset(property: &'static str) -> Row {
    Row::new(property)
        .edit(|_, bundle| {
            let offsets = json!({
                "monotonic": { "secs": 1000, "nanosecs": 5 }, "boottime": { "secs": 2000, "nanosecs": 6 },
            });
            Ok(bundle.namespace("time", None).set("/linux/timeOffsets", offsets))
        })
        .lines(move |lines| {
            let words: Vec<&str> = lines[0].text("/time_offsets").split_whitespace().collect();
            let clock = if property.contains("monotonic") { "monotonic" } else { "boottime" };
            let index = if property.ends_with("nanosecs") { 2 } else { 1 };
            let expected = match (clock, index) {
                ("monotonic", 1) => "1000",
                ("monotonic", _) => "5",
                (_, 1) => "2000",
                _ => "6",
            };
            let found = words.chunks(3).find(|chunk| chunk[0] == clock).map(|chunk| chunk[index]);
            equal(found, Some(expected))
        })
}

pub(super) fn rows() -> Vec<Row> {
    let own = |name: &str| -> Result<String, Stop> {
        Ok(std::fs::read_link(format!("/proc/self/ns/{name}"))?.to_string_lossy().into_owned())
    };
    let mut rows = vec![
        device("linux/devices/*/type", |stat| equal(stat.text("/kind"), "char")),
        device("linux/devices/*/path", |stat| equal(stat.errno(), "")),
        device("linux/devices/*/fileMode", |stat| equal(stat.text("/mode"), "640")),
        device("linux/devices/*/major", |stat| equal(&stat["major"], &json!(1))),
        device("linux/devices/*/minor", |stat| equal(&stat["minor"], &json!(11))),
        device("linux/devices/*/uid", |stat| equal(&stat["uid"], &json!(7))),
        device("linux/devices/*/gid", |stat| equal(&stat["gid"], &json!(8))),
        Row::new("linux/netDevices/*/name")
            .at("linux/netDevices/eth7/name")
            .set("/linux/netDevices", json!({ "eth7": { "name": "berth0" } })),
        mapped("linux/uidMappings/*/containerID"),
        mapped("linux/uidMappings/*/hostID"),
        mapped("linux/uidMappings/*/size"),
        mapped("linux/gidMappings/*/containerID"),
        mapped("linux/gidMappings/*/hostID"),
        mapped("linux/gidMappings/*/size"),
        Row::new("linux/namespaces/*/type")
            .at("linux/namespaces/5/type")
            .edit(|_, bundle| Ok(bundle.namespace("cgroup", None)))
            .lines(move |lines| {
                ensure!(lines[0].text("/namespaces/cgroup") != own("cgroup")?, "it is the caller's");
                Ok(())
            }),
        Row::new("linux/namespaces/*/path")
            .at("linux/namespaces/4/path")
            // The caller's own, which is another than a new one; there the hostname is not the container's to set.
            .edit(|_, bundle| Ok(bundle.remove("/hostname").namespace("uts", Some("/proc/self/ns/uts"))))
            .lines(move |lines| equal(lines[0].text("/namespaces/uts").to_owned(), own("uts")?)),
        Row::new("linux/cgroupsPath")
            .edit(|_, bundle| {
                let path = format!("/{}/berth", bundle.id());
                Ok(bundle.set("/linux/cgroupsPath", json!(path)))
            })
            .look(|host, bundle| {
                let report = host.report(bundle)?;
                let path = format!("/{}/berth", bundle.id());
                ensure!(report.text("/cgroup").contains(&path), "{}", report["cgroup"]);
                Ok(())
            }),
        Row::new("linux/rootfsPropagation").set("/linux/rootfsPropagation", json!("shared")).lines(|lines| {
            let root = lines[0].mount("/");
            ensure!(root.text("/propagation").contains("shared:"), "{root:?}");
            Ok(())
        }),
        Row::new("linux/sysctl/*")
            .at("linux/sysctl/net.ipv4.ip_default_ttl")
            .payload(&["read", "/proc/sys/net/ipv4/ip_default_ttl"])
            .set("/linux/sysctl", json!({ "net.ipv4.ip_default_ttl": "77" }))
            .lines(|lines| equal(lines[0].text("/text"), "77\n")),
        Row::new("linux/maskedPaths")
            .payload(&["read", "/etc/passwd"])
            .set("/linux/maskedPaths", json!(["/etc/passwd"]))
            .lines(|lines| equal(&lines[0]["text"], &json!(""))),
        Row::new("linux/readonlyPaths")
            .payload(&["touch", "/var/new"])
            .set("/linux/readonlyPaths", json!(["/var"]))
            .lines(|lines| equal(lines[0].errno(), "EROFS")),
        Row::new("linux/mountLabel").set("/linux/mountLabel", json!("system_u:object_r:container_file_t:s0")),
        Row::new("linux/memoryPolicy/mode")
            .set("/linux/memoryPolicy", json!({ "mode": "MPOL_LOCAL" }))
            .report("/memory_policy", json!("local")),
        Row::new("linux/memoryPolicy/nodes")
            .set("/linux/memoryPolicy", json!({ "mode": "MPOL_INTERLEAVE", "nodes": "0" }))
            .report("/memory_policy", json!("interleave:0")),
        Row::new("linux/memoryPolicy/flags")
            .set("/linux/memoryPolicy", json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] }))
            .report("/memory_policy", json!("bind=static:0")),
        Row::new("linux/personality/domain")
            .set("/linux/personality", json!({ "domain": "LINUX32" }))
            .report("/personality", json!("00000008")),
        Row::new("linux/personality/flags")
            .set("/linux/personality", json!({ "domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"] })),
        offset("linux/timeOffsets/boottime/secs"),
        offset("linux/timeOffsets/boottime/nanosecs"),
        offset("linux/timeOffsets/monotonic/secs"),
        offset("linux/timeOffsets/monotonic/nanosecs"),
    ];
    for (property, value) in [
        ("linux/intelRdt/closID", json!("berth")),
        ("linux/intelRdt/schemata", json!(["L3:0=f"])),
        ("linux/intelRdt/l3CacheSchema", json!("L3:0=f")),
        ("linux/intelRdt/memBwSchema", json!("MB:0=50")),
        ("linux/intelRdt/enableMonitoring", json!(true)),
    ] {
        let pointer = format!("/{property}");
        rows.push(Row::new(property).edit(move |_, bundle| Ok(bundle.set(&pointer, value.clone()))));
    }
    rows
}
