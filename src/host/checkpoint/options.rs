//! The fields of CRIU's options (`criu_opts`), by their numbers.

use super::criu;
use super::wire::Message;
use wharf_core::{CgroupsMode, Images};

pub(crate) const PID: u64 = 2;
pub(crate) const LEAVE_RUNNING: u64 = 3;
pub(crate) const EVASIVE_DEVICES: u64 = 6;
pub(crate) const ROOT: u64 = 13;
pub(crate) const PARENT: u64 = 14;
pub(crate) const TRACK_MEMORY: u64 = 15;
pub(crate) const LINK_REMAP: u64 = 18;
pub(crate) const FREEZER: u64 = 44;
pub(crate) const SKIP_IN_FLIGHT: u64 = 46;
pub(crate) const LSM_PROFILE: u64 = 53;
pub(crate) const LSM_MOUNT_CONTEXT: u64 = 63;
pub(crate) const SIBLING: u64 = 26;
const IMAGES: u64 = 1;
const EXT_UNIX_SK: u64 = 4;
const TCP_ESTABLISHED: u64 = 5;
const SHELL_JOB: u64 = 7;
const FILE_LOCKS: u64 = 8;
const LOG_LEVEL: u64 = 9;
const LOG_FILE: u64 = 10;
const PAGE_SERVER: u64 = 11;
const NOTIFY: u64 = 12;
const AUTO_DEDUP: u64 = 16;
const WORK: u64 = 17;
const CGROUP_ROOT: u64 = 25;
const INHERIT: u64 = 27;
const EXT_MASTERS: u64 = 30;
const CGROUPS: u64 = 34;
const EXTERNAL: u64 = 37;
const EMPTY_NAMESPACES: u64 = 38;
const JOIN: u64 = 39;
const LAZY_PAGES: u64 = 48;
const ORPHAN_TERMINAL: u64 = 50;
const CONFIGURATION: u64 = 51;
const NETWORK_LOCK: u64 = 64;
/// `criu_network_lock_method`
const LOCK_NFTABLES: i64 = 2;
const LOCK_SKIP: i64 = 3;

/// `CLONE_NEWNET`
const NEWNET: i64 = 0x4000_0000;

/// The network namespace of a container that joins one by path, as runc names it.
pub(crate) const NETWORK_KEY: &str = "extRootNetNS";
pub(crate) const PIDS_KEY: &str = "extRootPidNS";

/// What a dump and a restore have in common.
pub(crate) fn common(images: &Images, log: &str) -> Message {
    let mut message = Message::default();
    message
        .number(IMAGES, criu::IMAGES.into())
        .number(WORK, criu::WORK.into())
        .number(LOG_LEVEL, 4)
        .text(LOG_FILE, log)
        .flag(NOTIFY, true)
        .flag(ORPHAN_TERMINAL, true)
        .flag(EXT_MASTERS, true)
        .flag(EXT_UNIX_SK, images.ext_unix_sk)
        .flag(TCP_ESTABLISHED, images.tcp_established)
        .flag(SHELL_JOB, images.shell_job)
        .flag(FILE_LOCKS, images.file_locks)
        .flag(AUTO_DEDUP, images.auto_dedup)
        .flag(LAZY_PAGES, images.lazy_pages)
        // Interfaces, addresses and rules are the engine's to make anew, or the hooks', as with runc.
        .number(EMPTY_NAMESPACES, NEWNET)
        .number(
            CGROUPS,
            match images.cgroups {
                CgroupsMode::Ignore => 0,
                CgroupsMode::Soft => 3,
                CgroupsMode::Full => 4,
                CgroupsMode::Strict => 5,
            },
        );
    message
}

impl Message {
    /// A mount from outside, `name` in the images and `what` it is: on the host at restore, and nothing of weight before.
    pub(crate) fn external_mount(&mut self, name: &str, what: &str) -> &mut Self {
        self.text(EXTERNAL, &format!("mnt[{name}]:{what}"))
    }

    pub(crate) fn external(&mut self, text: &str) -> &mut Self {
        self.text(EXTERNAL, text)
    }

    /// A descriptor that CRIU holds already stands for `key` of the images.
    pub(crate) fn inherit(&mut self, key: &str, number: i32) -> &mut Self {
        let mut one = Message::default();
        one.text(1, key).number(2, number.into());
        self.message(INHERIT, &one)
    }

    pub(crate) fn join(&mut self, kind: &str, path: &str) -> &mut Self {
        let mut one = Message::default();
        one.text(1, kind).text(2, path);
        self.message(JOIN, &one)
    }

    pub(crate) fn cgroup_root(&mut self, controller: &str, path: &str) -> &mut Self {
        let mut one = Message::default();
        one.text(1, controller).text(2, path);
        self.message(CGROUP_ROOT, &one)
    }

    pub(crate) fn page_server(&mut self, address: &str, port: u16) -> &mut Self {
        let mut one = Message::default();
        one.text(1, address).number(2, port.into());
        self.message(PAGE_SERVER, &one)
    }

    pub(crate) fn configuration(&mut self, path: &str) -> &mut Self {
        self.text(CONFIGURATION, path)
    }

    /// What keeps packets away from connections that are being written down: nothing where there can be none, so that no
    /// other program has to be run while the container stands still.
    pub(crate) fn network_lock(&mut self, connections: bool, has_iptables: bool) -> &mut Self {
        match (connections, has_iptables) {
            (false, _) => self.number(NETWORK_LOCK, LOCK_SKIP),
            (true, false) => self.number(NETWORK_LOCK, LOCK_NFTABLES),
            (true, true) => self,
        }
    }
}
