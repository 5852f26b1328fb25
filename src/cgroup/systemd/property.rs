//! Properties of a unit: those that annotations ask for, and those that limits are to systemd.
//!
//! systemd writes the control files of a unit again whenever it likes (`systemctl daemon-reload`), by what it knows of the
//! unit. A limit that it is not told of does not last.

use super::gvariant;
use super::value::Value;
use crate::wanted::{Missing, Write};
use wharf_core::{Error, Result, annotations};

/// One property with its value (org.freedesktop.systemd1(5)).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Property {
    pub(crate) name: String,
    pub(crate) value: Value,
}

impl Property {
    pub(super) fn new(name: &str, value: Value) -> Property {
        Property { name: name.to_owned(), value }
    }

    pub(super) fn to_value(&self) -> Value {
        Value::Tuple(vec![Value::Text(self.name.clone()), Value::Variant(Box::new(self.value.clone()))])
    }
}

/// Adds properties to those before; of two of one name the later is taken.
pub(super) fn merge(all: &mut Vec<Property>, more: impl IntoIterator<Item = Property>) {
    for one in more {
        match all.iter_mut().find(|other| other.name == one.name) {
            Some(other) => *other = one,
            None => all.push(one),
        }
    }
}

/// What makes a unit a container's: an annotation cannot ask for another.
const OWN: [&str; 3] = ["Delegate", "PIDs", "Slice"];

/// `org.systemd.property.NAME`, in order of the names. As with runc a NAME in `Sec` is seconds, and the property is in
/// microseconds.
pub(crate) fn of_annotations<'a>(all: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Vec<Property>> {
    let mut found = Vec::new();
    for (key, text) in all {
        let Some(name) = key.strip_prefix(annotations::SYSTEMD_PROPERTY) else { continue };
        let wrong = |why: &str| Error::invalid(format!("annotation {key}")).because(why).at(annotations::pointer(key));
        if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return Err(wrong("the name of a property has three letters at least, and nothing else"));
        }
        if OWN.contains(&name) {
            return Err(Error::unsupported(format!("annotation {key}"))
                .because("wharf itself sets that property of a container's unit")
                .at(annotations::pointer(key)));
        }
        let value =
            gvariant::parse(text).map_err(|why| wrong(&format!("is no value in GVariant's text form: {why}")))?;
        let seconds = name.strip_suffix("Sec").filter(|rest| rest.ends_with(|last: char| last.is_ascii_lowercase()));
        found.push(match seconds {
            None => Property::new(name, value),
            Some(rest) => {
                let micros = microseconds(&value).ok_or_else(|| wrong("is no number of seconds"))?;
                Property::new(&format!("{rest}USec"), Value::Uint64(micros))
            }
        });
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

fn microseconds(seconds: &Value) -> Option<u64> {
    const MILLION: u64 = 1_000_000;
    let whole = match seconds {
        Value::Int16(value) => u64::try_from(*value).ok()?,
        Value::Int32(value) => u64::try_from(*value).ok()?,
        Value::Int64(value) => u64::try_from(*value).ok()?,
        Value::Uint16(value) => u64::from(*value),
        Value::Uint32(value) => u64::from(*value),
        Value::Uint64(value) => *value,
        Value::Double(value) => {
            let micros = value * MILLION as f64;
            return (0.0..u64::MAX as f64).contains(&micros).then_some(micros as u64);
        }
        _ => return None,
    };
    whole.checked_mul(MILLION)
}

/// What the writes to control files of v2 are as properties. Those that systemd knows none for it leaves alone: they are
/// in the files only.
pub(crate) fn of_writes(writes: &[Write]) -> Vec<Property> {
    let mut all = Vec::new();
    for write in writes {
        merge(&mut all, of_write(&write.file, &write.value));
        if let Missing::Instead { file, value } = &write.missing {
            merge(&mut all, of_write(file, value));
        }
    }
    // An idle cgroup takes no weight: systemd has both in one property.
    if let Some(idle) = writes.iter().rev().find(|write| write.file == "cpu.idle").filter(|idle| idle.value == "1") {
        merge(&mut all, of_write(&idle.file, &idle.value));
    }
    all
}

fn of_write(file: &str, value: &str) -> Vec<Property> {
    let one = |name: &str, value: Option<Value>| value.map(|value| Property::new(name, value)).into_iter().collect();
    match file {
        "memory.max" => one("MemoryMax", bytes(value)),
        "memory.high" => one("MemoryHigh", bytes(value)),
        "memory.low" => one("MemoryLow", bytes(value)),
        "memory.min" => one("MemoryMin", bytes(value)),
        "memory.swap.max" => one("MemorySwapMax", bytes(value)),
        "pids.max" => one("TasksMax", bytes(value)),
        "cpu.weight" => one("CPUWeight", value.parse().ok().map(Value::Uint64)),
        "cpu.idle" if value == "1" => one("CPUWeight", Some(Value::Uint64(0))),
        // For one device systemd wants a path; without one it leaves the line alone.
        "io.weight" => {
            let weight = value.strip_prefix("default ").unwrap_or(value);
            one("IOWeight", weight.parse().ok().map(Value::Uint64))
        }
        "cpuset.cpus" => one("AllowedCPUs", mask(value)),
        "cpuset.mems" => one("AllowedMemoryNodes", mask(value)),
        "cpu.max" => quota(value),
        _ => Vec::new(),
    }
}

/// A number with the units of the kernel's memparse, or `max`.
fn bytes(value: &str) -> Option<Value> {
    let value = value.trim();
    if value == "max" {
        return Some(Value::Uint64(u64::MAX));
    }
    let digits = value.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let shift = match value[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift).map(Value::Uint64)
}

/// `QUOTA PERIOD` or `QUOTA`. systemd keeps the quota in whole per cents of a CPU: as runc does it is rounded up, so that
/// what comes of a reload is never less than what was asked for.
fn quota(value: &str) -> Vec<Property> {
    const PER_CENT: u128 = 10_000;
    let mut words = value.split_ascii_whitespace();
    let quota = words.next().unwrap_or_default();
    let asked: Option<u64> = words.next().and_then(|period| period.parse().ok());
    let period = asked.unwrap_or(100_000).max(1);
    let per_second = match quota.parse::<u64>() {
        Ok(quota) => {
            let exact = u128::from(quota) * 1_000_000 / u128::from(period);
            u64::try_from(exact.next_multiple_of(PER_CENT)).unwrap_or(u64::MAX)
        }
        Err(_) if quota == "max" => u64::MAX,
        Err(_) => return Vec::new(),
    };
    let mut all = vec![Property::new("CPUQuotaPerSecUSec", Value::Uint64(per_second))];
    all.extend(asked.map(|period| Property::new("CPUQuotaPeriodUSec", Value::Uint64(period))));
    all
}

/// `0-2,7` as bytes with a bit for each number, the lowest first.
fn mask(list: &str) -> Option<Value> {
    /// More than the kernel has (CONFIG_NR_CPUS).
    const MOST: usize = 8192;
    let mut bytes: Vec<u8> = Vec::new();
    for part in list.split([',', '\n']).map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        bytes.resize(bytes.len().max(last / 8 + 1), 0);
        (first..=last).for_each(|bit| bytes[bit / 8] |= 1 << (bit % 8));
    }
    (!bytes.is_empty()).then(|| Value::bytes(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Layout;
    use crate::samples::v2;
    use crate::wanted::limits;
    use oci_spec::runtime::LinuxResources;

    fn of(resources: serde_json::Value) -> Vec<(String, Value)> {
        let layout: Layout = v2();
        let resources: LinuxResources = serde_json::from_value(resources).unwrap();
        of_writes(&limits(&layout, &resources).unwrap()).into_iter().map(|one| (one.name, one.value)).collect()
    }

    fn number(name: &str, value: u64) -> (String, Value) {
        (name.to_owned(), Value::Uint64(value))
    }

    #[test]
    fn limits_are_properties_in_the_units_of_systemd() {
        let found = of(serde_json::json!({
            "memory": {"limit": 1000, "swap": 3000, "reservation": 500},
            "cpu": {"shares": 1024, "quota": 12345, "period": 50000, "cpus": "0-2,9", "mems": "0"},
            "pids": {"limit": 7},
            "blockIO": {"weight": 500},
        }));
        let expected = [
            number("MemoryMax", 1000),
            number("MemorySwapMax", 2000),
            number("MemoryLow", 500),
            number("CPUWeight", 100),
            // 246900 µs a second are 24.69 per cent, and become 25.
            number("CPUQuotaPerSecUSec", 250_000),
            number("CPUQuotaPeriodUSec", 50_000),
            ("AllowedCPUs".to_owned(), Value::bytes(&[7, 2])),
            ("AllowedMemoryNodes".to_owned(), Value::bytes(&[1])),
            number("TasksMax", 7),
            number("IOWeight", 4950),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn no_limit_is_the_largest_number_and_idle_is_a_weight_of_nothing() {
        let found = of(serde_json::json!({
            "memory": {"limit": -1}, "cpu": {"quota": -1, "shares": 2, "idle": 1}, "pids": {"limit": -1},
        }));
        let max = u64::MAX;
        let expected = [
            number("MemoryMax", max),
            number("MemorySwapMax", max),
            number("CPUWeight", 0),
            number("CPUQuotaPerSecUSec", max),
            number("CPUQuotaPeriodUSec", 100_000),
            number("TasksMax", max),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_said_in_the_kernels_own_words_wins() {
        let found = of(serde_json::json!({
            "memory": {"limit": 4096},
            "unified": {"memory.max": "2M", "memory.high": "max", "cpu.max": "max", "cpu.weight": "33",
                "io.weight": "default 50", "io.max": "8:0 rbps=1", "memory.oom.group": "1"},
        }));
        let expected = [
            number("MemoryMax", 2 << 20),
            number("CPUQuotaPerSecUSec", u64::MAX),
            number("CPUWeight", 33),
            number("IOWeight", 50),
            number("MemoryHigh", u64::MAX),
        ];
        assert_eq!(found, expected);
    }

    fn annotated(key: &str, text: &str) -> Result<Vec<Property>> {
        of_annotations([("io.podman.x", "y"), (key, text)].into_iter())
    }

    #[test]
    fn annotations_are_properties_and_seconds_become_microseconds() {
        let one = |name: &str, text: &str| annotated(&format!("org.systemd.property.{name}"), text).unwrap().remove(0);
        assert_eq!(one("CPUWeight", "uint64 33"), Property::new("CPUWeight", Value::Uint64(33)));
        assert_eq!(one("CollectMode", "'inactive'").value, Value::Text("inactive".into()));
        assert_eq!(one("TimeoutStopSec", "5"), Property::new("TimeoutStopUSec", Value::Uint64(5_000_000)));
        assert_eq!(one("TimeoutStopSec", "0.25").value, Value::Uint64(250_000));
        assert_eq!(one("TimeoutStopUSec", "uint64 7"), Property::new("TimeoutStopUSec", Value::Uint64(7)));
    }

    #[test]
    fn a_malformed_annotation_is_refused_at_its_place() {
        for (name, text) in [
            ("CPUWeight", "33 44"),
            ("CPUWeight", ""),
            ("X", "1"),
            ("", "1"),
            ("CPU-Weight", "1"),
            ("Cpu1", "1"),
            ("TimeoutStopSec", "'x'"),
            ("TimeoutStopSec", "-1"),
            ("TimeoutStopSec", "uint64 18446744073709551615"),
            ("PIDs", "@au []"),
            ("Slice", "'a.slice'"),
            ("Delegate", "false"),
        ] {
            let key = format!("org.systemd.property.{name}");
            let error = annotated(&key, text).unwrap_err();
            assert_eq!(error.pointer(), Some(format!("annotations/{key}").as_str()), "{text}");
        }
    }
}
