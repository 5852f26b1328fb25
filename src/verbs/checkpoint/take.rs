//! `checkpoint`: a container's memory and disk, of one moment.
//!
//! ```text
//! record, bundle, directory of images     judged; nothing exists
//! Backend::checkpoint                     the container stands still
//!   frozen                                snapshots; the manifest: from here on it can be restored
//! digests of the images                   while it runs on, or is gone
//! delete                                  unless it is to run on
//! ```

use super::disks::Disks;
use crate::checkpoints::{self, Images};
use crate::cli::{self, Request};
use crate::report::{self, Log};
use crate::verbs::{Found, locate, no_such};
use std::path::PathBuf;
use wharf_core::{
    Bundle, Captured, Checkpoint, Digest, Error, MANIFEST_VERSION, Manifest, Memory, RecordState, Result, SpecDigest,
    Status, Unsupported, Verb, allowed, phases, time,
};

/// CRIU's log beside the images.
const LOG: &str = "dump.log";

pub(in crate::verbs) fn checkpoint(request: &Request, asked: &cli::Checkpoint, log: &Log) -> Result<()> {
    let id = &asked.id;
    // What is refused anyway is refused before another verb is waited for.
    of_disk_alone(asked, Found::look(&request.root, id)?.status()?)?;
    let (store, entry) = locate(&request.root, id)?;
    store.lock(&entry)?.ok_or_else(|| no_such(id))?;
    let found = Found::read(store, entry, id)?;
    let of_disk_alone = of_disk_alone(asked, found.status_under_lock()?)?;
    if found.record.state == Some(RecordState::Delegated) {
        let instead = "ask that runtime itself, with the directory `delegate` of the container's state as its --root";
        return Err(Unsupported { verb: "checkpoint", backend: found.backend.name(), instead }.into());
    }
    let bundle = Bundle::open(found.record.bundle.as_ref())?;
    let mut wanted = asked.wanted.clone();
    if let Some(name) = &asked.name {
        wanted.images.path = checkpoints::named(&home(request)?, id, name)?;
    }
    let stays = wanted.leave_running || wanted.pre_dump || of_disk_alone;
    if let (Some(clone), false) = (found.record.clones.first(), stays) {
        return Err(Error::unsupported(format!("checkpoint container {id}"))
            .because(format!("it would end with its disk, the dataset {}, which is deleted with it", clone.dataset))
            .hint("give --leave-running"));
    }
    let disks = match asked.zfs.unwrap_or(asked.name.is_some()) && !wanted.pre_dump {
        true => {
            phases::enter("datasets");
            Some(Disks::find(&found, &bundle, asked.name.as_deref(), &wanted.images.path)?)
        }
        false => None,
    };
    // With what the disk needs: its verdict is that of the checkpoint.
    if asked.only_check {
        return if of_disk_alone { Ok(()) } else { check(&found, &bundle, &wanted) };
    }
    phases::enter("images");
    if let Some(work) = &wanted.images.work {
        checkpoints::make_dir(work)?;
    }
    let images = Images::begin(&wanted.images.path, asked.name.is_none())?;
    if wanted.parent.as_ref().is_some_and(|parent| !wanted.images.path.join(parent).is_dir()) {
        let parent = wanted.parent.as_deref().unwrap_or_default();
        images.take_back(LOG);
        return Err(Error::invalid(format!("--parent-path {parent}"))
            .because(format!("there is no such directory in {}", wanted.images.path.display())));
    }
    if let (true, Some(disks)) = (of_disk_alone, &disks) {
        return keep_disk(&found, &bundle, asked, &wanted, disks, &images);
    }
    let (mut manifest, mut taken) = (None, None);
    let mut frozen = |captured: &Captured| {
        let mut disk = None;
        if let Some(disks) = &disks {
            phases::enter("snapshot");
            let (snapshots, described) = disks.take()?;
            (taken, disk) = (Some(snapshots), Some(described));
        }
        phases::enter("manifest");
        let mut made = describe(&found, &bundle, asked, &wanted, Some(captured), &images)?;
        made.disk = disk;
        images.seal(&made, Some(&bundle.raw))?;
        manifest = Some(made);
        phases::enter("thaw");
        Ok(())
    };
    if let Err(error) = found.backend.checkpoint(&found.record, found.entry.dir(), &bundle, &wanted, &mut frozen) {
        // CRIU had ended it, and then failed: what is written is whole, and all that there is of it.
        if manifest.is_some() && found.status_under_lock().is_ok_and(|status| status == Status::Stopped) {
            return Err(error.hint(format!("it has ended; {} can be restored", wanted.images.path.display())));
        }
        if let Some(Err(left)) = taken.map(|taken| taken.undo()) {
            log.warn(|| format!("destroy the snapshots of a failed checkpoint: {left}"));
        }
        images.take_back(LOG);
        return Err(error);
    }
    if let Some(manifest) = manifest {
        phases::enter("digests");
        complete(&images, &wanted.images.path, manifest, asked.name.is_some())?;
    }
    log.debug(|| format!("checkpoint of container {id} is in {}", wanted.images.path.display()));
    if stays {
        return Ok(());
    }
    phases::enter("delete");
    found.delete(id, Verb::ForceDelete, log)
}

/// Whether there is no memory to be written down, as the container has stopped: its disk can be kept all the same.
fn of_disk_alone(asked: &cli::Checkpoint, status: Status) -> Result<bool> {
    match allowed(&asked.id, status, Verb::Checkpoint) {
        Ok(()) => Ok(false),
        Err(_) if status == Status::Stopped && asked.zfs.unwrap_or(asked.name.is_some()) => Ok(true),
        Err(error) if status == Status::Stopped => Err(error.hint("--name keeps its disk, where that is on ZFS")),
        Err(error) => Err(error),
    }
}

/// A checkpoint without memory; the container stays, as it has stopped.
fn keep_disk(
    found: &Found,
    bundle: &Bundle,
    asked: &cli::Checkpoint,
    wanted: &Checkpoint,
    disks: &Disks,
    images: &Images,
) -> Result<()> {
    phases::enter("snapshot");
    let (taken, disk) = disks.take().inspect_err(|_| drop(images.take_back(LOG)))?;
    phases::enter("manifest");
    let made = describe(found, bundle, asked, wanted, None, images);
    let sealed = made.and_then(|made| images.seal(&Manifest { disk: Some(disk), ..made }, Some(&bundle.raw)));
    sealed.inspect_err(|_| {
        let _ = taken.undo();
        images.take_back(LOG);
    })
}

/// Where checkpoints are kept by name.
pub(super) fn home(request: &Request) -> Result<PathBuf> {
    checkpoints::home(request.configuration.as_ref().and_then(|configuration| configuration.checkpoints()))
}

fn describe(
    found: &Found,
    bundle: &Bundle,
    asked: &cli::Checkpoint,
    wanted: &Checkpoint,
    captured: Option<&Captured>,
    images: &Images,
) -> Result<Manifest> {
    let record = &found.record;
    let mut digest = Digest::new();
    digest.update(&bundle.raw);
    let memory = |captured: &Captured| {
        let files = checkpoints::sums(images.dir(), &wanted.images.path, |_| false)?;
        Ok::<_, Error>(Memory { criu: captured.criu.clone(), files })
    };
    Ok(Manifest {
        version: MANIFEST_VERSION,
        id: record.id.clone(),
        name: asked.name.clone(),
        created: time::now(),
        wharf: env!("CARGO_PKG_VERSION").to_owned(),
        memory: captured.map(memory).transpose()?,
        disk: None,
        host: checkpoints::here()?,
        spec: SpecDigest { sha256: digest.hex() },
        bundle: record.bundle.clone(),
        rootfs: record.rootfs.clone(),
        mounts: captured.map(|captured| captured.mounts.clone()).unwrap_or_default(),
        descriptors: captured.map(|captured| captured.descriptors.clone()).unwrap_or_default(),
        console: captured.is_some_and(|captured| captured.console),
        cgroup: record.cgroup.seen.clone(),
        parent: wanted.parent.clone(),
        seal: String::new(),
    })
}

/// Adds the digests, which take their time, and so come when nothing stands still for them.
fn complete(images: &Images, path: &std::path::Path, mut manifest: Manifest, pages: bool) -> Result<()> {
    if let Some(memory) = &mut manifest.memory {
        memory.files = checkpoints::sums(images.dir(), path, |name| pages || !checkpoints::is_pages(name))?;
    }
    images.seal(&manifest, None)
}

/// `--check`: one line for each obstacle; a failure where there is one.
fn check(found: &Found, bundle: &Bundle, wanted: &Checkpoint) -> Result<()> {
    let obstacles = found.backend.obstacles(&found.record, found.entry.dir(), bundle, wanted)?;
    let lines = obstacles.iter().map(|one| match one.fix.as_str() {
        "" => format!("{}: {}\n", one.what, one.why),
        fix => format!("{}: {} ({fix})\n", one.what, one.why),
    });
    report::print(&lines.collect::<String>())?;
    match obstacles.first() {
        None => Ok(()),
        Some(first) => {
            let doing = format!("checkpoint container {}", found.record.id);
            let error = Error::unsupported(doing).because(format!("{}: {}", first.what, first.why));
            Err(if first.fix.is_empty() { error } else { error.hint(first.fix.as_str()) })
        }
    }
}
