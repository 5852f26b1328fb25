//! Copies a directory tree by descriptors, for a tmpfs that begins with what it covers.

use crate::fd::{self, openat};
use crate::{Errno, Result};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Deepest tree that is copied.
const DEEPEST: usize = 64;

/// Copies what is in the directory `from` into the directory `to`, with owners and modes, and gives `to` itself the
/// owner and the mode of `from` where these are asked for. Links are copied as links, devices as devices; nothing is
/// followed.
pub fn copy(from: impl AsFd, to: impl AsFd, owner: bool, mode: bool) -> Result<()> {
    let from = openat(&from, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    let to = openat(&to, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    for name in names(&from)? {
        entry(&from, &to, &name, 0)?;
    }
    dress(&from, &to, owner, mode)
}

fn directory(from: &OwnedFd, to: &OwnedFd, depth: usize) -> Result<()> {
    if depth > DEEPEST {
        return Err(Errno::ELOOP);
    }
    for name in names(from)? {
        entry(from, to, &name, depth)?;
    }
    dress(from, to, true, true)
}

fn dress(from: &OwnedFd, to: &OwnedFd, owner: bool, mode: bool) -> Result<()> {
    let stat = fd::stat(from)?;
    if owner {
        fd::fchown(to, stat.st_uid, stat.st_gid)?;
    }
    if mode {
        fd::fchmod(to, stat.st_mode & 0o7777)?;
    }
    Ok(())
}

fn entry(from: &OwnedFd, to: &OwnedFd, name: &CStr, depth: usize) -> Result<()> {
    let stat = fd::statat(from, name, libc::AT_SYMLINK_NOFOLLOW)?;
    let owner = |flags| fd::chownat(to, name, stat.st_uid, stat.st_gid, flags);
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFDIR => {
            fd::mkdirat(to, name, 0o700)?;
            let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
            directory(&openat(from, name, flags, 0)?, &openat(to, name, flags, 0)?, depth + 1)
        }
        libc::S_IFREG => {
            let source = openat(from, name, libc::O_RDONLY | libc::O_NOFOLLOW, 0)?;
            let target = openat(to, name, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, 0o600)?;
            let size = fd::stat(&source)?.st_size as usize;
            fd::copy(&target, &source, size)?;
            fd::fchown(&target, stat.st_uid, stat.st_gid)?;
            fd::fchmod(&target, stat.st_mode & 0o7777)
        }
        libc::S_IFLNK => {
            let mut buffer = [0; 4097];
            let length = fd::readlinkat(from, name, &mut buffer[..4096])?;
            let target = CString::new(&buffer[..length]).map_err(|_| Errno::EINVAL)?;
            fd::symlinkat(&target, to, name)?;
            owner(libc::AT_SYMLINK_NOFOLLOW)
        }
        _ => {
            fd::mknodat(to, name, stat.st_mode, stat.st_rdev)?;
            owner(libc::AT_SYMLINK_NOFOLLOW)
        }
    }
}

/// The names in an opened directory, without `.` and `..`.
pub fn names(directory: &OwnedFd) -> Result<Vec<CString>> {
    let mut all = Vec::new();
    let mut buffer = [0u8; 8192];
    loop {
        // SAFETY: the buffer is ours and its length is given.
        let got = crate::check(unsafe {
            libc::syscall(libc::SYS_getdents64, directory.as_raw_fd(), buffer.as_mut_ptr(), buffer.len())
        })? as usize;
        if got == 0 {
            return Ok(all);
        }
        let mut entries = &buffer[..got];
        // struct linux_dirent64: inode 8, offset 8, length of this entry 2, type 1, name.
        while entries.len() > 19 {
            let length = usize::from(u16::from_ne_bytes([entries[16], entries[17]]));
            let entry = entries.get(..length).ok_or(Errno::EIO)?;
            let name = CStr::from_bytes_until_nul(&entry[19..]).map_err(|_| Errno::EIO)?;
            if name != c"." && name != c".." {
                all.push(name.to_owned());
            }
            entries = &entries[length.max(19)..];
        }
    }
}
