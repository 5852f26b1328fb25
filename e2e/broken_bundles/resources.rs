//! Bundles whose kernel settings cannot be: sysctl, seccomp, devices, cgroups.

use super::{Broken, Expect::*};
use harness::{Value, json};

pub(super) fn rows() -> Vec<Broken> {
    let row = |name, expect, make| Broken { name, expect, make };
    vec![
        row(
            "a sysctl is unknown",
            Refused(&["net.ipv4.no_such_thing"], "linux/sysctl/net.ipv4.no_such_thing"),
            |case| case.set("/linux/sysctl", json!({"net.ipv4.no_such_thing": "1"})),
        ),
        row("a sysctl of the whole host", Refused(&["kernel.panic"], "linux/sysctl/kernel.panic"), |case| {
            case.set("/linux/sysctl", json!({"kernel.panic": "0"}))
        }),
        row(
            "a sysctl of a namespace that is shared",
            Refused(&["net.ipv4.ip_default_ttl", "network"], "linux/sysctl/net.ipv4.ip_default_ttl"),
            |case| case.without_namespace("network").set("/linux/sysctl", json!({"net.ipv4.ip_default_ttl": "64"})),
        ),
        row("a sysctl that climbs", Refused(&["sysctl"], "linux/sysctl/net~1..~1kernel~1panic"), |case| {
            // The value that it has: where this is not refused, the host is not changed by the test.
            let value = std::fs::read_to_string("/proc/sys/kernel/panic").unwrap_or_default();
            case.set("/linux/sysctl", json!({"net/../kernel/panic": value.trim()}))
        }),
        row(
            "a sysctl's value is refused",
            Refused(&["net.ipv4.ip_default_ttl"], "linux/sysctl/net.ipv4.ip_default_ttl"),
            |case| case.set("/linux/sysctl", json!({"net.ipv4.ip_default_ttl": "many"})),
        ),
        row("a seccomp action is unknown", Refused(&["SCMP_ACT_SHRUG"], "linux/seccomp/defaultAction"), |case| {
            case.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_SHRUG"}))
        }),
        row(
            "a seccomp architecture is unknown",
            Refused(&["SCMP_ARCH_ABACUS"], "linux/seccomp/architectures/0"),
            |case| {
                case.set(
                    "/linux/seccomp",
                    json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_ABACUS"]}),
                )
            },
        ),
        row("a seccomp argument has index 6", Refused(&["6"], "linux/seccomp/syscalls/0/args/0/index"), |case| {
            case.set("/linux/seccomp", rule(json!({"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}), json!(1)))
        }),
        row(
            "a seccomp operator is unknown",
            Refused(&["SCMP_CMP_LIKE"], "linux/seccomp/syscalls/0/args/0/op"),
            |case| case.set("/linux/seccomp", rule(json!({"index": 0, "value": 0, "op": "SCMP_CMP_LIKE"}), json!(1))),
        ),
        row("a seccomp errno is above 4095", Refused(&["70000"], "linux/seccomp/syscalls/0/errnoRet"), |case| {
            case.set("/linux/seccomp", rule(json!({"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}), json!(70000)))
        }),
        row("a device's type is unknown", Refused(&["`x`"], "linux/devices/0/type"), |case| {
            case.set("/linux/devices", json!([{"path": "/dev/x", "type": "x", "major": 1, "minor": 3}]))
        }),
        row("a device's path is relative", Refused(&["\"dev/x\"", "absolute"], "linux/devices/0/path"), |case| {
            case.set("/linux/devices", json!([{"path": "dev/x", "type": "c", "major": 1, "minor": 3}]))
        }),
        row(
            "a device rule's access is unknown",
            Refused(&["access", "x"], "linux/resources/devices/1/access"),
            |case| {
                case.push(
                    "/linux/resources/devices",
                    json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwx"}),
                )
            },
        ),
        row("a memory limit is negative", Refused(&["-5"], "linux/resources/memory/limit"), |case| {
            case.set("/linux/resources/memory", json!({"limit": -5}))
        }),
        row("a memory limit is a string", Refused(&["invalid type: string"], "linux/resources/memory/limit"), |case| {
            case.set("/linux/resources/memory", json!({"limit": "64M"}))
        }),
        row("cpus is nonsense", Refused(&["one,two"], "linux/resources/cpu/cpus"), |case| {
            case.set("/linux/resources/cpu", json!({"cpus": "one,two"}))
        }),
        row("mems is a node that is not there", Refused(&["4000"], "linux/resources/cpu/mems"), |case| {
            case.set("/linux/resources/cpu", json!({"mems": "4000"}))
        }),
        row("cpu shares are negative", Refused(&["-1"], "linux/resources/cpu/shares"), |case| {
            case.set("/linux/resources/cpu", json!({"shares": -1}))
        }),
        row("a huge page size is nonsense", Refused(&["7XB"], "linux/resources/hugepageLimits/0/pageSize"), |case| {
            case.set("/linux/resources/hugepageLimits", json!([{"pageSize": "7XB", "limit": 0}]))
        }),
        row(
            "a unified key climbs",
            Refused(&["../cgroup.procs"], "linux/resources/unified/..~1cgroup.procs"),
            |case| case.set("/linux/resources/unified", json!({"../cgroup.procs": "1"})),
        ),
        row("the cgroup's name has 300 bytes", Refused(&["too long"], "linux/cgroupsPath"), |case| {
            case.set("/linux/cgroupsPath", json!(format!("/{}", "c".repeat(300))))
        }),
        row("intelRdt without resctrl", Refused(&["intelRdt"], "linux/intelRdt"), |case| {
            case.set("/linux/intelRdt", json!({"closID": "group", "l3CacheSchema": "L3:0=f"}))
        }),
        row("a personality is unknown", Refused(&["LINUX128"], "linux/personality/domain"), |case| {
            case.set("/linux/personality", json!({"domain": "LINUX128"}))
        }),
    ]
}

fn rule(arg: Value, errno: Value) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": [arg]}]
    })
}
