//! `create`: judged here, done by the other program.

use crate::child::{Call, keep_only};
use crate::help::Help;
use crate::memory::{Memory, identify, text};
use crate::terminal::ConsoleSocket;
use crate::{Delegate, HOOKS_TIME, STATE, answer, become_it, cgroup, io, judge_program, service, state_root};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use wharf_core::{
    CgroupPaths, Created, Draft, Error, Hold, Job, Kind, Opaque, Record, RecordState, Result, Supervisor, Terminal,
    Unsupported,
};
use wharf_foreground::HostTerminal;

pub(crate) fn judge<'a>(delegate: &'a Delegate, job: Job<'a>) -> Result<Box<dyn Draft + 'a>> {
    judge_program(&delegate.name, &delegate.program)?;
    text(&delegate.name, &delegate.program)?;
    let mut memory = Memory::new(&delegate.program, &delegate.options)?;
    memory.cgroup = cgroup::own(&job);
    understood(delegate, &job)?;
    // `create` becomes the program, which judges this for itself; of `run` it sees nothing.
    let terminal = if job.then_start { job.terminal()? } else { Terminal::None };
    if job.then_start {
        service::judge_run(&delegate.name, &job)?;
    } else {
        memory.notify = service::notify().is_some();
    }
    let host_terminal = (terminal == Terminal::Foreground).then(HostTerminal::find).transpose()?;
    Ok(Box::new(Delegated { delegate, job, memory, host_terminal }))
}

/// Refuses what the program would not do.
fn understood(delegate: &Delegate, job: &Job<'_>) -> Result<()> {
    if job.no_subreaper && job.foreground {
        let instead = "give --detach, or leave it out: who waits for the payload has to adopt it";
        return Err(Unsupported { verb: "run --no-subreaper", backend: &delegate.name, instead }.into());
    }
    let given = [
        ("pidfd-socket", job.pidfd_socket.is_some(), "open the process of the pid file with pidfd_open(2)"),
        ("preserve-fds", job.preserve_fds > 0, "use the native backend"),
        ("no-pivot", job.no_pivot, "put the root file system on a mount of its own, or use the native backend"),
        ("no-new-keyring", job.no_new_keyring, "use the native backend"),
    ];
    if given.iter().all(|(_, given, _)| !given) {
        return Ok(());
    }
    let kept = job.preserve_fds.saturating_add(service::descriptors()?);
    let help = Help::ask(&delegate.name, &delegate.program, "create", kept, delegate.answer_time)?;
    given.iter().filter(|(_, given, _)| *given).try_for_each(|(option, _, instead)| help.require(option, instead))
}

struct Delegated<'a> {
    delegate: &'a Delegate,
    job: Job<'a>,
    memory: Memory,
    /// Where the payload's terminal is shown, in the foreground.
    host_terminal: Option<HostTerminal>,
}

impl Draft for Delegated<'_> {
    /// Hooks and cgroup stay empty: the program runs its hooks and removes its cgroup itself.
    fn describe(&self, record: &mut Record) {
        if let Some(root) = self.job.bundle.spec.root() {
            record.rootfs = self.job.bundle.dir.join(root.path()).display().to_string();
        }
        record.state = Some(RecordState::Delegated);
        record.private = Opaque::of(&self.memory.value());
    }

    fn create(
        self: Box<Self>,
        dir: BorrowedFd<'_>,
        record: &Record,
        _tell: &dyn Fn(CgroupPaths) -> Result<()>,
    ) -> Result<Created> {
        let root = state_root(dir)?;
        let doing = format!("create container {} with {}", self.job.id, self.delegate.name);
        wharf_sys::fd::mkdirat(dir, c"delegate", 0o700)
            .map_err(|errno| Error::system(format!("{doing}: make {}", root.display()), errno as i32))?;
        if self.job.then_start {
            return self.by_child(&doing, root, dir, record);
        }
        let failed = self.become_the_program(&doing, &root);
        // It is this failure that the caller must hear of.
        let _ = remove_state(&root);
        Err(failed)
    }
}

impl Delegated<'_> {
    /// Returns only when it failed.
    fn become_the_program(&self, doing: &str, root: &Path) -> Error {
        let call = match service::hand_on_descriptors(call(self.delegate, &self.job, root)) {
            Ok((call, listen)) => match keep_only(self.job.preserve_fds.saturating_add(listen)) {
                Ok(()) => call.env(service::notify()),
                Err(unclosed) => return unclosed.during(doing),
            },
            Err(error) => return error,
        };
        become_it(doing, call)
    }

    /// For `run`: the payload becomes our child when the program has ended, so that we can wait for it.
    fn by_child(self, doing: &str, root: PathBuf, dir: BorrowedFd<'_>, record: &Record) -> Result<Created> {
        let system = |what: &str, errno: wharf_sys::Errno| Error::system(format!("{doing}: {what}"), errno as i32);
        if self.job.foreground {
            wharf_sys::credentials::set_subreaper().map_err(|errno| system("adopt the payload", errno))?;
        }
        // stderr is the payload's and may not be a pipe of ours, so the cause of a failure comes by a log.
        let log = root.with_extension("log");
        let call = Call::new(&self.delegate.program, &self.delegate.options, &root).log(&log, true);
        keep_only(self.job.preserve_fds).map_err(|unclosed| unclosed.during(doing))?;
        let wanted = self.host_terminal.is_some();
        let console = wanted.then(|| ConsoleSocket::listen(root.with_extension("tty"))).transpose()?;
        let console_socket = console.as_ref().map(|console| console.path.as_path()).or(self.job.console_socket);
        // The verb writes the pid file of a `create` that returns.
        let job = Job { pid_file: None, console_socket, ..self.job };
        let finished = arguments(call, &job).attached(doing, HOOKS_TIME);
        let undo = Undo { memory: self.memory.clone(), root, id: record.id.clone(), released: false };
        let status = finished?;
        let words = wharf_core::read_file(doing, &log).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        let _ = std::fs::remove_file(&log);
        if !status.success() {
            let cause = logged(&words).unwrap_or_else(|| format!("it ended with {status}"));
            return Err(Error::new(answer::kind(&cause), doing).because(cause));
        }
        let pid = self.delegate.ask(record, dir, 0)?.map_or(0, |answer| answer.pid);
        let init = if pid > 0 { identify(pid)? } else { None };
        let init = init.ok_or_else(|| {
            Error::new(Kind::System, doing).because("the payload's process ended before it was started")
        })?;
        if let (Some(host), Some(console)) = (self.host_terminal, console) {
            self.delegate.foreground.put(host, console.receive()?);
        }
        Ok(Created {
            warnings: Vec::new(),
            engine_pid: pid,
            init,
            cgroup: CgroupPaths::default(),
            supervisor: Supervisor::Engine,
            private: Opaque::of(&self.memory.value()),
            hold: Box::new(undo),
        })
    }
}

/// The exec that `create` is.
pub(crate) fn call(delegate: &Delegate, job: &Job<'_>, root: &Path) -> Call {
    arguments(Call::new(&delegate.program, &delegate.options, root).logging(job.log), job)
}

fn arguments(mut call: Call, job: &Job<'_>) -> Call {
    if job.systemd_cgroup {
        call = call.args(["--systemd-cgroup"]);
    }
    if let Some(when) = job.rootless {
        call = call.args(["--rootless", when]);
    }
    call = call.args(["create", "--bundle"]).args([&job.bundle.dir]);
    if let Some(file) = job.pid_file {
        call = call.args(["--pid-file"]).args([file]);
    }
    if let Some(socket) = job.console_socket {
        call = call.args(["--console-socket"]).args([socket]);
    }
    if let Some(socket) = job.pidfd_socket {
        call = call.args(["--pidfd-socket"]).args([socket]);
    }
    if job.preserve_fds > 0 {
        call = call.args(["--preserve-fds", &job.preserve_fds.to_string()]);
    }
    call.args(job.no_pivot.then_some("--no-pivot"))
        .args(job.no_new_keyring.then_some("--no-new-keyring"))
        .args([job.id.as_str()])
}

/// Takes the container away again, unless it is released.
struct Undo {
    memory: Memory,
    root: PathBuf,
    id: String,
    released: bool,
}

impl Hold for Undo {
    fn release(mut self: Box<Self>) -> Result<()> {
        self.released = true;
        Ok(())
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        if self.root.join(&self.id).symlink_metadata().is_ok() {
            let call = Call::new(&self.memory.program, &self.memory.options, &self.root)
                .quiet()
                .args(["delete", "--force", &self.id]);
            let _ = call.capture("undo", Some(HOOKS_TIME));
        }
        let _ = remove_state(&self.root);
    }
}

/// The cause in the program's log of JSON lines: what its last error says.
fn logged(words: &str) -> Option<String> {
    let line = words.lines().rfind(|line| line.contains("\"error\"") || line.contains("\"fatal\""))?;
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    Some(value.get("msg")?.as_str()?.to_owned())
}

/// Removes what the program left of its own state. The directory is ours, mode 0700, so nobody exchanges its parts.
pub(crate) fn remove_state(root: &Path) -> Result<()> {
    debug_assert!(root.ends_with(STATE));
    match std::fs::remove_dir_all(root) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(io(format!("remove {}", root.display()), &error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::logged;

    #[test]
    fn the_last_error_of_a_log_is_the_cause() {
        let log =
            "{\"level\":\"warning\",\"msg\":\"w\"}\n{\"level\":\"error\",\"msg\":\"a \\\"b\\\"\",\"time\":\"x\"}\n";
        assert_eq!(logged(log).as_deref(), Some("a \"b\""));
        assert_eq!(logged("garbage"), None);
    }
}
