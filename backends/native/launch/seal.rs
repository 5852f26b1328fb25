//! The sealed copy of wharf that everything inside a container runs from.
//!
//! A container can make its first process execute `/proc/self/exe`, hold the file open, and write to it when nobody
//! executes it any more (CVE-2019-5736). What it finds there is this copy: it cannot be written, and its pages are not
//! those of the installed file.

use std::os::fd::OwnedFd;
use wharf_core::{Error, Result};
use wharf_sys::procfs::Procfs;
use wharf_sys::{Errno, fd, libc};

pub(super) fn copy_of_ourselves(proc: &Procfs) -> Result<OwnedFd> {
    let make = || {
        let ourselves = proc.open_link(c"self/exe", libc::O_RDONLY)?;
        let size = fd::stat(&ourselves)?.st_size as usize;
        let copy = fd::memfd(wharf_init::NAME, true)?;
        if fd::copy(&copy, &ourselves, size)? != size {
            return Err(Errno::EIO);
        }
        fd::seal(&copy)?;
        Ok(copy)
    };
    make().map_err(|errno| Error::system("make a sealed copy of wharf", errno as i32))
}
