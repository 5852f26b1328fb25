//! What is asked of a checkpoint of a container's memory, and of bringing it back.

use crate::ExternalMount;
use std::path::PathBuf;

/// What both directions share. Paths are absolute.
#[derive(Clone, Debug, Default)]
pub struct Images {
    /// Where the images are.
    pub path: PathBuf,
    /// Where CRIU's log goes; none is beside the images.
    pub work: Option<PathBuf>,
    /// `--criu`
    pub criu: Option<PathBuf>,
    pub tcp_established: bool,
    pub ext_unix_sk: bool,
    pub shell_job: bool,
    pub file_locks: bool,
    pub auto_dedup: bool,
    pub lazy_pages: bool,
    pub cgroups: CgroupsMode,
}

/// `--manage-cgroups-mode`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupsMode {
    #[default]
    Soft,
    Full,
    Strict,
    Ignore,
}

/// A request to write a container's memory down.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    pub images: Images,
    /// Images before these, relative to them.
    pub parent: Option<String>,
    pub leave_running: bool,
    /// Memory only; the container runs on.
    pub pre_dump: bool,
    pub tcp_skip_in_flight: bool,
    pub link_remap: bool,
    /// Gets a NUL byte when pages can be asked for.
    pub status_fd: Option<i32>,
    pub page_server: Option<(String, u16)>,
}

/// A request to make a container of images.
#[derive(Clone, Debug, Default)]
pub struct Restore {
    pub images: Images,
    /// What the manifest says of mounts from outside.
    pub mounts: Vec<ExternalMount>,
    /// What the manifest says of the standard descriptors.
    pub descriptors: Vec<String>,
    pub console: bool,
    /// In place of the root file system that the bundle names.
    pub rootfs: Option<PathBuf>,
    pub lsm_profile: Option<String>,
    pub lsm_mount_context: Option<String>,
}

/// A container's memory, written down while every process of it stands still.
#[derive(Clone, Debug)]
pub struct Captured {
    /// CRIU's version.
    pub criu: String,
    pub mounts: Vec<ExternalMount>,
    pub descriptors: Vec<String>,
    pub console: bool,
}

/// What would make a checkpoint fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The object: `process 12 (redis)`, `mount /data`.
    pub what: String,
    pub why: String,
    /// What to do.
    pub fix: String,
}
