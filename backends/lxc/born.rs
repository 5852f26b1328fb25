//! A container that LXC has borne, whoever told LXC to: the words with its init, and what `create` holds of it until the
//! release.

use crate::stand::{self, Seat};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use wharf_cgroup::Handle;
use wharf_core::{Error, Kind, Process, Result};
use wharf_host::{Carried, Labour, StandIn};
use wharf_monitor::identity;
use wharf_steps::HELLO;
use wharf_sys::namespace::{Side, clone};
use wharf_sys::procfs::Procfs;
use wharf_sys::{Errno, Fd, fd, libc, parcel, process, socket};

/// How long the stand-in may take to answer, and to end.
const ANSWER: i32 = 20_000;

pub(crate) const DOING: &str = "create the container's first process by LXC";

pub(crate) fn failed(errno: Errno) -> Error {
    Error::system(DOING, errno as i32)
}

/// What differs between the drivers of what LXC has borne.
pub(crate) trait Cradle {
    /// Of the payload's cgroup, inside the container's.
    fn inner(&self) -> &'static str;

    /// The container's cgroup, where the driver has made it.
    fn cgroup(&self) -> Option<&str> {
        None
    }

    /// What went wrong, where LXC has ended early.
    fn last_words(&self) -> Option<String>;

    /// The init is ready: whoever has told LXC to start it must be content, too.
    fn confirm(&mut self) -> Result<()> {
        Ok(())
    }

    /// What is kept for later verbs.
    fn memory(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// It outlives us from now on.
    fn keep(&mut self) {}

    /// Nothing is to come of it, and its processes have ended.
    fn take_back(&mut self);
}

/// Who the init is, as the kernel says, that has sent this word. None where it is none of an init.
pub(crate) fn hello(socket: &OwnedFd) -> Result<Option<(i32, OwnedFd)>> {
    let mut word = [0; 8];
    let parcel = match parcel::receive(socket, &mut word) {
        Err(Errno::ECONNRESET) => return Ok(None),
        other => other.map_err(failed)?,
    };
    match (parcel.length, word[0], parcel.sender) {
        (1, HELLO, Some(pid)) if pid > 0 => Ok(Some((pid, process::pidfd(pid).map_err(failed)?))),
        _ => Ok(None),
    }
}

/// Everything that the init is to have, under the numbers that it has here.
pub(crate) fn hand_over(labour: &Labour<'_>, ours: &OwnedFd) -> Result<()> {
    let plan = labour.plan.as_raw_fd();
    let kept = labour.kept.iter().copied().filter(|number| *number != -1);
    let preserved = 3..3 + labour.preserved as i32;
    let mut numbers: Vec<i32> = (0..3).chain(preserved).chain(kept).chain([plan]).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let mut words = Vec::with_capacity(4 * (numbers.len() + 2));
    for word in [labour.preserved, plan as u32].into_iter().chain(numbers.iter().map(|number| *number as u32)) {
        words.extend_from_slice(&word.to_le_bytes());
    }
    let descriptors: Vec<Fd> = numbers.into_iter().map(Fd).collect();
    parcel::send(ours, &words, &descriptors).map_err(failed)
}

/// The stand-in, and the line to it.
pub(crate) struct Stander {
    pid: i32,
    pidfd: OwnedFd,
    line: OwnedFd,
}

impl Stander {
    /// Born from this process. The seat's line is the other end.
    pub(crate) fn bear(line: OwnedFd, seat: &Seat<'_>) -> Result<Self> {
        match clone(0, None).map_err(failed)? {
            Side::Child => stand::begin(seat),
            Side::Parent { pid, pidfd } => Ok(Stander { pid, pidfd, line }),
        }
    }
}

/// A container that LXC has borne.
pub(crate) struct Born {
    cradle: Box<dyn Cradle>,
    pid: i32,
    pidfd: OwnedFd,
    /// To the stand-in. Its end before the release is the end of the container.
    line: Option<OwnedFd>,
    init: Option<(i32, OwnedFd)>,
}

impl Born {
    /// Its init is not known yet.
    pub(crate) fn new(cradle: Box<dyn Cradle>, stander: Stander) -> Self {
        let Stander { pid, pidfd, line } = stander;
        Born { cradle, pid, pidfd, line: Some(line), init: None }
    }

    pub(crate) fn is(&mut self, init: (i32, OwnedFd)) {
        self.init = Some(init);
    }

    /// The init is where it is to be, and who stands in for it is counted there until the start.
    pub(crate) fn settle(&mut self, handle: &Handle) -> Result<()> {
        if !handle.processes()?.contains(&self.pid()) {
            return Err(Error::new(Kind::System, DOING)
                .because("LXC has put it into another cgroup")
                .at("linux/cgroupsPath"));
        }
        handle.seat(self.cradle.inner(), self.pid)
    }

    fn line(&self) -> Result<&OwnedFd> {
        self.line.as_ref().ok_or_else(|| failed(Errno::ENOTCONN))
    }
}

impl Drop for Born {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl Carried for Born {
    fn pid(&self) -> i32 {
        self.init.as_ref().map_or(-1, |(pid, _)| *pid)
    }

    fn pidfd(&self) -> &OwnedFd {
        // One is only handed out with an init.
        self.init.as_ref().map_or(&self.pidfd, |(_, pidfd)| pidfd)
    }

    fn cgroup(&self) -> Option<&str> {
        self.cradle.cgroup()
    }

    fn last_words(&self) -> Option<String> {
        let code = || {
            let _ = process::readable(self.pidfd(), ANSWER);
            // A word of the kernel (Linux 6.15). An init that cannot begin ends with the errno.
            let status = process::exit_status(self.pidfd()).ok()??;
            Some(format!("it ended with status {}", status >> 8 & 0xff))
        };
        self.cradle.last_words().or_else(code).or_else(|| Some("it ended without a word".to_owned()))
    }

    fn stand_in(&mut self, init: &Process) -> Result<StandIn> {
        self.cradle.confirm()?;
        let failed = |errno: Errno| Error::system("have a process stand in for the payload", errno as i32);
        let words = serde_json::to_vec(init).map_err(|_| failed(Errno::EINVAL))?;
        parcel::send(self.line()?, &words, &[Fd(self.pidfd().as_raw_fd())]).map_err(failed)?;
        let mut answer = [0; 1024];
        let length = match process::readable(self.line()?, ANSWER).map_err(failed)? {
            true => socket::receive(self.line()?, &mut answer).map_err(failed)?.0,
            false => 0,
        };
        if &answer[..length] != stand::READY {
            let why = String::from_utf8_lossy(&answer[..length]).into_owned();
            let why = if why.is_empty() { "it ended or hung".to_owned() } else { why };
            return Err(Error::new(Kind::System, "have a process stand in for the payload").because(why));
        }
        let proc = Procfs::open().map_err(failed)?;
        let process = identity::of(&proc, self.pid, &self.pidfd)?;
        let pidfd = fd::duplicate(&self.pidfd).map_err(failed)?;
        Ok(StandIn { process, pidfd, memory: self.cradle.memory() })
    }

    fn release(&mut self) -> Result<()> {
        socket::send(self.line()?, stand::RELEASE, None)
            .map_err(|errno| Error::system("let the container go", errno as i32))?;
        self.line = None;
        self.cradle.keep();
        Ok(())
    }

    fn give_up(&mut self) {
        if self.line.take().is_none() {
            return;
        }
        if let Some((_, init)) = &self.init {
            let _ = process::signal(init, libc::SIGKILL);
        }
        if !process::readable(&self.pidfd, ANSWER).unwrap_or(false) {
            let _ = process::signal(&self.pidfd, libc::SIGKILL);
        }
        let _ = process::wait(self.pid, 0);
        self.cradle.take_back();
    }
}

/// For the table of descriptors that a child keeps.
pub(crate) fn number(descriptor: impl AsFd) -> i32 {
    descriptor.as_fd().as_raw_fd()
}

/// The path as a C string.
pub(crate) fn c_path(path: &Path) -> Result<std::ffi::CString, Errno> {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)
}
