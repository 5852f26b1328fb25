//! Signals for the payload, or for every process of the container.

use crate::{draft::open_proc, identity, launch::Private, status};
use wharf_core::{Error, Kind, Record, Result};
use wharf_sys::{Errno, libc, process};

pub(crate) fn kill(record: &Record, signal: i32, all: bool) -> Result<()> {
    let id = &record.id;
    let gone = || Error::new(Kind::NotRunning, format!("kill container {id}: container not running"));
    let init = record.init.as_ref().ok_or_else(gone)?;
    let pidfd = identity::alive(&open_proc()?, init)?.ok_or_else(gone)?;
    let has_cgroup = !record.cgroup.payload.is_empty();
    // Without a pid namespace of its own the death of the first process leaves the others alive.
    let together = all || signal == libc::SIGKILL && !Private::of(record).own_pids;
    if together && has_cgroup && signal != 0 {
        return status::cgroup(record)?.kill_all(signal);
    }
    if all && !has_cgroup && !Private::of(record).own_pids && signal != 0 {
        return Err(Error::unsupported(format!("kill --all of container {id}"))
            .because("it has neither a cgroup nor a pid namespace of its own, so its processes cannot be told"));
    }
    match process::signal(&pidfd, signal) {
        Err(Errno::ESRCH) => return Err(gone()),
        other => {
            other.map_err(|errno| Error::system(format!("send signal {signal} to container {id}"), errno as i32))?
        }
    }
    if signal == libc::SIGKILL && has_cgroup {
        // A process that cgroup v1 has frozen does not die before it is thawed.
        let cgroup = status::cgroup(record)?;
        if cgroup.is_frozen()? {
            cgroup.thaw()?;
        }
    }
    Ok(())
}
