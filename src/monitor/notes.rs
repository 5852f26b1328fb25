//! What verbs leave for the witness: that it began, and which signals they sent.

use std::os::fd::{AsFd, BorrowedFd};
use wharf_core::{Ended, Error, Result, Sender, Sent, time};
use wharf_sys::{Errno, dir, process};

const STARTED: &str = "started";
const EXECUTED: &str = "executed";
const SIGNAL: &str = "signal.";

/// Before a payload is let go: it may be over before anybody else has the time to say so.
pub fn note_start(dir: BorrowedFd<'_>) -> Result<()> {
    match dir::write_at(dir, STARTED, time::now().as_bytes()) {
        // A start that failed before.
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(Error::system("note the start", errno as i32)),
    }
}

/// Before a process of `exec` is let go. Where it cannot be noted, the process matters more.
pub fn note_exec(dir: BorrowedFd<'_>) {
    let own = format!("{EXECUTED}.{}", process::pid());
    let _ = dir::replace_at(dir, EXECUTED, &own, time::now().as_bytes());
}

/// When the container was started, and when the last process of `exec` in it, in RFC 3339.
pub fn activity(dir: BorrowedFd<'_>) -> (Option<String>, Option<String>) {
    let read = |name: &str| String::from_utf8(dir::read_at(dir, name).ok()?).ok();
    (read(STARTED), read(EXECUTED))
}

/// Before a signal is sent. The last of each number counts. False where it could not be noted: the signal matters more.
pub fn note_signal(dir: impl AsFd, by: Sender, signal: i32) -> bool {
    let sent = Sent { by, signal, uid: dir::effective_uid(), at: time::now() };
    // Whoever else sends that signal at this moment writes a file of its own.
    let (name, own) = (format!("{SIGNAL}{signal}"), format!("sent.{}", process::pid()));
    serde_json::to_vec(&sent).is_ok_and(|text| dir::replace_at(dir.as_fd(), &name, &own, &text).is_ok())
}

/// The signal was not sent after all.
pub fn take_back(dir: BorrowedFd<'_>, signal: i32) {
    // Where it cannot be removed, it is told only of an end by that same signal.
    let _ = dir::remove_file_at(dir, &format!("{SIGNAL}{signal}"));
}

pub(crate) fn started(dir: impl AsFd) -> Option<String> {
    String::from_utf8(dir::read_at(dir.as_fd(), STARTED).ok()?).ok()
}

/// The note of the signal that ended it, else the last one. What was noted after the end had no part in it.
pub(crate) fn sent(dir: impl AsFd, ended: Ended, finished: &str) -> Option<Sent> {
    let dir = dir.as_fd();
    let read = |name: &str| -> Option<Sent> {
        let sent: Sent = serde_json::from_slice(&dir::read_at(dir, name).ok()?).ok()?;
        (sent.at.as_str() <= finished).then_some(sent)
    };
    let killing = match ended {
        Ended::Signaled { signal, .. } => read(&format!("{SIGNAL}{signal}")),
        _ => None,
    };
    killing.or_else(|| {
        let names = dir::names(dir).ok()?;
        let notes = names.iter().filter_map(|name| name.to_str()).filter(|name| name.starts_with(SIGNAL));
        notes.filter_map(read).max_by(|one, other| one.at.cmp(&other.at))
    })
}
