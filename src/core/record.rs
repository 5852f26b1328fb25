//! What wharf remembers of a container between two calls.

use crate::{Opaque, WitnessKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version that this build writes. It reads this one and the one before, and refuses newer by name.
pub const RECORD_VERSION: u32 = 1;

/// The record of one container, saved as JSON in its state directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub version: u32,
    pub id: String,
    /// `ociVersion` of the bundle's config.json.
    pub oci_version: String,
    /// Absolute path of the bundle.
    pub bundle: String,
    /// Absolute path of the root file system.
    pub rootfs: String,
    pub backend: String,
    /// Why that backend was chosen.
    #[serde(default)]
    pub route: String,
    /// The rule that chose it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleRecord>,
    /// The name that wharf was called by, where it is another.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub argv0: String,
    /// Who called `create`.
    pub owner: u32,
    /// When `create` began, RFC 3339 in UTC.
    pub created: String,
    /// Who knows what the container is doing, where that is not the process in `init`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<RecordState>,
    /// None until the container has a process: a record without one is of a `create` that runs or was interrupted, or of
    /// a delegated container.
    pub init: Option<Process>,
    /// What stands in the pid file and in `state`.
    pub engine_pid: i32,
    pub cgroup: CgroupPaths,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<HookEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<HookEntry>,
    /// Who writes down how the payload ends, where somebody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<WitnessKind>,
    /// Datasets that were made for it and go with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clones: Vec<CloneRecord>,
    /// The backend's own memory.
    #[serde(default)]
    pub private: Opaque,
}

/// Written for who reads a record; records of before have none, and mean the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordState {
    /// The other runtime's own state decides.
    Delegated,
}

/// A rule of the configuration as it was when it matched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleRecord {
    /// The file's path.
    pub configuration: String,
    /// From 1.
    pub number: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The backend that the rule names, where it could not be used and its fallback was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_for: Option<String>,
}

/// The identity of a process: a pid alone is reused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: i32,
    /// Clock ticks after boot, field 22 of /proc/PID/stat.
    pub start_time: u64,
    pub boot_id: String,
    /// Inode of its pidfd, unique since boot where pidfs numbers them (kernel 6.9); 0 where it does not.
    pub pidfd_inode: u64,
}

/// Where a container's cgroups are, as paths below the root of each hierarchy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupPaths {
    /// What engines see and trim.
    pub seen: String,
    /// Where the payload is.
    pub payload: String,
    /// Which one freezes all of it.
    pub freezer: String,
    /// The file that says whether it is frozen, on the host. Records of before have none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub freezer_file: String,
    /// Name of the cgroup below `payload`, in each hierarchy, that the container's processes are in, where they are not
    /// in `payload` itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub inner: String,
    /// How many levels, counted from the leaf, were made by us and are ours to remove.
    pub made: u32,
    /// The hierarchies of cgroup v1 where path or levels differ from `payload` and `made`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apart: Vec<HierarchyPath>,
    /// The unit that it is, where systemd has made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<UnitRecord>,
}

/// A dataset that is a container's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneRecord {
    pub dataset: String,
    pub guid: u64,
    /// Where it is mounted on the host: an absolute path.
    pub at: String,
}

/// A unit of systemd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitRecord {
    /// With its suffix.
    pub name: String,
    pub manager: Manager,
}

/// Which systemd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// The first process of the host.
    System,
    /// The one of the user who calls.
    User,
}

impl std::fmt::Display for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Manager::System => "the system's",
            Manager::User => "the user's",
        })
    }
}

/// A container's cgroup in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HierarchyPath {
    pub mount_point: String,
    /// Below the mount point.
    pub path: String,
    pub made: u32,
}

/// A hook to run after `create` has returned.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HookEntry {
    pub path: String,
    pub args: Vec<String>,
    pub env: Vec<String>,
    /// Seconds.
    pub timeout: Option<u32>,
}

impl HookEntry {
    /// Of a hook without a timeout of its own, in seconds: one that hangs must not keep whoever waits for us for ever.
    pub const PATIENCE: u32 = 600;

    /// How long it may take.
    pub fn milliseconds(&self) -> i32 {
        self.timeout.unwrap_or(Self::PATIENCE) as i32 * 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_without_a_timeout_has_a_limit_all_the_same() {
        let hook = |timeout| HookEntry { path: String::new(), args: vec![], env: vec![], timeout };
        assert_eq!(hook(Some(2)).milliseconds(), 2000);
        assert_eq!(hook(None).milliseconds(), 600_000);
    }
}
