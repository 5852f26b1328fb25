//! Messages of protocol buffers as they are on the wire, as far as CRIU's protocol takes: numbers, texts, messages.
//!
//! A field is a key, `number << 3 | kind`, and a value: kind 0 is a number of 7 bits a byte, kind 2 is a length and bytes.

const NUMBER: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// A message that is being written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    pub(crate) fn number(&mut self, field: u64, value: i64) -> &mut Self {
        self.varint(field << 3 | NUMBER);
        // A negative one is of 64 bits, whatever its type.
        self.varint(value as u64);
        self
    }

    /// Nothing where it is false, which is what it means to be missing.
    pub(crate) fn flag(&mut self, field: u64, value: bool) -> &mut Self {
        if value { self.number(field, 1) } else { self }
    }

    pub(crate) fn text(&mut self, field: u64, value: &str) -> &mut Self {
        self.bytes(field, value.as_bytes())
    }

    pub(crate) fn message(&mut self, field: u64, value: &Message) -> &mut Self {
        self.bytes(field, &value.0)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn bytes(&mut self, field: u64, value: &[u8]) -> &mut Self {
        self.varint(field << 3 | BYTES);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(crate) fn as_number(self) -> u64 {
        match self {
            Value::Number(number) => number,
            Value::Bytes(_) => 0,
        }
    }

    pub(crate) fn as_bytes(self) -> &'a [u8] {
        match self {
            Value::Bytes(bytes) => bytes,
            Value::Number(_) => b"",
        }
    }

    pub(crate) fn as_text(self) -> String {
        String::from_utf8_lossy(self.as_bytes()).into_owned()
    }
}

/// The fields of a message that was received, in order; it ends where the message is broken off.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.varint()?;
        let value = match key & 7 {
            NUMBER => Value::Number(self.varint()?),
            BYTES => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            FIXED64 => Value::Bytes(self.take(8)?),
            FIXED32 => Value::Bytes(self.take(4)?),
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_published_examples() {
        let mut message = Message::default();
        message.number(1, 150);
        assert_eq!(message.as_bytes(), [0x08, 0x96, 0x01]);
        let mut message = Message::default();
        message.text(2, "testing");
        assert_eq!(message.as_bytes(), b"\x12\x07testing");
        let mut message = Message::default();
        message.number(1, -2).flag(3, false).flag(2, true);
        assert_eq!(message.as_bytes(), [0x08, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x10, 0x01]);
    }

    #[test]
    fn what_is_written_is_read_and_what_is_broken_off_ends() {
        let mut inner = Message::default();
        inner.text(1, "post-dump").number(2, 300);
        let mut message = Message::default();
        message.number(1, 6).flag(2, true).message(5, &inner);
        let fields: Vec<_> = Fields(message.as_bytes()).collect();
        assert_eq!(fields[..2], [(1, Value::Number(6)), (2, Value::Number(1))]);
        let inner: Vec<_> = Fields(fields[2].1.as_bytes()).collect();
        assert_eq!(inner, [(1, Value::Bytes(b"post-dump")), (2, Value::Number(300))]);
        for length in 0..message.as_bytes().len() {
            assert!(Fields(&message.as_bytes()[..length]).count() < 3, "{length}");
        }
        assert_eq!(Fields(&[0xff; 20]).count(), 0);
    }
}
