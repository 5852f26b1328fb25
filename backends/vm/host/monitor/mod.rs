//! The stand-in's own life: it boots the machine, carries the payload's bytes and signals, answers verbs, and ends as
//! the payload has ended. One loop that waits only in poll(2).

mod boot;
mod channel;
mod clients;

use super::control::{Reply, Request, State};
use super::job::{Inherited, Job};
use super::qemu::Qemu;
use crate::machine::Accelerator;
use crate::network::Attached;
use crate::wire::{FULL, Failure, File, MOST_SESSIONS, Message, Pump, Reader, Sink, Source, Verb, put};
use clients::Client;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};
use wharf_core::{Ended, Error, Kind};
use wharf_monitor::Watch;
use wharf_sys::{Fd, fd, libc, signal, socket, terminal};

/// How long a killed payload may take to end before its machine is ended.
const GRACE: Duration = Duration::from_secs(10);
/// How long its last words may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(10);
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
    /// The network namespace that the container is given, until we are in it.
    namespace: Option<OwnedFd>,
    network: Option<Attached>,
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
    /// Processes that the guest's kernel has killed for want of memory.
    killed: i32,
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
    /// To the end, of which everything is told to whom it concerns.
    fn live(&mut self) -> Ended {
        let (ended, why) = match self.turns() {
            Ok(ended @ Ended::Signaled { signal: libc::SIGKILL, .. }) if self.killed > 0 => {
                (ended, Some("the guest's kernel has killed it for want of memory".to_owned()))
            }
            Ok(ended) => (ended, None),
            Err(Lost { why, ended }) => (ended, Some(why)),
        };
        self.qemu.end();
        if let Some(network) = &mut self.network {
            network.end();
        }
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
