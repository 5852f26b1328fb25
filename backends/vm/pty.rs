//! The host's end of a payload's terminal: its master goes to whoever asked for it, the stand-in has the other end.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;
use wharf_core::{Error, Result, Terminal};
use wharf_foreground::HostTerminal;
use wharf_sys::terminal::{self, Size};
use wharf_sys::{CWD, Errno, fd, libc, mount, socket};

pub(crate) struct Pty {
    pub(crate) slave: OwnedFd,
    /// Our own terminal and the master end, in the foreground.
    pub(crate) foreground: Option<(HostTerminal, OwnedFd)>,
}

impl Pty {
    pub(crate) fn open(wanted: Terminal<'_>, size: Option<Size>) -> Result<Option<Pty>> {
        let failed = |errno: Errno| Error::system("make the payload's terminal", errno as i32).at("process/terminal");
        if wanted == Terminal::None {
            return Ok(None);
        }
        let host = (wanted == Terminal::Foreground).then(HostTerminal::find).transpose()?;
        let make = || {
            let master = fd::openat(CWD, c"/dev/ptmx", libc::O_RDWR | libc::O_NOCTTY, 0)?;
            terminal::unlock(&master)?;
            if let Some(size) = size {
                terminal::set_size(&master, size)?;
            }
            let slave = terminal::peer(&master)?;
            Ok((master, slave))
        };
        let (master, slave) = make().map_err(failed)?;
        if let Terminal::Socket(path) = wanted {
            send(path, &master).map_err(|errno| {
                Error::system(format!("send the terminal to --console-socket {}", path.display()), errno as i32)
            })?;
            return Ok(Some(Pty { slave, foreground: None }));
        }
        Ok(Some(Pty { slave, foreground: host.zip(Some(master)) }))
    }
}

fn send(path: &Path, master: &OwnedFd) -> Result<(), Errno> {
    let text = |path: &std::ffi::OsStr| CString::new(path.as_encoded_bytes()).map_err(|_| Errno::EINVAL);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = text(path.file_name().ok_or(Errno::EINVAL)?)?;
    // A socket's name has 107 bytes; a path may be longer.
    let dir = fd::openat(CWD, &text(parent.as_os_str())?, libc::O_PATH | libc::O_DIRECTORY, 0)?;
    let socket = socket::stream()?;
    socket::set_send_limit(&socket, 10)?;
    mount::inside(&dir, || socket::connect(&socket, &name))?;
    socket::send(&socket, b"/dev/pts/ptmx", Some(master))
}
