//! `process`: what the payload is.

use super::row::{Row, equal, traced};
use crate::terminal;
use harness::{Report, Stop, ensure, json};

/// A field of /proc/self/stat (proc_pid_stat(5)), counted from 1.
fn stat_field(line: &Report, number: usize) -> i64 {
    let fields = line.text("/text").rsplit_once(") ").map_or("", |(_, fields)| fields);
    fields.split(' ').nth(number - 3).and_then(|field| field.trim().parse().ok()).unwrap_or(i64::MIN)
}

/// Scheduling attributes as /proc/self/sched tells them.
fn sched(line: &Report, name: &str) -> String {
    let found = line.text("/text").lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name));
    found.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value).trim().to_owned()
}

/// A user who may choose any policy, in a cgroup that has realtime where cgroups give it (CONFIG_RT_GROUP_SCHED).
fn scheduled(row: Row, words: &'static [&'static str]) -> Row {
    row.payload(words).beside(|host, bundle| {
        let grants = host.controller_dir("cpu").is_some_and(|dir| dir.join("cpu.rt_runtime_us").exists());
        Ok(match grants {
            true => bundle.set("/linux/resources/cpu/realtimeRuntime", json!(100_000)),
            false => bundle,
        })
    })
}

fn capability(property: &'static str, pointer: &'static str, shown: &'static str) -> Row {
    // CAP_CHOWN and CAP_KILL; a set may only hold what the ones that it rests on hold.
    Row::new(property)
        .beside(|_, bundle| Ok(bundle.set("/process/capabilities", json!({}))))
        .edit(move |_, bundle| {
            let beside: &[&str] = match pointer {
                "/process/capabilities/effective" => &["bounding", "permitted"],
                "/process/capabilities/ambient" => &["bounding", "permitted", "inheritable"],
                "/process/capabilities/bounding" => &[],
                _ => &["bounding"],
            };
            let names = ["CAP_CHOWN", "CAP_KILL"];
            Ok(bundle.capabilities(beside, &names).set(pointer, json!(names)))
        })
        .lines(move |lines| equal(lines[0].mask(shown), 1 << 5 | 1))
}

/// The size that the payload's terminal has: rows, columns.
fn console(property: &'static str, seen: &'static str) -> Row {
    Row::new(property)
        .payload(&["window"])
        .beside(|_, bundle| Ok(bundle.set("/process/terminal", json!(true))))
        .set("/process/consoleSize", json!({ "height": 31, "width": 117 }))
        .look(move |host, bundle| {
            let (container, mut screen) = terminal::create(host, bundle, &[])?;
            container.start()?;
            screen.wait_for(seen)
        })
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = vec![
        Row::new("process/args")
            .set("/process/args", json!(["/bin/payload", "say", "ä"]))
            .lines(|lines| equal(&lines[0]["said"], &json!(["ä"]))),
        Row::new("process/commandLine").set("/process/commandLine", json!("payload.exe say")),
        Row::new("process/cwd").set("/process/cwd", json!("/var")).report("/cwd", json!("/var")),
        Row::new("process/env").set("/process/env", json!(["COLOUR=blue"])).lines(|lines| {
            ensure!(lines[0].list("/env").contains(&"COLOUR=blue"), "{}", lines[0]["env"]);
            ensure!(!lines[0].list("/env").iter().any(|one| one.starts_with("PATH=")), "{}", lines[0]["env"]);
            Ok(())
        }),
        Row::new("process/terminal").payload(&["report"]).set("/process/terminal", json!(true)).look(|host, bundle| {
            ensure!(bundle.config["process"]["terminal"] == true, "no terminal is asked for");
            let (container, mut screen) = terminal::create(host, bundle, &[])?;
            container.start()?;
            equal(screen.line()?["fds"]["0"].as_str(), Some("/dev/pts/0"))
        }),
        console("process/consoleSize/height", "[31,"),
        console("process/consoleSize/width", ",117]"),
        Row::new("process/user/uid")
            .set("/process/user/uid", json!(1234))
            .report("/uid", json!([1234, 1234, 1234, 1234])),
        Row::new("process/user/gid")
            .set("/process/user/gid", json!(5678))
            .report("/gid", json!([5678, 5678, 5678, 5678])),
        Row::new("process/user/umask").set("/process/user/umask", json!(0o27)).report("/umask", json!("0027")),
        Row::new("process/user/additionalGids")
            .set("/process/user/additionalGids", json!([7, 4_000_000]))
            .report("/groups", json!([7, 4_000_000])),
        Row::new("process/user/username").set("/process/user/username", json!("sailor")),
        capability("process/capabilities/bounding", "/process/capabilities/bounding", "/capabilities/bounding"),
        capability("process/capabilities/permitted", "/process/capabilities/permitted", "/capabilities/permitted"),
        capability("process/capabilities/effective", "/process/capabilities/effective", "/capabilities/effective"),
        capability(
            "process/capabilities/inheritable",
            "/process/capabilities/inheritable",
            "/capabilities/inheritable",
        ),
        capability("process/capabilities/ambient", "/process/capabilities/ambient", "/capabilities/ambient"),
        Row::new("process/apparmorProfile").set("/process/apparmorProfile", json!("unconfined")).look(
            |host, bundle| {
                equal(host.report(bundle)?.text("/label"), "unconfined")?;
                Err(Stop::skipped("no profile is loaded for this row; `apparmor` has trials with one"))
            },
        ),
        Row::new("process/selinuxLabel").set("/process/selinuxLabel", json!("system_u:system_r:container_t:s0")),
        Row::new("process/oomScoreAdj").set("/process/oomScoreAdj", json!(321)).report("/oom_score_adj", json!("321")),
        Row::new("process/noNewPrivileges")
            .set("/process/noNewPrivileges", json!(false))
            .report("/no_new_privileges", json!("0")),
    ];
    // ioprio_get(2) of oneself: the class above bit 13.
    for property in ["process/ioPriority/class", "process/ioPriority/priority"] {
        rows.push(
            Row::new(property)
                .payload(&["syscall", "ioprio_get", "1", "0"])
                .set("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_BE", "priority": 3 }))
                .lines(move |lines| {
                    let value = lines[0]["result"].as_i64().unwrap_or(-1);
                    match property.ends_with("class") {
                        true => equal(value >> 13, 2),
                        false => equal(value & 0x1fff, 3),
                    }
                }),
        );
    }
    for property in ["process/rlimits/*/hard", "process/rlimits/*/soft", "process/rlimits/*/type"] {
        let (name, expected) = ("/rlimits/Max open files", ["77", "99"]);
        rows.push(
            Row::new(property)
                .set("/process/rlimits", json!([{ "type": "RLIMIT_NOFILE", "soft": 77, "hard": 99 }]))
                .lines(move |lines| {
                    let seen = &lines[0].0.pointer(name).cloned().unwrap_or_default();
                    match property.rsplit('/').next() {
                        Some("hard") => equal(&seen[1], &json!(expected[1])),
                        Some("soft") => equal(&seen[0], &json!(expected[0])),
                        _ => equal(seen, &json!(expected)),
                    }
                }),
        );
    }
    for (property, name) in [("process/execCPUAffinity/initial", "initial"), ("process/execCPUAffinity/final", "final")]
    {
        rows.push(Row::new(property).payload(&["sleep"]).set("/process/execCPUAffinity", json!({ name: "0" })).look(
            |host, bundle| {
                let container = host.start(bundle)?;
                let [joined] = container.exec_lines(&[], &["report"])?;
                container.delete_force()?;
                equal(joined.text("/affinity"), "0")
            },
        ));
    }
    rows.extend(schedulers());
    rows
}

fn schedulers() -> Vec<Row> {
    const SHOW: &[&str] = &["read", "/proc/self/sched"];
    let deadline = json!({
        "policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 20_000_000, "period": 30_000_000,
    });
    let mut rows = vec![
        scheduled(Row::new("process/scheduler/policy"), SHOW)
            .set("/process/scheduler", json!({ "policy": "SCHED_BATCH" }))
            .lines(|lines| equal(sched(&lines[0], "policy"), "3")),
        scheduled(Row::new("process/scheduler/nice"), &["read", "/proc/self/stat"])
            .set("/process/scheduler", json!({ "policy": "SCHED_OTHER", "nice": 7 }))
            .lines(|lines| equal(stat_field(&lines[0], 19), 7)),
        scheduled(Row::new("process/scheduler/priority"), &["read", "/proc/self/stat"])
            .set("/process/scheduler", json!({ "policy": "SCHED_FIFO", "priority": 11 }))
            .lines(|lines| equal(stat_field(&lines[0], 40), 11)),
        // A child of it is an ordinary process again.
        scheduled(Row::new("process/scheduler/flags"), &["report", ";", "spawn", "/bin/payload", "report"])
            .set(
                "/process/scheduler",
                json!({ "policy": "SCHED_FIFO", "priority": 1, "flags": ["SCHED_FLAG_RESET_ON_FORK"] }),
            )
            .lines(|lines| {
                let child: harness::Value = serde_json::from_str(lines[1].text("/stdout"))?;
                equal((lines[0].text("/scheduler"), &child["scheduler"]), ("1", &json!("0")))
            }),
    ];
    for (property, expected) in [
        ("process/scheduler/runtime", "sched_runtime=1000000"),
        ("process/scheduler/deadline", "sched_deadline=20000000"),
        ("process/scheduler/period", "sched_period=30000000"),
    ] {
        rows.push(scheduled(Row::new(property), SHOW).set("/process/scheduler", deadline.clone()).look(
            move |host, bundle| {
                let lines = host.run_well(bundle)?.lines()?;
                equal(sched(&lines[0], "policy"), "6")?;
                let calls = traced(host, bundle, "sched_setattr")?;
                ensure!(calls.contains(expected), "{calls}");
                Err(Stop::skipped("it stands in no file of the kernel's; the policy does, and sched_setattr(2) got it"))
            },
        ));
    }
    rows
}
