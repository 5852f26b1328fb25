//! The foreground of `run`: waits for the payload's end, and passes on what it tells a service manager meanwhile.

use crate::notify::Relay;
use std::os::fd::BorrowedFd;
use wharf_core::{Ended, Error, Record, Result};
use wharf_foreground::Beside;
use wharf_sys::{Errno, process};

/// We are the service's main process: signals come to us, and our exit code is the payload's.
impl Beside for Relay {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor()
    }

    fn attend(&self) -> Result<(), Errno> {
        self.pass_on(process::pid()).map(drop)
    }

    fn last(&self) -> Result<(), Errno> {
        self.last_words(process::pid())
    }
}

pub(crate) fn wait(record: &Record, terminal: Option<wharf_foreground::Relay>, notify: Option<Relay>) -> Result<Ended> {
    let failed = |errno: Errno| Error::system(format!("wait for container {}", record.id), errno as i32);
    let beside = notify.as_ref().map(|relay| relay as &dyn Beside);
    wharf_foreground::wait(record.engine_pid, terminal, beside).map_err(failed)
}
