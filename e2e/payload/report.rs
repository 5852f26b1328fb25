//! Everything a process can learn about itself, from the kernel.

use serde_json::{Map, Value, json};
use std::fs;
use std::os::fd::AsRawFd;

/// The whole report: what a container's first process sees.
pub(crate) fn everything() -> Value {
    let status = status();
    json!({
        "pid": std::process::id(),
        "ppid": nix::unistd::getppid().as_raw(),
        "sid": nix::unistd::getsid(None).map(|pid| pid.as_raw()).unwrap_or(-1),
        "pgid": nix::unistd::getpgrp().as_raw(),
        "args": std::env::args().collect::<Vec<_>>(),
        "env": std::env::vars().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
        "cwd": std::env::current_dir().map(|dir| dir.to_string_lossy().into_owned()).ok(),
        "hostname": text("/proc/sys/kernel/hostname").or_else(hostname),
        "domainname": text("/proc/sys/kernel/domainname"),
        "umask": status["Umask"],
        "uid": numbers(&status["Uid"]),
        "gid": numbers(&status["Gid"]),
        "groups": numbers(&status["Groups"]),
        "capabilities": {
            "effective": status["CapEff"],
            "permitted": status["CapPrm"],
            "inheritable": status["CapInh"],
            "bounding": status["CapBnd"],
            "ambient": status["CapAmb"],
        },
        "no_new_privileges": status["NoNewPrivs"],
        "seccomp": status["Seccomp"],
        "seccomp_filters": status["Seccomp_filters"],
        "signals": {
            "blocked": status["SigBlk"],
            "ignored": status["SigIgn"],
            "caught": status["SigCgt"],
            "pending": status["ShdPnd"],
        },
        "threads": status["Threads"],
        "fds": fds(),
        "rlimits": rlimits(),
        "oom_score_adj": text("/proc/self/oom_score_adj"),
        "personality": text("/proc/self/personality"),
        "cgroup": text("/proc/self/cgroup"),
        "uid_map": text("/proc/self/uid_map"),
        "gid_map": text("/proc/self/gid_map"),
        "setgroups": text("/proc/self/setgroups"),
        "namespaces": namespaces(),
        "mounts": mounts(),
        "root": names("/"),
        "dev": names("/dev"),
        "label": text("/proc/self/attr/current"),
        "time_offsets": text("/proc/self/timens_offsets"),
        "session_keyring": keyring(),
        "interfaces": names("/sys/class/net").or_else(interfaces_by_proc),
        "scheduler": text("/proc/self/sched").and_then(|sched| policy(&sched)),
        "affinity": status["Cpus_allowed_list"],
        "memory_nodes": status["Mems_allowed_list"],
        "memory_policy": text("/proc/self/numa_maps").and_then(|maps| maps.split_whitespace().nth(1).map(str::to_owned)),
        "dumpable_exe": fs::read_link("/proc/self/exe").map(|path| path.to_string_lossy().into_owned()).ok(),
    })
}

/// /proc/self/status as a map of strings.
fn status() -> Map<String, Value> {
    let mut map = Map::new();
    for line in fs::read_to_string("/proc/self/status").unwrap_or_default().lines() {
        if let Some((name, value)) = line.split_once(':') {
            map.insert(name.to_owned(), json!(value.trim()));
        }
    }
    for name in WANTED {
        map.entry(name.to_string()).or_insert(Value::Null);
    }
    map
}

/// Lines of /proc/self/status that the report takes over: null where the kernel has none, or /proc is missing.
const WANTED: &[&str] = &[
    "Umask",
    "Uid",
    "Gid",
    "Groups",
    "CapEff",
    "CapPrm",
    "CapInh",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
    "SigBlk",
    "SigIgn",
    "SigCgt",
    "ShdPnd",
    "Threads",
    "Cpus_allowed_list",
    "Mems_allowed_list",
];

fn text(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim_end_matches(['\n', '\0']).to_owned())
}

fn hostname() -> Option<String> {
    nix::unistd::gethostname().ok().map(|name| name.to_string_lossy().into_owned())
}

fn numbers(value: &Value) -> Vec<u32> {
    value.as_str().unwrap_or_default().split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

fn names(dir: &str) -> Option<Vec<String>> {
    let mut names: Vec<String> =
        fs::read_dir(dir).ok()?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Some(names)
}

fn interfaces_by_proc() -> Option<Vec<String>> {
    let table = fs::read_to_string("/proc/self/net/dev").ok()?;
    Some(table.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect())
}

fn policy(sched: &str) -> Option<String> {
    let line = sched.lines().find(|line| line.starts_with("policy"))?;
    Some(line.rsplit(':').next()?.trim().to_owned())
}

/// Open descriptors and what they point to, without the one that reads them.
fn fds() -> Option<Map<String, Value>> {
    let dir = fs::File::open("/proc/self/fd").ok()?;
    let own = dir.as_raw_fd();
    let mut map = Map::new();
    for entry in fs::read_dir("/proc/self/fd").ok()?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let target = fs::read_link(entry.path()).map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        let ours = name == own.to_string() || (target.starts_with("/proc/") && target.ends_with("/fd"));
        if !ours {
            map.insert(name, json!(target));
        }
    }
    Some(map)
}

/// Name of the limit as in /proc/self/limits, with its soft and hard value.
fn rlimits() -> Map<String, Value> {
    let mut map = Map::new();
    for line in fs::read_to_string("/proc/self/limits").unwrap_or_default().lines().skip(1) {
        if line.len() < 26 {
            continue;
        }
        let mut values = line[26..].split_whitespace();
        let (soft, hard) = (values.next(), values.next());
        map.insert(line[..26].trim().to_owned(), json!([soft, hard]));
    }
    map
}

fn namespaces() -> Map<String, Value> {
    let mut map = Map::new();
    for entry in fs::read_dir("/proc/self/ns").into_iter().flatten().flatten() {
        if let Ok(target) = fs::read_link(entry.path()) {
            map.insert(entry.file_name().to_string_lossy().into_owned(), json!(target.to_string_lossy()));
        }
    }
    map
}

/// /proc/self/mountinfo, one object a line.
fn mounts() -> Vec<Value> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let left: Vec<&str> = left.split(' ').collect();
            let right: Vec<&str> = right.split(' ').collect();
            Some(json!({
                "id": left[0],
                "parent": left[1],
                "device": left[2],
                "root": left[3],
                "target": left[4].replace("\\040", " "),
                "options": left[5].split(',').collect::<Vec<_>>(),
                "propagation": left[6..].join(" "),
                "type": right.first()?,
                "source": right.get(1)?,
                "super": right.get(2)?.split(',').collect::<Vec<_>>(),
            }))
        })
        .collect()
}

/// Serial number of the session keyring, without making one; null where there is none or keys are not allowed.
fn keyring() -> Value {
    const KEYCTL_GET_KEYRING_ID: i64 = 0;
    const KEY_SPEC_SESSION_KEYRING: i64 = -3;
    match wharf_sys::probe::call("keyctl", [KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0, 0, 0]) {
        Some(Ok(serial)) => json!(serial),
        _ => Value::Null,
    }
}

/// The same for a person: what the demo prints.
pub(crate) fn show() {
    let report = everything();
    let word = |pointer: &str| report.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
    println!("pid          {}  (parent {})", report["pid"], report["ppid"]);
    println!("user         uid {}  gid {}  groups {}", report["uid"][1], report["gid"][1], report["groups"]);
    println!("hostname     {}", word("/hostname"));
    println!("domainname   {}", word("/domainname"));
    println!("directory    {}", word("/cwd"));
    println!("environment  {}", join(&report["env"]));
    println!("files in /   {}", join(&report["root"]));
    println!("files in /dev {}", join(&report["dev"]));
    println!(
        "descriptors  {}",
        report["fds"].as_object().map(|map| map.keys().cloned().collect::<Vec<_>>().join(" ")).unwrap_or_default()
    );
    println!("capabilities effective {}  bounding {}", word("/capabilities/effective"), word("/capabilities/bounding"));
    println!("             {}", capability_names(&word("/capabilities/effective")));
    println!("new privileges {}", if word("/no_new_privileges") == "1" { "never" } else { "possible" });
    println!(
        "seccomp      {}",
        match word("/seccomp").as_str() {
            "0" => "none",
            "2" => "filter",
            _ => "?",
        }
    );
    println!("oom score    {}", word("/oom_score_adj"));
    println!("limits");
    for (name, values) in report["rlimits"].as_object().into_iter().flatten() {
        if ["Max open files", "Max processes", "Max core file size"].contains(&name.as_str()) {
            println!("  {name:<20} {} / {}", values[0].as_str().unwrap_or("-"), values[1].as_str().unwrap_or("-"));
        }
    }
    for (what, places) in CGROUP_LIMITS {
        if let Some(value) = places.iter().find_map(|place| text(place)) {
            println!("  {what:<20} {value}");
        }
    }
    println!("cgroup");
    word("/cgroup").lines().for_each(|line| println!("  {line}"));
    println!("namespaces");
    for (name, value) in report["namespaces"].as_object().into_iter().flatten() {
        if !name.ends_with("_for_children") {
            println!("  {}", value.as_str().unwrap_or("-"));
        }
    }
    println!("mounts");
    for mount in report["mounts"].as_array().into_iter().flatten() {
        let target = mount["target"].as_str().unwrap_or("-");
        println!("  {target:<24} {:<10} {}", mount["type"].as_str().unwrap_or("-"), join(&mount["options"]));
    }
}

fn join(list: &Value) -> String {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
}

/// Limits of the own cgroup, where a cgroup mount shows them: v2, v1.
const CGROUP_LIMITS: [(&str, [&str; 2]); 2] = [
    ("memory (bytes)", ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]),
    ("processes", ["/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max"]),
];

/// Capabilities in the order of their numbers (linux/capability.h).
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

fn capability_names(mask: &str) -> String {
    let mask = u64::from_str_radix(mask, 16).unwrap_or(0);
    let held: Vec<&str> =
        CAPABILITIES.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1).map(|(_, name)| *name).collect();
    if held.is_empty() { "none".to_owned() } else { held.join(" ") }
}
