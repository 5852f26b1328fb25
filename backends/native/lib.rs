//! The native backend: namespaces and cgroups of this host, by wharf's own hand.
#![forbid(unsafe_code)]

pub use wharf_host::{CRIU_PLACES, HELPER_PLACES, criu_version};

use wharf_host::Host;

/// Name of the backend in records and on the command line.
pub const NAME: &str = "native";

/// The first process is born of wharf itself.
pub fn native() -> Host {
    Host::new(NAME)
}
