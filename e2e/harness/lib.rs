//! What every end-to-end test stands on: a host to run on, bundles, a runtime to call, and a check that nothing is left.
//!
//! | environment | meaning |
//! |---|---|
//! | `WHARF_RUNTIME` | the runtime under test, any with runc's command line; default: wharf |
//! | `WHARF_BIN` | wharf's binary; default: the newest in the target directory |
//! | `WHARF_PAYLOAD` | the payload program; default: the newest in the target directory |
//! | `WHARF_PCT` | the double of Proxmox's tools; default: the newest in the target directory |
//! | `WHARF_E2E_FEATURE` | the one feature to run, by its name |
//! | `WHARF_E2E_WITHOUT` | system calls that the runtime under test does not have: words of e2e/payload/without.rs |
//! | `WHARF_PATIENCE` | factor on every time limit, for slow machines |
#![forbid(unsafe_code)]

mod bundle;
mod container;
mod desk;
mod find;
mod host;
mod leaks;
mod mounted;
mod node;
mod receiver;
mod report;
mod runtime;
mod screen;
mod trial;

pub use bundle::Bundle;
pub use container::Container;
pub use desk::{Desk, Seated};
pub use host::Host;
pub use leaks::Inventory;
pub use mounted::Mounted;
pub use node::Node;
pub use receiver::{Received, Receiver};
pub use report::{Ran, Report};
pub use runtime::{Finished, Running, Runtime, limit, wait_until};
pub use screen::{ConsoleSocket, Screen};
pub use serde_json::{Value, json};
pub use trial::{Feature, Outcome, Stop, due, main};

/// Fails the trial with a message: what was expected and what was seen.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::Stop::failed(format!($($message)+)));
        }
    };
}

/// Fails the trial unless both sides are equal.
#[macro_export]
macro_rules! ensure_eq {
    ($seen:expr, $expected:expr) => {
        $crate::ensure_eq!($seen, $expected, "{}", stringify!($seen))
    };
    ($seen:expr, $expected:expr, $($what:tt)+) => {
        match (&$seen, &$expected) {
            (seen, expected) => {
                if *seen != *expected {
                    let what = format!($($what)+);
                    return Err($crate::Stop::failed(format!("{what}: expected {expected:?}, seen {seen:?}")));
                }
            }
        }
    };
}
