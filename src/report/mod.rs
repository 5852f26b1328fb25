//! Turns records and errors into the words that OCI and the caller expect.

mod checkpoints;
mod doctor;
mod events;
mod exit;
mod features;
mod gc;
mod log;
mod plan;
mod prometheus;
mod ps;
mod spec;
mod state;
mod times;
mod trace;

pub(crate) use checkpoints::{CheckpointRow, SnapshotRow, checkpoints};
pub(crate) use doctor::examined;
pub(crate) use events::event;
pub(crate) use exit::exit;
pub(crate) use features::features;
pub(crate) use gc::{Leftover, leftovers};
pub(crate) use log::Log;
pub(crate) use plan::Plan;
pub(crate) use prometheus::prometheus;
pub(crate) use ps::{of_pids, pids, processes};
pub(crate) use spec::spec;
pub(crate) use state::{Activity, Row, owner, state, table};
pub(crate) use times::tell_times;

use std::io::Write;
use wharf_core::{Error, Kind, Result};

/// The newest runtime-spec whose properties are known.
pub(crate) const SPEC_VERSION: &str = "1.3.0";

const COMMIT: &str = env!("WHARF_COMMIT");

/// In the form that Docker takes apart: a line with `version`, then `commit: ` and `spec: `.
pub(crate) fn version() -> String {
    format!("wharf version {}\ncommit: {COMMIT}\nspec: {SPEC_VERSION}\n", env!("CARGO_PKG_VERSION"))
}

/// The answer of a verb, on stdout.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| match error.raw_os_error() {
        Some(errno) => Error::system("write to stdout", errno),
        None => Error::new(Kind::System, "write to stdout").because(error),
    })
}

/// Remarks on an answer, on stderr, one a line.
pub(crate) fn remark(notes: &[String]) -> Result<()> {
    let text: String = notes.iter().map(|note| format!("{note}\n")).collect();
    std::io::stderr()
        .write_all(text.as_bytes())
        .map_err(|error| Error::new(Kind::System, "write to stderr").because(error))
}

/// JSON as people read it, with a newline at its end.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<String> {
    line(serde_json::to_string_pretty(value))
}

/// JSON on one line, for what may be long and programs read.
pub(crate) fn json_line(value: &impl serde::Serialize) -> Result<String> {
    line(serde_json::to_string(value))
}

fn line(text: serde_json::Result<String>) -> Result<String> {
    text.map(|text| text + "\n").map_err(|error| Error::new(Kind::System, "write JSON").because(error))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_has_the_lines_that_engines_take_apart() {
        let text = super::version();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], format!("wharf version {}", env!("CARGO_PKG_VERSION")));
        assert!(lines[1].strip_prefix("commit: ").is_some_and(|commit| !commit.is_empty()));
        assert_eq!(lines[2], "spec: 1.3.0");
    }
}
