//! Local sockets: message pairs, named datagram and stream sockets, descriptors in messages.

use crate::fd::own;
use crate::{Errno, Result, check};
use std::ffi::CStr;
use std::mem::{MaybeUninit, offset_of};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Two connected ends that keep message borders and report the end of the other (`SOCK_SEQPACKET`).
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0i32; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: ends is room for two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) as libc::c_long })?;
    Ok((own(ends[0].into())?, own(ends[1].into())?))
}

/// Two connected ends of one stream of bytes.
pub fn stream_pair() -> Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0i32; 2];
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: ends is room for two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) as libc::c_long })?;
    Ok((own(ends[0].into())?, own(ends[1].into())?))
}

/// A socket without a name that keeps message borders and is connected (`SOCK_SEQPACKET`).
pub fn sequenced() -> Result<OwnedFd> {
    // SAFETY: plain integers.
    own(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0) as libc::c_long })
}

/// A datagram socket without a name.
pub fn datagram() -> Result<OwnedFd> {
    // SAFETY: plain integers.
    own(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) as libc::c_long })
}

/// A stream socket without a name.
pub fn stream() -> Result<OwnedFd> {
    // SAFETY: plain integers.
    own(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) as libc::c_long })
}

/// How many seconds connecting and sending may wait for the other side; `EAGAIN` is the answer then (socket(7),
/// SO_SNDTIMEO).
pub fn set_send_limit(socket: impl AsFd, seconds: i64) -> Result<()> {
    let limit: [i64; 2] = [seconds, 0];
    // SAFETY: limit has the layout of the kernel's struct timeval, and its size is given.
    check(unsafe {
        libc::syscall(
            libc::SYS_setsockopt,
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDTIMEO,
            limit.as_ptr(),
            size_of_val(&limit),
        )
    })
    .map(drop)
}

fn address(path: &CStr) -> Result<(libc::sockaddr_un, libc::socklen_t)> {
    // SAFETY: sockaddr_un is plain data for which zero is valid.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let bytes = path.to_bytes_with_nul();
    if bytes.len() > address.sun_path.len() {
        return Err(Errno::ENAMETOOLONG);
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    let length = offset_of!(libc::sockaddr_un, sun_path) + bytes.len();
    Ok((address, length as libc::socklen_t))
}

/// Gives a socket its name; the path holds at most 107 bytes.
pub fn bind(socket: impl AsFd, path: &CStr) -> Result<()> {
    let (address, length) = address(path)?;
    // SAFETY: address and length belong together.
    check(unsafe { libc::bind(socket.as_fd().as_raw_fd(), (&raw const address).cast(), length) as libc::c_long })
        .map(drop)
}

/// Takes connections from now on.
pub fn listen(socket: impl AsFd) -> Result<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::listen(socket.as_fd().as_raw_fd(), 1) as libc::c_long }).map(drop)
}

/// The next connection; `EAGAIN` where there is none yet.
pub fn accept_now(socket: impl AsFd) -> Result<OwnedFd> {
    crate::fd::set_nonblocking(&socket)?;
    let (socket, no_address) = (socket.as_fd().as_raw_fd(), std::ptr::null_mut());
    // SAFETY: the other side's address is not asked for.
    own(unsafe { libc::accept4(socket, no_address, std::ptr::null_mut(), libc::SOCK_CLOEXEC) as libc::c_long })
}

/// Connects to a name; `ECONNREFUSED` means that nobody holds that socket open any more.
pub fn connect(socket: impl AsFd, path: &CStr) -> Result<()> {
    let (address, length) = address(path)?;
    // SAFETY: address and length belong together.
    check(unsafe { libc::connect(socket.as_fd().as_raw_fd(), (&raw const address).cast(), length) as libc::c_long })
        .map(drop)
}

/// Connects to a name in the abstract namespace, given without the NUL byte that it begins with (unix(7)).
pub fn connect_abstract(socket: impl AsFd, name: &[u8]) -> Result<()> {
    let (mut address, _) = address(c"")?;
    if name.len() >= address.sun_path.len() {
        return Err(Errno::ENAMETOOLONG);
    }
    for (to, from) in address.sun_path[1..].iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    let length = (offset_of!(libc::sockaddr_un, sun_path) + 1 + name.len()) as libc::socklen_t;
    // SAFETY: address and length belong together.
    check(unsafe { libc::connect(socket.as_fd().as_raw_fd(), (&raw const address).cast(), length) as libc::c_long })
        .map(drop)
}

/// Whether the kernel knows SO_PASSCRED of sockets of the Internet: from 6.16 on it is of local ones alone.
pub fn internet_has_passcred() -> Result<bool> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: plain integers.
    let socket = own(unsafe { libc::socket(libc::AF_INET, kind, 0) as libc::c_long })?;
    let (mut value, mut length) = (0i32, size_of::<i32>() as libc::socklen_t);
    // SAFETY: value is as long as length says.
    let got = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PASSCRED,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    match check(got as libc::c_long) {
        Err(Errno::EOPNOTSUPP) => Ok(false),
        other => other.map(|_| true),
    }
}

/// Room for one descriptor in a control message.
#[repr(C, align(8))]
struct Control([u8; 32]);

/// Sends one message, with a descriptor where one is given. Never raises SIGPIPE.
pub fn send(socket: impl AsFd, data: &[u8], pass: Option<&OwnedFd>) -> Result<()> {
    send_message(socket, None, data, pass).map(drop)
}

/// The same on a stream, which may take less than all: how much it took.
pub fn send_part(socket: impl AsFd, data: &[u8], pass: Option<&OwnedFd>) -> Result<usize> {
    send_message(socket, None, data, pass)
}

/// [`send`] to a name, by a socket that is not connected; `ECONNREFUSED` means that nobody holds that one open any more.
pub fn send_to(socket: impl AsFd, path: &CStr, data: &[u8], pass: Option<&OwnedFd>) -> Result<()> {
    send_message(socket, Some(path), data, pass).map(drop)
}

fn send_message(socket: impl AsFd, to: Option<&CStr>, data: &[u8], pass: Option<&OwnedFd>) -> Result<usize> {
    let mut to = to.map(address).transpose()?;
    let mut vector = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    let mut control = Control([0; 32]);
    // SAFETY: msghdr is plain data for which zero is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    if let Some((address, length)) = &mut to {
        message.msg_name = std::ptr::from_mut(address).cast();
        message.msg_namelen = *length;
    }
    if let Some(fd) = pass {
        message.msg_control = (&raw mut control).cast();
        // SAFETY: control holds CMSG_SPACE of one descriptor, so the first header and its data lie inside it.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(4) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(4) as _;
            libc::CMSG_DATA(header).cast::<i32>().write_unaligned(fd.as_raw_fd());
        }
    }
    loop {
        // SAFETY: message points to living buffers only.
        let sent = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
        match check(sent as libc::c_long) {
            Err(Errno::EINTR) => {}
            other => return other.map(|length| length as usize),
        }
    }
}

/// Receives one message and the descriptor that came with it. A length of 0 is the end of the other side.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<(usize, Option<OwnedFd>)> {
    let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = MaybeUninit::<Control>::uninit();
    // SAFETY: msghdr is plain data for which zero is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: CMSG_SPACE only computes.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(4) } as _;
    let length = loop {
        // SAFETY: message points to living buffers only.
        let got = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        match check(got as libc::c_long) {
            Err(Errno::EINTR) => {}
            other => break other? as usize,
        }
    };
    // SAFETY: the kernel wrote msg_controllen bytes of control data; the first header, where there is one, lies inside.
    let passed = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if !header.is_null() && (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
            Some(OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<i32>().read_unaligned()))
        } else {
            None
        }
    };
    Ok((length, passed))
}
