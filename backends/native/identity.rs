//! Which process a recorded one is: a pid alone is reused, and a persistent record survives a reboot.

use std::os::fd::{AsFd, OwnedFd};
use wharf_core::{Error, Process, Result};
use wharf_sys::procfs::Procfs;
use wharf_sys::{Errno, fd, process};

/// File system of pidfds where each has its own inode number (kernel 6.9).
const PIDFS: i64 = 0x5049_4446;

/// The identity of a living process, for a record.
pub(crate) fn of(proc: &Procfs, pid: i32, pidfd: impl AsFd) -> Result<Process> {
    let read =
        || Ok(Process { pid, start_time: proc.start_time(pid)?, boot_id: proc.boot_id()?, pidfd_inode: inode(pidfd)? });
    read().map_err(|errno: Errno| Error::system(format!("identify process {pid}"), errno as i32))
}

fn inode(pidfd: impl AsFd) -> Result<u64, Errno> {
    if fd::filesystem_type(&pidfd)? != PIDFS {
        return Ok(0);
    }
    Ok(fd::stat(&pidfd)?.st_ino)
}

/// A pidfd of the recorded process, if it is that one and has not ended.
pub(crate) fn alive(proc: &Procfs, recorded: &Process) -> Result<Option<OwnedFd>> {
    let doing = |errno: Errno| Error::system(format!("look for process {}", recorded.pid), errno as i32);
    let pidfd = match process::pidfd(recorded.pid) {
        Err(Errno::ESRCH) => return Ok(None),
        other => other.map_err(doing)?,
    };
    if process::readable(&pidfd, 0).map_err(doing)? || proc.boot_id().map_err(doing)? != recorded.boot_id {
        return Ok(None);
    }
    let same = match inode(&pidfd).map_err(doing)? {
        inode if inode != 0 && recorded.pidfd_inode != 0 => inode == recorded.pidfd_inode,
        _ => match proc.start_time(recorded.pid) {
            Ok(start) => start == recorded.start_time,
            Err(Errno::ENOENT | Errno::ESRCH) => false,
            Err(errno) => return Err(doing(errno)),
        },
    };
    Ok(same.then_some(pidfd))
}
