//! Runs `zfs`: by its absolute path, in the C locale, for a bounded time and with bounded output.

use crate::cause::{Cause, Fault, Result};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use wharf_sys::{Errno, fd, process};

/// For what only reads, and what is done in one transaction group of the pool: a busy pool takes seconds for one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// More than any answer to a question of ours: 100,000 snapshots have 20 MB of lines.
const LONGEST: usize = 64 << 20;
/// Of its complaints.
const WORDS: usize = 64 << 10;
/// How long one that was killed may take to be gone. In a pool that hangs the kernel does not let it go.
const LAST_BREATH: Duration = Duration::from_millis(500);

/// Where packages put it. Not from PATH: what is run here runs as root.
const DIRECTORIES: [&str; 6] = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin", "/usr/local/bin"];

/// The absolute path of `zfs`; none where it is not installed.
pub fn program() -> Option<PathBuf> {
    DIRECTORIES.iter().map(|dir| Path::new(dir).join("zfs")).find(|path| path.exists())
}

/// What it prints. `doing` names the object, as in every error.
pub(crate) fn zfs(doing: &str, arguments: &[&str]) -> Result<String> {
    zfs_within(doing, arguments, PATIENCE)
}

pub(crate) fn zfs_within(doing: &str, arguments: &[&str], limit: Duration) -> Result<String> {
    let mut command = command(doing, arguments)?;
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let out = run(doing, command, Some(limit))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// As long as it takes, from or to a descriptor.
pub(crate) fn zfs_with(doing: &str, arguments: &[&str], stdin: Option<OwnedFd>, stdout: Option<OwnedFd>) -> Result<()> {
    let mut command = command(doing, arguments)?;
    command.stdin(stdin.map_or_else(Stdio::null, Stdio::from)).stdout(stdout.map_or_else(Stdio::null, Stdio::from));
    run(doing, command, None).map(drop)
}

fn command(doing: &str, arguments: &[&str]) -> Result<Command> {
    let Some(path) = program() else { return Err(Fault::new(Cause::Missing, doing, "")) };
    let mut command = Command::new(path);
    // ZFS_COLOR, ZFS_MODULE_LOADING and their like are not for the caller of an engine to choose.
    command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").args(arguments);
    Ok(command)
}

fn run(doing: &str, mut command: Command, limit: Option<Duration>) -> Result<Vec<u8>> {
    let failed = |errno: Errno| Fault::new(Cause::Other, doing, &wharf_core::errno_text(errno as i32));
    // What the caller has open is the payload's or the engine's: a program that hangs would keep it open.
    fd::close_by_exec(3).map_err(failed)?;
    let child = command.stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| failed(Errno::from_raw(error.raw_os_error().unwrap_or(0))))?;
    let deadline = limit.map(|limit| Instant::now() + limit);
    let Some(said) = listen(&mut child, deadline).map_err(failed)? else {
        let _ = child.kill();
        // Waited for as long as a living kernel needs; else it is left to whoever reaps after us.
        if process::pidfd(child.id() as i32)
            .is_ok_and(|pidfd| wait(&pidfd, Some(Instant::now() + LAST_BREATH)) == Ok(true))
        {
            let _ = child.wait();
        }
        let why = format!("zfs did not answer within {:?}", limit.unwrap_or_default());
        return Err(Fault::new(Cause::NoAnswer, doing, &why));
    };
    let status = child.wait().map_err(|error| failed(Errno::from_raw(error.raw_os_error().unwrap_or(0))))?;
    match status.success() {
        true => Ok(said.out),
        false => {
            let words = String::from_utf8_lossy(&said.words).trim().to_owned();
            let words = if words.is_empty() { format!("zfs ended with {status}") } else { words };
            Err(Fault::said(doing, &words))
        }
    }
}

struct Said {
    out: Vec<u8>,
    words: Vec<u8>,
}

/// Both outputs to their ends and then the process's; none at the deadline.
fn listen(child: &mut Child, deadline: Option<Instant>) -> std::result::Result<Option<Said>, Errno> {
    let pidfd = process::pidfd(child.id() as i32)?;
    let mut pipes: [Option<OwnedFd>; 2] =
        [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
    let (mut said, most) = ([Vec::new(), Vec::new()], [LONGEST, WORDS]);
    let mut buffer = vec![0; 1 << 16];
    loop {
        // A pipe that has ended, or never was, is stood for by the process's own end.
        let watched = [0, 1].map(|at: usize| pipes[at].as_ref().map_or(pidfd.as_fd(), |pipe| pipe.as_fd()));
        if pipes.iter().all(Option::is_none) {
            let [out, words] = said;
            return Ok(wait(&pidfd, deadline)?.then_some(Said { out, words }));
        }
        // One pipe alone must not be waited for by way of the other's stand-in.
        let ready = match &pipes {
            [Some(_), Some(_)] => process::ready(watched, left(deadline)),
            [Some(one), None] => process::readable(one, left(deadline)).map(|ready| [ready, false]),
            [None, Some(one)] => process::readable(one, left(deadline)).map(|ready| [false, ready]),
            [None, None] => Ok([false, false]),
        };
        let ready = match ready {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        if ready == [false, false] {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
            continue;
        }
        for at in [0, 1] {
            let (true, Some(pipe)) = (ready[at], &pipes[at]) else { continue };
            match fd::read(pipe, &mut buffer) {
                Ok(0) => pipes[at] = None,
                Ok(length) => {
                    // Read on beyond what is kept: a full pipe would stop it.
                    let room = most[at].saturating_sub(said[at].len());
                    said[at].extend_from_slice(&buffer[..length.min(room)]);
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

fn wait(pidfd: &OwnedFd, deadline: Option<Instant>) -> std::result::Result<bool, Errno> {
    loop {
        match process::readable(pidfd, left(deadline)) {
            Ok(false) if deadline.is_none_or(|deadline| Instant::now() < deadline) => {}
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// Milliseconds until then, for poll(2).
fn left(deadline: Option<Instant>) -> i32 {
    let Some(deadline) = deadline else { return -1 };
    let left = deadline.saturating_duration_since(Instant::now()).as_millis();
    i32::try_from(left).unwrap_or(i32::MAX)
}

/// The fields of a line of `-H`.
pub(crate) fn fields<const N: usize>(line: &str) -> Option<[&str; N]> {
    line.split('\t').collect::<Vec<_>>().try_into().ok()
}
