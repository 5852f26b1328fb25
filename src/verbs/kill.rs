//! `kill`: a signal to the container's init, or to every process of it.

use super::{Found, witness};
use std::path::Path;
use wharf_core::phases;
use wharf_core::{ContainerId, Result, Status, Verb, allowed};

pub(super) fn kill(root: &Path, id: &ContainerId, signal: i32, all: bool) -> Result<()> {
    let found = Found::look(root, id)?;
    phases::enter("signal");
    // A container that has had a process may be signalled or is not running, which the backend learns from the signal.
    if found.record.init.is_none() {
        let status = found.status()?;
        // Without a pid namespace of their own, processes outlive their init: --all still reaches them.
        if !(all && status == Status::Stopped) {
            allowed(id, status, Verb::Kill)?;
        }
    }
    witness::noting_kill(&found, signal, || found.backend.kill(&found.record, found.entry.dir(), signal, all))?;
    found.leave_open();
    Ok(())
}
