//! `events`: what a container uses, a line of JSON each time.

use super::Found;
use crate::report;
use std::path::Path;
use std::time::Duration;
use wharf_core::phases;
use wharf_core::{ContainerId, Result, Verb, allowed};

/// Without an interval once.
pub(super) fn events(root: &Path, id: &ContainerId, interval: Option<Duration>) -> Result<()> {
    let found = Found::look(root, id)?;
    phases::enter("status");
    allowed(id, found.status()?, Verb::Events)?;
    if interval.is_some() {
        // It lives as long as the container.
        wharf_sys::arena::retire();
    }
    let mut tell = |event| report::print(&report::event(id, event)?);
    phases::enter("events");
    found.backend.events(&found.record, found.entry.dir(), interval, &mut tell)
}
