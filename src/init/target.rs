//! Places in the container's root, opened once and made where they are missing: nothing leaves the root, whatever the
//! image's links say.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use wharf_sys::fd::{self, resolve};
use wharf_sys::lot::Lot;
use wharf_sys::{Errno, Fd, Result, libc};

const IN_ROOT: u64 = resolve::IN_ROOT | resolve::NO_MAGICLINKS;
/// Links that are followed while missing directories are made.
const LINKS: usize = 40;

/// What is at `path` in the root.
pub(crate) fn existing(lot: &Lot, root: Fd, path: &CStr) -> Result<Fd> {
    fd::openat2(root, path, libc::O_PATH, 0, IN_ROOT).map(|found| lot.put(found))
}

/// The directory `path`, made where it is missing. A `plain` one has no symbolic link on its way: what /proc and /sys
/// are mounted on must not be the image's choice (CVE-2019-19921).
pub(crate) fn directory(lot: &Lot, root: Fd, path: &CStr, plain: bool) -> Result<Fd> {
    open_directory(lot, root, path, plain).map(|directory| lot.put(directory))
}

/// The same, for one that is to stay open.
pub(crate) fn open_directory(lot: &Lot, root: Fd, path: &CStr, plain: bool) -> Result<OwnedFd> {
    let how = if plain { IN_ROOT | resolve::NO_SYMLINKS } else { IN_ROOT };
    match fd::openat2(root, path, libc::O_PATH | libc::O_DIRECTORY, 0, how) {
        Err(Errno::ENOENT) => make_directory(lot, root, path, how),
        other => other,
    }
}

fn make_directory(lot: &Lot, root: Fd, path: &CStr, how: u64) -> Result<OwnedFd> {
    if let Some(made) = make_last(lot, root, path)? {
        return Ok(made);
    }
    make(root, path.to_bytes(), true)?;
    fd::openat2(root, path, libc::O_PATH | libc::O_DIRECTORY, 0, how)
}

/// The place of a mount at `path`, made where it is missing: a directory or a file, as `is_directory` says then.
pub(crate) fn of_either(lot: &Lot, root: Fd, path: &CStr, is_directory: impl Fn() -> Result<bool>) -> Result<Fd> {
    match existing(lot, root, path) {
        Err(Errno::ENOENT) if is_directory()? => make_directory(lot, root, path, IN_ROOT).map(|made| lot.put(made)),
        Err(Errno::ENOENT) => {
            make(root, path.to_bytes(), false)?;
            existing(lot, root, path)
        }
        other => other,
    }
}

/// The usual case: only the last directory of a path is missing. `None` where it is not so simple.
fn make_last(lot: &Lot, root: Fd, path: &CStr) -> Result<Option<OwnedFd>> {
    let bytes = path.to_bytes();
    let Some(split) = bytes.iter().rposition(|byte| *byte == b'/').filter(|split| *split > 0) else { return Ok(None) };
    let (above, name) = (&bytes[..split], &bytes[split + 1..]);
    if matches!(name, b"" | b"." | b"..") {
        return Ok(None);
    }
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| Errno::EINVAL);
    let (above, name) = (text(above)?, text(name)?);
    let Ok(above) = fd::openat2(root, &above, libc::O_PATH | libc::O_DIRECTORY, 0, IN_ROOT) else { return Ok(None) };
    let above = lot.put(above);
    match fd::mkdirat(above, &name, 0o755) {
        // A link to something missing, or made meanwhile.
        Err(Errno::EEXIST) => return Ok(None),
        other => other?,
    }
    let how = resolve::BENEATH | resolve::NO_SYMLINKS;
    fd::openat2(above, &name, libc::O_PATH | libc::O_DIRECTORY, 0, how).map(Some)
}

/// Makes a device node; one that is there already must be the same device.
pub(crate) fn device(lot: &Lot, dir: Fd, path: &CStr, mode: u32, device: u64, (uid, gid): (u32, u32)) -> Result<()> {
    let bytes = path.to_bytes();
    let split = bytes.iter().rposition(|byte| *byte == b'/');
    let parent;
    let (dir, name) = match split {
        Some(split) if split > 0 => {
            let above = CString::new(&bytes[..split]).map_err(|_| Errno::EINVAL)?;
            parent = directory(lot, dir, &above, false)?;
            (parent.as_fd(), CString::new(&bytes[split + 1..]).map_err(|_| Errno::EINVAL)?)
        }
        Some(_) => (dir.as_fd(), CString::new(&bytes[1..]).map_err(|_| Errno::EINVAL)?),
        None => (dir.as_fd(), path.to_owned()),
    };
    match fd::mknodat(dir, &name, mode, device) {
        Err(Errno::EEXIST) => {
            let there = fd::statat(dir, &name, libc::AT_SYMLINK_NOFOLLOW)?;
            let same = there.st_mode & libc::S_IFMT == mode & libc::S_IFMT && there.st_rdev == device;
            return if same { Ok(()) } else { Err(Errno::EEXIST) };
        }
        other => other?,
    }
    if (uid, gid) != (0, 0) {
        fd::chownat(dir, &name, uid, gid, libc::AT_SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

/// Makes the directories that are missing on the way to `path`, and at its end a directory or an empty file. Each is
/// made in a directory that was opened inside the root (CVE-2021-30465, CVE-2024-45310); a link to something missing is
/// followed by its text.
fn make(root: Fd, path: &[u8], directory: bool) -> Result<()> {
    let mut path = path.to_vec();
    for _ in 0..LINKS {
        match make_once(root, &path, directory)? {
            None => return Ok(()),
            Some(elsewhere) => path = elsewhere,
        }
    }
    Err(Errno::ELOOP)
}

/// `Some` path to try instead, where a dangling link was met.
fn make_once(root: Fd, path: &[u8], directory: bool) -> Result<Option<Vec<u8>>> {
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    let mut here: Vec<u8> = b"/".to_vec();
    let mut above = fd::openat2(root, c"/", libc::O_PATH | libc::O_DIRECTORY, 0, IN_ROOT)?;
    for (index, part) in parts.iter().enumerate() {
        let last = index + 1 == parts.len();
        let before = here.clone();
        here.extend_from_slice(part);
        let text = CString::new(here.as_slice()).map_err(|_| Errno::EINVAL)?;
        let name = CString::new(*part).map_err(|_| Errno::EINVAL)?;
        let opened = fd::openat2(root, &text, libc::O_PATH, 0, IN_ROOT);
        match opened {
            Ok(found) => above = found,
            Err(Errno::ENOENT) => {
                let mut target = [0; 4096];
                match fd::readlinkat(&above, &name, &mut target) {
                    Ok(length) => {
                        let target = &target[..length];
                        let mut elsewhere = if target.starts_with(b"/") { Vec::new() } else { before };
                        elsewhere.extend_from_slice(target);
                        for rest in &parts[index + 1..] {
                            elsewhere.push(b'/');
                            elsewhere.extend_from_slice(rest);
                        }
                        return Ok(Some(elsewhere));
                    }
                    Err(Errno::ENOENT) => {}
                    Err(errno) => return Err(errno),
                }
                if last && !directory {
                    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
                    fd::openat(&above, &name, flags, 0o644)?;
                    return Ok(None);
                }
                match fd::mkdirat(&above, &name, 0o755) {
                    // Somebody else made it meanwhile; what it is shows when it is opened.
                    Err(Errno::EEXIST) => {}
                    other => other?,
                }
                above = fd::openat2(root, &text, libc::O_PATH | libc::O_DIRECTORY, 0, IN_ROOT)?;
            }
            Err(errno) => return Err(errno),
        }
        here.push(b'/');
    }
    Ok(None)
}
