//! From `create` to the stand-in: wharf itself, executed anew, with all that it is to do in a file of its own.

use super::control::Reply;
use crate::machine::{Accelerator, Machine};
use serde::{Deserialize, Serialize};
use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;
use wharf_core::{CgroupPaths, Error, Kind, Result};
use wharf_sys::namespace::{Side, clone};
use wharf_sys::process::{self, ExecStrings};
use wharf_sys::procfs::Procfs;
use wharf_sys::{Errno, Fd, fd, libc, signal, socket};

/// The name that it is called by.
pub const NAME: &str = "wharf-machine";
const NAME_C: &CStr = c"wharf-machine";
/// Longest answer.
pub(crate) const LONGEST_REPLY: usize = 64 << 10;

/// A file or directory of the host that the guest sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Binding {
    /// Below the directory that the guest sees.
    pub(crate) name: String,
    pub(crate) source: PathBuf,
    pub(crate) readonly: bool,
    pub(crate) recursive: bool,
    /// Where config.json asks for it.
    pub(crate) at: String,
    /// Of the root file system that is read-only: places of mounts on it, and whether they are directories. The guest can make
    /// none there.
    pub(crate) places: Vec<(String, bool)>,
}

/// Everything that the stand-in is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) state_dir: PathBuf,
    pub(crate) machine: Machine,
    /// In the order in which they are tried.
    pub(crate) accelerators: Vec<Accelerator>,
    /// Of one boot.
    pub(crate) patience: Duration,
    pub(crate) bindings: Vec<Binding>,
    /// The file of the disk with the root file system, where that is on one.
    pub(crate) disk: Option<PathBuf>,
    /// The guest's config.json.
    pub(crate) config: String,
    /// Options of the guest's `create`.
    pub(crate) words: Vec<String>,
    pub(crate) terminal: bool,
    pub(crate) cgroup: CgroupPaths,
    /// Where config.json names the network namespace that comes with it.
    pub(crate) network: Option<String>,
}

/// A stand-in that boots its machine. Dropped, it ends, and the machine with it.
pub(crate) struct Launch {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    socket: Option<OwnedFd>,
}

impl Launch {
    /// Born in the cgroup where that is given. `standard` are its standard descriptors where they are not ours.
    pub(crate) fn start(
        dir: BorrowedFd<'_>,
        job: &Job,
        cgroup: Option<&OwnedFd>,
        terminal: Option<&OwnedFd>,
        network: Option<&OwnedFd>,
    ) -> Result<Self, Errno> {
        let written = serde_json::to_vec(job).map_err(|_| Errno::EINVAL)?;
        let file = fd::memfd(c"job", false)?;
        fd::write_all(&file, &written)?;
        fd::seek_start(&file)?;
        let (ours, theirs) = socket::pair()?;
        let mut words = vec![dir.as_raw_fd(), file.as_raw_fd(), theirs.as_raw_fd()];
        words.extend(network.map(AsRawFd::as_raw_fd));
        match clone(0, cgroup)? {
            Side::Child => {
                let errno = become_it(&words, terminal).err().unwrap_or(Errno::EIO);
                let _ = fd::write(&theirs, errno.to_string().as_bytes());
                process::exit_now(1)
            }
            Side::Parent { pid, pidfd } => Ok(Launch { pid, pidfd, socket: Some(ours) }),
        }
    }

    /// It may begin: it is where it belongs.
    pub(crate) fn go(&self) -> Result<()> {
        match &self.socket {
            Some(socket) => socket::send(socket, b"go", None)
                .map_err(|errno| Error::system("speak with the machine's stand-in", errno as i32)),
            None => Ok(()),
        }
    }

    /// Waits until the payload waits in the guest.
    pub(crate) fn settle(&self, patience: Duration) -> Result<Accelerator> {
        let failed = |errno: Errno| Error::system("hear from the machine's stand-in", errno as i32);
        let Some(socket) = &self.socket else { return Err(failed(Errno::ENOTCONN)) };
        let mut message = vec![0; LONGEST_REPLY];
        let milliseconds = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        if !process::readable(socket, milliseconds).map_err(failed)? {
            return Err(Error::new(Kind::System, "start the virtual machine")
                .because(format!("it was not ready within {} s", patience.as_secs())));
        }
        let length = match socket::receive(socket, &mut message) {
            Err(Errno::ECONNRESET) => 0,
            other => other.map_err(failed)?.0,
        };
        if length == 0 {
            return Err(
                Error::new(Kind::System, "start the virtual machine").because("its stand-in ended without a word")
            );
        }
        let reply: Reply = serde_json::from_slice(&message[..length]).map_err(|_| {
            let text = String::from_utf8_lossy(&message[..length]).into_owned();
            Error::new(Kind::System, "start the machine's stand-in").because(text)
        })?;
        let value = reply.into_result()?;
        serde_json::from_value(value).map_err(|_| failed(Errno::EPROTO))
    }

    /// From now on it outlives us.
    pub(crate) fn release(mut self) -> Result<()> {
        let Some(socket) = self.socket.take() else { return Ok(()) };
        socket::send(&socket, b"live", None)
            .map_err(|errno| Error::system("let the machine's stand-in go on", errno as i32))
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        if self.socket.take().is_some() {
            let _ = process::signal(&self.pidfd, libc::SIGKILL);
            let _ = process::wait(self.pid, 0);
        }
    }
}

fn become_it(words: &[i32], terminal: Option<&OwnedFd>) -> Result<(), Errno> {
    // A terminal that hangs up is not ours to die with, but for the payload's.
    process::set_session()?;
    signal::reset_all()?;
    signal::block_all()?;
    if let Some(terminal) = terminal {
        for number in 0..3 {
            fd::dup_to(terminal, number)?;
        }
    }
    let own = Procfs::open()?.open_link(c"self/exe", libc::O_PATH)?;
    fd::close_by_exec(3)?;
    for number in words {
        fd::set_cloexec(Fd(*number), false)?;
    }
    let words: Vec<_> = words.iter().map(|number| CString::new(number.to_string()).unwrap_or_default()).collect();
    let arguments = ExecStrings::new([NAME_C].into_iter().chain(words.iter().map(CString::as_c_str)));
    Err(process::exec_fd(&own, &arguments, &ExecStrings::new([])))
}

/// What `create` has handed to this process.
pub(super) struct Inherited {
    pub(super) dir: OwnedFd,
    pub(super) job: Job,
    /// To `create`, until it lets us go on alone.
    pub(super) creator: OwnedFd,
    /// The network namespace that the container is given.
    pub(super) network: Option<OwnedFd>,
}

impl Inherited {
    pub(super) fn take(words: &[OsString]) -> Option<Inherited> {
        let numbers: Vec<i32> = words.iter().map(|word| word.to_str()?.parse().ok()).collect::<Option<_>>()?;
        let (&[dir, job, creator], network) = numbers.split_first_chunk()?;
        let own = |number: i32| {
            let copy = fd::duplicate(Fd(number)).ok()?;
            fd::close(Fd(number));
            Some(copy)
        };
        // Anew: a copy of the descriptor would hold the container's lock as long as we live.
        let anew = fd::openat(Fd(dir), c".", libc::O_RDONLY | libc::O_DIRECTORY, 0).ok()?;
        fd::close(Fd(dir));
        let (dir, file, creator) = (anew, own(job)?, own(creator)?);
        let job = serde_json::from_slice(&fd::read_to_end(file.as_fd(), 64 << 20).ok()?).ok()?;
        let network = network.first().map(|number| own(*number)).map_or(Some(None), |own| own.map(Some))?;
        Some(Inherited { dir, job, creator, network })
    }
}
