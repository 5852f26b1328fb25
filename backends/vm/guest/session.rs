//! One process that the host has the standard descriptors of.

use crate::wire::{File, Message, Pump, Sink, Source};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;
use std::rc::Rc;
use wharf_core::{Error, Kind, Result};
use wharf_sys::terminal::{self, Size};
use wharf_sys::{Errno, process, socket};

pub(super) struct Session {
    pub(super) pump: Pump,
    pub(super) pid: Option<i32>,
    /// As wait(2) has it.
    pub(super) status: Option<i32>,
    pid_file: PathBuf,
    /// Where the terminal's master end comes from.
    console: Option<(OwnedFd, PathBuf)>,
    master: Option<Rc<OwnedFd>>,
}

/// The standard descriptors of the verb that makes the process.
pub(super) type Standard = [Stdio; 3];

impl Session {
    /// With pipes, or with a socket to which a terminal's master end is sent.
    pub(super) fn new(number: u32, terminal: bool) -> Result<(Session, Standard)> {
        let failed = |errno: Errno| Error::system("make the process's standard descriptors", errno as i32);
        let mut session = Session {
            pump: Pump::default(),
            pid: None,
            status: None,
            pid_file: PathBuf::from(format!("/run/pid-{number}")),
            console: None,
            master: None,
        };
        if terminal {
            let path = PathBuf::from(format!("/run/console-{number}"));
            let listener = socket::stream().map_err(failed)?;
            let name = std::ffi::CString::new(format!("/run/console-{number}")).unwrap_or_default();
            socket::bind(&listener, &name).and_then(|()| socket::listen(&listener)).map_err(failed)?;
            session.console = Some((listener, path));
            return Ok((session, [Stdio::null(), Stdio::null(), Stdio::null()]));
        }
        let pair = || std::io::pipe().map_err(|error| super::setup::failed("make a pipe", error));
        let (stdin, to_stdin) = pair()?;
        let (from_stdout, stdout) = pair()?;
        let (from_stderr, stderr) = pair()?;
        let own = |file: OwnedFd| File::own(file).map_err(failed);
        session.pump = Pump::new(
            vec![Source::new(1, Some(own(from_stdout.into())?)), Source::new(2, Some(own(from_stderr.into())?))],
            vec![Sink::new(0, Some(own(to_stdin.into())?))],
        );
        Ok((session, [stdin.into(), stdout.into(), stderr.into()]))
    }

    /// Options of the verb that makes the process.
    pub(super) fn words(&self) -> Vec<String> {
        let mut words = vec!["--pid-file".to_owned(), self.pid_file.display().to_string()];
        if let Some((_, path)) = &self.console {
            words.extend(["--console-socket".to_owned(), path.display().to_string()]);
        }
        words
    }

    /// The host knows of it: what it says before that has no place to go there, and waits in its pipe.
    pub(super) fn has_begun(&self) -> bool {
        self.pid.is_some()
    }

    /// The verb has made the process.
    pub(super) fn begin(&mut self) -> Result<()> {
        let text =
            fs::read_to_string(&self.pid_file).map_err(|error| super::setup::failed("read a pid file", error))?;
        let _ = fs::remove_file(&self.pid_file);
        self.pid = text.trim().parse().ok();
        if let Some((listener, path)) = self.console.take() {
            let failed = |errno: Errno| Error::system("get the process's terminal", errno as i32);
            let _ = fs::remove_file(path);
            let connected = socket::accept_now(&listener).map_err(failed)?;
            let (_, master) = socket::receive(&connected, &mut [0; 256]).map_err(failed)?;
            let master = master.ok_or_else(|| Error::new(Kind::System, "get the process's terminal"))?;
            let file = File::terminal(master).map_err(failed)?;
            if let File::Terminal(master) = &file {
                self.master = Some(master.clone());
            }
            // The host's side has the same settings, and adds the carriage returns.
            if let Some(master) = &self.master {
                let settings = terminal::Settings::of(master.as_fd()).map_err(failed)?;
                settings.without_onlcr().apply(master.as_fd()).map_err(failed)?;
            }
            self.pump = Pump::new(vec![Source::new(1, Some(file.clone()))], vec![Sink::new(0, Some(file))]);
        }
        Ok(())
    }

    pub(super) fn take(&mut self, message: Message<'_>) -> Result<(), &'static str> {
        match message {
            Message::Signal(number) => {
                // A child that has not been waited for keeps its number.
                if let (Some(pid), None) = (self.pid, self.status)
                    && let Ok(pidfd) = process::pidfd(pid)
                {
                    let _ = process::signal(&pidfd, number);
                }
                Ok(())
            }
            Message::Window { rows, columns } => {
                if let Some(master) = &self.master {
                    let _ = terminal::set_size(master.as_fd(), Size { rows, columns });
                }
                Ok(())
            }
            // The other side of the terminal is gone: so is this one.
            Message::Close { port: 0 } if self.master.take().is_some() => {
                self.pump = Pump::new(vec![Source::new(1, None)], vec![Sink::new(0, None)]);
                Ok(())
            }
            other => self.pump.take(other),
        }
    }
}
