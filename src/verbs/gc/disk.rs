//! What of disks and checkpoints is left of containers that are no more: datasets, half-made images, snapshots.
//!
//! Each bears what says whose it is: a dataset the `--root` of its container, a snapshot the directory of its checkpoint.
//! What bears nothing, or was received from elsewhere, is not ours.

use crate::checkpoints;
use crate::cli::Request;
use crate::report::Leftover;
use crate::store::Store;
use crate::verbs::clones;
use std::path::{Path, PathBuf};
use std::time::Duration;
use wharf_core::{CloneRecord, ContainerId, MANIFEST, Result, time};
use wharf_disk::{Cause, Clone, Known};

/// What is younger may be of a `create` or a `checkpoint` that has not written it down yet.
const YOUNG: Duration = Duration::from_secs(300);

/// Something to be removed.
pub(super) enum Left {
    Dataset(Clone),
    Images(PathBuf),
    Snapshot(Box<Known>),
}

impl Left {
    /// What stays all the same, in words.
    pub(super) fn remove(&self) -> Result<Option<String>> {
        match self {
            Left::Dataset(found) => clones::remove(&CloneRecord {
                dataset: found.dataset.name.clone(),
                guid: found.dataset.guid,
                at: String::new(),
            }),
            Left::Images(path) => checkpoints::remove(path).map(|()| None),
            Left::Snapshot(known) => Ok(wharf_disk::drop_snapshot(&known.snapshot()?).map(|()| None)?),
        }
    }
}

/// What is found, and of what cannot be looked at why.
pub(super) fn look(request: &Request) -> (Vec<(Left, Leftover)>, Vec<String>) {
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    let mut add = |part: Result<Vec<(Left, Leftover)>>| match part {
        Ok(part) => found.extend(part),
        Err(error) => unknown.push(format!("note: {error}")),
    };
    add(images(request));
    let configured = request.configuration.as_ref().and_then(|configuration| configuration.zfs_dataset());
    // Who has no use for ZFS is not kept waiting by it.
    if let Some(parent) = configured {
        add(datasets(request, parent));
    }
    if checkpoints_home(request).is_some_and(|home| home.exists()) && wharf_disk::program().is_some() {
        add(snapshots());
    }
    (found, unknown)
}

fn checkpoints_home(request: &Request) -> Option<PathBuf> {
    checkpoints::home(request.configuration.as_ref().and_then(|configuration| configuration.checkpoints())).ok()
}

fn row(id: &str, why: &'static str, holds: String) -> Leftover {
    Leftover { id: id.to_owned(), backend: None, why, holds: vec![holds], removed: false }
}

fn datasets(request: &Request, parent: &str) -> Result<Vec<(Left, Leftover)>> {
    let all = match wharf_disk::marked(Some(parent)) {
        Err(fault) if matches!(fault.cause(), Cause::NoSuchDataset | Cause::NoSuchPool) => return Ok(Vec::new()),
        other => other?,
    };
    let root = request.root.to_string_lossy();
    let (store, oldest) = (Store::open(&request.root)?, time::ago(YOUNG));
    let mut found = Vec::new();
    for one in all.into_iter().filter(|one| one.root.as_deref() == Some(&*root)) {
        let retired = one.dataset.is_retired();
        let recorded = || -> Result<bool> {
            let (Some(store), Ok(id)) = (&store, ContainerId::new(&one.container)) else { return Ok(false) };
            let Some(entry) = store.find(&id)? else { return Ok(false) };
            Ok(entry.record()?.is_some_and(|record| record.clones.iter().any(|clone| clone.guid == one.dataset.guid)))
        };
        let young = one.created.as_deref().is_none_or(|created| created >= oldest.as_str());
        if !retired && (young || recorded()?) {
            continue;
        }
        let why = if retired { "was in use when its container was deleted" } else { "no container has it" };
        let row = row(&one.container, why, format!("dataset {}", one.dataset.name));
        found.push((Left::Dataset(one), row));
    }
    Ok(found)
}

fn images(request: &Request) -> Result<Vec<(Left, Leftover)>> {
    let Some(home) = checkpoints_home(request) else { return Ok(Vec::new()) };
    let all = checkpoints::all(&home, None)?;
    let old = |kept: &checkpoints::Kept| {
        kept.changed.elapsed().is_ok_and(|age| age > YOUNG) && !checkpoints::is_being_written(&kept.path)
    };
    let half = all.into_iter().filter(|kept| kept.is_half_made() && old(kept));
    Ok(half
        .map(|kept| {
            let row = row(&kept.id, "checkpoint was interrupted", format!("images {}", kept.path.display()));
            (Left::Images(kept.path), row)
        })
        .collect())
}

fn snapshots() -> Result<Vec<(Left, Leftover)>> {
    let oldest = time::ago(YOUNG);
    let gone = |known: &Known| {
        let manifest = known.directory.as_deref().map(|directory| Path::new(directory).join(MANIFEST));
        known.created < oldest && manifest.is_some_and(|manifest| manifest.try_exists().is_ok_and(|there| !there))
    };
    let all = wharf_disk::snapshots(None)?;
    Ok(all
        .into_iter()
        .filter(gone)
        .map(|known| {
            let row = row(&known.container, "its checkpoint is gone", format!("snapshot {}", known.name));
            (Left::Snapshot(Box::new(known)), row)
        })
        .collect())
}
