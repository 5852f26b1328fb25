//! sd_notify(3) of the payload, told to whoever listens on our own `NOTIFY_SOCKET`.
//!
//! The payload gets a socket of ours: the caller's would be out of its reach, and a service manager would not know who
//! speaks. What it says is passed on while somebody of ours waits anyway: `run` in the foreground as long as the payload
//! lives; `start` and `run --detach` until it is ready, which they wait for. Nothing is said in its name, and of what it
//! says only what concerns the service itself is passed on: a pid of its namespace means nothing outside, and who may
//! speak is not the payload's to decide.
//!
//! Where config.json sets NOTIFY_SOCKET for the payload, the caller has arranged all this by itself (Podman does).

use oci_spec::runtime::Spec;
use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use wharf_core::{Error, Record, Result};
use wharf_monitor::identity;
use wharf_sys::mount::{self, AT_EMPTY_PATH, OPEN_TREE_CLONE, attr};
use wharf_sys::{Errno, fd, libc, process, signal, socket};

const VARIABLE: &str = "NOTIFY_SOCKET";
/// The directory in the state directory that the payload sees as [`wharf_plan::NOTIFY_DIRECTORY`].
pub(crate) const DIRECTORY_NAME: &str = "notify";
const DIRECTORY: &CStr = c"notify";
/// The socket in it.
const SOCKET: &CStr = c"notify.sock";
/// Longest message; systemd takes no longer one.
const LONGEST: usize = 4096;
/// How long a service manager may take to take a message, in seconds.
const PATIENCE: i64 = 5;
/// How long it may take to have worked it off, in milliseconds.
const BARRIER: i32 = 5000;

/// What of a payload's words is passed on.
const PASSED_ON: [&str; 11] = [
    "READY=",
    "RELOADING=",
    "MONOTONIC_USEC=",
    "STOPPING=",
    "STATUS=",
    "ERRNO=",
    "BUSERROR=",
    "EXIT_STATUS=",
    "WATCHDOG=",
    "WATCHDOG_USEC=",
    "EXTEND_TIMEOUT_USEC=",
];

/// Where our caller wants to be told; none where it does not, or has told the payload itself.
fn wanted() -> Option<OsString> {
    std::env::var_os(VARIABLE).filter(|socket| !socket.is_empty())
}

/// Whether the container gets a socket of ours.
pub(crate) fn is_wanted(spec: &Spec) -> bool {
    let env = spec.process().as_ref().and_then(|process| process.env().as_ref());
    let set = |variable: &String| variable.strip_prefix(VARIABLE).is_some_and(|rest| rest.starts_with('='));
    wanted().is_some() && !env.is_some_and(|env| env.iter().any(set))
}

fn failed(errno: Errno) -> Error {
    Error::system("make the socket for sd_notify", errno as i32)
}

/// Makes the directory that the socket will be in, and gives its mount, for the container to attach.
pub(crate) fn directory(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    let make = || {
        fd::mkdirat(dir, DIRECTORY, 0o755)?;
        let directory = fd::openat(dir, DIRECTORY, libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0)?;
        // Whatever our umask is, the payload's user must reach the socket.
        fd::fchmod(&directory, 0o755)?;
        // An ordinary user may not copy a mount here; its init may, in its own namespace, where the directory is its own.
        if wharf_sys::dir::effective_uid() != 0 {
            return Ok(directory);
        }
        let tree = mount::open_tree(&directory, c"", OPEN_TREE_CLONE | AT_EMPTY_PATH)?;
        let all = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
        match mount::set_attributes(&tree, false, all, 0, libc::MS_PRIVATE) {
            // Before kernel 5.12 the init does it.
            Ok(()) | Err(Errno::ENOSYS) => Ok(tree),
            Err(errno) => Err(errno),
        }
    };
    make().map_err(failed)
}

/// A payload's socket and the caller's.
pub(crate) struct Relay {
    payload: OwnedFd,
    caller: OwnedFd,
}

impl Relay {
    /// For a container that was made with a socket's place, when the caller wants to be told. What cannot be reached is
    /// found out here, before the payload runs.
    pub(crate) fn open(dir: BorrowedFd<'_>) -> Result<Option<Self>> {
        let Some(name) = wanted() else { return Ok(None) };
        let directory = match fd::openat(dir, DIRECTORY, libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0) {
            Err(Errno::ENOENT) => return Ok(None),
            other => other.map_err(failed)?,
        };
        let reach = |errno: Errno| Error::system(format!("connect to {VARIABLE} {}", name.display()), errno as i32);
        let caller = socket::datagram().map_err(reach)?;
        socket::set_send_limit(&caller, PATIENCE).map_err(reach)?;
        match name.as_bytes() {
            [b'/', ..] => {
                let path = CString::new(name.as_bytes()).map_err(|_| reach(Errno::EINVAL))?;
                socket::connect(&caller, &path).map_err(reach)?;
            }
            [b'@', rest @ ..] => socket::connect_abstract(&caller, rest).map_err(reach)?,
            _ => {
                return Err(Error::unsupported(format!("{VARIABLE} {}", name.display()))
                    .because("is neither a path nor an abstract name"));
            }
        }
        let make = || {
            // A start that failed may have left one.
            match fd::unlinkat(&directory, SOCKET, 0) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno),
            }
            let payload = socket::datagram()?;
            mount::inside(&directory, || socket::bind(&payload, SOCKET))?;
            fd::chmodat(&directory, SOCKET, 0o777)?;
            Ok(payload)
        };
        Ok(Some(Relay { payload: make().map_err(failed)?, caller }))
    }

    /// Passes on what the payload says until it is ready or has ended; tells with the first that it is the service's
    /// main process. Returns when the caller has seen it: a service manager has to find out who speaks while we live.
    pub(crate) fn until_ready(&self, record: &Record) -> Result<()> {
        let failed = |errno: Errno| Error::system("pass the payload's sd_notify on", errno as i32);
        // `run` has blocked them for the payload of its foreground; this wait may be ended.
        signal::set_mask(0).map_err(failed)?;
        let Some(init) = &record.init else { return Ok(()) };
        let pidfd = identity::alive(None, init)?;
        let pass = || {
            if let Some(pidfd) = &pidfd {
                while let [true, _] = process::ready([self.payload.as_fd(), pidfd.as_fd()], -1)? {
                    if self.pass_on(init.pid)? {
                        return self.barrier();
                    }
                }
            }
            self.last_words(init.pid)?;
            self.barrier()
        };
        pass().map_err(failed)
    }

    /// Becomes readable when the payload has said something.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.payload.as_fd()
    }

    /// Passes one message on, and with READY=1 the pid of the service's main process; true if it held that. What the
    /// caller does not take is lost, as it is for every service.
    pub(crate) fn pass_on(&self, main: i32) -> Result<bool, Errno> {
        let mut message = [0; LONGEST];
        // A descriptor that comes with it is closed: for a barrier that is the answer, and nothing else is ours to keep.
        let (length, _) = socket::receive(&self.payload, &mut message)?;
        let (words, ready) = judge(&message[..length], main);
        if !words.is_empty() {
            let _ = socket::send(&self.caller, &words, None);
        }
        Ok(ready)
    }

    /// Passes on what a payload that has ended had said.
    pub(crate) fn last_words(&self, main: i32) -> Result<(), Errno> {
        while process::readable(&self.payload, 0)? {
            self.pass_on(main)?;
        }
        Ok(())
    }

    /// Waits until the other side has worked off what was sent: it closes the descriptor then (sd_notify_barrier(3)).
    fn barrier(&self) -> Result<(), Errno> {
        let (ours, theirs) = socket::pair()?;
        if socket::send(&self.caller, b"BARRIER=1", Some(&theirs)).is_ok() {
            drop(theirs);
            process::readable(&ours, BARRIER)?;
        }
        Ok(())
    }
}

/// What is passed on of a message, and whether the payload says in it that it is ready.
fn judge(message: &[u8], main: i32) -> (Vec<u8>, bool) {
    let mut words = Vec::with_capacity(message.len() + 24);
    let mut ready = false;
    for line in message.split(|byte| *byte == b'\n') {
        if PASSED_ON.iter().any(|name| line.starts_with(name.as_bytes())) {
            ready |= line == b"READY=1";
            words.extend_from_slice(line);
            words.push(b'\n');
        }
    }
    if ready {
        words.extend_from_slice(format!("MAINPID={main}\n").as_bytes());
    }
    (words, ready)
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn a_payload_speaks_for_its_service_and_not_for_the_manager() {
        let message = b"STATUS=up\nMAINPID=1\nREADY=1\nFDSTORE=1\nNOTIFYACCESS=all\n";
        assert_eq!(judge(message, 42), (b"STATUS=up\nREADY=1\nMAINPID=42\n".to_vec(), true));
        assert_eq!(judge(b"STATUS=READY=1", 42), (b"STATUS=READY=1\n".to_vec(), false));
        assert_eq!(judge(b"MAINPID=1", 42), (Vec::new(), false));
        assert_eq!(judge(b"READY=0", 42), (b"READY=0\n".to_vec(), false));
    }
}
