//! `list`: the containers below `--root`, of every backend. One that cannot be read does not hide the others.

use super::{Found, witness};
use crate::cli::ListFormat;
use crate::report::{self, Log, Row};
use crate::store::Store;
use std::path::Path;
use wharf_core::phases;
use wharf_core::{ContainerId, Error, Kind, Result};

/// Other runtimes that are asked at once: one that hangs takes its whole time to answer, and all others wait for it.
const AT_ONCE: usize = 16;

pub(super) fn list(root: &Path, format: ListFormat, quiet: bool, log: &Log) -> Result<()> {
    let ids = match Store::open(root)? {
        Some(store) => store.ids()?,
        None => Vec::new(),
    };
    let mut rows = Vec::new();
    for (id, seen) in ids.iter().zip(look(root, &ids)) {
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
    phases::enter("answer");
    report::print(&match (quiet, format) {
        (true, _) => rows.iter().map(|row| format!("{}\n", row.id)).collect(),
        (false, ListFormat::Table) => report::table(&rows),
        (false, ListFormat::Json) => report::json(&rows)?,
    })
}

/// What is seen of a container, and why its status is not known where it is not.
type Seen = Result<(Row, Option<Error>)>;

/// In the order of the ids.
fn look(root: &Path, ids: &[ContainerId]) -> Vec<Seen> {
    let mut seen: Vec<Option<Seen>> = ids.iter().map(|id| own(root, id)).collect();
    let others: Vec<usize> = (0..ids.len()).filter(|index| seen[*index].is_none()).collect();
    for some in others.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let asked: Vec<_> = some.iter().map(|index| (*index, scope.spawn(|| ask(root, &ids[*index])))).collect();
            for (index, thread) in asked {
                seen[index] = thread.join().ok();
            }
        });
    }
    seen.into_iter().zip(ids).map(|(seen, id)| seen.unwrap_or_else(|| Err(super::no_such(id)))).collect()
}

/// None for a container of another runtime.
fn own(root: &Path, id: &ContainerId) -> Option<Seen> {
    match Found::look(root, id) {
        Ok(found) if found.record.backend != "native" => None,
        found => Some(found.and_then(row)),
    }
}

fn ask(root: &Path, id: &ContainerId) -> Seen {
    Found::look(root, id).and_then(row)
}

fn row(found: Found) -> Seen {
    let (status, pid, why) = match found.state() {
        Ok((status, pid)) => (Some(status), pid, None),
        Err(error) if error.kind() == Kind::NoSuchContainer => return Err(error),
        Err(error) => (None, 0, Some(error)),
    };
    let owner = report::owner(found.record.owner);
    Ok((Row::new(witness::told(&found, status), status, pid, owner), why))
}
