//! `start`: lets a created container run its process.

use super::{Found, locate, no_such, witness};
use crate::report::Log;
use std::path::Path;
use wharf_core::phases;
use wharf_core::{ContainerId, Result, Verb, allowed};

pub(super) fn start(root: &Path, id: &ContainerId, log: &Log) -> Result<()> {
    let (store, entry) = locate(root, id)?;
    let found = match store.try_lock(&entry)?.ok_or_else(|| no_such(id))? {
        true => Found::read(store, entry, id)?,
        false => {
            // Held by a create, a start or a delete. Its hooks may be the ones who call: refuse what cannot be before
            // waiting for them.
            let seen = Found::read(store, entry, id)?;
            allowed(id, seen.status()?, Verb::Start)?;
            seen.store.lock(&seen.entry)?.ok_or_else(|| no_such(id))?;
            Found::read(seen.store, seen.entry, id)?
        }
    };
    phases::enter("start");
    found.backend.may_start(&found.record, found.entry.dir())?;
    witness::note_start(&found)?;
    let warnings = found.backend.start(&found.record, found.entry.dir())?;
    phases::enter("readiness");
    warnings.iter().for_each(|warning| log.warn(|| warning.to_string()));
    found.await_ready()
}
