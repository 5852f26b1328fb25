//! Mounts by descriptor: the target is always an open directory or file, never a path used twice.

use crate::fd::own;
use crate::kernel::{Call, note};
use crate::{Errno, Fd, Result, check, fd};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

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

/// mount(2) on what is opened as `target`, by its name below a procfs that is the working directory: the kernel goes from
/// there to the open file itself, so there is no path left to exchange.
pub fn mount_on(target: Fd, source: Option<&CStr>, kind: Option<&CStr>, flags: u64, data: &CStr) -> Result<()> {
    let name = CString::new(format!("self/fd/{}", target.0)).map_err(|_| Errno::EINVAL)?;
    mount(source, &name, kind, flags, Some(data))
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
        .map_err(note(Call::OpenTree))
}

/// [`open_tree`] of a copy and [`set_attributes`] of it, recursive as the copy is, by one call. `ENOSYS` before kernel 6.15.
pub fn open_tree_with(
    dir: impl AsFd,
    path: &CStr,
    flags: u32,
    set: u64,
    clear: u64,
    propagation: u64,
) -> Result<OwnedFd> {
    const OPEN_TREE_ATTR: libc::c_long = 467;
    static MISSING: AtomicBool = AtomicBool::new(false);
    if MISSING.load(Relaxed) {
        return Err(Errno::ENOSYS);
    }
    let attributes = MountAttr { set, clear, propagation, userns: 0 };
    // SAFETY: path is NUL-terminated, the structure is complete and its true size is given.
    let opened = own(unsafe {
        libc::syscall(
            OPEN_TREE_ATTR,
            dir.as_fd().as_raw_fd(),
            path.as_ptr(),
            flags | libc::O_CLOEXEC as u32,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    });
    if let Err(Errno::ENOSYS) = opened {
        MISSING.store(true, Relaxed);
    }
    opened
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
    .map_err(note(Call::MoveMount))
}

/// The same on what `name`, one component, is in an opened directory; a symbolic link there is not followed.
pub fn attach_in(tree: impl AsFd, dir: impl AsFd, name: &CStr) -> Result<()> {
    const F_EMPTY_PATH: u32 = 0x04;
    // SAFETY: both paths are NUL-terminated.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            dir.as_fd().as_raw_fd(),
            name.as_ptr(),
            F_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// Changes attributes and propagation of the mount that `mount` is on (mount_setattr(2)).
/// `propagation` is one of `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE` or 0. `ENOSYS` before kernel 5.12.
pub fn set_attributes(mount: impl AsFd, recursive: bool, set: u64, clear: u64, propagation: u64) -> Result<()> {
    let call = if recursive { Call::RecursiveAttributes } else { Call::MountSetattr };
    setattr(mount, recursive, MountAttr { set, clear, propagation, userns: 0 }).map_err(note(call))
}

/// The same for kernels without that call: of a mount that is attached, and of it alone; `root` is its root directory or
/// file, and `name` a path to it. A path may come to mean something else, so what counts is what the descriptor says
/// afterwards: `EXDEV` where it was another mount that has changed.
pub fn remount(root: impl AsFd, name: &CStr, set: u64, clear: u64) -> Result<()> {
    let before = flags_of(&root)?;
    let mut after = before & !clear_mask(clear) | mount_flags(set);
    if after & TIMES == 0 {
        // Without any of them a remount leaves access times as they were.
        after |= libc::MS_RELATIME;
    }
    mount(None, name, None, libc::MS_REMOUNT | libc::MS_BIND | after, None)?;
    match flags_of(&root)? & RESTRICTIONS == after & RESTRICTIONS {
        true => Ok(()),
        false => Err(Errno::EXDEV),
    }
}

/// What a later remount must never lose.
const RESTRICTIONS: u64 = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC | nosymfollow::MS;

mod nosymfollow {
    pub(super) const MS: u64 = 256;
    pub(super) const ST: u64 = 0x2000;
}

/// Each attribute, its flag of mount(2), and of statvfs(3).
const ATTRIBUTES: [(u64, u64, u64); 8] = [
    (attr::RDONLY, libc::MS_RDONLY, libc::ST_RDONLY),
    (attr::NOSUID, libc::MS_NOSUID, libc::ST_NOSUID),
    (attr::NODEV, libc::MS_NODEV, libc::ST_NODEV),
    (attr::NOEXEC, libc::MS_NOEXEC, libc::ST_NOEXEC),
    (attr::NOATIME, libc::MS_NOATIME, libc::ST_NOATIME),
    (attr::STRICTATIME, libc::MS_STRICTATIME, 0),
    (attr::NODIRATIME, libc::MS_NODIRATIME, libc::ST_NODIRATIME),
    (attr::NOSYMFOLLOW, nosymfollow::MS, nosymfollow::ST),
];

fn mount_flags(attributes: u64) -> u64 {
    ATTRIBUTES.iter().filter(|(attribute, ..)| attributes & attribute != 0).map(|(_, flag, _)| flag).sum()
}

fn clear_mask(attributes: u64) -> u64 {
    let times = if attributes & attr::ATIME != 0 { TIMES } else { 0 };
    mount_flags(attributes & !attr::ATIME) | times
}

const TIMES: u64 = libc::MS_NOATIME | libc::MS_STRICTATIME | libc::MS_RELATIME;

/// Not in every C library's headers (statfs(2)).
const ST_RELATIME: u64 = 0x1000;

/// The flags of mount(2) that a mount has now.
fn flags_of(root: impl AsFd) -> Result<u64> {
    let now = fd::mount_flags(root)?;
    let mut flags = ATTRIBUTES.iter().filter(|(.., shown)| now & shown != 0).map(|(_, flag, _)| flag).sum();
    if now & ST_RELATIME != 0 {
        flags |= libc::MS_RELATIME;
    } else if now & libc::ST_NOATIME == 0 {
        flags |= libc::MS_STRICTATIME;
    }
    Ok(flags)
}

/// Maps the owners of a detached mount by the user namespace `userns` (kernel 5.12).
pub fn set_idmap(mount: impl AsFd, recursive: bool, userns: impl AsFd) -> Result<()> {
    let userns = userns.as_fd().as_raw_fd() as u64;
    setattr(mount, recursive, MountAttr { set: attr::IDMAP, clear: 0, propagation: 0, userns })
        .map_err(note(Call::IdmappedMounts))
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

/// The kernel's number of the mount that an opened file is on: unique since boot from kernel 6.8 on.
pub fn number(file: impl AsFd) -> Result<u64> {
    if let Some(number) = number_by_statx(&file)? {
        return Ok(number);
    }
    let proc = crate::procfs::Procfs::open()?;
    number_by_fdinfo(&proc, file.as_fd().as_raw_fd())
}

/// As `proc`, the root of a procfs, has it of our descriptor `number`.
pub(crate) fn number_by_fdinfo(proc: impl AsFd, number: i32) -> Result<u64> {
    let path = std::ffi::CString::new(format!("self/fdinfo/{number}")).map_err(|_| Errno::EINVAL)?;
    let mut buffer = [0; 1024];
    let length = fd::read(fd::openat(proc, &path, libc::O_RDONLY, 0)?, &mut buffer)?;
    let text = String::from_utf8_lossy(&buffer[..length]);
    let found = text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    found.ok_or(Errno::EIO)
}

/// `None` where the kernel does not tell it here (statx(2), kernel 5.8).
pub(crate) fn number_by_statx(file: impl AsFd) -> Result<Option<u64>> {
    const STATX_MNT_ID: u32 = 0x1000;
    const STATX_MNT_ID_UNIQUE: u32 = 0x4000;
    /// struct statx: the mask first, `stx_mnt_id` at byte 144, 256 bytes in all.
    #[repr(C, align(8))]
    struct Statx([u64; 32]);
    let mut statx = Statx([0; 32]);
    // SAFETY: the path is empty and the buffer has the size of struct statx.
    let told = check(unsafe {
        libc::syscall(
            libc::SYS_statx,
            file.as_fd().as_raw_fd(),
            c"".as_ptr(),
            AT_EMPTY_PATH,
            STATX_MNT_ID | STATX_MNT_ID_UNIQUE,
            &raw mut statx,
        )
    });
    match told {
        Err(Errno::ENOSYS) => Ok(None),
        Err(errno) => Err(errno),
        // The low half of the first word says what was filled in.
        Ok(_) if statx.0[0] as u32 & (STATX_MNT_ID | STATX_MNT_ID_UNIQUE) == 0 => Ok(None),
        Ok(_) => Ok(Some(statx.0[18])),
    }
}

/// fsopen(2): a file system context to be configured.
pub fn fsopen(kind: &CStr) -> Result<OwnedFd> {
    const FSOPEN_CLOEXEC: u32 = 1;
    // SAFETY: kind is NUL-terminated.
    own(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) }).map_err(note(Call::Fsopen))
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
        .map_err(note(Call::Fsopen))
}

/// Makes the configured file system, and a detached mount of it with attributes `attributes`.
pub fn fsmount(context: impl AsFd, attributes: u64) -> Result<OwnedFd> {
    const CMD_CREATE: u32 = 6;
    const FSMOUNT_CLOEXEC: u32 = 1;
    let context = context.as_fd().as_raw_fd();
    // SAFETY: the command takes neither key nor value.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, context, CMD_CREATE, ptr::null::<u8>(), ptr::null::<u8>(), 0) })
        .map_err(note(Call::Fsopen))?;
    // SAFETY: plain integers.
    own(unsafe { libc::syscall(libc::SYS_fsmount, context, FSMOUNT_CLOEXEC, attributes) }).map_err(note(Call::Fsopen))
}

/// Does `work` with `dir` as working directory: names of sockets are short paths.
pub fn inside<T>(dir: impl AsFd, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let before = match fd::openat(crate::CWD, c".", flags, 0) {
        // Its user may not search where the caller stands (sudo from /root). No relative path has a meaning there either.
        Err(Errno::EACCES) => fd::openat(crate::CWD, c"/", flags, 0)?,
        other => other?,
    };
    fchdir(dir)?;
    let result = work();
    fchdir(&before)?;
    result
}

/// pivot_root(2) to the working directory, stacking the old root on top of it: `pivot_root(".", ".")`.
pub fn pivot_here() -> Result<()> {
    // SAFETY: both are NUL-terminated strings.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) }).map(drop)
}

/// pivot_root(2) to the working directory; the old root is found at `below`, a path from there, afterwards.
pub fn pivot_to(below: &CStr) -> Result<()> {
    // SAFETY: both are NUL-terminated strings.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), below.as_ptr()) }).map(drop)
}

pub fn fchdir(dir: impl AsFd) -> Result<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::fchdir(dir.as_fd().as_raw_fd()) as libc::c_long }).map(drop)
}

pub fn chroot_here() -> Result<()> {
    // SAFETY: a NUL-terminated string.
    check(unsafe { libc::chroot(c".".as_ptr()) as libc::c_long }).map(drop)
}
