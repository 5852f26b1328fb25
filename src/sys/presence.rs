//! What this host has of all that wharf asks for, found out by calls that change nothing.

use crate::kernel::Call;
use crate::{Errno, check};
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::AccessFlags;
use std::ffi::{CStr, CString};
use std::mem::zeroed;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{null, null_mut};

/// What a kernel makes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Here,
    Missing,
    /// A filter of system calls, or a security module, answers in the kernel's place.
    Forbidden,
}

/// Asks for a call with arguments that the kernel refuses once it has looked at them. `privileged` where the caller has
/// CAP_SYS_ADMIN: else the kernel's own refusal looks like that of a filter.
pub fn presence(call: Call, privileged: bool) -> Presence {
    let asked = match call {
        Call::CloneIntoCgroup => return into_cgroup(),
        Call::SetnsPidfd => return setns_pidfd(),
        Call::MountNumber => return mount_number(),
        Call::TimeNamespaces => {
            // SAFETY: the path is NUL-terminated.
            let found = unsafe { libc::access(c"/proc/self/ns/time".as_ptr(), libc::F_OK) };
            return if found == 0 { Presence::Here } else { Presence::Missing };
        }
        other => nothing(other),
    };
    match asked {
        Err(Errno::ENOSYS) => Presence::Missing,
        Err(Errno::EPERM) if privileged => Presence::Forbidden,
        // Before kernel 5.11 there is the call and not the flag.
        Err(Errno::EINVAL) if matches!(call, Call::CloseRange) => Presence::Missing,
        _ => Presence::Here,
    }
}

/// A call that does nothing, by descriptors that are none, sizes of 0, or pointers to nowhere.
fn nothing(call: Call) -> Result<i64, Errno> {
    const LSM_SET_SELF_ATTR: i64 = 460;
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    let empty = c"".as_ptr();
    // SAFETY: each has a NUL-terminated path, or a null pointer that the kernel checks, and refers to no descriptor.
    check(unsafe {
        match call {
            Call::OpenTree => libc::syscall(libc::SYS_open_tree, -1, empty, 0),
            Call::MoveMount => libc::syscall(libc::SYS_move_mount, -1, empty, -1, empty, 0),
            Call::Fsopen => libc::syscall(libc::SYS_fsopen, null::<u8>(), 0),
            Call::PidfdSendSignal => libc::syscall(libc::SYS_pidfd_send_signal, -1, 0, null::<u8>(), 0),
            Call::PidfdOpen => libc::syscall(libc::SYS_pidfd_open, 0, 0),
            Call::Clone3 => libc::syscall(libc::SYS_clone3, null::<u8>(), 0usize),
            Call::Openat2 => libc::syscall(libc::SYS_openat2, -1, empty, null::<u8>(), 0usize),
            Call::PidfdGetfd => libc::syscall(libc::SYS_pidfd_getfd, -1, -1, 0),
            Call::Faccessat2 => libc::syscall(libc::SYS_faccessat2, -1, c"x".as_ptr(), 0, 0),
            Call::CloseRange => libc::syscall(libc::SYS_close_range, u32::MAX, u32::MAX, CLOSE_RANGE_CLOEXEC),
            Call::MountSetattr | Call::RecursiveAttributes | Call::IdmappedMounts => {
                libc::syscall(libc::SYS_mount_setattr, -1, empty, 0, null::<u8>(), 0usize)
            }
            Call::SetSelfAttribute => libc::syscall(LSM_SET_SELF_ATTR, 0, null::<u8>(), 0, 0),
            Call::CloneIntoCgroup | Call::SetnsPidfd | Call::MountNumber | Call::TimeNamespaces => -1,
        }
    })
}

/// With a cgroup that is none: EBADF where the flag is known.
fn into_cgroup() -> Presence {
    const CLONE_INTO_CGROUP: u64 = 1 << 33;
    // struct clone_args of eleven numbers, the last of them the cgroup.
    let mut arguments = [0u64; 11];
    (arguments[0], arguments[10]) = (CLONE_INTO_CGROUP, i32::MAX as u64);
    // SAFETY: the structure is complete and its size is given; no process can come of it.
    let asked = check(unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) });
    if asked == Err(Errno::EBADF) { Presence::Here } else { Presence::Missing }
}

/// Joins the UTS namespace that the caller is in.
fn setns_pidfd() -> Presence {
    let Ok(own) = crate::process::pidfd(crate::process::pid()) else { return Presence::Missing };
    // SAFETY: plain integers.
    match check(unsafe { libc::syscall(libc::SYS_setns, own.as_raw_fd(), libc::CLONE_NEWUTS) }) {
        Err(Errno::EINVAL) => Presence::Missing,
        _ => Presence::Here,
    }
}

fn mount_number() -> Presence {
    const STATX_MNT_ID: u32 = 0x1000;
    // SAFETY: a statx of zeroes is one.
    let mut about: libc::statx = unsafe { zeroed() };
    // SAFETY: path is NUL-terminated, and the structure is written by the kernel.
    let asked =
        unsafe { libc::syscall(libc::SYS_statx, libc::AT_FDCWD, c".".as_ptr(), 0, STATX_MNT_ID, &raw mut about) };
    match check(asked) {
        Ok(_) if about.stx_mask & STATX_MNT_ID != 0 => Presence::Here,
        _ => Presence::Missing,
    }
}

/// Whether the caller may make files in the directory `path`, by its effective ids.
pub fn may_write(path: &Path) -> bool {
    let asked = AccessFlags::W_OK | AccessFlags::X_OK;
    nix::unistd::faccessat(AT_FDCWD, path, asked, AtFlags::AT_EACCESS).is_ok()
}

/// Whether the file `path` has the extended attribute `name` (xattr(7)).
pub fn has_attribute(path: &Path, name: &CStr) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: both are NUL-terminated, and with a size of 0 nothing is written.
    unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), null_mut(), 0) >= 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::ALL;

    #[test]
    fn asking_finds_what_a_new_kernel_has() {
        for call in ALL {
            let found = presence(call, false);
            assert_ne!(found, Presence::Forbidden, "{call:?}");
            // The oldest kernel that wharf runs on has these.
            if matches!(call, Call::OpenTree | Call::MoveMount | Call::Fsopen | Call::PidfdSendSignal | Call::PidfdOpen)
            {
                assert_eq!(found, Presence::Here, "{call:?}");
            }
        }
    }

    #[test]
    fn asking_leaves_no_descriptor() {
        let open = || std::fs::read_dir("/proc/thread-self/fd").unwrap().count();
        // In a table of its own: the other tests open and close descriptors meanwhile.
        let asking = std::thread::spawn(move || {
            crate::fd::own_table().unwrap();
            let before = open();
            ALL.into_iter().for_each(|call| _ = presence(call, false));
            assert_eq!(open(), before);
        });
        asking.join().unwrap();
    }
}
