//! The payload's terminal, shown on our own: bytes both ways, and the window's size.
//!
//! Nothing here waits but poll(2), so that signals are always heard. Each way has one buffer, which is filled when it is
//! empty: who does not read is not written to.

use crate::buffer::Buffer;
use crate::host::HostTerminal;
use crate::stream::Stream;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use wharf_sys::terminal::{Settings, set_size};
use wharf_sys::{Errno, Result, fd, libc, signal};

/// How often a terminal that no process has open is looked at again, in milliseconds: one may open it later.
const LOOK_AGAIN: i32 = 100;

/// Our terminal is raw while this lives.
pub struct Relay {
    host: HostTerminal,
    /// None after a hang-up.
    master: Option<OwnedFd>,
    /// No process of the container has the other end open.
    alone: bool,
    input: Option<Stream>,
    output: Option<Stream>,
    typed: Buffer,
    shown: Buffer,
}

impl Relay {
    /// Makes `host` raw and of the same size as the terminal behind `master`. Blocks all signals: they are for the
    /// payload.
    pub fn begin(host: HostTerminal, master: OwnedFd) -> Result<Self> {
        signal::block_all()?;
        fd::set_nonblocking(&master)?;
        // Our own terminal still adds the carriage returns (as with runc).
        Settings::of(&master)?.without_onlcr().apply(&master)?;
        let relay = Relay {
            host,
            master: Some(master),
            alone: false,
            input: Some(Stream::standard(0)),
            output: Some(Stream::standard(1)),
            typed: Buffer::new(),
            shown: Buffer::new(),
        };
        relay.resize();
        relay.host.make_raw()?;
        Ok(relay)
    }

    /// The payload's terminal gets the size of ours.
    pub(crate) fn resize(&self) {
        if let (Some(master), Some(size)) = (&self.master, self.host.size()) {
            let _ = set_size(master, size);
        }
    }

    /// Stops this process, with its terminal as it was, until it is continued.
    pub(crate) fn suspend(&self) -> Result<()> {
        self.host.restore();
        signal::stop_self()?;
        self.resume()
    }

    /// A shell may have changed the terminal meanwhile.
    pub(crate) fn resume(&self) -> Result<()> {
        if self.master.is_some() && !self.host.is_gone() {
            self.host.make_raw()?;
            self.resize();
        }
        Ok(())
    }

    /// Our side is gone: the payload is told by its terminal's end, as a shell is told.
    pub(crate) fn hang_up(&mut self) {
        (self.master, self.input, self.output) = (None, None, None);
    }

    /// Whether there still is a terminal that our side of is gone.
    pub(crate) fn check_hang_up(&mut self) {
        if self.master.is_some() && self.host.is_gone() {
            self.hang_up();
        }
    }

    /// Relays until `ready` is readable.
    pub fn until(&mut self, ready: impl AsFd) -> Result<()> {
        let number = ready.as_fd().as_raw_fd();
        while !self.turn([number, -1])?[0] {}
        Ok(())
    }

    /// Waits for something to happen and does what it takes. Tells which of `others` are readable; -1 is none.
    pub(crate) fn turn(&mut self, others: [i32; 2]) -> Result<[bool; 2]> {
        let watch = |fd: i32, events: i16| libc::pollfd { fd: if events == 0 { -1 } else { fd }, events, revents: 0 };
        let when = |condition: bool, events: i16| if condition { events } else { 0 };
        let number = |stream: &Option<Stream>| stream.as_ref().map_or(-1, Stream::number);
        let master = self.master.as_ref().filter(|_| !self.alone).map_or(-1, AsRawFd::as_raw_fd);
        let for_master = when(self.shown.is_empty(), libc::POLLIN) | when(!self.typed.is_empty(), libc::POLLOUT);
        let mut watched = [
            watch(others[0], libc::POLLIN),
            watch(others[1], libc::POLLIN),
            watch(number(&self.input), when(self.typed.is_empty(), libc::POLLIN)),
            watch(number(&self.output), when(!self.shown.is_empty(), libc::POLLOUT)),
            watch(master, for_master),
        ];
        fd::poll(&mut watched, if self.alone { LOOK_AGAIN } else { -1 })?;
        let [first, second, input, _, master] = watched.map(|one| one.revents != 0);
        self.alone = false;
        if master && self.shown.is_empty() {
            self.read_master();
        }
        if input {
            self.read_input()?;
        }
        self.write();
        Ok([first, second])
    }

    /// False when nothing came.
    fn read_master(&mut self) -> bool {
        let Some(master) = &self.master else { return false };
        match self.shown.fill(|into| fd::read(master, into)) {
            Ok(0) | Err(Errno::EIO) => {
                self.alone = true;
                false
            }
            Ok(_) => true,
            Err(_) => false,
        }
    }

    fn read_input(&mut self) -> Result<()> {
        let Some(input) = &self.input else { return Ok(()) };
        match self.typed.fill(|into| input.read(into)) {
            Err(Errno::EAGAIN) => {}
            Ok(0) if input.is_terminal => self.hang_up(),
            // The end of a file or pipe is not the terminal's: the payload may have more to say.
            Ok(0) => self.input = None,
            Ok(_) => {}
            // Reading from the background.
            Err(Errno::EIO) if input.is_terminal && !self.host.is_gone() => self.suspend()?,
            Err(_) if input.is_terminal => self.hang_up(),
            Err(_) => self.input = None,
        }
        Ok(())
    }

    fn write(&mut self) {
        if let Some(output) = &self.output
            && self.shown.pour(|bytes| output.write(bytes)).is_err()
        {
            // Nobody sees it any more.
            return self.hang_up();
        }
        if let Some(master) = &self.master
            && self.typed.pour(|bytes| fd::write(master, bytes)).is_err()
        {
            self.alone = true;
        }
    }

    /// Shows the last words of a payload that has ended. `descriptor` tells signals, and one that asks us to end does so.
    pub(crate) fn finish(&mut self, descriptor: &OwnedFd) -> Result<()> {
        loop {
            // The kernel has brought everything here when it says that there is no more (n_tty(4)).
            if self.shown.is_empty() && !self.read_master() {
                return Ok(());
            }
            self.write();
            let Some(output) = &self.output else { return Ok(()) };
            if self.shown.is_empty() {
                continue;
            }
            let watch = |fd: i32, events: i16| libc::pollfd { fd, events, revents: 0 };
            let mut watched = [watch(output.number(), libc::POLLOUT), watch(descriptor.as_raw_fd(), libc::POLLIN)];
            fd::poll(&mut watched, -1)?;
            while let Some(number) = signal::take(descriptor)? {
                if matches!(number, libc::SIGINT | libc::SIGTERM | libc::SIGQUIT | libc::SIGHUP) {
                    return Ok(());
                }
            }
        }
    }
}
