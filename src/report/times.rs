//! Where the time of a command went: in the log, and as a trace.

use super::Log;
use super::trace::Trace;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;
use wharf_core::phases::{self, Times};
use wharf_core::{Result, errno_text};

/// At the end of the command its phases are told: to the log where `timings` is asked for, and to the file `trace`.
/// `what` names the command. Whatever cannot be written is found out now, while nothing is done.
pub(crate) fn tell_times(what: String, log: Option<Log>, trace: Option<&Path>) -> Result<()> {
    let trace = trace.map(Trace::open).transpose()?;
    phases::report_to(trace.is_some(), move |times| {
        if let Some(log) = &log {
            log.times(&text(&what, &times), || record(&what, &times));
        }
        if let Some(Err(error)) = trace.map(|trace| trace.add(&what, &times)) {
            let why = error.raw_os_error().map_or_else(|| error.to_string(), errno_text);
            // The command is done, whatever becomes of its trace.
            let _ = super::remark(&[format!("wharf: write the trace of {what}: {why}")]);
        }
    });
    Ok(())
}

/// A table for people, in microseconds to the nanosecond, so that its lines sum up.
fn text(what: &str, times: &Times) -> String {
    let mut text = format!("{:>14} µs  {what}\n", micros(times.total));
    for phase in &times.phases {
        let _ = writeln!(text, "{:>14} µs    {}", micros(phase.length), phase.name);
    }
    text
}

/// The same for programs, in nanoseconds.
fn record(what: &str, times: &Times) -> serde_json::Value {
    let nanoseconds = |duration: Duration| duration.as_nanos() as u64;
    let phases: Vec<_> = times
        .phases
        .iter()
        .map(|phase| serde_json::json!({ "name": phase.name, "nanoseconds": nanoseconds(phase.length) }))
        .collect();
    serde_json::json!({ "command": what, "nanoseconds": nanoseconds(times.total), "phases": phases })
}

fn micros(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    format!("{}.{:03}", nanoseconds / 1000, nanoseconds % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;
    use wharf_core::phases::Slice;

    #[test]
    fn the_lines_of_the_table_sum_up_to_its_head() {
        let slice = |name: &str, from, length| Slice {
            name: name.to_owned(),
            from: Duration::from_nanos(from),
            length: Duration::from_nanos(length),
        };
        let phases = vec![slice("bundle", 0, 80_001), slice("draft", 80_001, 1_999_999)];
        let times =
            Times { began: SystemTime::UNIX_EPOCH, total: Duration::from_nanos(2_080_000), phases, tracks: vec![] };
        let expected = "      2080.000 µs  wharf create c\n        80.001 µs    bundle\n      1999.999 µs    draft\n";
        assert_eq!(text("wharf create c", &times), expected);
        let record = record("wharf create c", &times);
        assert_eq!(record["nanoseconds"], 2_080_000);
        assert_eq!(record["phases"][1], serde_json::json!({ "name": "draft", "nanoseconds": 1_999_999 }));
    }
}
