//! `checkpoints`: those that are kept by name, listed, shown, removed, and thinned out by what the configuration says.

use super::archive;
use super::take::home;
use crate::checkpoints::{self, Kept};
use crate::cli::{Checkpoints, ListFormat, Request};
use crate::report::{self, CheckpointRow, SnapshotRow};
use wharf_core::{ContainerId, DatasetEntry, Error, Kind, Manifest, Result, time};
use wharf_disk::{Cause, Dataset, Snapshot};

pub(in crate::verbs) fn checkpoints(request: &Request, asked: &Checkpoints) -> Result<()> {
    let home = home(request)?;
    match asked {
        Checkpoints::List { id, format } => {
            let rows = checkpoints::all(&home, id.as_ref())?.iter().map(row).collect::<Vec<_>>();
            tell(&rows, *format)
        }
        Checkpoints::Show { id, name } => {
            let kept = find(request, id, name)?;
            let mut shown = row(&kept);
            if let Ok(manifest) = &kept.manifest {
                shown.snapshots = snapshots(manifest)?;
                if let Some(gone) = shown.snapshots.iter().find(|snapshot| !snapshot.exists) {
                    shown.broken.get_or_insert(format!("its snapshot {} is gone", gone.name));
                }
            }
            report::print(&report::json(&shown)?)
        }
        Checkpoints::Export { id, name, from, output } => {
            let from = from.as_ref().map(|from| find(request, id, from)).transpose()?;
            archive::export(&find(request, id, name)?, from.as_ref(), output.as_deref())
        }
        Checkpoints::Import { input } => archive::import(request, input.as_deref()),
        Checkpoints::Remove { id, name } => remove(&find(request, id, name)?),
        Checkpoints::Prune { id, apply, format } => prune(request, id.as_ref(), *apply, *format),
    }
}

pub(super) fn find(request: &Request, id: &ContainerId, name: &str) -> Result<Kept> {
    let path = checkpoints::named(&home(request)?, id, name)?;
    let all = checkpoints::all(&home(request)?, Some(id))?;
    all.into_iter().find(|kept| kept.name == name).ok_or_else(|| {
        Error::new(Kind::Usage, format!("checkpoint {name} of container {id}"))
            .because(format!("there is none in {}", path.display()))
            .hint("wharf checkpoints list")
    })
}

fn tell(rows: &[CheckpointRow], format: ListFormat) -> Result<()> {
    report::print(&match format {
        ListFormat::Table => report::checkpoints(rows),
        ListFormat::Json => report::json(&rows)?,
    })
}

fn row(kept: &Kept) -> CheckpointRow {
    let manifest = kept.manifest.as_ref().ok();
    let holds = match manifest.map(|manifest| (manifest.memory.is_some(), manifest.disk.is_some())) {
        Some((true, true)) => "memory and disk",
        Some((true, false)) => "memory",
        Some((false, true)) => "disk only",
        _ => "nothing",
    };
    let broken = match (&kept.manifest, kept.is_half_made()) {
        (_, true) => Some("half-made".to_owned()),
        (Err(why), false) => Some(why.clone()),
        (Ok(_), false) => None,
    };
    CheckpointRow {
        container: kept.id.clone(),
        name: kept.name.clone(),
        created: manifest.map(|manifest| manifest.created.clone()),
        holds,
        bytes: kept.bytes,
        broken,
        snapshots: Vec::new(),
        removed: None,
    }
}

pub(super) fn entries(manifest: &Manifest) -> &[DatasetEntry] {
    manifest.disk.as_ref().map(|disk| disk.datasets.as_slice()).unwrap_or_default()
}

pub(super) fn snapshot(entry: &DatasetEntry) -> Snapshot {
    Snapshot {
        dataset: Dataset { name: entry.name.clone(), guid: entry.guid },
        name: entry.snapshot.clone(),
        guid: entry.snapshot_guid,
    }
}

fn snapshots(manifest: &Manifest) -> Result<Vec<SnapshotRow>> {
    let one = |entry: &DatasetEntry| {
        let snapshot = snapshot(entry);
        let clones = match wharf_disk::dependents(&snapshot) {
            Ok(clones) => Some(clones),
            Err(fault) if matches!(fault.cause(), Cause::NoSuchDataset | Cause::NoSuchPool) => None,
            Err(fault) => return Err(Error::from(fault)),
        };
        Ok(SnapshotRow {
            name: snapshot.full(),
            guid: snapshot.guid,
            keeps: entry.paths.clone(),
            exists: clones.is_some(),
            clones: clones.unwrap_or_default(),
        })
    };
    entries(manifest).iter().map(one).collect()
}

/// Snapshots first: a checkpoint whose manifest is there has what it takes, or says what is gone.
pub(super) fn remove(kept: &Kept) -> Result<()> {
    if let Ok(manifest) = &kept.manifest {
        // All of them are looked at before the first one goes.
        let depending: Vec<String> =
            snapshots(manifest)?.into_iter().flat_map(|snapshot| snapshot.clones).map(container_of).collect();
        if !depending.is_empty() {
            return Err(Error::new(Kind::WrongStatus, format!("remove checkpoint {} of {}", kept.name, kept.id))
                .because(format!("what was restored of it depends on it: {}", depending.join(", ")))
                .hint("delete those containers first"));
        }
        for entry in entries(manifest) {
            match wharf_disk::drop_snapshot(&snapshot(entry)) {
                // Another one by its name is not of this checkpoint.
                Err(fault) if *fault.cause() == Cause::Another => {}
                other => other?,
            }
            drop_imported(&snapshot(entry).dataset);
        }
    }
    checkpoints::remove(&kept.path)
}

/// How the names of datasets begin that `import` has made: no container's id begins so.
pub(super) const IMPORTED: &str = ".checkpoint-";

/// It was made for checkpoints alone, and goes with the last of them; it is left while there is another.
fn drop_imported(dataset: &Dataset) {
    if dataset.name.rsplit('/').next().is_some_and(|last| last.starts_with(IMPORTED)) {
        let _ = wharf_disk::destroy(dataset);
    }
}

/// Takes an import back.
pub(super) fn drop_kept(snapshot: &Snapshot) {
    let _ = wharf_disk::drop_snapshot(snapshot);
    drop_imported(&snapshot.dataset);
}

/// The clone, with the container that runs on it where its marks tell.
fn container_of(clone: String) -> String {
    let marked = wharf_disk::marked(Some(&clone)).unwrap_or_default();
    match marked.into_iter().find(|marked| marked.dataset.name == clone) {
        Some(marked) => format!("{clone} (container {})", marked.container),
        None => clone,
    }
}

fn prune(request: &Request, id: Option<&ContainerId>, apply: bool, format: ListFormat) -> Result<()> {
    let configuration = request.configuration.as_ref();
    let (keep, keep_for) = configuration.map(|configuration| configuration.retention()).unwrap_or_default();
    if keep.is_none() && keep_for.is_none() {
        return Err(Error::invalid("prune checkpoints")
            .because("the configuration says neither storage.keep nor storage.keep_for"));
    }
    let oldest = keep_for.map(time::ago);
    let all = checkpoints::all(&home(request)?, id)?;
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    for of in all.chunk_by(|one, other| one.id == other.id) {
        // What is half-made may be about to be made: gc judges that.
        let whole: Vec<(&Kept, &Manifest)> =
            of.iter().filter_map(|kept| Some((kept, kept.manifest.as_ref().ok()?))).collect();
        let created: Vec<&str> = whole.iter().map(|(_, manifest)| manifest.created.as_str()).collect();
        for index in surplus(&created, keep, oldest.as_deref()) {
            let kept = whole[index].0;
            let mut shown = row(kept);
            shown.removed = Some(false);
            if apply {
                match remove(kept) {
                    Ok(()) => shown.removed = Some(true),
                    Err(error) => {
                        shown.broken = Some(error.reason());
                        failed.push(error.to_string());
                    }
                }
            }
            rows.push(shown);
        }
    }
    tell(&rows, format)?;
    match failed.is_empty() {
        true => Ok(()),
        false => Err(Error::new(Kind::System, "prune checkpoints").because(failed.join("; "))),
    }
}

/// Which go, of one container's in the order of time: all but the last `keep`, and all that are older than `oldest`.
fn surplus(created: &[&str], keep: Option<usize>, oldest: Option<&str>) -> Vec<usize> {
    let most = keep.map_or(0, |keep| created.len().saturating_sub(keep));
    let goes = |index: &usize| *index < most || oldest.is_some_and(|oldest| created[*index] < oldest);
    (0..created.len()).filter(goes).collect()
}

#[cfg(test)]
mod tests {
    use super::surplus;

    #[test]
    fn what_is_kept_is_the_last_ones_that_are_young_enough() {
        let created = ["2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00.5Z"];
        assert_eq!(surplus(&created, Some(2), None), [0]);
        assert!(surplus(&created, Some(5), None).is_empty());
        assert_eq!(surplus(&created, None, Some("2026-02-15T00:00:00Z")), [0, 1]);
        assert_eq!(surplus(&created, Some(1), Some("2026-01-15T00:00:00Z")), [0, 1]);
        assert_eq!(surplus(&created, Some(0), None), [0, 1, 2]);
    }
}
