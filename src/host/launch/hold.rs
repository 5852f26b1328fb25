//! A container between birth and release: until then it is taken back when anything fails.

use super::{birth, expect_failure};
use crate::carrier::{Carried, StandIn};
use crate::draft::Judged;
use crate::remove;
use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use wharf_cgroup::Cgroup;
use wharf_core::{CgroupPaths, Error, Hold, Process, Record, Result};
use wharf_foreground::{HostTerminal, Relay};
use wharf_plan::Container;
use wharf_sys::process::{self, Ended};
use wharf_sys::{Errno, libc, socket};

/// How long a process whose socket has closed may take to end, in milliseconds.
const GRACE: i32 = 1000;

/// What `run` keeps of a container that it starts itself.
pub(crate) struct Attached {
    pub(crate) socket: OwnedFd,
    pub(crate) container: Container,
    pub(crate) terminal: Option<Terminal>,
}

/// Our own terminal, and the master end of the payload's.
pub(crate) type Terminal = (HostTerminal, OwnedFd);

/// What this process keeps of a container that it has let go.
#[expect(clippy::large_enum_variant, reason = "there is one, and `run` makes it without a box")]
pub(crate) enum Left {
    Attached(Attached),
    /// The terminal of a restored payload, which runs already.
    Terminal(Box<Relay>),
}

/// What becomes an [`Attached`] on release, and where that goes.
pub(super) struct Attach {
    pub(super) to: Rc<RefCell<Option<Left>>>,
    pub(super) container: Container,
    pub(super) terminal: Option<Terminal>,
}

/// A container's first process.
pub(super) enum FirstProcess {
    /// Our own child.
    Own { pid: i32, pidfd: OwnedFd },
    /// Another has borne it, and so waits for it.
    Carried(Box<dyn Carried>),
}

impl FirstProcess {
    fn pid(&self) -> i32 {
        match self {
            FirstProcess::Own { pid, .. } => *pid,
            FirstProcess::Carried(carried) => carried.pid(),
        }
    }

    fn pidfd(&self) -> &OwnedFd {
        match self {
            FirstProcess::Own { pidfd, .. } => pidfd,
            FirstProcess::Carried(carried) => carried.pidfd(),
        }
    }
}

/// A first process that is not yet let go.
pub(super) struct Newborn {
    pub(super) pid: i32,
    first: FirstProcess,
    socket: Option<OwnedFd>,
    cgroup: CgroupPaths,
    record: Record,
    /// Its hooks may have run, so poststop must.
    pub(super) reached_hooks: bool,
    /// Where the socket goes on release, for `run`.
    pub(super) attach: Option<Attach>,
    ended: Cell<Option<Ended>>,
}

impl Newborn {
    pub(super) fn new(first: FirstProcess, socket: OwnedFd, cgroup: CgroupPaths, record: &Record) -> Self {
        Newborn {
            pid: first.pid(),
            first,
            socket: Some(socket),
            cgroup,
            record: record.clone(),
            reached_hooks: false,
            attach: None,
            ended: Cell::new(None),
        }
    }

    pub(super) fn pidfd(&self) -> &OwnedFd {
        self.first.pidfd()
    }

    /// Of what has borne it, where that is another.
    pub(super) fn last_words(&self) -> Option<String> {
        match &self.first {
            FirstProcess::Own { .. } => None,
            FirstProcess::Carried(carried) => carried.last_words(),
        }
    }

    /// Who engines see in its place.
    pub(super) fn stand_in(&mut self, init: &Process) -> Result<Option<StandIn>> {
        match &mut self.first {
            FirstProcess::Own { .. } => Ok(None),
            FirstProcess::Carried(carried) => carried.stand_in(init).map(Some),
        }
    }

    fn socket(&self) -> Result<&OwnedFd> {
        self.socket.as_ref().ok_or_else(|| Error::system("speak with the init", Errno::ENOTCONN as i32))
    }

    /// Lets it go on.
    pub(super) fn go(&self) -> Result<()> {
        match socket::send(self.socket()?, &[1], None) {
            // It has ended; what it said last tells why.
            Ok(()) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
            Err(errno) => Err(Error::system("speak with the init", errno as i32)),
        }
    }

    /// Its next message; of length 0 when it has ended.
    pub(super) fn receive(&self, message: &mut [u8]) -> Result<(usize, Option<OwnedFd>)> {
        match socket::receive(self.socket()?, message) {
            Err(Errno::ECONNRESET) => Ok((0, None)),
            other => other.map_err(|errno| Error::system("hear from the init", errno as i32)),
        }
    }

    pub(super) fn cgroup(&self) -> &CgroupPaths {
        &self.cgroup
    }

    /// How it ended. One that lives on is killed: nothing is to come of it.
    pub(super) fn ended(&self) -> Option<Ended> {
        if self.ended.get().is_none() {
            // What has closed its socket is about to end by itself, and that is what is to be told.
            let by_itself = self.socket.is_some() && process::readable(self.pidfd(), GRACE).unwrap_or(false);
            if !by_itself {
                let _ = process::signal(self.pidfd(), libc::SIGKILL);
            }
            self.ended.set(process::wait(self.pid, 0).ok().flatten().map(|(_, ended)| ended));
        }
        self.ended.get()
    }

    /// Into its cgroup, which it was not born in.
    pub(super) fn enter(&mut self, cgroup: &mut Cgroup<'_>) -> Result<()> {
        let entered = cgroup.take(self.pid);
        if cgroup.is_scope() {
            self.cgroup = cgroup.paths();
        }
        entered
    }

    /// Lets the init in between bear the one that stays, and takes that one in its place.
    pub(super) fn adopt(&mut self, judged: &Judged<'_>, cgroup: &mut Cgroup<'_>) -> Result<()> {
        if cgroup.birth_fd().is_none() {
            self.enter(cgroup)?;
        }
        self.go()?;
        let mut message = [0; wharf_steps::Failure::MAX];
        let (length, _) = self.receive(&mut message)?;
        let &[wharf_steps::BORN, a, b, c, d] = &message[..length] else {
            return Err(expect_failure(judged, self, &message[..length]));
        };
        let middle = self.pid;
        let pid = i32::from_le_bytes([a, b, c, d]);
        let failed = |errno: Errno| Error::system("adopt the container's first process", errno as i32);
        self.pid = pid;
        self.first = FirstProcess::Own { pid, pidfd: process::pidfd(pid).map_err(failed)? };
        process::wait(middle, 0).map_err(failed)?;
        let namespaces = &judged.container.namespaces;
        if namespaces.new_user() {
            birth::map_ids(&judged.proc, self.pid, &namespaces.uid_map, &namespaces.gid_map, "linux")?;
        }
        self.go()
    }
}

impl Hold for Newborn {
    fn release(mut self: Box<Self>) -> Result<()> {
        // What is started next by us goes on when it is told to start.
        if self.attach.is_none() {
            self.go()?;
        }
        if let FirstProcess::Carried(carried) = &mut self.first {
            carried.release()?;
        }
        let socket = self.socket.take();
        if let (Some(Attach { to, container, terminal }), Some(socket)) = (self.attach.take(), socket) {
            to.replace(Some(Left::Attached(Attached { socket, container, terminal })));
        }
        Ok(())
    }
}

impl Drop for Newborn {
    fn drop(&mut self) {
        if self.socket.take().is_none() {
            return;
        }
        let _ = self.ended();
        if let FirstProcess::Carried(carried) = &mut self.first {
            carried.give_up();
        }
        self.record.cgroup = std::mem::take(&mut self.cgroup);
        remove::undo(&self.record, self.reached_hooks);
    }
}
