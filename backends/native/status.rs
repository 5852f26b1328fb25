//! What a container is doing, asked of the kernel.

use crate::{draft::open_proc, identity, start};
use std::os::fd::BorrowedFd;
use wharf_cgroup::{Handle, Layout};
use wharf_core::{Error, Record, Result, Status};

/// The container's cgroups, by its record.
pub(crate) fn cgroup(record: &Record) -> Result<Handle> {
    let layout = if record.cgroup.payload.is_empty() { Layout::default() } else { Layout::mounted()? };
    Handle::open(layout, &record.cgroup)
}

pub(crate) fn status(record: &Record, dir: BorrowedFd<'_>) -> Result<Status> {
    let Some(init) = &record.init else { return Ok(Status::Stopped) };
    if identity::alive(&open_proc()?, init)?.is_none() {
        return Ok(Status::Stopped);
    }
    if cgroup(record)?.is_frozen()? {
        return Ok(Status::Paused);
    }
    Ok(if start::is_waiting(dir)? { Status::Created } else { Status::Running })
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
