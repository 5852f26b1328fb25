//! `route explain`: where a container went, where it would go today, and why.

use super::{facts, no_such};
use crate::cli::{Explain, Request};
use crate::report;
use crate::route::{Explanation, Pinned};
use crate::store::Store;
use std::path::PathBuf;
use wharf_core::{Bundle, ContainerId, Error, Kind, Record, Result};

/// Whose id the rules see when none is given.
const NO_ID: &str = "";

pub(super) fn explain(request: &Request, asked: &Explain) -> Result<()> {
    let record = match &asked.id {
        Some(id) => recorded(request, id)?,
        None => None,
    };
    let dir = match (&asked.bundle, &record, &asked.id) {
        (Some(dir), _, _) => dir.clone(),
        (None, Some(record), _) => PathBuf::from(&record.bundle),
        (None, None, Some(id)) => return Err(no_such(id)),
        (None, None, None) => return Err(Error::new(Kind::Usage, "route: neither a container nor a bundle is named")),
    };
    let routing = facts::routing(request)?;
    let bundle = match (Bundle::open(&dir), &record) {
        (Ok(bundle), _) => bundle,
        (Err(error), Some(record)) => return show(asked, &Explanation::of_the_past(&routing, pinned(record), &error)),
        (Err(error), None) => return Err(error),
    };
    let id = asked.id.as_ref().map_or(NO_ID, |id| id.as_str());
    // The caller of `create` was an engine: its name for us and its user count, not those of who explains.
    let argv0 = match (&asked.argv0, &record) {
        (Some(name), _) => name.as_str(),
        (None, Some(record)) if record.argv0.is_empty() => "wharf",
        (None, Some(record)) => record.argv0.as_str(),
        (None, None) => request.argv0.as_str(),
    };
    let mut facts = facts::gather(&routing, id, &bundle, argv0)?;
    facts.uid = match &record {
        Some(record) if record.owner != wharf_sys::dir::effective_uid() => record.owner,
        _ => facts::outer_uid()?,
    };
    let pinned = record.as_ref().map(pinned);
    show(asked, &Explanation::new(&routing, request.backend.as_deref(), &facts, pinned))
}

fn show(asked: &Explain, explanation: &Explanation) -> Result<()> {
    report::print(&if asked.json { report::json(explanation)? } else { explanation.text() })
}

/// With a bundle given, the id may be one that does not exist yet.
fn recorded(request: &Request, id: &ContainerId) -> Result<Option<Record>> {
    let Some(store) = Store::open(&request.root)? else { return Ok(None) };
    match store.find(id)? {
        Some(entry) => entry.record(),
        None => Ok(None),
    }
}

fn pinned(record: &Record) -> Pinned {
    Pinned {
        backend: record.backend.clone(),
        program: wharf_delegate::program(record),
        why: record.route.clone(),
        created: record.created.clone(),
    }
}
