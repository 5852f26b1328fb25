//! What wharf asks of the kernel beyond Linux 5.3, its oldest, and what it does where that is missing.

use crate::Errno;
use std::sync::atomic::{AtomicU32, Ordering};

/// A system call, or a feature of one.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    pub name: &'static str,
    /// The first Linux that has it.
    pub since: &'static str,
    /// What is done where it is missing; `None` where whoever needs it is refused by name.
    pub instead: Option<&'static str>,
    /// Who needs it.
    pub used: &'static str,
}

const fn need(name: &'static str, since: &'static str, used: &'static str, instead: Option<&'static str>) -> Need {
    Need { name, since, instead, used }
}

/// Position in [`NEEDS`]. An init tells its parent so too: new ones go to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Call {
    OpenTree,
    MoveMount,
    Fsopen,
    PidfdSendSignal,
    PidfdOpen,
    Clone3,
    Openat2,
    PidfdGetfd,
    CloneIntoCgroup,
    SetnsPidfd,
    Faccessat2,
    MountNumber,
    CloseRange,
    MountSetattr,
    RecursiveAttributes,
    IdmappedMounts,
    SetSelfAttribute,
    TimeNamespaces,
}

/// In the order of [`NEEDS`].
pub const ALL: [Call; 18] = [
    Call::OpenTree,
    Call::MoveMount,
    Call::Fsopen,
    Call::PidfdSendSignal,
    Call::PidfdOpen,
    Call::Clone3,
    Call::Openat2,
    Call::PidfdGetfd,
    Call::CloneIntoCgroup,
    Call::SetnsPidfd,
    Call::Faccessat2,
    Call::MountNumber,
    Call::CloseRange,
    Call::MountSetattr,
    Call::RecursiveAttributes,
    Call::IdmappedMounts,
    Call::SetSelfAttribute,
    Call::TimeNamespaces,
];

/// All of them, in the order of [`Call`].
pub const NEEDS: &[Need] = &[
    need("open_tree", "5.2", "every container", None),
    need("move_mount", "5.2", "every container", None),
    need("fsopen, fsconfig, fsmount", "5.2", "every container with masked directories", None),
    need("pidfd_send_signal", "5.1", "kill, delete", None),
    need("pidfd_open", "5.3", "every verb on a container that exists", None),
    need("clone3", "5.3", "create, exec, hooks", Some("clone, and then as without CLONE_INTO_CGROUP")),
    need(
        "openat2",
        "5.6",
        "every container",
        Some(
            "wharf walks itself: one name at a time, never through a link but by its text, `..` only back the way it came",
        ),
    ),
    need("pidfd_getfd", "5.6", "seccomp filters with a listener", None),
    need(
        "clone3 with CLONE_INTO_CGROUP",
        "5.7",
        "create and exec on cgroup v2",
        Some("the process waits from its birth until it has been put into its cgroup, as on v1"),
    ),
    need(
        "setns of a pidfd",
        "5.8",
        "exec",
        Some(
            "the namespaces are opened one by one, and entered when the container's first process is proved to be still the same",
        ),
    ),
    need("faccessat2", "5.8", "finding the command", Some("access, with the user as real user id for that call")),
    need(
        "statx with STATX_MNT_ID",
        "5.8",
        "containers without a mount namespace",
        Some("the number of the mount as /proc/self/fdinfo has it"),
    ),
    need(
        "close_range with CLOSE_RANGE_CLOEXEC",
        "5.11",
        "create, exec, hooks",
        Some("every descriptor that /proc/self/fd lists, one by one; without /proc, every number"),
    ),
    need(
        "mount_setattr",
        "5.12",
        "mounts with attributes, read-only paths",
        Some(
            "a remount once the mount is attached, and a look at its descriptor whether that is what has changed; volumes of a user namespace are opened with the rights that its root has",
        ),
    ),
    need(
        "mount_setattr with AT_RECURSIVE",
        "5.12",
        "the options rro, rnosuid and their like; a read-only path with a mount of the container in it",
        None,
    ),
    need("mount_setattr with MOUNT_ATTR_IDMAP", "5.12", "idmapped mounts", None),
    need(
        "lsm_set_self_attr",
        "6.8",
        "AppArmor profiles",
        Some("a procfs that is mounted nowhere and holds the file of the same meaning"),
    ),
    need("time namespaces", "5.6", "containers with one", None),
];

static MISSING: AtomicU32 = AtomicU32::new(0);

/// Passes an errno on; where it says that the kernel has no such call, [`missing`] says from now on which.
pub(crate) fn note(call: Call) -> impl FnOnce(Errno) -> Errno {
    move |errno| {
        if errno == Errno::ENOSYS {
            MISSING.store(call as u32 + 1, Ordering::Relaxed);
        }
        errno
    }
}

/// What a call fails with that the kernel does not have.
pub(crate) fn lacks(call: Call) -> Errno {
    note(call)(Errno::ENOSYS)
}

/// What was missing last, as a number for [`needed`]; 0 where nothing was.
pub fn missing() -> u32 {
    MISSING.load(Ordering::Relaxed)
}

/// `needs openat2 (Linux 5.6)`, of a number from [`missing`].
pub fn needed(missing: u32) -> Option<String> {
    let need = NEEDS.get(missing.checked_sub(1)? as usize)?;
    Some(format!("needs {} (Linux {})", need.name, need.since))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_named_with_the_kernel_that_has_it() {
        let named = |call: Call| needed(call as u32 + 1).unwrap();
        assert_eq!(named(Call::OpenTree), "needs open_tree (Linux 5.2)");
        assert_eq!(named(Call::PidfdGetfd), "needs pidfd_getfd (Linux 5.6)");
        assert_eq!(named(Call::IdmappedMounts), "needs mount_setattr with MOUNT_ATTR_IDMAP (Linux 5.12)");
        assert_eq!(named(Call::TimeNamespaces), "needs time namespaces (Linux 5.6)");
        assert_eq!(NEEDS.len(), ALL.len());
        assert!(ALL.iter().enumerate().all(|(index, call)| *call as usize == index));
        assert_eq!((needed(0), needed(1000)), (None, None));
    }

    /// With `WHARF_WRITE_KERNELS=1` the table is written anew.
    #[test]
    fn the_page_of_kernels_has_the_table() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/kernels.md");
        let text = std::fs::read_to_string(page).unwrap();
        let (begin, end) = ("<!-- table -->\n", "<!-- end of table -->\n");
        let (before, rest) = text.split_once(begin).unwrap();
        let (table, after) = rest.split_once(end).unwrap();
        let mut sorted: Vec<&Need> = NEEDS.iter().collect();
        let version = |need: &Need| need.since.split('.').map(|part| part.parse().unwrap()).collect::<Vec<u32>>();
        sorted.sort_by_key(|need| version(need));
        let mut expected = "| call | since Linux | needed by | without it |\n|---|---|---|---|\n".to_owned();
        for Need { name, since, instead, used } in sorted {
            let instead = instead.unwrap_or("refused by name");
            expected.push_str(&format!("| {name} | {since} | {used} | {instead} |\n"));
        }
        if std::env::var_os("WHARF_WRITE_KERNELS").is_some() {
            std::fs::write(page, format!("{before}{begin}{expected}{end}{after}")).unwrap();
        } else {
            assert_eq!(table, expected);
        }
    }
}
