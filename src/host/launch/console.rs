//! The way of a terminal from the init that makes it to whoever has its other end.

use crate::handover::Handover;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use wharf_core::{Error, Result, Terminal};
use wharf_sys::{Errno, socket};

const TO_SOCKET: &str = "send the terminal to --console-socket";

/// Where the init sends it.
pub(crate) enum Console {
    /// To the caller of this process.
    Socket(Handover),
    /// To this process.
    Here { theirs: OwnedFd, ours: OwnedFd },
}

impl Console {
    pub(crate) fn open(terminal: Terminal<'_>) -> Result<Option<Self>> {
        match terminal {
            Terminal::None => Ok(None),
            Terminal::Socket(path) => Ok(Some(Console::Socket(Handover::connect(path, TO_SOCKET)?))),
            Terminal::Foreground => {
                let (ours, theirs) = socket::pair().map_err(failed)?;
                Ok(Some(Console::Here { theirs, ours }))
            }
        }
    }

    /// The init's end.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Console::Socket(handover) => handover.as_fd(),
            Console::Here { theirs, .. } => theirs.as_fd(),
        }
    }

    /// Leaves the init's end to the init, which was born with it.
    pub(crate) fn into_ours(self) -> Option<OwnedFd> {
        match self {
            Console::Socket(_) => None,
            Console::Here { ours, .. } => Some(ours),
        }
    }
}

/// The master end of the terminal, from an init that has said that it sent it.
pub(crate) fn receive(ours: &OwnedFd) -> Result<OwnedFd> {
    let (_, master) = socket::receive(ours, &mut [0; 64]).map_err(failed)?;
    master.ok_or_else(|| failed(Errno::EPROTO))
}

fn failed(errno: Errno) -> Error {
    Error::system("receive the container's terminal", errno as i32).at("process/terminal")
}
