//! `run`: create, start and, in the foreground, wait and delete.

use super::create::{self, Then};
use super::{Found, no_such, witness};
use crate::cli::{self, LogOptions, Request};
use crate::report::Log;
use wharf_core::phases;
use wharf_core::{ContainerId, Kind, Result, Verb, Warnings};
use wharf_monitor::Watch;

/// The payload's exit code; 0 when it is left to itself.
pub(super) fn run(
    request: &Request,
    asked: &cli::Create,
    options: &LogOptions,
    log: &Log,
    detach: bool,
    keep: bool,
) -> Result<i32> {
    let id = &asked.id;
    let then = match (detach, keep) {
        (true, _) => Then::Start,
        (false, false) => Then::StartAndWait,
        (false, true) => Then::StartAndKeep,
    };
    let found = create::make(request, asked, options, log, then)?;
    let watch = match start(&found) {
        Ok((watch, warnings)) => {
            warnings.iter().for_each(|warning| log.warn(|| warning.to_string()));
            watch
        }
        Err(error) => {
            if let Err(left) = found.delete(id, Verb::ForceDelete, log) {
                log.warn(|| format!("clean up after a failed start: {left}"));
            }
            if let Some(path) = &asked.pid_file {
                super::caller_file::remove(path);
            }
            return Err(error);
        }
    };
    if detach {
        return found.await_ready().map(|()| 0);
    }
    attend(found, id, watch, keep, log)
}

/// Waits for the end of a payload of this process, and deletes the container unless it is to be kept; the exit code.
pub(super) fn attend(found: Found, id: &ContainerId, watch: Option<Watch>, keep: bool, log: &Log) -> Result<i32> {
    // While the payload lives, others may signal and delete it.
    found.entry.unlock()?;
    phases::enter("payload");
    let ended = found.backend.wait(&found.record);
    phases::enter("exit record");
    if let Ok(ended) = ended
        && let Err(error) = witness::finish(&found, watch, ended)
    {
        log.warn(|| format!("how container {id} ended: {error}"));
    }
    let ended = ended.map(|ended| ended.code().unwrap_or(255));
    if keep && ended.is_ok() {
        return ended;
    }
    let deleted = match found.store.lock(&found.entry) {
        Ok(Some(())) if ended.is_ok() => found.delete_ended(id, log),
        Ok(Some(())) => found.delete(id, Verb::ForceDelete, log),
        Ok(None) => Err(no_such(id)),
        Err(error) => Err(error),
    };
    let code = ended?;
    match deleted {
        Ok(()) => Ok(code),
        // Deleted by another in the meantime.
        Err(error) if error.kind() == Kind::NoSuchContainer => Ok(code),
        Err(error) => Err(error),
    }
}

fn start(found: &Found) -> Result<(Option<Watch>, Warnings)> {
    phases::enter("start");
    let watch = witness::own(found)?;
    witness::note_start(found)?;
    Ok((watch, found.backend.start(&found.record, found.entry.dir())?))
}
