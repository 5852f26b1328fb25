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
/// last `-` is always the one between them. What would be too long with its dataset is `wharf:` and the first 128 bits of
/// the SHA-256 of id and name; the container and the checkpoint are among the snapshot's properties in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotName {
    id: String,
    checkpoint: String,
}

impl SnapshotName {
    /// `checkpoint`: letters, digits, `_`, `.` and `-`, the first of them a letter, a digit or `_`; at most 255 bytes.
    pub fn new(id: &ContainerId, checkpoint: &str) -> Result<Self> {
        let first = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let good = checkpoint.as_bytes().first().is_some_and(first)
            && checkpoint.bytes().all(|byte| first(&byte) || matches!(byte, b'.' | b'-'))
            && checkpoint.len() <= 255;
        if !good {
            let shown: String = checkpoint.chars().take(64).collect();
            let why = "may hold at most 255 letters, digits and _ . - and begins with none of the last two";
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
        format!("wharf-{}-{}", self.id.replace('+', ":"), self.checkpoint.replace('-', ":"))
    }

    fn short(&self) -> String {
        let mut digest = Digest::new();
        digest.update(self.id.as_bytes());
        digest.update(b"\0");
        digest.update(self.checkpoint.as_bytes());
        let mut name = String::from("wharf:");
        for byte in &digest.finish()[..16] {
            let _ = write!(name, "{byte:02x}");
        }
        name
    }

    /// Whether what comes after an `@` is one of ours.
    pub(crate) fn is_ours(name: &str) -> bool {
        name.starts_with("wharf-") || name.starts_with("wharf:")
    }
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
        let names = ["c", "b-c", "b--c", "c-", "c_", "c.d", "b-c-d", "1"];
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
        assert!(all.iter().filter(|name| name.starts_with("wharf-")).count() == ids.len() * names.len(), "{all:?}");
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
        for bad in ["", "-a", ".a", "a/b", "a@b", "a+b", "a b", "ä", "a:b", &"n".repeat(256)] {
            assert!(on("c", bad, "tank").is_err(), "{bad:?}");
        }
    }
}
