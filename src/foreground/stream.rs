//! Our own standard input and output, read and written without ever waiting. Their open files are shared with whoever
//! called us, so their mode is left alone.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use wharf_sys::procfs::Procfs;
use wharf_sys::terminal::{PTMX, Settings};
use wharf_sys::{Errno, Fd, Result, fd, libc};

pub(crate) struct Stream {
    file: File,
    pub(crate) is_terminal: bool,
}

enum File {
    /// An open file of our own.
    Own(OwnedFd),
    /// The caller's: a pipe or socket.
    Shared(Fd),
    /// The caller's, which never keeps anybody waiting for long, or has no other way.
    Plain(Fd),
}

impl Stream {
    pub(crate) fn standard(number: i32) -> Self {
        let shared = Fd(number);
        if Settings::of(shared).is_ok() {
            let file = reopen(shared).map_or(File::Plain(shared), File::Own);
            return Stream { file, is_terminal: true };
        }
        let kind = fd::stat(shared).map_or(0, |about| about.st_mode & libc::S_IFMT);
        let waits = kind == libc::S_IFIFO || kind == libc::S_IFSOCK;
        Stream { file: if waits { File::Shared(shared) } else { File::Plain(shared) }, is_terminal: false }
    }

    pub(crate) fn number(&self) -> i32 {
        match &self.file {
            File::Own(file) => file.as_raw_fd(),
            File::Shared(file) | File::Plain(file) => file.0,
        }
    }

    pub(crate) fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        match &self.file {
            File::Own(file) => fd::read(file, buffer),
            File::Plain(file) => fd::read(*file, buffer),
            File::Shared(file) => match fd::read_now(*file, buffer) {
                // An older kernel's pipe: what poll(2) has announced is there.
                Err(Errno::EOPNOTSUPP) => fd::read(*file, buffer),
                other => other,
            },
        }
    }

    pub(crate) fn write(&self, data: &[u8]) -> Result<usize> {
        match &self.file {
            File::Own(file) => fd::write(file, data),
            File::Plain(file) => fd::write(*file, data),
            File::Shared(file) => match fd::write_now(*file, data) {
                Err(Errno::EOPNOTSUPP) => fd::write(*file, data),
                other => other,
            },
        }
    }
}

/// The same terminal as an open file of our own, which does not wait.
fn reopen(shared: Fd) -> Result<OwnedFd> {
    let before = fd::stat(shared)?;
    if before.st_rdev == PTMX {
        // To open one of these makes another terminal.
        return Err(Errno::ENXIO);
    }
    let link = std::ffi::CString::new(format!("self/fd/{}", shared.0)).map_err(|_| Errno::EINVAL)?;
    let file = Procfs::open()?.open_link(&link, libc::O_RDWR | libc::O_NONBLOCK | libc::O_NOCTTY)?;
    let after = fd::stat(file.as_fd())?;
    let same = (before.st_dev, before.st_ino, before.st_rdev) == (after.st_dev, after.st_ino, after.st_rdev);
    if same { Ok(file) } else { Err(Errno::ENXIO) }
}
