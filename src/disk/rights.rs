//! What the caller may do, and what would fail, seen without doing it.

use crate::cause::{Cause, Fault, Result};
use crate::command::zfs;
use crate::dataset::Dataset;
use crate::name::SnapshotName;
use wharf_sys::dir::effective_ids;

/// For a checkpoint: user properties are set with the snapshot.
const CHECKPOINT: &str = "snapshot,userprop,destroy,mount,hold,release";

/// Adds the line that gives the right, where it is that.
pub(crate) fn told(fault: Fault, rights: &str, dataset: &str) -> Fault {
    match fault.cause() {
        Cause::NotPermitted => fault.hint(allow(rights, dataset)),
        _ => fault,
    }
}

fn allow(rights: &str, dataset: &str) -> String {
    format!("as root: zfs allow -u {} {rights} {dataset}", effective_ids().0)
}

pub(crate) fn lacks_checkpoint(fault: Fault, dataset: &str) -> Fault {
    told(fault, CHECKPOINT, dataset)
}

/// Fails as `take` would, where that can be seen before: no `zfs`, another dataset by that name, a name that is taken, a
/// pool without space or devices, a right that an ordinary user lacks. Changes nothing.
pub fn preflight(datasets: &[Dataset], name: &SnapshotName) -> Result<()> {
    let short = name.on(datasets)?;
    for dataset in datasets {
        let doing = format!("snapshot {}@{short}", dataset.name);
        dataset.check(&doing)?;
        let (full, pool) = (format!("{}@{short}", dataset.name), dataset.pool());
        match zfs(&doing, &["get", "-H", "-p", "-o", "value", "guid", &full]) {
            Ok(_) => return Err(Fault::new(Cause::Exists, &doing, "")),
            Err(fault) if *fault.cause() == Cause::NoSuchDataset => {}
            Err(fault) => return Err(fault),
        }
        let space = zfs(&doing, &["get", "-H", "-p", "-o", "value", "available", pool])?;
        if space.trim() == "0" {
            return Err(Fault::new(Cause::Full, &doing, ""));
        }
        let uid = effective_ids().0;
        let passwd = || std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        if uid != 0 && !may(&zfs(&doing, &["allow", &dataset.name])?, uid, &passwd()) {
            return Err(lacks_checkpoint(Fault::new(Cause::NotPermitted, &doing, ""), &dataset.name));
        }
    }
    Ok(())
}

/// From what `zfs allow DATASET` shows. Groups and sets of permissions are taken for enough: the call itself tells.
fn may(shown: &str, uid: u32, passwd: &str) -> bool {
    let (user, number) = (wharf_core::user_name(passwd, uid), uid.to_string());
    let mut granted = Vec::new();
    let mut unsure = false;
    for line in shown.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["user", who, list] if Some(who) == user || who == number => granted.extend(list.split(',')),
            ["everyone", list] => granted.extend(list.split(',')),
            ["group", _, _] => unsure = true,
            _ => {}
        }
    }
    unsure |= granted.iter().any(|right| right.starts_with('@'));
    unsure || ["snapshot", "userprop"].iter().all(|right| granted.contains(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_the_users_own_or_everyones() {
        let passwd = "root:x:0:0::/:/bin/sh\nann:x:1000:1000::/:/bin/sh\n";
        let shown = "---- Permissions on tank/a ---\nLocal+Descendent permissions:\n\tuser ann hold,snapshot\n";
        assert!(!may(shown, 1000, passwd), "without userprop");
        let all = format!("{shown}\teveryone userprop\n");
        assert!(may(&all, 1000, passwd));
        assert!(!may(&all, 1001, passwd), "snapshot is ann's");
        assert!(may("\tgroup staff snapshot,userprop\n", 1001, passwd));
        assert!(!may("", 1000, passwd));
    }
}
