//! Runs the bundle in a virtual machine: QEMU makes it, a stand-in on the host owns it, and inside the native backend sets
//! the container up on the bundle's rest.
//!
//! ```text
//! wharf create          stand-in (host/)              guest (guest/), the first process of the machine
//! draft: reduce.rs
//! image, cgroup
//! its birth ----------> the machine's mounts, QEMU ---> drivers, mounts
//!                       <------------------- "hello" --- the channel (wire/)
//!                       config.json ------------------> wharf create, in a process of its own
//!                       <------------------ outcome ---- the payload waits
//!                       leaves the host's namespaces
//! <------------ "ready"
//! record, pid file
//! released -----------> lives as long as the payload, and ends as it ends
//! ```
#![forbid(unsafe_code)]

mod draft;
mod events;
mod exec;
pub mod guest;
mod host;
mod limits;
mod machine;
mod network;
mod pty;
mod reduce;
mod settings;
mod wire;

pub use host::{NAME as STAND_IN, main as stand_in};
pub use settings::{Processor, Settings};

use host::control::{self, Connection, Request, State};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;
use wharf_cgroup::{Handle, Layout};
use wharf_core::{
    Backend, ContainerId, Draft, Ended, Error, Event, Exec, Job, Joined, Kind, LinuxResources, Log, Opaque, Record,
    Result, Status, Unsupported, Verb, Warnings, allowed,
};
use wharf_foreground::{HostTerminal, Relay};
use wharf_monitor::identity;
use wharf_sys::{Errno, libc, process};

/// Name of the backend in records and on the command line.
pub const NAME: &str = "vm";

/// How long a guest may take for a verb.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a killed stand-in may take to die, in milliseconds.
const DEATH: i32 = 10_000;

/// The kernel that guests would get, with all drivers that they need; the newest of /boot where none is named.
pub fn kernel(kernel: Option<&Path>, modules: Option<&Path>) -> Result<PathBuf> {
    let kernel = machine::Kernel::find(kernel, modules)?;
    kernel.has_drivers()?;
    Ok(kernel.path)
}

/// Runs containers in machines of their own.
pub struct Vm {
    settings: Settings,
    /// Our own terminal and the master end of the payload's, between its creation and its start.
    foreground: std::rc::Rc<RefCell<Option<(HostTerminal, OwnedFd)>>>,
    terminal: RefCell<Option<Relay>>,
}

impl Vm {
    /// The settings are those of the next container; one that exists has what it was made with.
    pub fn new(settings: Settings) -> Self {
        Vm { settings, foreground: std::rc::Rc::default(), terminal: RefCell::default() }
    }

    fn refuse(verb: &str, instead: &str) -> Error {
        Unsupported { verb, backend: NAME, instead }.into()
    }
}

impl Backend for Vm {
    fn name(&self) -> &str {
        NAME
    }

    /// Its stand-in is one already.
    fn can_be_watched(&self) -> bool {
        false
    }

    fn draft<'a>(&'a self, job: Job<'a>) -> Result<Box<dyn Draft + 'a>> {
        Ok(Box::new(draft::Judged::new(self, job)?))
    }

    fn status(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<Status> {
        let Some(init) = &record.init else { return Ok(Status::Stopped) };
        if identity::alive(dir, init)?.is_none() {
            return Ok(Status::Stopped);
        }
        let Some(connection) = Connection::open(dir)? else { return Ok(Status::Stopped) };
        connection.send(&Request::Status)?;
        let Some(reply) = connection.receive(Some(PATIENCE))? else { return Ok(Status::Stopped) };
        let state: State = serde_json::from_value(reply.into_result()?)
            .map_err(|_| Error::system("ask the virtual machine for its state", Errno::EPROTO as i32))?;
        Ok(match state {
            State::Creating => Status::Creating,
            State::Created => Status::Created,
            State::Running => Status::Running,
            State::Paused => Status::Paused,
            State::Stopped => Status::Stopped,
        })
    }

    fn start(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<Warnings> {
        if let Some((host, master)) = self.foreground.take() {
            let relay = Relay::begin(host, master).map_err(|errno| {
                Error::system("make our own terminal the payload's", errno as i32).at("process/terminal")
            })?;
            self.terminal.replace(Some(relay));
        }
        let outcome = control::ask(record, dir, &Request::Start, PATIENCE);
        if outcome.is_err() {
            self.terminal.take();
        }
        outcome.map(|_| Warnings::new())
    }

    fn kill(&self, record: &Record, dir: BorrowedFd<'_>, signal: i32, all: bool) -> Result<()> {
        match control::ask(record, dir, &Request::Kill { signal, all }, PATIENCE) {
            // To signal all of nobody succeeds: engines end leftovers so.
            Err(error) if all && error.kind() == Kind::NotRunning => Ok(()),
            other => other.map(drop),
        }
    }

    fn exec(&self, record: &Record, dir: BorrowedFd<'_>, asked: &Exec, _log: Log<'_>) -> Result<Box<dyn Joined>> {
        allowed(&ContainerId::new(&record.id)?, self.status(record, dir)?, Verb::Exec)?;
        exec::exec(record, dir, asked)
    }

    fn pause(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<()> {
        allowed(&ContainerId::new(&record.id)?, self.status(record, dir)?, Verb::Pause)?;
        control::ask(record, dir, &Request::Pause, PATIENCE).map(drop)
    }

    fn resume(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<()> {
        allowed(&ContainerId::new(&record.id)?, self.status(record, dir)?, Verb::Resume)?;
        control::ask(record, dir, &Request::Resume, PATIENCE).map(drop)
    }

    fn update(&self, record: &Record, dir: BorrowedFd<'_>, resources: LinuxResources) -> Result<Option<Opaque>> {
        limits::update(record, dir, resources).map(|()| None)
    }

    fn events(
        &self,
        record: &Record,
        dir: BorrowedFd<'_>,
        interval: Option<Duration>,
        tell: &mut dyn FnMut(Event) -> Result<()>,
    ) -> Result<()> {
        events::events(record, dir, interval, tell)
    }

    fn processes(&self, _: &Record, _: BorrowedFd<'_>) -> Result<Vec<i32>> {
        Err(Self::refuse(
            "ps with options or as JSON",
            "its processes have no number on this host; ps alone has the guest's table",
        ))
    }

    fn process_table(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<Option<String>> {
        let answer = control::ask(record, dir, &Request::Ps, PATIENCE)?;
        // What a guest says is not for a terminal to obey.
        let clean = |text: &str| text.chars().filter(|letter| *letter == '\n' || !letter.is_control()).collect();
        Ok(answer.as_str().map(clean))
    }

    fn holdings(&self, record: &Record, _: BorrowedFd<'_>) -> Result<Vec<String>> {
        let cgroup = cgroup(record)?;
        let mut all = cgroup.existing()?;
        all.extend(record.private.value().get("disk").and_then(Value::as_str).map(|disk| format!("disk {disk}")));
        match cgroup.processes()?.len() {
            0 => {}
            count => all.push(format!("{count} processes of its virtual machine")),
        }
        Ok(all)
    }

    fn delete(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<Warnings> {
        if let Some(init) = &record.init
            && let Some(pidfd) = identity::alive(dir, init)?
        {
            // QEMU dies with it.
            let failed =
                |errno: Errno| Error::system(format!("end the machine of container {}", record.id), errno as i32);
            match process::signal(&pidfd, libc::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => return Err(failed(errno)),
            }
            if !process::readable(&pidfd, DEATH).map_err(failed)? {
                return Err(Error::new(Kind::System, format!("end the machine of container {}", record.id))
                    .because(format!("it did not end within {} s", DEATH / 1000)));
            }
            let _ = process::wait(init.pid, libc::WNOHANG);
        }
        sweep(record).map(|()| Warnings::new())
    }

    fn wait(&self, record: &Record) -> Result<Ended> {
        let failed = |errno: Errno| Error::system(format!("wait for container {}", record.id), errno as i32);
        let init = record.init.as_ref().ok_or_else(|| failed(Errno::ECHILD))?;
        wharf_foreground::wait(init.pid, self.terminal.take(), None).map_err(failed)
    }

    fn notes(&self, record: &Record) -> BTreeMap<String, String> {
        let private = record.private.value();
        let accelerator = match private.get("accelerator").and_then(Value::as_str) {
            Some("kvm") => "kvm",
            Some(_) => "emulation",
            None => return BTreeMap::new(),
        };
        let memory = private.get("memory").and_then(Value::as_u64).unwrap_or_default();
        [("dev.wharf.vm.processor", accelerator.to_owned()), ("dev.wharf.vm.memory-mib", memory.to_string())]
            .map(|(key, value)| (key.to_owned(), value))
            .into()
    }
}

fn cgroup(record: &Record) -> Result<Handle> {
    let layout = if record.cgroup.payload.is_empty() { Layout::default() } else { Layout::mounted()? };
    Handle::open(layout, &record.cgroup)
}

/// Ends what is left in the container's cgroup, and removes that.
fn sweep(record: &Record) -> Result<()> {
    let cgroup = cgroup(record)?;
    cgroup.kill_all(libc::SIGKILL)?;
    if let Some(disk) = record.private.value().get("disk").and_then(Value::as_str) {
        match std::fs::remove_file(disk) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(machine::drivers::io(format!("remove disk {disk}"), &error));
            }
            _ => {}
        }
    }
    cgroup.remove()
}
