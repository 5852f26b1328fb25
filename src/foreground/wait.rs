//! Waits for a payload's end and passes signals on to it until then.

use crate::Relay;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use wharf_core::Ended;
use wharf_sys::{Errno, Result, libc, lot, process, signal};

/// Something else that is attended to meanwhile.
pub trait Beside {
    /// Readable when there is something to do.
    fn descriptor(&self) -> BorrowedFd<'_>;

    fn attend(&self) -> Result<()>;

    /// The payload has ended: what is left to do.
    fn last(&self) -> Result<()>;
}

/// Waits for the child `pid`, and tells how it ended. All signals must have been blocked before it was
/// born, so that none is lost. Orphans that are left to us are collected too.
pub fn wait(pid: i32, relay: Option<Relay>, beside: Option<&dyn Beside>) -> Result<Ended> {
    lot::close_served();
    let pidfd = process::pidfd(pid)?;
    if relay.is_none() && beside.is_none() {
        loop {
            if let Some(ended) = reap(pid)? {
                lot::served(pidfd);
                return Ok(ended);
            }
            pass_on(signal::next()?, &pidfd)?;
        }
    }
    let mut attended = Attended { signals: signal::descriptor()?, relay, beside };
    loop {
        if let Some(ended) = reap(pid)? {
            attended.last()?;
            return Ok(ended);
        }
        match attended.next_signal()? {
            libc::SIGTSTP if attended.suspend()? => {}
            libc::SIGWINCH if attended.resize() => {}
            // Our own, from writing to a pipe that nobody reads.
            libc::SIGPIPE if attended.relay.is_some() => {}
            number => {
                attended.before(number)?;
                pass_on(number, &pidfd)?;
            }
        }
    }
}

/// What there is to do between two signals.
struct Attended<'a> {
    signals: OwnedFd,
    relay: Option<Relay>,
    beside: Option<&'a dyn Beside>,
}

impl Attended<'_> {
    fn next_signal(&mut self) -> Result<i32> {
        loop {
            if let Some(number) = signal::take(&self.signals)? {
                return Ok(number);
            }
            let beside = self.beside.map(Beside::descriptor);
            let said = match &mut self.relay {
                Some(relay) => {
                    let beside = beside.map_or(-1, |descriptor| descriptor.as_raw_fd());
                    relay.turn([self.signals.as_raw_fd(), beside])?[1]
                }
                None => process::ready([self.signals.as_fd(), beside.unwrap_or(self.signals.as_fd())], -1)?[1],
            };
            if let Some(beside) = self.beside.filter(|_| said) {
                beside.attend()?;
            }
        }
    }

    /// True with a terminal: it is stopped and continued with us.
    fn suspend(&self) -> Result<bool> {
        self.relay.as_ref().map_or(Ok(false), |relay| relay.suspend().map(|()| true))
    }

    /// True with a terminal: its foreground process group is told by the kernel.
    fn resize(&self) -> bool {
        self.relay.as_ref().map(Relay::resize).is_some()
    }

    /// What a signal means for us, besides being the payload's.
    fn before(&mut self, number: i32) -> Result<()> {
        match (&mut self.relay, number) {
            (Some(relay), libc::SIGCONT) => relay.resume(),
            (Some(relay), libc::SIGHUP) => {
                relay.check_hang_up();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn last(&mut self) -> Result<()> {
        if let Some(relay) = &mut self.relay {
            relay.finish(&self.signals)?;
        }
        self.beside.map_or(Ok(()), Beside::last)
    }
}

/// How the payload ended, where it has.
fn reap(pid: i32) -> Result<Option<Ended>> {
    while let Some((ended, status)) = process::wait_status(-1, libc::WNOHANG)? {
        if ended == pid {
            return Ok(Some(Ended::of_status(status)));
        }
    }
    Ok(None)
}

fn pass_on(number: i32, pidfd: &OwnedFd) -> Result<()> {
    match number {
        // SIGCHLD is ours, nobody sends SIGURG with an intention, and stopping is for our own terminal.
        libc::SIGCHLD | libc::SIGURG | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => Ok(()),
        _ => match process::signal(pidfd, number) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno),
        },
    }
}
