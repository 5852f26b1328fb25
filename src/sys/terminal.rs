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

/// How a terminal treats what goes through it (termios(3)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings(libc::termios);

impl Settings {
    /// `ENOTTY` means that the file is no terminal.
    pub fn of(terminal: impl AsFd) -> Result<Self> {
        let mut settings = std::mem::MaybeUninit::uninit();
        // SAFETY: the buffer is a struct termios; it is read only after success.
        unsafe {
            check(libc::tcgetattr(terminal.as_fd().as_raw_fd(), settings.as_mut_ptr()) as libc::c_long)?;
            Ok(Settings(settings.assume_init()))
        }
    }

    /// Applies them, at once. From a background process group the kernel sends SIGTTOU, unless that is blocked.
    pub fn apply(&self, terminal: impl AsFd) -> Result<()> {
        // SAFETY: the settings came from tcgetattr.
        check(unsafe { libc::tcsetattr(terminal.as_fd().as_raw_fd(), libc::TCSANOW, &self.0) as libc::c_long })
            .map(drop)
    }

    /// Every byte of input comes through as it is; output is treated as before.
    pub fn raw(mut self) -> Self {
        let output = self.0.c_oflag;
        // SAFETY: changes the fields of our own value.
        unsafe { libc::cfmakeraw(&mut self.0) };
        self.0.c_oflag = output;
        self
    }

    /// A line end goes out as it is.
    pub fn without_onlcr(mut self) -> Self {
        self.0.c_oflag &= !libc::ONLCR;
        self
    }
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
