//! Ends what is left of a container and takes it away. Every part is tried; what fails is told together.

use crate::carrier::{Carrier, Remains};
use crate::launch::Private;
use crate::{draft::open_proc, hooks, host_mounts, status};
use std::ffi::{CString, OsStr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use wharf_cgroup::Handle;
use wharf_core::phases;
use wharf_core::{CgroupPaths, Error, Kind, Process, Record, Result, Status, Warnings};
use wharf_monitor::identity;
use wharf_sys::{Errno, fd, libc, process};

/// How long a killed process may take to die, in milliseconds. One that the kernel holds in a device or a dead network
/// file system does not die at all.
const DEATH: i32 = 10_000;

pub(crate) fn delete(record: &Record, dir: BorrowedFd<'_>, carrier: Option<&dyn Carrier>) -> Result<Warnings> {
    phases::enter("last processes");
    let mut failures = Vec::new();
    let carried = match carrier {
        Some(carrier) => Some((carrier, path_of(dir)?, Private::of(record).carried)),
        None => None,
    };
    let carried = carried.as_ref().map(|(carrier, state_dir, memory)| (carrier, Remains { record, state_dir, memory }));
    let cgroup = match &carried {
        Some((carrier, remains)) if !carrier.has_cgroup(remains)? => {
            status::cgroup(&Record { cgroup: CgroupPaths::default(), ..record.clone() })
        }
        _ => status::cgroup(record),
    };
    match cgroup {
        Ok(cgroup) => {
            let ended = match &record.init {
                Some(init) => end(init, &cgroup, dir),
                None => end_draft(&cgroup),
            };
            failures.extend(ended.err());
            if let Some((carrier, remains)) = &carried {
                phases::enter("carrier");
                failures.extend(carrier.remove(remains).err());
            }
            phases::enter("cgroup");
            failures.extend(cgroup.remove().err());
            cgroup.leave();
        }
        Err(error) => failures.push(error),
    }
    failures.extend(host_mounts::remove(record).err());
    match fd::unlinkat(dir, crate::start::SOCKET, 0) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => failures.push(Error::system("remove the start socket", errno as i32)),
    }
    phases::enter("hooks");
    together(failures)?;
    // Only when the container is gone, and once: a delete that failed is repeated.
    if record.init.is_none() {
        return Ok(Vec::new());
    }
    Ok(hooks::run_all(&record.poststop, "poststop", &hooks::state(record, Status::Stopped, 0), record))
}

/// The absolute path of the state directory.
pub(crate) fn path_of(dir: BorrowedFd<'_>) -> Result<PathBuf> {
    let failed = |errno: Errno| Error::system("find the state directory", errno as i32);
    let proc = open_proc()?;
    let link = CString::new(format!("self/fd/{}", dir.as_raw_fd())).unwrap_or_default();
    let mut buffer = [0; libc::PATH_MAX as usize];
    let length = fd::readlinkat(&proc, &link, &mut buffer).map_err(failed)?;
    Ok(PathBuf::from(OsStr::from_bytes(&buffer[..length])))
}

/// What [`delete`] would end or take away.
pub(crate) fn holdings(record: &Record) -> Result<Vec<String>> {
    let cgroup = status::cgroup(record)?;
    let mut all = cgroup.existing()?;
    match cgroup.processes()?.len() {
        0 => {}
        1 => all.push("1 process".to_owned()),
        count => all.push(format!("{count} processes")),
    }
    if host_mounts::are_there(record)? {
        all.push(format!("mounts on {}", record.rootfs));
    }
    Ok(all)
}

/// Takes back what a `create` that fails has made; its init has ended. There is nobody to tell of a second failure.
pub(crate) fn undo(record: &Record, reached_hooks: bool) {
    if let Ok(cgroup) = status::cgroup(record) {
        let _ = cgroup.kill_all(libc::SIGKILL);
        let _ = cgroup.remove();
    }
    let _ = host_mounts::remove(record);
    if reached_hooks {
        hooks::run_all(&record.poststop, "poststop", &hooks::state(record, Status::Stopped, 0), record);
    }
}

/// One error out of many.
pub(crate) fn together(mut failures: Vec<Error>) -> Result<()> {
    match failures.len() {
        0 => Ok(()),
        1 => Err(failures.remove(0)),
        _ => {
            let texts: Vec<String> = failures.iter().map(Error::to_string).collect();
            Err(Error::new(Kind::System, texts.join("; ")))
        }
    }
}

/// Ends every process of the container.
pub(crate) fn end(init: &Process, cgroup: &Handle, dir: BorrowedFd<'_>) -> Result<()> {
    let pidfd = identity::alive(dir, init)?;
    if pidfd.is_none() && cgroup.vacate() {
        return Ok(());
    }
    if let Some(pidfd) = &pidfd {
        match process::signal(pidfd, libc::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(Error::system(format!("kill process {}", init.pid), errno as i32)),
        }
    }
    cgroup.kill_all(libc::SIGKILL)?;
    if let Some(pidfd) = &pidfd {
        let dead = process::readable(pidfd, DEATH);
        if !dead.map_err(|errno| Error::system(format!("wait for process {}", init.pid), errno as i32))? {
            return Err(Error::new(Kind::System, format!("kill process {}", init.pid))
                .because(format!("it did not end within {} s", DEATH / 1000)));
        }
        // Only where it is our own child; the engine reaps it else.
        let _ = process::wait(init.pid, libc::WNOHANG);
    }
    Ok(())
}

/// A `create` that was interrupted: its init ends by itself when wharf is gone, unless it waits for a hook. Nothing else
/// in that cgroup is known to be ours: the record was written before the cgroup was looked at.
fn end_draft(cgroup: &Handle) -> Result<()> {
    let proc = open_proc()?;
    for pid in cgroup.processes()? {
        let mut target = [0; 64];
        let Ok(pidfd) = process::pidfd(pid) else { continue };
        let name = CString::new(format!("{pid}")).unwrap_or_default();
        let Ok(entry) = proc.open_file(&name, libc::O_PATH | libc::O_DIRECTORY) else { continue };
        let Ok(length) = fd::readlinkat(&entry, c"exe", &mut target) else { continue };
        if target[..length].starts_with(b"/memfd:wharf-init") {
            let _ = process::signal(&pidfd, libc::SIGKILL);
            let _ = process::readable(&pidfd, DEATH);
        }
    }
    Ok(())
}
