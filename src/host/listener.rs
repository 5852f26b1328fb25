//! The listener of a seccomp filter: taken from the init that loads it, and given to the agent that answers for it
//! (config-linux.md, "The Container Process State").
//!
//! The init makes no system call between the load and the moment when the agent has its listener: the filter may notify
//! of any, and nobody could answer. It says by memory that it has the listener, and waits in memory to go on.

use crate::handover::Handover;
use crate::hooks;
use crate::launch::Private;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use wharf_core::{Error, Record, Result, Status};
use wharf_plan::seccomp::Listener;
use wharf_steps::LISTENING;
use wharf_steps::facts::listener_page;
use wharf_sys::shared::Page;
use wharf_sys::{Errno, libc, process, socket};

const POINTER: &str = "linux/seccomp/listenerPath";
/// The version of the specification that has the container process state as it is sent.
const VERSION: &str = "1.3.0";

/// What the record keeps of it, for whoever starts the container and whoever joins it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) path: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) metadata: String,
}

impl From<&Listener> for Kept {
    fn from(listener: &Listener) -> Self {
        Kept { path: listener.path.clone(), metadata: listener.metadata.clone() }
    }
}

impl Kept {
    /// Of a container's record.
    pub(crate) fn of(record: &Record) -> Option<Self> {
        Private::of(record).listener
    }
}

/// An agent that listens, before anything is loaded.
pub(crate) struct Agent {
    socket: Handover,
    metadata: String,
}

impl Agent {
    /// None where the container's filter does not notify.
    pub(crate) fn connect(kept: Option<Kept>) -> Result<Option<Self>> {
        let Some(Kept { path, metadata }) = kept else { return Ok(None) };
        let socket = Handover::connect(Path::new(&path), "send the seccomp listener to");
        Ok(Some(Agent { socket: socket.map_err(|error| error.at(POINTER))?, metadata }))
    }
}

/// A process that loads a filter, as the agent is to see it.
pub(crate) struct Loading<'a> {
    pub(crate) pid: i32,
    pub(crate) record: &'a Record,
    pub(crate) status: Status,
    /// A pidfd of it, while it lives.
    pub(crate) open: &'a dyn Fn() -> Result<Option<OwnedFd>>,
}

/// The last message of an init before it is its command; of length 0 when it ended without one, and is its command. On the
/// way the agent gets the listener of its filter; where that fails, the init is killed.
pub(crate) fn last_message(
    socket: &OwnedFd,
    message: &mut [u8],
    agent: Option<&Agent>,
    loading: &Loading<'_>,
) -> Result<usize> {
    loop {
        let (length, passed) = match socket::receive(socket, message) {
            Err(Errno::ECONNRESET) => return Ok(0),
            other => other
                .map_err(|errno| Error::system(format!("hear from container {}", loading.record.id), errno as i32))?,
        };
        match (&message[..length], passed, agent) {
            ([LISTENING], Some(page), Some(agent)) => agent.serve(socket, &page, loading)?,
            _ => return Ok(length),
        }
    }
}

impl Agent {
    fn serve(&self, socket: &OwnedFd, page: &OwnedFd, loading: &Loading<'_>) -> Result<()> {
        let failed = |errno: Errno| Error::system("take the seccomp listener from the init", errno as i32).at(POINTER);
        let page = Page::of(page).map_err(failed)?;
        let number = loop {
            match page.get(listener_page::NUMBER) {
                0 => {}
                number => break number as i32 - 1,
            }
            // It failed to load the filter, or has ended: whoever waits for its last words reads them.
            if process::readable(socket, 1).map_err(failed)? {
                return Ok(());
            }
        };
        let Some(pidfd) = (loading.open)()? else { return Ok(()) };
        let give = || {
            let listener = process::take_descriptor(&pidfd, number).map_err(failed)?;
            self.socket.send(&self.state(loading), &listener).map_err(|error| error.at(POINTER))
        };
        match give() {
            Ok(()) => {
                page.set(listener_page::TAKEN, 1);
                Ok(())
            }
            Err(error) => {
                // Nobody would answer for it, so it must not run.
                let _ = process::signal(pidfd.as_fd(), libc::SIGKILL);
                Err(error)
            }
        }
    }

    fn state(&self, loading: &Loading<'_>) -> Vec<u8> {
        let record = loading.record;
        let mut state = serde_json::json!({
            "ociVersion": VERSION,
            "fds": ["seccompFd"],
            "pid": loading.pid,
            "state": hooks::state_value(record, loading.status, record.engine_pid),
        });
        if !self.metadata.is_empty() {
            state["metadata"] = self.metadata.as_str().into();
        }
        state.to_string().into_bytes()
    }
}
