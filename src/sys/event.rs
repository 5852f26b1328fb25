//! Waiting for several things at once, and being told by the kernel.

use crate::fd::{own, read};
use crate::{Errno, Result, check};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

pub const READABLE: i16 = libc::POLLIN;
pub const URGENT: i16 = libc::POLLPRI;

/// A counter that whoever knows it adds to (eventfd(2)).
pub fn eventfd() -> Result<OwnedFd> {
    // SAFETY: plain integers.
    own(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) } as libc::c_long)
}

/// Sets the counter to 0 and says whether it was more.
pub fn take(eventfd: impl AsFd) -> Result<bool> {
    take_count(eventfd).map(|count| count > 0)
}

/// Sets the counter to 0 and says what it was.
pub fn take_count(eventfd: impl AsFd) -> Result<u64> {
    let mut counter = [0; 8];
    match read(eventfd, &mut counter) {
        Ok(_) => Ok(u64::from_ne_bytes(counter)),
        Err(Errno::EAGAIN) => Ok(0),
        Err(errno) => Err(errno),
    }
}

/// Something that becomes readable when a name appears in the working directory (inotify(7)).
pub fn names_appear_here() -> Result<OwnedFd> {
    // SAFETY: plain integers.
    let watch = own(unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) } as libc::c_long)?;
    let events = libc::IN_CREATE | libc::IN_MOVED_TO;
    // SAFETY: the path is NUL-terminated.
    check(unsafe { libc::inotify_add_watch(watch.as_raw_fd(), c".".as_ptr(), events) }.into())?;
    Ok(watch)
}

/// Forgets what has appeared.
pub fn forget(watch: impl AsFd) -> Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match read(&watch, &mut buffer) {
            Ok(_) => {}
            Err(Errno::EAGAIN) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
}

/// Waits until one of the descriptors is as asked, at most `limit`: which are (ppoll(2)). None are when the time is over
/// or a signal came.
pub fn wait<const N: usize>(descriptors: [Option<(BorrowedFd<'_>, i16)>; N], limit: Duration) -> Result<[bool; N]> {
    let mut polled = descriptors.map(|one| {
        // A negative number is left out.
        let (fd, events) = one.map_or((-1, 0), |(fd, events)| (fd.as_raw_fd(), events));
        libc::pollfd { fd, events, revents: 0 }
    });
    let limit = libc::timespec {
        tv_sec: limit.as_secs().min(i32::MAX as u64).try_into().unwrap_or(0),
        tv_nsec: limit.subsec_nanos().into(),
    };
    // SAFETY: the array and its length are ours; no signal mask is given.
    let result = unsafe { libc::ppoll(polled.as_mut_ptr(), N as libc::nfds_t, &raw const limit, std::ptr::null()) };
    match check(result.into()) {
        Err(Errno::EINTR) => return Ok([false; N]),
        other => other?,
    };
    Ok(polled.map(|one| one.revents != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_waited_for_and_taken_once() {
        let counter = eventfd().unwrap();
        let none = Duration::from_millis(1);
        assert_eq!(wait([Some((counter.as_fd(), READABLE)), None], none), Ok([false, false]));
        crate::fd::write(&counter, &3u64.to_ne_bytes()).unwrap();
        assert_eq!(wait([None, Some((counter.as_fd(), READABLE))], Duration::from_secs(9)), Ok([false, true]));
        assert_eq!((take(&counter), take(&counter)), (Ok(true), Ok(false)));
    }
}
