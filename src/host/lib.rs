//! A container of this host's kernel, from the judged job to its end, whoever bears its first process.
#![forbid(unsafe_code)]

mod activation;
mod carrier;
mod checkpoint;
mod draft;
mod events;
mod freeze;
mod handover;
mod hooks;
mod host_mounts;
mod join;
mod launch;
mod limits;
mod listener;
mod notify;
mod remove;
mod signal;
mod start;
mod status;
mod update;
mod wait;

pub use carrier::{Carried, Carrier, Labour, Remains, StandIn};
pub use checkpoint::{PLACES as CRIU_PLACES, version as criu_version};
pub use launch::helpers::PLACES as HELPER_PLACES;

use launch::Left;
use notify::Relay;
use std::cell::{OnceCell, RefCell};
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::Duration;
use wharf_cgroup::Detail;
use wharf_core::{
    Backend, Bundle, Captured, Checkpoint, Draft, Ended, Event, Exec, Job, Joined, LinuxResources, Log, Obstacle,
    Opaque, Record, Restore, Result, Statistics, Status, Used, Warnings,
};

/// Runs containers on this host.
pub struct Host {
    name: &'static str,
    /// Who bears the first process; wharf itself where there is none.
    carrier: Option<Box<dyn Carrier>>,
    /// What this process keeps of the container that it made, and is about to start or to wait for.
    attached: Rc<RefCell<Option<Left>>>,
    /// Where the payload tells that it is ready, between its start and that.
    relay: RefCell<Option<Relay>>,
    /// The terminal of a payload that this process has started.
    terminal: RefCell<Option<wharf_foreground::Relay>>,
    /// None where it cannot be looked.
    glance: OnceCell<Option<wharf_cgroup::Glance>>,
}

impl Host {
    /// `name` is the backend's, in records and on the command line.
    pub fn new(name: &'static str) -> Self {
        let (attached, relay, terminal, glance) = Default::default();
        Host { name, carrier: None, attached, relay, terminal, glance }
    }

    /// The same, of containers that another bears.
    pub fn carried(name: &'static str, carrier: Box<dyn Carrier>) -> Self {
        Host { carrier: Some(carrier), ..Host::new(name) }
    }

    /// Who bears it makes its cgroup, too.
    fn finds_cgroup(&self) -> bool {
        self.carrier.as_ref().is_some_and(|carrier| carrier.makes_cgroup())
    }

    fn without_checkpoints(&self, verb: &str) -> Result<()> {
        match self.carrier {
            Some(_) => Err(self.without_memory(verb)),
            None => Ok(()),
        }
    }
}

impl Backend for Host {
    fn name(&self) -> &str {
        self.name
    }

    fn can_be_watched(&self) -> bool {
        self.carrier.is_none()
    }

    fn stands_in(&self) -> bool {
        self.carrier.is_some()
    }

    fn draft<'a>(&'a self, job: Job<'a>) -> Result<Box<dyn Draft + 'a>> {
        Ok(Box::new(draft::Judged::new(self, job)?))
    }

    fn status(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<Status> {
        status::status(record, dir)
    }

    fn may_start(&self, record: &Record, _dir: BorrowedFd<'_>) -> Result<()> {
        start::may_start(record)
    }

    fn start(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<Warnings> {
        let attached = match self.attached.take() {
            Some(Left::Attached(attached)) => Some(attached),
            _ => None,
        };
        if attached.is_none() {
            self.relay.replace(Relay::open(dir)?);
        }
        let started = |record: &Record| match &self.carrier {
            Some(carrier) => carrier.started(record, &launch::Private::of(record).carried),
            None => Ok(()),
        };
        start::start(attached, &self.terminal, record, dir, &started)
    }

    fn await_ready(&self, record: &Record) -> Result<()> {
        match self.relay.take() {
            Some(relay) => relay.until_ready(record),
            None => Ok(()),
        }
    }

    fn kill(&self, record: &Record, dir: BorrowedFd<'_>, signal: i32, all: bool) -> Result<()> {
        signal::kill(record, dir, signal, all)
    }

    fn exec(&self, record: &Record, dir: BorrowedFd<'_>, asked: &Exec, _log: Log<'_>) -> Result<Box<dyn Joined>> {
        join::exec(record, dir, asked)
    }

    fn pause(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<()> {
        freeze::pause(record, dir)
    }

    fn resume(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<()> {
        freeze::resume(record, dir)
    }

    fn update(&self, record: &Record, dir: BorrowedFd<'_>, resources: LinuxResources) -> Result<Option<Opaque>> {
        update::update(record, dir, resources)
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

    fn statistics(&self, record: &Record) -> Result<Statistics> {
        events::now(record, Detail::Main)
    }

    fn checkpoint(
        &self,
        record: &Record,
        dir: BorrowedFd<'_>,
        bundle: &Bundle,
        asked: &Checkpoint,
        frozen: &mut dyn FnMut(&Captured) -> Result<()>,
    ) -> Result<()> {
        self.without_checkpoints("checkpoint")?;
        checkpoint::checkpoint(record, dir, bundle, asked, frozen)
    }

    fn obstacles(
        &self,
        record: &Record,
        dir: BorrowedFd<'_>,
        bundle: &Bundle,
        asked: &Checkpoint,
    ) -> Result<Vec<Obstacle>> {
        self.without_checkpoints("checkpoint --check")?;
        checkpoint::obstacles(record, dir, bundle, asked)
    }

    fn restore<'a>(&'a self, job: Job<'a>, asked: &'a Restore) -> Result<Box<dyn Draft + 'a>> {
        self.without_checkpoints("restore")?;
        Ok(Box::new(checkpoint::Restoring::new(draft::Judged::new(self, job)?, asked)?))
    }

    fn used(&self, record: &Record) -> Used {
        let glance = self.glance.get_or_init(|| wharf_cgroup::Glance::open().ok());
        glance.as_ref().map(|glance| glance.of(&record.cgroup)).unwrap_or_default()
    }

    fn processes(&self, record: &Record, _dir: BorrowedFd<'_>) -> Result<Vec<i32>> {
        let mut all = status::processes(record)?;
        // Who stands in is in the payload's cgroup until the start.
        if self.carrier.is_some() {
            all.retain(|pid| *pid != record.engine_pid);
        }
        Ok(all)
    }

    fn holdings(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<Vec<String>> {
        let mut all = remove::holdings(record)?;
        if let Some(carrier) = &self.carrier {
            let (state_dir, memory) = (remove::path_of(dir)?, launch::Private::of(record).carried);
            all.extend(carrier.holdings(&Remains { record, state_dir: &state_dir, memory: &memory })?);
        }
        Ok(all)
    }

    fn delete(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<Warnings> {
        remove::delete(record, dir, self.carrier.as_deref())
    }

    fn wait(&self, record: &Record) -> Result<Ended> {
        let terminal = match self.attached.take() {
            Some(Left::Terminal(relay)) => Some(*relay),
            _ => self.terminal.take(),
        };
        wait::wait(record, terminal, self.relay.take())
    }
}
