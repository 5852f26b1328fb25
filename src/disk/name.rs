//! The name of a checkpoint's snapshot: `wharf-ID-NAME`, so written that no two checkpoints have the same.

use crate::cause::{Cause, Fault, Result};
use crate::dataset::Dataset;
use std::fmt::Write as _;
use wharf_core::{ContainerId, Digest};

/// Longest name of a snapshot with its dataset: ZFS_MAX_DATASET_NAME_LEN without the last NUL.
const LONGEST: usize = 255;

/// What comes after the `@`.
///
/// Neither ids nor names hold a colon, and ZFS takes no plus. So `+` of an id is written `:`, and `-` of a name is too: the
/// last `-` is always the one between them. What would be too long with its dataset, or has a `+` in the name, is `wharf:`
/// and the first 128 bits of the SHA-256 of id and name; the container and the checkpoint are among the snapshot's
/// properties in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotName {
    id: String,
    checkpoint: String,
}

impl SnapshotName {
    /// `checkpoint` is made of the same letters as an id.
    pub fn new(id: &ContainerId, checkpoint: &str) -> Result<Self> {
        if ContainerId::new(checkpoint).is_err() {
            let shown: String = checkpoint.chars().take(64).collect();
            let why = "may hold at most 255 letters, digits and _ + - . and does not begin with a dot";
            return Err(Fault::new(Cause::Other, &format!("name {shown:?} of a checkpoint"), why));
        }
        Ok(SnapshotName { id: id.to_string(), checkpoint: checkpoint.to_owned() })
    }

    pub fn container(&self) -> &str {
        &self.id
    }

    pub fn checkpoint(&self) -> &str {
        &self.checkpoint
    }

    /// As it is on these datasets: the same on all of them, so short that it fits the longest name.
    pub fn on(&self, datasets: &[Dataset]) -> Result<String> {
        let room = |dataset: &Dataset| LONGEST.saturating_sub(dataset.name.len() + 1);
        let Some(longest) = datasets.iter().min_by_key(|dataset| room(dataset)) else { return Ok(self.long()) };
        let room = room(longest);
        let name = Some(self.long()).filter(|name| name.len() <= room).unwrap_or_else(|| self.short());
        match name.len() <= room {
            true => Ok(name),
            false => Err(Fault::new(Cause::TooLong, &format!("snapshot of {}", longest.name), "")),
        }
    }

    fn long(&self) -> String {
        if self.checkpoint.contains('+') {
            return self.short();
        }
        format!("wharf-{}-{}", self.id.replace('+', ":"), self.checkpoint.replace('-', ":"))
    }

    fn short(&self) -> String {
        digest(&[self.id.as_str(), self.checkpoint.as_str()])
    }

    /// Whether what comes after an `@` is one of ours.
    pub(crate) fn is_ours(name: &str) -> bool {
        name.starts_with("wharf-") || name.starts_with("wharf:")
    }
}

/// The name of a container's own dataset below `parent`.
pub fn own_name(parent: &str, id: &ContainerId) -> Result<String> {
    let name = format!("{parent}/{}", id.as_str().replace('+', ":"));
    let name = if name.len() <= LONGEST { name } else { format!("{parent}/{}", digest(&[id.as_str()])) };
    match name.len() <= LONGEST {
        true => Ok(name),
        false => Err(Fault::new(Cause::TooLong, &format!("dataset of container {id} below {parent}"), "")),
    }
}

/// 128 bits of it: nobody finds two that are the same.
fn digest(parts: &[&str]) -> String {
    let mut digest = Digest::new();
    for part in parts {
        digest.update(part.as_bytes());
        digest.update(b"\0");
    }
    let mut name = String::from("wharf:");
    for byte in &digest.finish()[..16] {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(id: &str, checkpoint: &str, dataset: &str) -> Result<String> {
        let dataset = Dataset { name: dataset.into(), guid: 1 };
        SnapshotName::new(&ContainerId::new(id).unwrap(), checkpoint)?.on(&[dataset])
    }

    #[test]
    fn no_two_checkpoints_have_one_name() {
        let ids = ["a", "a-b", "a+b", "a--b", "a-", "-a", "+", "++", "a.b", "a-b-c", "wharf-a"];
        let names = ["c", "b+c", "-", "b-c", "b--c", "c-", "c_", "c.d", "b-c-d", "1"];
        let mut all = Vec::new();
        for id in ids {
            for name in names {
                all.push(on(id, name, "tank/a").unwrap());
                all.push(on(id, name, &"d".repeat(214)).unwrap());
            }
        }
        let count = all.len();
        all.sort();
        all.dedup();
        // Short ones are the same on both where the long one is short enough.
        assert!(
            all.iter().filter(|name| name.starts_with("wharf-")).count() == ids.len() * (names.len() - 1),
            "{all:?}"
        );
        assert!(count > all.len());
    }

    #[test]
    fn a_name_is_legible_and_fits() {
        assert_eq!(on("web", "before-upgrade", "tank/a").unwrap(), "wharf-web-before:upgrade");
        let short = on(&"f".repeat(255), "one", "tank/a").unwrap();
        assert_eq!((short.len(), &short[..6]), (38, "wharf:"));
        assert_ne!(short, on(&"f".repeat(255), "two", "tank/a").unwrap());
        assert_eq!(on("web", "one", &"d".repeat(245)).unwrap_err().cause(), &Cause::TooLong);
    }

    #[test]
    fn names_that_zfs_would_not_take_are_refused() {
        for bad in ["", ".a", "a/b", "a@b", "a b", "ä", "a:b", &"n".repeat(256)] {
            assert!(on("c", bad, "tank").is_err(), "{bad:?}");
        }
    }
}
