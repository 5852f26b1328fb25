//! `state`: what the container is doing, as JSON. Never waits for a lock.

use super::Found;
use crate::report::{self, Row};
use std::path::Path;
use wharf_core::{ContainerId, Result};

pub(super) fn state(root: &Path, id: &ContainerId) -> Result<()> {
    let found = Found::look(root, id)?;
    let (status, pid) = found.state()?;
    let owner = report::owner(found.record.owner);
    report::print(&report::state(&Row::new(found.record.clone(), Some(status), pid, owner))?)?;
    found.leave_open();
    Ok(())
}
