//! Terminals: pseudo-terminal pairs, their settings and their sizes (ioctl_tty(2)).

use crate::fd::own;
use crate::{Result, check};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// `f_type` of a devpts.
pub const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;

/// Number of `ptmx`, the device that makes terminals.
pub const PTMX: u64 = 5 << 8 | 2;

/// Numbers of the requests, which have another type in each C library.
mod request {
    pub(super) const SCTTY: u64 = 0x540e;
    pub(super) const GWINSZ: u64 = 0x5413;
    pub(super) const SWINSZ: u64 = 0x5414;
    pub(super) const GPTPEER: u64 = 0x5441;
    pub(super) const SPTLCK: u64 = 0x4004_5431;
}

/// Characters a line and lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub rows: u16,
    pub columns: u16,
}

/// Lets the other end of a new master be opened.
pub fn unlock(master: impl AsFd) -> Result<()> {
    let locked = 0i32;
    // SAFETY: the kernel reads one int.
    check(unsafe { ioctl(master, request::SPTLCK, &raw const locked) }).map(drop)
}

/// The other end of a master, by no name (kernel 4.13).
pub fn peer(master: impl AsFd) -> Result<OwnedFd> {
    let flags = (libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) as usize as *const u8;
    // SAFETY: the argument is an integer, not an address.
    own(unsafe { ioctl(master, request::GPTPEER, flags) })
}

/// Makes it the controlling terminal of this process's session, which has none.
pub fn take_control(terminal: impl AsFd) -> Result<()> {
    // SAFETY: the argument is an integer, not an address.
    check(unsafe { ioctl(terminal, request::SCTTY, std::ptr::null::<u8>()) }).map(drop)
}

pub fn set_size(terminal: impl AsFd, size: Size) -> Result<()> {
    let size = libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel reads one struct winsize.
    check(unsafe { ioctl(terminal, request::SWINSZ, &raw const size) }).map(drop)
}

pub fn size(terminal: impl AsFd) -> Result<Size> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes one struct winsize.
    check(unsafe { ioctl(terminal, request::GWINSZ, (&raw mut size).cast_const()) })?;
    Ok(Size { rows: size.ws_row, columns: size.ws_col })
}

/// # Safety
/// `argument` must be what `request` takes.
unsafe fn ioctl<T>(file: impl AsFd, request: u64, argument: *const T) -> libc::c_long {
    // SAFETY: the caller's promise.
    unsafe { libc::syscall(libc::SYS_ioctl, file.as_fd().as_raw_fd(), request, argument) }
}
