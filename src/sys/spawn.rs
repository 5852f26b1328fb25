//! Runs another program and waits for it, with a time limit: hooks.

use crate::namespace::{Side, clone};
use crate::process::{self, Ended, ExecStrings};
use crate::{Errno, Fd, Result, fd, signal};
use std::ffi::CStr;
use std::os::fd::AsFd;

/// What became of the program.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Ended(Ended),
    /// It could not be executed.
    NotExecuted(Errno),
    /// It ran longer than it may, and was killed with its process group.
    TimedOut,
}

/// Runs `path` with `stdin` as its standard input, `outputs` or else our own as standard output and error, and nothing
/// else open.
/// `milliseconds` of -1 means no limit.
pub fn run(
    path: &CStr,
    arguments: &ExecStrings<'_>,
    environment: &ExecStrings<'_>,
    stdin: impl AsFd,
    outputs: [Option<Fd>; 2],
    milliseconds: i32,
) -> Result<Outcome> {
    let (ours, theirs) = crate::socket::pair()?;
    match clone(0, None)? {
        Side::Child => {
            let failed = prepare(&stdin, outputs).err().unwrap_or_else(|| process::exec(path, arguments, environment));
            let _ = fd::write(&theirs, &(failed as i32).to_le_bytes());
            process::exit_now(127)
        }
        Side::Parent { pid, pidfd } => {
            drop(theirs);
            let mut word = [0; 4];
            let told = fd::read(&ours, &mut word)?;
            if told == 4 {
                process::wait(pid, 0)?;
                return Ok(Outcome::NotExecuted(Errno::from_raw(i32::from_le_bytes(word))));
            }
            if !process::readable(&pidfd, milliseconds)? {
                // The hook has a process group of its own, so that what it started ends with it.
                let _ = kill_group(pid);
                let _ = process::signal(&pidfd, crate::libc::SIGKILL);
                process::wait(pid, 0)?;
                return Ok(Outcome::TimedOut);
            }
            match process::wait(pid, 0)? {
                Some((_, ended)) => Ok(Outcome::Ended(ended)),
                None => Err(Errno::ECHILD),
            }
        }
    }
}

fn prepare(stdin: &impl AsFd, outputs: [Option<Fd>; 2]) -> Result<()> {
    // SAFETY: plain integers.
    unsafe {
        crate::libc::setpgid(0, 0);
    }
    signal::reset_all()?;
    fd::dup_to(Fd(std::os::fd::AsRawFd::as_raw_fd(&stdin.as_fd())), 0)?;
    for (output, number) in outputs.into_iter().zip(1..) {
        if let Some(output) = output {
            fd::dup_to(output, number)?;
        }
    }
    fd::close_by_exec(3)
}

fn kill_group(pid: i32) -> Result<()> {
    // SAFETY: plain integers.
    crate::check(unsafe { crate::libc::kill(-pid, crate::libc::SIGKILL) as crate::libc::c_long }).map(drop)
}
