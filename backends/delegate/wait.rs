//! Waits for a payload that this process adopted, and passes signals on to it.

use wharf_core::{Ended, Error, Kind, Record, Result};
use wharf_foreground::Relay;
use wharf_sys::{Errno, signal};

/// How the payload ended.
pub(crate) fn until_end(record: &Record, relay: Option<Relay>) -> Result<Ended> {
    let doing = || format!("wait for container {}", record.id);
    let failed = |errno: Errno| Error::system(doing(), errno as i32);
    let init = record.init.as_ref().ok_or_else(|| {
        Error::new(Kind::System, doing()).because("the record names no process, so it was not created by this one")
    })?;
    // Blocked before the first look: an end between looking and waiting leaves its SIGCHLD pending. A child of ours keeps
    // its pid until it is waited for, so this is still the same process.
    signal::block_all().map_err(failed)?;
    wharf_foreground::wait(init.pid, relay, None).map_err(failed)
}
