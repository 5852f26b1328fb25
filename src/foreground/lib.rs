//! The foreground of a command that waits for a payload: signals are passed on, and the payload's terminal is relayed to
//! our own. It knows a process and the master end of a terminal, and no backend.
#![forbid(unsafe_code)]

mod buffer;
mod host;
mod relay;
mod stream;
mod wait;

pub use host::HostTerminal;
pub use relay::Relay;
pub use wait::{Beside, wait};
