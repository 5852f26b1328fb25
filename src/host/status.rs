//! What a container is doing, asked of the kernel.

use crate::start;
use std::os::fd::BorrowedFd;
use wharf_cgroup::{Handle, Layout};
use wharf_core::{Error, Record, Result, Status};
use wharf_monitor::identity;

/// The container's cgroups, by its record.
pub(crate) fn cgroup(record: &Record) -> Result<Handle> {
    let layout = if record.cgroup.payload.is_empty() { Layout::default() } else { Layout::mounted()? };
    Handle::open(layout, &record.cgroup)
}

pub(crate) fn status(record: &Record, dir: BorrowedFd<'_>) -> Result<Status> {
    let Some(init) = &record.init else { return Ok(Status::Stopped) };
    // Whoever answers at the socket in our own directory is the waiting init, and alive.
    let waiting = start::is_waiting(dir)?;
    if !waiting && identity::alive(dir, init)?.is_none() {
        return Ok(Status::Stopped);
    }
    if wharf_cgroup::is_frozen(&record.cgroup)? {
        return Ok(Status::Paused);
    }
    Ok(if waiting { Status::Created } else { Status::Running })
}

pub(crate) fn processes(record: &Record) -> Result<Vec<i32>> {
    if record.cgroup.payload.is_empty() {
        return Err(Error::unsupported(format!("list the processes of container {}", record.id))
            .because("it has no cgroup, so they cannot be told from others"));
    }
    let mut pids = cgroup(record)?.processes()?;
    pids.sort_unstable();
    Ok(pids)
}
