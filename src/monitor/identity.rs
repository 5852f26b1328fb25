//! Which process a recorded one is: a pid alone is reused, and a persistent record survives a reboot.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use wharf_core::{Error, Process, Result};
use wharf_sys::procfs::Procfs;
use wharf_sys::{Errno, fd, process};

/// File system of pidfds where each has its own inode number (kernel 6.9).
const PIDFS: i64 = 0x5049_4446;

/// The identity of a living process, for a record.
pub fn of(proc: &Procfs, pid: i32, pidfd: impl AsFd) -> Result<Process> {
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

/// A pidfd of the recorded process, if it is that one and has not ended. `dir` is the container's state
/// directory, where that is at hand.
pub fn alive<'a>(dir: impl Into<Option<BorrowedFd<'a>>>, recorded: &Process) -> Result<Option<OwnedFd>> {
    look(dir.into(), recorded, true)
}

/// The same of one that may have ended, as long as nobody has waited for it.
pub fn find<'a>(dir: impl Into<Option<BorrowedFd<'a>>>, recorded: &Process) -> Result<Option<OwnedFd>> {
    look(dir.into(), recorded, false)
}

fn look(dir: Option<BorrowedFd<'_>>, recorded: &Process, must_live: bool) -> Result<Option<OwnedFd>> {
    let doing = |errno: Errno| Error::system(format!("look for process {}", recorded.pid), errno as i32);
    let pidfd = match process::pidfd(recorded.pid) {
        Err(Errno::ESRCH) => return Ok(None),
        other => other.map_err(doing)?,
    };
    if must_live && process::readable(&pidfd, 0).map_err(doing)? {
        return Ok(None);
    }
    // What lies in memory was written since the boot, so the boot need not be compared, nor whether the kernel still
    // numbers its pidfds.
    let in_memory = dir.map_or(Ok(false), in_memory).map_err(doing)?;
    if recorded.pidfd_inode != 0 && in_memory {
        let same = fd::stat(&pidfd).map_err(doing)?.st_ino == recorded.pidfd_inode;
        return Ok(same.then_some(pidfd));
    }
    let open = || Procfs::open().map_err(|errno| Error::system("open /proc", errno as i32));
    // One boot is all that a process sees.
    static BOOT: OnceLock<String> = OnceLock::new();
    let boot = match BOOT.get() {
        Some(boot) => boot,
        None => {
            let boot = open()?.boot_id().map_err(doing)?;
            BOOT.get_or_init(|| boot)
        }
    };
    if *boot != recorded.boot_id {
        return Ok(None);
    }
    let same = match inode(&pidfd).map_err(doing)? {
        inode if inode != 0 && recorded.pidfd_inode != 0 => inode == recorded.pidfd_inode,
        _ => match open()?.start_time(recorded.pid) {
            Ok(start) => start == recorded.start_time,
            Err(Errno::ENOENT | Errno::ESRCH) => false,
            Err(errno) => return Err(doing(errno)),
        },
    };
    Ok(same.then_some(pidfd))
}

/// Whether a directory is on a file system that no boot outlives.
fn in_memory(dir: BorrowedFd<'_>) -> Result<bool, Errno> {
    const TMPFS: i64 = 0x0102_1994;
    const RAMFS: i64 = 0x8584_58f6;
    Ok([TMPFS, RAMFS].contains(&fd::filesystem_type(dir)?))
}
