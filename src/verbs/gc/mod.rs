//! `gc`: what dead containers have left below `--root`, told, and removed with `--apply`.
//!
//! Every directory is judged and removed under its container's lock, by what its record says: whoever makes, starts or
//! deletes a container holds that lock, and no process is known by its number alone.

mod disk;
mod node;

use crate::cli::{ListFormat, Request};
use crate::report::{self, Leftover, Log};
use crate::store::{Entry, Store};
use crate::verbs::Found;
use std::path::Path;
use wharf_core::{ContainerId, Error, Kind, RecordState, Result, Status, Verb};
use wharf_sys::procfs::Procfs;

pub(super) fn gc(request: &Request, apply: bool, stopped: bool, format: ListFormat, log: &Log) -> Result<()> {
    let root = request.root.as_path();
    let ids = match Store::open(root)? {
        Some(store) => store.ids()?,
        None => Vec::new(),
    };
    let boot = Procfs::open().and_then(|proc| proc.boot_id());
    let boot = boot.map_err(|errno| Error::system("read the kernel's name for this boot", errno as i32))?;
    let (mut rows, mut failed, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for id in &ids {
        match look(root, id, &boot, stopped) {
            Ok(None) => {}
            Ok(Some((place, mut row))) => {
                if apply {
                    match place.remove(id, log) {
                        Ok(()) => row.removed = true,
                        Err(error) => failed.push(format!("{id}: {error}")),
                    }
                }
                rows.push(row);
            }
            // What cannot be judged may be a container that lives.
            Err(error) => unknown.push(format!("note: container {id} is left alone: {error}")),
        }
    }
    // After the containers, whose clones go with them.
    let (left, notes) = disk::look(request);
    for (left, mut row) in left {
        if apply {
            match left.remove() {
                Ok(None) => row.removed = true,
                Ok(Some(why)) => failed.push(why),
                Err(error) => failed.push(error.to_string()),
            }
        }
        rows.push(row);
    }
    unknown.extend(notes);
    let (left, notes) = node::look(request);
    for (orphan, mut row) in left {
        if apply {
            match orphan.remove() {
                Ok(()) => row.removed = true,
                Err(error) => failed.push(format!("{}: {error}", orphan.id)),
            }
        }
        rows.push(row);
    }
    unknown.extend(notes);
    report::print(&match format {
        ListFormat::Table => report::leftovers(&rows),
        ListFormat::Json => report::json(&rows)?,
    })?;
    // Not a matter of the log's level: who asks what is left must hear of it.
    report::remark(&unknown)?;
    match failed.is_empty() {
        true => Ok(()),
        false => Err(Error::new(Kind::System, "remove what is left").because(failed.join("; "))),
    }
}

/// A leftover's directory, locked.
enum Place {
    WithoutRecord(Store, Entry),
    Recorded(Box<Found>),
}

impl Place {
    fn remove(self, id: &ContainerId, log: &Log) -> Result<()> {
        let removed = match self {
            Place::WithoutRecord(store, entry) => store.remove(&entry),
            Place::Recorded(found) => found.delete(id, Verb::Delete, log),
        };
        match removed {
            // So says a delegate that never knew it; the record is gone by then.
            Err(error) if error.kind() == Kind::NoSuchContainer => Ok(()),
            other => other,
        }
    }
}

/// None for a container that lives, is in use, or is its engine's to delete.
fn look(root: &Path, id: &ContainerId, boot: &str, stopped: bool) -> Result<Option<(Place, Leftover)>> {
    let Some(store) = Store::open(root)? else { return Ok(None) };
    let Some(entry) = store.find(id)? else { return Ok(None) };
    // One that lives is never locked: its verbs would take us for a `create` or a `delete`.
    if let Some(record) = entry.record()? {
        let found = Found::of(store, entry, record)?;
        match found.status() {
            Ok(Status::Stopped) => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == Kind::NoSuchContainer => {}
            Err(error) => return Err(error),
        }
        return judge(found.store, found.entry, id, boot, stopped);
    }
    judge(store, entry, id, boot, stopped)
}

/// The same under the container's lock: nothing changes any more, or nothing is judged.
fn judge(store: Store, entry: Entry, id: &ContainerId, boot: &str, stopped: bool) -> Result<Option<(Place, Leftover)>> {
    if store.try_lock(&entry)? != Some(true) {
        return Ok(None);
    }
    let row = |backend, why, holds| Leftover { id: id.to_string(), backend, why, holds, removed: false };
    let Some(record) = entry.record()? else {
        let row = row(None, "create or delete was interrupted", Vec::new());
        return Ok(Some((Place::WithoutRecord(store, entry), row)));
    };
    let found = Found::of(store, entry, record)?;
    let record = &found.record;
    let delegated = record.state == Some(RecordState::Delegated);
    let why = match found.status_under_lock() {
        Err(error) if error.kind() == Kind::NoSuchContainer => "its runtime knows no such container",
        Ok(Status::Stopped) if record.init.is_none() && !delegated => "create was interrupted",
        Ok(Status::Stopped) if record.init.as_ref().is_some_and(|init| init.boot_id != boot) => "of an earlier boot",
        Ok(Status::Stopped) if stopped => "stopped",
        Ok(_) => return Ok(None),
        Err(error) => return Err(error),
    };
    let holds = found.backend.holdings(record, found.entry.dir())?;
    let row = row(Some(record.backend.clone()), why, holds);
    Ok(Some((Place::Recorded(Box::new(found)), row)))
}
