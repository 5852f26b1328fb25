//! `run`: create, start and, in the foreground, wait and delete.

use super::create::{self, Then};
use super::no_such;
use crate::cli::{self, LogOptions, Request};
use crate::report::Log;
use wharf_core::{Kind, Result, Verb};

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
    let then = if detach { Then::Start } else { Then::StartAndWait };
    let found = create::make(request, asked, options, log, then)?;
    match found.backend.start(&found.record, found.entry.dir()) {
        Ok(warnings) => warnings.iter().for_each(|warning| log.warn(|| warning.to_string())),
        Err(error) => {
            if let Err(left) = found.delete(id, Verb::ForceDelete, log) {
                log.warn(|| format!("clean up after a failed start: {left}"));
            }
            if let Some(path) = &asked.pid_file {
                super::pid_file::remove(path);
            }
            return Err(error);
        }
    }
    if detach {
        return found.await_ready().map(|()| 0);
    }
    // While the payload lives, others may signal and delete it.
    found.entry.unlock()?;
    let ended = found.backend.wait(&found.record);
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
