//! `delete`: removes all that a container holds; the record goes last, so that an interrupted delete can be repeated.

use super::{Found, clones, locate, no_such, witness};
use crate::report::Log;
use std::path::Path;
use wharf_core::phases;
use wharf_core::{ContainerId, Error, Kind, Result, Verb, Warnings, allowed};

pub(super) fn delete(root: &Path, id: &ContainerId, force: bool, log: &Log) -> Result<()> {
    match remove(root, id, force, log) {
        // As other runtimes: engines clean up in this way.
        Err(error) if force && error.kind() == Kind::NoSuchContainer => Ok(()),
        other => other,
    }
}

/// Removes a record of which the backend says that there is no such container: a `create` that became another runtime
/// leaves one when that fails. True if there was one.
pub(super) fn collect(root: &Path, id: &ContainerId, log: &Log) -> bool {
    let missing = |error: &Error| error.kind() == Kind::NoSuchContainer;
    Found::look(root, id).and_then(|found| found.status()).is_err_and(|error| missing(&error))
        && remove(root, id, false, log).is_err_and(|error| missing(&error))
}

fn remove(root: &Path, id: &ContainerId, force: bool, log: &Log) -> Result<()> {
    let (store, entry) = locate(root, id)?;
    let verb = if force { Verb::ForceDelete } else { Verb::Delete };
    if !store.try_lock(&entry)?.ok_or_else(|| no_such(id))? {
        if !force {
            refuse_unless_stopped(root, id)?;
        }
        store.lock(&entry)?.ok_or_else(|| no_such(id))?;
    }
    let Some(record) = entry.record()? else {
        log.debug(|| format!("container {id} has no record: what an interrupted create or delete left is removed"));
        return store.remove(&entry);
    };
    Found::of(store, entry, record)?.delete(id, verb, log)
}

/// The lock is held by another, which may take its time: what is refused anyway is refused now.
fn refuse_unless_stopped(root: &Path, id: &ContainerId) -> Result<()> {
    match Found::look(root, id) {
        Ok(found) => allowed(id, found.status()?, Verb::Delete),
        Err(error) if error.kind() == Kind::NoSuchContainer => {
            Err(Error::new(Kind::WrongStatus, format!("delete container {id}")).because("it is still being created"))
        }
        Err(error) => Err(error),
    }
}

impl Found {
    /// Under the container's lock.
    pub(super) fn delete(self, id: &ContainerId, verb: Verb, log: &Log) -> Result<()> {
        let status = self.status_under_lock();
        let unknown = status.as_ref().is_err_and(|error| error.kind() == Kind::NoSuchContainer);
        let outcome = match status {
            Ok(status) => allowed(id, status, verb),
            // What cannot be asked can still be removed by force, and what an interrupted create left without a state too.
            Err(_) if unknown || verb == Verb::ForceDelete => Ok(()),
            Err(error) => Err(error),
        }
        .and_then(|()| {
            if verb == Verb::ForceDelete {
                witness::note_delete(&self);
            }
            self.backend.delete(&self.record, self.entry.dir())
        });
        self.removed(id, outcome, unknown, log)
    }

    /// The same for a container that the caller has seen end.
    pub(super) fn delete_ended(self, id: &ContainerId, log: &Log) -> Result<()> {
        let outcome = self.backend.delete(&self.record, self.entry.dir());
        self.removed(id, outcome, false, log)
    }

    fn removed(self, id: &ContainerId, outcome: Result<Warnings>, unknown: bool, log: &Log) -> Result<()> {
        match outcome {
            Ok(warnings) => {
                warnings.iter().for_each(|warning| log.warn(|| warning.to_string()));
                witness::let_witness_end(&self);
                clones::remove_all(&self.record, log)?;
                phases::enter("record");
                self.store.remove(&self.entry)?;
                self.leave_open();
                if unknown { Err(no_such(id)) } else { Ok(()) }
            }
            // The delegate's own state is gone: nothing is left but the record.
            Err(error) if error.kind() == Kind::NoSuchContainer => {
                self.store.remove(&self.entry)?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }
}
