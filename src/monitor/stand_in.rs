//! The life of a process that stands in for a payload which is not the engine's own child: it lives as long as the payload,
//! hands signals on, writes down how it ended, and ends in the same way.
//!
//! Its pid is in the pid file. It begins as a child of `create`, is left behind by it, and so is the engine's to wait for.

use crate::watch::Watch;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;
use wharf_core::{CgroupPaths, Ended, Error, Result, WitnessKind, time};
use wharf_sys::{Errno, cgroup_fs, credentials, event, libc, process, signal};

/// What a long wait is made of.
const LONG: Duration = Duration::from_secs(3600);
/// Its type differs between C libraries.
const RLIMIT_CORE: u32 = 4;
/// How many descriptors of a payload are waited for.
pub const WATCHED: usize = 3;

/// What a backend tells of its payload.
pub trait Payload {
    /// Those that become readable when [`Payload::attend`] has something to do.
    fn watched(&self) -> [Option<BorrowedFd<'_>>; WATCHED];

    /// One of them is readable, a child has ended, or time has passed. How the payload ended, when it has.
    fn attend(&mut self) -> Result<Option<Ended>, Errno>;

    /// How long nothing may happen before it is asked again.
    fn patience(&self) -> Duration {
        LONG
    }

    /// Hands a signal on.
    fn signal(&mut self, number: i32);

    /// It has ended, and that is written down: whatever is left to be waited for.
    fn settle(&mut self) {}
}

/// A process that stands in, and has its eyes open: what is to be opened of the host is open.
pub struct StandIn {
    watch: Watch,
    signals: OwnedFd,
}

impl StandIn {
    /// To be called by the new process itself, before it enters a namespace. `dir` is the container's state directory. All
    /// signals are blocked from now on.
    pub fn open(dir: impl AsFd, cgroup: &CgroupPaths) -> Result<Self> {
        let failed = |errno: Errno| Error::system("stand in for the payload", errno as i32);
        signal::block_all().map_err(failed)?;
        let signals = signal::descriptor().map_err(failed)?;
        Ok(StandIn { watch: Watch::open(dir, WitnessKind::StandIn, cgroup)?, signals })
    }

    /// Lives until the payload has ended, and then ends as it did.
    pub fn live(mut self, payload: &mut dyn Payload) -> ! {
        let ended = self.until_the_end(payload).unwrap_or(Ended::Unknown);
        let finished = time::now();
        let usage = self.watch.usage();
        let _ = self.watch.close(ended, finished, usage);
        payload.settle();
        end_as(ended)
    }

    fn until_the_end(&mut self, payload: &mut dyn Payload) -> Result<Ended, Errno> {
        loop {
            let [one, two, three] = payload.watched().map(|fd| fd.map(|fd| (fd, event::READABLE)));
            let signals = Some((self.signals.as_fd(), event::READABLE));
            let [signalled, ..] = event::wait([signals, one, two, three], payload.patience())?;
            while signalled && let Some(number) = signal::take(&self.signals)? {
                if number != libc::SIGCHLD {
                    payload.signal(number);
                }
            }
            if let Some(ended) = payload.attend()? {
                return Ok(ended);
            }
        }
    }
}

/// Ends this process so that its parent sees the same: by the same signal, without a core of our own.
pub fn end_as(ended: Ended) -> ! {
    const UNKNOWN: i32 = 255;
    if let Ended::Signaled { signal: number, .. } = ended {
        let die = || {
            process::set_rlimit(0, RLIMIT_CORE, 0, 0)?;
            // A program that takes cores is not held off by the limit (core(5)).
            credentials::set_dumpable(false)?;
            if ![libc::SIGKILL, libc::SIGSTOP].contains(&number) {
                signal::set_default(number)?;
            }
            signal::set_mask(0)?;
            cgroup_fs::kill(process::pid(), number)
        };
        let _ = die();
    }
    process::exit_now(ended.code().unwrap_or(UNKNOWN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_sys::namespace::{Side, clone};

    #[test]
    fn a_stand_in_ends_as_its_payload_did() {
        for status in [0, 42 << 8, 15, 9, 6, 11 | 0x80] {
            let Ok(Side::Parent { pid, .. }) = clone(0, None) else { end_as(Ended::of_status(status)) };
            let (_, seen) = process::wait_status(pid, 0).unwrap().unwrap();
            assert_eq!(seen & 0xff7f, status & 0xff7f);
        }
    }
}
