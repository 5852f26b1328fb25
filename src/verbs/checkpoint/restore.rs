//! `restore`: a container that is made of a checkpoint.
//!
//! ```text
//! manifest, images, host      what does not fit is refused; nothing is touched
//! bundle, draft               as of a `create`
//! record, Draft::create       every process is there, and stands still
//! record, pid file, release   they run
//! ```

use super::disks::{self, Restored};
use super::take;
use crate::checkpoints;
use crate::cli::{self, LogOptions, Request};
use crate::report::Log;
use crate::route::{Place, Route};
use crate::verbs::create::{self, Then};
use crate::verbs::{Found, backend, run, witness};
use std::path::Path;
use wharf_core::{Bundle, ContainerId, Error, Job, Kind, Manifest, Restore, Result, phases};

/// The payload's exit code; 0 when it is left to itself.
pub(in crate::verbs) fn restore(
    request: &Request,
    asked: &cli::Restore,
    options: &LogOptions,
    log: &Log,
) -> Result<i32> {
    let id = &asked.create.id;
    let mut wanted = asked.wanted.clone();
    if let Some(name) = &asked.name {
        wanted.images.path = checkpoints::named(&take::home(request)?, id, name)?;
    }
    phases::enter("verify");
    let path = wanted.images.path.clone();
    let (dir, manifest) = checkpoints::read(&path)?;
    let doing = || format!("restore container {id} of {}", path.display());
    if manifest.memory.is_none() {
        return Err(Error::unsupported(doing())
            .because("the checkpoint holds no memory: it is of the disk alone")
            .hint("create the container on what the disk was"));
    }
    if asked.rollback && (asked.new.is_some() || asked.count.is_some()) {
        return Err(
            Error::new(Kind::Usage, "restore: --rollback").because("is of the container itself, not of new ones")
        );
    }
    checkpoints::verify(std::os::fd::AsFd::as_fd(&dir), &path, &manifest, asked.verify)?;
    wanted.mounts.clone_from(&manifest.mounts);
    wanted.descriptors.clone_from(&manifest.descriptors);
    wanted.console = manifest.console;
    if let Some(work) = &wanted.images.work {
        checkpoints::make_dir(work)?;
    }
    let original = bundle(asked, &path, &manifest)?;
    let base = asked.new.as_ref().unwrap_or(id);
    let ids = match asked.count {
        None => vec![base.clone()],
        Some(count) => {
            (1..=count).map(|number| ContainerId::new(&format!("{base}-{number}"))).collect::<Result<Vec<_>>>()?
        }
    };
    if asked.rollback {
        // Of a container that runs the disk must stay as it is.
        if let Some(error) = create::taken(&request.root, id) {
            return Err(error);
        }
        disks::roll_back(&manifest)?;
    }
    for id in &ids {
        let bundle =
            if *id == ContainerId::new(&manifest.id)? { None } else { Some(renamed(&original, &manifest, id)?) };
        let one = One { request, asked, options, log, wanted: &wanted, path: &path };
        let bundle = bundle.as_ref().unwrap_or(&original);
        if let Some(error) = create::taken(&request.root, id) {
            return Err(error);
        }
        phases::enter("clones");
        let disk = match manifest.disk.is_some() && !asked.rollback {
            true => Some(Restored::clone_all(request, id, bundle, &manifest)?),
            false => None,
        };
        let found = one.make(id, disk.as_ref().map_or(bundle, |disk| &disk.bundle), disk.as_ref())?;
        if let Some(disk) = disk {
            disk.keep();
        }
        witness::note_start(&found)?;
        if !asked.detach {
            let watch = witness::own(&found)?;
            return run::attend(found, id, watch, false, log);
        }
        found.leave_open();
    }
    Ok(0)
}

/// The bundle to be restored: the one that is named, or that of the checkpoint as it was.
fn bundle(asked: &cli::Restore, images: &Path, manifest: &Manifest) -> Result<Bundle> {
    let named = &asked.create.bundle;
    if !named.as_os_str().is_empty() {
        return Bundle::open(named);
    }
    if asked.name.is_none() {
        return Bundle::open(".".as_ref());
    }
    Ok(Bundle { dir: manifest.bundle.clone().into(), ..Bundle::open(images)? })
}

/// The same container by another name has a cgroup of its own: of that name where the path has the old one in it, and
/// else beside it.
fn renamed(bundle: &Bundle, manifest: &Manifest, id: &ContainerId) -> Result<Bundle> {
    let mut config: serde_json::Value =
        serde_json::from_slice(&bundle.raw).map_err(|error| Error::invalid("read config.json").because(error))?;
    if let Some(path) = config.pointer_mut("/linux/cgroupsPath")
        && let Some(text) = path.as_str().filter(|text| !text.is_empty())
    {
        *path = cgroup_of(text, &manifest.id, id.as_str()).into();
    }
    bundle.with_config(&config)
}

fn cgroup_of(path: &str, old: &str, new: &str) -> String {
    match path.rfind(old) {
        Some(at) => format!("{}{new}{}", &path[..at], &path[at + old.len()..]),
        None => format!("{}-{new}", path.trim_end_matches('/')),
    }
}

struct One<'a> {
    request: &'a Request,
    asked: &'a cli::Restore,
    options: &'a LogOptions,
    log: &'a Log,
    wanted: &'a Restore,
    path: &'a Path,
}

impl One<'_> {
    fn make(&self, id: &ContainerId, bundle: &Bundle, disk: Option<&Restored>) -> Result<Found> {
        let One { request, asked, .. } = self;
        let create = &asked.create;
        let why = format!("restored of {}", self.path.display());
        let route = Route { place: Place::Native, why, rule: None, clone: false };
        let backend = backend(&route.place)?;
        let state_dir = request.root.join(id.as_str());
        phases::enter("draft");
        let job = Job {
            state_dir: &state_dir,
            console_socket: create.console_socket.as_deref(),
            pid_file: create.pid_file.as_deref(),
            no_pivot: create.no_pivot,
            systemd_cgroup: request.systemd_cgroup,
            log: self.options.to(),
            rootless: request.rootless.as_deref(),
            no_subreaper: create.no_subreaper,
            foreground: !asked.detach,
            ..Job::new(id, bundle)
        };
        let then = if asked.detach { Then::Leave } else { Then::StartAndWait };
        let wish = witness::wish(request, bundle, backend.as_ref(), then)?;
        let drafted = backend.restore(job, self.wanted);
        let draft = drafted.map_err(|error| create::taken(&request.root, id).unwrap_or(error))?;
        let mut record = create::begin(request, id, bundle, backend.name(), route);
        record.clones = disk.map(Restored::record).unwrap_or_default();
        let (store, entry, record) =
            create::place(request, id, draft, record, create.pid_file.as_deref(), &wish, self.log)?;
        Ok(Found { store, entry, record, backend })
    }
}

#[cfg(test)]
mod tests {
    use super::cgroup_of;

    #[test]
    fn another_container_has_another_cgroup() {
        for (path, expected) in [
            ("/a/web", "/a/new"),
            ("system.slice:wharf:web", "system.slice:wharf:new"),
            ("/web/web.scope", "/web/new.scope"),
            ("/a/b", "/a/b-new"),
        ] {
            assert_eq!(cgroup_of(path, "web", "new"), expected);
        }
    }
}
