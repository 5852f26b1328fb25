//! Hands a descriptor to a socket that the caller named: it listens, we connect and send one message.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use wharf_core::{Error, Result};
use wharf_sys::{CWD, Errno, fd, libc, mount, socket};

/// How long a listener that is busy may keep us waiting, in seconds.
const PATIENCE: i64 = 10;

/// A connection on which one descriptor will be sent. It is made before the container is, so that nobody's listening is
/// found out while there is nothing to take back.
pub(crate) struct Handover {
    socket: OwnedFd,
    /// What is done, for errors: `send the pidfd to --pidfd-socket PATH`.
    doing: String,
}

impl Handover {
    /// `doing` names what is handed over and to whom, without the path.
    pub(crate) fn connect(path: &Path, doing: &str) -> Result<Self> {
        let doing = format!("{doing} {}", path.display());
        match connect(path) {
            Ok(socket) => Ok(Handover { socket, doing }),
            Err(errno) => Err(Error::system(doing, errno as i32)),
        }
    }

    /// For an init that sends by itself.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// One message, with the descriptor in it as SCM_RIGHTS (unix(7)).
    pub(crate) fn send(&self, words: &[u8], descriptor: &OwnedFd) -> Result<()> {
        let send = || {
            let mut sent = socket::send_part(&self.socket, words, Some(descriptor))?;
            while sent < words.len() {
                sent += socket::send_part(&self.socket, &words[sent..], None)?;
            }
            Ok(())
        };
        send().map_err(|errno: Errno| Error::system(self.doing.as_str(), errno as i32))
    }
}

/// A stream socket connected to the one at `path`, which may be longer than a socket's name.
fn connect(path: &Path) -> Result<OwnedFd, Errno> {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| Errno::EINVAL);
    let stream = socket::stream()?;
    socket::set_send_limit(&stream, PATIENCE)?;
    match socket::connect(&stream, &text(path.as_os_str().as_bytes())?) {
        Err(Errno::ENAMETOOLONG) => {
            let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::EINVAL) };
            let directory = text(directory.as_os_str().as_bytes())?;
            let directory = fd::openat(CWD, &directory, libc::O_PATH | libc::O_DIRECTORY, 0)?;
            let name = text(name.as_bytes())?;
            mount::inside(directory, || socket::connect(&stream, &name))?;
        }
        other => other?,
    }
    Ok(stream)
}
