//! What verbs ask of the stand-in, and the processes of `exec`.

use super::super::control::{self, Message as Asked, Reply, Request, State};
use super::{Asker, MOST_SESSIONS, Monitor, Session, pump, tell};
use crate::wire::{Failure, Message, Pump, Sink, Source, Verb, put};
use std::os::fd::OwnedFd;
use std::time::Instant;
use wharf_core::{Error, Kind};
use wharf_sys::{libc, socket};

/// A connection of a verb's.
pub(super) struct Client {
    pub(super) number: u64,
    pub(super) socket: OwnedFd,
    /// A process to be made, when its descriptors are there.
    pub(super) exec: Option<(Request, Vec<OwnedFd>)>,
    pub(super) session: Option<u32>,
}

impl Monitor {
    pub(super) fn accept(&mut self) {
        let Ok(socket) = socket::accept_now(&self.listener) else { return };
        self.clients.push(Client { number: self.next_client, socket, exec: None, session: None });
        self.next_client += 1;
    }

    pub(super) fn hear_client(&mut self, number: u64) {
        let Some(at) = self.clients.iter().position(|client| client.number == number) else { return };
        let mut bytes = vec![0; control::LONGEST + 1];
        let client = &mut self.clients[at];
        let (length, passed) = match socket::receive(&client.socket, &mut bytes) {
            Ok((0, _)) | Err(_) => return self.lose_client(at),
            Ok(heard) => heard,
        };
        if let (Some((request, descriptors)), Some(descriptor)) = (&mut client.exec, passed) {
            descriptors.push(descriptor);
            let wanted = if matches!(request, Request::Exec { terminal: true, .. }) { 1 } else { 3 };
            if descriptors.len() == wanted {
                let request = request.clone();
                self.exec(number, request);
            }
            return;
        }
        match serde_json::from_slice::<Asked>(&bytes[..length]) {
            Ok(asked) if asked.version == control::VERSION => self.request(at, asked.request),
            _ => {
                let error =
                    Error::new(Kind::System, "ask the virtual machine").because("its stand-in speaks another version");
                self.reply(number, &Reply::Err(Failure::of(&error)));
            }
        }
    }

    /// Whoever waited for a process of its own was killed: so is that.
    fn lose_client(&mut self, at: usize) {
        let client = self.clients.remove(at);
        if let Some(session) = client.session
            && self.sessions.contains_key(&session)
        {
            put(&mut self.out, session, Message::Signal(libc::SIGKILL));
        }
    }

    fn request(&mut self, at: usize, request: Request) {
        let number = self.clients[at].number;
        let asker = Asker::Client(number);
        let refuse = |why: &str| Reply::Err(Failure::of(&Error::new(Kind::NotRunning, why)));
        match &request {
            Request::Status => {
                let state = match self.state {
                    _ if self.over.is_some() => State::Stopped,
                    _ if self.paused => State::Paused,
                    state => state,
                };
                self.reply(number, &Reply::Ok(serde_json::to_value(state).unwrap_or_default()));
            }
            _ if self.over.is_some() => self.reply(number, &refuse("container not running")),
            Request::Start => match self.late_interfaces() {
                None => self.ask(asker, Some(request), &Verb::Start, &[]),
                Some(names) => {
                    let error = Error::unsupported(format!("interface {names} in a virtual machine"))
                        .because("it was put into the network namespace after the machine was made")
                        .hint("make the namespace first, and name it by its path in config.json");
                    self.reply(number, &Reply::Err(Failure::of(&error)));
                }
            },
            Request::Kill { signal: libc::SIGKILL, .. } if self.paused => {
                // A machine that stands still does nothing more.
                self.reply(number, &Reply::Ok(serde_json::Value::Null));
                self.kill_until = Some(Instant::now());
            }
            // They come when it goes on, as on this host.
            &Request::Kill { signal, all } if self.paused => {
                self.ask(Asker::Nobody, None, &Verb::Kill { signal, all }, &[]);
                self.reply(number, &Reply::Ok(serde_json::Value::Null));
            }
            Request::Events | Request::Ps | Request::Update { .. } | Request::Exec { .. } if self.paused => {
                let error = Error::new(Kind::WrongStatus, "ask the guest")
                    .because("the container is paused, and so is its whole machine");
                self.reply(number, &Reply::Err(Failure::of(&error)));
            }
            &Request::Kill { signal, all } => self.ask(asker, Some(request), &Verb::Kill { signal, all }, &[]),
            Request::Pause | Request::Resume => {
                let pause = matches!(request, Request::Pause);
                let outcome = self.qemu.command(if pause { "stop" } else { "cont" });
                if outcome.is_ok() {
                    self.paused = pause;
                }
                let outcome = outcome.map(|()| serde_json::Value::Null).map_err(|error| Failure::of(&error));
                self.reply(number, &Reply::of(outcome));
            }
            Request::Exec { .. } => self.clients[at].exec = Some((request, Vec::new())),
            &Request::Signal { signal } => self.hand_on(at, Message::Signal(signal)),
            &Request::Window { rows, columns } => self.hand_on(at, Message::Window { rows, columns }),
            Request::Events => self.ask(asker, Some(request), &Verb::Events, &[]),
            Request::Ps => self.ask(asker, Some(request), &Verb::Ps, &[]),
            Request::Update { resources } => {
                let parts = resources.clone();
                self.ask(asker, Some(request), &Verb::Update, parts.as_bytes());
            }
        }
    }

    /// Names of what somebody has put into the namespace that is ours alone.
    fn late_interfaces(&self) -> Option<String> {
        let here = self.network.is_none().then(crate::network::names)?;
        Some(here.ok()?.join(", ")).filter(|names| !names.is_empty())
    }

    fn hand_on(&mut self, at: usize, message: Message<'_>) {
        if let Some(session) = self.clients[at].session {
            put(&mut self.out, session, message);
        }
    }

    fn exec(&mut self, number: u64, request: Request) {
        if self.sessions.len() + self.asked.len() >= MOST_SESSIONS {
            let error =
                Error::new(Kind::System, "exec in the virtual machine").because("too many processes join it at once");
            return self.reply(number, &Reply::Err(Failure::of(&error)));
        }
        let Request::Exec { words, arguments, process, terminal } = &request else { return };
        let verb = Verb::Exec { words: words.clone(), arguments: arguments.clone(), terminal: *terminal };
        let parts = process.clone().unwrap_or_default();
        self.ask(Asker::Client(number), Some(request), &verb, parts.as_bytes());
    }

    /// The process of an exec waits for nothing more: its bytes flow.
    pub(super) fn join(&mut self, client: u64, number: u32, terminal: bool) {
        let found = self.clients.iter_mut().find(|one| one.number == client);
        let descriptors = found.and_then(|client| {
            client.session = Some(number);
            client.exec.take().map(|(_, descriptors)| descriptors)
        });
        match descriptors {
            Some(descriptors) => {
                let pump = pump(descriptors, terminal);
                self.sessions.insert(number, Session { pump, status: None, client: Some(client) });
            }
            // Its client is gone.
            None => {
                let pump = Pump::new(vec![Source::new(0, None)], vec![Sink::new(1, None), Sink::new(2, None)]);
                self.sessions.insert(number, Session { pump, status: None, client: None });
                put(&mut self.out, number, Message::Signal(libc::SIGKILL));
            }
        }
    }

    pub(super) fn close_sessions(&mut self) {
        let over: Vec<u32> = self
            .sessions
            .iter()
            .filter(|(number, session)| **number != 0 && session.status.is_some() && session.pump.is_written())
            .map(|(number, _)| *number)
            .collect();
        for number in over {
            let Some(session) = self.sessions.remove(&number) else { continue };
            if let (Some(client), Some(status)) = (session.client, session.status) {
                drop(session.pump);
                self.reply(client, &Reply::Exit(status));
                self.clients.retain(|one| one.number != client);
            }
        }
    }

    /// To a verb that may have gone, or does not listen: it is not waited for.
    pub(super) fn reply(&mut self, number: u64, reply: &Reply) {
        if let Some(client) = self.clients.iter().find(|client| client.number == number) {
            tell(&client.socket, reply);
        }
    }
}
