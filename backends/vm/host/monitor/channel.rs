//! What goes to the guest and what comes from it, of which nothing is believed.

use super::super::control::{Reply, Request, State};
use super::{Asker, GRACE, LAST_WORDS, Lost, MOST_ASKED, Monitor, Outgoing, lost};
use crate::wire::{FULL, Failure, Frame, LONGEST, Message, Outcome, Parts, VERSION, Verb, put, read_outcome};
use std::time::Instant;
use wharf_core::{Error, Kind};
use wharf_sys::{Errno, fd, libc, process};

impl Monitor {
    /// A verb to the guest; its answer goes to `asker`.
    pub(super) fn ask(&mut self, asker: Asker, request: Option<Request>, verb: &Verb, parts: &[u8]) {
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
    pub(super) fn queue(&mut self) {
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

    pub(super) fn write(&mut self) -> std::result::Result<(), Lost> {
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

    pub(super) fn read(&mut self) -> std::result::Result<(), Lost> {
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

    pub(super) fn take(&mut self, number: u32, message: Message<'_>) -> std::result::Result<(), &'static str> {
        match message {
            Message::Hello { version: VERSION } if self.boot_until.is_some() && self.state == State::Creating => {
                self.boot_until = Some(Instant::now() + self.job.patience);
                put(&mut self.out, 0, Message::Hello { version: VERSION });
                let words = self.job.words.clone();
                let network = self.network.as_ref().map(|network| network.interfaces.clone());
                let verb = Verb::Create {
                    id: self.job.id.clone(),
                    terminal: self.job.terminal,
                    words,
                    network,
                    parts: self.parts(),
                };
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
            Message::Killed(count) => {
                self.killed = count;
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

    fn parts(&self) -> Parts {
        Parts { share: !self.job.bindings.is_empty(), disk: self.job.disk.is_some() }
    }

    pub(super) fn answer(&mut self, number: u32, outcome: Outcome) {
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
}
