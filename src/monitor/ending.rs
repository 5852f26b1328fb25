//! How a process ended that is another's child, from what the kernel shows of it.
//!
//! Two places tell. /proc shows the status of a process that has ended until its parent has collected it. A pidfd tells it
//! afterwards (Linux 6.15), but of the first thread alone: where another one crashed, the flag for its core is missing.

use std::os::fd::{AsFd, OwnedFd};
use wharf_core::{Ended, Process};
use wharf_sys::procfs::{Procfs, Stat};
use wharf_sys::{Errno, dir, process};

/// Opened while the process lives.
#[derive(Debug)]
pub struct Ending<F> {
    pidfd: F,
    stat: Option<OwnedFd>,
    /// A status of 0 in /proc is one, and not what hides another.
    shown: bool,
}

impl<F: AsFd> Ending<F> {
    pub fn of(process: &Process, pidfd: F) -> Result<Self, Errno> {
        let mut ending = Ending { pidfd, stat: None, shown: false };
        let file = match Procfs::open()?.open_stat(process.pid) {
            Err(Errno::ENOENT | Errno::ESRCH) => return Ok(ending),
            other => other?,
        };
        match Stat::of(&file) {
            // The number may be another's by now.
            Ok(stat) if stat.start_time == process.start_time => {
                ending.shown = stat.shown && dir::effective_uid() == 0;
                ending.stat = Some(file);
            }
            Ok(_) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(errno),
        }
        Ok(ending)
    }

    pub fn pidfd(&self) -> &F {
        &self.pidfd
    }

    /// To be asked at once when the process has ended: none where its parent was faster.
    pub fn now(&self) -> Option<Ended> {
        let stat = Stat::of(self.stat.as_ref()?).ok()?;
        (stat.zombie && (stat.status != 0 || self.shown)).then(|| Ended::of_status(stat.status))
    }

    /// When its parent has collected it: for that it waits at most `milliseconds` (-1 for ever).
    pub fn afterwards(&self, milliseconds: i32) -> Result<Ended, Errno> {
        if !process::keeps_exit_status()? || !process::reaped(&self.pidfd, milliseconds)? {
            return Ok(Ended::Unknown);
        }
        Ok(match process::exit_status(&self.pidfd)?.map(Ended::of_status) {
            Some(Ended::Signaled { signal, core: Some(false) }) if process::dumps_core(signal) => {
                Ended::Signaled { signal, core: None }
            }
            ended => ended.unwrap_or(Ended::Unknown),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity;
    use std::process::{Command, Stdio};

    /// How a shell ended, asked before its parent has collected it or after that.
    fn ended(script: &str, collected: bool) -> Ended {
        let mut child = Command::new("sh").args(["-c", script]).stderr(Stdio::null()).spawn().unwrap();
        let pid = child.id() as i32;
        // While it is being executed, a process shows nothing of itself to anybody.
        std::thread::sleep(std::time::Duration::from_millis(100));
        let pidfd = process::pidfd(pid).unwrap();
        let identity = identity::of(&Procfs::open().unwrap(), pid, &pidfd).unwrap();
        let ending = Ending::of(&identity, pidfd).unwrap();
        assert!(process::readable(ending.pidfd(), 10_000).unwrap());
        if collected {
            child.wait().unwrap();
        }
        let ended = ending.now().unwrap_or_else(|| ending.afterwards(0).unwrap());
        child.wait().unwrap();
        ended
    }

    #[test]
    fn a_status_is_read_before_its_parent_has_it() {
        let sleeping = "sleep 0.4; ";
        assert_eq!(ended(&format!("{sleeping}exit 42"), false), Ended::Exited { code: 42 });
        let killed = Ended::Signaled { signal: 15, core: Some(false) };
        assert_eq!(ended(&format!("{sleeping}kill -TERM $$"), false), killed);
        if dir::effective_uid() == 0 {
            assert_eq!(ended(&format!("{sleeping}exit 0"), false), Ended::Exited { code: 0 });
        }
    }

    #[test]
    fn a_status_is_read_after_that_where_the_kernel_keeps_it() {
        let sleeping = "sleep 0.4; ";
        match ended(&format!("{sleeping}exit 42"), true) {
            Ended::Unknown => println!("skipped: this kernel does not keep exit statuses (Linux 6.15 does)"),
            code => {
                assert_eq!(code, Ended::Exited { code: 42 });
                assert_eq!(ended(&format!("{sleeping}exit 0"), true), Ended::Exited { code: 0 });
                let killed = Ended::Signaled { signal: 15, core: Some(false) };
                assert_eq!(ended(&format!("{sleeping}kill -TERM $$"), true), killed);
                let crashed = Ended::Signaled { signal: 11, core: None };
                assert_eq!(ended(&format!("ulimit -c 0; {sleeping}kill -SEGV $$"), true), crashed);
            }
        }
    }
}
