//! The witness itself: what it opens while the payload lives, and what it writes when that is over.

use crate::notes;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use wharf_cgroup::Account;
use wharf_core::{CgroupPaths, EXIT_FILE, EXIT_VERSION, Ended, Error, Exit, Result, Usage, WitnessKind, time};
use wharf_sys::dir::{self, Lock};
use wharf_sys::{Errno, fd, libc};

const EXIT_NEW: &str = "exit.json.new";
const LOCK: &str = "witness.lock";
const READERS: &str = "readers.lock";
/// How long a witness may take after the end.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long those may take who read what it says.
const READING: Duration = Duration::from_secs(1);

/// A witness at work.
pub struct Watch {
    kind: WitnessKind,
    pub(crate) dir: OwnedFd,
    account: Option<Account>,
    /// Held for as long as this process watches.
    _lock: OwnedFd,
}

fn failed(errno: Errno) -> Error {
    Error::system("watch the container", errno as i32)
}

impl Watch {
    /// To be opened before the payload is let go. `dir` is the container's state directory.
    pub fn open(dir: impl AsFd, kind: WitnessKind, cgroup: &CgroupPaths) -> Result<Self> {
        let lock = dir::lock_file_at(dir.as_fd(), LOCK).map_err(failed)?;
        dir::lock(lock.as_fd(), Lock::Exclusive).map_err(failed)?;
        // Anew: a copy of the descriptor would hold the container's lock as long as we live.
        let dir = fd::openat(&dir, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0).map_err(failed)?;
        Ok(Watch { kind, dir, account: Account::open(cgroup)?, _lock: lock })
    }

    /// The payload is over: what it has used, while its cgroup is still there.
    pub fn usage(&mut self) -> Usage {
        self.account.take().map(Account::close).unwrap_or_default()
    }

    /// Writes it all down. A container that has been deleted since is nobody's question.
    pub fn close(self, ended: Ended, finished: String, usage: Usage) -> Result<()> {
        let exit = Exit {
            version: EXIT_VERSION,
            witness: self.kind,
            ended,
            started: notes::started(&self.dir),
            sent: notes::sent(&self.dir, ended, &finished),
            finished: Some(finished),
            cause: None,
            usage,
        };
        write(self.dir.as_fd(), &exit)
    }

    /// The same at once, with the reason in words where there is one that no status tells.
    pub fn finish_because(mut self, ended: Ended, cause: Option<String>) -> Result<()> {
        let finished = time::now();
        let usage = self.usage();
        let (started, sent) = (notes::started(&self.dir), notes::sent(&self.dir, ended, &finished));
        let finished = Some(finished);
        write(
            self.dir.as_fd(),
            &Exit { version: EXIT_VERSION, witness: self.kind, ended, started, sent, finished, cause, usage },
        )
    }

    /// The same at once, for whoever was told the status.
    pub fn finish(mut self, ended: Ended) -> Result<()> {
        let finished = time::now();
        let usage = self.usage();
        self.close(ended, finished, usage)
    }
}

/// What can be seen of an end without a witness, by whoever was there.
pub fn glimpse(dir: BorrowedFd<'_>, ended: Ended, finished: String) -> Exit {
    let (started, sent) = (notes::started(dir), notes::sent(dir, ended, &finished));
    Exit { ended, started, sent, finished: Some(finished), ..Exit::unknown(WitnessKind::Wait) }
}

/// What the witness has to say of a payload that has ended, when it has said it or died without; none where it does
/// neither in time, or the container is deleted.
pub fn last_word(dir: BorrowedFd<'_>) -> Result<Option<Exit>> {
    let until = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(100);
    loop {
        match exit(dir)? {
            None if Instant::now() < until => std::thread::sleep(pause),
            other => return Ok(other),
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Held by who waits for the end: a delete leaves time to read what there is. Nothing where the container is deleted.
pub fn reader(dir: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    match dir::lock_file_at(dir, READERS) {
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(failed(errno)),
        Ok(lock) => dir::try_lock(lock.as_fd(), Lock::Shared).map(|_| Some(lock)).map_err(failed),
    }
}

/// Before the record goes: until its witness has written it and those who wait have read it, but not for long.
pub fn all_told(dir: BorrowedFd<'_>) -> Result<()> {
    last_word(dir)?;
    let readers = match dir::open_file_at(dir, READERS) {
        Err(Errno::ENOENT) => return Ok(()),
        other => other.map_err(failed)?,
    };
    let until = Instant::now() + READING;
    while !dir::try_lock(readers.as_fd(), Lock::Exclusive).map_err(failed)? && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The same without waiting: none while the witness has not said it.
pub fn exit(dir: BorrowedFd<'_>) -> Result<Option<Exit>> {
    if let Some(exit) = written(dir)? {
        return Ok(Some(exit));
    }
    match dir::open_file_at(dir, LOCK) {
        // A watcher makes it before the payload can end; `run` does so too.
        Err(Errno::ENOENT) => {}
        Err(errno) => return Err(failed(errno)),
        Ok(lock) if !dir::try_lock(lock.as_fd(), Lock::Shared).map_err(failed)? => return Ok(None),
        Ok(_) => {}
    }
    // It may have written and ended between our two looks.
    Ok(Some(written(dir)?.unwrap_or_else(|| Exit::unknown(WitnessKind::Watcher))))
}

/// What a watcher was not told is added by the parent, who knows.
pub fn amend(dir: BorrowedFd<'_>, ended: Ended) -> Result<()> {
    match last_word(dir)? {
        Some(exit) if exit.ended == Ended::Unknown => write(dir, &Exit { ended, witness: WitnessKind::Run, ..exit }),
        _ => Ok(()),
    }
}

fn write(dir: BorrowedFd<'_>, exit: &Exit) -> Result<()> {
    let text = serde_json::to_vec(exit).map_err(|_| failed(Errno::EINVAL))?;
    match dir::replace_at(dir, EXIT_FILE, EXIT_NEW, &text) {
        // The container has been deleted since: nobody will ask.
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(Error::system("write the exit record", errno as i32)),
    }
}

fn written(dir: BorrowedFd<'_>) -> Result<Option<Exit>> {
    let doing = || "read the exit record";
    match dir::read_at(dir, EXIT_FILE) {
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(Error::system(doing(), errno as i32)),
        Ok(bytes) => {
            let exit: Exit = serde_json::from_slice(&bytes).map_err(|error| Error::invalid(doing()).because(error))?;
            if exit.version > EXIT_VERSION {
                return Err(Error::unsupported(doing()).because(format!("it has version {}", exit.version)));
            }
            Ok(Some(exit))
        }
    }
}
