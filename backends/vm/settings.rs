//! What the administrator's configuration says of virtual machines (its section `vm`).

use std::path::PathBuf;
use std::time::Duration;

/// Where guests' first roots are kept.
const CACHE: &str = "/var/cache/wharf/vm";
/// MiB of a machine whose container has no limit.
const MEMORY: u64 = 512;
/// Where machines' disks are.
const DISKS: &str = "/var/lib/wharf/vm";
/// MiB of one at most.
const DISK_SIZE: u64 = 10 << 10;
const PATIENCE: Duration = Duration::from_secs(60);

/// Which processor executes a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Processor {
    /// KVM where it works, else emulation.
    #[default]
    Auto,
    Kvm,
    Emulation,
}

/// All of it; none of a path is the default.
#[derive(Clone, Debug)]
pub struct Settings {
    pub qemu: Option<PathBuf>,
    pub kernel: Option<PathBuf>,
    pub modules: Option<PathBuf>,
    pub cache: PathBuf,
    pub processor: Processor,
    /// MiB.
    pub memory: u64,
    /// How long a guest may take to come up.
    pub patience: Duration,
    /// Whether the root file system is a copy of the bundle's, on a disk of the machine's own.
    pub has_disk: bool,
    /// MiB of that at most.
    pub disk_size: u64,
    /// Where they are.
    pub disks: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            qemu: None,
            kernel: None,
            modules: None,
            cache: CACHE.into(),
            processor: Processor::default(),
            memory: MEMORY,
            patience: PATIENCE,
            has_disk: false,
            disk_size: DISK_SIZE,
            disks: DISKS.into(),
        }
    }
}
