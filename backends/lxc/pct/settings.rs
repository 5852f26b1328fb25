//! What the administrator says of his Proxmox node, and where its files are.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The configuration's section `proxmox`, as far as containers are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// In front of every path of the node: `/`.
    pub root: PathBuf,
    /// The program `pct`.
    pub pct: PathBuf,
    /// First and last number for containers; the datacenter's own where there is none.
    pub vmids: Option<(u32, u32)>,
    /// Longest time for one call of Proxmox's tools, and for a lock.
    pub timeout: Duration,
    /// No privileged container is made.
    pub unprivileged: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings::of_node(PathBuf::from("/"))
    }
}

impl Settings {
    /// With everything as it is by itself.
    pub fn of_node(root: PathBuf) -> Self {
        let pct = match root == Path::new("/") {
            true => PathBuf::from("/usr/sbin/pct"),
            false => root.join("bin/pct"),
        };
        Settings { root, pct, vmids: None, timeout: Duration::from_secs(120), unprivileged: false }
    }

    /// A path of the node.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Where the cluster's configuration is mounted.
    pub(crate) fn cluster(&self) -> PathBuf {
        self.path("/etc/pve")
    }

    /// LXC's path on the node, as LXC knows it.
    pub(crate) fn lxc_path(&self) -> PathBuf {
        self.path("/var/lib/lxc")
    }

    /// For the record: later verbs are called without a configuration.
    pub(crate) fn memory(&self) -> Value {
        json!({ "root": self.root, "pct": self.pct, "timeout": self.timeout.as_secs() })
    }

    pub(crate) fn remembered(memory: &Value) -> Self {
        let path = |key: &str| memory.get(key).and_then(Value::as_str).map(PathBuf::from);
        let mut settings = path("root").map(Settings::of_node).unwrap_or_default();
        if let Some(pct) = path("pct") {
            settings.pct = pct;
        }
        if let Some(seconds) = memory.get("timeout").and_then(Value::as_u64) {
            settings.timeout = Duration::from_secs(seconds);
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_what_was_said() {
        let said = Settings {
            pct: "/opt/pct".into(),
            timeout: Duration::from_secs(7),
            ..Settings::of_node("/srv/node".into())
        };
        assert_eq!(Settings::remembered(&said.memory()), said);
        assert_eq!(Settings::remembered(&Value::Null), Settings::default());
        assert_eq!(said.cluster(), Path::new("/srv/node/etc/pve"));
        assert_eq!(Settings::default().lxc_path(), Path::new("/var/lib/lxc"));
    }
}
