//! A machine that runs: QEMU as a child that dies with us, its control socket, and what it and its guest's kernel say.

use super::job::Job;
use super::stage;
use crate::machine::{Accelerator, Attached, Numbers};
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};
use wharf_core::{Error, Kind, Result};
use wharf_sys::namespace::{self, Side, clone};
use wharf_sys::process::{self, ExecStrings};
use wharf_sys::{CWD, Errno, Fd, fd, libc, signal, socket};

/// Last words that are kept.
const KEPT: usize = 4096;
/// How long QEMU may take for a command.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the kernel may take to end a killed QEMU, in milliseconds.
const DEATH: i32 = 10_000;

pub(super) struct Qemu {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) channel: OwnedFd,
    pub(super) control: OwnedFd,
    /// The guest's kernel's console, and QEMU's stderr.
    pub(super) voices: [OwnedFd; 2],
    said: [Vec<u8>; 2],
    greeted: bool,
}

impl Qemu {
    pub(super) fn start(job: &Job, accelerator: Accelerator, taps: Vec<(i32, String)>) -> Result<Self> {
        let failed = |errno: Errno| Error::system("start QEMU", errno as i32);
        let pair = || socket::stream_pair().map_err(failed);
        let (channel, its_channel) = pair()?;
        let (control, its_control) = pair()?;
        let (console, its_console) = pair()?;
        let (stderr, its_stderr) = pair()?;
        let share = (!job.bindings.is_empty()).then(|| job.state_dir.join(stage::NAME).to_string_lossy().into_owned());
        let attached = Attached { share, disk: job.disk.clone(), taps };
        let numbers = Numbers {
            channel: its_channel.as_raw_fd(),
            control: its_control.as_raw_fd(),
            console: its_console.as_raw_fd(),
        };
        let text = |word: String| CString::new(word).map_err(|_| failed(Errno::EINVAL));
        let program = text(job.machine.qemu.display().to_string())?;
        let words = job.machine.words(accelerator, numbers, &attached);
        let words = words.into_iter().map(text).collect::<Result<Vec<_>>>()?;
        let arguments = ExecStrings::new([program.as_c_str()].into_iter().chain(words.iter().map(CString::as_c_str)));
        let ours = process::pid();
        match clone(0, None).map_err(failed)? {
            Side::Child => {
                let all = [numbers.channel, numbers.control, numbers.console];
                let inherited: Vec<i32> = all.into_iter().chain(attached.taps.iter().map(|(tap, _)| *tap)).collect();
                let errno = become_qemu(ours, &its_stderr, &inherited, &program, &arguments);
                let _ = fd::write(&its_stderr, format!("cannot be executed: {}", errno.desc()).as_bytes());
                process::exit_now(126)
            }
            Side::Parent { pid, pidfd } => {
                for socket in [&channel, &control, &console, &stderr] {
                    fd::set_nonblocking(socket).map_err(failed)?;
                }
                let said = [Vec::new(), Vec::new()];
                Ok(Qemu { pid, pidfd, channel, control, voices: [console, stderr], said, greeted: false })
            }
        }
    }

    /// Keeps the last of what has been said.
    pub(super) fn listen(&mut self) {
        for (voice, said) in self.voices.iter().zip(&mut self.said) {
            let mut bytes = [0; 1024];
            while let Ok(length @ 1..) = fd::read(voice, &mut bytes) {
                said.extend_from_slice(&bytes[..length]);
                said.drain(..said.len().saturating_sub(KEPT));
            }
        }
        let mut bytes = [0; 1024];
        // Events that nobody asked for.
        while let Ok(1..) = fd::read(&self.control, &mut bytes) {}
    }

    /// Why it may have ended, in words that no engine takes for another failure's.
    pub(super) fn last_words(&mut self) -> String {
        self.words().unwrap_or_else(|| "QEMU ended without a word".to_owned())
    }

    /// The same of one that has not ended; none where nothing was said.
    pub(super) fn words(&mut self) -> Option<String> {
        self.listen();
        let console = String::from_utf8_lossy(&self.said[0]).into_owned();
        let line = |text: &str| -> Option<String> {
            let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
            Some(line.chars().filter(|letter| !letter.is_control()).take(300).collect())
        };
        if let Some((_, rest)) = console.split_once("Kernel panic - not syncing: ") {
            let words = line(rest.lines().next().unwrap_or_default()).unwrap_or_default();
            return Some(format!("the guest's kernel panicked: {}", harmless(&words)));
        }
        let stderr = String::from_utf8_lossy(&self.said[1]).into_owned();
        match (line(&stderr), line(&console)) {
            (Some(words), _) => Some(format!("QEMU: {}", harmless(&words))),
            (None, Some(words)) => Some(format!("the guest: {}", harmless(&words))),
            (None, None) => None,
        }
    }

    /// A command of its control protocol (QMP).
    pub(super) fn command(&mut self, name: &str) -> Result<()> {
        if !self.greeted {
            self.greeted = true;
            self.say("qmp_capabilities")?;
        }
        self.say(name)
    }

    fn say(&mut self, name: &str) -> Result<()> {
        let failed = |errno: Errno| Error::system(format!("tell QEMU: {name}"), errno as i32);
        fd::write_all(&self.control, format!("{{\"execute\":\"{name}\",\"id\":\"{name}\"}}\n").as_bytes())
            .map_err(failed)?;
        let (begun, mut answer, own) = (Instant::now(), Vec::new(), format!("\"id\": \"{name}\""));
        while begun.elapsed() < PATIENCE {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            if !process::readable(&self.control, left.as_millis() as i32).map_err(failed)? {
                break;
            }
            let mut bytes = [0; 4096];
            match fd::read(&self.control, &mut bytes) {
                Ok(0) => break,
                Ok(length) => answer.extend_from_slice(&bytes[..length]),
                Err(Errno::EAGAIN) => {}
                Err(errno) => return Err(failed(errno)),
            }
            let text = String::from_utf8_lossy(&answer);
            if let Some(line) = text.lines().find(|line| line.contains(&own)) {
                return match line.contains("\"return\"") {
                    true => Ok(()),
                    false => Err(Error::new(Kind::System, format!("tell QEMU: {name}")).because("it refused")),
                };
            }
            if answer.len() > 1 << 20 {
                break;
            }
        }
        Err(Error::new(Kind::System, format!("tell QEMU: {name}")).because("it has not answered"))
    }

    /// Ends it, and waits for that.
    pub(super) fn end(&mut self) {
        let _ = process::signal(&self.pidfd, libc::SIGKILL);
        let _ = process::readable(&self.pidfd, DEATH);
        let _ = process::wait(self.pid, libc::WNOHANG);
    }
}

fn become_qemu(parent: i32, stderr: &OwnedFd, inherited: &[i32], program: &CStr, arguments: &ExecStrings<'_>) -> Errno {
    let prepare = || {
        process::end_with_parent(libc::SIGKILL)?;
        if process::parent() != parent {
            return Err(Errno::ESRCH);
        }
        process::set_session()?;
        signal::reset_all()?;
        // Whoever breaks out of it finds no network of the host's.
        namespace::unshare((libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS) as u64)?;
        let null = fd::openat(CWD, c"/dev/null", libc::O_RDWR, 0)?;
        fd::dup_to(&null, 0)?;
        fd::dup_to(&null, 1)?;
        fd::dup_to(stderr, 2)?;
        fd::close_by_exec(3)?;
        inherited.iter().try_for_each(|number| fd::set_cloexec(Fd(*number), false))
    };
    match prepare() {
        Ok(()) => process::exec(program, arguments, &ExecStrings::new([])),
        Err(errno) => errno,
    }
}

/// Engines search messages for the kernel's words and make exit codes of them.
fn harmless(words: &str) -> String {
    let lower = words.to_lowercase();
    let found = ["no such file or directory", "permission denied", "not found in $path"]
        .iter()
        .any(|word| lower.contains(word));
    if found { "a file that it needs cannot be opened".to_owned() } else { words.to_owned() }
}
