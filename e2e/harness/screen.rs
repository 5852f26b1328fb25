//! The other end of a payload's terminal, as an engine has it, and the socket on which an engine waits for it.

use crate::runtime::limit;
use crate::{Host, Report, Stop, Value};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{Termios, tcgetattr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Instant;
use wharf_sys::terminal::{Size, set_size};
use wharf_sys::{fd, socket};

/// The master end of a terminal, and all that has come out of it.
pub struct Screen {
    master: OwnedFd,
    seen: Vec<u8>,
    /// How much of it [`Screen::line`] has given away.
    taken: usize,
}

/// What one look at the master gave.
enum Look {
    Some,
    Nothing,
    /// Nobody has the other end any more.
    End,
}

impl Screen {
    pub fn new(master: OwnedFd) -> Self {
        Screen { master, seen: Vec::new(), taken: 0 }
    }

    fn look(&mut self, milliseconds: u16) -> Result<Look, Stop> {
        let mut polled = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        if poll(&mut polled, PollTimeout::from(milliseconds))? == 0 {
            return Ok(Look::Nothing);
        }
        let mut buffer = [0; 65536];
        match nix::unistd::read(&self.master, &mut buffer) {
            Ok(0) | Err(Errno::EIO) => Ok(Look::End),
            Ok(length) => {
                self.seen.extend_from_slice(&buffer[..length]);
                Ok(Look::Some)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes in what there is.
    pub fn glance(&mut self) -> Result<(), Stop> {
        self.look(5).map(drop)
    }

    /// Takes in all that is left, where somebody keeps the other end open.
    pub fn drain(&mut self) -> Result<&[u8], Stop> {
        while matches!(self.look(0)?, Look::Some) {}
        Ok(&self.seen)
    }

    /// Everything so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Waits until this has come.
    pub fn wait_for(&mut self, text: &str) -> Result<(), Stop> {
        let begun = Instant::now();
        while !self.text().contains(text) {
            let ended = matches!(self.look(100)?, Look::End) && !self.text().contains(text);
            if ended || begun.elapsed() > limit(15) {
                return Err(Stop::failed(format!("{text:?} does not come on the terminal: {:?}", self.text())));
            }
        }
        Ok(())
    }

    /// The payload's next line; what it echoes is passed over.
    pub fn line(&mut self) -> Result<Report, Stop> {
        let begun = Instant::now();
        loop {
            let rest = &self.seen[self.taken..];
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&rest[..end]).trim().to_owned();
                self.taken += end + 1;
                match line.find('{').map(|from| serde_json::from_str::<Value>(&line[from..])) {
                    Some(Ok(value)) => return Ok(Report(value)),
                    _ => continue,
                }
            }
            let ended = matches!(self.look(100)?, Look::End);
            if ended || begun.elapsed() > limit(15) {
                return Err(Stop::failed(format!("no further line comes on the terminal: {:?}", self.text())));
            }
        }
    }

    /// All that comes until nobody has the other end any more.
    pub fn to_end(&mut self) -> Result<&[u8], Stop> {
        let begun = Instant::now();
        while !matches!(self.look(100)?, Look::End) {
            if begun.elapsed() > limit(60) {
                return Err(Stop::failed(format!("the terminal stays open; {} bytes came", self.seen.len())));
            }
        }
        Ok(&self.seen)
    }

    /// What somebody types.
    pub fn write(&self, text: &str) -> Result<(), Stop> {
        Ok(fd::write_all(&self.master, text.as_bytes())?)
    }

    pub fn resize(&self, rows: u16, columns: u16) -> Result<(), Stop> {
        Ok(set_size(&self.master, Size { rows, columns })?)
    }

    pub fn settings(&self) -> Result<Termios, Stop> {
        Ok(tcgetattr(&self.master)?)
    }
}

/// What `--console-socket` names.
pub struct ConsoleSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ConsoleSocket {
    pub fn new(host: &Host) -> Result<Self, Stop> {
        let path = host.dir().join(host.unique("console"));
        let listener = UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        Ok(ConsoleSocket { listener, path })
    }

    pub fn path(&self) -> &str {
        self.path.to_str().unwrap_or_default()
    }

    /// What has been sent by a runtime that has returned: one message with one descriptor, which is a terminal's master.
    pub fn receive(&self) -> Result<Screen, Stop> {
        match self.received()? {
            Some(screen) => Ok(screen),
            None => Err(Stop::failed("the runtime sent no terminal to the console socket")),
        }
    }

    /// The same; `None` where the runtime hung up without a word, or never came.
    pub fn received(&self) -> Result<Option<Screen>, Stop> {
        let (connection, _) = match self.listener.accept() {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
            other => other?,
        };
        let mut name = [0; 4096];
        let (length, passed) = socket::receive(&connection, &mut name)?;
        match (length, passed) {
            (0, None) => Ok(None),
            // Receivers take a message without a byte for the end.
            (0, Some(_)) => Err(Stop::failed("the terminal came with an empty message")),
            (_, Some(master)) => Ok(Some(Screen::new(master))),
            (_, None) => {
                let words = String::from_utf8_lossy(&name[..length]).into_owned();
                Err(Stop::failed(format!("a message without a descriptor came: {words:?}")))
            }
        }
    }
}
