//! Signals of this process: what is blocked, what is ignored, which one comes.

use crate::{Errno, Result, check};

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

/// Gives every signal its default action and unblocks all: ignored signals survive exec, and engines ignore SIGPIPE.
pub fn reset_all() -> Result<()> {
    /// The kernel's own struct sigaction.
    #[repr(C)]
    struct Action {
        handler: usize,
        flags: u64,
        restorer: usize,
        mask: u64,
    }
    let default = Action { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 };
    for signal in 1..=SIGNALS {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        // SAFETY: the structure has the kernel's layout; SIG_DFL needs no handler.
        check(unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, std::ptr::null::<u8>(), 8) })?;
    }
    set_mask(0)
}
