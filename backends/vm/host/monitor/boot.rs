//! From what `create` has handed over to a machine in which the payload waits.

use super::super::control::{self, Reply, State};
use super::super::job::{Inherited, Job};
use super::super::qemu::Qemu;
use super::super::seclude::seclude;
use super::super::stage;
use super::{Lost, Monitor, Session, lost, pump, tell};
use crate::network::Attached;
use crate::wire::{Failure, Outcome, Reader};
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use wharf_core::{Ended, Error, Result, WitnessKind};
use wharf_monitor::Watch;
use wharf_sys::{Errno, Fd, fd, libc, process, signal, socket, terminal};

/// How long a processor of which only the attempt tells may take to boot the guest.
const ATTEMPT: Duration = Duration::from_secs(10);

impl Monitor {
    pub(super) fn begin(inherited: Inherited) -> std::result::Result<Monitor, (OwnedFd, Error)> {
        let Inherited { dir, job, creator, network } = inherited;
        match Self::prepare(dir, job, &creator, network) {
            Ok(mut monitor) => {
                monitor.creator = Some(creator);
                Ok(monitor)
            }
            Err(error) => Err((creator, error)),
        }
    }

    pub(super) fn prepare(dir: OwnedFd, job: Job, creator: &OwnedFd, namespace: Option<OwnedFd>) -> Result<Monitor> {
        let failed = |errno: Errno| Error::system("stand in for the machine", errno as i32);
        // It may be on its way into its cgroup.
        match socket::receive(creator, &mut [0; 8]).map_err(failed)? {
            (2, _) => {}
            _ => return Err(failed(Errno::ECANCELED)),
        }
        let signals = signal::descriptor().map_err(failed)?;
        let watch = Watch::open(&dir, WitnessKind::StandIn, &job.cgroup)?;
        let listener = wharf_sys::mount::inside(&dir, || {
            let listener = socket::sequenced()?;
            socket::bind(&listener, control::SOCKET)?;
            socket::listen(&listener).map(|()| listener)
        })
        .map_err(failed)?;
        let share = job.state_dir.join(stage::NAME);
        std::fs::create_dir(&share)
            .map_err(|error| crate::machine::drivers::io("make the machine's directory", &error))?;
        stage::make(&share, &job.bindings)?;
        if job.terminal {
            terminal::take_control(Fd(0)).map_err(failed)?;
            let settings = terminal::Settings::of(Fd(0)).map_err(failed)?;
            settings.raw().without_onlcr().apply(Fd(0)).map_err(failed)?;
        }
        let mut accelerators = job.accelerators.clone();
        accelerators.reverse();
        let accelerator = accelerators.pop().ok_or_else(|| failed(Errno::ENODEV))?;
        let mut network = namespace
            .as_ref()
            .map(Attached::new)
            .transpose()
            .map_err(|error| error.at(job.network.as_deref().unwrap_or_default()))?;
        let taps = network.as_ref().map(Attached::taps).unwrap_or_default();
        let qemu = Qemu::start(&job, accelerator, taps).inspect_err(|_| {
            if let Some(network) = &mut network {
                network.end();
            }
        })?;
        let patience = if accelerators.is_empty() { job.patience } else { ATTEMPT.min(job.patience) };
        Ok(Monitor {
            creator: None,
            released: false,
            signals,
            listener,
            watch: Some(watch),
            qemu,
            namespace,
            network,
            accelerators,
            accelerator,
            boot_until: Some(Instant::now() + patience),
            state: State::Creating,
            paused: false,
            reader: Reader::new(),
            out: Vec::new(),
            outgoing: VecDeque::new(),
            asked: BTreeMap::new(),
            sessions: BTreeMap::new(),
            clients: Vec::new(),
            next: 1,
            next_client: 1,
            kill_until: None,
            killed: 0,
            over: None,
            job,
        })
    }

    /// The guest has not come up: with the next accelerator, where there is one.
    pub(super) fn boots_otherwise(&mut self) -> std::result::Result<bool, Lost> {
        if self.boot_until.is_none() {
            return Ok(false);
        }
        let Some(accelerator) = self.accelerators.pop() else { return Ok(false) };
        self.qemu.end();
        self.accelerator = accelerator;
        let taps = self.network.as_ref().map(Attached::taps).unwrap_or_default();
        self.qemu = Qemu::start(&self.job, accelerator, taps).map_err(|error| lost(error.to_string()))?;
        (self.reader, self.out) = (Reader::new(), Vec::new());
        self.boot_until = Some(Instant::now() + self.job.patience);
        Ok(true)
    }

    pub(super) fn machine_ended(&mut self) -> Lost {
        let status = process::wait_status(self.qemu.pid, libc::WNOHANG)
            .ok()
            .flatten()
            .map(|(_, status)| Ended::of_status(status));
        match status {
            Some(ended @ Ended::Signaled { signal, .. }) => {
                Lost { why: format!("QEMU was killed by signal {signal}"), ended }
            }
            _ => lost(self.qemu.last_words()),
        }
    }

    pub(super) fn created(&mut self, outcome: Outcome) {
        self.boot_until = None;
        let standard = || -> Result<Vec<OwnedFd>, Errno> {
            let numbers = if self.job.terminal { 0..1 } else { 0..3 };
            numbers.map(|number| fd::duplicate(Fd(number))).collect()
        };
        let outcome = outcome.map_err(Failure::into_error).and_then(|_| {
            seclude(self.namespace.take().as_ref())?;
            standard().map_err(|errno| Error::system("keep the payload's standard descriptors", errno as i32))
        });
        let reply = match outcome {
            Ok(descriptors) => {
                let pump = pump(descriptors, self.job.terminal);
                self.sessions.insert(0, Session { pump, status: None, client: None });
                self.state = State::Created;
                if self.job.terminal {
                    self.tell_size();
                }
                Reply::Ok(serde_json::to_value(self.accelerator).unwrap_or_default())
            }
            Err(error) => Reply::Err(Failure::of(&error)),
        };
        if let Some(creator) = &self.creator {
            tell(creator, &reply);
        }
        // A terminal is held by its pump; others are the engine's, and held by nobody but theirs.
        if self.job.terminal {
            (1..3).for_each(|number| fd::close(Fd(number)));
        } else {
            (0..3).for_each(|number| fd::close(Fd(number)));
        }
    }
}
