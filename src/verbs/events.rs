//! `events`: what a container uses, a line of JSON each time; or what all of them use now, for a scrape too.

use super::{Found, backend, no_such, state_of};
use crate::cli::Events;
use crate::report::{self, Log};
use crate::route;
use crate::store::Store;
use std::path::Path;
use wharf_core::phases;
use wharf_core::{Backend, ContainerId, Kind, Result, Statistics, Verb, allowed};

pub(super) fn events(root: &Path, asked: &Events, log: &Log) -> Result<()> {
    match &asked.of {
        Some(id) if !asked.prometheus => one(root, id, asked),
        _ => scrape(root, asked, log),
    }
}

/// Without an interval once.
fn one(root: &Path, id: &ContainerId, asked: &Events) -> Result<()> {
    let found = Found::look(root, id)?;
    phases::enter("status");
    allowed(id, found.status()?, Verb::Events)?;
    if asked.interval.is_some() {
        // It lives as long as the container.
        wharf_sys::arena::retire();
    }
    let mut tell = |event| report::print(&report::event(id, event)?);
    phases::enter("events");
    found.backend.events(&found.record, found.entry.dir(), asked.interval, &mut tell)
}

/// Once, of one or of all that have processes. One that cannot be asked does not hide the others.
fn scrape(root: &Path, asked: &Events, log: &Log) -> Result<()> {
    let store = Store::open(root)?;
    let ids = match (&asked.of, &store) {
        (Some(id), _) => vec![id.clone()],
        (None, Some(store)) => store.ids()?,
        (None, None) => Vec::new(),
    };
    // One for all: what it finds out of the host it finds out once.
    let native = wharf_native::native();
    let mut all: Vec<(String, Statistics)> = Vec::new();
    let mut tell_of = |id: &ContainerId| {
        let store = store.as_ref().ok_or_else(|| no_such(id))?;
        let entry = store.find(id)?.ok_or_else(|| no_such(id))?;
        let record = entry.record()?.ok_or_else(|| no_such(id))?;
        let other;
        let backend: &dyn Backend = if record.backend == native.name() {
            &native
        } else {
            other = backend(&route::recorded(&record.backend))?;
            other.as_ref()
        };
        let (status, _) = state_of(&record, &entry, backend)?;
        allowed(id, status, Verb::Events)?;
        if asked.prometheus {
            all.push((id.to_string(), backend.statistics(&record)?));
            return Ok(());
        }
        backend.events(&record, entry.dir(), None, &mut |event| report::print(&report::event(id, event)?))
    };
    for id in &ids {
        match tell_of(id) {
            Err(error) if asked.of.is_some() => return Err(error),
            // Over, or deleted while we looked.
            Err(error) if matches!(error.kind(), Kind::NotRunning | Kind::NoSuchContainer) => {}
            Err(error) => log.warn(|| format!("events of container {id}: {error}")),
            Ok(()) => {}
        }
    }
    if asked.prometheus { report::print(&report::prometheus(&all)) } else { Ok(()) }
}
