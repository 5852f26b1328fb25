//! What a container of LXC leaves, and how it is taken away.

use crate::place::Place;
use std::path::Path;
use std::time::{Duration, Instant};
use wharf_cgroup::{Handle, Layout};
use wharf_core::{CgroupPaths, Record, Result};
use wharf_sys::libc;

/// How long LXC and the stand-in may take to end behind the container.
const PATIENCE: Duration = Duration::from_secs(15);

pub(crate) fn handle(paths: &CgroupPaths) -> Result<Handle> {
    let layout = if paths.payload.is_empty() { Layout::default() } else { Layout::mounted()? };
    Handle::open(layout, paths)
}

pub(crate) fn cgroup(record: &Record) -> Result<Handle> {
    handle(&record.cgroup)
}

/// Every process of the container has ended.
pub(crate) fn remove(record: &Record, state_dir: &Path) -> Result<()> {
    let all = cgroup(record)?;
    let until = Instant::now() + PATIENCE;
    while !all.is_empty()? {
        if Instant::now() >= until {
            whole(record)?.kill_all(libc::SIGKILL)?;
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Place::of(state_dir)?.remove()
}

/// The same cgroup with all that is in it, what serves the container included.
fn whole(record: &Record) -> Result<Handle> {
    let paths = &record.cgroup;
    let (freezer, inner, freezer_file) = (paths.payload.clone(), String::new(), String::new());
    handle(&CgroupPaths { freezer, inner, freezer_file, ..paths.clone() })
}

pub(crate) fn holdings(state_dir: &Path) -> Result<Vec<String>> {
    Ok(Place::of(state_dir)?.existing())
}
