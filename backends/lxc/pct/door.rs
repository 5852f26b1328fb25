//! The files of one container that the node is not asked to keep: what LXC is told beside its configuration, the door that the
//! init comes in by, and the place of the root file system.
//!
//! `/run/wharf-pct/STATE`, with the path of its state directory; not inside that one, which nobody but root may search: the
//! root of a container's user namespace has to get there.

use crate::place::{below, write_init};
use std::ffi::CString;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use wharf_core::{Error, Result};
use wharf_sys::{CWD, Errno, fd, libc, mount, parcel, socket};

const OURS: &str = "/run/wharf-pct";
/// Names in the door, as the container sees them too.
pub(crate) const INIT: &str = "init";
pub(crate) const SOCKET: &str = "socket";
/// Where it is hung in the root file system.
pub(crate) const PLACE: &str = "dev/.wharf";

pub(crate) struct Door {
    pub(crate) dir: PathBuf,
}

fn failed(doing: &str, error: &std::io::Error) -> Error {
    Error::system(doing, error.raw_os_error().unwrap_or(Errno::EIO as i32))
}

impl Door {
    pub(crate) fn of(state_dir: &Path) -> Self {
        Door { dir: below(OURS, state_dir) }
    }

    pub(crate) fn include(&self) -> PathBuf {
        self.dir.join("include")
    }

    /// Where the root file system is while a plan is performed: seen by the init alone.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    pub(crate) fn door(&self) -> PathBuf {
        self.dir.join("door")
    }

    /// An archive without a file: the node wants one for each container that is made.
    pub(crate) fn template(&self) -> PathBuf {
        self.dir.join("empty.tar")
    }

    /// Makes all of it but the socket. `include` is what LXC is told.
    pub(crate) fn make(&self, include: &str, program: &OwnedFd) -> Result<()> {
        let make = || {
            DirBuilder::new().mode(0o711).recursive(true).create(self.door())?;
            DirBuilder::new().mode(0o711).create(self.root())?;
            fs::write(self.template(), [0; 1024])?;
            fs::write(self.include(), include)?;
            write_init(&self.door().join(INIT), program)
        };
        make().map_err(|error| failed("write what LXC is told", &error))
    }

    /// What the init calls, which is of that user.
    pub(crate) fn listen(&self, uid: u32, gid: u32) -> Result<OwnedFd> {
        let listen = || {
            let socket = socket::sequenced()?;
            let path = CString::new(self.door().into_os_string().into_encoded_bytes()).map_err(|_| Errno::EINVAL)?;
            let door = fd::openat(CWD, &path, libc::O_PATH | libc::O_DIRECTORY, 0)?;
            mount::inside(&door, || socket::bind(&socket, c"socket"))?;
            fd::chmodat(&door, c"socket", 0o600)?;
            fd::chownat(&door, c"socket", uid, gid, libc::AT_SYMLINK_NOFOLLOW)?;
            parcel::tell_senders(&socket)?;
            socket::listen(&socket)?;
            Ok(socket)
        };
        listen().map_err(|errno: Errno| Error::system("open the door for the init", errno as i32))
    }

    /// It has come in: nobody shall find any of that by a name any more.
    pub(crate) fn shut(&self) {
        let _ = fs::remove_file(self.door().join(INIT));
        let _ = fs::remove_file(self.door().join(SOCKET));
    }

    /// LXC mounts a file system on /dev, in which the door is hung. The directories that had to be made come back.
    pub(crate) fn hang(rootfs: &Path) -> Result<Vec<PathBuf>> {
        let mut made = Vec::new();
        // The second for LXC's own use; it would make one that nobody may enter.
        for name in ["dev", "proc"] {
            let dir = rootfs.join(name);
            match fs::symlink_metadata(&dir) {
                Ok(about) if about.is_dir() => {}
                Ok(_) => {
                    let what = format!("a root file system of which {name} is no directory on the pct backend");
                    return Err(Error::unsupported(what).because("LXC mounts a file system there").at("root/path"));
                }
                Err(_) => {
                    let make = DirBuilder::new().mode(0o755).create(&dir);
                    let doing = || format!("make {name} in the root file system");
                    make.map_err(|error| failed(&doing(), &error).at("root/path"))?;
                    made.push(dir);
                }
            }
        }
        Ok(made)
    }

    pub(crate) fn exists(&self) -> bool {
        self.dir.exists()
    }

    /// Removes it all, and the directories above that are empty then.
    pub(crate) fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(failed("remove what LXC was told", &error));
            }
            _ => {}
        }
        let mut dir = self.dir.clone();
        while dir.pop() && dir.starts_with(OURS) && fs::remove_dir(&dir).is_ok() {}
        Ok(())
    }
}
