//! The first process of a guest: it gets the machine ready, and does what the channel asks by wharf's own verbs, each in
//! a process of its own. What they leave is its child, so that it sees how every process ends.

mod session;
mod setup;
mod verb;

use crate::wire::{FULL, Frame, MOST_PARTS, MOST_SESSIONS, Message, Reader, VERSION, Verb, put, written};
use session::Session;
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use verb::Running;
use wharf_core::{Error, Kind, Result};
use wharf_sys::{Errno, fd, libc, machine, process, signal};

pub use setup::PROGRAM;
pub(crate) use setup::{DISK, NETWORK, SHARE};
pub use verb::{NAME as VERB, pipe, tell};

/// How long a terminal that nobody has open is left alone, in milliseconds.
const LOOK_AGAIN: i32 = 100;
/// How many ends of processes that nobody has asked for are kept.
const MOST_ENDED: usize = 1024;

/// The whole life of the guest; returns never.
pub fn main() -> ! {
    let error = match begin() {
        Ok(mut agent) => agent.serve().err(),
        Err(error) => Some(error),
    };
    if let Some(error) = error {
        // The kernel's console is what the host sees.
        eprintln!("wharf: {error}");
    }
    machine::sync();
    let _ = machine::power_off();
    process::exit_now(1)
}

fn begin() -> Result<Agent> {
    let failed = |errno: Errno| Error::system("get the guest ready", errno as i32);
    signal::block_all().map_err(failed)?;
    setup::mounts()?;
    let port = setup::port()?;
    let signals = signal::descriptor().map_err(failed)?;
    let mut out = Vec::new();
    put(&mut out, 0, Message::Hello { version: VERSION });
    Ok(Agent {
        port,
        signals,
        reader: Reader::new(),
        out,
        sessions: BTreeMap::new(),
        running: Vec::new(),
        parts: BTreeMap::new(),
        ended: BTreeMap::new(),
        id: String::new(),
        cgroup: None,
    })
}

struct Agent {
    port: OwnedFd,
    signals: OwnedFd,
    reader: Reader,
    /// Frames that the port has not taken yet.
    out: Vec<u8>,
    sessions: BTreeMap<u32, Session>,
    running: Vec<Running>,
    parts: BTreeMap<u32, Vec<u8>>,
    /// How processes ended that nobody has asked for yet.
    ended: BTreeMap<i32, i32>,
    /// The container's.
    id: String,
    /// Its cgroup's directory.
    cgroup: Option<PathBuf>,
}

impl Agent {
    /// Until the host's end of the channel is gone.
    fn serve(&mut self) -> Result<()> {
        loop {
            let polled = self.wait()?;
            if polled[1].revents != 0 {
                self.collect()?;
            }
            for (session, one) in self.sessions.iter_mut().filter(|(_, one)| one.has_begun()) {
                one.pump.serve(*session, &polled, &mut self.out);
            }
            self.finish_verbs(&polled);
            self.finish_sessions();
            self.write()?;
            if polled[0].revents & (libc::POLLIN | libc::POLLHUP) != 0 && !self.read()? {
                return Ok(());
            }
        }
    }

    fn wait(&mut self) -> Result<Vec<libc::pollfd>> {
        let watch = |fd: i32, events: i16| libc::pollfd { fd, events, revents: 0 };
        let for_port = libc::POLLIN | if self.out.is_empty() { 0 } else { libc::POLLOUT };
        let mut all = vec![watch(self.port.as_raw_fd(), for_port), watch(self.signals.as_raw_fd(), libc::POLLIN)];
        let room = self.out.len() < FULL;
        let begun = self.sessions.values_mut().filter(|session| session.has_begun());
        begun.for_each(|session| session.pump.watch(&mut all, room));
        self.running.iter_mut().for_each(|one| one.watch(&mut all));
        let again = self.sessions.values().any(|session| session.pump.must_look_again());
        fd::poll(&mut all, if again { LOOK_AGAIN } else { -1 })
            .map_err(|errno| Error::system("wait for something to do", errno as i32))?;
        Ok(all)
    }

    fn write(&mut self) -> Result<()> {
        while !self.out.is_empty() {
            match fd::write(&self.port, &self.out) {
                Ok(length) => drop(self.out.drain(..length)),
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => return Err(Error::system("write to the channel", errno as i32)),
            }
        }
        Ok(())
    }

    /// False at the channel's end.
    fn read(&mut self) -> Result<bool> {
        let mut bytes = vec![0; self.reader.room()];
        let length = match fd::read(&self.port, &mut bytes) {
            Err(Errno::EAGAIN) => return Ok(true),
            Ok(0) => return Ok(false),
            other => other.map_err(|errno| Error::system("read from the channel", errno as i32))?,
        };
        let mut reader = std::mem::take(&mut self.reader);
        reader.push(&bytes[..length]);
        let broken = |why| Error::new(Kind::System, "understand the host").because(why);
        while let Some(Frame { session, message }) = reader.frame().map_err(broken)? {
            self.take(session, message).map_err(broken)?;
        }
        self.reader = reader;
        Ok(true)
    }

    fn take(&mut self, number: u32, message: Message<'_>) -> Result<(), &'static str> {
        match message {
            Message::Hello { version: VERSION } => Ok(()),
            Message::Hello { .. } => Err("it speaks another version"),
            Message::Part(bytes) => {
                let parts = self.parts.entry(number).or_default();
                if parts.len() + bytes.len() > MOST_PARTS {
                    return Err("a call is too long");
                }
                parts.extend_from_slice(bytes);
                Ok(())
            }
            Message::Call(bytes) => {
                let verb = serde_json::from_slice(bytes).map_err(|_| "a verb is unknown")?;
                let parts = self.parts.remove(&number).unwrap_or_default();
                if let Err(error) = self.call(number, verb, &parts) {
                    self.answer(number, Err(error));
                }
                Ok(())
            }
            Message::Outcome(_) | Message::Exit(_) | Message::Killed(_) => Err("that is for the guest to say"),
            _ => match self.sessions.get_mut(&number) {
                Some(session) => session.take(message),
                // It has ended meanwhile.
                None => Ok(()),
            },
        }
    }

    fn call(&mut self, number: u32, verb: Verb, parts: &[u8]) -> Result<()> {
        if self.running.len() >= MOST_SESSIONS {
            return Err(Error::new(Kind::System, "ask the guest").because("it has too much to do"));
        }
        if let Verb::Create { id, network, parts, .. } = &verb {
            if parts.share {
                setup::share()?;
            }
            if parts.disk {
                setup::disk()?;
            }
            if let Some(interfaces) = network {
                crate::network::apply(NETWORK, interfaces)?;
            }
            self.id.clone_from(id);
        }
        let (running, session) = verb::begin(&self.id, number, verb, parts)?;
        self.running.push(running);
        if let Some(session) = session {
            self.sessions.insert(number, session);
        }
        Ok(())
    }

    fn answer(&mut self, number: u32, outcome: Result<serde_json::Value>) {
        let outcome = written(outcome.map_err(|error| crate::wire::Failure::of(&error)));
        put(&mut self.out, number, Message::Outcome(&outcome));
    }

    /// Learns how children have ended.
    fn collect(&mut self) -> Result<()> {
        while signal::take(&self.signals).is_ok_and(|number| number.is_some()) {}
        loop {
            match process::wait_status(-1, libc::WNOHANG) {
                Ok(Some((pid, status))) => {
                    if let Some(session) = self.sessions.values_mut().find(|session| session.pid == Some(pid)) {
                        session.status = Some(status);
                    } else if self.ended.len() < MOST_ENDED {
                        self.ended.insert(pid, status);
                    }
                }
                Ok(None) | Err(Errno::ECHILD) => break,
                Err(errno) => return Err(Error::system("learn how processes end", errno as i32)),
            }
        }
        Ok(())
    }

    fn finish_verbs(&mut self, polled: &[libc::pollfd]) {
        for one in &mut self.running {
            one.serve(polled);
        }
        let (done, running) = std::mem::take(&mut self.running).into_iter().partition(Running::is_done);
        self.running = running;
        for one in Vec::from_iter::<Vec<Running>>(done) {
            let (number, makes_session) = (one.number, one.makes_session());
            let outcome = one.outcome(self.killed());
            let outcome = match self.sessions.get_mut(&number).filter(|_| makes_session) {
                None => outcome,
                Some(session) => {
                    let outcome = outcome.and_then(|value| session.begin().map(|()| value));
                    if number == 0 {
                        self.cgroup = session.pid.and_then(setup::cgroup_of);
                    }
                    match &outcome {
                        // It may be over already.
                        Ok(_) => session.status = session.pid.and_then(|pid| self.ended.remove(&pid)),
                        Err(_) => drop(self.sessions.remove(&number)),
                    }
                    outcome
                }
            };
            self.answer(number, outcome);
        }
        if self.running.is_empty() {
            self.ended.clear();
        }
    }

    /// Processes of the container that the kernel has killed for want of memory.
    fn killed(&self) -> i32 {
        let events = self.cgroup.as_ref().and_then(|dir| std::fs::read_to_string(dir.join("memory.events")).ok());
        let line = |text: &str| text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok());
        events.and_then(|text| line(&text)).unwrap_or(0)
    }

    fn finish_sessions(&mut self) {
        let mut over = Vec::new();
        for (number, session) in &mut self.sessions {
            let Some(status) = session.status else { continue };
            if session.pump.drain(*number, &mut self.out) {
                over.push((*number, status));
            }
        }
        for (number, status) in over {
            if let Some(mut session) = self.sessions.remove(&number) {
                session.pump.end(number, &mut self.out);
            }
            if number == 0 {
                machine::sync();
                let killed = self.killed();
                put(&mut self.out, 0, Message::Killed(killed));
            }
            put(&mut self.out, number, Message::Exit(status));
        }
    }
}
