//! The disk of a checkpoint: which datasets keep a container's files, and their snapshots.

use crate::cli::Request;
use crate::verbs::{Found, clones};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use wharf_core::{Bundle, CloneRecord, ContainerId, DatasetEntry, Disk, Error, Manifest, Result, time};
use wharf_disk::{Dataset, Keeper, Marks, Snapshot, SnapshotName, Taken};
use wharf_sys::{CWD, Errno, fd, libc};

/// What `root` is called among the paths of a dataset; others are destinations of mounts.
pub(super) const ROOT: &str = "root";

/// Datasets to be snapshot, each once, and what each keeps.
pub(super) struct Disks {
    datasets: Vec<Dataset>,
    /// Which of them, what of the bundle, and where in it.
    kept: Vec<(usize, String, String)>,
    name: SnapshotName,
    marks: Marks,
}

impl Disks {
    /// Looks at the root file system and at every volume that the container may write to. One that ZFS does not keep
    /// is refused by name.
    pub(super) fn find(found: &Found, bundle: &Bundle, name: Option<&str>, images: &Path) -> Result<Self> {
        let id = ContainerId::new(&found.record.id)?;
        let unnamed = || format!("path.{}", time::now().chars().filter(char::is_ascii_digit).collect::<String>());
        let name = name.map_or_else(unnamed, str::to_owned);
        let marks = Marks::now(id.as_str(), &name).kept_in(images);
        let name = SnapshotName::new(&id, &name)?;
        let mut disks = Disks { datasets: Vec::new(), kept: Vec::new(), name, marks };
        let read_only = bundle.spec.root().as_ref().is_some_and(|root| root.readonly().unwrap_or(false));
        disks.add(&id, Path::new(&found.record.rootfs), ROOT, read_only)?;
        for mount in bundle.spec.mounts().iter().flatten() {
            let options = mount.options().as_deref().unwrap_or_default();
            let has = |words: &[&str]| options.iter().any(|option| words.contains(&option.as_str()));
            let is_bind = has(&["bind", "rbind"]) || matches!(mount.typ().as_deref(), Some("bind" | "rbind"));
            let (Some(source), true, false) = (mount.source(), is_bind, has(&["ro", "rro"])) else { continue };
            disks.add(&id, &bundle.dir.join(source), &mount.destination().to_string_lossy(), false)?;
        }
        if !disks.datasets.is_empty() {
            wharf_disk::preflight(&disks.datasets, &disks.name)?;
        }
        Ok(disks)
    }

    fn add(&mut self, id: &ContainerId, path: &Path, what: &str, read_only: bool) -> Result<()> {
        let text = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL);
        let opened = text.and_then(|text| fd::openat(CWD, &text, libc::O_PATH, 0));
        let opened = opened.map_err(|errno| Error::system(format!("open {}", path.display()), errno as i32))?;
        let place = match wharf_disk::keeper(opened)? {
            Keeper::Zfs(place) => place,
            Keeper::Other { .. } if read_only => return Ok(()),
            Keeper::Other { what: other } => {
                let which = if what == ROOT { "its root file system" } else { what };
                return Err(Error::unsupported(format!("checkpoint container {id} with its disk"))
                    .because(format!("{which} ({}) is on {other}, not on a dataset of ZFS", path.display()))
                    .hint("--disk none writes the memory alone; the disk has to be brought back as it was then"));
            }
        };
        let index = match self.datasets.iter().position(|dataset| *dataset == place.dataset) {
            Some(index) => index,
            None => {
                self.datasets.push(place.dataset);
                self.datasets.len() - 1
            }
        };
        let within = if place.upper { OVERLAY.to_owned() } else { place.within.to_string_lossy().into_owned() };
        self.kept.push((index, what.to_owned(), within));
        Ok(())
    }

    /// To be called while nothing writes.
    pub(super) fn take(&self) -> Result<(Taken, Disk)> {
        let taken = wharf_disk::take(&self.datasets, &self.name, &self.marks)?;
        let snapshots = match taken.identify() {
            Ok(snapshots) => snapshots,
            Err(fault) => {
                let _ = taken.undo();
                return Err(fault.into());
            }
        };
        let entry = |(index, dataset): (usize, &Dataset)| {
            let snapshot = snapshots.iter().find(|snapshot| snapshot.dataset == *dataset)?;
            let kept = || self.kept.iter().filter(|(of, ..)| *of == index);
            Some(DatasetEntry {
                name: dataset.name.clone(),
                guid: dataset.guid,
                snapshot: snapshot.name.clone(),
                snapshot_guid: snapshot.guid,
                paths: kept().map(|(_, what, _)| what.clone()).collect(),
                within: kept().map(|(.., within)| within.clone()).collect(),
            })
        };
        let datasets = self.datasets.iter().enumerate().filter_map(entry).collect();
        Ok((taken, Disk { kind: "zfs".to_owned(), datasets }))
    }
}

/// In the place of where in a dataset something is, where it is an overlay whose upper directory is there.
pub(super) const OVERLAY: &str = "//overlay";

/// A bundle on clones of a checkpoint's snapshots. Dropped, they are gone; [`Restored::keep`] leaves them to the record.
pub(super) struct Restored {
    pub(super) bundle: Bundle,
    clones: Vec<CloneRecord>,
}

impl Restored {
    /// Clones every snapshot for the container, and lets its bundle begin there.
    pub(super) fn clone_all(request: &Request, id: &ContainerId, bundle: &Bundle, manifest: &Manifest) -> Result<Self> {
        let mut config: serde_json::Value =
            serde_json::from_slice(&bundle.raw).map_err(|error| Error::invalid("read config.json").because(error))?;
        let configured = request.configuration.as_ref().and_then(|configuration| configuration.zfs_dataset());
        let mut restored = Restored { bundle: bundle.with_config(&config)?, clones: Vec::new() };
        for (index, entry) in entries(manifest).enumerate() {
            let above = entry.name.rsplit_once('/').map_or(entry.name.as_str(), |(above, _)| above);
            let own = match index {
                0 => id.clone(),
                more => ContainerId::new(&format!("{id}.{more}"))?,
            };
            let name = wharf_disk::own_name(configured.unwrap_or(above), &own)?;
            let marks = Marks::now(id.as_str(), manifest.name.as_deref().unwrap_or_default()).below(&request.root);
            let dataset = wharf_disk::clone_to(&snapshot(entry), &name, &marks)?;
            restored.clones.push(CloneRecord { dataset: name, guid: dataset.guid, at: String::new() });
            let at = clones::attach(&request.root, id, &format!("disk-{index}"), &dataset)?;
            if let Some(clone) = restored.clones.last_mut() {
                clone.at = at.to_string_lossy().into_owned();
            }
            for (what, within) in entry.paths.iter().zip(&entry.within) {
                if within == OVERLAY {
                    return Err(Error::unsupported(format!("restore container {id}"))
                        .because(format!("{what} was an overlay, whose upper directory alone is in {}", entry.name))
                        .hint("mount the overlay on a clone by hand, and restore with --disk none in the checkpoint"));
                }
                lead(&mut config, what, &at.join(within).to_string_lossy());
            }
        }
        restored.bundle = bundle.with_config(&config)?;
        Ok(restored)
    }

    pub(super) fn record(&self) -> Vec<CloneRecord> {
        self.clones.clone()
    }

    pub(super) fn keep(mut self) {
        self.clones.clear();
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        for clone in &self.clones {
            let _ = clones::remove(clone);
        }
    }
}

/// Lets the root file system, or a mount, begin at `path`.
fn lead(config: &mut serde_json::Value, what: &str, path: &str) {
    if what == ROOT {
        config["root"]["path"] = path.into();
        return;
    }
    for mount in config["mounts"].as_array_mut().into_iter().flatten() {
        if mount["destination"] == what {
            mount["source"] = path.into();
        }
    }
}

fn entries(manifest: &Manifest) -> impl Iterator<Item = &DatasetEntry> {
    manifest.disk.iter().flat_map(|disk| &disk.datasets)
}

fn snapshot(entry: &DatasetEntry) -> Snapshot {
    Snapshot {
        dataset: Dataset { name: entry.name.clone(), guid: entry.guid },
        name: entry.snapshot.clone(),
        guid: entry.snapshot_guid,
    }
}

/// Makes the datasets themselves what they were. What is newer stands in the way, and is named and left.
pub(super) fn roll_back(manifest: &Manifest) -> Result<()> {
    for entry in entries(manifest) {
        wharf_disk::rollback(&snapshot(entry))?;
    }
    Ok(())
}
