//! `ps`: the processes of a container, as a list of pids or as the table that ps(1) makes.

use super::Found;
use crate::cli::ListFormat;
use crate::report;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use wharf_core::phases;
use wharf_core::{ContainerId, Error, Kind, Result, Verb, allowed};
use wharf_sys::program::{self, Most};

/// How long ps(1) may take: on a busy host with a hundred thousand processes seconds.
const PATIENCE: Duration = Duration::from_secs(60);
const MOST: Most = Most { stdout: 64 << 20, stderr: 4096 };

pub(super) fn ps(root: &Path, id: &ContainerId, format: ListFormat, options: &[OsString]) -> Result<()> {
    let found = Found::look(root, id)?;
    phases::enter("status");
    allowed(id, found.status()?, Verb::Ps)?;
    phases::enter("processes");
    if format == ListFormat::Table
        && options.is_empty()
        && let Some(table) = found.backend.process_table(&found.record, found.entry.dir())?
    {
        return report::print(&table);
    }
    let pids = found.backend.processes(&found.record, found.entry.dir())?;
    report::print(&match format {
        ListFormat::Json => report::pids(&pids),
        ListFormat::Table if options.is_empty() => report::processes(&pids)?,
        ListFormat::Table => {
            let table = table(options)?;
            report::of_pids(&table, &pids).ok_or_else(|| doing(options).because("its table has no column PID"))?
        }
    })
}

fn doing(options: &[OsString]) -> Error {
    let words: Vec<_> = options.iter().map(|word| word.to_string_lossy()).collect();
    Error::new(Kind::System, format!("run ps {}", words.join(" ")))
}

/// What ps(1) of the host says to these options.
fn table(options: &[OsString]) -> Result<String> {
    let mut command = Command::new("ps");
    command.args(options).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command
        .spawn()
        .map_err(|error| doing(options).because(error).hint("without options no other program is needed"))?;
    let finished = program::finish(child, Some(PATIENCE), MOST)
        .map_err(|errno| doing(options).because(errno.desc()))?
        .ok_or_else(|| doing(options).because(format!("it did not end within {PATIENCE:?}")))?;
    let words = String::from_utf8_lossy(&finished.stderr);
    if !finished.status.success() {
        let cause = words.lines().find(|line| !line.trim().is_empty());
        return Err(doing(options).because(cause.map_or_else(|| finished.status.to_string(), str::to_owned)));
    }
    Ok(String::from_utf8_lossy(&finished.stdout).into_owned())
}
