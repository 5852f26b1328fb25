//! A terminal of the test's own that a runtime is called from, as from a shell.

use crate::runtime::limit;
use crate::{Bundle, Host, Screen, Stop};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Somebody at a terminal: what they see, and the end that programs are given.
pub struct Desk {
    pub screen: Screen,
    terminal: OwnedFd,
}

impl Desk {
    pub fn new(rows: u16, columns: u16) -> Result<Self, Stop> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None)?;
        for end in [&pair.master, &pair.slave] {
            use nix::fcntl::{FcntlArg, FdFlag, fcntl};
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        }
        Ok(Desk { screen: Screen::new(pair.master), terminal: pair.slave })
    }

    pub fn settings(&self) -> Result<Termios, Stop> {
        Ok(tcgetattr(&self.terminal)?)
    }

    /// The end that programs are given.
    pub fn stdio(&self) -> Result<Stdio, Stop> {
        Ok(self.terminal.try_clone()?.into())
    }

    /// `run` of a bundle in a session of its own, which this terminal controls; `change` may redirect it.
    pub fn run(&self, host: &Host, bundle: &Bundle, change: impl FnOnce(&mut Command)) -> Result<Seated, Stop> {
        bundle.save()?;
        self.call(host, &["run", "--bundle", bundle.dir_text(), bundle.id()], change)
    }

    /// Any verb, in the same way.
    pub fn call(&self, host: &Host, args: &[&str], change: impl FnOnce(&mut Command)) -> Result<Seated, Stop> {
        self.seat(host, &["--ctty"], args, change)
    }

    /// The same, but the terminal does not control the session.
    pub fn call_plainly(&self, host: &Host, args: &[&str], change: impl FnOnce(&mut Command)) -> Result<Seated, Stop> {
        self.seat(host, &[], args, change)
    }

    fn seat(
        &self,
        host: &Host,
        how: &[&str],
        args: &[&str],
        change: impl FnOnce(&mut Command),
    ) -> Result<Seated, Stop> {
        let mut words = vec![host.runtime.program().as_os_str().to_owned(), "--root".into(), host.root().into()];
        words.extend(args.iter().map(Into::into));
        self.spawn(how, &words, change)
    }

    /// Any command line, in a session that this terminal controls.
    pub fn seat_words(&self, words: &[String]) -> Result<Seated, Stop> {
        let words: Vec<_> = words.iter().map(Into::into).collect();
        self.spawn(&["--ctty"], &words, |_| {})
    }

    fn spawn(&self, how: &[&str], words: &[OsString], change: impl FnOnce(&mut Command)) -> Result<Seated, Stop> {
        let mut command = Command::new("setsid");
        command.args(how).args(words);
        command.stdin(self.stdio()?).stdout(self.stdio()?).stderr(self.stdio()?);
        change(&mut command);
        Ok(Seated { child: command.spawn()? })
    }

    /// Any program, an engine for one, in a session that this terminal controls.
    pub fn sit(&self, program: Command) -> Result<Seated, Stop> {
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(program.get_program()).args(program.get_args());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(dir) = program.get_current_dir() {
            command.current_dir(dir);
        }
        command.stdin(self.stdio()?).stdout(self.stdio()?).stderr(self.stdio()?);
        Ok(Seated { child: command.spawn()? })
    }

    /// True when nothing that was typed waits for a reader.
    pub fn is_read(&self) -> Result<bool, Stop> {
        let mut all = [PollFd::new(self.terminal.as_fd(), PollFlags::POLLIN)];
        Ok(poll(&mut all, PollTimeout::ZERO)? == 0)
    }

    /// The terminal goes away, as when a window is closed.
    pub fn leave(self) {}
}

/// A runtime called from a [`Desk`]. Dropped, it is killed.
pub struct Seated {
    child: Child,
}

impl Seated {
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn signal(&self, signal: Signal) -> Result<(), Stop> {
        Ok(kill(Pid::from_raw(self.pid()), signal)?)
    }

    /// Its exit code, or 128 + n for signal n. Meanwhile somebody reads what it shows.
    pub fn end(mut self, screen: &mut Screen) -> Result<i32, Stop> {
        self.wait(|| screen.glance())
    }

    /// The same where nobody is there to read.
    pub fn end_alone(mut self) -> Result<i32, Stop> {
        self.wait(|| {
            std::thread::sleep(Duration::from_millis(5));
            Ok(())
        })
    }

    fn wait(&mut self, mut meanwhile: impl FnMut() -> Result<(), Stop>) -> Result<i32, Stop> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
            }
            if begun.elapsed() > limit(30) {
                return Err(Stop::failed(format!("process {} does not end", self.pid())));
            }
            meanwhile()?;
        }
    }

    /// Waits until the kernel says that it is stopped (`T`) or not.
    pub fn wait_stopped(&self, stopped: bool) -> Result<(), Stop> {
        let begun = Instant::now();
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
            let state = stat.rsplit(')').next().unwrap_or_default().trim().chars().next();
            if (state == Some('T')) == stopped {
                return Ok(());
            }
            if begun.elapsed() > limit(15) {
                return Err(Stop::failed(format!("process {} is in state {state:?}", self.pid())));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
