//! Bytes between descriptors and frames, each way with a credit, so that nothing grows: who does not read is not read for.

use super::frame::{Broken, Message, WINDOW, put};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;
use wharf_sys::{Errno, Result, fd, libc};

/// Bytes that are read at once.
const PIECE: usize = 16 << 10;
/// What has been used up is granted again in amounts of at least this.
const GRANT: u32 = WINDOW / 4;
/// Whoever queues frames stops at this length.
pub(crate) const FULL: usize = 64 << 10;

/// A descriptor that is read and written without ever waiting.
#[derive(Clone, Debug)]
pub(crate) enum File {
    /// An open file of our own, which does not wait.
    Own(Rc<OwnedFd>),
    /// The master end of a terminal: that nobody has the other end open is not its end.
    Terminal(Rc<OwnedFd>),
    /// A pipe or socket that others share, whose mode is left alone.
    Shared(Rc<OwnedFd>),
    /// What keeps nobody waiting for long, or has no other way.
    Plain(Rc<OwnedFd>),
}

impl File {
    /// Ours alone.
    pub(crate) fn own(file: OwnedFd) -> Result<Self> {
        fd::set_nonblocking(&file)?;
        Ok(File::Own(Rc::new(file)))
    }

    pub(crate) fn terminal(master: OwnedFd) -> Result<Self> {
        fd::set_nonblocking(&master)?;
        Ok(File::Terminal(Rc::new(master)))
    }

    /// Somebody else's.
    pub(crate) fn lent(file: OwnedFd) -> Self {
        let kind = fd::stat(&file).map_or(0, |about| about.st_mode & libc::S_IFMT);
        let waits = kind == libc::S_IFIFO || kind == libc::S_IFSOCK;
        if waits { File::Shared(Rc::new(file)) } else { File::Plain(Rc::new(file)) }
    }

    fn fd(&self) -> &OwnedFd {
        match self {
            File::Own(file) | File::Terminal(file) | File::Shared(file) | File::Plain(file) => file,
        }
    }

    fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        match self {
            // An older kernel's pipe: what poll(2) has announced is there.
            File::Shared(file) => match fd::read_now(file, buffer) {
                Err(Errno::EOPNOTSUPP) => fd::read(file, buffer),
                other => other,
            },
            _ => fd::read(self.fd(), buffer),
        }
    }

    fn write(&self, data: &[u8]) -> Result<usize> {
        match self {
            File::Shared(file) => match fd::write_now(file, data) {
                Err(Errno::EOPNOTSUPP) => fd::write(file, data),
                other => other,
            },
            _ => fd::write(self.fd(), data),
        }
    }
}

/// Reads a descriptor and makes frames of it.
#[derive(Debug)]
pub(crate) struct Source {
    port: u8,
    file: Option<File>,
    credit: u32,
    /// The other side knows that nothing more comes.
    closed: bool,
    /// Nobody has the terminal open.
    alone: bool,
}

/// Takes frames and writes them to a descriptor.
#[derive(Debug)]
pub(crate) struct Sink {
    port: u8,
    file: Option<File>,
    waiting: Vec<u8>,
    /// What the other side may still send.
    granted: u32,
    /// What it has sent, and what is done with.
    owed: u32,
    closing: bool,
    /// Nobody reads it: the other side is to know.
    broken: bool,
}

impl Source {
    pub(crate) fn new(port: u8, file: Option<File>) -> Self {
        Source { port, file, credit: WINDOW, closed: false, alone: false }
    }

    fn fill(&mut self, session: u32, out: &mut Vec<u8>) -> bool {
        let Some(file) = &self.file else { return false };
        let mut piece = [0; PIECE];
        let most = PIECE.min(self.credit as usize);
        match file.read(&mut piece[..most]) {
            Err(Errno::EAGAIN | Errno::EINTR) => false,
            Err(Errno::EIO) | Ok(0) if matches!(file, File::Terminal(_)) => {
                self.alone = true;
                false
            }
            Ok(0) | Err(_) => {
                self.close(session, out);
                false
            }
            Ok(length) => {
                self.credit -= length as u32;
                put(out, session, Message::Data { port: self.port, bytes: &piece[..length] });
                true
            }
        }
    }

    fn close(&mut self, session: u32, out: &mut Vec<u8>) {
        self.file = None;
        if !self.closed {
            self.closed = true;
            put(out, session, Message::Close { port: self.port });
        }
    }
}

impl Sink {
    pub(crate) fn new(port: u8, file: Option<File>) -> Self {
        Sink { port, file, waiting: Vec::new(), granted: WINDOW, owed: 0, closing: false, broken: false }
    }

    fn take(&mut self, bytes: &[u8]) -> std::result::Result<(), Broken> {
        let length = bytes.len() as u32;
        if length > self.granted {
            return Err("more bytes than there was credit for");
        }
        self.granted -= length;
        match self.file {
            Some(_) => self.waiting.extend_from_slice(bytes),
            None => self.owed += length,
        }
        Ok(())
    }

    fn pour(&mut self) {
        let Some(file) = self.file.clone() else { return };
        while !self.waiting.is_empty() {
            match file.write(&self.waiting) {
                Ok(length) => {
                    self.waiting.drain(..length);
                    self.owed += length as u32;
                }
                Err(Errno::EAGAIN | Errno::EINTR) => return,
                Err(Errno::EIO) if matches!(file, File::Terminal(_)) => self.drop_waiting(),
                Err(_) => {
                    self.broken = !self.closing;
                    self.give_up();
                    return;
                }
            }
        }
        if self.closing {
            self.file = None;
        }
    }

    fn drop_waiting(&mut self) {
        self.owed += self.waiting.len() as u32;
        self.waiting.clear();
    }

    fn give_up(&mut self) {
        self.drop_waiting();
        self.file = None;
    }
}

/// The ports of one session.
#[derive(Debug, Default)]
pub(crate) struct Pump {
    pub(crate) sources: Vec<Source>,
    pub(crate) sinks: Vec<Sink>,
    /// Places in what was watched last.
    watched: Vec<usize>,
}

impl Pump {
    pub(crate) fn new(sources: Vec<Source>, sinks: Vec<Sink>) -> Self {
        Pump { sources, sinks, watched: Vec::new() }
    }

    /// A frame of this session that is about its bytes.
    pub(crate) fn take(&mut self, message: Message<'_>) -> std::result::Result<(), Broken> {
        let no_such = "a frame's port is of the other direction";
        match message {
            Message::Data { port, bytes } => {
                self.sinks.iter_mut().find(|sink| sink.port == port).ok_or(no_such)?.take(bytes)
            }
            Message::Credit { port, bytes } => {
                let source = self.sources.iter_mut().find(|source| source.port == port).ok_or(no_such)?;
                source.credit = source.credit.saturating_add(bytes);
                Ok(())
            }
            Message::Close { port } => {
                if let Some(sink) = self.sinks.iter_mut().find(|sink| sink.port == port) {
                    sink.closing = true;
                    sink.pour();
                } else if let Some(source) = self.sources.iter_mut().find(|source| source.port == port) {
                    (source.file, source.closed) = (None, true);
                }
                Ok(())
            }
            _ => Err(no_such),
        }
    }

    /// Adds what is to be waited for. Sources are read only while `room` says that frames can be queued.
    pub(crate) fn watch(&mut self, all: &mut Vec<libc::pollfd>, room: bool) {
        self.watched.clear();
        let mut add = |file: Option<&File>, events: i16| {
            self.watched.push(all.len());
            all.push(libc::pollfd { fd: file.map_or(-1, |file| file.fd().as_fd().as_raw_fd()), events, revents: 0 });
        };
        for source in &self.sources {
            add(source.file.as_ref().filter(|_| room && source.credit > 0 && !source.alone), libc::POLLIN);
        }
        for sink in &self.sinks {
            add(sink.file.as_ref().filter(|_| !sink.waiting.is_empty()), libc::POLLOUT);
        }
    }

    /// Whether a terminal must be looked at again before anything tells.
    pub(crate) fn must_look_again(&self) -> bool {
        self.sources.iter().any(|source| source.alone)
    }

    /// Does what [`Pump::watch`] has found to be possible.
    pub(crate) fn serve(&mut self, session: u32, polled: &[libc::pollfd], out: &mut Vec<u8>) {
        let ready = |watched: &[usize], at: usize| {
            watched.get(at).and_then(|place| polled.get(*place)).is_some_and(|one| one.revents != 0)
        };
        for (at, source) in self.sources.iter_mut().enumerate() {
            let again = std::mem::take(&mut source.alone);
            if (ready(&self.watched, at) || again) && source.credit > 0 && out.len() < FULL {
                source.fill(session, out);
            }
        }
        let before = self.sources.len();
        for (at, sink) in self.sinks.iter_mut().enumerate() {
            if ready(&self.watched, before + at) {
                sink.pour();
            }
        }
        self.watched.clear();
        self.settle(session, out);
    }

    /// Says what is owed to the other side, as far as there is room.
    fn settle(&mut self, session: u32, out: &mut Vec<u8>) {
        for source in self.sources.iter_mut().filter(|source| source.file.is_none()) {
            source.close(session, out);
        }
        for sink in &mut self.sinks {
            if out.len() < FULL && sink.owed >= GRANT {
                put(out, session, Message::Credit { port: sink.port, bytes: sink.owed });
                sink.granted += std::mem::take(&mut sink.owed);
            }
            if std::mem::take(&mut sink.broken) {
                put(out, session, Message::Close { port: sink.port });
            }
        }
    }

    /// Everything that is there to be read is; true when no source has more to say now.
    pub(crate) fn drain(&mut self, session: u32, out: &mut Vec<u8>) -> bool {
        for source in &mut self.sources {
            while out.len() < FULL && source.credit > 0 && source.fill(session, out) {}
        }
        let rest = |source: &Source| source.file.is_some() && (source.credit == 0 || out.len() >= FULL);
        !self.sources.iter().any(rest)
    }

    /// Nothing more comes from here.
    pub(crate) fn end(&mut self, session: u32, out: &mut Vec<u8>) {
        self.sources.iter_mut().for_each(|source| source.close(session, out));
        self.sinks.iter_mut().for_each(Sink::give_up);
    }

    /// Whether everything that came has been written.
    pub(crate) fn is_written(&self) -> bool {
        self.sinks.iter().all(|sink| sink.waiting.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Reader, frame::Frame};
    use proptest::prelude::*;

    fn pipe() -> (OwnedFd, OwnedFd) {
        wharf_sys::socket::stream_pair().unwrap()
    }

    fn pour(pump: &mut Pump, out: &mut Vec<u8>) {
        let mut polled = Vec::new();
        pump.watch(&mut polled, true);
        fd::poll(&mut polled, 0).unwrap();
        pump.serve(1, &polled, out);
    }

    #[test]
    fn a_source_sends_no_more_than_its_credit_and_goes_on_when_it_gets_more() {
        let (ours, theirs) = pipe();
        fd::set_nonblocking(&theirs).unwrap();
        while fd::write(&theirs, &[7; 4096]).is_ok() {}
        let mut pump = Pump::new(vec![Source::new(1, Some(File::own(ours).unwrap()))], vec![]);
        let (mut out, mut reader, mut sum) = (Vec::new(), Reader::new(), 0);
        let mut count = |pump: &mut Pump| {
            for _ in 0..50 {
                pour(pump, &mut out);
                while !out.is_empty() {
                    let room = reader.room().min(out.len());
                    reader.push(&out[..room]);
                    out.drain(..room);
                    while let Some(Frame { message: Message::Data { bytes, .. }, .. }) = reader.frame().unwrap() {
                        sum += bytes.len();
                    }
                }
            }
            sum
        };
        assert_eq!(count(&mut pump), WINDOW as usize);
        pump.take(Message::Credit { port: 1, bytes: 100 }).unwrap();
        assert_eq!(count(&mut pump), WINDOW as usize + 100);
    }

    #[test]
    fn a_sink_keeps_no_more_than_the_window_when_nobody_reads() {
        let (ours, theirs) = pipe();
        fd::set_nonblocking(&ours).unwrap();
        while fd::write(&ours, &[7; 4096]).is_ok() {}
        let mut pump = Pump::new(vec![], vec![Sink::new(1, Some(File::own(ours).unwrap()))]);
        let (mut taken, mut out) = (0, Vec::new());
        while pump.take(Message::Data { port: 1, bytes: &[1; 1000] }).is_ok() {
            taken += 1000;
            pour(&mut pump, &mut out);
        }
        assert!(taken <= WINDOW && pump.sinks[0].waiting.len() <= WINDOW as usize, "{taken}");
        drop(theirs);
        pour(&mut pump, &mut out);
        assert!(pump.is_written(), "what nobody reads is dropped");
    }

    proptest! {
        #[test]
        fn whatever_comes_what_is_kept_is_bounded(messages in proptest::collection::vec((0u8..4, 0u8..4, 0usize..40_000), 0..64)) {
            let (ours, _theirs) = pipe();
            fd::set_nonblocking(&ours).unwrap();
            while fd::write(&ours, &[7; 4096]).is_ok() {}
            let file = File::own(ours).unwrap();
            let sinks = vec![Sink::new(1, Some(file.clone())), Sink::new(2, None)];
            let mut pump = Pump::new(vec![Source::new(0, Some(file))], sinks);
            let mut out = Vec::new();
            for (kind, port, size) in messages {
                let bytes = vec![0; size];
                let _ = pump.take(match kind {
                    0 => Message::Data { port, bytes: &bytes },
                    1 => Message::Credit { port, bytes: size as u32 },
                    2 => Message::Close { port },
                    _ => Message::Exit(0),
                });
                pour(&mut pump, &mut out);
                prop_assert!(pump.sinks.iter().all(|sink| sink.waiting.len() <= WINDOW as usize));
                prop_assert!(out.len() <= 2 * FULL);
            }
        }
    }
}
