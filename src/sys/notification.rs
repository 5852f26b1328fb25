//! What a seccomp agent does with its listener (seccomp_unotify(2)); the tests have one.

use crate::{Result, check};
use std::os::fd::{AsFd, AsRawFd};

/// A system call that waits for a seccomp agent's answer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Notification {
    pub id: u64,
    /// Of the caller, as the agent sees it.
    pub pid: u32,
    pub flags: u32,
    pub number: i32,
    pub architecture: u32,
    pub instruction: u64,
    pub arguments: [u64; 6],
}

/// The next system call that the listener is notified of; waits for one.
pub fn next_notification(listener: impl AsFd) -> Result<Notification> {
    const RECEIVE: u64 = 0xc050_2100;
    let mut found = Notification::default();
    // SAFETY: Notification has the layout and size of struct seccomp_notif, and is zero as the kernel demands.
    check(unsafe { libc::syscall(libc::SYS_ioctl, listener.as_fd().as_raw_fd(), RECEIVE, &raw mut found) })?;
    Ok(found)
}

/// Answers one: with a result, with an errno, or, where neither is given, by letting it go its way.
pub fn answer_notification(listener: impl AsFd, id: u64, result: Option<Result<i64>>) -> Result<()> {
    const SEND: u64 = 0xc018_2101;
    const CONTINUE: u32 = 1;
    #[repr(C)]
    struct Answer {
        id: u64,
        value: i64,
        error: i32,
        flags: u32,
    }
    let answer = match result {
        None => Answer { id, value: 0, error: 0, flags: CONTINUE },
        Some(Ok(value)) => Answer { id, value, error: 0, flags: 0 },
        Some(Err(errno)) => Answer { id, value: 0, error: -(errno as i32), flags: 0 },
    };
    // SAFETY: Answer has the layout and size of struct seccomp_notif_resp.
    check(unsafe { libc::syscall(libc::SYS_ioctl, listener.as_fd().as_raw_fd(), SEND, &raw const answer) }).map(drop)
}
