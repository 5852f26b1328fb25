//! Which dataset keeps an open file, by the kernel's own word: the type of its file system and its mount.

use crate::cause::{Cause, Fault, Result};
use crate::dataset::{Dataset, find};
use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use wharf_core::mountinfo::{self, Mount};
use wharf_sys::procfs::Procfs;
use wharf_sys::{CWD, Errno, fd, libc};

const ZFS_SUPER_MAGIC: i64 = 0x2fc1_2fc1;
const OVERLAYFS_SUPER_MAGIC: i64 = 0x794c_7630;
/// More than 100,000 mounts.
const LONGEST_TABLE: usize = 1 << 25;

/// What keeps a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keeper {
    Zfs(Place),
    /// In words: `tmpfs`, `overlay whose upper directory /x is on ext4`.
    Other {
        what: String,
    },
}

/// A directory in a dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub dataset: Dataset,
    /// Relative to the dataset's own root; empty for that.
    pub within: PathBuf,
    /// It is the upper directory of the overlay that the file is on.
    pub upper: bool,
}

/// What keeps an open file or directory, `O_PATH` will do: of an overlay, what keeps its upper directory.
pub fn keeper(file: impl AsFd) -> Result<Keeper> {
    let table = Table::read(c"self/mountinfo")?;
    table.keeper(file.as_fd(), true)
}

/// The same for a file that was opened by way of /proc/`pid`/root, on a mount that only that process's namespace has.
pub fn keeper_seen_by(file: impl AsFd, pid: i32) -> Result<Keeper> {
    let path = CString::new(format!("{pid}/mountinfo")).unwrap_or_default();
    Table::read(&path)?.keeper(file.as_fd(), true)
}

fn failed(errno: Errno) -> Fault {
    Fault::new(Cause::Other, "find what keeps a directory", &wharf_core::errno_text(errno as i32))
}

struct Table {
    proc: Procfs,
    mounts: Vec<Mount>,
}

impl Table {
    fn read(path: &std::ffi::CStr) -> Result<Table> {
        let proc = Procfs::open().map_err(failed)?;
        let text = read(&proc, path).map_err(failed)?;
        Ok(Table { proc, mounts: mountinfo::parse(&text) })
    }

    fn keeper(&self, file: impl AsFd, through: bool) -> Result<Keeper> {
        let magic = fd::filesystem_type(&file).map_err(failed)?;
        let mount = self.mount_of(&file)?;
        match (magic, mount) {
            (ZFS_SUPER_MAGIC, Some(mount)) => {
                let within = self.within(&file, mount)?;
                match mount.source.contains('@') {
                    true => Ok(Keeper::Other { what: format!("snapshot {}, which nobody can write to", mount.source) }),
                    false => Ok(Keeper::Zfs(Place { dataset: find(&mount.source)?, within, upper: false })),
                }
            }
            (ZFS_SUPER_MAGIC, None) => Ok(Keeper::Other { what: "zfs, on a mount that is not seen from here".into() }),
            (OVERLAYFS_SUPER_MAGIC, Some(mount)) if through => self.overlay(&file, mount),
            (_, Some(mount)) => Ok(Keeper::Other { what: mount.kind.clone() }),
            (magic, None) => Ok(Keeper::Other { what: format!("a file system of type {magic:#x}") }),
        }
    }

    fn overlay(&self, file: impl AsFd, mount: &Mount) -> Result<Keeper> {
        let Some(upper) = mount.option("upperdir") else {
            return Ok(Keeper::Other { what: "overlay without an upper directory".into() });
        };
        let path = CString::new(upper.as_str()).map_err(|_| failed(Errno::EINVAL))?;
        let what = |why: &str| Keeper::Other { what: format!("overlay whose upper directory {} {why}", upper) };
        // The kernel keeps that directory only as the path that it was mounted with.
        let opened = match upper.starts_with('/') {
            true => fd::openat(CWD, &path, libc::O_PATH | libc::O_DIRECTORY, 0),
            false => Err(Errno::ENOENT),
        };
        let Ok(opened) = opened else { return Ok(what("cannot be found from here")) };
        Ok(match self.keeper(opened, false)? {
            Keeper::Zfs(place) => {
                let within = join(&place.within, &self.within(&file, mount)?);
                Keeper::Zfs(Place { within, upper: true, ..place })
            }
            Keeper::Other { what: kind } => what(&format!("is on {kind}")),
        })
    }

    /// By the number that mountinfo has of it, which is not that of statx(2).
    fn mount_of(&self, file: impl AsFd) -> Result<Option<&Mount>> {
        let path = CString::new(format!("self/fdinfo/{}", file.as_fd().as_raw_fd())).unwrap_or_default();
        let text = read(&self.proc, &path).map_err(failed)?;
        let id: Option<u64> = text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
        Ok(self.mounts.iter().find(|mount| Some(mount.id) == id))
    }

    /// Where in the file system of its mount a file is.
    fn within(&self, file: impl AsFd, mount: &Mount) -> Result<PathBuf> {
        let link = CString::new(format!("self/fd/{}", file.as_fd().as_raw_fd())).unwrap_or_default();
        let mut buffer = vec![0; libc::PATH_MAX as usize];
        let length = fd::readlinkat(&self.proc, &link, &mut buffer).map_err(failed)?;
        buffer.truncate(length);
        let path = PathBuf::from(OsString::from_vec(buffer));
        within(mount.root.as_ref(), mount.point.as_ref(), &path).ok_or_else(|| {
            let why = format!("{} is not below {}, where its mount is", path.display(), mount.point);
            Fault::new(Cause::Other, "find what keeps a directory", &why)
        })
    }
}

fn within(root: &Path, at: &Path, path: &Path) -> Option<PathBuf> {
    let below = path.strip_prefix(at).ok()?;
    let root = root.strip_prefix("/").unwrap_or(root);
    Some(join(root, below))
}

/// Without the empty component that `Path::join` adds where there is nothing to add.
fn join(path: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() { path.to_owned() } else { path.join(below) }
}

/// Closed at once: whoever looks for what keeps a file must not be what keeps another.
pub(crate) fn read(proc: &Procfs, path: &std::ffi::CStr) -> std::result::Result<String, Errno> {
    let bytes = fd::read_to_end(proc.open_file(path, libc::O_RDONLY)?, LONGEST_TABLE)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_from_the_dataset_on() {
        let within = |root: &str, at: &str, path: &str| within(root.as_ref(), at.as_ref(), path.as_ref());
        assert_eq!(within("/", "/tank/a", "/tank/a").unwrap(), Path::new(""));
        assert_eq!(within("/", "/tank/a", "/tank/a/rootfs").unwrap(), Path::new("rootfs"));
        assert_eq!(within("/sub", "/mnt", "/mnt/x/y").unwrap(), Path::new("sub/x/y"));
        assert_eq!(within("/", "/", "/x").unwrap(), Path::new("x"));
        assert_eq!(within("/", "/mnt", "/elsewhere"), None);
    }

    #[test]
    fn what_is_not_on_zfs_is_named() {
        let proc = fd::openat(CWD, c"/proc", libc::O_PATH | libc::O_DIRECTORY, 0).unwrap();
        assert_eq!(keeper(proc).unwrap(), Keeper::Other { what: "proc".into() });
    }
}
