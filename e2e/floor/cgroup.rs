//! The cgroups of cgroup v1: one directory a hierarchy, device rules, limits.

use crate::{Job, text};
use std::ffi::CStr;
use wharf_sys::libc::{AT_REMOVEDIR, O_WRONLY};
use wharf_sys::{CWD, Result, fd};

/// What every container gets, besides a denial of everything else.
const DEVICES: [&[u8]; 10] = [
    b"c *:* m",
    b"b *:* m",
    b"c 1:3 rwm",
    b"c 1:5 rwm",
    b"c 1:7 rwm",
    b"c 1:8 rwm",
    b"c 1:9 rwm",
    b"c 5:0 rwm",
    b"c 5:2 rwm",
    b"c 136:* rwm",
];

const LIMITS: [(&str, &CStr, &[u8]); 5] = [
    ("memory", c"memory.limit_in_bytes", b"268435456"),
    ("cpu", c"cpu.shares", b"512"),
    ("cpu", c"cpu.cfs_period_us", b"100000"),
    ("cpu", c"cpu.cfs_quota_us", b"200000"),
    ("pids", c"pids.max", b"2048"),
];

pub(crate) fn path(job: &Job, hierarchy: &str, file: &str) -> std::ffi::CString {
    text(&format!("/sys/fs/cgroup/{hierarchy}/wharf-bench/{}{file}", job.id))
}

pub(crate) fn make(job: &Job) -> Result<()> {
    for hierarchy in &job.hierarchies {
        fd::mkdirat(CWD, &path(job, hierarchy, ""), 0o755)?;
    }
    fd::write_all(fd::openat(CWD, &path(job, "devices", "/devices.deny"), O_WRONLY, 0)?, b"a")?;
    let allow = fd::openat(CWD, &path(job, "devices", "/devices.allow"), O_WRONLY, 0)?;
    for rule in DEVICES {
        fd::write_all(&allow, rule)?;
    }
    if job.engine {
        for (hierarchy, file, value) in LIMITS {
            let directory = path(job, hierarchy, "/");
            let file = text(&[directory.to_str().unwrap_or(""), file.to_str().unwrap_or("")].concat());
            fd::write_all(fd::openat(CWD, &file, O_WRONLY, 0)?, value)?;
        }
    }
    Ok(())
}

/// Moves the calling process in.
pub(crate) fn join(job: &Job) -> Result<()> {
    for hierarchy in &job.hierarchies {
        fd::write_all(fd::openat(CWD, &path(job, hierarchy, "/cgroup.procs"), O_WRONLY, 0)?, b"0")?;
    }
    Ok(())
}

pub(crate) fn remove(job: &Job) -> Result<()> {
    job.hierarchies.iter().try_for_each(|hierarchy| fd::unlinkat(CWD, &path(job, hierarchy, ""), AT_REMOVEDIR))
}
