//! `exec`: one more process in a container.
//!
//! Takes no lock: a container may be stopped and deleted meanwhile, and the process that joins it ends with it.

use super::{Found, pid_file, witness};
use crate::cli::LogOptions;
use crate::report::Log;
use std::path::Path;
use wharf_core::phases;
use wharf_core::{ContainerId, Exec, Result, Status, Verb, allowed};

/// The command's exit code; 0 when it is left to itself.
pub(super) fn exec(root: &Path, id: &ContainerId, asked: &Exec, options: &LogOptions, log: &Log) -> Result<i32> {
    let found = Found::look(root, id)?;
    // A container that has had a process is looked at by the backend, which joins exactly what it saw. So is a delegated
    // one: whoever asks for its state must know of the descriptors that are handed on afterwards.
    if found.record.init.is_none() && found.record.state.is_none() {
        let status = found.status()?;
        if status != Status::Paused || !asked.ignore_paused {
            allowed(id, status, Verb::Exec)?;
        }
    }
    phases::enter("container's state");
    let mut joined = found.backend.exec(&found.record, found.entry.dir(), asked, options.to())?;
    log.debug(|| format!("process {} has joined container {id}", joined.pid()));
    log.warn_each(|| joined.remarks().iter().map(ToString::to_string).collect());
    let pid_file = asked.pid_file.as_deref();
    // Before the release: who is killed in between leaves no process that nobody knows.
    if let Some(path) = pid_file {
        pid_file::write(path, joined.pid())?;
    }
    phases::enter("release");
    witness::note_exec(&found);
    joined.release().inspect_err(|_| pid_file.into_iter().for_each(pid_file::remove))?;
    phases::enter(if asked.detach { "end" } else { "payload" });
    let code = if asked.detach { Ok(0) } else { joined.wait() };
    found.leave_open();
    code
}
