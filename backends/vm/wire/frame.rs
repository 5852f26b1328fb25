//! Frames out of bytes and back. What comes is the other side's word, and not trusted: every byte sequence is either
//! frames or an error, and what is kept of it is bounded.

/// Most bytes after a header.
pub(crate) const LONGEST: usize = 32 << 10;
/// How much may be on its way for a port.
pub(crate) const WINDOW: u32 = 64 << 10;
const HEADER: usize = 12;
const CAPACITY: usize = 64 << 10;

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// The first of each side.
    Hello {
        version: u16,
    },
    /// A part of what is too long for one call; it belongs to the next call of that session.
    Part(&'a [u8]),
    Call(&'a [u8]),
    /// The answer to a call.
    Outcome(&'a [u8]),
    Data {
        port: u8,
        bytes: &'a [u8],
    },
    /// That many more bytes of the port may come.
    Credit {
        port: u8,
        bytes: u32,
    },
    /// Nothing more comes of this port, or nothing more is wanted.
    Close {
        port: u8,
    },
    Window {
        rows: u16,
        columns: u16,
    },
    Signal(i32),
    /// The session's process has ended: its status as wait(2) has it.
    Exit(i32),
    /// How many of the container's processes the guest's kernel has killed for want of memory; before the exit of its first.
    Killed(i32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) session: u32,
    pub(crate) message: Message<'a>,
}

/// Why bytes are no frame.
pub(crate) type Broken = &'static str;

/// Takes bytes as they come and gives frames.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    bytes: Vec<u8>,
    /// Where the next frame begins.
    from: usize,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Reader { bytes: Vec::with_capacity(CAPACITY), from: 0 }
    }

    /// How many bytes it takes now: never none, once every whole frame has been taken out.
    pub(crate) fn room(&self) -> usize {
        CAPACITY - (self.bytes.len() - self.from)
    }

    /// Bytes beyond the room are not taken.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.from);
        self.from = 0;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(CAPACITY - self.bytes.len())]);
    }

    /// The next whole frame; none until more has come.
    pub(crate) fn frame(&mut self) -> Result<Option<Frame<'_>>, Broken> {
        let rest = &self.bytes[self.from..];
        let Some((header, rest)) = rest.split_at_checked(HEADER) else { return Ok(None) };
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        if length > LONGEST {
            return Err("a frame is longer than any may be");
        }
        if header[6..8] != [0, 0] {
            return Err("a frame's header is unknown");
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        self.from += HEADER + length;
        let session = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
        Ok(Some(Frame { session, message: parse(header[4], header[5], body)? }))
    }
}

fn parse(kind: u8, port: u8, body: &[u8]) -> Result<Message<'_>, Broken> {
    let is_of_port = matches!(kind, 5..=7);
    if port > if is_of_port { 2 } else { 0 } {
        return Err("a frame's port is unknown");
    }
    let two = || <[u8; 2]>::try_from(body).map_err(|_| "a frame has the wrong length");
    let four = || <[u8; 4]>::try_from(body).map_err(|_| "a frame has the wrong length");
    match kind {
        1 => Ok(Message::Hello { version: u16::from_le_bytes(two()?) }),
        2 => Ok(Message::Part(body)),
        3 => Ok(Message::Call(body)),
        4 => Ok(Message::Outcome(body)),
        5 if body.is_empty() => Err("a frame has the wrong length"),
        5 => Ok(Message::Data { port, bytes: body }),
        6 => Ok(Message::Credit { port, bytes: u32::from_le_bytes(four()?) }),
        7 if body.is_empty() => Ok(Message::Close { port }),
        8 => {
            let [a, b, c, d] = four()?;
            Ok(Message::Window { rows: u16::from_le_bytes([a, b]), columns: u16::from_le_bytes([c, d]) })
        }
        9 => Ok(Message::Signal(i32::from_le_bytes(four()?))),
        10 => Ok(Message::Exit(i32::from_le_bytes(four()?))),
        11 => Ok(Message::Killed(i32::from_le_bytes(four()?))),
        _ => Err("a frame's kind is unknown"),
    }
}

/// Appends a frame; a body longer than [`LONGEST`] is the caller's fault, and cut.
pub(crate) fn put(out: &mut Vec<u8>, session: u32, message: Message<'_>) {
    let (kind, port) = match message {
        Message::Hello { .. } => (1, 0),
        Message::Part(_) => (2, 0),
        Message::Call(_) => (3, 0),
        Message::Outcome(_) => (4, 0),
        Message::Data { port, .. } => (5, port),
        Message::Credit { port, .. } => (6, port),
        Message::Close { port } => (7, port),
        Message::Window { .. } => (8, 0),
        Message::Signal(_) => (9, 0),
        Message::Exit(_) => (10, 0),
        Message::Killed(_) => (11, 0),
    };
    let mut small = [0; 4];
    let body: &[u8] = match message {
        Message::Part(body) | Message::Call(body) | Message::Outcome(body) => body,
        Message::Data { bytes, .. } => bytes,
        Message::Close { .. } => &[],
        Message::Hello { version } => {
            small[..2].copy_from_slice(&version.to_le_bytes());
            &small[..2]
        }
        Message::Credit { bytes, .. } => {
            small = bytes.to_le_bytes();
            &small
        }
        Message::Window { rows, columns } => {
            small[..2].copy_from_slice(&rows.to_le_bytes());
            small[2..].copy_from_slice(&columns.to_le_bytes());
            &small
        }
        Message::Signal(number) | Message::Exit(number) | Message::Killed(number) => {
            small = number.to_le_bytes();
            &small
        }
    };
    let body = &body[..body.len().min(LONGEST)];
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&[kind, port, 0, 0]);
    out.extend_from_slice(&session.to_le_bytes());
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8], step: usize) -> Result<Vec<(u32, String)>, Broken> {
        let (mut reader, mut found, mut rest) = (Reader::new(), Vec::new(), bytes);
        while !rest.is_empty() {
            let taken = step.min(rest.len()).min(reader.room());
            assert!(taken > 0, "a reader that takes nothing more");
            reader.push(&rest[..taken]);
            assert!(reader.bytes.capacity() <= 2 * CAPACITY);
            rest = &rest[taken..];
            while let Some(frame) = reader.frame()? {
                found.push((frame.session, format!("{:?}", frame.message)));
            }
        }
        Ok(found)
    }

    #[test]
    fn what_is_put_comes_out_however_it_is_cut() {
        let long = vec![7; LONGEST];
        let messages = [
            Message::Hello { version: 1 },
            Message::Part(&long),
            Message::Call(b"{}"),
            Message::Outcome(b""),
            Message::Data { port: 2, bytes: b"x" },
            Message::Credit { port: 1, bytes: 65536 },
            Message::Close { port: 0 },
            Message::Window { rows: 24, columns: 80 },
            Message::Signal(15),
            Message::Exit(0x2a00),
        ];
        let mut bytes = Vec::new();
        messages.iter().enumerate().for_each(|(session, message)| put(&mut bytes, session as u32, *message));
        let wanted: Vec<_> =
            messages.iter().enumerate().map(|(session, message)| (session as u32, format!("{message:?}"))).collect();
        for step in [1, 5, 4096, 1 << 20] {
            assert_eq!(all(&bytes, step).unwrap(), wanted, "{step}");
        }
    }

    #[test]
    fn a_frame_that_is_none_is_refused() {
        assert!(all(&[0xff; 12], 12).unwrap_err().contains("longer"));
        assert!(all(&[0, 0, 0, 0, 77, 0, 0, 0, 0, 0, 0, 0], 12).unwrap_err().contains("kind"));
        assert!(all(&[0, 0, 0, 0, 7, 3, 0, 0, 0, 0, 0, 0], 12).unwrap_err().contains("port"));
        assert!(all(&[0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0], 12).unwrap_err().contains("length"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..4096), step in 1usize..600) {
            let _ = all(&bytes, step);
        }

        #[test]
        fn frames_with_bytes_changed_are_frames_or_an_error(
            at in 0usize..200, value in any::<u8>(), sizes in proptest::collection::vec(0usize..40, 1..8)
        ) {
            let mut bytes = Vec::new();
            for size in sizes {
                put(&mut bytes, 3, Message::Data { port: 1, bytes: &vec![1; size + 1] });
            }
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = all(&bytes, 17);
        }
    }
}
