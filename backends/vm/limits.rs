//! Changes of limits: the processors' time and weights are of QEMU's cgroup on this host, the others of the guest's.

use crate::PATIENCE;
use crate::host::control::{self, Request};
use crate::reduce::{MIB, RESERVE, of_the_host};
use serde_json::{Map, Value};
use std::os::fd::BorrowedFd;
use wharf_cgroup::Update;
use wharf_core::{Error, LinuxResources, Record, Result, parse_resources};

pub(crate) fn update(record: &Record, dir: BorrowedFd<'_>, resources: LinuxResources) -> Result<()> {
    let private = record.private.value();
    let number = |key: &str| private.get(key).and_then(Value::as_u64).unwrap_or_default();
    let value = serde_json::to_value(&resources).map_err(|error| Error::invalid("read the limits").because(error))?;
    let (host, guest) = divide(value, number("memory"), number("cpus"))?;
    let update = match host {
        Some(host) => Some(Update::new(&record.cgroup, parse_resources(host.as_bytes(), "the limits")?)?),
        None => None,
    };
    let has_guest = guest.is_some();
    if let Some(resources) = guest {
        control::ask(record, dir, &Request::Update { resources }, PATIENCE)?;
    }
    match update.map(|update| update.apply(0)) {
        Some(Err(error)) if has_guest => Err(error.hint("the guest's limits have been changed")),
        Some(Err(error)) => Err(error),
        _ => Ok(()),
    }
}

/// What is the host's and what is the guest's, as JSON. `memory` is the machine's in MiB, `cpus` are its processors.
fn divide(mut value: Value, memory: u64, cpus: u64) -> Result<(Option<String>, Option<String>)> {
    let refuse = |what: String, why: String, at: &str| {
        Err(Error::unsupported(format!("{what} of a virtual machine")).because(why).at(at))
    };
    let Some(all) = value.as_object_mut() else { return Ok((None, None)) };
    all.retain(|_, value| !is_nothing(value));
    for (key, why) in [
        ("rdma", "its devices are the host's"),
        ("network", "its interfaces are the host's"),
        ("hugepageLimits", "its pages are the host's"),
    ] {
        if all.contains_key(key) {
            return refuse(key.to_owned(), why.to_owned(), key);
        }
    }
    if let Some(limit) = all.get("memory").and_then(|memory| memory.get("limit")).and_then(Value::as_u64)
        && limit.div_ceil(MIB) + RESERVE > memory
    {
        let why = format!("the machine was made with {memory} MiB, of which its kernel has {RESERVE}");
        return refuse(format!("a limit of {limit} bytes"), why, "memory/limit");
    }
    let host: Map<String, Value> = of_the_host(all);
    if let Some(io) = host.get("blockIO").and_then(Value::as_object)
        && let Some(key) =
            io.iter().find(|(key, value)| key.as_str() != "weight" && !is_nothing(value)).map(|(key, _)| key)
    {
        return refuse(key.clone(), "its devices are the host's".to_owned(), &format!("blockIO/{key}"));
    }
    let cpu =
        |key: &str| host.get("cpu").and_then(|cpu| cpu.get(key)).and_then(Value::as_u64).filter(|number| *number > 0);
    if let Some(quota) = cpu("quota")
        && let wanted = quota.div_ceil(cpu("period").unwrap_or(100_000))
        && wanted > cpus
    {
        return refuse(format!("{wanted} processors"), format!("the machine was made with {cpus}"), "cpu/quota");
    }
    let written = |map: &Map<String, Value>| (!map.is_empty()).then(|| Value::Object(map.clone()).to_string());
    Ok((written(&host), written(all)))
}

/// A field that nobody has asked for.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(is_nothing),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn time_is_the_host_s_and_the_rest_the_guest_s_and_what_the_machine_has_not_is_refused() {
        let both =
            json!({"cpu": {"quota": 50_000}, "pids": {"limit": 9}, "memory": {"limit": 384 * MIB}, "devices": []});
        let (host, guest) = divide(both, 512, 1).unwrap();
        assert_eq!(host.unwrap(), r#"{"cpu":{"quota":50000}}"#);
        assert_eq!(guest.unwrap(), r#"{"memory":{"limit":402653184},"pids":{"limit":9}}"#);
        assert_eq!(divide(json!({"memory": {"limit": -1}}), 512, 1).unwrap().0, None);
        for (value, at) in [
            (json!({"memory": {"limit": 385 * MIB}}), "memory/limit"),
            (json!({"cpu": {"quota": 150_000}}), "cpu/quota"),
            (
                json!({"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}]}}),
                "blockIO/throttleReadBpsDevice",
            ),
            (json!({"rdma": {"mlx": {"hcaHandles": 1}}}), "rdma"),
        ] {
            assert_eq!(divide(value, 512, 1).unwrap_err().pointer(), Some(at));
        }
    }
}
