//! The cgroup that the other program leaves when it is killed in the middle of `create`: it forgets it, we do not.

use crate::memory::Memory;
use wharf_cgroup::{Handle, Layout};
use wharf_core::{CgroupPaths, Job, Record, Result};
use wharf_sys::libc::SIGKILL;

/// Only a path that every runtime understands alike, and whose last part has the container's id: engines and users give
/// such a one to a single container.
pub(crate) fn own(job: &Job<'_>) -> Option<String> {
    let path = job.bundle.spec.linux().as_ref()?.cgroups_path().as_ref()?.to_str()?;
    let (_, leaf) = path.rsplit_once('/')?;
    (path.starts_with('/') && !job.systemd_cgroup && leaf.contains(job.id.as_str())).then(|| path.to_owned())
}

/// After the program's own `delete`, which in nearly every case has left nothing to do.
pub(crate) fn sweep(record: &Record) -> Result<()> {
    let Some(path) = Memory::of(record)?.cgroup else { return Ok(()) };
    let [seen, payload, freezer] = [path.clone(), path.clone(), path];
    let paths = CgroupPaths { seen, payload, freezer, made: 1, ..CgroupPaths::default() };
    let cgroup = Handle::open(Layout::mounted()?, &paths)?;
    if !cgroup.processes()?.is_empty() {
        cgroup.kill_all(SIGKILL)?;
    }
    cgroup.remove()
}
