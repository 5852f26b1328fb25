//! The mounts of a container without a mount namespace. They are the host's: all of them stand on one, the root file
//! system's copy over itself, and go with it.

use crate::launch::Private;
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use wharf_core::{Error, Record, Result};
use wharf_sys::{CWD, Errno, fd, libc, mount};

/// How the mount is known again, so that nobody else's is ever taken away.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct HostMounts {
    /// Number of the mount that the root file system was on before.
    before: u64,
    /// Number of ours, once it is there.
    ours: Option<u64>,
}

impl HostMounts {
    pub(crate) fn expected(rootfs: &str) -> Result<Self> {
        Ok(HostMounts { before: look(rootfs)?.1, ours: None })
    }

    pub(crate) fn made(self, rootfs: &str) -> Result<Self> {
        Ok(HostMounts { ours: Some(look(rootfs)?.1), ..self })
    }
}

fn failed(rootfs: &str) -> impl Fn(Errno) -> Error {
    move |errno| Error::system(format!("look for the mounts of {rootfs}"), errno as i32)
}

fn look(rootfs: &str) -> Result<(OwnedFd, u64)> {
    let path = CString::new(rootfs).map_err(|_| failed(rootfs)(Errno::EINVAL))?;
    let place = fd::openat(CWD, &path, libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0);
    let place = place.map_err(failed(rootfs))?;
    let number = mount::number(&place).map_err(failed(rootfs))?;
    Ok((place, number))
}

/// The directory that they stand on, if there are any.
fn find(record: &Record) -> Result<Option<OwnedFd>> {
    let Some(known) = Private::of(record).host_mounts else { return Ok(None) };
    let (place, number) = match look(&record.rootfs) {
        // The bundle is gone, and what was mounted on it with it.
        Err(error) if error.raw_errno() == Some(Errno::ENOENT as i32) => return Ok(None),
        other => other?,
    };
    // A create that was interrupted has not recorded its own.
    let is_ours = known.ours.map_or(number != known.before, |ours| number == ours);
    Ok(is_ours.then_some(place))
}

pub(crate) fn are_there(record: &Record) -> Result<bool> {
    find(record).map(|found| found.is_some())
}

/// Takes the container's mounts off the host, if there are any.
pub(crate) fn remove(record: &Record) -> Result<()> {
    let Some(place) = find(record)? else { return Ok(()) };
    mount::inside(&place, || mount::umount(c".", libc::MNT_DETACH))
        .map_err(|errno| Error::system(format!("unmount {}", record.rootfs), errno as i32))
}
