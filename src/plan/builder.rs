//! The plan as a value, and the arena that its strings are in.

use wharf_core::{Error, Result};
use wharf_steps::{Bytes, List, Phase, Slot, Step, Text};

/// An ordered list of steps. The parent keeps it to explain the step that an init says has failed.
#[derive(Debug)]
pub struct Plan {
    pub(crate) arena: Vec<u8>,
    pub(crate) steps: Vec<Step>,
    /// Where in config.json each step was asked for; empty where it was not.
    pub(crate) pointers: Vec<String>,
    /// Index of the first step after the wait for `start`.
    pub(crate) after_start: usize,
}

/// Collects steps.
#[derive(Debug)]
pub struct Builder {
    plan: Plan,
    next_slot: u8,
}

impl Builder {
    pub fn new() -> Self {
        let plan = Plan {
            // Offset 0 is the empty string.
            arena: Vec::with_capacity(8192),
            steps: Vec::with_capacity(160),
            pointers: Vec::with_capacity(160),
            after_start: 0,
        };
        let mut builder = Builder { plan, next_slot: Slot::FREE };
        builder.plan.arena.push(0);
        builder
    }

    /// A step that config.json asks for at `pointer`.
    pub fn step(&mut self, step: Step, pointer: impl Into<String>) {
        self.plan.steps.push(step);
        self.plan.pointers.push(pointer.into());
    }

    /// Puts a string into the arena. A NUL byte inside cannot be handed to the kernel and is refused.
    pub fn text(&mut self, text: impl AsRef<[u8]>, pointer: &str) -> Result<Text> {
        let text = text.as_ref();
        if text.is_empty() {
            return Ok(Text(0));
        }
        if text.contains(&0) {
            return Err(Error::invalid("a string").because("it holds a NUL byte").at(pointer));
        }
        let at = self.plan.arena.len() as u32;
        self.plan.arena.extend_from_slice(text);
        self.plan.arena.push(0);
        Ok(Text(at))
    }

    /// Puts consecutive strings into the arena; `pointer` gets the index of a bad one appended.
    pub fn list<T: AsRef<[u8]>>(&mut self, items: impl IntoIterator<Item = T>, pointer: &str) -> Result<List> {
        let at = self.plan.arena.len() as u32;
        let mut count = 0;
        for item in items {
            let item = item.as_ref();
            if item.contains(&0) {
                let at = format!("{pointer}/{count}");
                return Err(Error::invalid("a string").because("it holds a NUL byte").at(at));
            }
            self.plan.arena.extend_from_slice(item);
            self.plan.arena.push(0);
            count += 1;
        }
        Ok(List { at, count })
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> Bytes {
        let at = self.plan.arena.len() as u32;
        self.plan.arena.extend_from_slice(bytes);
        Bytes { at, length: bytes.len() as u32 }
    }

    /// A slot that nobody has yet.
    pub fn slot(&mut self, pointer: &str) -> Result<Slot> {
        if self.next_slot >= Slot::JOINED {
            return Err(Error::unsupported("more open descriptors than a plan has room for").at(pointer));
        }
        self.next_slot += 1;
        Ok(Slot(self.next_slot - 1))
    }

    /// The same for what could do without one; some are left for what cannot.
    pub fn spare_slot(&mut self) -> Option<Slot> {
        const KEPT: u8 = 8;
        if self.next_slot + KEPT >= Slot::JOINED { None } else { self.slot("").ok() }
    }

    /// Tells the parent.
    pub fn report(&mut self, phase: Phase) {
        self.step(Step::Report { phase: phase as u8 }, "");
    }

    /// Tells the parent, and goes on when it says so.
    pub fn sync(&mut self, phase: Phase) {
        self.report(phase);
        self.step(Step::Await {}, "");
    }

    pub fn wait_start(&mut self) {
        self.step(Step::WaitStart {}, "");
        self.plan.after_start = self.plan.steps.len();
    }

    pub fn finish(self) -> Plan {
        self.plan
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

/// A message stays readable whatever a spec holds.
fn shortened(text: &str) -> String {
    const MOST: usize = 256;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl Plan {
    /// The form in which the init reads it.
    pub fn write(&self, slots: &[i32; Slot::COUNT]) -> Vec<u8> {
        wharf_steps::write(&self.steps, &self.arena, slots)
    }

    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The seccomp filter that is loaded, of eight bytes an instruction, and its flags.
    pub fn seccomp(&self) -> Option<(&[u8], u32)> {
        self.steps.iter().find_map(|step| match step {
            Step::Seccomp { program, flags } => Some((self.bytes(*program), *flags)),
            _ => None,
        })
    }

    fn bytes(&self, bytes: Bytes) -> &[u8] {
        let from = bytes.at as usize;
        &self.arena[from..from + bytes.length as usize]
    }

    /// The personality that is set.
    pub fn persona(&self) -> Option<u64> {
        self.steps.iter().find_map(|step| match step {
            Step::Personality { persona } => Some(*persona),
            _ => None,
        })
    }

    /// The memory policy that is set: mode with flags, nodes.
    pub fn memory_policy(&self) -> Option<(u32, &[u8])> {
        self.steps.iter().find_map(|step| match step {
            Step::MemoryPolicy { mode, nodes } => Some((*mode, self.bytes(*nodes))),
            _ => None,
        })
    }

    /// The config pointer of step `index`.
    pub fn pointer(&self, index: usize) -> &str {
        self.pointers.get(index).map_or("", String::as_str)
    }

    /// Index of the first step that runs after `start`.
    pub fn after_start(&self) -> usize {
        self.after_start
    }

    /// A string of the arena, for people.
    pub fn text(&self, text: Text) -> String {
        let from = &self.arena[text.0 as usize..];
        let end = from.iter().position(|byte| *byte == 0).unwrap_or(from.len());
        shortened(&String::from_utf8_lossy(&from[..end]))
    }

    /// The strings of a list, for people.
    pub fn list(&self, list: List) -> Vec<String> {
        let mut at = list.at;
        (0..list.count)
            .map(|_| {
                let text = self.text(Text(at));
                let from = &self.arena[at as usize..];
                at += from.iter().position(|byte| *byte == 0).unwrap_or(0) as u32 + 1;
                text
            })
            .collect()
    }
}
