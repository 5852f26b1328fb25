//! Sockets of other processes: what they are, and the kernel's table of local ones (sock_diag(7)).

use crate::fd::own;
use crate::{Errno, Result, check};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Kernel's numbers that libc has not for every C library.
const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const REQUEST_OF_ALL: u16 = 0x301;
const SHOW_NAME_PEER_AND_PENDING: u32 = 0x1 | 0x4 | 0x8;
const ATTRIBUTE_NAME: u16 = 0;
const ATTRIBUTE_PEER: u16 = 2;
const ATTRIBUTE_PENDING: u16 = 3;
const ATTRIBUTE_SHUTDOWN: u16 = 6;
const BOTH_WAYS: u8 = 3;
/// `TCP_ESTABLISHED`
const ESTABLISHED: u8 = 1;
const MESSAGE_ERROR: u16 = 2;
const MESSAGE_DONE: u16 = 3;
const SIOCGSKNS: u64 = 0x894c;

/// One of the unix sockets of a network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixSocket {
    pub inode: u64,
    /// `SOCK_STREAM`, `SOCK_DGRAM` or `SOCK_SEQPACKET`
    pub kind: i32,
    /// Inode of the other end; 0 where that is closed, or has not been accepted yet. None where it is not connected.
    pub peer: Option<u64>,
    pub named: bool,
    /// A connection that nobody has closed in both directions.
    pub connected: bool,
    /// Of a listening one: inodes of those that wait to be accepted.
    pub pending: Vec<u64>,
}

/// A socket to the kernel about the sockets of this network namespace; it stays that one's, wherever we go.
pub fn socket() -> Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: plain integers.
    own(unsafe { libc::socket(libc::AF_NETLINK, kind, NETLINK_SOCK_DIAG) as libc::c_long })
}

/// All unix sockets of the namespace of `socket`. `ENOENT` where this kernel does not tell them.
pub fn unix_sockets(socket: impl AsFd) -> Result<Vec<UnixSocket>> {
    let mut request = Vec::with_capacity(40);
    // struct nlmsghdr
    request.extend_from_slice(&40u32.to_ne_bytes());
    request.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend_from_slice(&REQUEST_OF_ALL.to_ne_bytes());
    request.extend_from_slice(&[0; 8]);
    // struct unix_diag_req: family, protocol; every state; no inode; what is to be shown; no cookie.
    request.extend_from_slice(&[libc::AF_UNIX as u8, 0, 0, 0]);
    request.extend_from_slice(&u32::MAX.to_ne_bytes());
    request.extend_from_slice(&0u32.to_ne_bytes());
    request.extend_from_slice(&SHOW_NAME_PEER_AND_PENDING.to_ne_bytes());
    request.extend_from_slice(&[0; 8]);
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the buffer lives, and is as long as is said.
    check(unsafe { libc::send(socket, request.as_ptr().cast(), request.len(), 0) as libc::c_long })?;
    let (mut all, mut buffer) = (Vec::new(), vec![0u8; 32 * 1024]);
    loop {
        // SAFETY: as above.
        let got = unsafe { libc::recv(socket, buffer.as_mut_ptr().cast(), buffer.len(), 0) as libc::c_long };
        let length = match check(got) {
            Err(Errno::EINTR) => continue,
            other => other? as usize,
        };
        if read(&buffer[..length], &mut all)? {
            return Ok(all);
        }
    }
}

/// Whether that was the last of them.
fn read(mut bytes: &[u8], all: &mut Vec<UnixSocket>) -> Result<bool> {
    while let Some(header) = bytes.get(..16) {
        let length = number(header, 0) as usize;
        let Some(body) = bytes.get(16..length) else { return Err(Errno::EBADMSG) };
        match u16::from_ne_bytes([header[4], header[5]]) {
            MESSAGE_DONE => return Ok(true),
            MESSAGE_ERROR => return Err(Errno::from_raw(-(number(body, 0) as i32))),
            SOCK_DIAG_BY_FAMILY => all.extend(one(body)),
            _ => {}
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// struct unix_diag_msg, and attributes behind it.
fn one(body: &[u8]) -> Option<UnixSocket> {
    let kind = i32::from(*body.get(1)?);
    let connected = *body.get(2)? == ESTABLISHED && kind != libc::SOCK_DGRAM;
    let inode = number(body, 4).into();
    let mut socket = UnixSocket { inode, kind, peer: None, named: false, connected, pending: Vec::new() };
    let mut rest = body.get(16..)?;
    while let Some(head) = rest.get(..4) {
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let value = rest.get(4..length)?;
        match u16::from_ne_bytes([head[2], head[3]]) {
            ATTRIBUTE_NAME => socket.named = true,
            ATTRIBUTE_PENDING => socket.pending = value.chunks(4).map(|one| number(one, 0).into()).collect(),
            ATTRIBUTE_SHUTDOWN => socket.connected &= value.first() != Some(&BOTH_WAYS),
            ATTRIBUTE_PEER => socket.peer = Some(number(value, 0).into()),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(socket)
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |bytes| u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// The address family of a socket (`AF_UNIX`, …).
pub fn family(socket: impl AsFd) -> Result<i32> {
    let (mut value, mut length) = (0i32, size_of::<i32>() as libc::socklen_t);
    let (socket, value_at) = (socket.as_fd().as_raw_fd(), (&raw mut value).cast());
    // SAFETY: value is as long as length says.
    let got = unsafe { libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_DOMAIN, value_at, &raw mut length) };
    check(got.into()).map(|_| value)
}

/// The network namespace that a socket is of; takes CAP_NET_ADMIN there.
pub fn namespace_of(socket: impl AsFd) -> Result<OwnedFd> {
    // SAFETY: no argument is passed.
    own(unsafe { libc::syscall(libc::SYS_ioctl, socket.as_fd().as_raw_fd(), SIOCGSKNS, 0) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};

    #[test]
    fn the_other_end_of_a_socket_is_known() {
        let (one, other) = UnixStream::pair().unwrap();
        let name = SocketAddr::from_abstract_name(format!("wharf-{}", std::process::id())).unwrap();
        let listener = UnixListener::bind_addr(&name).unwrap();
        let waiting = UnixStream::connect_addr(&name).unwrap();
        let alone = UnixDatagram::unbound().unwrap();
        let inode =
            |socket: &dyn AsRawFd| std::fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap().ino();
        let all = unix_sockets(socket().unwrap()).unwrap();
        let found = |inode: u64| all.iter().find(|socket| socket.inode == inode).unwrap();
        assert_eq!(found(inode(&one)).peer, Some(inode(&other)));
        assert_eq!((found(inode(&one)).kind, found(inode(&one)).named), (libc::SOCK_STREAM, false));
        assert_eq!((found(inode(&alone)).kind, found(inode(&alone)).peer), (libc::SOCK_DGRAM, None));
        assert_eq!(found(inode(&listener)).pending, [inode(&waiting)]);
        assert!(found(inode(&waiting)).connected && !found(inode(&listener)).connected);
        one.shutdown(std::net::Shutdown::Both).unwrap();
        let all = unix_sockets(socket().unwrap()).unwrap();
        assert!(!all.iter().any(|socket| socket.inode == inode(&one) && socket.connected));
        assert_eq!(family(&one).unwrap(), libc::AF_UNIX);
    }
}
