//! What the planner must know of the host and the request, gathered by whoever calls it.

/// The surroundings of a container.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub id: String,
    /// Absolute path of the bundle.
    pub bundle: String,
    /// Absolute path of the root file system.
    pub rootfs: String,
    /// Effective ids of the caller.
    pub uid: u32,
    pub gid: u32,
    /// Every id of the caller is root's: real, effective and saved, of user and group.
    pub all_root: bool,
    /// Capabilities that the caller holds and so can give.
    pub permitted: u64,
    /// Its inheritable capabilities.
    pub inheritable: u64,
    /// Highest capability that the kernel knows.
    pub last_capability: u32,
    /// config.json has a section for FreeBSD, which the types of `Spec` drop.
    pub freebsd: bool,
    /// The kernel has SELinux and it is on; looked up where a label is asked for.
    pub selinux: bool,
    /// The kernel enforces AppArmor's profiles; looked up where one is asked for.
    pub apparmor: bool,
    /// Whoever makes the container starts it too.
    pub then_start: bool,
    /// Another program makes the namespaces, joins those by path, and maps ids: the init begins in them.
    pub carried: bool,
    /// `--no-pivot`
    pub no_pivot: bool,
    /// `--no-new-keyring`
    pub no_new_keyring: bool,
    /// `--systemd-cgroup`
    pub systemd_cgroup: bool,
    /// The payload keeps the caller's supplementary groups.
    pub keep_groups: bool,
    /// Descriptors that the payload gets as systemd's services do.
    pub listen: Option<Listen>,
    /// Absolute path of the directory with the socket for sd_notify(3), where the payload gets one.
    pub notify: Option<String>,
    /// The container's cgroup in each hierarchy of the host, for mounts of type `cgroup`.
    pub cgroup: Vec<CgroupMount>,
}

/// `LISTEN_FDS` and its kin (sd_listen_fds(3)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// How many descriptors, from number 3 on.
    pub fds: u32,
    /// `LISTEN_FDNAMES`
    pub names: Option<String>,
}

/// One cgroup hierarchy of the host.
#[derive(Clone, Debug, Default)]
pub struct CgroupMount {
    /// Name of the directory under /sys/fs/cgroup: `memory`, `cpu,cpuacct`, `systemd`; empty for a host with v2 alone.
    pub name: String,
    /// What mount(2) wants to be told to mount it: `memory`, `none,name=systemd`; empty for v2.
    pub data: String,
    pub v2: bool,
    /// Absolute path of the container's cgroup in the host's mount of it.
    pub path: String,
}
