//! A small process beside CRIU: if wharf dies in the middle, nothing of a dump stands still for more than a second, and the
//! host's cgroup mount has its options back.
//!
//! CRIU by itself lets the processes of a dump run on, and ends those of a restore, when it next speaks with us and nobody
//! is there. In a dump it may have much to write until then; the guard does not wait for it that long.

use super::view::View;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use wharf_core::{Error, Result};
use wharf_sys::namespace::{Side, clone};
use wharf_sys::{CWD, Errno, Fd, fd, libc, process, signal, socket};

/// How long CRIU may take to find out by itself that we are gone, in milliseconds.
const PATIENCE: i32 = 500;
/// How long it may take to die.
const DEATH: i32 = 200;

/// What is to be done when wharf is no more.
pub(crate) enum Task<'a> {
    /// CRIU is killed when it takes too long, and the container thawed: by which file, and the word for it.
    Dump(Option<(&'a str, &'static str)>),
    /// CRIU is waited for.
    Restore,
}

pub(crate) struct Guard {
    line: Option<OwnedFd>,
    pid: i32,
}

impl Guard {
    pub(crate) fn stand(criu: &OwnedFd, task: Task<'_>, view: Option<&View>) -> Result<Self> {
        let failed = |errno: Errno| Error::system("start the guard of a checkpoint", errno as i32);
        let (patience, freezer) = match task {
            Task::Dump(freezer) => (Some(PATIENCE), freezer),
            Task::Restore => (None, None),
        };
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
                if let Ok(true) = watch(&theirs, criu, patience, freezer)
                    && let Some(view) = view
                {
                    view.mend();
                }
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

/// Whether wharf is no more.
fn watch(
    line: &OwnedFd,
    criu: &OwnedFd,
    patience: Option<i32>,
    freezer: Option<(&OwnedFd, &str)>,
) -> Result<bool, Errno> {
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
        return Ok(false);
    }
    let Some(patience) = patience else {
        process::readable(criu.as_fd(), -1)?;
        return Ok(true);
    };
    if !process::readable(criu.as_fd(), patience)? {
        let _ = process::signal(criu, libc::SIGKILL);
        let _ = process::readable(criu.as_fd(), DEATH);
    }
    if let Some((_, word)) = freezer {
        // Written anew: who is seized while he is frozen may need it twice.
        fd::write(file, word.as_bytes())?;
    }
    Ok(true)
}
