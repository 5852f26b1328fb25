//! One state directory and the files in it: every call takes an open directory and a single name, and follows no link.

use crate::Fd;
use crate::lot::served;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, read, unlinkat, write};
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

type Result<T> = std::result::Result<T, Errno>;

/// What a directory tells of itself.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// It has been removed: the descriptor is all that is left of it.
    pub gone: bool,
    pub owner: u32,
    /// Permission bits.
    pub mode: u32,
}

/// How a directory is locked (flock(2)). The lock lives as long as the open directory, and dies with its last holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    Shared,
    Exclusive,
}

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// Opens the directory at `path`, which the administrator chose: links in it are followed.
pub fn open(path: &Path) -> Result<OwnedFd> {
    // Not open(2): musl's spends a second call on O_CLOEXEC.
    openat(nix::fcntl::AT_FDCWD, path, DIRECTORY, Mode::empty())
}

/// Opens what is at `path`, which the caller chose, and tells its absolute path without symbolic links. By the kernel's
/// own word where /proc has it.
pub fn locate(path: &Path) -> Result<(Fd, PathBuf)> {
    let found = served(openat(nix::fcntl::AT_FDCWD, path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?);
    match nix::fcntl::readlink(format!("/proc/self/fd/{}", found.0).as_str()) {
        Ok(text) if text.as_encoded_bytes().starts_with(b"/") => Ok((found, text.into())),
        _ => match path.canonicalize() {
            Ok(path) => Ok((found, path)),
            Err(error) => Err(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)),
        },
    }
}

/// Opens the directory `name` in `dir`; a symbolic link is `ENOTDIR`.
pub fn open_at(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    openat(dir, name, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty())
}

/// Makes the directory `name` in `dir`; `mode` is subject to the umask.
pub fn make_at(dir: BorrowedFd<'_>, name: &str, mode: u32) -> Result<()> {
    mkdirat(dir, name, Mode::from_bits_truncate(mode))
}

/// Reads the regular file `name` whole. The file must be replaced, never rewritten, by who changes it: a short read is
/// taken for its end.
pub fn read_at(dir: BorrowedFd<'_>, name: &str) -> Result<Vec<u8>> {
    // O_NONBLOCK: a fifo put there must not hang us.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = served(openat(dir, name, flags, Mode::empty())?);
    let mut first = [0; 4096];
    let mut bytes = Vec::new();
    let mut filled = 0;
    loop {
        let room = if bytes.is_empty() { &mut first[..] } else { &mut bytes[filled..] };
        match read(file, room) {
            // Most files are short, and what is kept of them is no longer than they are.
            Ok(n) if bytes.is_empty() && n < first.len() => return Ok(first[..n].to_vec()),
            Ok(n) if filled + n < bytes.len() => {
                bytes.truncate(filled + n);
                return Ok(bytes);
            }
            Ok(n) => {
                filled += n;
                if bytes.is_empty() {
                    bytes.extend_from_slice(&first);
                }
                bytes.resize(bytes.len() * 4, 0);
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Writes `name` anew with mode 0600; `EEXIST` when it is there.
pub fn write_at(dir: BorrowedFd<'_>, name: &str, bytes: &[u8]) -> Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = served(openat(dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
    let mut rest = bytes;
    while !rest.is_empty() {
        match write(file, rest) {
            Ok(n) => rest = &rest[n..],
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Replaces `name` in one step: a reader sees the old bytes or the new ones. `temporary` is the name used on the way;
/// the caller holds the directory's lock.
pub fn replace_at(dir: BorrowedFd<'_>, name: &str, temporary: &str, bytes: &[u8]) -> Result<()> {
    match write_at(dir, temporary, bytes) {
        // Left by a process that was killed on the way.
        Err(Errno::EEXIST) => {
            remove_file_at(dir, temporary)?;
            write_at(dir, temporary, bytes)?;
        }
        other => other?,
    }
    renameat(dir, temporary, dir, name)
}

/// Opens the file `name`, made where it is missing, to be locked.
pub fn lock_file_at(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    openat(dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
}

/// Opens the regular file `name`, to be locked or read.
pub fn open_file_at(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    openat(dir, name, OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC, Mode::empty())
}

/// Unlinks the file, socket or link `name`.
pub fn remove_file_at(dir: BorrowedFd<'_>, name: &str) -> Result<()> {
    unlinkat(dir, name, UnlinkatFlags::NoRemoveDir)
}

/// Removes the empty directory `name`.
pub fn remove_dir_at(dir: BorrowedFd<'_>, name: &str) -> Result<()> {
    unlinkat(dir, name, UnlinkatFlags::RemoveDir)
}

/// Removes everything in `dir`, the file `last` after all else. Goes on after a failure and returns the first.
pub fn clear(dir: BorrowedFd<'_>, last: &str) -> Result<()> {
    let mut result = Ok(());
    let mut keep = |outcome: Result<()>| match outcome {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => {
            if result.is_ok() {
                result = Err(errno);
            }
        }
    };
    let mut has_last = false;
    for name in names(dir)? {
        if name == last {
            has_last = true;
            continue;
        }
        keep(match unlinkat(dir, name.as_os_str(), UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR | Errno::EPERM) => {
                openat(dir, name.as_os_str(), DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty())
                    .and_then(|inner| clear(inner.as_fd(), ""))
                    .and_then(|()| unlinkat(dir, name.as_os_str(), UnlinkatFlags::RemoveDir))
            }
            other => other,
        });
    }
    if has_last && result.is_ok() {
        result = remove_file_at(dir, last);
    }
    result
}

/// The names in `dir`, without `.` and `..`, in the kernel's order; from its beginning, whoever has listed it before.
pub fn names(dir: BorrowedFd<'_>) -> Result<Vec<OsString>> {
    nix::unistd::lseek(dir, 0, nix::unistd::Whence::SeekSet)?;
    let mut names = Vec::new();
    let mut buffer = [0u8; 4096];
    loop {
        // SAFETY: the kernel writes at most the given length into the buffer, which is ours.
        let filled = unsafe { libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) };
        let filled = Errno::result(filled)? as usize;
        if filled == 0 {
            return Ok(names);
        }
        // struct linux_dirent64: inode (8), offset (8), record length (2), type (1), name up to a NUL.
        let mut rest = &buffer[..filled];
        while rest.len() > 19 {
            let length = usize::from(u16::from_ne_bytes([rest[16], rest[17]]));
            let name = rest[19..length].split(|byte| *byte == 0).next().unwrap_or_default();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name.to_vec()));
            }
            rest = &rest[length..];
        }
    }
}

/// Takes the lock, or says false when another holds it.
pub fn try_lock(dir: BorrowedFd<'_>, lock: Lock) -> Result<bool> {
    match flock(dir, lock, libc::LOCK_NB) {
        Ok(()) => Ok(true),
        Err(Errno::EWOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Waits for the lock.
pub fn lock(dir: BorrowedFd<'_>, lock: Lock) -> Result<()> {
    flock(dir, lock, 0)
}

/// Gives the lock back.
pub fn unlock(dir: BorrowedFd<'_>) -> Result<()> {
    call_flock(dir, libc::LOCK_UN)
}

fn flock(dir: BorrowedFd<'_>, lock: Lock, flags: i32) -> Result<()> {
    let mode = match lock {
        Lock::Shared => libc::LOCK_SH,
        Lock::Exclusive => libc::LOCK_EX,
    };
    loop {
        match call_flock(dir, mode | flags) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

fn call_flock(dir: BorrowedFd<'_>, operation: i32) -> Result<()> {
    // SAFETY: an open descriptor and a number; no memory is passed.
    Errno::result(unsafe { libc::flock(dir.as_raw_fd(), operation) }).map(drop)
}

/// See [`Facts`].
pub fn facts(dir: BorrowedFd<'_>) -> Result<Facts> {
    let stat = fstat(dir)?;
    // Every file system that takes a state directory sets the link count of a removed directory to 0.
    Ok(Facts { gone: stat.st_nlink == 0, owner: stat.st_uid, mode: stat.st_mode & 0o7777 })
}

/// Whether `name` is in `dir`, whatever it is.
pub fn exists_at(dir: BorrowedFd<'_>, name: &str) -> Result<bool> {
    match nix::sys::stat::fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Whom the kernel took us for when we were executed; wharf never changes it for itself.
pub fn effective_uid() -> u32 {
    effective_ids().0
}

/// Effective user and group id, from the auxiliary vector: no system call.
pub fn effective_ids() -> (u32, u32) {
    // SAFETY: getauxval(3) reads what the kernel left on the stack.
    unsafe { (libc::getauxval(libc::AT_EUID) as u32, libc::getauxval(libc::AT_EGID) as u32) }
}

/// Whether real and effective ids of user and group are root's, and so the saved ones, which an exec takes from the
/// effective. From the auxiliary vector too.
pub fn is_all_root() -> bool {
    let ids = [libc::AT_UID, libc::AT_EUID, libc::AT_GID, libc::AT_EGID];
    // SAFETY: getauxval(3) reads what the kernel left on the stack.
    ids.iter().all(|id| unsafe { libc::getauxval(*id) } == 0)
}

/// Opens /dev/null where one of the descriptors 0, 1 and 2 is closed: a file of ours would take its place, and the
/// payload would inherit it. Rust's runtime does this before an ordinary `main`.
pub fn fill_standard_descriptors() -> Result<()> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    // SAFETY: the numbers are only looked at by poll, which reports a closed one as POLLNVAL.
    let standard = [0, 1, 2].map(|number| unsafe { BorrowedFd::borrow_raw(number) });
    let mut polled = standard.map(|fd| PollFd::new(fd, PollFlags::empty()));
    poll(&mut polled, PollTimeout::ZERO)?;
    if polled.iter().any(|fd| fd.revents().is_some_and(|seen| seen.contains(PollFlags::POLLNVAL))) {
        loop {
            // The lowest free number is taken each time.
            let null = nix::fcntl::open("/dev/null", OFlag::O_RDWR, Mode::empty())?;
            if null.as_raw_fd() > 2 {
                break;
            }
            std::mem::forget(null);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place(std::path::PathBuf);

    impl Place {
        fn new(name: &str) -> (Self, OwnedFd) {
            let path = std::env::temp_dir().join(format!("wharf-dir-{name}-{}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            let fd = open(&path).unwrap();
            (Place(path), fd)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_link_is_followed_neither_as_directory_nor_as_file() {
        let (place, dir) = Place::new("links");
        std::os::unix::fs::symlink("/etc", place.0.join("d")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", place.0.join("f")).unwrap();
        assert_eq!(open_at(dir.as_fd(), "d").unwrap_err(), Errno::ENOTDIR);
        assert_eq!(read_at(dir.as_fd(), "f").unwrap_err(), Errno::ELOOP);
        assert_eq!(write_at(dir.as_fd(), "f", b"x").unwrap_err(), Errno::EEXIST);
    }

    #[test]
    fn a_file_longer_than_one_read_comes_back_whole_and_is_replaced_in_one_step() {
        let (_place, dir) = Place::new("long");
        for size in [0, 4095, 4096, 4097, 100_000] {
            let bytes: Vec<u8> = (0..size).map(|n| n as u8).collect();
            replace_at(dir.as_fd(), "f", "f.new", &bytes).unwrap();
            assert_eq!(read_at(dir.as_fd(), "f").unwrap(), bytes);
        }
        write_at(dir.as_fd(), "f.new", b"left behind").unwrap();
        replace_at(dir.as_fd(), "f", "f.new", b"new").unwrap();
        assert_eq!(read_at(dir.as_fd(), "f").unwrap(), b"new");
        assert_eq!(names(dir.as_fd()).unwrap(), ["f"]);
    }

    #[test]
    fn clearing_removes_nested_directories_and_not_what_links_point_at() {
        let (place, dir) = Place::new("clear");
        let outside = Place::new("outside");
        std::fs::write(outside.0.0.join("keep"), "x").unwrap();
        std::fs::create_dir_all(place.0.join("a/b/c")).unwrap();
        std::fs::write(place.0.join("a/b/file"), "x").unwrap();
        std::os::unix::fs::symlink(&outside.0.0, place.0.join("a/link")).unwrap();
        std::fs::write(place.0.join("last"), "x").unwrap();
        clear(dir.as_fd(), "last").unwrap();
        assert!(names(dir.as_fd()).unwrap().is_empty());
        assert!(outside.0.0.join("keep").exists());
    }

    #[test]
    fn hundreds_of_names_are_all_listed() {
        let (place, dir) = Place::new("many");
        for n in 0..300 {
            std::fs::write(place.0.join(format!("a-name-of-some-length-{n}")), "").unwrap();
        }
        assert_eq!(names(dir.as_fd()).unwrap().len(), 300);
        assert_eq!(names(dir.as_fd()).unwrap().len(), 300, "a second listing begins anew");
    }

    #[test]
    fn a_lock_excludes_another_open_of_the_directory_until_it_is_closed() {
        let (place, dir) = Place::new("lock");
        let other = open(&place.0).unwrap();
        assert!(try_lock(dir.as_fd(), Lock::Exclusive).unwrap());
        assert!(!try_lock(other.as_fd(), Lock::Shared).unwrap());
        drop(dir);
        assert!(try_lock(other.as_fd(), Lock::Shared).unwrap());
    }

    #[test]
    fn a_removed_directory_knows_that_it_is_gone() {
        let (_place, dir) = Place::new("gone");
        make_at(dir.as_fd(), "x", 0o700).unwrap();
        let inner = open_at(dir.as_fd(), "x").unwrap();
        assert!(!facts(inner.as_fd()).unwrap().gone);
        remove_dir_at(dir.as_fd(), "x").unwrap();
        assert!(facts(inner.as_fd()).unwrap().gone);
    }
}
