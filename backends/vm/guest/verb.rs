//! One verb in the guest: wharf itself with the words that a caller would type, and its outcome from a pipe.

use super::session::Session;
use super::setup;
use crate::wire::{Failure, Outcome, Verb, read_outcome, written};
use serde_json::json;
use std::fs;
use std::io::PipeReader;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use wharf_core::{Error, Kind, Result};
use wharf_sys::{Fd, fd, libc};

/// The name that wharf is called by then. The first word is the number of the pipe, the others are a command line.
pub const NAME: &str = "wharf-guest-verb";

const ROOT: &str = "/run/wharf";
const BUNDLE: &str = "/run/bundle";
/// What is kept of an answer.
const LONGEST: usize = 1 << 20;

/// A verb at work.
pub(super) struct Running {
    pub(super) number: u32,
    session: bool,
    tells: Tells,
    outcome: Option<OwnedFd>,
    said: Vec<u8>,
    stdout: Option<OwnedFd>,
    text: Vec<u8>,
    watched: [usize; 2],
}

/// What it says on its stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tells {
    Nothing,
    Text,
    Statistics,
}

/// Starts it.
pub(super) fn begin(id: &str, number: u32, verb: Verb, parts: &[u8]) -> Result<(Running, Option<Session>)> {
    let file = |name: String| -> Result<String> {
        fs::write(&name, parts).map_err(|error| setup::failed("write what the host asks", error)).map(|()| name)
    };
    let mut words = Vec::new();
    let mut say = |word: &str| words.push(word.to_owned());
    let (mut session, mut tells, mut tail) = (None, Tells::Nothing, Vec::new());
    match verb {
        Verb::Create { terminal, words: more, .. } => {
            setup::make(BUNDLE)?;
            file(format!("{BUNDLE}/config.json"))?;
            ["create", "--bundle", BUNDLE].into_iter().for_each(&mut say);
            more.iter().for_each(|word| say(word));
            session = Some(Session::new(number, terminal)?);
        }
        Verb::Exec { words: more, arguments, terminal } => {
            ["exec", "--detach"].into_iter().for_each(&mut say);
            if !parts.is_empty() {
                say("--process");
                say(&file(format!("/run/process-{number}"))?);
            }
            more.iter().for_each(|word| say(word));
            tail = arguments;
            session = Some(Session::new(number, terminal)?);
        }
        Verb::Start => say("start"),
        Verb::Kill { signal, all } => {
            say("kill");
            all.then(|| say("--all"));
            tail = vec![signal.to_string()];
        }
        Verb::Events => {
            ["events", "--stats"].into_iter().for_each(&mut say);
            tells = Tells::Statistics;
        }
        Verb::Ps => {
            say("ps");
            tells = Tells::Text;
        }
        Verb::Update => {
            ["update", "--resources"].into_iter().for_each(&mut say);
            say(&file(format!("/run/resources-{number}"))?);
        }
    }
    let mut standard = [Stdio::null(), Stdio::null(), Stdio::null()];
    let session = session.map(|(made, theirs)| {
        words.extend(made.words());
        standard = theirs;
        made
    });
    // Nothing that comes then is an option.
    words.extend(["--".to_owned(), id.to_owned()]);
    words.extend(tail);
    spawn(number, &words, standard, session.is_some(), tells).map(|running| (running, session))
}

fn spawn(number: u32, words: &[String], standard: [Stdio; 3], session: bool, tells: Tells) -> Result<Running> {
    let failed = |error: std::io::Error| setup::failed("start a verb in the guest", error);
    let (outcome, theirs) = std::io::pipe().map_err(failed)?;
    fd::set_cloexec(theirs.as_fd(), false).map_err(|errno| Error::system("start a verb in the guest", errno as i32))?;
    let [stdin, mut stdout, stderr] = standard;
    let text = match tells != Tells::Nothing {
        true => {
            let (text, written): (PipeReader, _) = std::io::pipe().map_err(failed)?;
            stdout = written.into();
            Some(text.into())
        }
        false => None,
    };
    let mut command = Command::new(setup::PROGRAM);
    command.arg0(NAME).arg(theirs.as_raw_fd().to_string()).args(["--root", ROOT]).args(words);
    command.env_clear().stdin(stdin).stdout(stdout).stderr(stderr);
    // Its end is learned with everybody else's.
    command.spawn().map(drop).map_err(failed)?;
    Ok(Running {
        number,
        session,
        tells,
        outcome: Some(outcome.into()),
        said: Vec::new(),
        stdout: text,
        text: Vec::new(),
        watched: [0; 2],
    })
}

impl Running {
    pub(super) fn makes_session(&self) -> bool {
        self.session
    }

    pub(super) fn watch(&mut self, all: &mut Vec<libc::pollfd>) {
        for (place, file) in self.watched.iter_mut().zip([&self.outcome, &self.stdout]) {
            *place = all.len();
            let fd = file.as_ref().map_or(-1, AsRawFd::as_raw_fd);
            all.push(libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
        }
    }

    pub(super) fn serve(&mut self, polled: &[libc::pollfd]) {
        let ends = [(&mut self.outcome, &mut self.said), (&mut self.stdout, &mut self.text)];
        for ((file, kept), place) in ends.into_iter().zip(self.watched) {
            let (true, Some(open)) = (polled.get(place).is_some_and(|one| one.revents != 0), &file) else { continue };
            let mut bytes = [0; 4096];
            match fd::read(open, &mut bytes) {
                Ok(0) | Err(_) => *file = None,
                Ok(length) => kept.extend_from_slice(&bytes[..length.min(LONGEST - kept.len())]),
            }
        }
        // A verb that was begun after the last look has no place in it.
        self.watched = [usize::MAX; 2];
    }

    pub(super) fn is_done(&self) -> bool {
        self.outcome.is_none() && self.stdout.is_none()
    }

    /// `killed` is how many processes the kernel has killed for want of memory.
    pub(super) fn outcome(self, killed: i32) -> Result<serde_json::Value> {
        let unread = |_| Error::new(Kind::System, "do a verb in the guest").because("it ended without a word");
        read_outcome(&self.said).map_err(unread)?.map_err(Failure::into_error)?;
        match self.tells {
            Tells::Nothing => Ok(serde_json::Value::Null),
            Tells::Text => Ok(String::from_utf8_lossy(&self.text).into()),
            Tells::Statistics => serde_json::from_slice::<serde_json::Value>(&self.text)
                .map(|line| json!({"line": line, "killed": killed}))
                .map_err(|error| Error::new(Kind::System, "read the guest's answer").because(error)),
        }
    }
}

/// The verb's own word of how it went, for who has started it.
pub fn tell(pipe: Fd, outcome: &Result<i32>) {
    let outcome: Outcome = match outcome {
        Ok(_) => Ok(serde_json::Value::Null),
        Err(error) => Err(Failure::of(error)),
    };
    let _ = fd::write_all(pipe, &written(outcome));
}

/// The pipe that the first word of its command line names; no process that it makes has it.
pub fn pipe(word: &str) -> Option<Fd> {
    let pipe = Fd(word.parse().ok()?);
    match fd::set_cloexec(pipe, true) {
        Ok(()) => Some(pipe),
        Err(_) => None,
    }
}
