//! What the parent sets on a process that waits: raising a limit above its own takes rights that a process in a user
//! namespace does not have.

use std::ffi::CString;
use wharf_core::{Error, Result};
use wharf_plan::{Cpus, Rlimit};
use wharf_sys::procfs::Procfs;
use wharf_sys::{Errno, process};

pub(crate) fn oom_score_adj(proc: &Procfs, pid: i32, adjustment: i32) -> Result<()> {
    let path = CString::new(format!("{pid}/oom_score_adj")).unwrap_or_default();
    proc.write(&path, adjustment.to_string().as_bytes()).map_err(|errno| {
        Error::system(format!("set oom_score_adj to {adjustment}"), errno as i32).at("process/oomScoreAdj")
    })
}

/// The CPUs of the process `pid`, 0 for ourselves.
pub(crate) fn affinity(pid: i32, cpus: Option<&Cpus>) -> Result<()> {
    let Some(cpus) = cpus else { return Ok(()) };
    process::set_affinity(pid, &cpus.mask)
        .map_err(|errno| Error::system(format!("run on CPUs {}", cpus.text), errno as i32).at(cpus.pointer))
}

pub(crate) fn rlimits(pid: i32, limits: &[Rlimit]) -> Result<()> {
    for limit in limits {
        process::set_rlimit(pid, limit.resource, limit.soft, limit.hard).map_err(|errno| {
            let text = format!("set {} to {} (hard {})", limit.name, limit.soft, limit.hard);
            let error = Error::system(text, errno as i32).at(limit.pointer.as_str());
            if errno == Errno::EPERM {
                error.hint("above our own hard limit, and CAP_SYS_RESOURCE is missing")
            } else {
                error
            }
        })?;
    }
    Ok(())
}
