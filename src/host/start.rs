//! The word that lets a waiting payload run, and the answer to it.
//!
//! The init waits on the datagram socket `start` in the state directory. A message there carries the version of this
//! protocol and a socket for the answer: a failure, or its end when the payload is executed. The name is removed then,
//! and whether somebody still listens behind it can be asked without a word: so `created` and `running` are told apart
//! by the kernel.

use crate::launch::{Attached, Late, Private};
use crate::listener::{self, Agent, Kept, Loading};
use crate::{hooks, remove, status};
use std::cell::RefCell;
use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use wharf_core::phases;
use wharf_core::{ContainerId, Error, Kind, Record, Result, Status, Verb, Warnings, allowed};
use wharf_foreground::Relay;
use wharf_monitor::identity;
use wharf_steps::Failure;
use wharf_sys::lot::served;
use wharf_sys::{Errno, fd, libc, mount, socket};

/// Name of the socket in the state directory.
pub(crate) const SOCKET: &CStr = c"start";
/// Version of the message.
const VERSION: u8 = 1;

/// Whether an init waits behind the socket.
pub(crate) fn is_waiting(dir: BorrowedFd<'_>) -> Result<bool> {
    let look = || match fd::statat(dir, SOCKET, libc::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno),
        Ok(_) => {
            let probe = socket::datagram()?;
            match mount::inside(dir, || socket::connect(&probe, SOCKET)) {
                Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(false),
                other => other.map(|()| true),
            }
        }
    };
    look().map_err(|errno| Error::system("look for a waiting init", errno as i32))
}

/// One that stands still would never answer. What else is in the way is known when nobody answers.
pub(crate) fn may_start(record: &Record) -> Result<()> {
    let frozen = record.init.is_some() && wharf_cgroup::is_frozen(&record.cgroup)?;
    if frozen { allowed(&ContainerId::new(&record.id)?, Status::Paused, Verb::Start) } else { Ok(()) }
}

/// The terminal of a payload of this process goes to `terminal`. `started` is called when the payload runs.
pub(crate) fn start(
    attached: Option<Attached>,
    terminal: &RefCell<Option<Relay>>,
    record: &Record,
    dir: BorrowedFd<'_>,
    started: &dyn Fn(&Record) -> Result<()>,
) -> Result<Warnings> {
    match attached {
        Some(attached) => {
            let relay = start_here(attached, record)?;
            terminal.replace(relay);
        }
        None => {
            let agent = Agent::connect(Kept::of(record))?;
            if let Some(failure) = speak(record, dir, agent)? {
                return Err(Private::of(record).explain(&failure));
            }
            match fd::unlinkat(dir, SOCKET, 0) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(doing(record, errno)),
            }
        }
    }
    started(record)?;
    if record.poststart.is_empty() {
        return Ok(Vec::new());
    }
    phases::enter("hooks behind the start");
    let running = hooks::state(record, Status::Running, record.engine_pid);
    if hooks::poststart_decides(&record.oci_version) {
        return match hooks::run(&record.poststart, "poststart", &running, record) {
            Ok(()) => Ok(Vec::new()),
            Err(error) => {
                if let Some(init) = &record.init {
                    remove::end(init, &status::cgroup(record)?, dir)?;
                }
                Err(error)
            }
        };
    }
    Ok(hooks::run_all(&record.poststart, "poststart", &running, record))
}

/// Starts the payload of this process, whose terminal is shown from now on.
fn start_here(Attached { socket, container, terminal }: Attached, record: &Record) -> Result<Option<Relay>> {
    let failed = |errno: Errno| doing(record, errno);
    let agent = Agent::connect(container.listener.as_ref().map(Kept::from))?;
    let mut relay = match terminal {
        Some((host, master)) => Some(Relay::begin(host, master).map_err(|errno| {
            Error::system("make our own terminal the payload's", errno as i32).at("process/terminal")
        })?),
        None => None,
    };
    socket::send(&socket, &[VERSION], None).map_err(failed)?;
    if let Some(relay) = &mut relay {
        // startContainer hooks may say more than a terminal holds.
        relay.until(&socket).map_err(failed)?;
    }
    match answer(&socket, agent, record)? {
        Some(failure) => Err(container.plan.explain(&failure)),
        None => {
            served(socket);
            Ok(relay)
        }
    }
}

fn doing(record: &Record, errno: Errno) -> Error {
    Error::system(format!("start container {}", record.id), errno as i32)
}

fn speak(record: &Record, dir: BorrowedFd<'_>, agent: Option<Agent>) -> Result<Option<Failure>> {
    let send = || {
        let (ours, theirs) = socket::pair()?;
        let from = socket::datagram()?;
        let say = || socket::send_to(&from, SOCKET, &[VERSION], Some(&theirs));
        if record.poststart.is_empty() {
            // Nobody after this cares where we are.
            mount::fchdir(dir)?;
            say()?;
        } else {
            mount::inside(dir, say)?;
        }
        // Nobody waits for its end, and ours is near.
        std::mem::forget(from);
        Ok(ours)
    };
    let ours: OwnedFd = match send() {
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => {
            allowed(&ContainerId::new(&record.id)?, status::status(record, dir)?, Verb::Start)?;
            let text = format!("start container {}: container not running", record.id);
            return Err(Error::new(Kind::NotRunning, text).because("its init has ended"));
        }
        other => other.map_err(|errno| doing(record, errno))?,
    };
    let answered = answer(&ours, agent, record)?;
    std::mem::forget(ours);
    Ok(answered)
}

/// `None` when the other side ended without a word: it is the payload now.
fn answer(socket: &OwnedFd, agent: Option<Agent>, record: &Record) -> Result<Option<Failure>> {
    let Some(init) = &record.init else { return Err(doing(record, Errno::ECHILD)) };
    let open = || identity::alive(None, init);
    let loading = Loading { pid: init.pid, record, status: Status::Created, open: &open };
    let mut message = [0; Failure::MAX];
    match listener::last_message(socket, &mut message, agent.as_ref(), &loading)? {
        0 => Ok(None),
        length => Failure::read(&message[..length]).map(Some).ok_or_else(|| doing(record, Errno::EPROTO)),
    }
}

impl Private {
    /// The error that a failure after `start` is, from what the record keeps of the plan.
    fn explain(&self, failure: &Failure) -> Error {
        let Some(late) = (failure.step as usize).checked_sub(self.late_from).and_then(|at| self.late.get(at)) else {
            return Error::system("start the payload", failure.errno);
        };
        let Late { doing, at, kind, milliseconds } = late;
        let error = match kind.as_str() {
            "exec" => wharf_plan::command(doing, failure),
            "hook" => wharf_plan::hook(doing, *milliseconds, failure),
            _ => Error::system(doing.as_str(), failure.errno),
        };
        if at.is_empty() { error } else { error.at(at.as_str()) }
    }
}
