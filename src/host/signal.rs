//! Signals for the payload, or for every process of the container.

use crate::{launch::Private, status};
use std::os::fd::BorrowedFd;
use wharf_core::{Error, Kind, Record, Result};
use wharf_monitor::identity;
use wharf_sys::{Errno, libc, process};

pub(crate) fn kill(record: &Record, dir: BorrowedFd<'_>, signal: i32, all: bool) -> Result<()> {
    let id = &record.id;
    let gone = || Error::new(Kind::NotRunning, format!("kill container {id}: container not running"));
    // To signal all of nobody succeeds, as with other runtimes: engines end leftovers so, after the first process.
    let nobody = || if all { Ok(()) } else { Err(gone()) };
    let Some(init) = &record.init else { return nobody() };
    let own_pids = Private::of(record).own_pids;
    let has_cgroup = !record.cgroup.payload.is_empty();
    let Some(pidfd) = identity::alive(dir, init)? else {
        // Without a pid namespace of its own others may have outlived the first process.
        if all && has_cgroup && !own_pids {
            let cgroup = status::cgroup(record)?;
            if !cgroup.processes()?.is_empty() {
                return cgroup.kill_all(signal);
            }
        }
        return nobody();
    };
    if signal != 0 && (all || signal == libc::SIGKILL && !own_pids) {
        if has_cgroup {
            return status::cgroup(record)?.kill_all(signal);
        }
        if !own_pids || signal != libc::SIGKILL {
            return Err(Error::unsupported(format!("signal every process of container {id}"))
                .because("it has no cgroup, so they cannot be told from others"));
        }
    }
    match process::signal(&pidfd, signal) {
        Err(Errno::ESRCH) => return nobody(),
        other => {
            other.map_err(|errno| Error::system(format!("send signal {signal} to container {id}"), errno as i32))?
        }
    }
    if signal == libc::SIGKILL && has_cgroup {
        // A process that cgroup v1 has frozen does not die before it is thawed.
        if wharf_cgroup::must_thaw_to_kill(&record.cgroup)? {
            status::cgroup(record)?.thaw()?;
        }
    }
    Ok(())
}
