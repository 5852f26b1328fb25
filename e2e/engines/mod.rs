//! Real engines with wharf as their runtime, and with its peers: what is seen of each case is compared.
//!
//! | environment | meaning |
//! |---|---|
//! | `WHARF_E2E_FULL=1` | every case; without it, and without a filter, one in four, chosen by the seed |
//! | `WHARF_E2E_SEED=N` | which ones |
//! | `WHARF_E2E_PEERS=no` | leaves the peers alone |

pub(crate) mod case;
pub(crate) mod common;
pub(crate) mod containerd;
pub(crate) mod docker;
pub(crate) mod exit_record;
mod image;
pub(crate) mod podman;
pub(crate) mod routing;
mod table;

pub(crate) use case::{Case, Seen, feature};
pub(crate) use common::cgroup_value;
