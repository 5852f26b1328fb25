//! A stream socket that a runtime is to connect to, and to send descriptors over.

use crate::Stop;
use crate::runtime::limit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Instant;

pub struct Receiver(UnixListener);

/// What came in one message.
#[derive(Debug)]
pub struct Received {
    pub words: String,
    pub descriptor: Option<OwnedFd>,
}

impl Receiver {
    pub fn listen(path: &Path) -> Result<Self, Stop> {
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        Ok(Receiver(listener))
    }

    /// The first message of the next connection, and the connection.
    pub fn receive(&self) -> Result<(Received, UnixStream), Stop> {
        let begun = Instant::now();
        let stream = loop {
            match self.0.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && begun.elapsed() < limit(15) => {
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
                Err(error) => return Err(Stop::failed(format!("nobody connected: {error}"))),
            }
        };
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(limit(15)))?;
        Ok((message(&stream)?, stream))
    }

    /// Whether somebody has connected that was not yet asked for.
    pub fn is_called(&self) -> bool {
        self.0.accept().is_ok()
    }
}

fn message(stream: &UnixStream) -> Result<Received, Stop> {
    let mut buffer = vec![0; 1 << 16];
    let (length, descriptor) = wharf_sys::socket::receive(stream, &mut buffer)?;
    Ok(Received { words: String::from_utf8_lossy(&buffer[..length]).into_owned(), descriptor })
}
