//! `resume`: lets a paused container go on.

use super::Found;
use std::path::Path;
use wharf_core::phases;
use wharf_core::{ContainerId, Result, Verb, allowed};

pub(super) fn resume(root: &Path, id: &ContainerId) -> Result<()> {
    let found = Found::look(root, id)?;
    phases::enter("status");
    allowed(id, found.status()?, Verb::Resume)?;
    phases::enter("freezer");
    found.backend.resume(&found.record, found.entry.dir())
}
