//! Datasets of a container's own: made before it, named in its record, gone with it.
//!
//! Each is mounted below `--root`, in `.clones/ID`, which is no name of a container. It is the only place: engines and
//! `zfs mount` see the bundle's own root file system as it was.

use crate::cli::Request;
use crate::report::Log;
use crate::route::{Place, Route};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wharf_core::{Bundle, CloneRecord, ContainerId, Error, Record, Result, annotations};
use wharf_disk::{Cause, Dataset, Keeper, Marks, SnapshotName};
use wharf_sys::{CWD, fd, libc, mount};

/// Below `--root`.
const HOME: &str = ".clones";
/// How long the mounts of a mount namespace may stay when its last process is gone.
const PATIENCE: Duration = Duration::from_secs(1);

/// A bundle whose root file system is a clone. Dropped, the clone is gone; [`Placed::keep`] leaves it to the record.
pub(super) struct Placed {
    bundle: Bundle,
    clone: Option<CloneRecord>,
}

impl Placed {
    pub(super) fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    pub(super) fn record(&self) -> Vec<CloneRecord> {
        self.clone.iter().cloned().collect()
    }

    pub(super) fn keep(mut self) {
        self.clone = None;
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        if let Some(clone) = &self.clone {
            let _ = remove(clone);
        }
    }
}

/// Whether a container asks for it, and where in config.json. The annotation decides, then the rule.
fn asked(bundle: &Bundle, route: &Route) -> Result<Option<Option<String>>> {
    let value = bundle.spec.annotations().as_ref().and_then(|all| all.get(annotations::DATASET));
    let at = || annotations::pointer(annotations::DATASET);
    match value.map(String::as_str) {
        Some("clone") => Ok(Some(Some(at()))),
        Some("none") => Ok(None),
        Some(other) => {
            Err(Error::invalid(format!("dataset by {other:?}")).because("is neither clone nor none").at(at()))
        }
        None => Ok(route.clone.then_some(None)),
    }
}

/// Makes the clone where one is asked for. A failure leaves nothing behind.
pub(super) fn place(request: &Request, id: &ContainerId, bundle: &Bundle, route: &Route) -> Result<Option<Placed>> {
    let Some(at) = asked(bundle, route)? else { return Ok(None) };
    let placed = fork(request, id, bundle, route);
    placed.map(Some).map_err(|error| match (at, &route.rule) {
        (Some(at), _) => error.at(at),
        (None, _) => error,
    })
}

fn fork(request: &Request, id: &ContainerId, bundle: &Bundle, route: &Route) -> Result<Placed> {
    if let Place::Delegate { name, .. } = &route.place {
        return Err(Error::unsupported("a dataset of its own for a container")
            .because(format!("{name} reads config.json itself"))
            .hint("only containers of the native backend get one"));
    }
    let configured = request.configuration.as_ref().and_then(|configuration| configuration.zfs_dataset());
    let Some(parent) = configured else {
        return Err(Error::invalid("make a dataset for the container")
            .because("storage.zfs_dataset is not in the configuration"));
    };
    let root = bundle.spec.root().as_ref().map(|root| bundle.dir.join(root.path()));
    let root = root.ok_or_else(|| Error::invalid("config.json: root is missing").at("root"))?;
    let failed = |doing: &str, path: &Path, errno| Error::system(format!("{doing} {}", path.display()), errno as i32);
    let path = c_path(&root)?;
    let opened = fd::openat(CWD, &path, libc::O_PATH | libc::O_DIRECTORY, 0);
    let opened = opened.map_err(|errno| failed("open root file system", &root, errno).at("root/path"))?;
    let kept = match wharf_disk::keeper(opened)? {
        Keeper::Zfs(place) if !place.upper => place,
        Keeper::Zfs(_) => return Err(elsewhere(&root, "an overlay")),
        Keeper::Other { what } => return Err(elsewhere(&root, &what)),
    };
    let pool = parent.split('/').next().unwrap_or_default();
    if kept.dataset.pool() != pool {
        wharf_disk::find(pool)?;
        return Err(Error::invalid(format!("clone {} below {parent}", kept.dataset.name))
            .because(format!("a clone is in the pool of what it is of, {}, and not in {pool}", kept.dataset.pool())));
    }
    let marks = Marks::now(id.as_str(), "").below(&request.root);
    let digits: String = marks.created.chars().filter(char::is_ascii_digit).collect();
    let snapshot = SnapshotName::new(id, &format!("create.{digits}"))?;
    let dataset = wharf_disk::fork(&kept.dataset, &snapshot, &wharf_disk::own_name(parent, id)?, &marks)?;
    let mut clone = CloneRecord { dataset: dataset.name.clone(), guid: dataset.guid, at: String::new() };
    let placed = attach(&request.root, id, "root", &dataset).and_then(|at| {
        clone.at = at.to_string_lossy().into_owned();
        let mut config: serde_json::Value =
            serde_json::from_slice(&bundle.raw).map_err(|error| Error::invalid("read config.json").because(error))?;
        config["root"]["path"] = at.join(&kept.within).to_string_lossy().into_owned().into();
        bundle.with_config(&config)
    });
    match placed {
        Ok(bundle) => Ok(Placed { bundle, clone: Some(clone) }),
        Err(error) => {
            let _ = remove(&clone);
            Err(error)
        }
    }
}

fn elsewhere(root: &Path, what: &str) -> Error {
    Error::invalid(format!("clone root file system {}", root.display()))
        .because(format!("it is on {what}, not on a dataset of ZFS"))
        .hint("unpack it into a dataset")
}

fn c_path(path: &Path) -> Result<std::ffi::CString> {
    std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::invalid("a path with a NUL in it"))
}

/// Mounts a dataset for a container, as `word`, and tells where.
pub(super) fn attach(root: &Path, id: &ContainerId, word: &str, dataset: &Dataset) -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let at = root.join(HOME).join(id.as_str()).join(word);
    let doing = format!("make directory {}", at.display());
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&at)
        .map_err(|error| Error::system(&doing, error.raw_os_error().unwrap_or(0)))?;
    let failed = |errno| Error::system(format!("mount {} on {}", dataset.name, at.display()), errno as i32);
    let tree = dataset.mount()?;
    let target = fd::openat(CWD, &c_path(&at)?, libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0);
    mount::attach(tree, target.map_err(failed)?).map_err(failed)?;
    Ok(at)
}

/// Removes what the record names: a container is gone only then. One that a process has something open on loses its
/// name, so that the id is free, and is left for `gc`.
pub(super) fn remove_all(record: &Record, log: &Log) -> Result<()> {
    for clone in &record.clones {
        if let Some(left) = remove(clone)? {
            log.warn(|| left);
        }
    }
    Ok(())
}

/// What is left, in words, where something is.
pub(super) fn remove(clone: &CloneRecord) -> Result<Option<String>> {
    let mut device = None;
    if !clone.at.is_empty() {
        let at = Path::new(&clone.at);
        device = std::fs::metadata(at).ok().map(|about| std::os::unix::fs::MetadataExt::dev(&about));
        match mount::umount(&c_path(at)?, libc::MNT_DETACH) {
            // Not mounted, or gone with the boot.
            Ok(()) | Err(wharf_sys::Errno::EINVAL | wharf_sys::Errno::ENOENT) => {}
            Err(errno) => return Err(Error::system(format!("unmount {}", at.display()), errno as i32)),
        }
        // Without the directory the kernel takes the mounts on it out of every other mount namespace.
        for dir in at.ancestors().take(3) {
            let _ = std::fs::remove_dir(dir);
        }
    }
    let dataset = Dataset { name: clone.dataset.clone(), guid: clone.guid };
    // What a draft has opened below the root keeps it in use as any other file does.
    wharf_sys::lot::close_served();
    let begun = Instant::now();
    loop {
        match wharf_disk::destroy(&dataset) {
            Ok(()) => return Ok(None),
            Err(fault) => match fault.cause() {
                Cause::NoSuchDataset | Cause::NoSuchPool | Cause::Another => return Ok(None),
                Cause::Busy if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(20)),
                Cause::Busy => {
                    let gone = wharf_disk::retire(&dataset)?;
                    let users = device.map(wharf_disk::users).unwrap_or_default();
                    let users: Vec<String> = users.iter().map(ToString::to_string).collect();
                    return Ok(Some(format!("{} is left for gc: {fault}: {}", gone.name, users.join("; "))));
                }
                _ => return Err(fault.into()),
            },
        }
    }
}
