//! Network interfaces: the kernel's own messages about them (rtnetlink(7)), and taps.

use crate::fd::own;
use crate::{CWD, Errno, Result, check, fd};
use std::os::fd::{AsRawFd, OwnedFd};

/// A socket to the kernel about the interfaces of this network namespace; it stays that one's, wherever we go.
pub fn route_socket() -> Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: plain integers.
    own(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) as libc::c_long })
}

/// A new tap of this network namespace, which goes with its last descriptor. `ENAMETOOLONG` from 16 bytes on; `EBUSY` where
/// there is one of the name.
pub fn tap(name: &str) -> Result<OwnedFd> {
    const TUNSETIFF: u64 = 0x4004_54ca;
    /// Frames, nothing before them but what QEMU reads of checksums and segments; no other may be of the name.
    const FLAGS: u16 = 0x0002 | 0x1000 | 0x4000 | 0x8000;
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: u16,
        rest: [u8; 22],
    }
    let mut request = Request { name: [0; 16], flags: FLAGS, rest: [0; 22] };
    if name.len() >= request.name.len() {
        return Err(Errno::ENAMETOOLONG);
    }
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    let tap = fd::openat(CWD, c"/dev/net/tun", libc::O_RDWR | libc::O_NONBLOCK, 0)?;
    // SAFETY: Request has the layout and size of struct ifreq (netdevice(7)).
    check(unsafe { libc::syscall(libc::SYS_ioctl, tap.as_raw_fd(), TUNSETIFF, &raw mut request) })?;
    Ok(tap)
}
