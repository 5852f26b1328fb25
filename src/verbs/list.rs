//! `list`: the containers below `--root`, of every backend. One that cannot be read does not hide the others.

use super::{Found, witness};
use crate::cli::ListFormat;
use crate::report::{self, Activity, Log, Row};
use crate::store::{Entry, Store};
use std::path::Path;
use wharf_core::phases;
use wharf_core::{Backend, ContainerId, Error, Kind, Record, Result};

/// Other runtimes that are asked at once: one that hangs takes its whole time to answer, and all others wait for it.
const AT_ONCE: usize = 16;
/// From so many containers on several threads look.
const CROWD: usize = 96;
const WORKERS: usize = 4;
/// Bytes of memory that one takes.
const EACH: usize = 4096;

pub(super) fn list(root: &Path, format: ListFormat, quiet: bool, log: &Log) -> Result<()> {
    let mut rows = Vec::new();
    if let Some(store) = Store::open(root)? {
        let ids = store.ids()?;
        // Programs that read JSON may want to know who is idle; a table has no room for it.
        let more = format == ListFormat::Json && !quiet;
        for (id, seen) in ids.iter().zip(look(root, &store, &ids, more)) {
            match seen {
                Ok((row, why)) => {
                    rows.push(row);
                    why.into_iter().for_each(|error| log.warn(|| format!("list container {id}: {error}")));
                }
                // Deleted while we looked, or never finished.
                Err(error) if error.kind() == Kind::NoSuchContainer => {}
                Err(error) => log.warn(|| format!("list container {id}: {error}")),
            }
        }
    }
    phases::enter("answer");
    report::print(&match (quiet, format) {
        (true, _) => rows.iter().map(|row| format!("{}\n", row.id)).collect(),
        (false, ListFormat::Table) => report::table(&rows),
        (false, ListFormat::Json) => report::json_line(&rows)?,
    })
}

/// What is seen of a container, and why its status is not known where it is not.
type Seen = Result<(Row, Option<Error>)>;

/// In the order of the ids.
fn look(root: &Path, store: &Store, ids: &[ContainerId], more: bool) -> Vec<Seen> {
    let mut seen = match ids.len() {
        ..CROWD => some(store, ids, more),
        _ => crowd(store, ids, more),
    };
    let others: Vec<usize> = (0..ids.len()).filter(|index| seen[*index].is_none()).collect();
    for chunk in others.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let asked: Vec<_> = chunk.iter().map(|index| (*index, scope.spawn(|| ask(root, &ids[*index])))).collect();
            for (index, thread) in asked {
                seen[index] = thread.join().ok();
            }
        });
    }
    seen.into_iter().zip(ids).map(|(seen, id)| seen.unwrap_or_else(|| Err(super::no_such(id)))).collect()
}

/// By several threads: nearly all of it is waiting for the kernel's answers.
fn crowd(store: &Store, ids: &[ContainerId], more: bool) -> Vec<Option<Seen>> {
    wharf_sys::arena::populate(ids.len() * EACH);
    std::thread::scope(|scope| {
        let shares = ids.chunks(ids.len().div_ceil(WORKERS)).map(|share| {
            let thread = std::thread::Builder::new().spawn_scoped(scope, move || {
                // Nothing that is opened here is handed out. Where it cannot be, it is only slower.
                let _ = wharf_sys::fd::own_table();
                some(store, share, more)
            });
            (share, thread.ok())
        });
        let shares: Vec<_> = shares.collect();
        // What no thread does is done here.
        let ended = shares.into_iter().map(|(share, thread)| match thread.map(|thread| thread.join()) {
            Some(Ok(seen)) => seen,
            _ => some(store, share, more),
        });
        ended.flatten().collect()
    })
}

fn some(store: &Store, ids: &[ContainerId], more: bool) -> Vec<Option<Seen>> {
    // One for all: what it finds out of the host it finds out once.
    let native = wharf_native::native();
    ids.iter().map(|id| own(store, id, &native, more)).collect()
}

/// None for a container of another runtime.
fn own(store: &Store, id: &ContainerId, native: &dyn Backend, more: bool) -> Option<Seen> {
    let found = || -> Result<(Entry, Record)> {
        let entry = store.find(id)?.ok_or_else(|| super::no_such(id))?;
        let record = entry.record()?.ok_or_else(|| super::no_such(id))?;
        Ok((entry, record))
    };
    match found() {
        Ok((_, record)) if record.backend != native.name() => None,
        Ok((entry, record)) => Some(row(record, &entry, native, more)),
        Err(error) => Some(Err(error)),
    }
}

fn ask(root: &Path, id: &ContainerId) -> Seen {
    let Found { entry, record, backend, .. } = Found::look(root, id)?;
    row(record, &entry, backend.as_ref(), false)
}

fn row(record: Record, entry: &Entry, backend: &dyn Backend, more: bool) -> Seen {
    let (status, pid, why) = match super::state_of(&record, entry, backend) {
        Ok((status, pid)) => (Some(status), pid, None),
        Err(error) if error.kind() == Kind::NoSuchContainer => return Err(error),
        Err(error) => (None, 0, Some(error)),
    };
    let owner = report::owner(record.owner);
    let activity = more.then(|| Activity::new(backend.used(&record), witness::activity(&record, entry)));
    let mut row = Row::new(witness::told(record, entry, status), status, pid, owner);
    row.activity = activity;
    Ok((row, why))
}
