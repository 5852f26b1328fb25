//! `checkpoint`, `restore` and `checkpoints`: containers written down, made again, and kept.

mod archive;
mod disks;
mod kept;
mod restore;
mod take;

pub(super) use kept::checkpoints;
pub(super) use restore::restore;
pub(super) use take::checkpoint;
