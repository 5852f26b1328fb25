//! Signals of this process: what is blocked, what is ignored, which one comes.

use crate::fd::{self, own};
use crate::{Errno, Result, check};
use std::os::fd::{AsFd, OwnedFd};

const SIGNALS: i32 = 64;

/// Blocks every signal, so that [`next`] can take them one by one.
pub fn block_all() -> Result<()> {
    set_mask(u64::MAX)
}

/// Sets the mask of blocked signals, signal n being bit n-1.
pub fn set_mask(mask: u64) -> Result<()> {
    // SAFETY: the kernel reads eight bytes.
    check(unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, std::ptr::null::<u8>(), 8)
    })
    .map(drop)
}

/// Waits for the next blocked signal.
pub fn next() -> Result<i32> {
    let all = u64::MAX;
    loop {
        // SAFETY: the kernel reads eight bytes; no siginfo, no time limit.
        let result = unsafe {
            libc::syscall(libc::SYS_rt_sigtimedwait, &raw const all, std::ptr::null::<u8>(), std::ptr::null::<u8>(), 8)
        };
        match check(result) {
            Err(Errno::EINTR) => {}
            other => return other.map(|signal| signal as i32),
        }
    }
}

/// A descriptor that tells the signals that come; all must be blocked (signalfd(2)). It never keeps a reader waiting.
pub fn descriptor() -> Result<OwnedFd> {
    let all = u64::MAX;
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the kernel reads eight bytes.
    own(unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const all, 8, flags) })
}

/// The next signal of such a descriptor, where one has come.
pub fn take(descriptor: impl AsFd) -> Result<Option<i32>> {
    // struct signalfd_siginfo begins with the signal's number.
    let mut about = [0; 128];
    match fd::read(descriptor, &mut about) {
        Ok(_) => Ok(Some(i32::from_ne_bytes([about[0], about[1], about[2], about[3]]))),
        Err(Errno::EAGAIN) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Lets one blocked signal through while `work` is done.
pub fn while_unblocked<T>(signal: i32, work: impl FnOnce() -> T) -> Result<T> {
    set_mask(!(1 << (signal - 1)))?;
    let result = work();
    block_all()?;
    Ok(result)
}

/// Stops this process until somebody continues it.
pub fn stop_self() -> Result<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::syscall(libc::SYS_kill, crate::process::pid(), libc::SIGSTOP) }).map(drop)
}

/// Gives every signal its default action and unblocks all.
pub fn reset_all() -> Result<()> {
    for signal in (1..=SIGNALS).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
        set_default(signal)?;
    }
    set_mask(0)
}

/// The signals that `status`, the text of /proc/PID/status, says are ignored; signal n is bit n-1. An exec keeps these,
/// and engines ignore SIGPIPE.
pub fn ignored(status: &[u8]) -> Option<u64> {
    let from = status.windows(7).position(|window| window == b"SigIgn:")? + 7;
    let line = status[from..].split(|byte| *byte == b'\n').next()?;
    u64::from_str_radix(std::str::from_utf8(line).ok()?.trim(), 16).ok()
}

/// Gives one signal its default action.
pub fn set_default(signal: i32) -> Result<()> {
    /// The kernel's own struct sigaction.
    #[repr(C)]
    struct Action {
        handler: usize,
        flags: u64,
        restorer: usize,
        mask: u64,
    }
    let default = Action { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 };
    // SAFETY: the structure has the kernel's layout; SIG_DFL needs no handler.
    check(unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, std::ptr::null::<u8>(), 8) })
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_a_status() {
        assert_eq!(ignored(b"SigBlk:\t0000000000000000\nSigIgn:\t0000000000001000\nx"), Some(1 << 12));
        assert_eq!(ignored(b"Name:\tx"), None);
    }
}
