//! Takes, lists, clones, rolls back and drops snapshots of what keeps a root file system or a volume (ZFS).
//!
//! ```text
//! keeper(&fd)?                    which dataset keeps an open directory, and where in it; or what else does
//! preflight(&datasets, &name)?    what `take` would fail of, as far as it can be seen without doing it
//! take(&datasets, &name, &marks)? one transaction for each pool: to be called while nothing writes
//!   .identify()?                  their GUIDs, for the manifest; not needed while everything stands still
//!   .undo()                       destroys them again
//! hold / release                  nobody destroys a snapshot that is held
//! clone_to(&snapshot, ..)?        a dataset that begins as the snapshot; Dataset::mount is a mount of it without a place
//! fork(&dataset, ..)?             the same of what a dataset is now
//! rollback(&snapshot)?            refused with Cause::Newer, Cause::Clones; destroys nothing
//! ```
//!
//! A snapshot is known by its GUID: one that was destroyed and made again by the same name is another one, and nothing is
//! done to it. Every call ends within a time limit but `send` and `receive`. A [`Fault`] has a [`Cause`] to decide by, and
//! becomes an ordinary error with `?`.
#![forbid(unsafe_code)]

mod busy;
mod cause;
mod command;
mod dataset;
mod keeper;
mod mark;
mod name;
mod rights;
mod snapshot;
mod stream;

pub use busy::{Holder, holders, users};
pub use cause::{Cause, Fault, Result};
pub use command::program;
pub use dataset::{Clone, Dataset, clone_to, create, destroy, find, fork, marked, retire};
pub use keeper::{Keeper, Place, keeper, keeper_seen_by};
pub use mark::Marks;
pub use name::{SnapshotName, own_name};
pub use rights::preflight;
pub use snapshot::{
    Hold, Known, Snapshot, Taken, dependents, drop_snapshot, hold, holds, newer, release, rollback, snapshots, take,
};
pub use stream::{receive, send};
