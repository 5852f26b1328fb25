//! `pause`: stops every process of a container.

use super::Found;
use std::path::Path;
use wharf_core::{ContainerId, Result, Verb, allowed};

pub(super) fn pause(root: &Path, id: &ContainerId) -> Result<()> {
    let found = Found::look(root, id)?;
    allowed(id, found.status()?, Verb::Pause)?;
    found.backend.pause(&found.record, found.entry.dir())
}
