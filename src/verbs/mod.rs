//! One page per verb: request, route, backend, record, report.

mod caller_file;
mod checkpoint;
mod clones;
mod config;
mod create;
mod delete;
mod doctor;
mod events;
mod exec;
mod explain;
mod facts;
mod features;
mod gc;
mod kill;
mod list;
mod machines;
mod node;
mod pause;
mod plan;
mod ps;
mod resume;
mod run;
mod spec;
mod start;
mod state;
mod update;
mod wait;
mod witness;

use crate::cli::{Action, LogOptions, Request};
use crate::report::Log;
use crate::route::{self, Place};
use crate::store::{Entry, Store};
use std::path::Path;
use wharf_core::phases;
use wharf_core::{Backend, ContainerId, Error, Kind, Record, Result, Status};

/// Does what was asked; the exit code is 0 but for a payload's own.
pub(crate) fn perform(request: &Request, options: &LogOptions, log: &Log) -> Result<i32> {
    phases::enter(first_phase(&request.action));
    let root = request.root.as_path();
    if let Some(error) = request.ignored.as_ref().filter(|_| !matches!(request.action, Action::Doctor { .. })) {
        log.warn(|| format!("without a configuration: {error}"));
    }
    let done = match &request.action {
        Action::Create(asked) => create::create(request, asked, options, log),
        Action::Plan(asked) => return plan::plan(request, asked, log),
        Action::Doctor { format } => return doctor::doctor(request, *format),
        Action::Run { create, detach, keep } => return run::run(request, create, options, log, *detach, *keep),
        Action::Checkpoint(asked) => checkpoint::checkpoint(request, asked, log),
        Action::Restore(asked) => return checkpoint::restore(request, asked, options, log),
        Action::Exec { id, exec } => return exec::exec(root, id, exec, options, log),
        Action::Start { id } => start::start(root, id, log),
        Action::State { id } => state::state(root, id),
        Action::Kill { id, signal, all } => kill::kill(root, id, *signal, *all),
        Action::Delete { id, force } => delete::delete(root, id, *force, log),
        Action::Pause { id } => pause::pause(root, id),
        Action::Resume { id } => resume::resume(root, id),
        Action::Ps { id, format, options } => ps::ps(root, id, *format, options),
        Action::Events(asked) => events::events(root, asked, log),
        Action::Update { id, from } => update::update(root, id, from),
        Action::Wait { id, json } => return wait::wait(root, id, *json),
        Action::List { format, quiet } => list::list(root, *format, *quiet, log),
        Action::Gc { apply, stopped, format } => gc::gc(request, *apply, *stopped, *format, log),
        Action::Checkpoints(asked) => checkpoint::checkpoints(request, asked),
        Action::Spec { bundle, rootless } => spec::spec(bundle, *rootless),
        Action::Features => features::features(),
        Action::Config(action) => config::config(request, action),
        Action::Explain(asked) => explain::explain(request, asked),
    };
    done.map(|()| 0)
}

/// What most verbs begin with is to find the container.
fn first_phase(action: &Action) -> &'static str {
    match action {
        Action::Create(_) | Action::Run { .. } | Action::Plan(_) => "bundle",
        Action::Restore(_) => "verify",
        Action::List { .. } | Action::Gc { .. } => "containers",
        Action::Doctor { .. } | Action::Spec { .. } | Action::Features | Action::Config(_) | Action::Explain(_) => {
            "answer"
        }
        _ => "container",
    }
}

/// A container with its record and the backend that the record names.
struct Found {
    store: Store,
    entry: Entry,
    record: Record,
    backend: Box<dyn Backend>,
}

impl Found {
    /// Looks, without a lock.
    fn look(root: &Path, id: &ContainerId) -> Result<Self> {
        let (store, entry) = locate(root, id)?;
        Self::read(store, entry, id)
    }

    fn read(store: Store, entry: Entry, id: &ContainerId) -> Result<Self> {
        let record = entry.record()?.ok_or_else(|| no_such(id))?;
        Self::of(store, entry, record)
    }

    fn of(store: Store, entry: Entry, record: Record) -> Result<Self> {
        let backend = backend(&route::recorded(&record.backend))?;
        Ok(Found { store, entry, record, backend })
    }

    /// What the container is doing, seen by a process that does not hold its lock.
    fn status(&self) -> Result<Status> {
        self.state().map(|(status, _)| status)
    }

    /// The same with the process id that engines are to see.
    fn state(&self) -> Result<(Status, i32)> {
        state_of(&self.record, &self.entry, self.backend.as_ref())
    }

    /// After a start, under the lock: others may signal and delete the container while it gets ready.
    fn await_ready(self) -> Result<()> {
        let Found { store, entry, record, backend } = self;
        // The lock is the open directory's, and goes with it.
        drop(entry);
        store.leave_open();
        backend.await_ready(&record)
    }

    /// For a verb that ends with it: the process's own end closes what is open, without a call for each.
    fn leave_open(self) {
        self.store.leave_open();
        std::mem::forget(self.entry);
    }

    fn status_under_lock(&self) -> Result<Status> {
        self.backend.status(&self.record, self.entry.dir())
    }
}

fn state_of(record: &Record, entry: &Entry, backend: &dyn Backend) -> Result<(Status, i32)> {
    // A record without a process, locked by another: that one is making it. Unlocked, its maker is gone. A delegated
    // one never has a process, and its backend knows when it is being made.
    if record.init.is_none() && record.state.is_none() && entry.busy()? {
        return Ok((Status::Creating, 0));
    }
    backend.state(record, entry.dir())
}

/// The state directory, whether there is a record in it or not.
fn locate(root: &Path, id: &ContainerId) -> Result<(Store, Entry)> {
    let store = Store::open(root)?.ok_or_else(|| no_such(id))?;
    let entry = store.find(id)?.ok_or_else(|| no_such(id))?;
    Ok((store, entry))
}

/// In the words that engines match.
fn no_such(id: &ContainerId) -> Error {
    Error::new(Kind::NoSuchContainer, format!("container {id} does not exist"))
}

/// The same for a container that is to be made: by what the configuration says today.
fn backend_of_today(request: &Request, place: &Place) -> Result<Box<dyn Backend>> {
    match place {
        Place::Vm => Ok(Box::new(wharf_vm::Vm::new(machines::settings(request)))),
        Place::Pct => Ok(Box::new(wharf_lxc::pct::pct(node::settings(request)))),
        _ => backend(place),
    }
}

fn backend(place: &Place) -> Result<Box<dyn Backend>> {
    match place {
        Place::Native => Ok(Box::new(wharf_native::native())),
        Place::Lxc => Ok(Box::new(wharf_lxc::lxc())),
        Place::Pct => Ok(Box::new(wharf_lxc::pct::pct(wharf_lxc::pct::Settings::default()))),
        Place::Vm => Ok(Box::new(wharf_vm::Vm::new(wharf_vm::Settings::default()))),
        Place::Delegate { name, path, args } => {
            Ok(Box::new(wharf_delegate::Delegate::new(name, path.clone(), args.clone())))
        }
    }
}
