//! The promise every backend keeps.
//!
//! ```text
//! draft(job)            judge the whole spec, choose names; touches nothing outside
//!   -> record saved     what is about to exist can be found after a crash
//! Draft::create         make it; the payload waits, and dies with us
//!   -> record saved
//! Hold::release         the payload outlives us, waiting for `start`
//! ```

use crate::{
    Bundle, Captured, CgroupPaths, Checkpoint, ContainerId, Ended, Error, Exec, Joined, Kind, Obstacle, Opaque,
    Process, Record, Remark, Restore, Result, Statistics, Status, Terminal, Verb, allowed,
};
use oci_spec::runtime::LinuxResources;
use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

/// A complete request to make a container.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    pub id: &'a ContainerId,
    pub bundle: &'a Bundle,
    /// Absolute path of the state directory, which is made after the job is judged.
    pub state_dir: &'a Path,
    /// `--console-socket`
    pub console_socket: Option<&'a Path>,
    /// `--pidfd-socket`
    pub pidfd_socket: Option<&'a Path>,
    /// `--pid-file`; whoever execs another runtime hands it on, the verb writes it otherwise.
    pub pid_file: Option<&'a Path>,
    /// `--preserve-fds`: how many descriptors from 3 on the payload inherits.
    pub preserve_fds: u32,
    /// `--no-pivot`
    pub no_pivot: bool,
    /// `--no-new-keyring`
    pub no_new_keyring: bool,
    /// `--systemd-cgroup`: cgroupsPath is `SLICE:PREFIX:NAME`.
    pub systemd_cgroup: bool,
    /// Where the caller reads failures; for a backend that hands over by exec, so that it reports there itself.
    pub log: Log<'a>,
    /// `--rootless`: for another runtime; wharf itself needs no telling.
    pub rootless: Option<&'a str>,
    /// `--no-subreaper`
    pub no_subreaper: bool,
    /// The caller starts the container next (`run`): `Draft::create` must return, in every backend.
    pub then_start: bool,
    /// The caller then waits for the payload's end.
    pub foreground: bool,
}

/// `--log`, `--log-format` and `--debug`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Log<'a> {
    /// None is stderr.
    pub file: Option<&'a Path>,
    pub json: bool,
    pub debug: bool,
}

impl<'a> Job<'a> {
    /// A job without any option.
    pub fn new(id: &'a ContainerId, bundle: &'a Bundle) -> Self {
        Job {
            id,
            bundle,
            state_dir: Path::new(""),
            console_socket: None,
            pidfd_socket: None,
            pid_file: None,
            preserve_fds: 0,
            no_pivot: false,
            no_new_keyring: false,
            systemd_cgroup: false,
            log: Log::default(),
            rootless: None,
            no_subreaper: false,
            then_start: false,
            foreground: false,
        }
    }

    /// Where the master end of the payload's terminal goes.
    pub fn terminal(&self) -> Result<Terminal<'a>> {
        let wanted = self.bundle.spec.process().as_ref().is_some_and(|process| process.terminal().unwrap_or(false));
        Terminal::judge(wanted, self.console_socket, self.foreground).map_err(|error| error.at("process/terminal"))
    }
}

/// One place where containers run. Every verb after `create` is given the record, which decides.
///
/// `dir` is the container's state directory, open; a backend keeps its private files in it.
pub trait Backend {
    /// As `--backend` and the record spell it.
    fn name(&self) -> &str;

    /// Whether its draft judges the properties of a bundle. One that hands config.json on as it is leaves that to the
    /// program that reads it.
    fn judges(&self) -> bool {
        true
    }

    /// Whether its containers have a process of this host that a watcher can stay beside.
    fn can_be_watched(&self) -> bool {
        true
    }

    /// Whether a process of ours stands in for the payload and writes down how that ends.
    fn stands_in(&self) -> bool {
        false
    }

    /// Judges the whole job. Nothing exists afterwards that did not before.
    fn draft<'a>(&'a self, job: Job<'a>) -> Result<Box<dyn Draft + 'a>>;

    /// The truth about the container, from the kernel.
    fn status(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<Status>;

    /// The status and the pid that engines see, for `state` and `list`. A backend whose records hold no pid asks.
    fn state(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<(Status, i32)> {
        Ok((self.status(record, dir)?, record.engine_pid))
    }

    /// Whether `start` may be asked for now. A backend whose `start` finds out by itself need not look twice.
    fn may_start(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<()> {
        allowed(&ContainerId::new(&record.id)?, self.status(record, dir)?, Verb::Start)
    }

    /// Lets the waiting payload run; returns when it has been executed, and its poststart hooks have run.
    fn start(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<Warnings>;

    /// Waits until a payload that was started has told that it is ready, where the caller wants to hear of that
    /// (sd_notify(3)). Nobody's lock is held meanwhile.
    fn await_ready(&self, _record: &Record) -> Result<()> {
        Ok(())
    }

    /// Signals the payload; `all` means every process of the container.
    fn kill(&self, record: &Record, dir: BorrowedFd<'_>, signal: i32, all: bool) -> Result<()>;

    /// Makes a process join the container, which must be running or only created; it waits for its release. A failure
    /// leaves nothing behind. A backend that hands over to another program by exec does not return.
    fn exec(&self, record: &Record, dir: BorrowedFd<'_>, asked: &Exec, log: Log<'_>) -> Result<Box<dyn Joined>>;

    /// Stops every process of the container; returns when all stand still.
    fn pause(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<()>;

    /// Lets the processes of a paused container go on.
    fn resume(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<()>;

    /// Changes limits: all that is asked, or nothing. What `resources` does not speak of stays. Returns the backend's own
    /// memory where that has changed, for the record.
    fn update(&self, record: &Record, dir: BorrowedFd<'_>, resources: LinuxResources) -> Result<Option<Opaque>>;

    /// Tells what the container uses: once, or after each interval until it ends, and then also when the kernel killed in
    /// it for want of memory. A backend that hands over to another program by exec does not return.
    fn events(
        &self,
        record: &Record,
        dir: BorrowedFd<'_>,
        interval: Option<Duration>,
        tell: &mut dyn FnMut(Event) -> Result<()>,
    ) -> Result<()>;

    /// What it uses now, of that the counters of a scrape; [`Kind::NotRunning`] once its cgroup is gone.
    fn statistics(&self, record: &Record) -> Result<Statistics> {
        Err(Error::unsupported(format!("tell what container {} uses", record.id))
            .because("only its own runtime counts that, in another form"))
    }

    /// Writes the container's memory down. `frozen` is called while every process stands still and all is written; when
    /// that fails, or anything before, the container runs on.
    fn checkpoint(
        &self,
        _record: &Record,
        _dir: BorrowedFd<'_>,
        _bundle: &Bundle,
        _asked: &Checkpoint,
        _frozen: &mut dyn FnMut(&Captured) -> Result<()>,
    ) -> Result<()> {
        Err(self.without_memory("checkpoint"))
    }

    /// What would make [`Backend::checkpoint`] fail, found without an effect on the container.
    fn obstacles(
        &self,
        _record: &Record,
        _dir: BorrowedFd<'_>,
        _bundle: &Bundle,
        _asked: &Checkpoint,
    ) -> Result<Vec<Obstacle>> {
        Err(self.without_memory("checkpoint --check"))
    }

    /// As [`Backend::draft`], of a container that is made of a checkpoint's memory and runs when it is released.
    fn restore<'a>(&'a self, _job: Job<'a>, _asked: &'a Restore) -> Result<Box<dyn Draft + 'a>> {
        Err(self.without_memory("restore"))
    }

    /// The error of a backend that cannot write memory down.
    fn without_memory(&self, verb: &str) -> Error {
        Unsupported { verb, backend: self.name(), instead: "only containers of the native backend can be checkpointed" }
            .into()
    }

    /// What it has used until now, of what can be told at once: `list` asks it of every container.
    fn used(&self, _record: &Record) -> Used {
        Used::default()
    }

    /// Every process of the container, by its pid here, in order of the numbers.
    fn processes(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<Vec<i32>>;

    /// The table of its processes, of a backend whose processes have no number here.
    fn process_table(&self, _record: &Record, _dir: BorrowedFd<'_>) -> Result<Option<String>> {
        Ok(None)
    }

    /// What exists of the container beside the state directory, for people, a few words each: `gc` tells it.
    fn holdings(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<Vec<String>>;

    /// Ends every process of the container, whatever its status, and removes all that `create` made except the state
    /// directory. Collects errors and goes on.
    fn delete(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<Warnings>;

    /// What `state` says besides, as annotations.
    fn notes(&self, _record: &Record) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// Passes signals on to a payload that this process created and waits for its end.
    fn wait(&self, record: &Record) -> Result<Ended>;
}

/// What is there of these; a container without a cgroup, and one of another runtime, has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Microseconds of CPU time.
    pub cpu: Option<u64>,
    /// Bytes of memory that it has now.
    pub memory: Option<u64>,
}

/// One event of a container.
#[derive(Debug)]
pub enum Event {
    Statistics(Box<Statistics>),
    OutOfMemory,
    /// Another program's own line.
    Line(String),
}

/// What went wrong and changes nothing: hooks after start and after delete (runtime.md, "Lifecycle").
pub type Warnings = Vec<Error>;

/// A judged job: everything is decided, nothing is made.
pub trait Draft {
    /// What of the spec is honoured only nearly, or has no effect here.
    fn remarks(&self) -> Vec<Remark> {
        Vec::new()
    }

    /// Writes what is about to exist into the record: cgroup, rootfs, hooks, the backend's own memory.
    fn describe(&self, record: &mut Record);

    /// Makes the container. A failure leaves nothing behind. A backend that hands over to another program by exec does
    /// not return. What comes to be elsewhere than `record` says is told to `tell` before it is made.
    fn create(
        self: Box<Self>,
        dir: BorrowedFd<'_>,
        record: &Record,
        tell: &dyn Fn(CgroupPaths) -> Result<()>,
    ) -> Result<Created>;
}

/// A container whose payload waits to be started.
pub struct Created {
    /// What the engine will wait for and look through; not always the payload.
    pub engine_pid: i32,
    /// The container's init: signals go here.
    pub init: Process,
    pub cgroup: CgroupPaths,
    pub supervisor: Supervisor,
    /// The backend's own memory, for the record.
    pub private: Opaque,
    /// What came to be known on the way.
    pub warnings: Warnings,
    /// Dropped before its release, it undoes the whole container.
    pub hold: Box<dyn Hold>,
}

/// Who sees the payload end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Supervisor {
    /// The payload is the engine's own child: nobody of ours.
    Engine,
    /// A process of ours that lives as long as the payload and exits with its code.
    Process(Process),
}

/// The last string on a new container.
pub trait Hold {
    /// Called once the record is saved.
    fn release(self: Box<Self>) -> Result<()>;
}

/// What a backend cannot do, as a value: `features`, `plan` and messages agree.
#[derive(Clone, Copy, Debug)]
pub struct Unsupported<'a> {
    /// With its option, where it is that.
    pub verb: &'a str,
    pub backend: &'a str,
    /// What to do instead.
    pub instead: &'a str,
}

impl From<Unsupported<'_>> for Error {
    fn from(what: Unsupported<'_>) -> Self {
        Error::new(Kind::Unsupported, format!("{} on the {} backend", what.verb, what.backend))
            .because("is not supported")
            .hint(what.instead)
    }
}
