//! Bytes on their way from one descriptor to another.

use wharf_sys::{Errno, Result};

/// What a terminal gives at once.
const SIZE: usize = 4096;

/// Filled in one go, and emptied before it is filled again.
pub(crate) struct Buffer {
    bytes: [u8; SIZE],
    from: usize,
    to: usize,
}

impl Buffer {
    pub(crate) const fn new() -> Self {
        Buffer { bytes: [0; SIZE], from: 0, to: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// How many bytes came; 0 is the end.
    pub(crate) fn fill(&mut self, read: impl FnOnce(&mut [u8]) -> Result<usize>) -> Result<usize> {
        debug_assert!(self.is_empty());
        let length = read(&mut self.bytes)?;
        (self.from, self.to) = (0, length);
        Ok(length)
    }

    /// Hands on as much as is taken without waiting.
    pub(crate) fn pour(&mut self, mut write: impl FnMut(&[u8]) -> Result<usize>) -> Result<()> {
        while !self.is_empty() {
            match write(&self.bytes[self.from..self.to]) {
                Ok(0) | Err(Errno::EAGAIN) => break,
                Ok(length) => self.from += length,
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_taken_stays_in_order() {
        let mut buffer = Buffer::new();
        let fill = |into: &mut [u8]| {
            into[..6].copy_from_slice(b"abcdef");
            Ok(6)
        };
        assert_eq!(buffer.fill(fill), Ok(6));
        let mut room = 4;
        let mut taken = Vec::new();
        let mut write = |bytes: &[u8], room: &mut usize| {
            let length = bytes.len().min(*room).min(3);
            *room -= length;
            taken.extend_from_slice(&bytes[..length]);
            if length == 0 { Err(Errno::EAGAIN) } else { Ok(length) }
        };
        assert_eq!(buffer.pour(|bytes| write(bytes, &mut room)), Ok(()));
        assert!(!buffer.is_empty());
        room = 10;
        assert_eq!(buffer.pour(|bytes| write(bytes, &mut room)), Ok(()));
        assert!(buffer.is_empty());
        assert_eq!(taken, b"abcdef");
    }

    #[test]
    fn a_failure_is_told() {
        let mut buffer = Buffer::new();
        assert_eq!(buffer.fill(|_| Ok(1)), Ok(1));
        assert_eq!(buffer.pour(|_| Err(Errno::EIO)), Err(Errno::EIO));
    }
}
