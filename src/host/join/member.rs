//! A process between its birth and its command.

use super::explained;
use crate::launch::birth;
use crate::listener::{self, Agent, Loading};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use wharf_core::{Error, Exec, Joined, Kind, Record, Remark, Result, Status};
use wharf_foreground::{HostTerminal, Relay};
use wharf_plan::{Note, Plan};
use wharf_steps::{BORN, Failure, Phase};
use wharf_sys::lot::served;
use wharf_sys::process::Ended;
use wharf_sys::{Errno, libc, process, socket};

/// How long a container that is being killed may take to end, in milliseconds.
const GRACE: i32 = 200;

/// A process that is in the container, or on its way there. Dropped before its release, it ends.
pub(super) struct Member {
    pid: i32,
    /// Who bears it, until that one is reaped.
    elder: Option<i32>,
    /// None after the release.
    socket: Option<OwnedFd>,
    plan: Plan,
    /// Who answers for its filter.
    agent: Option<Agent>,
    record: Record,
    asked: Exec,
    pub(super) notes: Vec<Note>,
    /// Our own terminal, and the master end of the process's, until its release.
    pub(super) terminal: Option<(HostTerminal, OwnedFd)>,
    /// From then on.
    relay: Option<Relay>,
}

impl Member {
    pub(super) fn new(
        pid: i32,
        socket: OwnedFd,
        plan: Plan,
        agent: Option<Agent>,
        record: &Record,
        asked: &Exec,
    ) -> Self {
        let (record, asked) = (record.clone(), asked.clone());
        Member {
            pid,
            elder: None,
            socket: Some(socket),
            plan,
            agent,
            record,
            asked,
            notes: Vec::new(),
            terminal: None,
            relay: None,
        }
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(super) fn pidfd(&self) -> Result<OwnedFd> {
        // A child that has not been waited for keeps its pid, so this is still the same process.
        process::pidfd(self.pid).map_err(|errno| Error::system(format!("open process {}", self.pid), errno as i32))
    }

    fn socket(&self) -> Result<&OwnedFd> {
        self.socket.as_ref().ok_or_else(|| Error::system("speak with the process", Errno::ENOTCONN as i32))
    }

    /// Lets it go on.
    pub(super) fn go(&self) -> Result<()> {
        match socket::send(self.socket()?, &[1], None) {
            // It has ended; what it said last tells why.
            Ok(()) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
            Err(errno) => Err(Error::system("speak with the process", errno as i32)),
        }
    }

    fn receive(&self, message: &mut [u8]) -> Result<usize> {
        match socket::receive(self.socket()?, message) {
            Err(Errno::ECONNRESET) => Ok(0),
            Ok((length, _)) => Ok(length),
            Err(errno) => Err(Error::system("hear from the process", errno as i32)),
        }
    }

    /// Waits until nothing is left but to become the command. With `bears`, the process is a younger sibling of the one
    /// that we know, and the word of its birth may come after its own.
    pub(super) fn settle(&mut self, bears: bool) -> Result<()> {
        let (mut ready, mut born) = (false, !bears);
        while !ready || !born {
            let mut message = [0; Failure::MAX];
            let length = self.receive(&mut message)?;
            match message[..length] {
                [phase] if phase == Phase::Ready as u8 => ready = true,
                [BORN, a, b, c, d] if !born => {
                    let pid = i32::from_le_bytes([a, b, c, d]);
                    // The word comes from a socket that a process in the container holds.
                    if !process::is_child(pid) {
                        return Err(self.failure(&message[..length]));
                    }
                    self.elder = Some(std::mem::replace(&mut self.pid, pid));
                    born = true;
                }
                ref other => return Err(self.failure(other)),
            }
        }
        self.reap_elder();
        Ok(())
    }

    fn reap_elder(&mut self) {
        if let Some(elder) = self.elder.take() {
            let _ = process::wait(elder, 0);
        }
    }

    /// The error that an unexpected message is.
    fn failure(&mut self, message: &[u8]) -> Error {
        if let Some(failure) = Failure::read(message) {
            let error = birth::explain(&failure).unwrap_or_else(|| self.plan.explain(&failure));
            return birth::named(error, &failure);
        }
        let ended = self.end();
        if ended == Some(Ended::Signaled(libc::SIGKILL)) {
            // Most often everything in the container is being killed, and its first process may be the last to go.
            self.await_init();
        }
        let why = match ended {
            Some(Ended::Signaled(signal)) => format!("it was killed by signal {signal}"),
            Some(Ended::Exited(code)) => format!("it exited with {code}"),
            None => "it sent something unknown".to_owned(),
        };
        Error::new(Kind::System, format!("exec in container {}", self.record.id)).because(format!("the process: {why}"))
    }

    fn await_init(&self) {
        let init = self.record.init.as_ref().and_then(|init| process::pidfd(init.pid).ok());
        if let Some(init) = init {
            let _ = process::readable(&init, GRACE);
        }
    }

    /// Ends it and takes it away; none where that was done before.
    fn end(&mut self) -> Option<Ended> {
        self.socket.take()?;
        if let Ok(pidfd) = self.pidfd() {
            let _ = process::signal(&pidfd, libc::SIGKILL);
        }
        let ended = process::wait(self.pid, 0).ok().flatten().map(|(_, ended)| ended);
        self.reap_elder();
        reap_unknown();
        ended
    }
}

/// An elder that is killed before it tells of its child leaves one that nobody knows, and a pid namespace does not end
/// while one of its processes is not waited for. Our end of the socket is gone, and it ends with that. Children that this
/// process had before it became wharf may live for long: for them nobody waits.
fn reap_unknown() {
    let begun = Instant::now();
    while let Ok(found) = process::wait(-1, libc::WNOHANG) {
        if found.is_none() {
            if begun.elapsed() > Duration::from_millis(GRACE as u64) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Joined for Member {
    fn pid(&self) -> i32 {
        self.pid
    }

    fn remarks(&self) -> Vec<Remark> {
        self.notes.iter().map(Note::remark).collect()
    }

    fn release(&mut self) -> Result<()> {
        if let Some((host, master)) = self.terminal.take() {
            self.relay = Some(Relay::begin(host, master).map_err(|errno| {
                Error::system("make our own terminal the process's", errno as i32).at("process/terminal")
            })?);
        }
        self.go()?;
        let mut message = [0; Failure::MAX];
        let open = || self.pidfd().map(Some);
        let loading = Loading { pid: self.pid, record: &self.record, status: Status::Running, open: &open };
        match listener::last_message(self.socket()?, &mut message, self.agent.as_ref(), &loading)? {
            // It is the command now, or was ended on the way: its exit code is for who waits for it.
            0 => {
                self.socket.take().map(served);
                Ok(())
            }
            length => {
                self.relay = None;
                let error = self.failure(&message[..length]);
                self.end();
                Err(explained(&self.record, &self.asked, error))
            }
        }
    }

    fn wait(mut self: Box<Self>) -> Result<wharf_core::Ended> {
        let failed = |errno: Errno| {
            let doing = format!("wait for process {} in container {}", self.pid, self.record.id);
            Error::system(doing, errno as i32)
        };
        wharf_foreground::wait(self.pid, self.relay.take(), None).map_err(failed)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.end();
    }
}
