//! Counts the system calls of each verb, of all processes that it starts, by strace.

use crate::Result;
use crate::candidate::{Candidate, Container, Payload};
use crate::life::{Verb, init_pid, measure, reap, remove};
use crate::stage::{Configuration, DIR, Stage};
use crate::table::ByVerb;
use nix::sys::wait::waitpid;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Trace {
    strace: Child,
    file: String,
}

impl Trace {
    fn begin(candidate: &Candidate, verb: &str, container: &Container) -> Result<Trace> {
        let file = format!("{DIR}/trace-{verb}");
        let _ = fs::remove_file(&file);
        let strace = Command::new("strace")
            .args(["-f", "-q", "-o", &file])
            .args(candidate.words(verb, container))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("strace: {error}"))?;
        Ok(Trace { strace, file })
    }

    /// Waits until the runtime's first process has ended; what it left behind may go on.
    fn verb_ended(&self) -> Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(60) {
            let text = fs::read_to_string(&self.file).unwrap_or_default();
            let pid = text.split_whitespace().next().unwrap_or("?").to_owned();
            let ended = |line: &str| line.starts_with(&format!("{pid} ")) && line.contains(" +++ exited");
            if text.lines().any(ended) {
                std::thread::sleep(Duration::from_millis(100));
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(format!("{}: no end in a minute", self.file).into())
    }

    fn calls(&self) -> u64 {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        // Each line: pid, then a call, the rest of one ("<..."), a signal ("---") or an end ("+++").
        let call = |line: &&str| {
            let rest = line.split_once(' ').map_or("", |(_, rest)| rest.trim_start());
            !rest.is_empty() && !["<...", "---", "+++"].iter().any(|mark| rest.starts_with(mark))
        };
        text.lines().filter(call).count() as u64
    }

    fn finish(mut self) -> Result<u64> {
        self.strace.wait()?;
        Ok(self.calls())
    }
}

/// The number of calls, verb by verb. `create` counts until the init waits; a whole life has the init's calls to the
/// payload's end.
pub(crate) fn count(stage: &Stage, candidate: &Candidate, configuration: Configuration) -> Result<ByVerb> {
    let prepare = |payload, purpose: &str| Container::prepare(stage, candidate, configuration, payload, purpose);
    let mut counts = Vec::new();

    let container = prepare(Payload::Exits, "traced-run")?;
    counts.push((Verb::Run, Some(Trace::begin(candidate, "run", &container)?.finish()?)));

    let container = prepare(Payload::Exits, "traced-life")?;
    let create = Trace::begin(candidate, "create", &container)?;
    create.verb_ended()?;
    let created = create.calls();
    let pid = init_pid(&container)?;
    let start = Trace::begin(candidate, "start", &container)?.finish()?;
    let _ = waitpid(pid, None);
    let whole = create.finish()?;
    let delete = Trace::begin(candidate, "delete", &container)?.finish()?;
    reap();

    let container = prepare(Payload::Waits, "traced-wait")?;
    crate::life::create(candidate, &container)?;
    let state = Trace::begin(candidate, "state", &container)?.finish()?;
    measure(candidate, "start", &container)?;
    let exec = match candidate.has_exec() {
        true => Some(Trace::begin(candidate, "exec", &container)?.finish()?),
        false => None,
    };
    let kill = Trace::begin(candidate, "kill", &container)?.finish()?;
    remove(candidate, &container)?;

    counts.extend([
        (Verb::Create, Some(created)),
        (Verb::Start, Some(start)),
        (Verb::State, Some(state)),
        (Verb::Exec, exec),
        (Verb::Kill, Some(kill)),
        (Verb::Delete, Some(delete)),
        (Verb::Life, Some(whole + start + delete)),
    ]);
    Ok(counts)
}
