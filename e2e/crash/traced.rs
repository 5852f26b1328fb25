//! A verb of the runtime, to its end or killed when a system call of it has returned.

use crate::attack::arena::Runtime;
use harness::{Host, Stop, ensure};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PTRACE_EVENT_EXEC: i32 = 4;

/// How a traced call ended.
pub(super) enum Traced {
    /// It was killed after this many calls; the last one's number, as the kernel counts them.
    Killed { number: String },
    /// It ended by itself.
    Ended { calls: u32, status: WaitStatus },
}

pub(super) fn reap() {
    while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status != WaitStatus::StillAlive) {}
}

fn files(host: &Host) -> (PathBuf, PathBuf) {
    (host.dir().join("crash.out"), host.dir().join("crash.err"))
}

pub(super) fn plain(host: &Host, runtime: &Runtime<'_>, verb: &[&str]) -> Result<String, Stop> {
    let words = runtime.words(&host.root());
    let (out, err) = files(host);
    let mut child = Command::new(&words[0])
        .args(&words[1..])
        .args(verb)
        .stdin(Stdio::null())
        .stdout(fs::File::create(&out)?)
        .stderr(fs::File::create(&err)?)
        .spawn()?;
    let status = child.wait()?;
    match status.success() {
        true => Ok(fs::read_to_string(out)?),
        false => Err(Stop::failed(format!("{}: {status}: {}", verb.join(" "), fs::read_to_string(err)?.trim_end()))),
    }
}

/// Runs a verb under ptrace and kills the process when its `k`-th system call has returned.
pub(super) fn traced(host: &Host, runtime: &Runtime<'_>, verb: &[&str], k: u32) -> Result<Traced, Stop> {
    let (out, err) = files(host);
    traced_to(host, runtime, verb, k, [fs::File::create(out)?.into(), fs::File::create(err)?.into()])
}

/// The same with nothing but /dev/null as its standard descriptors: criu hands them to what it restores. Its log is
/// where [`plain`] writes.
pub(super) fn traced_silently(host: &Host, runtime: &Runtime<'_>, verb: &[&str], k: u32) -> Result<Traced, Stop> {
    let log = files(host).1.display().to_string();
    traced_to(host, runtime, &[&["--log", &log], verb].concat(), k, [Stdio::null(), Stdio::null()])
}

fn traced_to(
    host: &Host,
    runtime: &Runtime<'_>,
    verb: &[&str],
    k: u32,
    [out, err]: [Stdio; 2],
) -> Result<Traced, Stop> {
    // The shell stops itself so that it can be seized, then becomes the runtime.
    let child = Command::new("sh")
        .args(["-c", "kill -STOP $$; exec \"$@\"", "sh"])
        .args(runtime.words(&host.root()))
        .args(verb)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()?;
    let pid = Pid::from_raw(child.id() as i32);
    let stopped = waitpid(pid, Some(WaitPidFlag::WUNTRACED))?;
    ensure!(matches!(stopped, WaitStatus::Stopped(_, Signal::SIGSTOP)), "the shell did not stop: {stopped:?}");
    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACEEXEC | Options::PTRACE_O_EXITKILL;
    ptrace::seize(pid, options)?;
    kill(pid, Signal::SIGCONT)?;
    follow(pid, &runtime.program, k)
}

fn follow(pid: Pid, program: &Path, k: u32) -> Result<Traced, Stop> {
    let program = program.canonicalize()?;
    let (mut counting, mut entered, mut calls) = (false, false, 0);
    loop {
        match waitpid(pid, Some(WaitPidFlag::__WALL))? {
            status @ (WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => return Ok(Traced::Ended { calls, status }),
            WaitStatus::PtraceEvent(_, _, PTRACE_EVENT_EXEC) => {
                let now = fs::read_link(format!("/proc/{pid}/exe"));
                counting = counting || now.is_ok_and(|now| now == program);
                // The next stop is the return of this execve.
                entered = true;
                ptrace::syscall(pid, None)?;
            }
            WaitStatus::PtraceSyscall(_) => {
                entered = !entered;
                if counting && !entered {
                    calls += 1;
                    if calls == k {
                        let text = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
                        let number = text.split(' ').next().unwrap_or_default().to_owned();
                        kill(pid, Signal::SIGKILL)?;
                        waitpid(pid, Some(WaitPidFlag::__WALL))?;
                        return Ok(Traced::Killed { number });
                    }
                }
                ptrace::syscall(pid, None)?;
            }
            WaitStatus::Stopped(_, signal) => ptrace::syscall(pid, Some(signal))?,
            _ => ptrace::syscall(pid, None)?,
        }
    }
}
