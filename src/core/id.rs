//! A container's name, checked once.

use crate::{Error, Kind, Result};
use std::fmt;

/// An id that is safe as one component of a path: `[A-Za-z0-9_+-][A-Za-z0-9_+.-]*`, at most 255 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerId(String);

impl ContainerId {
    /// Longest id: what one directory entry can hold (NAME_MAX).
    pub const MAX: usize = 255;

    /// Fails with [`Kind::Usage`]; the id itself is quoted, shortened where it is long.
    pub fn new(id: &str) -> Result<Self> {
        let wrong = |why: &str| {
            let shown: String = id.chars().take(64).collect();
            let dots = if id.chars().count() > 64 { "…" } else { "" };
            Err(Error::new(Kind::Usage, format!("container id {shown:?}{dots}")).because(why))
        };
        if id.is_empty() {
            return wrong("is empty");
        }
        if id.len() > Self::MAX {
            return wrong(&format!("is {} bytes long, at most {} are allowed", id.len(), Self::MAX));
        }
        let first = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-');
        if !first(id.as_bytes()[0]) || !id.bytes().all(|b| first(b) || b == b'.') {
            return wrong("may hold only letters, digits and _ + - . and not begin with a dot");
        }
        Ok(ContainerId(id.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_one_safe_path_component() {
        for good in ["a", "c-1", "_x", "+y", "a.b", &"f".repeat(255)] {
            assert!(ContainerId::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "../x", "a b", "ä", "a\n", &"f".repeat(256)] {
            assert!(ContainerId::new(bad).is_err(), "{bad:?}");
        }
    }
}
