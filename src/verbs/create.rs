//! `create`: a container that waits to be started.
//!
//! ```text
//! bundle, route, draft     everything is judged; nothing exists
//! state directory, lock    the id is ours
//! draft record             whatever happens next can be found and deleted
//! Draft::create            the payload waits, and would die with us
//! record, pid file
//! Hold::release            the payload outlives us
//! ```

use super::clones::{self, Placed};
use super::witness::{self, Wish};
use super::{Found, backend_of_today, caller_file, facts};
use crate::cli::{self, LogOptions, Request};
use crate::report::Log;
use crate::route::Route;
use crate::store::{Entry, Store, exists};
use std::path::Path;
use wharf_core::phases;
use wharf_core::{
    Bundle, CgroupPaths, ContainerId, Draft, Error, Job, Kind, Opaque, RECORD_VERSION, Record, Result, Warnings, time,
};
use wharf_monitor::Watcher;

pub(super) fn create(request: &Request, asked: &cli::Create, options: &LogOptions, log: &Log) -> Result<()> {
    make(request, asked, options, log, Then::Leave).map(drop)
}

/// What the caller does with a created container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Leave,
    /// `run --detach`
    Start,
    /// `run`
    StartAndWait,
    /// `run --keep`
    StartAndKeep,
}

/// Leaves the container's lock with the caller; a failure leaves nothing behind.
pub(super) fn make(
    request: &Request,
    asked: &cli::Create,
    options: &LogOptions,
    log: &Log,
    then: Then,
) -> Result<Found> {
    // As much as an engine's configuration takes from here to the end.
    wharf_sys::arena::populate(224 * 1024);
    let bundle = Bundle::open(&asked.bundle)?;
    phases::enter("route");
    let route = facts::choose(request, asked.id.as_str(), &bundle)?;
    let backend = backend_of_today(request, &route.place)?;
    log.debug(|| format!("container {} goes to backend {}: {}", asked.id, backend.name(), route.why));
    let state_dir = request.root.join(asked.id.as_str());
    let placed = clones::place(request, &asked.id, &bundle, &route).map_err(|error| {
        // Engines match the words for an id that is taken, and its dataset is taken too then.
        taken(&request.root, &asked.id).unwrap_or(error)
    })?;
    let bundle = placed.as_ref().map_or(&bundle, Placed::bundle);
    phases::enter("draft");
    let drafted = backend.draft(Job {
        state_dir: &state_dir,
        console_socket: asked.console_socket.as_deref(),
        pidfd_socket: asked.pidfd_socket.as_deref(),
        pid_file: asked.pid_file.as_deref(),
        preserve_fds: asked.preserve_fds,
        no_pivot: asked.no_pivot,
        no_new_keyring: asked.no_new_keyring,
        systemd_cgroup: request.systemd_cgroup,
        log: options.to(),
        rootless: request.rootless.as_deref(),
        no_subreaper: asked.no_subreaper,
        then_start: then != Then::Leave,
        foreground: matches!(then, Then::StartAndWait | Then::StartAndKeep),
        ..Job::new(&asked.id, bundle)
    });
    // Engines match the words for an id that is taken; what else is wrong then comes of that.
    let draft = drafted.map_err(|error| taken(&request.root, &asked.id).unwrap_or(error))?;
    log.warn_each(|| draft.remarks().iter().map(ToString::to_string).collect());
    let wish = witness::wish(request, bundle, backend.as_ref(), then)?;
    let mut record = begin(request, &asked.id, bundle, backend.name(), route);
    record.clones = placed.as_ref().map(Placed::record).unwrap_or_default();
    let (store, entry, record) = place(request, &asked.id, draft, record, asked.pid_file.as_deref(), &wish, log)?;
    if let Some(placed) = placed {
        placed.keep();
    }
    log.debug(|| format!("container {} is created, pid {}", asked.id, record.engine_pid));
    Ok(Found { store, entry, record, backend })
}

/// From a judged job and the beginning of its record to a container; a failure leaves nothing behind.
pub(super) fn place(
    request: &Request,
    id: &ContainerId,
    draft: Box<dyn Draft + '_>,
    mut record: Record,
    pid_file: Option<&Path>,
    wish: &Wish,
    log: &Log,
) -> Result<(Store, Entry, Record)> {
    record.witness = wish.kind;
    draft.describe(&mut record);
    phases::enter("record");
    let store = Store::make(&request.root)?;
    let entry = match store.create(id) {
        Err(error) if error.kind() == Kind::Exists && super::delete::collect(&request.root, id, log) => {
            store.create(id)?
        }
        other => other?,
    };
    match finish(draft, &entry, &mut record, pid_file, wish) {
        Ok(warnings) => log.warn_each(|| warnings.iter().map(ToString::to_string).collect()),
        Err(error) => {
            if let Err(left) = store.remove(&entry) {
                log.warn(|| format!("clean up after a failed create: {left}"));
            }
            return Err(error);
        }
    }
    Ok((store, entry, record))
}

/// The error of an id that a container has.
pub(super) fn taken(root: &Path, id: &ContainerId) -> Option<Error> {
    let entry = Store::open(root).ok()??.find(id).ok()??;
    entry.record().ok()?.map(|_| exists(id))
}

/// The record before anything exists.
pub(super) fn begin(request: &Request, id: &ContainerId, bundle: &Bundle, backend: &str, route: Route) -> Record {
    let spec = &bundle.spec;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    Record {
        version: RECORD_VERSION,
        id: id.to_string(),
        oci_version: spec.version().clone(),
        bundle: text(&bundle.dir),
        rootfs: spec.root().as_ref().map(|root| text(&bundle.dir.join(root.path()))).unwrap_or_default(),
        backend: backend.to_owned(),
        route: route.why,
        rule: route.rule,
        argv0: if request.argv0 == "wharf" { String::new() } else { request.argv0.clone() },
        owner: wharf_sys::dir::effective_uid(),
        created: time::now(),
        state: None,
        init: None,
        engine_pid: 0,
        cgroup: CgroupPaths::default(),
        annotations: spec.annotations().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect(),
        poststart: Vec::new(),
        poststop: Vec::new(),
        witness: None,
        clones: Vec::new(),
        private: Opaque::default(),
    }
}

fn finish(
    draft: Box<dyn Draft + '_>,
    entry: &Entry,
    record: &mut Record,
    pid_file: Option<&Path>,
    wish: &Wish,
) -> Result<Warnings> {
    entry.save_draft(record)?;
    let tell = |cgroup: CgroupPaths| entry.save(&Record { cgroup, ..record.clone() });
    let created = draft.create(entry.dir(), record, &tell)?;
    phases::enter("full record");
    record.init = Some(created.init);
    record.engine_pid = created.engine_pid;
    record.cgroup = created.cgroup;
    record.private = created.private;
    // From here on a failure drops the hold, which undoes the container.
    entry.save(record)?;
    if let Some(path) = pid_file {
        caller_file::write("pid file", path, &record.engine_pid.to_string())?;
    }
    let take_back = || pid_file.into_iter().for_each(caller_file::remove);
    let watcher = wish.watcher(entry.dir(), record).inspect_err(|_| take_back())?;
    phases::enter("release");
    created.hold.release().inspect_err(|_| {
        watcher.into_iter().for_each(Watcher::stop);
        take_back();
    })?;
    Ok(created.warnings)
}
