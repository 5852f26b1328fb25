//! `update`: which limits the other program changes. runc reads more of linux.resources than it acts on.

use crate::child::Call;
use crate::help::Help;
use crate::memory::Memory;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use wharf_core::{Bundle, Record, Result};

/// Properties that have an option of their own: a program that acts on one has the option.
const OPTIONS: &[(&str, &str)] = &[
    ("blockIO/weight", "blkio-weight"),
    ("cpu/burst", "cpu-burst"),
    ("cpu/cpus", "cpuset-cpus"),
    ("cpu/idle", "cpu-idle"),
    ("cpu/mems", "cpuset-mems"),
    ("cpu/period", "cpu-period"),
    ("cpu/quota", "cpu-quota"),
    ("cpu/realtimePeriod", "cpu-rt-period"),
    ("cpu/realtimeRuntime", "cpu-rt-runtime"),
    ("cpu/shares", "cpu-share"),
    ("memory/kernel", "kernel-memory"),
    ("memory/kernelTCP", "kernel-memory-tcp"),
    ("memory/limit", "memory"),
    ("memory/reservation", "memory-reservation"),
    ("memory/swap", "memory-swap"),
    ("pids/limit", "pids-limit"),
];

const INSTEAD: &str = "write to the files of its cgroup, or use the native backend";

/// Refuses what the program would not change. A value that the container was made with is none to change: engines send
/// all that they know.
pub(crate) fn judge(backend: &str, memory: &Memory, record: &Record, asked: &Value, limit: Duration) -> Result<()> {
    let wanted = properties(asked);
    if wanted.is_empty() {
        return Ok(());
    }
    let help = Help::ask(backend, &memory.program, "update", 0, limit)?;
    let mut without_option = None;
    for (place, value) in wanted {
        let option = OPTIONS.iter().find(|(property, _)| *property == place).map(|(_, option)| *option);
        let acts = match option {
            Some(option) => help.has(option),
            None if place == "unified" => true,
            None => match without_option {
                Some(acts) => acts,
                None => *without_option.insert(!is_runc(&memory.program, limit)?),
            },
        };
        if acts || made_with(record, &place).as_ref() == Some(value) {
            continue;
        }
        let what = option.map_or_else(|| format!("of {place}"), |option| format!("--{option}"));
        return help.refuse(&what, INSTEAD).map_err(|error| error.at(format!("linux/resources/{place}")));
    }
    Ok(())
}

/// The places of all that is asked, below linux/resources: of the objects with options each property, else the section.
fn properties(asked: &Value) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    for (section, value) in asked.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::Object(properties) if section != "unified" => {
                let set = properties.iter().filter(|(_, value)| !value.is_null());
                found.extend(set.map(|(name, value)| (format!("{section}/{name}"), value)));
            }
            _ => found.push((section.clone(), value)),
        }
    }
    found
}

/// The same property as config.json has it, in the same words.
fn made_with(record: &Record, place: &str) -> Option<Value> {
    let bundle = Bundle::open(Path::new(&record.bundle)).ok()?;
    let resources = bundle.spec.linux().as_ref()?.resources().as_ref()?;
    serde_json::to_value(resources).ok()?.pointer(&format!("/{place}")).cloned()
}

/// runc acts on properties with options, and on `unified`; crun and youki on all.
fn is_runc(program: &Path, limit: Duration) -> Result<bool> {
    let finished =
        Call::bare(program).args(["--version"]).capture("ask for the version of the runtime", Some(limit))?;
    Ok(finished.stdout.starts_with(b"runc "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_asked_is_found_property_by_property() {
        let asked = json!({"cpu": {"burst": 5, "quota": null}, "pids": null, "unified": {"a.b": "1"}, "devices": []});
        let found: Vec<String> = properties(&asked).into_iter().map(|(place, _)| place).collect();
        assert_eq!(found, ["cpu/burst", "devices", "unified"]);
    }
}
