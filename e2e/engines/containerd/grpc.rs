//! As much of a gRPC client as a test of CRI needs: one call a connection, over a Unix socket (RFC 9113, RFC 7541, and
//! PROTOCOL-HTTP2.md of gRPC). A library for it would bring sixty crates and half a minute of building for this alone.
//! Messages are written and read by their field numbers (protobuf.dev/programming-guides/encoding).

use harness::{Stop, limit};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Frame types and flags of HTTP/2.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// The only stream of a connection of ours.
const STREAM: u32 = 1;

/// Calls `/service/method` with a message: the answer's message. None where the server says an error instead, which
/// stands in its log: HTTP/2 compresses it.
pub(super) fn call(socket: &Path, method: &str, message: &Message) -> Result<Option<Fields>, Stop> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(limit(60)))?;
    let mut request = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut request, SETTINGS, 0, 0, &[]);
    frame(&mut request, HEADERS, END_HEADERS, STREAM, &headers(method));
    // Not compressed, and its length.
    let mut body = vec![0];
    body.extend((message.0.len() as u32).to_be_bytes());
    body.extend(&message.0);
    frame(&mut request, DATA, END_STREAM, STREAM, &body);
    stream.write_all(&request)?;
    let mut answer = Vec::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload)?;
        let (kind, flags) = (head[3], head[4]);
        match kind {
            SETTINGS | PING if flags & ACK == 0 => {
                let mut reply = Vec::new();
                frame(&mut reply, kind, ACK, 0, if kind == PING { &payload } else { &[] });
                stream.write_all(&reply)?;
            }
            DATA => answer.extend(payload),
            RST_STREAM | GOAWAY => return Err(Stop::failed(format!("{method}: the connection was reset"))),
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            return Ok((answer.len() >= 5).then(|| Fields(answer.split_off(5))));
        }
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

/// Each literally: never indexed, not compressed. All are shorter than 127 bytes, so their lengths are one byte.
fn headers(method: &str) -> Vec<u8> {
    let all = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let literal = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    all.iter().flat_map(|(name, value)| [vec![0], literal(name), literal(value)].concat()).collect()
}

/// A message of Protocol Buffers that is being written.
#[derive(Clone, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    pub(super) fn number(mut self, field: u64, value: i64) -> Self {
        self.varint(field << 3);
        self.varint(value as u64);
        self
    }

    pub(super) fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    pub(super) fn message(self, field: u64, message: &Message) -> Self {
        self.bytes(field, &message.0)
    }

    fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    /// Seven bits a byte, the lowest first; the eighth says that more follow.
    fn varint(&mut self, mut value: u64) {
        while value > 127 {
            self.0.push(value as u8 | 128);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A message that was read.
pub(super) struct Fields(Vec<u8>);

impl Fields {
    /// 0 where it is not there, as the encoding says.
    pub(super) fn number(&self, field: u64) -> Result<i64, Stop> {
        Ok(self.find(field)?.map_or(0, |found| found.0 as i64))
    }

    pub(super) fn text(&self, field: u64) -> Result<String, Stop> {
        let bytes = self.find(field)?.map(|found| found.1).unwrap_or_default();
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    pub(super) fn message(&self, field: u64) -> Result<Fields, Stop> {
        Ok(Fields(self.find(field)?.map(|found| found.1.to_vec()).unwrap_or_default()))
    }

    /// A field's number or its bytes.
    fn find(&self, field: u64) -> Result<Option<(u64, &[u8])>, Stop> {
        let mut rest = self.0.as_slice();
        let torn = || Stop::failed("a message that ends too early");
        while !rest.is_empty() {
            let key = varint(&mut rest).ok_or_else(torn)?;
            let value = match key & 7 {
                0 => (varint(&mut rest).ok_or_else(torn)?, &[][..]),
                kind => {
                    let length = match kind {
                        1 => 8,
                        5 => 4,
                        _ => varint(&mut rest).ok_or_else(torn)? as usize,
                    };
                    let (bytes, after) = rest.split_at_checked(length).ok_or_else(torn)?;
                    rest = after;
                    (0, bytes)
                }
            };
            if key >> 3 == field {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 127) << (7 * place);
        if byte & 128 == 0 {
            return Some(value);
        }
    }
    None
}
