//! Many descriptors in one message, and who has sent it.

use crate::fd::own;
use crate::{Errno, Fd, Result, check};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Most descriptors that one message carries (`SCM_MAX_FD`, unix(7)).
pub const MOST: usize = 253;

/// Room for as many, and for the sender's ids.
#[repr(C, align(8))]
struct Control([u8; 1088]);

/// From now on each message that is received tells who has sent it (`SO_PASSCRED`).
pub fn tell_senders(socket: impl AsFd) -> Result<()> {
    let on = 1i32;
    // SAFETY: the option is an int, and its size is given.
    check(unsafe {
        libc::syscall(
            libc::SYS_setsockopt,
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PASSCRED,
            &raw const on,
            size_of::<i32>(),
        )
    })
    .map(drop)
}

/// Sends one message with all of these descriptors, at most [`MOST`]. Never raises SIGPIPE.
pub fn send(socket: impl AsFd, data: &[u8], descriptors: &[Fd]) -> Result<()> {
    if descriptors.len() > MOST {
        return Err(Errno::E2BIG);
    }
    let mut vector = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    let mut control = Control([0; 1088]);
    let bytes = size_of_val(descriptors) as u32;
    // SAFETY: msghdr is plain data for which zero is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    if !descriptors.is_empty() {
        message.msg_control = (&raw mut control).cast();
        // SAFETY: control holds CMSG_SPACE of MOST descriptors, so the header and its data lie inside it.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(bytes) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(bytes) as _;
            let to = libc::CMSG_DATA(header).cast::<i32>();
            for (index, descriptor) in descriptors.iter().enumerate() {
                to.add(index).write_unaligned(descriptor.0);
            }
        }
    }
    loop {
        // SAFETY: message points to living buffers only.
        let sent = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
        match check(sent as libc::c_long) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

/// One message, as it was received.
#[derive(Debug)]
pub struct Parcel {
    /// 0 at the end of the other side.
    pub length: usize,
    pub descriptors: Vec<OwnedFd>,
    /// Of the process that has sent it, as its pid is here, where the socket tells senders.
    pub sender: Option<i32>,
}

/// Receives one message, and all descriptors that came with it, closed by an exec.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<Parcel> {
    let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = MaybeUninit::<Control>::uninit();
    // SAFETY: msghdr is plain data for which zero is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>() as _;
    let length = loop {
        // SAFETY: message points to living buffers only.
        let got = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        match check(got as libc::c_long) {
            Err(Errno::EINTR) => {}
            other => break other? as usize,
        }
    };
    let mut parcel = Parcel { length, descriptors: Vec::new(), sender: None };
    // SAFETY: the kernel wrote msg_controllen bytes of control data, in which each header says how long its part is.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            let bytes = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
            let data = libc::CMSG_DATA(header);
            match ((*header).cmsg_level, (*header).cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                    for index in 0..bytes / size_of::<i32>() {
                        let number = data.cast::<i32>().add(index).read_unaligned();
                        parcel.descriptors.push(own(number.into())?);
                    }
                }
                (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if bytes >= size_of::<libc::ucred>() => {
                    parcel.sender = Some(data.cast::<libc::ucred>().read_unaligned().pid);
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    // What did not fit is lost.
    if message.msg_flags & (libc::MSG_CTRUNC | libc::MSG_TRUNC) != 0 {
        return Err(Errno::EMSGSIZE);
    }
    Ok(parcel)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket;

    #[test]
    fn descriptors_arrive_in_order_with_their_sender() {
        let (one, other) = socket::pair().unwrap();
        tell_senders(&other).unwrap();
        let (read, write) = socket::pair().unwrap();
        let all = vec![Fd(read.as_raw_fd()); MOST - 1];
        let all = [all, vec![Fd(write.as_raw_fd())]].concat();
        send(&one, b"words", &all).unwrap();
        let mut buffer = [0; 16];
        let parcel = receive(&other, &mut buffer).unwrap();
        assert_eq!((&buffer[..parcel.length], parcel.descriptors.len()), (&b"words"[..], MOST));
        assert_eq!(parcel.sender, Some(crate::process::pid()));
        socket::send(parcel.descriptors.last().unwrap(), b"x", None).unwrap();
        assert_eq!(socket::receive(&parcel.descriptors[0], &mut buffer).unwrap().0, 1);
        assert_eq!(send(&one, b"", &vec![Fd(0); MOST + 1]), Err(Errno::E2BIG));
        drop(one);
        assert_eq!(receive(&other, &mut buffer).unwrap().length, 0);
    }
}
