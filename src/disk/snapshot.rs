//! Snapshots: taken of many datasets at once, held, listed, rolled back to, dropped.

use crate::cause::{Cause, Fault, Result};
use crate::command::{fields, zfs};
use crate::dataset::{Dataset, guid};
use crate::mark::{self, Marks};
use crate::name::SnapshotName;
use crate::rights;
use std::collections::BTreeMap;

/// A snapshot that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub dataset: Dataset,
    /// What comes after the `@`.
    pub name: String,
    pub guid: u64,
}

impl Snapshot {
    /// `DATASET@NAME`
    pub fn full(&self) -> String {
        format!("{}@{}", self.dataset.name, self.name)
    }

    pub(crate) fn check(&self, doing: &str) -> Result<()> {
        match guid(doing, &self.full())? == self.guid {
            true => Ok(()),
            false => Err(Fault::new(Cause::Another, doing, "")),
        }
    }
}

/// Snapshots of this moment, which have not been looked at yet.
#[derive(Debug)]
#[must_use = "they stay until they are undone"]
pub struct Taken {
    datasets: Vec<Dataset>,
    name: String,
    created: String,
}

/// Snapshots all datasets: those of one pool in one transaction. Where a pool fails, what was taken in others is destroyed
/// again. Nothing must write meanwhile, if pools are to be of one moment.
pub fn take(datasets: &[Dataset], name: &SnapshotName, marks: &Marks) -> Result<Taken> {
    let short = name.on(datasets)?;
    let mut pools: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for dataset in datasets {
        let full = format!("{}@{short}", dataset.name);
        let all = pools.entry(dataset.pool()).or_default();
        // A root file system and a volume may be directories of one dataset.
        if !all.contains(&full) {
            all.push(full);
        }
    }
    let mut taken = Taken { datasets: Vec::new(), name: short, created: marks.created.clone() };
    let marks = marks.words();
    for (pool, all) in pools {
        let doing = format!("snapshot {}", all.join(" "));
        let mut words = vec!["snapshot"];
        marks.iter().for_each(|mark| words.extend(["-o", mark]));
        words.extend(all.iter().map(String::as_str));
        let of_pool = datasets.iter().filter(|dataset| dataset.pool() == pool);
        let done = zfs(&doing, &words);
        // One that gave no answer may have been done: what is not ours by its mark is not destroyed below.
        if done.as_ref().err().is_none_or(|fault| *fault.cause() == Cause::NoAnswer) {
            taken.datasets.extend(of_pool.clone().cloned());
        }
        if let Err(fault) = done {
            let _ = taken.undo();
            let first = of_pool.map(|dataset| dataset.name.as_str()).next().unwrap_or(pool);
            return Err(rights::lacks_checkpoint(fault, first).closer(first));
        }
    }
    taken.datasets.dedup();
    Ok(taken)
}

impl Taken {
    /// What they are by their GUIDs. Fails with [`Cause::Another`] where a dataset had been exchanged before it was taken.
    pub fn identify(&self) -> Result<Vec<Snapshot>> {
        let doing = format!("identify snapshots {}", self.name);
        let full: Vec<String> = self.datasets.iter().map(|dataset| format!("{}@{}", dataset.name, self.name)).collect();
        let mut words = vec!["get", "-H", "-p", "-o", "name,value", "guid"];
        words.extend(full.iter().map(String::as_str));
        words.extend(self.datasets.iter().map(|dataset| dataset.name.as_str()));
        let text = zfs(&doing, &words)?;
        let guids: BTreeMap<&str, u64> =
            text.lines().filter_map(fields).filter_map(|[name, value]| Some((name, value.parse().ok()?))).collect();
        let mut all = Vec::new();
        for (dataset, full) in self.datasets.iter().zip(&full) {
            if all.iter().any(|known: &Snapshot| known.dataset == *dataset) {
                continue;
            }
            match (guids.get(dataset.name.as_str()), guids.get(full.as_str())) {
                (Some(kept), Some(guid)) if *kept == dataset.guid => {
                    all.push(Snapshot { dataset: dataset.clone(), name: self.name.clone(), guid: *guid });
                }
                _ => return Err(Fault::new(Cause::Another, &format!("snapshot {full}"), "")),
            }
        }
        Ok(all)
    }

    /// Destroys those of this very attempt again.
    pub fn undo(&self) -> Result<()> {
        let mut first = Ok(());
        for dataset in &self.datasets {
            let full = format!("{}@{}", dataset.name, self.name);
            let doing = format!("destroy snapshot {full}");
            let done = match zfs(&doing, &["get", "-H", "-p", "-o", "value", mark::CREATED, &full]) {
                Ok(created) if created.trim() == self.created => zfs(&doing, &["destroy", &full]).map(drop),
                Ok(_) => Ok(()),
                Err(fault) if *fault.cause() == Cause::NoSuchDataset => Ok(()),
                Err(fault) => Err(fault),
            };
            if first.is_ok() {
                first = done;
            }
        }
        first
    }
}

/// Somebody's word that a snapshot is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub tag: String,
    /// Seconds since 1970.
    pub since: u64,
}

/// Nobody can destroy it until every hold is released. A hold that is there is good.
pub fn hold(snapshot: &Snapshot, tag: &str) -> Result<()> {
    let (full, doing) = (snapshot.full(), format!("hold snapshot {}", snapshot.full()));
    snapshot.check(&doing)?;
    match zfs(&doing, &["hold", tag, &full]) {
        Err(fault) if fault.words().contains("tag already exists") => Ok(()),
        done => done.map(drop).map_err(|fault| rights::told(fault, "hold", &snapshot.dataset.name)),
    }
}

/// A hold that is not there is released.
pub fn release(snapshot: &Snapshot, tag: &str) -> Result<()> {
    let (full, doing) = (snapshot.full(), format!("release snapshot {}", snapshot.full()));
    match zfs(&doing, &["release", tag, &full]) {
        Err(fault) if fault.words().contains("no such tag") => Ok(()),
        done => done.map(drop).map_err(|fault| rights::told(fault, "release", &snapshot.dataset.name)),
    }
}

pub fn holds(snapshot: &Snapshot) -> Result<Vec<Hold>> {
    let text = zfs(&format!("list holds of {}", snapshot.full()), &["holds", "-H", "-p", &snapshot.full()])?;
    let one = |line| {
        let [_, tag, since] = fields(line)?;
        Some(Hold { tag: tag.to_owned(), since: since.parse().unwrap_or(0) })
    };
    Ok(text.lines().filter_map(one).collect())
}

/// Clones that began as this snapshot, by name.
pub fn dependents(snapshot: &Snapshot) -> Result<Vec<String>> {
    let full = snapshot.full();
    let text = zfs(&format!("list clones of {full}"), &["get", "-H", "-p", "-o", "value", "clones", &full])?;
    Ok(list(text.trim()))
}

fn list(value: &str) -> Vec<String> {
    mark::value(value).map(|value| value.split(',').map(str::to_owned).collect()).unwrap_or_default()
}

/// Snapshots (`DATASET@NAME`) and bookmarks (`DATASET#NAME`) of its dataset that are younger, the oldest first.
pub fn newer(snapshot: &Snapshot) -> Result<Vec<String>> {
    let doing = format!("list what is newer than {}", snapshot.full());
    let words = ["list", "-H", "-p", "-d", "1", "-t", "snapshot,bookmark", "-o", "name,createtxg", "-s", "createtxg"];
    let text = zfs(&doing, &[&words[..], &[&snapshot.dataset.name]].concat())?;
    Ok(younger(&text, &snapshot.full()))
}

fn younger(text: &str, full: &str) -> Vec<String> {
    let rows: Vec<(&str, u64)> =
        text.lines().filter_map(fields).filter_map(|[name, group]| Some((name, group.parse().ok()?))).collect();
    let own = rows.iter().find(|(name, _)| *name == full).map_or(u64::MAX, |(_, group)| *group);
    rows.iter().filter(|(_, group)| *group > own).map(|(name, _)| (*name).to_owned()).collect()
}

/// Makes the dataset what the snapshot is: all that was written since is lost. Nothing else is destroyed: what is newer is
/// named by [`Cause::Newer`]. Nobody must be running on it.
pub fn rollback(snapshot: &Snapshot) -> Result<()> {
    let (full, doing) = (snapshot.full(), format!("roll {} back to {}", snapshot.dataset.name, snapshot.name));
    snapshot.dataset.check(&doing)?;
    snapshot.check(&doing)?;
    match zfs(&doing, &["rollback", &full]) {
        // Its own list ends after a few.
        Err(fault) if matches!(fault.cause(), Cause::Newer(_)) => Err(fault.turned(Cause::Newer(newer(snapshot)?))),
        done => done.map(drop).map_err(|fault| rights::told(fault, "rollback,mount", &snapshot.dataset.name)),
    }
}

/// Destroys it. Refused with [`Cause::Clones`] and [`Cause::Held`]. One that is gone is no failure; another one by the same
/// name stays, and is one.
pub fn drop_snapshot(snapshot: &Snapshot) -> Result<()> {
    let (full, doing) = (snapshot.full(), format!("destroy snapshot {}", snapshot.full()));
    match snapshot.check(&doing) {
        Err(fault) if *fault.cause() == Cause::NoSuchDataset => return Ok(()),
        checked => checked?,
    }
    match zfs(&doing, &["destroy", &full]) {
        // As above: all of them, not those that depend on them too.
        Err(fault) if matches!(fault.cause(), Cause::Clones(_)) => {
            Err(fault.turned(Cause::Clones(dependents(snapshot)?)))
        }
        done => done.map(drop).map_err(|fault| rights::told(fault, "destroy,mount", &snapshot.dataset.name)),
    }
}

/// What is known of a checkpoint's snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// `DATASET@NAME`
    pub name: String,
    pub guid: u64,
    pub container: String,
    pub checkpoint: String,
    /// RFC 3339 in UTC.
    pub created: String,
    /// Bytes that only it holds.
    pub used: u64,
    /// Bytes that it shows.
    pub referenced: u64,
    /// How many holds it has.
    pub holds: u64,
    pub clones: Vec<String>,
    /// Of the checkpoint; none where that is not written on it here, as on one that was received with its properties.
    pub directory: Option<String>,
}

impl Known {
    pub fn snapshot(&self) -> Result<Snapshot> {
        let (dataset, name) = self.name.split_once('@').unwrap_or((&self.name, ""));
        Ok(Snapshot { dataset: crate::dataset::find(dataset)?, name: name.to_owned(), guid: self.guid })
    }
}

/// Every snapshot below `name`, or in all pools, that bears the name and the marks of a checkpoint.
pub fn snapshots(name: Option<&str>) -> Result<Vec<Known>> {
    let columns =
        format!("name,guid,used,referenced,userrefs,clones,{},{},{}", mark::CONTAINER, mark::CHECKPOINT, mark::CREATED);
    let mut words = vec!["list", "-H", "-p", "-t", "snapshot", "-o", &columns];
    if let Some(name) = name {
        words.extend(["-r", name]);
    }
    let mut all: Vec<Known> = zfs("list snapshots", &words)?.lines().filter_map(known).collect();
    if all.is_empty() {
        return Ok(all);
    }
    let mut words = vec!["get", "-H", "-p", "-t", "snapshot", "-s", "local", "-o", "name,value", mark::DIRECTORY];
    if let Some(name) = name {
        words.splice(1..1, ["-r"]);
        words.push(name);
    }
    let text = zfs("list snapshots", &words)?;
    let directories: BTreeMap<&str, &str> =
        text.lines().filter_map(fields).map(|[name, value]| (name, value)).collect();
    for known in &mut all {
        known.directory = directories.get(known.name.as_str()).map(|value| (*value).to_owned());
    }
    Ok(all)
}

fn known(line: &str) -> Option<Known> {
    let [name, guid, used, referenced, holds, clones, container, checkpoint, created] = fields(line)?;
    // What is written on a dataset shows on all its snapshots.
    if !SnapshotName::is_ours(name.split_once('@')?.1) {
        return None;
    }
    Some(Known {
        name: name.to_owned(),
        guid: guid.parse().ok()?,
        container: mark::value(container)?.to_owned(),
        checkpoint: mark::value(checkpoint)?.to_owned(),
        created: mark::value(created)?.to_owned(),
        used: used.parse().unwrap_or(0),
        referenced: referenced.parse().unwrap_or(0),
        holds: holds.parse().unwrap_or(0),
        clones: list(clones),
        directory: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_younger_is_in_the_way() {
        let text = "t/a@one\t5\nt/a#mark\t5\nt/a@two\t7\nt/a@three\t9\n";
        assert_eq!(younger(text, "t/a@two"), ["t/a@three"]);
        assert_eq!(younger(text, "t/a@one"), ["t/a@two", "t/a@three"]);
    }

    #[test]
    fn a_snapshot_of_the_users_own_is_none_of_ours() {
        let line = |name: &str| format!("t/a@{name}\t7\t1\t2\t0\tt/b,t/c\tweb\tone\t2026-01-01T00:00:00Z");
        let found = known(&line("wharf-web-one")).unwrap();
        assert_eq!((found.guid, found.clones.len(), found.container.as_str()), (7, 2, "web"));
        assert_eq!(known(&line("daily")), None);
        assert_eq!(known("t/a@wharf-x-y\t7\t1\t2\t0\t-\t-\t-\t-"), None);
    }
}
