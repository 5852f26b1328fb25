//! The birth of a container's first process by LXC, and what `create` holds of it until the release.

use crate::config::{self, CONTAINER};
use crate::place::Place;
use crate::stand::{self, Seat};
use crate::{program, remove, words};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use wharf_core::{Error, Kind, Process, Result};
use wharf_host::{Carried, Labour, StandIn};
use wharf_monitor::identity;
use wharf_steps::HELLO;
use wharf_sys::namespace::{Side, clone};
use wharf_sys::procfs::Procfs;
use wharf_sys::{Errno, Fd, fd, libc, parcel, process, socket};

/// How long LXC may take to bear, in milliseconds.
const PATIENCE: i32 = 60_000;
/// How long the stand-in may take to answer, and to end.
const ANSWER: i32 = 20_000;

const DOING: &str = "create the container's first process by LXC";

pub(crate) fn bear(labour: &Labour<'_>) -> Result<Born> {
    program::check()?;
    let handle = remove::handle(labour.cgroup)?;
    let Some(cgroup) = handle.one_path() else {
        return Err(Error::unsupported("a cgroup path that differs between hierarchies on the lxc backend")
            .because("LXC takes one for all of them")
            .at("linux/cgroupsPath")
            .hint("give an absolute cgroupsPath"));
    };
    let place = Place::of(labour.state_dir)?;
    let born = give_birth(labour, &place, cgroup);
    if born.is_err() {
        let _ = place.remove();
    }
    let mut born = born?;
    match settle(&mut born, &handle) {
        Ok(()) => Ok(born),
        Err(error) => {
            born.give_up();
            Err(error)
        }
    }
}

fn failed(errno: Errno) -> Error {
    Error::system(DOING, errno as i32)
}

fn give_birth(labour: &Labour<'_>, place: &Place, cgroup: &str) -> Result<Born> {
    place.make(labour.id, &config::text(labour.namespaces, labour.joined, cgroup)?)?;
    place.put_init(labour.program)?;
    remove::handle(labour.cgroup)?.let_inherit()?;
    let fifo = place.fifo()?;
    let (ours, theirs) = socket::pair().map_err(failed)?;
    parcel::tell_senders(&ours).map_err(failed)?;
    let (line, their_line) = socket::pair().map_err(failed)?;
    let log = place.log(labour.id);
    let seat = Seat {
        id: labour.id,
        config: &place.config(labour.id),
        lxc: &place.lxc,
        socket: &theirs,
        program: &place.init(),
        log: &log,
        has_proc: config::has_proc(labour.namespaces),
        line: &their_line,
        fifo: &fifo,
        dir: labour.dir,
        cgroup: labour.cgroup,
        namespaces: labour.namespaces.all_apart(),
    };
    let (pid, pidfd) = match clone(0, None).map_err(failed)? {
        Side::Child => stand::begin(&seat),
        Side::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop((theirs, their_line));
    let mut born = Born { place: Place { lxc: place.lxc.clone() }, pid, pidfd, line: Some(line), log, init: None };
    match hello(&ours, &born.log) {
        Ok(init) => born.init = Some(init),
        Err(error) => {
            drop(ours);
            born.give_up();
            return Err(error);
        }
    }
    born.place.take_init_away();
    if let Err(error) = hand_over(labour, &ours) {
        drop(ours);
        born.give_up();
        return Err(error);
    }
    Ok(born)
}

/// Who the init is, as the kernel says: nobody else has the other end.
fn hello(ours: &OwnedFd, log: &Path) -> Result<(i32, OwnedFd)> {
    let unborn = || {
        let error = Error::new(Kind::System, DOING);
        error.because(words_of(log).unwrap_or_else(|| "LXC ended without a word".to_owned()))
    };
    if !process::readable(ours, PATIENCE).map_err(failed)? {
        return Err(
            Error::new(Kind::System, DOING).because(format!("LXC has not done it within {} s", PATIENCE / 1000))
        );
    }
    let mut word = [0; 8];
    let parcel = match parcel::receive(ours, &mut word) {
        Err(Errno::ECONNRESET) => return Err(unborn()),
        other => other.map_err(failed)?,
    };
    match (parcel.length, word[0], parcel.sender) {
        (1, HELLO, Some(pid)) if pid > 0 => Ok((pid, process::pidfd(pid).map_err(failed)?)),
        _ => Err(unborn()),
    }
}

/// Everything that the init is to have, under the numbers that it has here.
fn hand_over(labour: &Labour<'_>, ours: &OwnedFd) -> Result<()> {
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

/// The init is where it is to be, and who stands in for it is counted there until the start.
fn settle(born: &mut Born, handle: &wharf_cgroup::Handle) -> Result<()> {
    if !handle.processes()?.contains(&born.pid()) {
        return Err(Error::new(Kind::System, DOING)
            .because("LXC has put it into another cgroup")
            .at("linux/cgroupsPath"));
    }
    handle.seat(CONTAINER, born.pid)
}

fn words_of(log: &Path) -> Option<String> {
    let text = std::fs::read(log).ok()?;
    words::first(&String::from_utf8_lossy(&text))
}

/// A container that LXC has borne.
pub(crate) struct Born {
    place: Place,
    /// The stand-in.
    pid: i32,
    pidfd: OwnedFd,
    /// To the stand-in. Its end before the release is the end of the container.
    line: Option<OwnedFd>,
    /// Where LXC writes what goes wrong.
    log: PathBuf,
    init: Option<(i32, OwnedFd)>,
}

impl Born {
    fn line(&self) -> Result<&OwnedFd> {
        self.line.as_ref().ok_or_else(|| failed(Errno::ENOTCONN))
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

    fn last_words(&self) -> Option<String> {
        words_of(&self.log).or_else(|| Some("it ended without a word".to_owned()))
    }

    fn stand_in(&mut self, init: &Process) -> Result<StandIn> {
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
        Ok(StandIn { process, pidfd, memory: serde_json::Value::Null })
    }

    fn release(&mut self) -> Result<()> {
        socket::send(self.line()?, stand::RELEASE, None)
            .map_err(|errno| Error::system("let the container go", errno as i32))?;
        self.line = None;
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
        let _ = self.place.remove();
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
