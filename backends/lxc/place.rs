//! LXC's files of one container: its configuration, and what LXC keeps below /run/lxc.
//!
//! Each container has an LXC path of its own, so the fifo that LXC tells ends to is this container's alone, and LXC's tools
//! find it by `-P /run/wharf-lxc/STATE -n ID`, with the path of its state directory. It is not inside that one, which nobody
//! but root may search: LXC wants the root of a container's user namespace to get there.

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use wharf_core::{Error, Result};
use wharf_sys::{CWD, Errno, fd, libc};

const RUN: &str = "/run/lxc";
const OURS: &str = "/run/wharf-lxc";

/// Where all of it is.
pub(crate) struct Place {
    /// LXC's path.
    pub(crate) lxc: PathBuf,
}

fn failed(doing: &str, error: &std::io::Error) -> Error {
    let error_text = format!("{doing} for LXC");
    match error.raw_os_error() {
        Some(errno) => Error::system(error_text, errno),
        None => Error::system(error_text, Errno::EIO as i32).because(error),
    }
}

/// Puts a copy of the init there, for LXC to execute: one container's alone. What that one can do to the file through
/// /proc/self/exe, it does to nobody else (CVE-2019-5736).
pub(crate) fn write_init(path: &Path, program: &OwnedFd) -> std::io::Result<()> {
    let mut image = vec![0; fd::stat(program)?.st_size as usize];
    let length = fd::read_at(program, &mut image, 0)?;
    fs::write(path, &image[..length])?;
    fs::set_permissions(path, Permissions::from_mode(0o555))
}

/// An absolute path, seen from another root.
pub(crate) fn below(root: impl AsRef<Path>, path: &Path) -> PathBuf {
    root.as_ref().join(path.strip_prefix("/").unwrap_or(path))
}

impl Place {
    pub(crate) fn of(state_dir: &Path) -> Result<Self> {
        let state = fs::canonicalize(state_dir).map_err(|error| failed("find the state directory", &error))?;
        Ok(Place { lxc: below(OURS, &state) })
    }

    /// LXC's own directories for a path: what it has below /run/lxc has the same name.
    fn run(&self, below: &str) -> PathBuf {
        self::below(Path::new(RUN).join(below), &self.lxc)
    }

    pub(crate) fn config(&self, id: &str) -> PathBuf {
        self.lxc.join(id).join("config")
    }

    pub(crate) fn log(&self, id: &str) -> PathBuf {
        self.lxc.join(id).join("log")
    }

    pub(crate) fn init(&self) -> PathBuf {
        self.lxc.join("init")
    }

    /// The init.
    pub(crate) fn put_init(&self, program: &OwnedFd) -> Result<()> {
        write_init(&self.init(), program).map_err(|error| failed("write the init", &error))
    }

    /// It runs: nobody shall find it by its name any more.
    pub(crate) fn take_init_away(&self) {
        let _ = fs::remove_file(self.init());
    }

    /// Writes the configuration.
    pub(crate) fn make(&self, id: &str, config: &str) -> Result<()> {
        let make = || {
            DirBuilder::new().mode(0o711).recursive(true).create(&self.lxc)?;
            DirBuilder::new().mode(0o700).create(self.lxc.join(id))?;
            fs::write(self.config(id), config)?;
            fs::set_permissions(self.config(id), Permissions::from_mode(0o600))
        };
        make().map_err(|error| failed("write the configuration", &error))
    }

    /// The fifo that LXC tells states and ends to. It is open for both, so it never ends.
    pub(crate) fn fifo(&self) -> Result<OwnedFd> {
        let dir = self.run("");
        let mut private = DirBuilder::new();
        private.mode(0o700).recursive(true);
        private.create(&dir).map_err(|error| failed("make a directory", &error))?;
        let make = || {
            let path =
                std::ffi::CString::new(dir.join("monitor-fifo").as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
            fd::mknodat(CWD, &path, libc::S_IFIFO | 0o600, 0)?;
            fd::openat(CWD, &path, libc::O_RDWR | libc::O_NONBLOCK | libc::O_NOFOLLOW, 0)
        };
        make().map_err(|errno| Error::system("make the fifo for LXC", errno as i32))
    }

    /// What there is of it.
    pub(crate) fn existing(&self) -> Vec<String> {
        let all = [self.lxc.clone(), self.run(""), self.run("lock")];
        all.iter().filter(|path| path.exists()).map(|path| format!("files of LXC in {}", path.display())).collect()
    }

    /// Removes it all, and LXC's directories above that are empty then.
    pub(crate) fn remove(&self) -> Result<()> {
        for top in [self.run(""), self.run("lock"), self.lxc.clone()] {
            match fs::remove_dir_all(&top) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("remove the files", &error)),
                _ => {}
            }
        }
        for (mut dir, top) in [(self.run("lock"), RUN), (self.run(""), RUN), (self.lxc.clone(), OURS)] {
            while dir.pop() && dir.starts_with(top) && fs::remove_dir(&dir).is_ok() {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lxc_has_its_files_below_the_name_of_its_path() {
        let place = Place { lxc: below(OURS, Path::new("/run/wharf/c1")) };
        assert_eq!(place.run(""), Path::new("/run/lxc/run/wharf-lxc/run/wharf/c1"));
        assert_eq!(place.run("lock"), Path::new("/run/lxc/lock/run/wharf-lxc/run/wharf/c1"));
        assert_eq!(place.config("c1"), Path::new("/run/wharf-lxc/run/wharf/c1/c1/config"));
    }
}
