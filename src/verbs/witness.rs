//! Who writes down how a container ends, and what the verbs tell that witness.

use super::Found;
use super::create::Then;
use crate::cli::Request;
use crate::store::Entry;
use std::os::fd::BorrowedFd;
use std::time::Duration;
use wharf_core::{
    Backend, Bundle, Ended, Error, Exit, Record, Result, Sender, Status, WitnessKind, annotations, duration,
};
use wharf_monitor::{Watch, Watcher};

const KILL: i32 = 9;
/// The annotation that says why there is nothing to tell.
const UNREADABLE: &str = "dev.wharf.exit.unknown";

/// What is wanted for a new container.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) kind: Option<WitnessKind>,
    lifetime: Option<Duration>,
}

/// The annotations decide, then the configuration; `run` is a witness by itself where its record outlives it.
pub(super) fn wish(request: &Request, bundle: &Bundle, backend: &dyn Backend, then: Then) -> Result<Wish> {
    let text = |key: &'static str| {
        let value = bundle.spec.annotations().as_ref().and_then(|all| all.get(key));
        value.map(|value| (value, annotations::pointer(key)))
    };
    let lifetime = match text(annotations::LIFETIME) {
        None => None,
        Some((value, at)) => {
            let lifetime = duration::parse(value).filter(|lifetime| lifetime.as_millis() > 0).ok_or_else(|| {
                Error::invalid(format!("lifetime {value:?}")).because("is not a duration, as 90s or 1h30m").at(&at)
            })?;
            Some((lifetime, at))
        }
    };
    let asked = match text(annotations::EXIT_RECORD) {
        None => None,
        Some((value, at)) => match value.as_str() {
            "watcher" => Some((true, at)),
            "none" => Some((false, at)),
            _ => {
                return Err(Error::invalid(format!("exit record by {value:?}"))
                    .because("is neither watcher nor none")
                    .at(at));
            }
        },
    };
    // Who stands in keeps a record of the end anyway.
    let watched = asked.as_ref().filter(|asked| asked.0 && !backend.stands_in());
    let by_annotation = [lifetime.as_ref().map(|(_, at)| at), watched.map(|(_, at)| at)];
    if let (false, Some(at)) = (backend.can_be_watched(), by_annotation.into_iter().flatten().next()) {
        return Err(Error::unsupported(format!("a watcher for a container of {}", backend.name()))
            .because("its process is not wharf's own")
            .at(at)
            .hint("only containers of the native backend are watched"));
    }
    if backend.stands_in() {
        return Ok(Wish { kind: Some(WitnessKind::StandIn), lifetime: None });
    }
    let lifetime = lifetime.map(|(lifetime, _)| lifetime);
    let configured = request.configuration.as_ref().is_some_and(|configuration| configuration.exit_record());
    let watcher = lifetime.is_some() || asked.map_or(configured && backend.can_be_watched(), |(asked, _)| asked);
    let kind = match (watcher, then) {
        (true, _) => Some(WitnessKind::Watcher),
        (false, Then::StartAndKeep) => Some(WitnessKind::Run),
        (false, _) => None,
    };
    Ok(Wish { kind, lifetime })
}

impl Wish {
    /// Starts the watcher, where one is wanted. The record is saved, and the payload not yet let go.
    pub(super) fn watcher(&self, dir: BorrowedFd<'_>, record: &Record) -> Result<Option<Watcher>> {
        match self.kind {
            Some(WitnessKind::Watcher) => Watcher::start(dir, record, self.lifetime).map(Some),
            _ => Ok(None),
        }
    }
}

/// This process as the witness, where the record says so.
pub(super) fn own(found: &Found) -> Result<Option<Watch>> {
    match found.record.witness {
        Some(WitnessKind::Run) => Watch::open(found.entry.dir(), WitnessKind::Run, &found.record.cgroup).map(Some),
        _ => Ok(None),
    }
}

pub(super) fn note_start(found: &Found) -> Result<()> {
    if found.record.witness.is_some() { wharf_monitor::note_start(found.entry.dir()) } else { Ok(()) }
}

pub(super) fn note_exec(found: &Found) {
    if found.record.witness.is_some() {
        wharf_monitor::note_exec(found.entry.dir());
    }
}

/// When it was started and when something was last executed in it, where that is noted.
pub(super) fn activity(record: &Record, entry: &Entry) -> (Option<String>, Option<String>) {
    if record.witness.is_some() { wharf_monitor::activity(entry.dir()) } else { (None, None) }
}

/// Sends a signal, and lets the witness know from whom it was.
pub(super) fn noting_kill(found: &Found, signal: i32, send: impl FnOnce() -> Result<()>) -> Result<()> {
    if found.record.witness.is_none() || signal == 0 {
        return send();
    }
    let noted = wharf_monitor::note_signal(found.entry.dir(), Sender::Kill, signal);
    send().inspect_err(|_| {
        if noted {
            wharf_monitor::take_back(found.entry.dir(), signal)
        }
    })
}

/// Before the container is ended by force.
pub(super) fn note_delete(found: &Found) {
    if found.record.witness.is_some() {
        wharf_monitor::note_signal(found.entry.dir(), Sender::Delete, KILL);
    }
}

/// The container has ended, and its state is about to go: its witness, and who waits for its word, come first.
pub(super) fn let_witness_end(found: &Found) {
    if found.record.witness.is_some() {
        let _ = wharf_monitor::all_told(found.entry.dir());
    }
}

/// `run` has seen the end: it writes it down, or adds to what a watcher was not told.
pub(super) fn finish(found: &Found, watch: Option<Watch>, ended: Ended) -> Result<()> {
    match watch {
        Some(watch) => watch.finish(ended),
        None if found.record.witness.is_some() => wharf_monitor::amend(found.entry.dir(), ended),
        None => Ok(()),
    }
}

/// The record with what its witness has seen among its annotations.
pub(super) fn told(mut record: Record, entry: &Entry, status: Option<Status>) -> Record {
    if record.witness.is_some() && status == Some(Status::Stopped) {
        match wharf_monitor::exit(entry.dir()) {
            Ok(exit) => record.annotations.extend(exit.iter().flat_map(Exit::annotations)),
            Err(error) => drop(record.annotations.insert(UNREADABLE.to_owned(), error.to_string())),
        }
    }
    record
}
