//! A container's memory, written down and brought back by CRIU.
//!
//! ```text
//! wharf                                   criu swrk                  the container
//! judged, images' directory open
//! guard --------------------------------> (waits on both)
//! request ------------------------------> freezes, dumps             stands still
//! <----------------------- "post-dump" -- all is written
//! snapshots, manifest (the caller's)
//! success ------------------------------> ends it, or thaws          ended, or runs on
//! no success, or nobody there ----------> takes all back             runs on
//! ```

mod criu;
mod descriptors;
mod dump;
mod explain;
mod guard;
mod mounts;
mod options;
mod preflight;
mod restore;
mod restored;
mod sockets;
mod view;
mod wire;

pub use criu::PLACES;
pub(crate) use dump::checkpoint;
pub(crate) use preflight::obstacles;
pub(crate) use restore::Restoring;

use wharf_core::Result;

/// The version of the CRIU that would be used, for `doctor`; its error where there is none.
pub fn version() -> Result<String> {
    criu::Program::find(None)?.version().map(|version| version.to_string())
}
