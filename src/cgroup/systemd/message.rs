//! Messages of D-Bus as bytes: written for calls, read for answers. Little endian; the D-Bus Specification, "Message
//! Protocol".

use super::value::Value;

/// Longest message that is read: answers are a few hundred bytes, but systemd tells of failures in words.
pub(super) const LONGEST: usize = 1 << 20;
/// Bytes that say how long a message is.
pub(super) const HEAD: usize = 16;

const CALL: u8 = 1;
pub(super) const RETURN: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const SIGNAL: u8 = 4;
/// Nobody answers.
const NO_REPLY: u8 = 1;
/// A name that nobody owns is an error at once, instead of a start of its service.
const NO_AUTO_START: u8 = 2;

const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SENDER: u8 = 7;
const SIGNATURE: u8 = 8;

/// Whom a call is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) destination: &'static str,
    pub(super) path: &'static str,
    pub(super) interface: &'static str,
}

/// Bytes with the alignment that D-Bus wants.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    pub(super) fn byte(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.align(2);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.align(8);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn text(&mut self, value: &str) {
        self.u32(value.len() as u32);
        self.bytes.extend_from_slice(value.as_bytes());
        self.byte(0);
    }

    /// At most 255 bytes.
    pub(super) fn signature(&mut self, value: &str) {
        self.byte(value.len() as u8);
        self.bytes.extend_from_slice(value.as_bytes());
        self.byte(0);
    }

    /// An array of what `fill` writes; `element` is the alignment of one element.
    pub(super) fn array(&mut self, element: usize, fill: impl FnOnce(&mut Writer)) {
        self.u32(0);
        let length_at = self.bytes.len() - 4;
        // What aligns the first element does not count.
        self.align(element);
        let begin = self.bytes.len();
        fill(self);
        let length = (self.bytes.len() - begin) as u32;
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    fn field(&mut self, code: u8, signature: &str, fill: impl FnOnce(&mut Writer)) {
        self.align(8);
        self.byte(code);
        self.signature(signature);
        fill(self);
    }
}

/// A method call as bytes. Without `answer` there is none.
pub(super) fn call(target: Target, member: &str, arguments: &[Value], serial: u32, answer: bool) -> Vec<u8> {
    let mut body = Writer::default();
    let mut signature = String::new();
    for argument in arguments {
        signature.push_str(&argument.signature());
        argument.write(&mut body);
    }
    let mut message = Writer::default();
    let flags = if answer { NO_AUTO_START } else { NO_AUTO_START | NO_REPLY };
    message.bytes.extend_from_slice(&[b'l', CALL, flags, 1]);
    message.u32(body.bytes.len() as u32);
    message.u32(serial);
    message.array(8, |fields| {
        fields.field(PATH, "o", |field| field.text(target.path));
        fields.field(INTERFACE, "s", |field| field.text(target.interface));
        fields.field(MEMBER, "s", |field| field.text(member));
        fields.field(DESTINATION, "s", |field| field.text(target.destination));
        if !signature.is_empty() {
            fields.field(SIGNATURE, "g", |field| field.signature(&signature));
        }
    });
    message.align(8);
    message.bytes.extend_from_slice(&body.bytes);
    message.bytes
}

/// What another one said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: u8,
    /// Of the call that this answers.
    pub(super) answers: u32,
    pub(super) interface: String,
    pub(super) member: String,
    pub(super) error: String,
    /// Empty where there is no bus in between.
    pub(super) sender: String,
    signature: String,
    body: Vec<u8>,
}

/// The length of a whole message by its first [`HEAD`] bytes; none where they are not of a message, or of one that is too
/// long.
pub(super) fn length(head: &[u8; HEAD]) -> Option<usize> {
    let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
    if head[0] != b'l' || head[3] != 1 {
        return None;
    }
    let (body, fields) = (number(4), number(12));
    let all = HEAD.checked_add(fields)?.checked_next_multiple_of(8)?.checked_add(body)?;
    (all <= LONGEST).then_some(all)
}

impl Message {
    /// None where the bytes are not those of a message.
    pub(super) fn read(bytes: &[u8]) -> Option<Message> {
        let fields = u32::from_le_bytes(bytes.get(12..16)?.try_into().ok()?) as usize;
        let end = HEAD.checked_add(fields)?;
        let mut message = Message { kind: *bytes.get(1)?, ..Message::default() };
        let mut reader = Reader { bytes: bytes.get(..end)?, at: HEAD };
        while reader.at < end {
            reader.align(8);
            let code = reader.byte()?;
            match (code, reader.signature()?) {
                (REPLY_SERIAL, "u") => message.answers = reader.u32()?,
                (SIGNATURE, "g") => message.signature = reader.signature()?.to_owned(),
                (INTERFACE, "s") => message.interface = reader.text()?.to_owned(),
                (MEMBER, "s") => message.member = reader.text()?.to_owned(),
                (ERROR_NAME, "s") => message.error = reader.text()?.to_owned(),
                (SENDER, "s") => message.sender = reader.text()?.to_owned(),
                (_, "s" | "o") => drop(reader.text()?),
                (_, "u") => drop(reader.u32()?),
                _ => return None,
            }
        }
        message.body = bytes.get(end.next_multiple_of(8)..)?.to_vec();
        Some(message)
    }

    /// The first texts of the body, object paths too, as far as it begins with numbers, texts and variants of a text.
    pub(super) fn texts(&self) -> Vec<&str> {
        let mut reader = Reader { bytes: &self.body, at: 0 };
        let mut texts = Vec::new();
        for kind in self.signature.bytes() {
            let read = match kind {
                b'u' => reader.u32().map(drop),
                b's' | b'o' => reader.text().map(|text| texts.push(text)),
                b'v' if reader.signature().is_some_and(|of| of == "s") => reader.text().map(|text| texts.push(text)),
                _ => None,
            };
            if read.is_none() {
                break;
            }
        }
        texts
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    fn u32(&mut self) -> Option<u32> {
        self.align(4);
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn ended(&mut self, length: usize) -> Option<&'a str> {
        let text = self.take(length)?;
        (self.byte()? == 0).then(|| std::str::from_utf8(text).ok())?
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.u32()? as usize;
        self.ended(length)
    }

    fn signature(&mut self) -> Option<&'a str> {
        let length = usize::from(self.byte()?);
        self.ended(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target = Target { destination: "a.b", path: "/p", interface: "i.f" };

    #[test]
    fn a_call_has_the_bytes_of_the_specification() {
        let bytes = call(TARGET, "M", &[Value::Text("x".into())], 7, true);
        let golden = [
            // Little endian, a call, no start of a service, version 1; 6 bytes of body; serial 7; 71 bytes of fields.
            &b"l\x01\x02\x01\x06\0\0\0\x07\0\0\0\x47\0\0\0"[..],
            b"\x01\x01o\0\x02\0\0\0/p\0\0\0\0\0\0",
            b"\x02\x01s\0\x03\0\0\0i.f\0\0\0\0\0",
            b"\x03\x01s\0\x01\0\0\0M\0\0\0\0\0\0\0",
            b"\x06\x01s\0\x03\0\0\0a.b\0\0\0\0\0",
            b"\x08\x01g\0\x01s\0\0",
            b"\x01\0\0\0x\0",
        ];
        assert_eq!(bytes, golden.concat());
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let mut message = Writer::default();
        message.bytes.extend_from_slice(&[b'l', SIGNAL, 0, 1]);
        let mut body = Writer::default();
        body.u32(9);
        ["/job/9", "a.scope", "done"].iter().for_each(|text| body.text(text));
        message.u32(body.bytes.len() as u32);
        message.u32(3);
        message.array(8, |fields| {
            fields.field(MEMBER, "s", |field| field.text("JobRemoved"));
            fields.field(SENDER, "s", |field| field.text(":1.0"));
            fields.field(SIGNATURE, "g", |field| field.signature("uoss"));
        });
        message.align(8);
        message.bytes.extend_from_slice(&body.bytes);
        let bytes = message.bytes;
        assert_eq!(length(bytes[..HEAD].try_into().unwrap()), Some(bytes.len()));
        let read = Message::read(&bytes).unwrap();
        assert_eq!((read.kind, read.member.as_str(), read.sender.as_str()), (SIGNAL, "JobRemoved", ":1.0"));
        assert_eq!(read.texts(), ["/job/9", "a.scope", "done"]);
        // Cut off anywhere, or with a byte changed, it is read or is not, and nothing breaks.
        for end in 0..bytes.len() {
            let _ = Message::read(&bytes[..end]).map(|message| message.texts().len());
            let mut changed = bytes.clone();
            changed[end] ^= 0xff;
            let _ = Message::read(&changed).map(|message| message.texts().len());
        }
    }

    #[test]
    fn what_is_no_message_or_too_long_has_no_length() {
        let mut head = *b"l\x02\x01\x01\0\0\0\0\x01\0\0\0\0\0\0\0";
        assert_eq!(length(&head), Some(16));
        head[6] = 0x20;
        assert_eq!(length(&head), None);
        head[7] = 0xff;
        head[15] = 0xff;
        assert_eq!(length(&head), None);
        assert_eq!(length(b"HTTP/1.1 400 Bad"), None);
        assert_eq!(length(b"B\x02\x01\x01\0\0\0\0\x01\0\0\0\0\0\0\0"), None);
    }
}
