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
    let record = witness::told(&found, Some(status));
    phases::enter("answer");
    report::print(&report::state(&Row::new(record, Some(status), pid, owner))?)?;
    found.leave_open();
    Ok(())
}
