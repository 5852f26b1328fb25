//! The stand-in of a container of LXC: parent of LXC's monitor, in the payload's namespaces, its pid in the pid file.
//!
//! It keeps the pid and the user namespace of the host, so it can be waited for, and nobody in the container can reach it.

use crate::born::{c_path, number};
use crate::program;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use wharf_core::{CgroupPaths, Ended, Error, Process, Result};
use wharf_monitor::Ending;
use wharf_monitor::stand_in::{Payload, StandIn, WATCHED};
use wharf_steps::CARRIED;
use wharf_sys::namespace::{self, Side, clone, flag};
use wharf_sys::process::{self, ExecStrings};
use wharf_sys::procfs::Procfs;
use wharf_sys::{CWD, Errno, apparmor, credentials, fd, libc, mount, parcel, signal, socket};

/// What is said on the line to `create`.
pub(crate) const READY: &[u8] = b"ready";
pub(crate) const RELEASE: &[u8] = b"release";

/// What engines and people may look at through it. Of user and pid namespace it keeps the host's.
const JOINED: u64 = flag::NEWNS | flag::NEWUTS | flag::NEWIPC | flag::NEWNET | flag::NEWCGROUP;

/// How long LXC may take to tidy up behind a container, in milliseconds.
const TIDYING: i32 = 10_000;
/// How long the status of a payload that has ended may be on its way.
const STATUS: Duration = Duration::from_secs(5);

/// All that it is born with.
pub(crate) struct Seat<'a> {
    /// Where LXC's messages about the container's end arrive, and its name in them where there are those of others. None where
    /// nobody tells.
    pub(crate) told: Option<(&'a OwnedFd, Option<&'a str>)>,
    /// What it begins with; none where the node has done that.
    pub(crate) lxc: Option<LxcStart<'a>>,
    pub(crate) line: &'a OwnedFd,
    pub(crate) dir: BorrowedFd<'a>,
    pub(crate) cgroup: &'a CgroupPaths,
    pub(crate) namespaces: u64,
}

/// A call of lxc-start.
pub(crate) struct LxcStart<'a> {
    pub(crate) id: &'a str,
    pub(crate) config: &'a Path,
    /// LXC's path.
    pub(crate) path: &'a Path,
    /// What LXC, and so the init, has as its standard input: the socket to `create`.
    pub(crate) socket: &'a OwnedFd,
    /// What LXC executes.
    pub(crate) program: &'a Path,
    /// Where LXC writes what goes wrong.
    pub(crate) log: &'a Path,
    pub(crate) has_proc: bool,
}

/// LXC's monitor, where it is our child.
struct Child {
    pid: i32,
    pidfd: OwnedFd,
    /// It has been waited for.
    ended: bool,
}

impl Child {
    /// Until it has ended.
    fn settle(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if !process::readable(&self.pidfd, TIDYING).unwrap_or(false) {
            let _ = process::signal(&self.pidfd, libc::SIGKILL);
        }
        let _ = process::wait(self.pid, 0);
    }
}

/// In the new process.
pub(crate) fn begin(seat: &Seat<'_>) -> ! {
    if let Err(errno) = run(seat) {
        let _ = socket::send(seat.line, format!("errno {}", errno as i32).as_bytes(), None);
    }
    process::exit_now(1)
}

fn run(seat: &Seat<'_>) -> Result<(), Errno> {
    process::set_session()?;
    let mut lxc = match &seat.lxc {
        None => None,
        Some(start) => match clone(0, None)? {
            Side::Child => {
                let _ = become_lxc(start);
                process::exit_now(1)
            }
            Side::Parent { pid, pidfd } => Some(Child { pid, pidfd, ended: false }),
        },
    };
    let _ = credentials::set_name(c"wharf-stand-in");
    let null = fd::openat(CWD, c"/dev/null", libc::O_RDWR, 0)?;
    for stream in 0..3 {
        fd::dup_to(&null, stream)?;
    }
    drop(null);
    // Anew: a copy of the descriptor would hold the container's lock as long as we live.
    let dir = fd::openat(seat.dir, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    let child = lxc.as_ref().map_or(-1, |child| number(&child.pidfd));
    keep([number(&dir), number(seat.line), seat.told.map_or(-1, |(told, _)| number(told)), child])?;
    let abandon = |init: Option<&OwnedFd>, lxc: &mut Option<Child>| {
        if let Some(init) = init {
            let _ = process::signal(init, libc::SIGKILL);
        }
        if let Some(lxc) = lxc {
            lxc.settle();
        }
    };
    let mut words = [0; 4096];
    let parcel = parcel::receive(seat.line, &mut words).ok().filter(|parcel| parcel.length > 0);
    let Some(mut parcel) = parcel else {
        abandon(None, &mut lxc);
        process::exit_now(1)
    };
    let pidfd = parcel.descriptors.pop().ok_or(Errno::EPROTO)?;
    let init: Process = serde_json::from_slice(&words[..parcel.length]).map_err(|_| Errno::EPROTO)?;
    let opened = open(seat, dir, &init, &pidfd, lxc.as_ref());
    let (stand_in, ending) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let _ = socket::send(seat.line, error.to_string().as_bytes(), None);
            abandon(Some(&pidfd), &mut lxc);
            process::exit_now(1)
        }
    };
    socket::send(seat.line, READY, None)?;
    // Its end without that word: nothing is to come of the container.
    if !matches!(socket::receive(seat.line, &mut words), Ok((length, _)) if length > 0) {
        abandon(Some(ending.pidfd()), &mut lxc);
        process::exit_now(1)
    }
    let told = seat.told.map(|(told, name)| (told.as_fd(), name));
    let mut payload = OfLxc { told, ending, lxc, gone: None };
    stand_in.live(&mut payload)
}

/// Everything of the host that it needs, and then into the payload's namespaces.
fn open(
    seat: &Seat<'_>,
    dir: OwnedFd,
    init: &Process,
    pidfd: &OwnedFd,
    lxc: Option<&Child>,
) -> Result<(StandIn, Ending<OwnedFd>)> {
    let failed = |errno: Errno| Error::system("join the payload's namespaces", errno as i32);
    let stand_in = StandIn::open(&dir, seat.cgroup)?;
    let ending = Ending::of(init, fd::duplicate(pidfd).map_err(failed)?).map_err(failed)?;
    let proc = Procfs::open().map_err(failed)?;
    for one in [Some(process::pid()), lxc.map(|child| child.pid)].into_iter().flatten() {
        // Neither is what a payload without memory shall end with. It takes CAP_SYS_RESOURCE.
        let path = CString::new(format!("{one}/oom_score_adj")).map_err(|_| failed(Errno::EINVAL))?;
        let _ = proc.write(&path, b"-1000");
    }
    namespace::enter_all(pidfd, seat.namespaces & JOINED, &proc).map_err(failed)?;
    Ok((stand_in, ending))
}

/// Closes all but these and the streams; -1 is none.
fn keep(mut kept: [i32; 4]) -> Result<(), Errno> {
    kept.sort_unstable();
    let mut first = 3;
    for number in kept.into_iter().filter(|number| *number >= 3) {
        if number > first {
            fd::close_range(first, number - 1)?;
        }
        first = number + 1;
    }
    fd::close_range(first, i32::MAX)
}

fn become_lxc(start: &LxcStart<'_>) -> Result<(), Errno> {
    signal::reset_all()?;
    // LXC changes how mounts propagate, and not in the payload's namespace alone. What the host mounts is still seen here,
    // and what it unmounts is not held.
    namespace::unshare(flag::NEWNS)?;
    mount::mount(None, c"/", None, libc::MS_SLAVE | libc::MS_REC, None)?;
    if apparmor::is_enabled() {
        // Its own profile allows LXC no mount but in LXC's directories. Where that cannot be had, LXC says what it misses.
        let _ = apparmor::change_on_exec(c"unconfined");
    }
    // The stand-in is the container: whoever kills it ends all of it.
    process::end_with_parent(libc::SIGKILL)?;
    let null = fd::openat(CWD, c"/dev/null", libc::O_RDWR, 0)?;
    let mut streams = Vec::new();
    for stream in [start.socket, &null, &null] {
        streams.push(fd::duplicate_from(stream, 3)?);
    }
    for (stream, target) in streams.iter().zip(0..) {
        fd::dup_to(stream, target)?;
    }
    fd::close_by_exec(3)?;
    let text = |text: &str| CString::new(text).map_err(|_| Errno::EINVAL);
    let (program_path, id, path) = (text(program::START)?, text(start.id)?, text(program::PATH)?);
    let (lxc, config) = (c_path(start.path)?, c_path(start.config)?);
    let (log, program) = (c_path(start.log)?, c_path(start.program)?);
    let carried = CString::new(CARRIED).map_err(|_| Errno::EINVAL)?;
    let mut words = vec![c"lxc-start", c"-F", c"-n", &id, c"-P", &lxc, c"-f", &config, c"-o", &log, c"-l", c"ERROR"];
    words.extend([c"--", &program, &carried]);
    if start.has_proc {
        words.push(c"proc");
    }
    let environment = ExecStrings::new([path.as_c_str()]);
    Err(process::exec(&program_path, &ExecStrings::new(words), &environment))
}

/// The payload, as LXC tells of it.
struct OfLxc<'a> {
    told: Option<(BorrowedFd<'a>, Option<&'a str>)>,
    ending: Ending<OwnedFd>,
    lxc: Option<Child>,
    /// The payload has ended, and LXC has not said how.
    gone: Option<std::time::Instant>,
}

/// One message of LXC's (`struct lxc_msg`): type, name, value.
const MESSAGE: usize = 264;
const EXIT_CODE: i32 = 2;

/// The wait status, where the message has one, and is about a container of that name.
fn status(message: &[u8; MESSAGE], name: Option<&str>) -> Option<i32> {
    let number = |at: usize| i32::from_ne_bytes([message[at], message[at + 1], message[at + 2], message[at + 3]]);
    let about = || message[4..MESSAGE - 4].split(|byte| *byte == 0).next().unwrap_or_default();
    (number(0) == EXIT_CODE && name.is_none_or(|name| about() == name.as_bytes())).then(|| number(MESSAGE - 4))
}

impl OfLxc<'_> {
    fn told(&mut self) -> Result<Option<Ended>, Errno> {
        let mut message = [0; MESSAGE];
        while let Some((file, name)) = self.told {
            match fd::read(file, &mut message) {
                Ok(MESSAGE) => {
                    if let Some(status) = status(&message, name) {
                        return Ok(Some(Ended::of_status(status)));
                    }
                }
                Err(Errno::EAGAIN) => break,
                // Whoever told has ended. A fifo of ours never does.
                Ok(_) | Err(Errno::ECONNRESET) => self.told = None,
                Err(errno) => return Err(errno),
            }
        }
        Ok(None)
    }
}

impl Payload for OfLxc<'_> {
    fn watched(&self) -> [Option<BorrowedFd<'_>>; WATCHED] {
        let payload = self.gone.is_none().then(|| self.ending.pidfd().as_fd());
        [self.told.map(|(told, _)| told), payload, None]
    }

    fn attend(&mut self) -> Result<Option<Ended>, Errno> {
        let told = self.told()?;
        // A payload that LXC restarts (reboot(2)) has ended too: the init has no second plan.
        if told.is_some() {
            return Ok(told);
        }
        if let Some(lxc) = self.lxc.as_mut().filter(|lxc| !lxc.ended)
            && process::readable(&lxc.pidfd, 0)?
        {
            lxc.settle();
        }
        if self.gone.is_none() && process::readable(self.ending.pidfd(), 0)? {
            self.gone = Some(std::time::Instant::now());
        }
        let silent = self.told.is_none() || self.lxc.as_ref().is_some_and(|lxc| lxc.ended);
        let late = self.gone.is_some_and(|since| silent || since.elapsed() > STATUS);
        if !late {
            return Ok(None);
        }
        // Whatever it said last; or else what the kernel has kept (Linux 6.15).
        match self.told()? {
            Some(ended) => Ok(Some(ended)),
            None => self.ending.afterwards(1000).map(Some),
        }
    }

    fn patience(&self) -> Duration {
        if self.gone.is_some() { Duration::from_millis(100) } else { Duration::from_secs(3600) }
    }

    fn signal(&mut self, number: i32) {
        let _ = process::signal(self.ending.pidfd(), number);
    }

    fn settle(&mut self) {
        if let Some(lxc) = &mut self.lxc {
            lxc.settle();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_from_the_message_that_has_one() {
        let mut message = [0; MESSAGE];
        message[MESSAGE - 4..].copy_from_slice(&10752i32.to_ne_bytes());
        assert_eq!(status(&message, None), None);
        message[..4].copy_from_slice(&EXIT_CODE.to_ne_bytes());
        assert_eq!(status(&message, None).map(Ended::of_status), Some(Ended::Exited { code: 42 }));
        message[4..7].copy_from_slice(b"100");
        assert_eq!(status(&message, Some("100")), Some(10752));
        assert_eq!(status(&message, Some("10")), None);
    }
}
