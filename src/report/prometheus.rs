//! What containers use, in the text format that Prometheus scrapes (its exposition formats, version 0.0.4).

use std::fmt::Write;
use wharf_core::Statistics;

/// Of a limit that is none: v1 shows the largest multiple of a page, v2 `u64::MAX`.
const NONE: u64 = 1 << 60;
const SECOND: f64 = 1e9;

/// A family with one sample for each container that has it.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&Statistics) -> Option<f64>,
}

const fn counter(name: &'static str, help: &'static str, value: fn(&Statistics) -> Option<f64>) -> Family {
    Family { name, kind: "counter", help, value }
}

const fn gauge(name: &'static str, help: &'static str, value: fn(&Statistics) -> Option<f64>) -> Family {
    Family { name, kind: "gauge", help, value }
}

fn seconds(nanoseconds: u64) -> Option<f64> {
    Some(nanoseconds as f64 / SECOND)
}

fn limit(number: u64) -> Option<f64> {
    (number > 0 && number < NONE).then_some(number as f64)
}

const FAMILIES: [Family; 12] = [
    counter("cpu_seconds_total", "CPU time of all processes", |all| seconds(all.cpu.usage.total)),
    counter("cpu_user_seconds_total", "CPU time in user space", |all| seconds(all.cpu.usage.user)),
    counter("cpu_system_seconds_total", "CPU time in the kernel", |all| seconds(all.cpu.usage.kernel)),
    counter("cpu_periods_total", "Periods of its CPU quota", |all| Some(all.cpu.throttling.periods as f64)),
    counter("cpu_throttled_periods_total", "Periods in which the CPU quota was used up", |all| {
        Some(all.cpu.throttling.throttled_periods as f64)
    }),
    counter("cpu_throttled_seconds_total", "Time that it waited for its next period", |all| {
        seconds(all.cpu.throttling.throttled_time)
    }),
    gauge("memory_bytes", "Memory that it has now", |all| Some(all.memory.usage.usage as f64)),
    gauge("memory_peak_bytes", "The most memory that it has had", |all| limit(all.memory.usage.max)),
    gauge("memory_limit_bytes", "Memory that it may have", |all| limit(all.memory.usage.limit)),
    gauge("memory_cache_bytes", "Memory that is the cache of files", |all| Some(all.memory.cache as f64)),
    gauge("processes", "Processes and threads", |all| Some(all.pids.current as f64)),
    gauge("processes_limit", "Processes and threads that it may have", |all| limit(all.pids.limit)),
];

/// The samples of a family stand together, whosever they are.
pub(crate) fn prometheus(all: &[(String, Statistics)]) -> String {
    let mut page = String::new();
    for Family { name, kind, help, value } in FAMILIES {
        head(&mut page, name, kind, help);
        for (id, found) in all {
            if let Some(value) = value(found) {
                let _ = writeln!(page, "wharf_{name}{{id=\"{}\"}} {value}", escaped(id));
            }
        }
    }
    head(&mut page, "io_bytes_total", "counter", "Bytes read from and written to block devices");
    for (id, found) in all {
        for entry in &found.blkio.io_service_bytes_recursive {
            let operation = entry.op.to_ascii_lowercase();
            if matches!(operation.as_str(), "read" | "write") {
                let (id, major, minor, value) = (escaped(id), entry.major, entry.minor, entry.value);
                let _ = writeln!(
                    page,
                    "wharf_io_bytes_total{{id=\"{id}\",device=\"{major}:{minor}\",operation=\"{operation}\"}} {value}"
                );
            }
        }
    }
    page
}

fn head(page: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(page, "# HELP wharf_{name} {help}\n# TYPE wharf_{name} {kind}");
}

/// The value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_stand_below_their_family_and_no_limit_is_none() {
        let mut one = Statistics::default();
        one.cpu.usage.total = 1_500_000_000;
        one.memory.usage.limit = u64::MAX;
        let page = prometheus(&[("a".to_owned(), one), ("b".to_owned(), Statistics::default())]);
        let cpu = "# TYPE wharf_cpu_seconds_total counter\nwharf_cpu_seconds_total{id=\"a\"} 1.5\nwharf_cpu_seconds_total{id=\"b\"} 0\n";
        assert!(page.contains(cpu), "{page}");
        assert!(!page.contains("wharf_memory_limit_bytes{"), "{page}");
    }

    #[test]
    fn a_label_is_quoted() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
