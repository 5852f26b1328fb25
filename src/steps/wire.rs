//! How a plan crosses to the process that performs it, and how that one answers.
//!
//! ```text
//! plan:    "wharfplan" version:u8  slots:[i32; COUNT]  steps:u32  arena:u32  (lengths in bytes)  steps…  arena…
//! answer:  phase:u8                                 a phase is reached
//!          BORN pid:i32                             the rest of the plan is performed by that process
//!          LISTENING                                a seccomp listener is about to be there; a page comes with it
//!          FAILED step:u32 errno:i32 facts:u32 …    a step failed; the rest is the head of the file it was about
//! ```

use crate::step::{Bytes, List, Slot, Step, Text};
use std::ffi::CStr;

/// Version of the form above.
const WIRE_VERSION: u8 = 2;
const MAGIC: &[u8; 9] = b"wharfplan";
const HEADER: usize = MAGIC.len() + 1 + 4 * Slot::COUNT + 8;

/// How far an init has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Mounts are made; the root is not yet entered.
    Mounted = 1,
    /// Everything but `start` is done.
    Ready = 2,
}

/// First byte of an answer that tells the pid of a process that was born: five bytes.
pub const BORN: u8 = 254;
/// An answer of one byte, with the descriptor of a page: see `facts::listener_page`.
pub const LISTENING: u8 = 253;
/// The first message of an init that is given its plan, with all that belongs to it, over its standard input.
pub const HELLO: u8 = 252;
/// The one argument of such an init.
pub const CARRIED: &[u8] = b"carried";
/// First byte of an answer that tells a failure.
const FAILED: u8 = 255;

/// A step that failed, as the init tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub step: u32,
    pub errno: i32,
    /// What the step says beside the errno; its own matter.
    pub facts: u32,
    /// The first bytes of the file that it was about.
    pub head: Vec<u8>,
}

impl Failure {
    /// Longest message.
    pub const MAX: usize = 13 + 2048;

    /// Lays the fixed part out; the head may follow it.
    pub fn header(step: u32, errno: i32, facts: u32) -> [u8; 13] {
        let mut out = [FAILED; 13];
        out[1..5].copy_from_slice(&step.to_le_bytes());
        out[5..9].copy_from_slice(&errno.to_le_bytes());
        out[9..13].copy_from_slice(&facts.to_le_bytes());
        out
    }

    pub fn read(message: &[u8]) -> Option<Failure> {
        let (first, rest) = message.split_first()?;
        let word = |index: usize| rest.get(4 * index..4 * index + 4)?.try_into().ok().map(u32::from_le_bytes);
        if *first != FAILED {
            return None;
        }
        Some(Failure { step: word(0)?, errno: word(1)? as i32, facts: word(2)?, head: rest.get(12..)?.to_vec() })
    }
}

/// Writes a plan down; `slots` are descriptor numbers, -1 where a slot is empty.
pub fn write(steps: &[Step], arena: &[u8], slots: &[i32; Slot::COUNT]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + 32 * steps.len() + arena.len());
    out.extend_from_slice(MAGIC);
    out.push(WIRE_VERSION);
    for number in slots {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&[0; 8]);
    for step in steps {
        step.put(&mut out);
    }
    let length = (out.len() - HEADER) as u32;
    out[HEADER - 8..HEADER - 4].copy_from_slice(&length.to_le_bytes());
    out[HEADER - 4..HEADER].copy_from_slice(&(arena.len() as u32).to_le_bytes());
    out.extend_from_slice(arena);
    out
}

/// A written plan, as the init reads it: nothing is copied.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    slots: &'a [u8],
    steps: &'a [u8],
    arena: &'a [u8],
}

impl<'a> View<'a> {
    /// `None` for anything that is not a plan of this version.
    pub fn read(wire: &'a [u8]) -> Option<Self> {
        let body = wire.strip_prefix(MAGIC)?.strip_prefix(&[WIRE_VERSION])?;
        let (slots, body) = body.split_at_checked(4 * Slot::COUNT)?;
        let (lengths, body) = body.split_at_checked(8)?;
        let length = u32::from_le_bytes(lengths[..4].try_into().ok()?) as usize;
        let (steps, arena) = body.split_at_checked(length)?;
        let length = u32::from_le_bytes(lengths[4..].try_into().ok()?) as usize;
        (arena.len() == length && !arena.is_empty()).then_some(View { slots, steps, arena })
    }

    pub fn slots(&self) -> [i32; Slot::COUNT] {
        let mut slots = [-1; Slot::COUNT];
        for (slot, bytes) in slots.iter_mut().zip(self.slots.chunks_exact(4)) {
            *slot = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        slots
    }

    pub fn steps(&self) -> &'a [u8] {
        self.steps
    }

    pub fn text(&self, text: Text) -> &'a CStr {
        self.arena.get(text.0 as usize..).and_then(|from| CStr::from_bytes_until_nul(from).ok()).unwrap_or(c"")
    }

    pub fn bytes(&self, bytes: Bytes) -> &'a [u8] {
        let from = bytes.at as usize;
        self.arena.get(from..from.saturating_add(bytes.length as usize)).unwrap_or(&[])
    }

    pub fn list(&self, list: List) -> impl Iterator<Item = &'a CStr> + use<'a> {
        let mut from = self.arena.get(list.at as usize..).unwrap_or(&[]);
        (0..list.count).map_while(move |_| {
            let text = CStr::from_bytes_until_nul(from).ok()?;
            from = &from[text.count_bytes() + 1..];
            Some(text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_crosses_unchanged() {
        let arena = b"\0sh\0\0-c\0h\0st";
        let arguments = List { at: 1, count: 3 };
        let name = Bytes { at: 8, length: 4 };
        let step = Step::Exec { arguments, environment: List { at: 0, count: 0 } };
        let mut slots = [-1; Slot::COUNT];
        slots[3] = 17;
        let wire = write(&[step, Step::Hostname { name }], arena, &slots);
        let view = View::read(&wire).unwrap();
        assert_eq!(view.slots(), slots);
        let mut steps = view.steps();
        assert_eq!(Step::take(&mut steps), Some(step));
        assert_eq!(view.list(arguments).collect::<Vec<_>>(), [c"sh", c"", c"-c"]);
        assert_eq!(view.text(Text(1)), c"sh");
        assert_eq!(view.bytes(name), b"h\0st");
        assert!(View::read(&wire[..wire.len() - 1]).is_none());
    }

    #[test]
    fn a_failure_crosses_unchanged() {
        let mut message = Failure::header(7, 13, 2).to_vec();
        message.extend_from_slice(b"#!/bin/x");
        let failure = Failure::read(&message).unwrap();
        assert_eq!((failure.step, failure.errno, failure.facts), (7, 13, 2));
        assert_eq!(failure.head, b"#!/bin/x");
        assert_eq!(Failure::read(&[1]), None);
    }
}
