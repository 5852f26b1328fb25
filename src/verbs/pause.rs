//! `pause`: stops every process of a container.

use super::Found;
use std::path::Path;
use wharf_core::phases;
use wharf_core::{ContainerId, Result, Verb, allowed};

pub(super) fn pause(root: &Path, id: &ContainerId) -> Result<()> {
    let found = Found::look(root, id)?;
    phases::enter("status");
    allowed(id, found.status()?, Verb::Pause)?;
    phases::enter("freezer");
    found.backend.pause(&found.record, found.entry.dir())
}
