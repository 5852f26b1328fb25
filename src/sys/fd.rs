//! File descriptors: opening below a directory, sealed copies, and closing what is not ours.

use crate::{Errno, Result, check};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A descriptor by number, for processes that keep theirs in numbered slots until they exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fd(pub i32);

/// The working directory, where a call takes a directory (`AT_FDCWD`).
pub const CWD: Fd = Fd(libc::AT_FDCWD);

impl AsFd for Fd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        assert!(self.0 != -1, "an empty slot");
        // SAFETY: not -1; a number without an open file behind it makes the call fail with EBADF, nothing worse,
        // because no call of this crate gives ownership away through a borrow.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> i32 {
        self.0
    }
}

/// Flags of `openat2`'s `resolve` (openat2(2)).
pub mod resolve {
    pub const NO_XDEV: u64 = 0x01;
    pub const NO_MAGICLINKS: u64 = 0x02;
    pub const NO_SYMLINKS: u64 = 0x04;
    pub const BENEATH: u64 = 0x08;
    pub const IN_ROOT: u64 = 0x10;
}

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

pub(crate) fn own(result: libc::c_long) -> Result<OwnedFd> {
    let fd = check(result)?;
    // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// openat2(2), or, before kernel 5.6, the same by a walk of our own that makes nothing (no `O_CREAT`).
pub fn openat2(dir: impl AsFd, path: &CStr, flags: i32, mode: u32, resolve: u64) -> Result<OwnedFd> {
    match openat2_only(&dir, path, flags, mode, resolve) {
        Err(Errno::ENOSYS) => crate::walk::open(dir, path, flags, resolve),
        other => other,
    }
}

/// `EAGAIN` means that a rename raced with a resolution that may not leave its root; it is tried again.
pub(crate) fn openat2_only(dir: impl AsFd, path: &CStr, flags: i32, mode: u32, resolve: u64) -> Result<OwnedFd> {
    let how = OpenHow { flags: (flags | libc::O_CLOEXEC) as u64, mode: u64::from(mode), resolve };
    let mut tries = 0;
    loop {
        // SAFETY: path is NUL-terminated, how is a complete open_how and its true size is given.
        let result = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                dir.as_fd().as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<OpenHow>(),
            )
        };
        match own(result) {
            Err(Errno::EAGAIN | Errno::EINTR) if tries < 128 => tries += 1,
            other => return other,
        }
    }
}

/// openat(2) of a path that is trusted: the host's own, or one component.
pub fn openat(dir: impl AsFd, path: &CStr, flags: i32, mode: u32) -> Result<OwnedFd> {
    // SAFETY: path is NUL-terminated.
    own(unsafe { libc::openat(dir.as_fd().as_raw_fd(), path.as_ptr(), flags | libc::O_CLOEXEC, mode) as libc::c_long })
}

pub fn mkdirat(dir: impl AsFd, name: &CStr, mode: u32) -> Result<()> {
    // SAFETY: name is NUL-terminated.
    check(unsafe { libc::mkdirat(dir.as_fd().as_raw_fd(), name.as_ptr(), mode) as libc::c_long }).map(drop)
}

pub fn mknodat(dir: impl AsFd, name: &CStr, mode: u32, device: u64) -> Result<()> {
    // SAFETY: name is NUL-terminated.
    check(unsafe { libc::mknodat(dir.as_fd().as_raw_fd(), name.as_ptr(), mode, device) as libc::c_long }).map(drop)
}

pub fn symlinkat(target: &CStr, dir: impl AsFd, name: &CStr) -> Result<()> {
    // SAFETY: both strings are NUL-terminated.
    check(unsafe { libc::symlinkat(target.as_ptr(), dir.as_fd().as_raw_fd(), name.as_ptr()) as libc::c_long }).map(drop)
}

pub fn unlinkat(dir: impl AsFd, name: &CStr, flags: i32) -> Result<()> {
    // SAFETY: name is NUL-terminated.
    check(unsafe { libc::unlinkat(dir.as_fd().as_raw_fd(), name.as_ptr(), flags) as libc::c_long }).map(drop)
}

/// Owner of the file `name` in `dir`, not following a link.
pub fn chownat(dir: impl AsFd, name: &CStr, uid: u32, gid: u32, flags: i32) -> Result<()> {
    // SAFETY: name is NUL-terminated.
    check(unsafe { libc::fchownat(dir.as_fd().as_raw_fd(), name.as_ptr(), uid, gid, flags) as libc::c_long }).map(drop)
}

/// Permissions of the file `name` in `dir`; a symbolic link there must be nobody's choice, it is followed.
pub fn chmodat(dir: impl AsFd, name: &CStr, mode: u32) -> Result<()> {
    // SAFETY: name is NUL-terminated.
    check(unsafe { libc::syscall(libc::SYS_fchmodat, dir.as_fd().as_raw_fd(), name.as_ptr(), mode) }).map(drop)
}

pub fn fchmod(fd: impl AsFd, mode: u32) -> Result<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::fchmod(fd.as_fd().as_raw_fd(), mode) as libc::c_long }).map(drop)
}

/// The SELinux label of an opened file.
pub fn set_label(fd: impl AsFd, label: &CStr) -> Result<()> {
    let (name, value) = (c"security.selinux", label.to_bytes_with_nul());
    // SAFETY: the name is NUL-terminated, and the value's length is given.
    check(unsafe {
        libc::fsetxattr(fd.as_fd().as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) as libc::c_long
    })
    .map(drop)
}

pub fn fchown(fd: impl AsFd, uid: u32, gid: u32) -> Result<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::fchown(fd.as_fd().as_raw_fd(), uid, gid) as libc::c_long }).map(drop)
}

/// What fstat(2) tells of an open file.
pub fn stat(fd: impl AsFd) -> Result<libc::stat> {
    let mut stat = std::mem::MaybeUninit::uninit();
    // SAFETY: the buffer is a struct stat; the kernel fills it on success.
    check(unsafe { libc::fstat(fd.as_fd().as_raw_fd(), stat.as_mut_ptr()) as libc::c_long })?;
    // SAFETY: fstat succeeded, so every field is set.
    Ok(unsafe { stat.assume_init() })
}

/// fstatat(2) of `name` in `dir`; `flags` may hold `AT_SYMLINK_NOFOLLOW`.
pub fn statat(dir: impl AsFd, name: &CStr, flags: i32) -> Result<libc::stat> {
    let mut stat = std::mem::MaybeUninit::uninit();
    // SAFETY: name is NUL-terminated and the buffer is a struct stat.
    check(unsafe { libc::fstatat(dir.as_fd().as_raw_fd(), name.as_ptr(), stat.as_mut_ptr(), flags) as libc::c_long })?;
    // SAFETY: fstatat succeeded, so every field is set.
    Ok(unsafe { stat.assume_init() })
}

/// The type of the file system that an open file is on (statfs(2), `f_type`).
pub fn filesystem_type(fd: impl AsFd) -> Result<i64> {
    let mut stat = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the buffer is a struct statfs; it is read only after success.
    unsafe {
        check(libc::fstatfs(fd.as_fd().as_raw_fd(), stat.as_mut_ptr()) as libc::c_long)?;
        #[allow(clippy::unnecessary_cast)]
        Ok(stat.assume_init().f_type as i64)
    }
}

/// Whether the file is on a mount that forbids execution.
pub fn is_noexec(fd: impl AsFd) -> Result<bool> {
    Ok(mount_flags(fd)? & libc::ST_NOEXEC != 0)
}

/// Flags of the mount that the file is on (statvfs(3), `f_flag`).
pub(crate) fn mount_flags(fd: impl AsFd) -> Result<u64> {
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the buffer is a struct statvfs; it is read only after success.
    unsafe {
        check(libc::fstatvfs(fd.as_fd().as_raw_fd(), stat.as_mut_ptr()) as libc::c_long)?;
        Ok(stat.assume_init().f_flag)
    }
}

/// Another descriptor of the same open file, closed by exec.
pub fn duplicate(fd: impl AsFd) -> Result<OwnedFd> {
    // SAFETY: plain integers.
    own(unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) as libc::c_long })
}

/// The same with a number of at least `least`.
pub fn duplicate_from(fd: impl AsFd, least: i32) -> Result<OwnedFd> {
    // SAFETY: plain integers.
    own(unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) as libc::c_long })
}

/// The target of the symbolic link `name` in `dir`, at most `buffer` long; an empty name reads the link that `dir` is.
pub fn readlinkat(dir: impl AsFd, name: &CStr, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: name is NUL-terminated, the buffer's length is given.
    check(unsafe {
        libc::readlinkat(dir.as_fd().as_raw_fd(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len())
            as libc::c_long
    })
    .map(|length| length as usize)
}

/// read(2), repeated when a signal interrupts it.
pub fn read(fd: impl AsFd, buffer: &mut [u8]) -> Result<usize> {
    loop {
        // SAFETY: the buffer is ours and its length is given.
        let result = unsafe { libc::read(fd.as_fd().as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
        match check(result as libc::c_long) {
            Err(Errno::EINTR) => {}
            other => return other.map(|length| length as usize),
        }
    }
}

/// pwrite(2) at `offset`; how much was written.
pub fn write_at(fd: impl AsFd, bytes: &[u8], offset: u64) -> Result<usize> {
    let offset = offset as libc::off_t;
    // SAFETY: the bytes are ours and their length is given.
    let result = unsafe { libc::pwrite(fd.as_fd().as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), offset) };
    check(result as libc::c_long).map(|length| length as usize)
}

/// pread(2) from `offset`, repeated when a signal interrupts it.
pub fn read_at(fd: impl AsFd, buffer: &mut [u8], offset: u64) -> Result<usize> {
    loop {
        let offset = offset as libc::off_t;
        // SAFETY: the buffer is ours and its length is given.
        let result = unsafe { libc::pread(fd.as_fd().as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), offset) };
        match check(result as libc::c_long) {
            Err(Errno::EINTR) => {}
            other => return other.map(|length| length as usize),
        }
    }
}

/// write(2), repeated when a signal interrupts it; may write less than all.
pub fn write(fd: impl AsFd, data: &[u8]) -> Result<usize> {
    loop {
        // SAFETY: the buffer is ours and its length is given.
        let result = unsafe { libc::write(fd.as_fd().as_raw_fd(), data.as_ptr().cast(), data.len()) };
        match check(result as libc::c_long) {
            Err(Errno::EINTR) => {}
            other => return other.map(|length| length as usize),
        }
    }
}

/// Writes all of `data`.
pub fn write_all(fd: impl AsFd, mut data: &[u8]) -> Result<()> {
    while !data.is_empty() {
        let written = write(&fd, data)?;
        data = &data[written..];
    }
    Ok(())
}

/// Reads what is there; `EAGAIN` where nothing is, also of a pipe or socket whose own mode is to wait, which others may
/// share (readv(2), RWF_NOWAIT).
pub fn read_now(fd: impl AsFd, buffer: &mut [u8]) -> Result<usize> {
    let vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: the vector names the buffer, which is ours; an offset of -1 is the file's own place.
    let result = unsafe {
        libc::syscall(libc::SYS_preadv2, fd.as_fd().as_raw_fd(), &raw const vector, 1, -1i64, -1i64, RWF_NOWAIT)
    };
    check(result).map(|length| length as usize)
}

/// Writes as much as there is room for; `EAGAIN` where there is none, also of a pipe or socket whose own mode is to wait.
pub fn write_now(fd: impl AsFd, data: &[u8]) -> Result<usize> {
    let vector = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: the vector names the data, which is only read; an offset of -1 is the file's own place.
    let result = unsafe {
        libc::syscall(libc::SYS_pwritev2, fd.as_fd().as_raw_fd(), &raw const vector, 1, -1i64, -1i64, RWF_NOWAIT)
    };
    check(result).map(|length| length as usize)
}

const RWF_NOWAIT: i32 = 8;

/// Decides whether calls on the open file, by whoever shares it, wait.
pub fn set_nonblocking(fd: impl AsFd) -> Result<()> {
    // SAFETY: plain integers.
    let flags = check(unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_GETFL) as libc::c_long })? as i32;
    // SAFETY: plain integers.
    check(unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) as libc::c_long })
        .map(drop)
}

/// Waits until one of `watched` is ready, at most `milliseconds` (-1 for ever); descriptors of -1 are passed over.
pub fn poll(watched: &mut [libc::pollfd], milliseconds: i32) -> Result<()> {
    // SAFETY: the slice's length is given.
    let ready = unsafe { libc::poll(watched.as_mut_ptr(), watched.len() as libc::nfds_t, milliseconds) };
    match check(ready as libc::c_long) {
        Err(Errno::EINTR) => Ok(()),
        other => other.map(drop),
    }
}

/// Reads to the end, at most `limit` bytes.
pub fn read_to_end(fd: impl AsFd, limit: usize) -> Result<Vec<u8>> {
    let mut all = vec![0; 4096.min(limit)];
    let mut length = 0;
    loop {
        let got = read(&fd, &mut all[length..])?;
        length += got;
        if got == 0 || length == limit {
            all.truncate(length);
            return Ok(all);
        }
        if length == all.len() {
            all.resize((2 * length).min(limit), 0);
        }
    }
}

/// Reads a regular file of about `size` bytes to its end, which a short read is.
pub fn read_sized(fd: impl AsFd, size: usize) -> Result<Vec<u8>> {
    let mut all = vec![0; size + 1];
    let mut length = 0;
    loop {
        length += read(&fd, &mut all[length..])?;
        if length < all.len() {
            all.truncate(length);
            return Ok(all);
        }
        all.resize(2 * length, 0);
    }
}

/// Empties a file.
pub fn truncate(fd: impl AsFd) -> Result<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::ftruncate(fd.as_fd().as_raw_fd(), 0) as libc::c_long }).map(drop)
}

pub fn seek_start(fd: impl AsFd) -> Result<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::lseek(fd.as_fd().as_raw_fd(), 0, libc::SEEK_SET) as libc::c_long }).map(drop)
}

/// An anonymous file that can be sealed. Where the kernel can forbid it (6.3), one that may be executed says so.
pub fn memfd(name: &CStr, executable: bool) -> Result<OwnedFd> {
    const MFD_NOEXEC_SEAL: u32 = 0x08;
    const MFD_EXEC: u32 = 0x10;
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: name is NUL-terminated.
    let create = |flags: u32| own(unsafe { libc::memfd_create(name.as_ptr(), flags) as libc::c_long });
    match create(flags | if executable { MFD_EXEC } else { MFD_NOEXEC_SEAL }) {
        Err(Errno::EINVAL) => create(flags),
        other => other,
    }
}

/// Forbids every further change of a memfd.
pub fn seal(fd: impl AsFd) -> Result<()> {
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: plain integers.
    check(unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_ADD_SEALS, seals) as libc::c_long }).map(drop)
}

/// Copies `from`, from its start, into `to` inside the kernel; returns the bytes copied.
pub fn copy(to: impl AsFd, from: impl AsFd, length: usize) -> Result<usize> {
    let mut offset: libc::off_t = 0;
    let mut copied = 0;
    while copied < length {
        // SAFETY: offset points to our own variable.
        let result = unsafe {
            libc::sendfile(to.as_fd().as_raw_fd(), from.as_fd().as_raw_fd(), &raw mut offset, length - copied)
        };
        match check(result as libc::c_long)? {
            0 => break,
            some => copied += some as usize,
        }
    }
    Ok(copied)
}

/// Gives `fd` the number `number`, kept over exec.
pub fn dup_to(fd: impl AsFd, number: i32) -> Result<()> {
    // SAFETY: plain integers; whatever had the number is closed, which is what the caller asks for.
    check(unsafe { libc::dup2(fd.as_fd().as_raw_fd(), number) as libc::c_long }).map(drop)
}

/// Decides whether `fd` is closed by exec.
pub fn set_cloexec(fd: impl AsFd, cloexec: bool) -> Result<()> {
    let flags = if cloexec { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: plain integers.
    check(unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_SETFD, flags) as libc::c_long }).map(drop)
}

/// Whether a number is open and would survive an exec: what we open ourselves would not.
pub fn is_inherited(number: u32) -> bool {
    // SAFETY: plain integers.
    let flags = unsafe { libc::fcntl(number as i32, libc::F_GETFD) };
    flags != -1 && flags & libc::FD_CLOEXEC == 0
}

/// Leaves every descriptor from `first` on to exec, which closes it (close_range(2), CLOSE_RANGE_CLOEXEC).
pub fn close_by_exec(first: u32) -> Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: plain integers.
    match check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) }) {
        // Before kernel 5.9, or 5.11 for the flag.
        Err(Errno::ENOSYS | Errno::EINVAL) => close_each_by_exec(first),
        other => other.map(drop),
    }
}

fn close_each_by_exec(first: u32) -> Result<()> {
    const PROC_SUPER_MAGIC: i64 = 0x9fa0;
    let mark = |number: u32| match set_cloexec(Fd(number as i32), true) {
        Ok(()) | Err(Errno::EBADF) => Ok(()),
        other => other,
    };
    // What an image calls /proc may be anything else.
    let listed = openat(CWD, c"/proc/self/fd", libc::O_RDONLY | libc::O_DIRECTORY, 0)
        .ok()
        .filter(|dir| filesystem_type(dir) == Ok(PROC_SUPER_MAGIC));
    if let Some(dir) = listed {
        let numbers = crate::tree::names(&dir)?.into_iter().filter_map(|name| name.to_str().ok()?.parse().ok());
        return numbers.filter(|number| *number >= first).try_for_each(mark);
    }
    let mut limit = [0u64; 2];
    // SAFETY: limit has the layout of struct rlimit64; nothing is set.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_NOFILE, std::ptr::null::<u8>(), limit.as_mut_ptr())
    })?;
    // The kernel's own limit (fs.nr_open) is seldom raised beyond this.
    (first..limit[1].min(1 << 20) as u32).try_for_each(mark)
}

/// Gives the calling thread a table of descriptors of its own, with those that are open now (unshare(2), CLONE_FILES): threads
/// that open many do not wait for each other, and the numbers of each are neighbours. What it opens from now on is nobody else's.
pub fn own_table() -> Result<()> {
    // SAFETY: every number that was open stays what it was, for this thread too.
    check(unsafe { libc::unshare(libc::CLONE_FILES) } as libc::c_long).map(drop)
}

/// Closes every descriptor from `first` to `last`, all of them the caller's (close_range(2), from kernel 5.9 on).
pub fn close_range(first: i32, last: i32) -> Result<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// Closes a numbered slot.
pub fn close(fd: Fd) {
    // SAFETY: the slot's owner says that nobody uses the number any more.
    unsafe { libc::close(fd.0) };
}
