//! Says to the kernel exactly what it is told, and returns its errno. All `unsafe` code of wharf lives here.

pub mod apparmor;
pub mod arena;
pub mod bpf;
pub mod cgroup_fs;
pub mod clock;
pub mod credentials;
pub mod diag;
pub mod dir;
pub mod event;
pub mod fd;
pub mod kernel;
pub mod lot;
pub mod lsm;
pub mod machine;
pub mod meter;
pub mod mount;
pub mod namespace;
pub mod network;
pub mod notification;
pub mod parcel;
pub mod place;
pub mod presence;
pub mod probe;
pub mod process;
pub mod procfs;
pub mod program;
pub mod shared;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod terminal;
pub mod tree;
mod walk;

pub use fd::{CWD, Fd};
pub use libc;
pub use nix::errno::Errno;

pub type Result<T> = std::result::Result<T, Errno>;

/// The result of a raw call: -1 means errno holds the reason.
fn check(result: libc::c_long) -> Result<libc::c_long> {
    if result == -1 { Err(Errno::last()) } else { Ok(result) }
}
