//! Puts limits on a cgroup, reads its counters, freezes and kills it: v1, v2 and both at once, through
//! cgroupfs and through systemd.
#![forbid(unsafe_code)]

mod account;
mod apply;
mod blockio;
mod cpu;
mod create;
mod device_rules;
mod devices;
mod filter;
mod glance;
mod handle;
mod join;
mod layout;
mod memory;
mod oom;
mod others;
mod parse;
mod path;
#[cfg(test)]
mod samples;
mod scope;
mod seat;
mod statistics;
mod systemd;
mod update;
mod wanted;

pub use account::Account;
pub use create::Cgroup;
pub use glance::Glance;
pub use handle::{Handle, is_frozen, must_thaw_to_kill};
pub use join::Joint;
pub use layout::{Hierarchy, Layout, Version};
pub use oom::{Killed, OomWatch};
pub use statistics::{Detail, Meter};
pub use update::Update;
pub use wanted::{Missing, Wanted, Write};
