//! A number for a new container: free in the whole cluster as the node knows it, and nobody else's of this host for the moment.

use super::settings::Settings;
use serde_json::Value;
use std::fs;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use wharf_core::{Error, Kind, Result};
use wharf_sys::dir::{self, Lock};
use wharf_sys::{fd, libc};

/// Where numbers are held that wharf is about to use.
const HELD: &str = "/run/wharf-pct/vmid";
/// What the datacenter gives by itself.
const USUAL: RangeInclusive<u32> = 100..=999_999;

/// What the cluster file system says of a number.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Guest {
    pub(crate) vmid: u32,
    pub(crate) node: String,
    pub(crate) container: bool,
}

/// Every container and machine of the cluster. An error where its file system is not there: an empty directory is not an
/// empty cluster.
pub(crate) fn guests(settings: &Settings) -> Result<Vec<Guest>> {
    let path = settings.cluster().join(".vmlist");
    let absent = |why: String| {
        Error::new(Kind::System, format!("read {}", settings.cluster().display()))
            .because(why)
            .hint("systemctl status pve-cluster: without it nothing is known of the node's containers")
    };
    let text =
        fs::read_to_string(&path).map_err(|_| absent("the cluster file system is not mounted there".to_owned()))?;
    read(&text).ok_or_else(|| absent(".vmlist is not what it should be".to_owned()))
}

fn read(text: &str) -> Option<Vec<Guest>> {
    let all: Value = serde_json::from_str(text).ok()?;
    let guest = |(vmid, about): (&String, &Value)| {
        Some(Guest {
            vmid: vmid.parse().ok()?,
            node: about.get("node")?.as_str()?.to_owned(),
            container: about.get("type")?.as_str()? == "lxc",
        })
    };
    all.get("ids")?.as_object()?.iter().map(guest).collect()
}

/// Where new numbers come from: our configuration's range, or `next-id` of the datacenter.
fn range(settings: &Settings) -> RangeInclusive<u32> {
    if let Some((first, last)) = settings.vmids {
        return first..=last;
    }
    let text = fs::read_to_string(settings.cluster().join("datacenter.cfg")).unwrap_or_default();
    of_datacenter(&text)
}

fn of_datacenter(text: &str) -> RangeInclusive<u32> {
    let Some(rest) = text.lines().find_map(|line| line.strip_prefix("next-id:")) else { return USUAL };
    let bound = |name: &str| {
        rest.trim().split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('=')?.parse::<u32>().ok())
    };
    // The upper one is not among them.
    let last = bound("upper").map_or(*USUAL.end(), |upper| upper.saturating_sub(1));
    bound("lower").unwrap_or(*USUAL.start()).max(*USUAL.start())..=last
}

/// A number that no other wharf of this host takes as long as this lives.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) vmid: u32,
    path: PathBuf,
    _lock: OwnedFd,
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The first one that is free, behind those in `taken`: somebody else has been faster there.
pub(crate) fn hold(settings: &Settings, taken: &[u32]) -> Result<Held> {
    let used: std::collections::BTreeSet<u32> =
        guests(settings)?.into_iter().map(|guest| guest.vmid).chain(taken.iter().copied()).collect();
    let range = range(settings);
    for vmid in range.clone().filter(|vmid| !used.contains(vmid)) {
        if let Some(held) = try_hold(Path::new(HELD), vmid).map_err(|error| {
            Error::system(format!("hold the number {vmid} in {HELD}"), error.raw_os_error().unwrap_or(libc::EIO))
        })? {
            return Ok(held);
        }
    }
    let (first, last) = (range.start(), range.end());
    Err(Error::new(Kind::System, "find a number for the container")
        .because(format!("all from {first} to {last} are in use"))
        .hint("proxmox.vmid_range in the configuration"))
}

fn try_hold(place: &Path, vmid: u32) -> std::io::Result<Option<Held>> {
    fs::create_dir_all(place)?;
    let path = place.join(vmid.to_string());
    let lock: OwnedFd = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path)?.into();
    if !dir::try_lock(lock.as_fd(), Lock::Exclusive)? {
        return Ok(None);
    }
    // Whoever held it has removed the file, and the next one makes another.
    let current = fd::stat(&lock)?.st_nlink > 0;
    Ok(current.then_some(Held { vmid, path, _lock: lock }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_are_those_of_every_node_and_kind() {
        let text = r#"{"version": 9, "ids": {"100": {"node": "a", "type": "lxc", "version": 4},
                       "9000": {"node": "b", "type": "qemu", "version": 1}}}"#;
        let all = read(text).unwrap();
        assert_eq!(all[0], Guest { vmid: 100, node: "a".to_owned(), container: true });
        assert_eq!(all[1], Guest { vmid: 9000, node: "b".to_owned(), container: false });
        assert_eq!(read(r#"{"ids": {}}"#).unwrap(), []);
        for wrong in ["", "{}", "[]", r#"{"ids": {"x": {}}}"#] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_datacenter_says_where_numbers_begin() {
        assert_eq!(of_datacenter(""), 100..=999_999);
        assert_eq!(of_datacenter("keyboard: de\nnext-id: lower=500,upper=600\n"), 500..=599);
        assert_eq!(of_datacenter("next-id: upper=1000\n"), 100..=999);
    }

    #[test]
    fn a_number_is_held_by_one_at_a_time() {
        let place = std::env::temp_dir().join(format!("wharf-vmid-{}", std::process::id()));
        let first = try_hold(&place, 100).unwrap().unwrap();
        assert!(try_hold(&place, 100).unwrap().is_none());
        assert_eq!(try_hold(&place, 101).unwrap().unwrap().vmid, 101);
        drop(first);
        assert_eq!(try_hold(&place, 100).unwrap().unwrap().vmid, 100);
        fs::remove_dir_all(place).unwrap();
    }
}
