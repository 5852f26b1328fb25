//! Runs the other program: by its absolute path, in an environment of our own, with a limit on time and on words.

use crate::{answer, io};
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use wharf_core::{Error, Kind, Log, Result};

/// More than any state or error has; what comes after it is read and dropped.
const MOST_WORDS: usize = 1 << 20;

/// What is still in a pipe when its writer has ended comes at once. Somebody who inherited it may keep it open for ever.
const LAST_WORDS: Duration = Duration::from_millis(200);

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Handed on where the caller has them: an ordinary user's runtime directory, and the way to the user's systemd.
const HANDED_ON: [&str; 2] = ["XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"];

/// One call of the other program, being put together.
pub(crate) struct Call {
    command: Command,
    /// How many descriptors after stdio stay inheritable, for a later exec of ours.
    preserved: u32,
}

/// A call that runs.
pub(crate) struct Begun {
    child: Child,
    stdout: Option<Receiver<Vec<u8>>>,
    stderr: Option<Receiver<Vec<u8>>>,
}

/// How a call ended, and what was said.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) success: bool,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    status: ExitStatus,
}

impl Call {
    /// `options` come before ours, so that ours count where both say something.
    pub(crate) fn new(program: &Path, options: &[String], root: &Path) -> Self {
        let mut command = Command::new(program);
        command.args(options);
        command.env_clear().env("PATH", PATH);
        command.envs(HANDED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.arg("--root").arg(root);
        Call { command, preserved: 0 }
    }

    /// Without any option, to learn what there is to say.
    pub(crate) fn bare(program: &Path) -> Self {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", PATH);
        Call { command, preserved: 0 }
    }

    /// What is closed for a child stays closed: these many descriptors are not, as this process hands them on later.
    pub(crate) fn preserving(mut self, preserved: u32) -> Self {
        self.preserved = preserved;
        self
    }

    /// Failures go to stderr only, in plain words: without any log, runc writes log lines there.
    pub(crate) fn quiet(self) -> Self {
        self.log(Path::new("/dev/null"), false)
    }

    /// Where the program writes its failures; runc repeats them on stderr.
    pub(crate) fn log(mut self, file: &Path, json: bool) -> Self {
        self.command.arg("--log").arg(file).args(["--log-format", if json { "json" } else { "text" }]);
        self
    }

    /// Logs where the caller of a verb reads, which the program becomes.
    pub(crate) fn logging(self, to: Log<'_>) -> Self {
        let debug = to.debug.then_some("--debug");
        match to.file {
            Some(file) => self.log(file, to.json).args(debug),
            // Both write to stderr then.
            None if to.debug => self.args(["--log-format", if to.json { "json" } else { "text" }]).args(debug),
            None => self.quiet(),
        }
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, variables: impl IntoIterator<Item = (&'static str, OsString)>) -> Self {
        self.command.envs(variables);
        self
    }

    pub(crate) fn into_command(self) -> Command {
        self.command
    }

    /// Runs it apart from us, with both its outputs kept.
    pub(crate) fn capture(mut self, doing: &str, limit: Option<Duration>) -> Result<Finished> {
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.spawn(doing)?.end(doing, limit)
    }

    /// Runs it with our own stdin and stdout; only its errors are kept.
    pub(crate) fn pass_through(self, doing: &str, limit: Option<Duration>) -> Result<Finished> {
        self.begin(doing)?.end(doing, limit)
    }

    /// The same, without waiting for its end.
    pub(crate) fn begin(mut self, doing: &str) -> Result<Begun> {
        self.command.stderr(Stdio::piped());
        self.spawn(doing)
    }

    /// Runs it with our own stdin and outputs.
    pub(crate) fn attached(mut self, doing: &str, limit: Duration) -> Result<ExitStatus> {
        let mut child = self.command.spawn().map_err(|error| io(doing, &error))?;
        let status = end(&mut child, Some(Instant::now() + limit)).map_err(|error| io(doing, &error))?;
        status.ok_or_else(|| unanswered(doing, limit))
    }

    /// Runs it with words of ours on its stdin, apart from us.
    pub(crate) fn tell(mut self, doing: &str, words: Vec<u8>, limit: Option<Duration>) -> Result<Finished> {
        // A file, so that nobody waits for a reader.
        let file = wharf_sys::fd::memfd(c"stdin", false)
            .and_then(|file| wharf_sys::fd::write_all(&file, &words).map(|()| file))
            .and_then(|file| wharf_sys::fd::seek_start(&file).map(|()| file));
        let file = file.map_err(|errno| Error::system(doing, errno as i32))?;
        self.command.stdin(file).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.spawn(doing)?.end(doing, limit)
    }

    fn spawn(mut self, doing: &str) -> Result<Begun> {
        keep_only(self.preserved).map_err(|error| error.during(doing))?;
        let mut child = self.command.spawn().map_err(|error| io(doing, &error))?;
        let stdout = child.stdout.take().map(listen);
        let stderr = child.stderr.take().map(listen);
        Ok(Begun { child, stdout, stderr })
    }
}

impl Begun {
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    pub(crate) fn end(self, doing: &str, limit: Option<Duration>) -> Result<Finished> {
        let Begun { mut child, stdout, stderr } = self;
        let deadline = limit.map(|limit| Instant::now() + limit);
        // Both pipes end when the program does, and nearly always nobody else has them: no need to poll until then.
        let early = |words: &Option<Receiver<Vec<u8>>>| match (words, deadline) {
            (Some(words), Some(deadline)) => {
                words.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
            }
            (_, _) => None,
        };
        let (mut out, mut err) = (early(&stdout), early(&stderr));
        let status = end(&mut child, deadline).map_err(|error| io(doing, &error))?;
        let late = |words: Option<Receiver<Vec<u8>>>| words.and_then(|words| words.recv_timeout(LAST_WORDS).ok());
        out = out.or_else(|| late(stdout));
        err = err.or_else(|| late(stderr));
        let Some(status) = status else {
            return Err(unanswered(doing, limit.unwrap_or_default()));
        };
        Ok(Finished {
            success: status.success(),
            stdout: out.unwrap_or_default(),
            stderr: String::from_utf8_lossy(&err.unwrap_or_default()).into_owned(),
            status,
        })
    }
}

impl Finished {
    /// The program's own words are the cause, unchanged: it speaks the words that engines match.
    pub(crate) fn error(&self, doing: &str) -> Error {
        use std::os::unix::process::ExitStatusExt;
        let error = Error::new(answer::kind(&self.stderr), doing);
        match (answer::cause(&self.stderr), self.status.signal()) {
            (Some(cause), _) => error.because(cause),
            (None, Some(signal)) => error.because(format!("it was killed by signal {signal}")),
            (None, None) => error
                .because(format!("it ended with status {} and said nothing", self.status.code().unwrap_or_default())),
        }
    }

    /// Warnings of a call that succeeded.
    pub(crate) fn pass_on(&self) {
        let _ = std::io::stderr().write_all(self.stderr.as_bytes());
    }
}

fn unanswered(doing: &str, limit: Duration) -> Error {
    Error::new(Kind::System, doing).because(format!("it did not answer within {limit:?}"))
}

/// Everything above stdio and the `preserved` descriptors after it is closed by the exec, whoever opened it.
pub(crate) fn keep_only(preserved: u32) -> std::result::Result<(), Unclosed> {
    wharf_sys::fd::close_by_exec(preserved.saturating_add(3)).map_err(Unclosed)
}

/// They cannot be marked to be closed.
pub(crate) struct Unclosed(wharf_sys::Errno);

impl Unclosed {
    pub(crate) fn during(self, doing: &str) -> Error {
        Error::system(format!("{doing}: close inherited files"), self.0 as i32)
    }
}

/// Reads to the end on a thread of its own, which ends with this process if it must.
fn listen(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut words = Vec::new();
        let _ = pipe.by_ref().take(MOST_WORDS as u64).read_to_end(&mut words);
        let _ = sender.send(words);
        let _ = std::io::copy(&mut pipe, &mut std::io::sink());
    });
    receiver
}

/// Waits for its end; none when it had to be killed at the deadline.
fn end(child: &mut Child, deadline: Option<Instant>) -> std::io::Result<Option<ExitStatus>> {
    let Some(deadline) = deadline else { return child.wait().map(Some) };
    let mut pause = Duration::from_micros(100);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
