//! The terminal that we are called from: raw while it stands for the payload's, and as it was on every way out.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, Once};
use wharf_core::{Error, Kind, Result};
use wharf_sys::terminal::{Settings, Size, size};
use wharf_sys::{CWD, Errno, Fd, fd, libc, signal};

/// Which terminal a panic has to restore: its own descriptor, and the settings from before.
static CHANGED: Mutex<Option<(OwnedFd, Settings)>> = Mutex::new(None);

/// Our own terminal. Dropped, it is as it was.
pub struct HostTerminal {
    terminal: OwnedFd,
    before: Settings,
}

impl HostTerminal {
    /// The one of stderr, stdout or stdin, in runc's order, or else the controlling one.
    pub fn find() -> Result<Self> {
        let standard = [2, 1, 0].into_iter().find_map(|number| {
            let before = Settings::of(Fd(number)).ok()?;
            Some((fd::duplicate(Fd(number)).ok()?, before))
        });
        let found = standard.map_or_else(controlling, Ok);
        let (terminal, before) = found.map_err(|errno| {
            Error::new(Kind::System, "find our own terminal, for the payload's")
                .errno(errno as i32)
                .at("process/terminal")
                .hint("run in a terminal, or give --detach and --console-socket")
        })?;
        Ok(HostTerminal { terminal, before })
    }

    /// Every key is the payload's. From the background this process waits until it is in the foreground, as whoever
    /// changes a terminal does.
    pub(crate) fn make_raw(&self) -> Result<(), Errno> {
        static HOOK: Once = Once::new();
        HOOK.call_once(restore_in_panic);
        let kept = fd::duplicate(&self.terminal)?;
        *CHANGED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some((kept, self.before));
        signal::while_unblocked(libc::SIGTTOU, || self.before.raw().apply(&self.terminal))?
    }

    /// One that is gone needs none of it.
    pub(crate) fn restore(&self) {
        let changed = CHANGED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if changed.is_some() {
            let _ = self.before.apply(&self.terminal);
        }
    }

    pub(crate) fn size(&self) -> Option<Size> {
        size(&self.terminal).ok().filter(|size| size.rows != 0 && size.columns != 0)
    }

    /// Whether its other end is closed.
    pub(crate) fn is_gone(&self) -> bool {
        let terminal = std::os::fd::AsRawFd::as_raw_fd(&self.terminal.as_fd());
        let mut watched = [libc::pollfd { fd: terminal, events: 0, revents: 0 }];
        fd::poll(&mut watched, 0).is_ok() && watched[0].revents & (libc::POLLHUP | libc::POLLERR) != 0
    }
}

impl Drop for HostTerminal {
    fn drop(&mut self) {
        self.restore();
    }
}

fn controlling() -> Result<(OwnedFd, Settings), Errno> {
    let terminal = fd::openat(CWD, c"/dev/tty", libc::O_RDWR, 0)?;
    let before = Settings::of(&terminal)?;
    Ok((terminal, before))
}

/// A panic ends a release build without unwinding: nothing is dropped.
fn restore_in_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |about| {
        if let Ok(mut changed) = CHANGED.try_lock()
            && let Some((terminal, settings)) = changed.take()
        {
            let _ = settings.apply(&terminal);
        }
        before(about);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_sys::terminal;

    /// One test, as there is one process to panic in.
    #[test]
    fn a_terminal_is_as_before_after_a_panic_and_after_a_drop() {
        let master = fd::openat(CWD, c"/dev/ptmx", libc::O_RDWR | libc::O_NOCTTY, 0).unwrap();
        terminal::unlock(&master).unwrap();
        let slave = terminal::peer(&master).unwrap();
        let before = Settings::of(&slave).unwrap();
        let host = HostTerminal { terminal: fd::duplicate(&slave).unwrap(), before };
        host.make_raw().unwrap();
        assert_eq!(Settings::of(&slave).unwrap(), before.raw());
        let panicked = std::thread::spawn(|| panic!("on purpose")).join();
        assert!(panicked.is_err());
        assert_eq!(Settings::of(&slave).unwrap(), before);
        host.make_raw().unwrap();
        assert_eq!(Settings::of(&slave).unwrap(), before.raw());
        drop(host);
        assert_eq!(Settings::of(&slave).unwrap(), before);
        assert_ne!(before.raw(), before);
    }
}
