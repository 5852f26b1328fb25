//! Calls the runtime under test: bounded in time, output in files, so that a payload left behind holds no pipe of ours.

use crate::{Outcome, Stop};
use std::fmt;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

static CALLS: AtomicU32 = AtomicU32::new(0);

/// A runtime with runc's command line.
#[derive(Clone)]
pub struct Runtime {
    program: PathBuf,
    root: PathBuf,
    name: String,
}

/// A call that has ended.
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
    /// Where the payload's output goes on arriving.
    pub stdout_file: PathBuf,
    call: String,
}

/// A call that goes on.
pub struct Running {
    child: Child,
    begun: Instant,
    stdout: PathBuf,
    stderr: PathBuf,
    call: String,
}

impl Runtime {
    pub(crate) fn new(program: PathBuf) -> Self {
        let name = program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Runtime { program, root: PathBuf::new(), name }
    }

    pub(crate) fn with_root(&self, root: PathBuf) -> Self {
        Runtime { root, ..self.clone() }
    }

    /// `wharf`, `runc`, `crun`: the program's file name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The program with `--root`, for a caller that sets up the rest.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root).stdin(Stdio::null());
        command
    }

    /// A verb and its arguments, to its end.
    pub fn call(&self, args: &[&str]) -> Result<Finished, Stop> {
        self.spawn(args)?.finish()
    }

    /// A verb that must succeed: its stdout.
    pub fn must(&self, args: &[&str]) -> Result<String, Stop> {
        let finished = self.call(args)?;
        match finished.code() {
            Some(0) => Ok(finished.stdout),
            _ => Err(Stop::failed(finished.to_string())),
        }
    }

    pub fn spawn(&self, args: &[&str]) -> Result<Running, Stop> {
        let mut command = self.command();
        command.args(args);
        self.spawn_command(command)
    }

    /// Starts a command made by [`Runtime::command`]; its output goes to files beside `--root`.
    pub fn spawn_command(&self, command: Command) -> Result<Running, Stop> {
        let beside = self.root.parent().unwrap_or(&self.root);
        let words: Vec<_> = command.get_args().skip(2).map(|word| word.to_string_lossy().into_owned()).collect();
        let call = format!("{} {}", self.name, words.join(" "));
        Running::start(command, beside, call)
    }
}

/// A time limit, stretched by `WHARF_PATIENCE`.
pub fn limit(seconds: u64) -> Duration {
    let factor = std::env::var("WHARF_PATIENCE").ok().and_then(|text| text.parse::<u32>().ok()).unwrap_or(1);
    Duration::from_secs(seconds) * factor
}

/// Waits until it is so; what it waits for stands in the failure.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> Result<bool, Stop>) -> Outcome {
    let begun = Instant::now();
    while !is_so()? {
        if begun.elapsed() >= limit(20) {
            return Err(Stop::failed(format!("waited in vain for {what}")));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

impl Running {
    /// Starts any program; its output goes to files in `dir`.
    pub(crate) fn start(mut command: Command, dir: &Path, call: String) -> Result<Self, Stop> {
        let number = CALLS.fetch_add(1, Ordering::Relaxed);
        let stdout = dir.join(format!("stdout.{number}"));
        let stderr = dir.join(format!("stderr.{number}"));
        let child = command
            .stdout(File::create(&stdout)?)
            .stderr(File::create(&stderr)?)
            .spawn()
            .map_err(|error| Stop::failed(format!("start {}: {error}", command.get_program().display())))?;
        Ok(Running { child, begun: Instant::now(), stdout, stderr, call })
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn stdout_so_far(&self) -> String {
        read(&self.stdout)
    }

    pub fn stderr_so_far(&self) -> String {
        read(&self.stderr)
    }

    /// Waits for the end; kills after 30 s and fails the trial.
    pub fn finish(mut self) -> Result<Finished, Stop> {
        // From now on: a daemon may have lived long before.
        let called = Instant::now();
        let limit = limit(30);
        let mut pause = Duration::from_micros(200);
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if called.elapsed() > limit {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return Err(Stop::failed(format!(
                    "{}: no end after {limit:?}; stdout {:?}, stderr {:?}",
                    self.call,
                    read(&self.stdout),
                    read(&self.stderr)
                )));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        };
        Ok(Finished {
            status,
            stdout: read(&self.stdout),
            stderr: read(&self.stderr),
            took: self.begun.elapsed(),
            stdout_file: self.stdout,
            call: self.call,
        })
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

impl Finished {
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The last line on stderr, where engines look for the cause.
    pub fn last_line(&self) -> &str {
        self.stderr.trim_end().lines().last().unwrap_or_default()
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ended with ", self.call)?;
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => write!(f, "code {code}")?,
            (None, signal) => write!(f, "signal {signal:?}")?,
        }
        let stdout: String = self.stdout.chars().take(600).collect();
        write!(f, "; stdout {stdout:?}; stderr {:?}", self.stderr)
    }
}
