//! `exec`: one more process in a container.
//!
//! Takes no lock: a container may be stopped and deleted meanwhile, and the process that joins it ends with it.

use super::{Found, caller_file, witness};
use crate::cli::LogOptions;
use crate::report::{self, Log};
use std::path::Path;
use wharf_core::phases;
use wharf_core::{
    ContainerId, Ended, Error, Exec, Exit, Kind, Result, Status, Usage, Verb, WitnessKind, allowed, time,
};
use wharf_sys::process;

/// What a file of `--exit-record` is.
const EXIT_RECORD: &str = "exit record";

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
    asked.exit_record.iter().try_for_each(|path| caller_file::try_out(EXIT_RECORD, path))?;
    phases::enter("container's state");
    let mut joined = found.backend.exec(&found.record, found.entry.dir(), asked, options.to())?;
    log.debug(|| format!("process {} has joined container {id}", joined.pid()));
    log.warn_each(|| joined.remarks().iter().map(ToString::to_string).collect());
    let pid_file = asked.pid_file.as_deref();
    // Before the release: who is killed in between leaves no process that nobody knows.
    if let Some(path) = pid_file {
        caller_file::write("pid file", path, &joined.pid().to_string())?;
    }
    phases::enter("release");
    let started = asked.exit_record.as_ref().map(|_| time::now());
    witness::note_exec(&found);
    joined.release().inspect_err(|_| pid_file.into_iter().for_each(caller_file::remove))?;
    phases::enter(if asked.detach { "end" } else { "payload" });
    let ended = match asked.detach {
        true => Ok(Ended::Exited { code: 0 }),
        false => joined.wait(),
    };
    found.leave_open();
    let ended = ended?;
    if let (Some(path), Some(started)) = (&asked.exit_record, started) {
        write_down(path, ended, started)?;
    }
    ended.code().ok_or_else(|| Error::new(Kind::System, format!("tell how a process in container {id} ended")))
}

/// How it ended, and what it and all processes that were waited for in it have used.
fn write_down(path: &Path, ended: Ended, started: String) -> Result<()> {
    let used = process::used_by_children();
    let usage = Usage {
        cpu_user: Some(used.user),
        cpu_system: Some(used.system),
        memory_peak: Some(used.peak),
        io_read: Some(used.read),
        io_written: Some(used.written),
        oom: None,
    };
    let exit =
        Exit { ended, started: Some(started), finished: Some(time::now()), usage, ..Exit::unknown(WitnessKind::Exec) };
    caller_file::write(EXIT_RECORD, path, &report::exit(&exit)?)
}
