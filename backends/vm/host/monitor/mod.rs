//! The stand-in's own life: it boots the machine, carries the payload's bytes and signals, answers verbs, and ends as
//! the payload has ended. One loop that waits only in poll(2).

mod clients;

use super::control::{self, Reply, Request, State};
use super::job::{Inherited, Job};
use super::qemu::Qemu;
use super::seclude::seclude;
use super::stage;
use crate::machine::Accelerator;
use crate::wire::{
    FULL, Failure, File, Frame, LONGEST, MOST_SESSIONS, Message, Outcome, Pump, Reader, Sink, Source, VERSION, Verb,
    put, read_outcome,
};
use clients::Client;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};
use wharf_core::{Ended, Error, Kind, Result, WitnessKind};
use wharf_monitor::Watch;
use wharf_sys::{Errno, Fd, fd, libc, process, signal, socket, terminal};

/// How long a killed payload may take to end before its machine is ended.
const GRACE: Duration = Duration::from_secs(10);
/// How long its last words may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// How long a processor of which only the attempt tells may take to boot the guest.
const ATTEMPT: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Most questions that a guest leaves unanswered.
const MOST_ASKED: usize = 4 * MOST_SESSIONS;
/// Most verbs at once.
const MOST_CLIENTS: usize = MOST_SESSIONS;

/// The stand-in's exit code where it does not end by a signal; it is the payload's.
pub fn main(words: &[OsString]) -> i32 {
    let Some(inherited) = Inherited::take(words) else { return 2 };
    match Monitor::begin(inherited) {
        Ok(mut monitor) => {
            let ended = monitor.live();
            wharf_monitor::stand_in::end_as(ended)
        }
        Err((creator, error)) => {
            tell(&creator, &Reply::Err(Failure::of(&error)));
            1
        }
    }
}

/// Who has asked the guest for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    Creator,
    Client(u64),
    /// A signal that came by itself.
    Nobody,
}

struct Session {
    pump: Pump,
    /// How its process has ended.
    status: Option<i32>,
    client: Option<u64>,
}

/// A call on its way to the guest.
struct Outgoing {
    number: u32,
    parts: Vec<u8>,
    sent: usize,
    call: Vec<u8>,
}

struct Monitor {
    job: Job,
    creator: Option<OwnedFd>,
    released: bool,
    signals: OwnedFd,
    listener: OwnedFd,
    watch: Option<Watch>,
    qemu: Qemu,
    accelerators: Vec<Accelerator>,
    accelerator: Accelerator,
    boot_until: Option<Instant>,
    state: State,
    paused: bool,
    reader: Reader,
    out: Vec<u8>,
    outgoing: VecDeque<Outgoing>,
    asked: BTreeMap<u32, (Asker, Option<Request>)>,
    sessions: BTreeMap<u32, Session>,
    clients: Vec<Client>,
    next: u32,
    next_client: u64,
    kill_until: Option<Instant>,
    /// The payload's end, and until when its last words are waited for.
    over: Option<(i32, Instant)>,
}

/// Why a machine is at its end without its payload having told how.
struct Lost {
    why: String,
    ended: Ended,
}

fn lost(why: impl Into<String>) -> Lost {
    Lost { why: why.into(), ended: Ended::Unknown }
}

impl Monitor {
    fn begin(inherited: Inherited) -> std::result::Result<Monitor, (OwnedFd, Error)> {
        let Inherited { dir, job, creator } = inherited;
        match Self::prepare(dir, job, &creator) {
            Ok(mut monitor) => {
                monitor.creator = Some(creator);
                Ok(monitor)
            }
            Err(error) => Err((creator, error)),
        }
    }

    fn prepare(dir: OwnedFd, job: Job, creator: &OwnedFd) -> Result<Monitor> {
        let failed = |errno: Errno| Error::system("stand in for the machine", errno as i32);
        // It may be on its way into its cgroup.
        match socket::receive(creator, &mut [0; 8]).map_err(failed)? {
            (2, _) => {}
            _ => return Err(failed(Errno::ECANCELED)),
        }
        let signals = signal::descriptor().map_err(failed)?;
        let watch = Watch::open(&dir, WitnessKind::StandIn, &job.cgroup)?;
        let listener = wharf_sys::mount::inside(&dir, || {
            let listener = socket::sequenced()?;
            socket::bind(&listener, control::SOCKET)?;
            socket::listen(&listener).map(|()| listener)
        })
        .map_err(failed)?;
        let share = job.state_dir.join(stage::NAME);
        std::fs::create_dir(&share)
            .map_err(|error| crate::machine::drivers::io("make the machine's directory", &error))?;
        stage::make(&share, &job.bindings)?;
        if job.terminal {
            terminal::take_control(Fd(0)).map_err(failed)?;
            let settings = terminal::Settings::of(Fd(0)).map_err(failed)?;
            settings.raw().without_onlcr().apply(Fd(0)).map_err(failed)?;
        }
        let mut accelerators = job.accelerators.clone();
        accelerators.reverse();
        let accelerator = accelerators.pop().ok_or_else(|| failed(Errno::ENODEV))?;
        let qemu = Qemu::start(&job, accelerator)?;
        let patience = if accelerators.is_empty() { job.patience } else { ATTEMPT.min(job.patience) };
        Ok(Monitor {
            creator: None,
            released: false,
            signals,
            listener,
            watch: Some(watch),
            qemu,
            accelerators,
            accelerator,
            boot_until: Some(Instant::now() + patience),
            state: State::Creating,
            paused: false,
            reader: Reader::new(),
            out: Vec::new(),
            outgoing: VecDeque::new(),
            asked: BTreeMap::new(),
            sessions: BTreeMap::new(),
            clients: Vec::new(),
            next: 1,
            next_client: 1,
            kill_until: None,
            over: None,
            job,
        })
    }

    /// To the end, of which everything is told to whom it concerns.
    fn live(&mut self) -> Ended {
        let (ended, why) = match self.turns() {
            Ok(ended) => (ended, None),
            Err(Lost { why, ended }) => (ended, Some(why)),
        };
        self.qemu.end();
        if let Some(creator) = self.creator.take() {
            let error =
                Error::new(Kind::System, "start the virtual machine").because(why.as_deref().unwrap_or("it ended"));
            tell(&creator, &Reply::Err(Failure::of(&error)));
        }
        if self.released
            && let Some(watch) = self.watch.take()
        {
            let _ = watch.finish_because(ended, why);
        }
        ended
    }

    fn turns(&mut self) -> std::result::Result<Ended, Lost> {
        loop {
            let polled = self.wait()?;
            let ready = |at: usize| polled[at].revents != 0;
            if ready(0) {
                self.hear_signals();
            }
            self.qemu.listen();
            if ready(1) {
                if !self.boots_otherwise()? {
                    return Err(self.machine_ended());
                }
                continue;
            }
            if ready(3) {
                self.accept();
            }
            if ready(4) {
                self.hear_creator()?;
            }
            for (number, session) in &mut self.sessions {
                session.pump.serve(*number, &polled, &mut self.out);
            }
            let from = polled.len() - self.clients.len();
            let spoke: Vec<u64> = self
                .clients
                .iter()
                .zip(&polled[from..])
                .filter(|(_, one)| one.revents != 0)
                .map(|(client, _)| client.number)
                .collect();
            spoke.into_iter().for_each(|number| self.hear_client(number));
            self.queue();
            self.write()?;
            if ready(2) {
                self.read()?;
            }
            self.close_sessions();
            self.watch_time()?;
            if let Some((status, until)) = self.over {
                let written = self.sessions.get(&0).is_none_or(|session| session.pump.is_written());
                if written || Instant::now() >= until {
                    return Ok(Ended::of_status(status));
                }
            }
        }
    }

    fn wait(&mut self) -> std::result::Result<Vec<libc::pollfd>, Lost> {
        let watch = |fd: i32, events: i16| libc::pollfd { fd, events, revents: 0 };
        let has_more = !self.out.is_empty() || !self.outgoing.is_empty();
        let for_channel = libc::POLLIN | if has_more { libc::POLLOUT } else { 0 };
        let free = self.clients.len() < MOST_CLIENTS;
        let mut all = vec![
            watch(self.signals.as_raw_fd(), libc::POLLIN),
            watch(self.qemu.pidfd.as_raw_fd(), libc::POLLIN),
            watch(self.qemu.channel.as_raw_fd(), for_channel),
            watch(if free { self.listener.as_raw_fd() } else { -1 }, libc::POLLIN),
            watch(self.creator.as_ref().map_or(-1, AsRawFd::as_raw_fd), libc::POLLIN),
            watch(self.qemu.voices[0].as_raw_fd(), libc::POLLIN),
            watch(self.qemu.voices[1].as_raw_fd(), libc::POLLIN),
            watch(self.qemu.control.as_raw_fd(), libc::POLLIN),
        ];
        let room = self.out.len() < FULL;
        self.sessions.values_mut().for_each(|session| session.pump.watch(&mut all, room));
        all.extend(self.clients.iter().map(|client| watch(client.socket.as_raw_fd(), libc::POLLIN)));
        let deadlines = [self.boot_until, self.kill_until, self.over.map(|(_, until)| until)];
        let again = self.sessions.values().any(|session| session.pump.must_look_again());
        let until = deadlines.into_iter().flatten().min().map(|until| until.saturating_duration_since(Instant::now()));
        let limit = if again { Some(until.map_or(LOOK_AGAIN, |until| until.min(LOOK_AGAIN))) } else { until };
        let milliseconds = limit.map_or(-1, |limit| limit.as_millis() as i32 + 1);
        fd::poll(&mut all, milliseconds)
            .map_err(|errno| lost(format!("its stand-in cannot wait: {}", errno.desc())))?;
        Ok(all)
    }

    /// The guest has not come up: with the next accelerator, where there is one.
    fn boots_otherwise(&mut self) -> std::result::Result<bool, Lost> {
        if self.boot_until.is_none() {
            return Ok(false);
        }
        let Some(accelerator) = self.accelerators.pop() else { return Ok(false) };
        self.qemu.end();
        self.accelerator = accelerator;
        self.qemu = Qemu::start(&self.job, accelerator).map_err(|error| lost(error.to_string()))?;
        (self.reader, self.out) = (Reader::new(), Vec::new());
        self.boot_until = Some(Instant::now() + self.job.patience);
        Ok(true)
    }

    fn machine_ended(&mut self) -> Lost {
        let status = process::wait_status(self.qemu.pid, libc::WNOHANG)
            .ok()
            .flatten()
            .map(|(_, status)| Ended::of_status(status));
        match status {
            Some(ended @ Ended::Signaled { signal, .. }) => {
                Lost { why: format!("QEMU was killed by signal {signal}"), ended }
            }
            _ => lost(self.qemu.last_words()),
        }
    }

    fn watch_time(&mut self) -> std::result::Result<(), Lost> {
        let now = Instant::now();
        if self.boot_until.is_some_and(|until| now >= until) && !self.boots_otherwise()? {
            let words = self.qemu.words().map(|words| format!("; {words}")).unwrap_or_default();
            let seconds = self.job.patience.as_secs();
            return Err(lost(format!("the guest has not answered within {seconds} s{words}")));
        }
        if self.kill_until.is_some_and(|until| now >= until) {
            return Err(killed("the guest has not ended the payload, and was ended"));
        }
        Ok(())
    }

    fn hear_signals(&mut self) {
        while let Ok(Some(number)) = signal::take(&self.signals) {
            match number {
                libc::SIGCHLD | libc::SIGURG | libc::SIGPIPE | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => {}
                libc::SIGWINCH if self.job.terminal => self.tell_size(),
                // The payload's terminal tells it itself.
                libc::SIGHUP | libc::SIGCONT if self.job.terminal => {}
                _ if matches!(self.state, State::Created | State::Running) => {
                    self.ask(Asker::Nobody, None, &Verb::Kill { signal: number, all: false }, &[]);
                }
                _ => {}
            }
        }
    }

    fn tell_size(&mut self) {
        if let Ok(size) = terminal::size(Fd(0)) {
            put(&mut self.out, 0, Message::Window { rows: size.rows, columns: size.columns });
        }
    }

    /// Its word that we go on alone, or its end.
    fn hear_creator(&mut self) -> std::result::Result<(), Lost> {
        let Some(creator) = self.creator.take() else { return Ok(()) };
        match socket::receive(&creator, &mut [0; 8]) {
            Ok((4, _)) => self.released = true,
            _ => return Err(lost("create was interrupted")),
        }
        Ok(())
    }

    /// A verb to the guest; its answer goes to `asker`.
    fn ask(&mut self, asker: Asker, request: Option<Request>, verb: &Verb, parts: &[u8]) {
        let number = match asker {
            Asker::Creator => 0,
            _ => {
                self.next = self.next.checked_add(1).unwrap_or(1);
                self.next
            }
        };
        if self.asked.len() > MOST_ASKED {
            let error = Error::new(Kind::System, "ask the guest").because("it has not answered many questions before");
            if let Asker::Client(client) = asker {
                self.reply(client, &Reply::Err(Failure::of(&error)));
            }
            return;
        }
        if matches!(verb, Verb::Kill { signal: libc::SIGKILL, .. }) {
            self.kill_until.get_or_insert(Instant::now() + GRACE);
        }
        self.asked.insert(number, (asker, request));
        let call = serde_json::to_vec(verb).unwrap_or_default();
        self.outgoing.push_back(Outgoing { number, parts: parts.to_vec(), sent: 0, call });
    }

    /// As much of the calls as there is room for.
    fn queue(&mut self) {
        while self.out.len() < FULL {
            let Some(next) = self.outgoing.front_mut() else { return };
            if next.sent < next.parts.len() {
                let to = next.parts.len().min(next.sent + LONGEST);
                put(&mut self.out, next.number, Message::Part(&next.parts[next.sent..to]));
                next.sent = to;
            } else if next.call.len() > LONGEST {
                // Its words are from a verb's command line.
                let (number, error) =
                    (next.number, Error::invalid("ask the guest").because("the command line is too long"));
                self.outgoing.pop_front();
                self.answer(number, Err(Failure::of(&error)));
            } else {
                put(&mut self.out, next.number, Message::Call(&next.call));
                self.outgoing.pop_front();
            }
        }
    }

    fn write(&mut self) -> std::result::Result<(), Lost> {
        while !self.out.is_empty() {
            match fd::write_now(&self.qemu.channel, &self.out) {
                Ok(length) => drop(self.out.drain(..length)),
                Err(Errno::EAGAIN) => return Ok(()),
                // Its end is told by its process.
                Err(_) if process::readable(&self.qemu.pidfd, 1000) == Ok(true) => return Ok(()),
                Err(_) => return Err(lost("its channel was cut")),
            }
        }
        Ok(())
    }

    fn read(&mut self) -> std::result::Result<(), Lost> {
        let mut bytes = vec![0; self.reader.room()];
        let length = match fd::read(&self.qemu.channel, &mut bytes) {
            Err(Errno::EAGAIN) => return Ok(()),
            Ok(0) | Err(_) if process::readable(&self.qemu.pidfd, 1000) == Ok(true) => return Ok(()),
            Ok(0) | Err(_) => return Err(lost("its channel was cut")),
            Ok(length) => length,
        };
        let mut reader = std::mem::take(&mut self.reader);
        reader.push(&bytes[..length]);
        let broken = |why: &str| lost(format!("the guest does not keep to the protocol: {why}"));
        while let Some(Frame { session, message }) = reader.frame().map_err(broken)? {
            self.take(session, message).map_err(broken)?;
        }
        self.reader = reader;
        Ok(())
    }

    fn take(&mut self, number: u32, message: Message<'_>) -> std::result::Result<(), &'static str> {
        match message {
            Message::Hello { version: VERSION } if self.boot_until.is_some() && self.state == State::Creating => {
                self.boot_until = Some(Instant::now() + self.job.patience);
                put(&mut self.out, 0, Message::Hello { version: VERSION });
                let words = self.job.words.clone();
                let verb = Verb::Create { id: self.job.id.clone(), terminal: self.job.terminal, words };
                let config = std::mem::take(&mut self.job.config);
                self.ask(Asker::Creator, None, &verb, config.as_bytes());
                Ok(())
            }
            Message::Hello { .. } => Err("it speaks another version, or twice"),
            Message::Outcome(bytes) => {
                let outcome = read_outcome(bytes)?;
                self.answer(number, outcome);
                Ok(())
            }
            Message::Exit(status) => {
                match self.sessions.get_mut(&number) {
                    Some(session) if session.status.is_none() => session.status = Some(status),
                    // A payload may end before the answer to its creation is here; nothing else may.
                    _ => return Err("the end of a process that nobody has asked for"),
                }
                if number == 0 {
                    self.over = Some((status, Instant::now() + LAST_WORDS));
                    self.kill_until = None;
                }
                Ok(())
            }
            Message::Part(_) | Message::Call(_) | Message::Window { .. } | Message::Signal(_) => {
                Err("that is for the host to say")
            }
            _ => match self.sessions.get_mut(&number) {
                Some(session) => session.pump.take(message),
                None => Ok(()),
            },
        }
    }

    fn answer(&mut self, number: u32, outcome: Outcome) {
        let Some((asker, request)) = self.asked.remove(&number) else { return };
        match asker {
            Asker::Creator => self.created(outcome),
            Asker::Nobody => {}
            Asker::Client(client) => {
                match request {
                    Some(Request::Start) if outcome.is_ok() => self.state = State::Running,
                    Some(Request::Exec { terminal, .. }) if outcome.is_ok() => self.join(client, number, terminal),
                    _ => {}
                }
                self.reply(client, &Reply::of(outcome));
            }
        }
    }

    fn created(&mut self, outcome: Outcome) {
        self.boot_until = None;
        let standard = || -> Result<Vec<OwnedFd>, Errno> {
            let numbers = if self.job.terminal { 0..1 } else { 0..3 };
            numbers.map(|number| fd::duplicate(Fd(number))).collect()
        };
        let outcome = outcome.map_err(Failure::into_error).and_then(|_| {
            seclude()?;
            standard().map_err(|errno| Error::system("keep the payload's standard descriptors", errno as i32))
        });
        let reply = match outcome {
            Ok(descriptors) => {
                let pump = pump(descriptors, self.job.terminal);
                self.sessions.insert(0, Session { pump, status: None, client: None });
                self.state = State::Created;
                if self.job.terminal {
                    self.tell_size();
                }
                Reply::Ok(serde_json::to_value(self.accelerator).unwrap_or_default())
            }
            Err(error) => Reply::Err(Failure::of(&error)),
        };
        if let Some(creator) = &self.creator {
            tell(creator, &reply);
        }
        // A terminal is held by its pump; others are the engine's, and held by nobody but theirs.
        if self.job.terminal {
            (1..3).for_each(|number| fd::close(Fd(number)));
        } else {
            (0..3).for_each(|number| fd::close(Fd(number)));
        }
    }
}

fn pump(descriptors: Vec<OwnedFd>, terminal: bool) -> Pump {
    let mut files = descriptors.into_iter().map(|descriptor| match terminal {
        true => File::own(descriptor).ok(),
        false => Some(File::lent(descriptor)),
    });
    let stdin = files.next().flatten();
    if terminal {
        return Pump::new(vec![Source::new(0, stdin.clone())], vec![Sink::new(1, stdin)]);
    }
    let (stdout, stderr) = (files.next().flatten(), files.next().flatten());
    Pump::new(vec![Source::new(0, stdin)], vec![Sink::new(1, stdout), Sink::new(2, stderr)])
}

fn tell(socket: impl AsFd, reply: &Reply) {
    if let Ok(bytes) = serde_json::to_vec(reply) {
        let _ = fd::set_nonblocking(&socket);
        let _ = socket::send(&socket, &bytes, None);
    }
}

fn killed(why: &str) -> Lost {
    Lost { why: why.to_owned(), ended: Ended::Signaled { signal: libc::SIGKILL, core: Some(false) } }
}
