//! The host's side: the stand-in that owns the machine, and what verbs say to it.

pub(crate) mod control;
mod job;
mod monitor;
mod qemu;
mod seclude;
mod stage;

pub use job::NAME;
pub(crate) use job::{Binding, Job, Launch};
pub use monitor::main;
pub(crate) use seclude::seclude;
