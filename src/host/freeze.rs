//! Pauses a container and lets it go on.

use crate::draft::open_proc;
use crate::status;
use std::os::fd::BorrowedFd;
use wharf_core::{Error, Kind, Record, Result};
use wharf_monitor::identity;

pub(crate) fn pause(record: &Record, dir: BorrowedFd<'_>) -> Result<()> {
    status::cgroup(record)?.freeze().map_err(|error| gone(record, dir, "pause").unwrap_or(error))
}

pub(crate) fn resume(record: &Record, dir: BorrowedFd<'_>) -> Result<()> {
    status::cgroup(record)?.resume().map_err(|error| gone(record, dir, "resume").unwrap_or(error))
}

/// The reason for a failure where it is this one: the container has ended in the meantime.
pub(crate) fn gone<'a>(record: &Record, dir: impl Into<Option<BorrowedFd<'a>>>, doing: &str) -> Option<Error> {
    let ended = match &record.init {
        None => true,
        Some(init) => {
            let exiting = || open_proc().is_ok_and(|proc| proc.is_exiting(init.pid).unwrap_or(true));
            identity::alive(dir, init).ok()?.is_none() || exiting()
        }
    };
    ended.then(|| not_running(record, doing))
}

/// In the words that engines match.
pub(crate) fn not_running(record: &Record, doing: &str) -> Error {
    Error::new(Kind::NotRunning, format!("{doing} container {}: container not running", record.id))
}
