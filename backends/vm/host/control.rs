//! What verbs say to the stand-in: one message of JSON on a socket in the state directory, and its answer. Only root can
//! reach the directory.

use super::job::LONGEST_REPLY;
use crate::wire::{Failure, Outcome};
use serde::{Deserialize, Serialize};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;
use wharf_core::{Error, Kind, Record, Result};
use wharf_sys::{Errno, mount, process, socket};

/// Name of the socket in the state directory.
pub(crate) const SOCKET: &CStr = c"machine";
/// Longest request: what the kernel takes as one message is not much more.
pub(crate) const LONGEST: usize = 128 << 10;
/// Version of the messages; the stand-in may be of another build than the verb.
pub(crate) const VERSION: u32 = 1;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) version: u32,
    #[serde(flatten)]
    pub(crate) request: Request,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub(crate) enum Request {
    /// What it is doing.
    Status,
    Start,
    Kill {
        signal: i32,
        all: bool,
    },
    Pause,
    Resume,
    /// The standard descriptors come after it, one in each message: three, or a terminal.
    Exec {
        words: Vec<String>,
        arguments: Vec<String>,
        process: Option<String>,
        terminal: bool,
    },
    /// To the process of this connection.
    Signal {
        signal: i32,
    },
    /// The terminal of this connection has another size.
    Window {
        rows: u16,
        columns: u16,
    },
    Events,
    Ps,
    /// What of it is the guest's, as JSON.
    Update {
        resources: String,
    },
}

/// What the stand-in says of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reply {
    Ok(serde_json::Value),
    Err(Failure),
    /// The process of this connection has ended: its status as wait(2) has it.
    Exit(i32),
}

impl Reply {
    pub(crate) fn of(outcome: Outcome) -> Self {
        match outcome {
            Ok(value) => Reply::Ok(value),
            Err(failure) => Reply::Err(failure),
        }
    }

    pub(crate) fn into_result(self) -> Result<serde_json::Value> {
        match self {
            Reply::Ok(value) => Ok(value),
            Reply::Err(failure) => Err(failure.into_error()),
            Reply::Exit(_) => Err(Error::system("hear from the machine's stand-in", Errno::EPROTO as i32)),
        }
    }
}

/// A connection to a container's stand-in.
pub(crate) struct Connection(OwnedFd);

impl Connection {
    /// None where nobody listens any more: the container has stopped.
    pub(crate) fn open(dir: BorrowedFd<'_>) -> Result<Option<Self>> {
        let socket = match mount::inside(dir, || {
            let socket = socket::sequenced()?;
            socket::set_send_limit(&socket, 10)?;
            socket::connect(&socket, SOCKET).map(|()| socket)
        }) {
            Err(Errno::ENOENT | Errno::ECONNREFUSED) => return Ok(None),
            other => other.map_err(doing)?,
        };
        Ok(Some(Connection(socket)))
    }

    pub(crate) fn send(&self, request: &Request) -> Result<()> {
        let message = serde_json::to_vec(&Message { version: VERSION, request: request.clone() });
        let message = message.map_err(|_| doing(Errno::EINVAL))?;
        if message.len() > LONGEST {
            return Err(Error::invalid("ask the virtual machine")
                .because(format!("the request is longer than {LONGEST} bytes")));
        }
        socket::send(&self.0, &message, None).map_err(doing)
    }

    pub(crate) fn pass(&self, descriptor: &OwnedFd) -> Result<()> {
        socket::send(&self.0, &[0], Some(descriptor)).map_err(doing)
    }

    /// None when the stand-in has gone, or has no answer in time.
    pub(crate) fn receive(&self, patience: Option<Duration>) -> Result<Option<Reply>> {
        let milliseconds = patience.map_or(-1, |time| i32::try_from(time.as_millis()).unwrap_or(i32::MAX));
        if !process::readable(&self.0, milliseconds).map_err(doing)? {
            return Err(Error::new(Kind::System, "ask the virtual machine")
                .because(format!("it has not answered within {} s", patience.unwrap_or_default().as_secs())));
        }
        let mut message = vec![0; LONGEST_REPLY];
        match socket::receive(&self.0, &mut message) {
            Ok((0, _)) | Err(Errno::ECONNRESET) => Ok(None),
            Ok((length, _)) => serde_json::from_slice(&message[..length]).map(Some).map_err(|_| doing(Errno::EPROTO)),
            Err(errno) => Err(doing(errno)),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// One request and its answer; a container that has stopped is not running.
pub(crate) fn ask(
    record: &Record,
    dir: BorrowedFd<'_>,
    request: &Request,
    patience: Duration,
) -> Result<serde_json::Value> {
    let gone = || Error::new(Kind::NotRunning, format!("container {}: container not running", record.id));
    let connection = Connection::open(dir)?.ok_or_else(gone)?;
    connection.send(request)?;
    connection.receive(Some(patience))?.ok_or_else(gone)?.into_result()
}

fn doing(errno: Errno) -> Error {
    Error::system("speak with the machine's stand-in", errno as i32)
}
