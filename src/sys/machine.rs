//! What only the first process of a machine asks of its kernel: drivers, a disk without unwritten data, the end.

use crate::{Result, check};
use std::ffi::CStr;

/// init_module(2): a driver from its bytes. `EEXIST` where it is there already.
pub fn insert_module(image: &[u8], parameters: &CStr) -> Result<()> {
    // SAFETY: the image's length is given, and the parameters are NUL-terminated.
    check(unsafe { libc::syscall(libc::SYS_init_module, image.as_ptr(), image.len(), parameters.as_ptr()) }).map(drop)
}

/// Returns when everything written is where it belongs (sync(2)).
pub fn sync() {
    // SAFETY: takes and fails nothing.
    unsafe { libc::sync() };
}

/// Switches the machine off (reboot(2)); returns only where the kernel refuses.
pub fn power_off() -> Result<()> {
    // SAFETY: a plain integer.
    check(unsafe { libc::reboot(libc::RB_POWER_OFF) } as libc::c_long).map(drop)
}
