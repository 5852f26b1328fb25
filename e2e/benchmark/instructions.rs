//! Counts the user instructions of a verb, exactly, by stepping through every process that it starts. An iteration of
//! a string instruction counts as one.

use crate::Result;
use crate::candidate::{Candidate, Container, Payload};
use crate::life::{Verb, remove};
use crate::stage::{Configuration, Stage};
use crate::table::ByVerb;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A verb with more is given up.
const MOST: u64 = 20_000_000;
/// And one that takes longer: a step is about five microseconds on a quiet machine.
const LIMIT: Duration = Duration::from_secs(180);
/// How long nothing happens when what is left only waits.
const QUIET: Duration = Duration::from_millis(200);

/// Thousands of instructions. Not for Go programs: their scheduler goes by the clock, which stepping stretches.
pub(crate) fn count(stage: &Stage, candidate: &Candidate, configuration: Configuration) -> Result<ByVerb> {
    if candidate.name == "runc" {
        return Ok(Vec::new());
    }
    let prepare = |payload, purpose: &str| Container::prepare(stage, candidate, configuration, payload, purpose);
    let run = prepare(Payload::Exits, "stepped-run")?;
    let container = prepare(Payload::Waits, "stepped")?;
    let mut counts = vec![(Verb::Run, step(candidate, "run", &run)?)];
    let created = step(candidate, "create", &container)?;
    counts.push((Verb::Create, created));
    // What was given up is left to the stage's end; the other verbs need a container.
    let other = prepare(Payload::Waits, "stepped-later")?;
    let container = match created {
        Some(_) => container,
        None => crate::life::create(candidate, &other).map(|_| other)?,
    };
    counts.push((Verb::State, step(candidate, "state", &container)?));
    counts.push((Verb::Kill, step(candidate, "kill", &container)?));
    remove(candidate, &container)?;
    Ok(counts)
}

fn step(candidate: &Candidate, verb: &str, container: &Container) -> Result<Option<u64>> {
    // The shell stops itself, so that nothing of the verb is missed; its own instructions do not count.
    let first = Command::new("sh")
        .args(["-c", "kill -STOP $$; exec \"$@\"", "sh"])
        .args(candidate.words(verb, container))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let first = Pid::from_raw(first.id() as i32);
    waitpid(first, Some(WaitPidFlag::WUNTRACED))?;
    let options = Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK;
    ptrace::seize(first, options)?;
    kill(first, Signal::SIGCONT)?;
    loop {
        match waitpid(first, None)? {
            WaitStatus::PtraceEvent(_, _, event) if event == ptrace::Event::PTRACE_EVENT_EXEC as i32 => break,
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return Err("the shell ended early".into()),
            _ => ptrace::cont(first, None)?,
        }
    }
    ptrace::step(first, None)?;
    let mut count = 0;
    let mut ended = false;
    let mut seen = BTreeSet::from([first]);
    let begin = Instant::now();
    let mut last = begin;
    loop {
        let patience = if ended { WaitPidFlag::WNOHANG } else { WaitPidFlag::empty() };
        let event = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::__WALL | patience));
        if count > MOST || begin.elapsed() > LIMIT {
            let spent = begin.elapsed().as_secs();
            eprintln!("skipped: {} {verb}, stepped: given up after {count} instructions, {spent} s", candidate.name);
            for pid in seen {
                let _ = kill(pid, Signal::SIGKILL);
            }
            crate::life::reap();
            return Ok(None);
        }
        match event {
            Err(nix::errno::Errno::ECHILD) => break,
            Err(errno) => return Err(errno.into()),
            Ok(WaitStatus::StillAlive) => {
                if ended && last.elapsed() > QUIET {
                    break;
                }
                continue;
            }
            Ok(WaitStatus::Stopped(pid, Signal::SIGTRAP)) => {
                count += 1;
                resume(pid, None)?;
            }
            Ok(WaitStatus::PtraceEvent(pid, ..)) => {
                seen.insert(pid);
                resume(pid, None)?;
            }
            Ok(WaitStatus::Stopped(pid, signal)) => resume(pid, signal)?,
            Ok(WaitStatus::Exited(pid, code)) if pid == first => {
                if code != 0 {
                    return Err(format!("{} {verb}, stepped: status {code}", candidate.name).into());
                }
                ended = true;
            }
            Ok(_) => {}
        }
        last = Instant::now();
    }
    Ok(Some(count / 1000))
}

fn resume(pid: Pid, signal: impl Into<Option<Signal>>) -> Result<()> {
    match ptrace::step(pid, signal) {
        // It was killed between its stop and now.
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
