//! The sealed copy of the init that everything inside a container runs from.
//!
//! A container can make its first process execute `/proc/self/exe`, hold the file open, and write to it when nobody
//! executes it any more (CVE-2019-5736). What it finds there is this copy: it cannot be written, and its pages are not
//! those of any installed file.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use wharf_core::{Error, Result};
use wharf_sys::{Errno, fd};

/// Under which the copy is executed.
pub(crate) const NAME: &CStr = c"wharf-init";

/// The program, from the crate `wharf-init`.
const IMAGE: &[u8] = include_bytes!(env!("WHARF_INIT"));

pub(crate) fn copy_of_init() -> Result<OwnedFd> {
    let make = || {
        let copy = fd::memfd(NAME, true)?;
        fd::write_all(&copy, IMAGE)?;
        fd::seal(&copy)?;
        Ok(copy)
    };
    make().map_err(|errno: Errno| Error::system("make a sealed copy of the init", errno as i32))
}
