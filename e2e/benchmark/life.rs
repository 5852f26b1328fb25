//! One life after another, each verb with its cost: wall time, CPU time of all its processes, page faults, memory.

use crate::Result;
use crate::candidate::{Candidate, Container, Payload};
use crate::stage::{Configuration, DIR, Stage};
use nix::errno::Errno;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::time::ClockId;
use nix::unistd::Pid;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verb {
    Run,
    Create,
    Start,
    State,
    Exec,
    Kill,
    Delete,
    Life,
    PodmanRun,
    CtrRun,
}

impl Verb {
    /// What a runtime is asked for.
    pub(crate) const RUNTIME: [Verb; 8] =
        [Verb::Run, Verb::Create, Verb::Start, Verb::State, Verb::Exec, Verb::Kill, Verb::Delete, Verb::Life];
    /// What an engine is asked for.
    pub(crate) const ENGINES: [Verb; 2] = [Verb::PodmanRun, Verb::CtrRun];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Verb::Run => "run",
            Verb::Create => "create",
            Verb::Start => "start",
            Verb::State => "state",
            Verb::Exec => "exec",
            Verb::Kill => "kill",
            Verb::Delete => "delete",
            Verb::Life => "create, start, delete",
            Verb::PodmanRun => "podman run --rm",
            Verb::CtrRun => "ctr run --rm",
        }
    }
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Cost {
    /// Microseconds.
    pub(crate) wall: f64,
    /// Microseconds, user and system, of every process that worked for the verb.
    pub(crate) cpu: f64,
    pub(crate) faults: u64,
    /// Peak resident memory of the biggest process, KiB.
    pub(crate) peak: u64,
    /// When the verb returned, nanoseconds of the monotonic clock.
    end: f64,
}

/// What the process that becomes the payload used so far.
#[derive(Clone, Copy, Default)]
struct Init {
    cpu: f64,
    faults: u64,
    peak: u64,
}

/// The kernel moves the first process into a cgroup after a while of none by waiting for RCU, the next ones at once.
/// So nobody may begin warm because of who came before.
pub(crate) fn cool_down() {
    std::thread::sleep(Duration::from_millis(25));
}

/// Runs one verb under the meter.
pub(crate) fn measure(candidate: &Candidate, verb: &str, container: &Container) -> Result<Cost> {
    let cost = meter(&candidate.words(verb, container), |_| ());
    cost.map_err(|why| format!("{} {verb}: {why}", candidate.name).into())
}

/// Runs a command under the meter. What it said on stderr is the error when it fails.
pub(crate) fn meter(words: &[String], prepare: impl FnOnce(&mut Command)) -> Result<Cost> {
    let answer = format!("{DIR}/answer");
    let errors = fs::File::create(format!("{DIR}/stderr"))?;
    let mut command = Command::new(format!("{DIR}/meter"));
    command.arg(&answer).args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
    prepare(&mut command);
    let status = command.status()?;
    let answer = fs::read_to_string(&answer).map_err(|error| format!("the meter ended with {status}: {error}"))?;
    let numbers: Vec<f64> = answer.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>()?;
    let [code, begin, end, cpu, faults, peak] = numbers[..] else {
        return Err(format!("the meter says {answer:?}").into());
    };
    if code != 0.0 {
        let errors = fs::read_to_string(format!("{DIR}/stderr"))?;
        return Err(format!("status {code}: {}", errors.trim()).into());
    }
    Ok(Cost { wall: (end - begin) / 1e3, cpu, faults: faults as u64, peak: peak as u64, end })
}

pub(crate) fn init_pid(container: &Container) -> Result<Pid> {
    Ok(Pid::from_raw(fs::read_to_string(&container.pid_file)?.trim().parse()?))
}

/// Waits until the init has nothing left to do but wait, and reads what it used: `create` and `start` may return
/// while it still works for them.
fn settled(pid: Pid) -> Result<Init> {
    let clock = ClockId::pid_cpu_clock_id(pid)?;
    let mut before = clock.now()?;
    loop {
        std::thread::sleep(Duration::from_micros(300));
        let now = clock.now()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        if now == before && fields[0] == "S" {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            return Ok(Init {
                cpu: now.num_nanoseconds() as f64 / 1e3,
                faults: fields[7].parse::<u64>()? + fields[9].parse::<u64>()?,
                peak: peak.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0),
            });
        }
        before = now;
    }
}

fn children() -> Result<Init> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = |time: TimeVal| time.num_microseconds() as f64;
    Ok(Init {
        cpu: micros(usage.user_time()) + micros(usage.system_time()),
        faults: (usage.minor_page_faults() + usage.major_page_faults()) as u64,
        peak: 0,
    })
}

/// Collects the init, which became ours, and returns all that it used.
fn collect(pid: Pid) -> Result<Init> {
    let before = children()?;
    waitpid(pid, None).map_err(|errno| format!("waiting for the init {pid}, which must become ours: {errno}"))?;
    let after = children()?;
    Ok(Init { cpu: after.cpu - before.cpu, faults: after.faults - before.faults, peak: 0 })
}

/// Collects whatever else was left to us.
pub(crate) fn reap() {
    while let Ok(status) = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
}

/// A measured create, with what the init did for it.
pub(crate) fn create(candidate: &Candidate, container: &Container) -> Result<Cost> {
    cool_down();
    let mut cost = measure(candidate, "create", container)?;
    let init = settled(init_pid(container)?)?;
    cost.cpu += init.cpu;
    cost.faults += init.faults;
    cost.peak = cost.peak.max(init.peak);
    Ok(cost)
}

/// Ends a created container and deletes it, unmeasured.
pub(crate) fn remove(candidate: &Candidate, container: &Container) -> Result<()> {
    let pid = init_pid(container)?;
    match kill(pid, Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => return Err(errno.into()),
    }
    let _ = waitpid(pid, None);
    measure(candidate, "delete", container)?;
    reap();
    Ok(())
}

/// Every verb once: a run; a life that ends by itself; a life that is asked and killed.
pub(crate) fn round(stage: &Stage, candidate: &Candidate, configuration: Configuration) -> Result<Vec<(Verb, Cost)>> {
    let prepare = |payload, purpose: &str| Container::prepare(stage, candidate, configuration, payload, purpose);
    let mut costs = Vec::new();

    let container = prepare(Payload::Exits, "run")?;
    cool_down();
    costs.push((Verb::Run, measure(candidate, "run", &container)?));
    reap();

    let container = prepare(Payload::Exits, "life")?;
    cool_down();
    let created = measure(candidate, "create", &container)?;
    let pid = init_pid(&container)?;
    let started = measure(candidate, "start", &container)?;
    let init = collect(pid)?;
    let gone = ClockId::CLOCK_MONOTONIC.now()?.num_nanoseconds() as f64;
    let deleted = measure(candidate, "delete", &container)?;
    costs.push((
        Verb::Life,
        Cost {
            wall: created.wall + started.wall + (gone - started.end).max(0.0) / 1e3 + deleted.wall,
            cpu: created.cpu + started.cpu + init.cpu + deleted.cpu,
            faults: created.faults + started.faults + init.faults + deleted.faults,
            peak: created.peak.max(started.peak).max(deleted.peak),
            end: 0.0,
        },
    ));
    reap();

    let container = prepare(Payload::Waits, "wait")?;
    costs.push((Verb::Create, create(candidate, &container)?));
    let pid = init_pid(&container)?;
    let before = settled(pid)?;
    costs.push((Verb::State, measure(candidate, "state", &container)?));
    let mut started = measure(candidate, "start", &container)?;
    let after = settled(pid)?;
    started.cpu += after.cpu - before.cpu;
    started.faults += after.faults - before.faults;
    costs.push((Verb::Start, started));
    if candidate.has_exec() {
        cool_down();
        costs.push((Verb::Exec, measure(candidate, "exec", &container)?));
    }
    costs.push((Verb::Kill, measure(candidate, "kill", &container)?));
    collect(pid)?;
    costs.push((Verb::Delete, measure(candidate, "delete", &container)?));
    reap();
    Ok(costs)
}
