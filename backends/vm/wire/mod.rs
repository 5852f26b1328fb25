//! The channel between the stand-in on the host and the first process of the guest: one stream of bytes each way.
//!
//! A frame is a header of 12 bytes and at most [`LONGEST`] bytes after it, all numbers little endian:
//!
//! ```text
//! length u32 | kind u8 | port u8 | 0 u16 | session u32 | length bytes
//! ```
//!
//! Session 0 is the container's own process, others are those of `exec`; a call has a number of its own. Ports are the
//! standard descriptors 0, 1 and 2. Who sends bytes of a port has a credit for them: [`WINDOW`] at first, more when the
//! other side says so. So neither side can be made to keep more than [`WINDOW`] bytes for a port.

mod flow;
mod frame;
mod words;

pub(crate) use flow::{FULL, File, Pump, Sink, Source};
pub(crate) use frame::{Frame, LONGEST, Message, Reader, put};
pub(crate) use words::{Failure, Outcome, Parts, Verb, read_outcome, written};

/// Version of the frames and of what is in them. Both sides come from one binary, so nothing else is understood.
pub(crate) const VERSION: u16 = 1;

/// Name of the port by which the guest finds it.
pub(crate) const PORT: &str = "wharf.0";

/// Most processes of `exec` at once, and calls.
pub(crate) const MOST_SESSIONS: usize = 256;

/// Most bytes of all parts of one call.
pub(crate) const MOST_PARTS: usize = 32 << 20;
