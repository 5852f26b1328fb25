//! `state`: what the container is doing, as JSON. Never waits for a lock.

use super::{Found, witness};
use crate::report::{self, Row};
use std::path::Path;
use wharf_core::phases;
use wharf_core::{ContainerId, Result};

pub(super) fn state(root: &Path, id: &ContainerId) -> Result<()> {
    let found = Found::look(root, id)?;
    phases::enter("status");
    let (status, pid) = found.state()?;
    let owner = report::owner(found.record.owner);
    let Found { store, entry, mut record, backend } = found;
    record.annotations.extend(backend.notes(&record));
    let record = witness::told(record, &entry, Some(status));
    phases::enter("answer");
    report::print(&report::state(&Row::new(record, Some(status), pid, owner))?)?;
    // The process's own end closes what is open.
    store.leave_open();
    std::mem::forget(entry);
    Ok(())
}
