//! The payload's terminal in the foreground: the other program sends it to a console socket of ours.

use std::cell::RefCell;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use wharf_core::{Error, Result};
use wharf_foreground::{HostTerminal, Relay};
use wharf_sys::{Errno, socket};

/// What `run` keeps between `create`, `start` and the payload's end.
#[derive(Default)]
pub(crate) struct Foreground {
    received: RefCell<Option<(HostTerminal, OwnedFd)>>,
    relay: RefCell<Option<Relay>>,
}

impl Foreground {
    /// The payload has not been started yet.
    pub(crate) fn put(&self, host: HostTerminal, master: OwnedFd) {
        self.received.replace(Some((host, master)));
    }

    /// What the payload says is shown from now on; nothing to do without a terminal.
    pub(crate) fn begin(&self) -> Result<()> {
        if let Some((host, master)) = self.received.take() {
            self.relay
                .replace(Some(Relay::begin(host, master).map_err(failed("make our own terminal the payload's"))?));
        }
        Ok(())
    }

    pub(crate) fn take(&self) -> Option<Relay> {
        self.relay.take()
    }
}

impl std::fmt::Debug for Foreground {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Foreground")
    }
}

fn failed(doing: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::system(doing, errno as i32).at("process/terminal")
}

/// A socket for one terminal. Its name goes when it is dropped.
pub(crate) struct ConsoleSocket {
    socket: OwnedFd,
    pub(crate) path: PathBuf,
}

impl ConsoleSocket {
    pub(crate) fn listen(path: PathBuf) -> Result<Self> {
        let make = || {
            let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
            let socket = socket::stream()?;
            socket::bind(&socket, &name)?;
            socket::listen(&socket)?;
            Ok(socket)
        };
        let socket = make().map_err(failed("make a socket for the container's terminal"))?;
        Ok(ConsoleSocket { socket, path })
    }

    /// From a program that has ended.
    pub(crate) fn receive(self) -> Result<OwnedFd> {
        let receive = || {
            let connection = socket::accept_now(&self.socket)?;
            let (_, master) = socket::receive(&connection, &mut [0; 4096])?;
            master.ok_or(Errno::EPROTO)
        };
        receive().map_err(failed("receive the container's terminal"))
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(Path::new(&self.path));
    }
}
