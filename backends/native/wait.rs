//! The foreground of `run` and `exec`: passes signals on and waits for the payload's end.

use crate::notify::Relay;
use std::os::fd::{AsFd, OwnedFd};
use wharf_core::{Error, Record, Result};
use wharf_sys::{Errno, libc, process, signal};

/// The payload's words for sd_notify, and what tells of signals while one waits for both.
struct Spoken {
    relay: Relay,
    signals: OwnedFd,
}

pub(crate) fn wait(record: &Record, relay: Option<Relay>) -> Result<i32> {
    let doing = || format!("wait for container {}", record.id);
    match &record.init {
        Some(init) => until_end(init.pid, relay, doing),
        None => Err(Error::system(doing(), Errno::ECHILD as i32)),
    }
}

/// Waits for a child of ours. The signals were blocked before it was born, so none is lost.
pub(crate) fn until_end(payload: i32, relay: Option<Relay>, doing: impl Fn() -> String) -> Result<i32> {
    let failed = |errno: Errno| Error::system(doing(), errno as i32);
    let pidfd = match process::pidfd(payload) {
        Err(errno) => return Err(failed(errno)),
        Ok(pidfd) => pidfd,
    };
    let spoken = match relay {
        Some(relay) => Some(Spoken { relay, signals: signal::descriptor().map_err(failed)? }),
        None => None,
    };
    loop {
        // Orphans of a container without its own pid namespace may be ours too.
        while let Some((pid, ended)) = match process::wait(-1, libc::WNOHANG) {
            Err(Errno::ECHILD) => return Err(failed(Errno::ECHILD)),
            other => other.map_err(failed)?,
        } {
            if pid == payload {
                if let Some(Spoken { relay, .. }) = &spoken {
                    relay.last_words(process::pid()).map_err(failed)?;
                }
                return Ok(ended.code());
            }
        }
        if let Some(Spoken { relay, signals }) = &spoken {
            let [said, signalled] = process::ready([relay.descriptor(), signals.as_fd()], -1).map_err(failed)?;
            if said {
                // We are the service's main process: signals come to us, and our exit code is the payload's.
                relay.pass_on(process::pid()).map_err(failed)?;
            }
            if !signalled {
                continue;
            }
        }
        match signal::next().map_err(failed)? {
            libc::SIGCHLD | libc::SIGURG => {}
            // Stopping and continuing us is for our own terminal.
            libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => {}
            number => match process::signal(&pidfd, number) {
                Err(Errno::ESRCH) => {}
                other => other.map_err(failed)?,
            },
        }
    }
}
