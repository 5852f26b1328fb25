//! Waits for a payload that this process adopted, and passes signals on to it.

use wharf_core::{Error, Kind, Record, Result};
use wharf_sys::libc::{SIGCHLD, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, WNOHANG};
use wharf_sys::{Errno, process, signal};

/// The payload's exit code, 128 + n for signal n.
pub(crate) fn until_end(record: &Record) -> Result<i32> {
    let doing = || format!("wait for container {}", record.id);
    let failed = |errno: Errno| Error::system(doing(), errno as i32);
    let init = record.init.as_ref().ok_or_else(|| {
        Error::new(Kind::System, doing()).because("the record names no process, so it was not created by this one")
    })?;
    // Blocked before the first look: an end between looking and waiting leaves its SIGCHLD pending.
    signal::block_all().map_err(failed)?;
    // A child of ours keeps its pid until it is waited for, so this is still the same process.
    let pidfd = process::pidfd(init.pid).map_err(failed)?;
    loop {
        if let Some((_, ended)) = process::wait(init.pid, WNOHANG).map_err(failed)? {
            return Ok(ended.code());
        }
        match signal::next().map_err(failed)? {
            // Stopping is for our own terminal, and nobody sends SIGURG with an intention.
            SIGCHLD | SIGURG | SIGTSTP | SIGTTIN | SIGTTOU => {}
            other => match process::signal(&pidfd, other) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => return Err(failed(errno)),
            },
        }
    }
}
