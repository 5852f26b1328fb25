//! Watches a payload from beside it and writes down how it ended.
//!
//! ```text
//! state directory
//!   witness.lock   locked by the witness as long as it lives: who finds it free knows that nobody watches any more
//!   readers.lock   locked by each `wait`, so that a delete leaves it the time to read
//!   started        made by `start`: the moment
//!   executed       made by `exec`: the moment of the last one
//!   signal.N       who made wharf send signal N, and when; written before that is done
//!   exit.json      written once, by the witness
//! ```
#![forbid(unsafe_code)]

mod ending;
pub mod identity;
mod notes;
pub mod stand_in;
mod watch;
mod watcher;

pub use ending::Ending;
pub use notes::{activity, note_exec, note_signal, note_start, take_back};
pub use watch::{Watch, all_told, amend, exit, glimpse, last_word, reader};
pub use watcher::{NAME, Watcher, main};
