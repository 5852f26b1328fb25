//! `list`: the containers below `--root`. One that cannot be read does not hide the others.

use super::Found;
use crate::cli::ListFormat;
use crate::report::{self, Log, Row};
use crate::store::Store;
use std::path::Path;
use wharf_core::{Kind, Result};

pub(super) fn list(root: &Path, format: ListFormat, quiet: bool, log: &Log) -> Result<()> {
    let ids = match Store::open(root)? {
        Some(store) => store.ids()?,
        None => Vec::new(),
    };
    let mut rows = Vec::new();
    for id in ids {
        let row = Found::look(root, &id).and_then(|found| {
            let (status, pid) = found.state()?;
            let owner = report::owner(found.record.owner);
            Ok(Row::new(found.record, status, pid, owner))
        });
        match row {
            Ok(row) => rows.push(row),
            // Deleted while we looked, or never finished.
            Err(error) if error.kind() == Kind::NoSuchContainer => {}
            Err(error) => log.warn(|| format!("list container {id}: {error}")),
        }
    }
    report::print(&match (quiet, format) {
        (true, _) => rows.iter().map(|row| format!("{}\n", row.id)).collect(),
        (false, ListFormat::Table) => report::table(&rows),
        (false, ListFormat::Json) => report::json(&rows)?,
    })
}
