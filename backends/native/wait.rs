//! The foreground of `run`: passes signals on and waits for the payload's end.

use wharf_core::{Error, Record, Result};
use wharf_sys::{Errno, libc, process, signal};

/// The signals were blocked before the payload was born, so none is lost.
pub(crate) fn wait(record: &Record) -> Result<i32> {
    let failed = |errno: Errno| Error::system(format!("wait for container {}", record.id), errno as i32);
    let Some(init) = &record.init else { return Err(failed(Errno::ECHILD)) };
    let pidfd = match process::pidfd(init.pid) {
        Err(errno) => return Err(failed(errno)),
        Ok(pidfd) => pidfd,
    };
    loop {
        // Orphans of a container without its own pid namespace may be ours too.
        while let Some((pid, ended)) = match process::wait(-1, libc::WNOHANG) {
            Err(Errno::ECHILD) => return Err(failed(Errno::ECHILD)),
            other => other.map_err(failed)?,
        } {
            if pid == init.pid {
                return Ok(ended.code());
            }
        }
        match signal::next().map_err(failed)? {
            libc::SIGCHLD | libc::SIGURG => {}
            // Stopping and continuing us is for our own terminal.
            libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => {}
            number => match process::signal(&pidfd, number) {
                Err(Errno::ESRCH) => {}
                other => other.map_err(failed)?,
            },
        }
    }
}
