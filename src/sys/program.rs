//! Another program to its end: for a bounded time, with what it says kept up to a limit.

use crate::{Errno, Result, fd, process};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// How long what a program has started may go on writing when the program has ended.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How long one that was killed may take to be gone. In a device that hangs the kernel does not let it go.
const LAST_BREATH: Duration = Duration::from_millis(500);

/// How a program ended, and what it wrote to those of its outputs that are pipes of ours, up to the limits.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// What is kept of the outputs, in bytes. What is beyond is read and dropped: a full pipe would stop the program.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    pub stdout: usize,
    pub stderr: usize,
}

/// Waits for the end; none when the program was killed because its time was over (no `limit`: for ever).
pub fn finish(mut child: Child, limit: Option<Duration>, most: Most) -> Result<Option<Finished>> {
    let pidfd = process::pidfd(child.id() as i32)?;
    let mut pipes = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
    let (mut said, most) = ([Vec::new(), Vec::new()], [most.stdout, most.stderr]);
    let mut deadline = limit.map(|limit| Instant::now() + limit);
    let mut ended = false;
    let mut buffer = vec![0; 1 << 14];
    while !ended || pipes.iter().any(Option::is_some) {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            break;
        }
        let [over, ready @ ..] = ready(&pidfd, ended, &pipes, deadline)?;
        if over && !ended {
            ended = true;
            deadline = Some(Instant::now() + LAST_WORDS);
        }
        for (at, is_ready) in ready.into_iter().enumerate() {
            let (true, Some(pipe)) = (is_ready, &pipes[at]) else { continue };
            match fd::read(pipe, &mut buffer)? {
                0 => pipes[at] = None,
                length => {
                    let room = most[at].saturating_sub(said[at].len());
                    said[at].extend_from_slice(&buffer[..length.min(room)]);
                }
            }
        }
    }
    let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(0));
    if !ended {
        child.kill().map_err(errno)?;
        if process::readable(&pidfd, LAST_BREATH.as_millis() as i32) == Ok(true) {
            child.wait().map_err(errno)?;
        }
        return Ok(None);
    }
    let [stdout, stderr] = said;
    Ok(Some(Finished { status: child.wait().map_err(errno)?, stdout, stderr }))
}

/// Which of process, stdout and stderr have something to tell. One that is not there is stood for by another.
fn ready(pidfd: &OwnedFd, ended: bool, pipes: &[Option<OwnedFd>; 2], deadline: Option<Instant>) -> Result<[bool; 3]> {
    let process: Option<BorrowedFd<'_>> = (!ended).then_some(pidfd.as_fd());
    let all = [process, pipes[0].as_ref().map(|pipe| pipe.as_fd()), pipes[1].as_ref().map(|pipe| pipe.as_fd())];
    let Some(any) = all.iter().flatten().next() else { return Ok([false; 3]) };
    let left = deadline.map_or(-1, |deadline| {
        i32::try_from(deadline.saturating_duration_since(Instant::now()).as_millis() + 1).unwrap_or(i32::MAX)
    });
    match process::ready(all.map(|fd| fd.unwrap_or(*any)), left) {
        Ok(found) => Ok(std::array::from_fn(|at| found[at] && all[at].is_some())),
        Err(Errno::EINTR) => Ok([false; 3]),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn run(script: &str, milliseconds: u64, most: usize) -> Option<Finished> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let most = Most { stdout: most, stderr: most };
        finish(command.spawn().unwrap(), Some(Duration::from_millis(milliseconds)), most).unwrap()
    }

    #[test]
    fn what_it_says_is_kept_up_to_the_limit_and_read_to_the_end() {
        let finished = run("echo out; echo err >&2; exit 3", 10_000, 100).unwrap();
        assert_eq!((finished.stdout.as_slice(), finished.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
        assert_eq!(finished.status.code(), Some(3));
        let flood = run("head -c 1000000 /dev/zero; echo done >&2", 20_000, 10).unwrap();
        assert_eq!((flood.stdout.len(), flood.stderr.as_slice()), (10, &b"done\n"[..]));
    }

    #[test]
    fn its_time_is_bounded_and_so_is_that_of_what_it_leaves_behind() {
        let begun = Instant::now();
        assert!(run("exec sleep 60", 100, 10).is_none());
        assert!(run("while :; do echo x; done", 100, 10).is_none());
        // The child has the pipe for longer than its parent lives.
        let finished = run("sleep 5 & echo said", 30_000, 100).unwrap();
        assert_eq!(finished.stdout, b"said\n");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
