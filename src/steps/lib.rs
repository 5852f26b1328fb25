//! The closed list of what an init can be told to do, and the form in which orders and answers cross to it.
#![forbid(unsafe_code)]

pub mod facts;
mod step;
mod wire;

pub use step::{Bytes, List, Slot, Step, Text};
pub use wire::{BORN, CARRIED, Failure, HELLO, LISTENING, Phase, View, write};
