//! Mounts by descriptor: the target is always an open directory or file, never a path used twice.

use crate::fd::own;
use crate::{Result, check};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr;

pub const OPEN_TREE_CLONE: u32 = 1;
pub const AT_RECURSIVE: u32 = 0x8000;
pub const AT_EMPTY_PATH: u32 = 0x1000;
pub const AT_SYMLINK_NOFOLLOW: u32 = 0x100;

/// Attributes of one mount (mount_setattr(2)).
pub mod attr {
    pub const RDONLY: u64 = 0x01;
    pub const NOSUID: u64 = 0x02;
    pub const NODEV: u64 = 0x04;
    pub const NOEXEC: u64 = 0x08;
    /// Mask of the three ways of access times.
    pub const ATIME: u64 = 0x70;
    pub const RELATIME: u64 = 0x00;
    pub const NOATIME: u64 = 0x10;
    pub const STRICTATIME: u64 = 0x20;
    pub const NODIRATIME: u64 = 0x80;
    pub const IDMAP: u64 = 0x10_0000;
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// mount(2) on the working directory: after `fchdir` to an opened target there is no path left to exchange.
pub fn mount_here(source: &CStr, kind: &CStr, flags: u64, data: &CStr) -> Result<()> {
    mount(Some(source), c".", Some(kind), flags, Some(data))
}

/// mount(2) with a trusted target.
pub fn mount(source: Option<&CStr>, target: &CStr, kind: Option<&CStr>, flags: u64, data: Option<&CStr>) -> Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: every pointer is null or a NUL-terminated string.
    check(unsafe {
        libc::mount(pointer(source), target.as_ptr(), pointer(kind), flags as libc::c_ulong, pointer(data).cast())
            as libc::c_long
    })
    .map(drop)
}

/// umount2(2) of a trusted path.
pub fn umount(target: &CStr, flags: i32) -> Result<()> {
    // SAFETY: target is NUL-terminated.
    check(unsafe { libc::umount2(target.as_ptr(), flags) as libc::c_long }).map(drop)
}

/// open_tree(2): with `OPEN_TREE_CLONE` a detached copy of a mount, with an empty path one of `dir` itself.
pub fn open_tree(dir: impl AsFd, path: &CStr, flags: u32) -> Result<OwnedFd> {
    let flags = flags | libc::O_CLOEXEC as u32;
    // SAFETY: path is NUL-terminated.
    own(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_fd().as_raw_fd(), path.as_ptr(), flags) })
}

/// Attaches the detached mount `tree` on the opened `target` (move_mount(2)).
pub fn attach(tree: impl AsFd, target: impl AsFd) -> Result<()> {
    const F_EMPTY_PATH: u32 = 0x04;
    const T_EMPTY_PATH: u32 = 0x40;
    // SAFETY: both paths are empty strings.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            target.as_fd().as_raw_fd(),
            c"".as_ptr(),
            F_EMPTY_PATH | T_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// Changes attributes and propagation of the mount that `mount` is on (mount_setattr(2)).
/// `propagation` is one of `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE` or 0.
pub fn set_attributes(mount: impl AsFd, recursive: bool, set: u64, clear: u64, propagation: u64) -> Result<()> {
    setattr(mount, recursive, MountAttr { set, clear, propagation, userns: 0 })
}

/// Maps the owners of a detached mount by the user namespace `userns` (kernel 5.12).
pub fn set_idmap(mount: impl AsFd, recursive: bool, userns: impl AsFd) -> Result<()> {
    let userns = userns.as_fd().as_raw_fd() as u64;
    setattr(mount, recursive, MountAttr { set: attr::IDMAP, clear: 0, propagation: 0, userns })
}

fn setattr(mount: impl AsFd, recursive: bool, attributes: MountAttr) -> Result<()> {
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the path is empty, the structure is complete and its true size is given.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// The kernel's number of the mount that an opened file is on: unique since boot from kernel 6.8 on (statx(2)).
pub fn number(file: impl AsFd) -> Result<u64> {
    const STATX_MNT_ID: u32 = 0x1000;
    const STATX_MNT_ID_UNIQUE: u32 = 0x4000;
    /// struct statx: the mask first, `stx_mnt_id` at byte 144, 256 bytes in all.
    #[repr(C, align(8))]
    struct Statx([u64; 32]);
    let mut statx = Statx([0; 32]);
    // SAFETY: the path is empty and the buffer has the size of struct statx.
    check(unsafe {
        libc::syscall(
            libc::SYS_statx,
            file.as_fd().as_raw_fd(),
            c"".as_ptr(),
            AT_EMPTY_PATH,
            STATX_MNT_ID | STATX_MNT_ID_UNIQUE,
            &raw mut statx,
        )
    })?;
    Ok(statx.0[18])
}

/// fsopen(2): a file system context to be configured.
pub fn fsopen(kind: &CStr) -> Result<OwnedFd> {
    const FSOPEN_CLOEXEC: u32 = 1;
    // SAFETY: kind is NUL-terminated.
    own(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })
}

/// One `key=value` option of a context, or a flag where there is no value.
pub fn fsconfig_set(context: impl AsFd, key: &CStr, value: Option<&CStr>) -> Result<()> {
    const SET_FLAG: u32 = 0;
    const SET_STRING: u32 = 1;
    let (command, value) = match value {
        Some(value) => (SET_STRING, value.as_ptr()),
        None => (SET_FLAG, ptr::null()),
    };
    // SAFETY: key and value are NUL-terminated or null where the command wants null.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_fd().as_raw_fd(), command, key.as_ptr(), value, 0) })
        .map(drop)
}

/// Makes the configured file system, and a detached mount of it with attributes `attributes`.
pub fn fsmount(context: impl AsFd, attributes: u64) -> Result<OwnedFd> {
    const CMD_CREATE: u32 = 6;
    const FSMOUNT_CLOEXEC: u32 = 1;
    let context = context.as_fd().as_raw_fd();
    // SAFETY: the command takes neither key nor value.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, context, CMD_CREATE, ptr::null::<u8>(), ptr::null::<u8>(), 0) })?;
    // SAFETY: plain integers.
    own(unsafe { libc::syscall(libc::SYS_fsmount, context, FSMOUNT_CLOEXEC, attributes) })
}

/// pivot_root(2) to the working directory, stacking the old root on top of it: `pivot_root(".", ".")`.
pub fn pivot_here() -> Result<()> {
    // SAFETY: both are NUL-terminated strings.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) }).map(drop)
}

pub fn fchdir(dir: impl AsFd) -> Result<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::fchdir(dir.as_fd().as_raw_fd()) as libc::c_long }).map(drop)
}

pub fn chroot_here() -> Result<()> {
    // SAFETY: a NUL-terminated string.
    check(unsafe { libc::chroot(c".".as_ptr()) as libc::c_long }).map(drop)
}
