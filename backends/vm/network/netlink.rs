//! Questions to the kernel about its network interfaces and the answers (rtnetlink(7)).

use std::os::fd::OwnedFd;
use wharf_sys::{Errno, Result, fd, libc, network};

pub(super) const REQUEST: u16 = 1;
pub(super) const ACK: u16 = 4;
/// Makes what is not there; with the second, nothing that is.
pub(super) const CREATE: u16 = 0x400;
pub(super) const EXCLUSIVE: u16 = 0x200;
const DUMP: u16 = 0x300;
const HEADER: usize = 16;
/// The kernel answers a dump in pieces of at most half of this.
const PIECE: usize = 64 << 10;
/// What a namespace can say at most before it is refused.
const LONGEST: usize = 8 << 20;

/// A message in the making, or taken apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Body(Vec<u8>);

impl Body {
    /// `head` is the fixed part of the message's kind.
    pub(super) fn new(head: &[u8]) -> Self {
        Body(head.to_vec())
    }

    pub(super) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self.0.extend_from_slice(&(value.len() as u16 + 4).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(super) fn number(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    pub(super) fn nested(self, kind: u16, inner: Body) -> Self {
        self.attribute(kind, &inner.0)
    }
}

/// Attributes after a fixed part of `head` bytes; what is cut short ends them.
pub(super) fn attributes(message: &[u8], head: usize) -> Vec<(u16, &[u8])> {
    /// Bits that are no part of the kind.
    const FLAGS: u16 = 0xc000;
    let mut rest = message.get(head.next_multiple_of(4)..).unwrap_or_default();
    let mut all = Vec::new();
    while let Some(([a, b, c, d], _)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_ne_bytes([*a, *b]));
        let Some(value) = rest.get(4..length) else { break };
        all.push((u16::from_ne_bytes([*c, *d]) & !FLAGS, value));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

/// A socket to the kernel, of the network namespace in which it was opened.
pub(super) struct Netlink(OwnedFd);

impl Netlink {
    pub(super) fn open() -> Result<Self> {
        network::route_socket().map(Netlink)
    }

    /// Asks for one thing; nothing is answered but whether it was done.
    pub(super) fn ask(&self, kind: i32, flags: u16, body: Body) -> Result<()> {
        self.send(kind as u16, REQUEST | ACK | flags, &body)?;
        self.listen(|_, _| ()).map(drop)
    }

    /// Everything of a kind: messages without their header. `head` is the fixed part of the question.
    pub(super) fn all(&self, kind: i32, head: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.send(kind as u16, REQUEST | DUMP, &Body::new(head))?;
        let mut all = Vec::new();
        self.listen(|_, message| all.push(message.to_vec()))?;
        Ok(all)
    }

    fn send(&self, kind: u16, flags: u16, body: &Body) -> Result<()> {
        let mut message = ((HEADER + body.0.len()) as u32).to_ne_bytes().to_vec();
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&flags.to_ne_bytes());
        message.extend_from_slice(&[0; 8]);
        message.extend_from_slice(&body.0);
        fd::write(&self.0, &message).map(drop)
    }

    /// Until the kernel says that it is done, or why not.
    fn listen(&self, mut tell: impl FnMut(u16, &[u8])) -> Result<()> {
        let (mut piece, mut sum) = (vec![0; PIECE], 0);
        loop {
            let length = fd::read(&self.0, &mut piece)?;
            sum += length;
            if length == 0 || sum > LONGEST {
                return Err(Errno::EOVERFLOW);
            }
            let mut rest = &piece[..length];
            while let Some((header, _)) = rest.split_first_chunk::<HEADER>() {
                let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
                let kind = u16::from_ne_bytes([header[4], header[5]]);
                let Some(body) = rest.get(HEADER..length) else { return Err(Errno::EBADMSG) };
                match i32::from(kind) {
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                        let code = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                        return if code < 0 { Err(Errno::from_raw(-code)) } else { Ok(()) };
                    }
                    _ => tell(kind, body),
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_were_written_and_a_cut_ends_them() {
        let inner = Body::default().attribute(1, b"mirred\0");
        let body = Body::new(&[9; 6]).attribute(3, b"eth0\0").number(4, 1500).nested(18, inner);
        let all = attributes(&body.0, 6);
        assert_eq!(all[..2], [(3, &b"eth0\0"[..]), (4, &1500u32.to_ne_bytes()[..])]);
        assert_eq!(attributes(all[2].1, 0), [(1, &b"mirred\0"[..])]);
        for length in 0..body.0.len() {
            assert!(attributes(&body.0[..length], 6).len() <= 3);
        }
        assert!(attributes(&[0; 32], 0).is_empty(), "an attribute is never shorter than its header");
    }
}
