//! Says the same verb to another OCI runtime (crun, runc, any with their command line) and reports its answer as ours.
//!
//! `create` becomes the other program by exec, so that no process of ours stands between the engine and the payload, and
//! the payload is reparented as the engine expects. From then on the other program's own state decides. It keeps that
//! state in `delegate/` inside the container's state directory, so what is left of it goes with ours.
#![forbid(unsafe_code)]

mod answer;
mod cgroup;
mod child;
mod create;
mod exec;
mod help;
mod memory;
mod service;
mod terminal;
mod update;
mod wait;

#[cfg(test)]
mod tests;

use answer::Answer;
use child::{Begun, Call, Finished, keep_only};
use help::Help;
use memory::Memory;
use std::cell::RefCell;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use terminal::Foreground;
use wharf_core::{
    Backend, ContainerId, Draft, Ended, Error, Event, Exec, Job, Joined, Kind, LinuxResources, Log, Opaque, Record,
    Result, Status, Unsupported, Warnings,
};
use wharf_sys::libc::{O_DIRECTORY, O_PATH, SIGKILL};
use wharf_sys::procfs::Procfs;

/// Where the other program keeps its state, inside the container's state directory.
const STATE: &str = "delegate";

/// PATH_MAX of the kernel.
const LONGEST_PATH: usize = 4096;

/// How long it may take to say what it knows.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// While a `start` runs that waits for more than the start.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
/// How long it may take to signal.
const SIGNAL_TIME: Duration = Duration::from_secs(60);
/// How long a verb may take in which hooks run, with limits of their own.
const HOOKS_TIME: Duration = Duration::from_secs(3600);

/// Another OCI runtime on this host.
#[derive(Debug)]
pub struct Delegate {
    name: String,
    program: PathBuf,
    /// The administrator's options for it.
    options: Vec<String>,
    answer_time: Duration,
    foreground: Foreground,
    /// A `start` that waits for the payload to be ready, so that the caller is told.
    starting: Starting,
}

#[derive(Default)]
struct Starting(RefCell<Option<(Begun, OwnedFd)>>);

impl std::fmt::Debug for Starting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Starting")
    }
}

impl Delegate {
    /// `name` is what `--backend` and the record say; `program` is judged when a container is drafted.
    pub fn new(name: &str, program: PathBuf, options: Vec<String>) -> Self {
        Delegate {
            name: name.to_owned(),
            program,
            options,
            answer_time: ANSWER_TIME,
            foreground: Foreground::default(),
            starting: Starting::default(),
        }
    }

    /// The record decides: the program that created the container, not the one that is configured now.
    fn call(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<Call> {
        let memory = Memory::of(record)?;
        Ok(Call::new(&memory.program, &memory.options, &state_root(dir)?).quiet())
    }

    /// Asks for the state; none means that the program knows no such container. `preserved` descriptors are handed on later.
    fn ask(&self, record: &Record, dir: BorrowedFd<'_>, preserved: u32) -> Result<Option<Answer>> {
        let doing = format!("ask {} for the state of container {}", self.name, record.id);
        let call = self.call(record, dir)?.preserving(preserved).args(["state", &record.id]);
        let finished = call.capture(&doing, Some(self.answer_time))?;
        if finished.success {
            return answer::parse(&doing, &finished.stdout).map(Some);
        }
        // Every program words it differently, but each keeps a container in a directory of its name.
        let known = state_root(dir)?.join(&record.id).symlink_metadata().is_ok();
        if !known || answer::kind(&finished.stderr) == Kind::NoSuchContainer {
            return Ok(None);
        }
        Err(finished.error(&doing))
    }

    fn known(&self, record: &Record, dir: BorrowedFd<'_>, preserved: u32) -> Result<Answer> {
        if let Some(answer) = self.ask(record, dir, preserved)? {
            return Ok(answer);
        }
        // The program is this very process after its exec, and has not got so far yet.
        if Memory::of(record)?.creator_lives()? {
            return Ok(Answer { status: Status::Creating, pid: 0 });
        }
        Err(Error::new(Kind::NoSuchContainer, format!("container {} does not exist", record.id)))
    }

    /// A verb without options that does not run hooks.
    fn say(&self, verb: &str, record: &Record, dir: BorrowedFd<'_>) -> Result<()> {
        let doing = format!("{verb} container {} with {}", record.id, self.name);
        let finished = self.call(record, dir)?.args([verb, &record.id]).pass_through(&doing, Some(SIGNAL_TIME))?;
        self.succeed(verb, record, finished)
    }

    fn succeed(&self, verb: &str, record: &Record, finished: Finished) -> Result<()> {
        if finished.success {
            finished.pass_on();
            return Ok(());
        }
        Err(finished.error(&format!("{verb} container {} with {}", record.id, self.name)))
    }
}

impl Backend for Delegate {
    fn name(&self) -> &str {
        &self.name
    }

    fn judges(&self) -> bool {
        false
    }

    fn can_be_watched(&self) -> bool {
        false
    }

    fn draft<'a>(&'a self, job: Job<'a>) -> Result<Box<dyn Draft + 'a>> {
        create::judge(self, job)
    }

    fn status(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<Status> {
        self.known(record, dir, 0).map(|answer| answer.status)
    }

    fn state(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<(Status, i32)> {
        self.known(record, dir, 0).map(|answer| (answer.status, answer.pid))
    }

    fn start(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<Warnings> {
        self.foreground.begin()?;
        let doing = format!("start container {} with {}", record.id, self.name);
        let memory = Memory::of(record)?;
        if let Some(notify) = service::notify().filter(|_| memory.notify) {
            // Its own socket lies below its root, and the path of a socket has 107 bytes at most (unix(7)): an engine's
            // id, which stands twice in the directory's real path, leaves none for it.
            let root = open_state(dir)?;
            let path = format!("/proc/{}/fd/{}", wharf_sys::process::pid(), root.as_raw_fd());
            let call = Call::new(&memory.program, &memory.options, Path::new(&path)).quiet();
            let mut begun = call.args(["start", &record.id]).env([notify]).begin(&doing)?;
            // It ends when the payload is ready. Others may signal and delete the container from its start on.
            while !begun.has_ended() {
                if self.ask(record, dir, 0)?.is_none_or(|answer| answer.status != Status::Created) {
                    self.starting.0.replace(Some((begun, root)));
                    return Ok(Warnings::new());
                }
                std::thread::sleep(BETWEEN_LOOKS);
            }
            let finished = begun.end(&doing, Some(HOOKS_TIME))?;
            return self.succeed("start", record, finished).map(|()| Warnings::new());
        }
        let call = self.call(record, dir)?.args(["start", &record.id]);
        let finished = call.pass_through(&doing, Some(HOOKS_TIME))?;
        self.succeed("start", record, finished).map(|()| Warnings::new())
    }

    fn await_ready(&self, record: &Record) -> Result<()> {
        let Some((begun, _root)) = self.starting.0.take() else { return Ok(()) };
        let finished = begun.end(&format!("start container {} with {}", record.id, self.name), None)?;
        self.succeed("start", record, finished)
    }

    fn kill(&self, record: &Record, dir: BorrowedFd<'_>, signal: i32, all: bool) -> Result<()> {
        let doing = format!("kill container {} with {}", record.id, self.name);
        // A payload that dies takes all with it: what runc since 1.2 does of --all, and no longer tells of.
        if all && signal != SIGKILL {
            let memory = Memory::of(record)?;
            let help = Help::ask(&self.name, &memory.program, "kill", 0, self.answer_time)?;
            help.require("all", "signal the processes that ps lists one by one")?;
        }
        let signal = signal.to_string();
        let call = self.call(record, dir)?.args(["kill"]).args(all.then_some("--all")).args([&record.id, &signal]);
        let finished = call.pass_through(&doing, Some(SIGNAL_TIME))?;
        self.succeed("kill", record, finished)
    }

    fn exec(&self, record: &Record, dir: BorrowedFd<'_>, asked: &Exec, log: Log<'_>) -> Result<Box<dyn Joined>> {
        Err(exec::become_the_program(self, record, dir, asked, log))
    }

    fn pause(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<()> {
        self.say("pause", record, dir)
    }

    fn resume(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<()> {
        self.say("resume", record, dir)
    }

    fn update(&self, record: &Record, dir: BorrowedFd<'_>, resources: LinuxResources) -> Result<Option<Opaque>> {
        let doing = format!("update container {} with {}", record.id, self.name);
        let failed = |error: serde_json::Error| Error::new(Kind::System, &doing).because(error);
        let asked = serde_json::to_value(&resources).map_err(failed)?;
        update::judge(&self.name, &Memory::of(record)?, record, &asked, self.answer_time)?;
        let words = serde_json::to_vec(&asked).map_err(failed)?;
        let call = self.call(record, dir)?.args(["update", "--resources", "-", &record.id]);
        let finished = call.tell(&doing, words, Some(SIGNAL_TIME))?;
        self.succeed("update", record, finished).map(|()| None)
    }

    fn events(
        &self,
        record: &Record,
        dir: BorrowedFd<'_>,
        interval: Option<Duration>,
        tell: &mut dyn FnMut(Event) -> Result<()>,
    ) -> Result<()> {
        let option = if interval.is_none() { "stats" } else { "interval" };
        let memory = Memory::of(record)?;
        if !Help::ask(&self.name, &memory.program, "events", 0, self.answer_time)?.has(option) {
            let instead = "read the files of its cgroup, or use the native backend";
            return Err(Unsupported { verb: "events", backend: &self.name, instead }.into());
        }
        let doing = format!("watch container {} with {}", record.id, self.name);
        let call = self.call(record, dir)?.args(["events"]);
        let Some(interval) = interval else {
            let finished = call.args(["--stats", &record.id]).capture(&doing, Some(self.answer_time))?;
            if !finished.success {
                return Err(finished.error(&doing));
            }
            return tell(Event::Line(String::from_utf8_lossy(&finished.stdout).into_owned()));
        };
        let interval = format!("{}ns", interval.as_nanos());
        keep_only(0).map_err(|unclosed| unclosed.during(&doing))?;
        // Nothing of ours is left between the program and whoever reads.
        Err(become_it(&doing, call.args(["--interval", &interval, &record.id])))
    }

    fn processes(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<Vec<i32>> {
        let doing = format!("list the processes of container {} with {}", record.id, self.name);
        let call = self.call(record, dir)?.args(["ps", "--format", "json", &record.id]);
        let finished = call.capture(&doing, Some(self.answer_time))?;
        if !finished.success {
            return Err(finished.error(&doing));
        }
        answer::processes(&doing, &finished.stdout)
    }

    fn holdings(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<Vec<String>> {
        check_id(record)?;
        let state = state_root(dir)?.join(&record.id);
        let known = state.symlink_metadata().is_ok();
        Ok(known.then(|| format!("state of {} in {}", self.name, state.display())).into_iter().collect())
    }

    fn delete(&self, record: &Record, dir: BorrowedFd<'_>) -> Result<Warnings> {
        let root = state_root(dir)?;
        // Nothing of the container's name: `create` did not get so far, or an earlier delete did.
        if root.join(&record.id).symlink_metadata().is_ok() {
            let doing = format!("delete container {} with {}", record.id, self.name);
            let call = self.call(record, dir)?.args(["delete", "--force", &record.id]);
            let finished = call.pass_through(&doing, Some(HOOKS_TIME))?;
            if finished.success || answer::kind(&finished.stderr) != Kind::NoSuchContainer {
                self.succeed("delete", record, finished)?;
            }
        }
        cgroup::sweep(record)?;
        create::remove_state(&root).map(|()| Warnings::new())
    }

    fn wait(&self, record: &Record) -> Result<Ended> {
        wait::until_end(record, self.foreground.take())
    }
}

/// The program that a record names, with its options; none where the record is another backend's.
pub fn program(record: &Record) -> Option<String> {
    let memory = Memory::of(record).ok()?;
    Some(memory.options.iter().fold(memory.program.display().to_string(), |line, option| format!("{line} {option}")))
}

/// The other program's state root, open.
fn open_state(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    let name = std::ffi::CString::new(STATE).unwrap_or_default();
    wharf_sys::fd::openat(dir, &name, O_PATH | O_DIRECTORY, 0)
        .map_err(|errno| Error::system("open the other runtime's state", errno as i32))
}

/// The path of the other program's state root. The state directory is known by its descriptor; the program needs words.
fn state_root(dir: BorrowedFd<'_>) -> Result<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let name = std::ffi::CString::new(dir.as_raw_fd().to_string()).unwrap_or_default();
    let mut path = vec![0; LONGEST_PATH];
    let length = Procfs::open()
        .and_then(|proc| proc.open_file(c"self/fd", O_PATH | O_DIRECTORY))
        .and_then(|descriptors| wharf_sys::fd::readlinkat(descriptors, &name, &mut path))
        .map_err(|errno| Error::system("find the path of the state directory", errno as i32))?;
    path.truncate(length);
    Ok(PathBuf::from(std::ffi::OsString::from_vec(path)).join(STATE))
}

/// Returns only when it failed.
fn become_it(doing: &str, call: Call) -> Error {
    // What comes then is the other program's time.
    wharf_core::phases::finish();
    io(doing, &call.into_command().exec())
}

fn io(doing: impl Into<String>, error: &std::io::Error) -> Error {
    match error.raw_os_error() {
        Some(errno) => Error::system(doing, errno),
        None => Error::new(Kind::System, doing).because(error),
    }
}

/// The program must be named by an absolute path: what stands first in somebody's PATH is not what was configured.
fn judge_program(name: &str, program: &Path) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let doing = format!("use {} as backend {name}", program.display());
    if !program.is_absolute() {
        return Err(Error::invalid(doing).because("the path is not absolute"));
    }
    let file = program.metadata().map_err(|error| io(&doing, &error))?;
    if !file.is_file() {
        return Err(Error::invalid(doing).because("it is not a regular file"));
    }
    let path = std::ffi::CString::new(program.as_os_str().as_bytes())
        .map_err(|_| Error::invalid(&doing).because("the path holds a NUL byte"))?;
    wharf_sys::process::may_execute(&path).map_err(|errno| Error::system(doing, errno as i32))
}

/// Ids were judged before; the record's copy is only words, and becomes a path here.
fn check_id(record: &Record) -> Result<()> {
    ContainerId::new(&record.id).map(drop)
}
