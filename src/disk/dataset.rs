//! Datasets: found, made, cloned, mounted and destroyed. Each is known by its GUID.

use crate::busy;
use crate::cause::{Cause, Fault, Result};
use crate::command::{fields, zfs};
use crate::mark::{self, Marks};
use crate::name::SnapshotName;
use crate::rights;
use crate::snapshot::{self, Snapshot};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use wharf_sys::{Errno, mount};

/// No container's id begins with a dot.
const RETIRED: &str = ".gone-";

/// A file system of ZFS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    pub name: String,
    /// Unlike the name, for ever.
    pub guid: u64,
}

impl Dataset {
    pub fn pool(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }

    /// Fails with [`Cause::Another`] where another one has taken its name.
    /// Whether it has got its name by [`retire`].
    pub fn is_retired(&self) -> bool {
        self.name.rsplit('/').next().is_some_and(|last| last.starts_with(RETIRED))
    }

    pub(crate) fn check(&self, doing: &str) -> Result<()> {
        match guid(doing, &self.name)? == self.guid {
            true => Ok(()),
            false => Err(Fault::new(Cause::Another, doing, "")),
        }
    }
}

/// A dataset that began as a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clone {
    pub dataset: Dataset,
    /// `DATASET@SNAPSHOT`; none where it did not begin as one, or was promoted.
    pub origin: Option<String>,
    /// What is written on it.
    pub container: String,
    pub checkpoint: Option<String>,
    /// `--root` of that container.
    pub root: Option<String>,
    /// RFC 3339 in UTC.
    pub created: Option<String>,
}

impl Dataset {
    /// Mounts it without a place: nobody else sees it, and it is gone with the last descriptor that nobody has attached
    /// (move_mount(2)). Its property `mountpoint` does not matter.
    pub fn mount(&self) -> Result<OwnedFd> {
        let doing = format!("mount dataset {}", self.name);
        let failed = |errno: Errno| Fault::new(Cause::Other, &doing, &wharf_core::errno_text(errno as i32));
        let source = CString::new(self.name.as_str()).map_err(|_| failed(Errno::EINVAL))?;
        let context = mount::fsopen(c"zfs").map_err(|errno| match errno {
            Errno::ENODEV => Fault::new(Cause::NoModule, &doing, ""),
            errno => failed(errno),
        })?;
        mount::fsconfig_set(&context, c"source", Some(&source)).map_err(failed)?;
        mount::fsmount(&context, 0).map_err(failed)
    }
}

pub(crate) fn guid(doing: &str, name: &str) -> Result<u64> {
    let told = zfs(doing, &["get", "-H", "-p", "-o", "value", "guid", name])?;
    told.trim().parse().map_err(|_| Fault::new(Cause::Other, doing, &format!("zfs tells {told:?} for a GUID")))
}

/// The dataset of this name.
pub fn find(name: &str) -> Result<Dataset> {
    let doing = format!("find dataset {name}");
    let guid = guid(&doing, name).map_err(|fault| no_pool(fault, name))?;
    Ok(Dataset { name: name.to_owned(), guid })
}

/// `zfs get` says of a missing pool only that there is no such dataset.
fn no_pool(fault: Fault, name: &str) -> Fault {
    let pool = name.split('/').next().unwrap_or_default();
    let missing = || guid("", pool).is_err_and(|fault| *fault.cause() == Cause::NoSuchDataset);
    match *fault.cause() == Cause::NoSuchDataset && (pool == name || missing()) {
        true => fault.turned(Cause::NoSuchPool),
        false => fault,
    }
}

/// Makes a dataset that `zfs` mounts nowhere, and parents that are missing. One of that name must not exist.
pub fn create(name: &str, marks: &Marks) -> Result<Dataset> {
    let doing = format!("make dataset {name}");
    let lacks = |fault: Fault| rights::told(fault, "create,mount,canmount,mountpoint,userprop", parent(name));
    parents(&doing, name).map_err(lacks)?;
    let marks = marks.words();
    let mut words = vec!["create", "-u", "-o", "canmount=noauto", "-o", "mountpoint=legacy"];
    marks.iter().for_each(|mark| words.extend(["-o", mark]));
    words.push(name);
    zfs(&doing, &words).map_err(|fault| lacks(fault).closer(parent(name)))?;
    find(name)
}

/// Not by `-p` on a dataset itself: that would take one that is there for a new one, and mount what it makes.
pub(crate) fn parents(doing: &str, name: &str) -> Result<()> {
    let Some((above, _)) = name.rsplit_once('/') else { return Ok(()) };
    match zfs(doing, &["get", "-H", "-o", "value", "type", above]) {
        Err(fault) if *fault.cause() == Cause::NoSuchDataset => {
            let made = zfs(doing, &["create", "-p", "-u", "-o", "canmount=off", above]);
            made.map(drop).map_err(|fault| fault.closer(parent(above)))
        }
        other => other.map(drop),
    }
}

/// Makes a dataset that begins as the snapshot, in the same pool. `zfs` mounts it nowhere: [`Dataset::mount`] does.
pub fn clone_to(snapshot: &Snapshot, name: &str, marks: &Marks) -> Result<Dataset> {
    let doing = format!("clone {} to {name}", snapshot.full());
    snapshot.check(&doing)?;
    let (marks, full) = (marks.words(), snapshot.full());
    cloned(&doing, &full, name, &marks)?;
    find(name)
}

fn cloned(doing: &str, full: &str, name: &str, marks: &[String]) -> Result<()> {
    let lacks = |fault: Fault| rights::told(fault, "clone,create,mount,canmount,mountpoint,userprop", parent(name));
    let mut words = vec!["clone", "-o", "canmount=noauto", "-o", "mountpoint=legacy"];
    marks.iter().for_each(|mark| words.extend(["-o", mark]));
    words.extend([full, name]);
    let done = match zfs(doing, &words) {
        Err(fault) if *fault.cause() == Cause::NoParent => {
            parents(doing, name).map_err(lacks)?;
            zfs(doing, &words)
        }
        done => done,
    };
    done.map(drop).map_err(|fault| lacks(fault).closer(parent(name)))
}

/// Makes a dataset that begins as `dataset` is now, as [`clone_to`] does. The snapshot in between goes when the new one
/// does, by itself.
pub fn fork(dataset: &Dataset, snapshot: &SnapshotName, name: &str, marks: &Marks) -> Result<Dataset> {
    let doing = format!("clone {} to {name}", dataset.name);
    let taken = snapshot::take(std::slice::from_ref(dataset), snapshot, marks)?;
    let full = format!("{}@{}", dataset.name, snapshot.on(std::slice::from_ref(dataset))?);
    let made = cloned(&doing, &full, name, &marks.words()).and_then(|()| {
        // Deferred: it has a clone.
        zfs(&doing, &["destroy", "-d", &full])?;
        // It tells them in an order of its own.
        let told = zfs(&doing, &["get", "-H", "-p", "-o", "name,value", "guid", &dataset.name, name])?;
        let rows: Vec<[&str; 2]> = told.lines().filter_map(fields).collect();
        let guid = |name: &str| rows.iter().find(|row| row[0] == name).and_then(|row| row[1].parse().ok());
        match (guid(&dataset.name), guid(name)) {
            (Some(kept), Some(guid)) if kept == dataset.guid => Ok(Dataset { name: name.to_owned(), guid }),
            _ => Err(Fault::new(Cause::Another, &doing, "")),
        }
    });
    if made.is_err() {
        // Where there is a clone already, it is this one's own: another would have made the call fail.
        if made.as_ref().is_err_and(|fault| *fault.cause() == Cause::Another) {
            let _ = zfs(&doing, &["destroy", name]);
        }
        let _ = taken.undo();
    }
    made
}

/// Gives the name of a dataset free that is still in use: it is another's below the same parent from then on, and bears its
/// marks for who looks for what is left.
pub fn retire(dataset: &Dataset) -> Result<Dataset> {
    let doing = format!("rename dataset {}", dataset.name);
    dataset.check(&doing)?;
    let name = format!("{}/{RETIRED}{:016x}", parent(&dataset.name), dataset.guid);
    if name != dataset.name {
        zfs(&doing, &["rename", "-u", &dataset.name, &name])?;
    }
    Ok(Dataset { name, guid: dataset.guid })
}

/// Destroys a dataset that has neither children nor snapshots, and nothing that depends on it. It must be mounted nowhere;
/// where it is, the fault names who has it.
pub fn destroy(dataset: &Dataset) -> Result<()> {
    let doing = format!("destroy dataset {}", dataset.name);
    dataset.check(&doing)?;
    zfs(&doing, &["destroy", &dataset.name]).map(drop).map_err(|fault| {
        let fault = rights::told(fault, "destroy,mount", &dataset.name);
        match fault.cause() {
            Cause::Busy => busy::told(fault, dataset),
            _ => fault,
        }
    })
}

/// Every dataset below `name`, or in all pools, that bears our marks of its own, clone or not.
pub fn marked(name: Option<&str>) -> Result<Vec<Clone>> {
    let properties = format!("guid,origin,{},{},{},{}", mark::CONTAINER, mark::CHECKPOINT, mark::ROOT, mark::CREATED);
    let mut words = vec!["get", "-H", "-p", "-t", "filesystem", "-o", "name,property,value,source", &properties];
    if let Some(name) = name {
        words.splice(1..1, ["-r"]);
        words.push(name);
    }
    Ok(parse_marked(&zfs("list datasets", &words)?))
}

fn parse_marked(text: &str) -> Vec<Clone> {
    let mut all: Vec<Clone> = Vec::new();
    for line in text.lines() {
        let Some([name, property, value, source]) = fields(line) else { continue };
        if all.last().is_none_or(|last| last.dataset.name != name) {
            let dataset = Dataset { name: name.to_owned(), guid: 0 };
            all.push(Clone {
                dataset,
                origin: None,
                container: String::new(),
                checkpoint: None,
                root: None,
                created: None,
            });
        }
        let Some(last) = all.last_mut() else { continue };
        // A child of one of ours inherits its marks and is not ours.
        let own = source == "local" || source == "received";
        match property {
            "guid" => last.dataset.guid = value.parse().unwrap_or(0),
            "origin" => last.origin = mark::value(value).map(str::to_owned),
            mark::CONTAINER if own => last.container = value.to_owned(),
            mark::CREATED if own => last.created = mark::value(value).map(str::to_owned),
            mark::ROOT if own => last.root = mark::value(value).map(str::to_owned),
            mark::CHECKPOINT if own => last.checkpoint = mark::value(value).map(str::to_owned),
            _ => {}
        }
    }
    all.retain(|one| !one.container.is_empty() && one.dataset.guid != 0);
    all
}

pub(crate) fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(parent, _)| parent)
}

impl Fault {
    /// Tells a used-up quota from a full pool, of which `zfs` says the same.
    pub(crate) fn closer(self, name: &str) -> Fault {
        match self.cause() {
            Cause::Full => {}
            Cause::Quota(dataset) if dataset.is_empty() => {}
            _ => return self,
        }
        let mut chain = Vec::new();
        let mut end = name.len();
        loop {
            chain.push(&name[..end]);
            match name[..end].rfind('/') {
                Some(slash) => end = slash,
                None => break,
            }
        }
        let mut words = vec!["get", "-H", "-p", "-o", "name,property,value", "quota,refquota,available"];
        words.extend(&chain);
        let Ok(text) = zfs("", &words) else { return self };
        match limiting(&text) {
            Some(dataset) => self.turned(Cause::Quota(dataset)),
            None => self.turned(Cause::Full),
        }
    }
}

/// The innermost dataset with a quota, where the pool itself has space.
fn limiting(text: &str) -> Option<String> {
    const LITTLE: u64 = 1 << 20;
    let rows: Vec<[&str; 3]> = text.lines().filter_map(fields).collect();
    let pool = rows.iter().find(|[name, property, _]| *property == "available" && !name.contains('/'));
    if pool.is_some_and(|[_, _, value]| value.parse().is_ok_and(|bytes: u64| bytes < LITTLE)) {
        return None;
    }
    let quotas = rows.iter().filter(|[_, property, value]| *property != "available" && !matches!(*value, "0" | "-"));
    quotas.map(|[name, _, _]| *name).max_by_key(|name| name.len()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_of_what_is_ours_are_not_ours() {
        let text = "tank\tguid\t1\t-\ntank\torigin\t-\t-\ntank\tdev.wharf:container\t-\t-\n\
                    tank/c\tguid\t2\t-\ntank/c\torigin\ttank/a@x\t-\ntank/c\tdev.wharf:container\tweb\tlocal\n\
                    tank/c\tdev.wharf:checkpoint\tone\tlocal\n\
                    tank/c/d\tguid\t3\t-\ntank/c/d\torigin\t-\t-\n\
                    tank/c/d\tdev.wharf:container\tweb\tinherited from tank/c\n";
        let found = parse_marked(text);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].dataset, Dataset { name: "tank/c".into(), guid: 2 });
        assert_eq!((found[0].origin.as_deref(), found[0].checkpoint.as_deref()), (Some("tank/a@x"), Some("one")));
    }

    #[test]
    fn a_quota_is_told_from_a_full_pool() {
        let text = |pool: u64| {
            format!(
                "t/a\tquota\t0\nt/a\tavailable\t0\nt/q\tquota\t100\nt/q\tavailable\t0\nt\tquota\t0\nt\tavailable\t{pool}\n"
            )
        };
        assert_eq!(limiting(&text(1 << 30)).as_deref(), Some("t/q"));
        assert_eq!(limiting(&text(0)), None);
    }
}
