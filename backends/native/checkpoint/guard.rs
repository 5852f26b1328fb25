//! A small process beside a dump: if wharf dies in the middle, nothing stands still for more than a second.
//!
//! CRIU by itself lets the processes run on when it next speaks with us and nobody is there. Until then it may have much
//! to write; the guard does not wait for it that long.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use wharf_core::{Error, Result};
use wharf_sys::namespace::{Side, clone};
use wharf_sys::{CWD, Errno, Fd, fd, libc, process, signal, socket};

/// How long CRIU may take to find out by itself that we are gone, in milliseconds.
const PATIENCE: i32 = 500;
/// How long it may take to die.
const DEATH: i32 = 200;

pub(crate) struct Guard {
    line: Option<OwnedFd>,
    pid: i32,
}

impl Guard {
    /// `freezer` is the file that thaws the container, where it shall be thawed, and the word for it.
    pub(crate) fn stand(criu: &OwnedFd, freezer: Option<(&str, &'static str)>) -> Result<Self> {
        let failed = |errno: Errno| Error::system("start the guard of a checkpoint", errno as i32);
        let (ours, theirs) = socket::pair().map_err(failed)?;
        let freezer = match freezer {
            None => None,
            Some((path, word)) => {
                let path = std::ffi::CString::new(path).map_err(|_| failed(Errno::EINVAL))?;
                Some((fd::openat(CWD, &path, libc::O_WRONLY, 0).map_err(failed)?, word))
            }
        };
        match clone(0, None).map_err(failed)? {
            Side::Child => {
                let freezer = freezer.as_ref().map(|(file, word)| (file, *word));
                let _ = watch(&theirs, criu, freezer);
                process::exit_now(0)
            }
            Side::Parent { pid, .. } => Ok(Guard { line: Some(ours), pid }),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(line) = self.line.take() {
            let _ = socket::send(&line, &[1], None);
            let _ = process::wait(self.pid, 0);
        }
    }
}

fn watch(line: &OwnedFd, criu: &OwnedFd, freezer: Option<(&OwnedFd, &str)>) -> Result<(), Errno> {
    // What ends wharf by its terminal or its session must not end us.
    process::set_session()?;
    signal::reset_all()?;
    let null = ManuallyDrop::new(fd::openat(CWD, c"/dev/null", libc::O_RDWR, 0)?);
    // Nobody's pipe or lock is to be held by us. First up, clear of the numbers that are given out then.
    let all = [line, criu, freezer.map_or(&*null, |(file, _)| file), &*null];
    // They are closed with all the others, and by nobody else.
    let all = ManuallyDrop::new(all.map(|file| fd::duplicate_from(file, 6)));
    for (number, file) in [3, 4, 5, 0, 1, 2].into_iter().zip(all.iter().chain([&all[3], &all[3]])) {
        fd::dup_to(Fd(file.as_ref().map_err(|errno| *errno)?.as_raw_fd()), number)?;
    }
    fd::close_range(6, i32::MAX)?;
    let [line, criu, file] = [Fd(3), Fd(4), Fd(5)];
    if let Ok((1, _)) = socket::receive(line, &mut [0; 1]) {
        // Done, in one way or the other.
        return Ok(());
    }
    if !process::readable(criu.as_fd(), PATIENCE)? {
        let _ = process::signal(criu, libc::SIGKILL);
        let _ = process::readable(criu.as_fd(), DEATH);
    }
    if let Some((_, word)) = freezer {
        // Written anew: who is seized while he is frozen may need it twice.
        fd::write(file, word.as_bytes())?;
    }
    Ok(())
}
