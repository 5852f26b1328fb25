//! The native backend: namespaces and cgroups of this host, by wharf's own hand.
#![forbid(unsafe_code)]

mod activation;
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
    Record, Restore, Result, Statistics, Status, Used, Warnings,
};

/// Name of the backend in records and on the command line.
pub const NAME: &str = "native";

/// Runs containers on this host.
#[derive(Default)]
pub struct Native {
    /// What this process keeps of the container that it made, and is about to start or to wait for.
    attached: Rc<RefCell<Option<Left>>>,
    /// Where the payload tells that it is ready, between its start and that.
    relay: RefCell<Option<Relay>>,
    /// The terminal of a payload that this process has started.
    terminal: RefCell<Option<wharf_foreground::Relay>>,
    /// None where it cannot be looked.
    glance: OnceCell<Option<wharf_cgroup::Glance>>,
}

impl Native {
    pub fn new() -> Self {
        Self::default()
    }
}

impl Backend for Native {
    fn name(&self) -> &str {
        NAME
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
        start::start(attached, &self.terminal, record, dir)
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

    fn update(
        &self,
        record: &Record,
        dir: BorrowedFd<'_>,
        resources: LinuxResources,
    ) -> Result<Option<serde_json::Value>> {
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
        checkpoint::checkpoint(record, dir, bundle, asked, frozen)
    }

    fn obstacles(
        &self,
        record: &Record,
        dir: BorrowedFd<'_>,
        bundle: &Bundle,
        asked: &Checkpoint,
    ) -> Result<Vec<Obstacle>> {
        checkpoint::obstacles(record, dir, bundle, asked)
    }

    fn restore<'a>(&'a self, job: Job<'a>, asked: &'a Restore) -> Result<Box<dyn Draft + 'a>> {
        Ok(Box::new(checkpoint::Restoring::new(draft::Judged::new(self, job)?, asked)?))
    }

    fn used(&self, record: &Record) -> Used {
        let glance = self.glance.get_or_init(|| wharf_cgroup::Glance::open().ok());
        glance.as_ref().map(|glance| glance.of(&record.cgroup)).unwrap_or_default()
    }

    fn processes(&self, record: &Record, _dir: BorrowedFd<'_>) -> Result<Vec<i32>> {
        status::processes(record)
    }

    fn holdings(&self, record: &Record, _: BorrowedFd<'_>) -> Result<Vec<String>> {
        remove::holdings(record)
    }

    fn delete(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<Warnings> {
        remove::delete(record, dir)
    }

    fn wait(&self, record: &Record) -> Result<Ended> {
        let terminal = match self.attached.take() {
            Some(Left::Terminal(relay)) => Some(*relay),
            _ => self.terminal.take(),
        };
        wait::wait(record, terminal, self.relay.take())
    }
}
