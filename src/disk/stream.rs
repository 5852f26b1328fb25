//! Snapshots as streams, to be kept elsewhere and to come from there.

use crate::cause::{Cause, Fault, Result};
use crate::command::{zfs, zfs_with};
use crate::dataset::{Dataset, find, guid, parent, parents};
use crate::mark::Marks;
use crate::rights;
use crate::snapshot::Snapshot;
use std::os::fd::OwnedFd;

/// Writes it to `to`, as long as that takes; with `from`, an older snapshot of the same dataset, what has changed since.
/// Blocks go as they are on disk; properties do not go along.
pub fn send(snapshot: &Snapshot, from: Option<&Snapshot>, to: OwnedFd) -> Result<()> {
    let (full, doing) = (snapshot.full(), format!("send {}", snapshot.full()));
    snapshot.check(&doing)?;
    let from = match from {
        Some(from) => {
            from.check(&doing)?;
            Some(from.full())
        }
        None => None,
    };
    let mut words = vec!["send", "-L", "-c", "-e"];
    if let Some(from) = &from {
        words.extend(["-i", from]);
    }
    words.push(&full);
    zfs_with(&doing, &words, None, Some(to)).map_err(|fault| rights::told(fault, "send", &snapshot.dataset.name))
}

/// Makes a dataset of a stream, or continues one, as long as that takes. `zfs` mounts it nowhere; a property that a stream
/// brings along has no say in where. What has come must be the snapshot `name` with that GUID; else it is destroyed again.
pub fn receive(dataset: &str, name: &str, expected: u64, marks: &Marks, from: OwnedFd) -> Result<Snapshot> {
    let full = format!("{dataset}@{name}");
    let doing = format!("receive {full}");
    let continued = guid(&doing, dataset).is_ok();
    let mut words = vec!["receive", "-u"];
    if !continued {
        let lacks = |fault| rights::told(fault, "receive,create,mount,canmount,mountpoint", parent(dataset));
        parents(&doing, dataset).map_err(lacks)?;
        words.extend(["-o", "canmount=noauto", "-o", "mountpoint=legacy"]);
    }
    words.push(&full);
    let done = zfs_with(&doing, &words, Some(from), None);
    done.map_err(|fault| {
        rights::told(fault, "receive,create,mount,canmount,mountpoint", parent(dataset)).closer(parent(dataset))
    })?;
    let got = guid(&doing, &full)?;
    if got != expected {
        let _ = zfs(&doing, &["destroy", &full]);
        if !continued {
            let _ = zfs(&doing, &["destroy", dataset]);
        }
        return Err(Fault::new(Cause::Stream, &doing, &format!("it is snapshot {got}, not {expected}")));
    }
    let mut words = vec!["set".to_owned()];
    words.extend(marks.words());
    words.push(full);
    zfs(&doing, &words.iter().map(String::as_str).collect::<Vec<_>>())?;
    let dataset: Dataset = find(dataset)?;
    Ok(Snapshot { dataset, name: name.to_owned(), guid: got })
}
