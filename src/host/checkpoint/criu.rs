//! CRIU as a program of its own that is spoken with: `criu swrk`, by its messages on a socket that keeps their borders.
//!
//! CRIU calls back at certain moments (`notify_scripts`) and waits for the answer. No answer, or "no success", and it
//! takes back what it has done: the processes run on, or what was restored is killed.

use super::view::View;
use super::wire::{Fields, Message};
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use wharf_core::{Error, Kind, Result};
use wharf_sys::namespace::{self, Side, clone, flag};
use wharf_sys::process::{self, Ended, ExecStrings};
use wharf_sys::{CWD, Errno, Fd, fd, libc, mount, signal, socket};

/// Where it is looked for: it acts with root's rights, so the caller's PATH has no say.
pub const PLACES: [&str; 4] = ["/usr/sbin/criu", "/usr/local/sbin/criu", "/usr/bin/criu", "/usr/local/bin/criu"];
/// Where CRIU finds tar, ip and iptables.
const PATH: &CStr = c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Of the socket in CRIU, behind its standard descriptors.
const SOCKET: i32 = 3;
/// Of the directories of images and of its log, in CRIU.
pub(crate) const IMAGES: i32 = 4;
pub(crate) const WORK: i32 = 5;
/// What CRIU keeps of ours has numbers from this one on.
pub(crate) const KEPT_FROM: i32 = 10;
/// The longest answer that is read.
const LONGEST: usize = 64 * 1024;

/// `criu_req_type`
pub(crate) mod request {
    pub(crate) const DUMP: i64 = 1;
    pub(crate) const RESTORE: i64 = 2;
    pub(crate) const NOTIFY: i64 = 6;
    pub(crate) const FEATURE_CHECK: i64 = 9;
    pub(crate) const VERSION: i64 = 10;
    pub(crate) const SINGLE_PRE_DUMP: i64 = 13;
}

/// The program, found.
#[derive(Clone, Debug)]
pub(crate) struct Program(PathBuf);

/// CRIU's version, as its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u64, pub(crate) u64, pub(crate) u64);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.2 {
            0 => write!(f, "{}.{}", self.0, self.1),
            sublevel => write!(f, "{}.{}.{sublevel}", self.0, self.1),
        }
    }
}

/// One message of CRIU's.
#[derive(Debug, Default)]
pub(crate) struct Response {
    pub(crate) kind: i64,
    pub(crate) success: bool,
    /// Of a notification: which, and the process that it is about.
    pub(crate) script: String,
    pub(crate) pid: i32,
    pub(crate) errno: i32,
    pub(crate) message: String,
    /// (memory tracking, lazy pages), of a feature check.
    pub(crate) features: (bool, bool),
    pub(crate) version: Option<Version>,
    pub(crate) descriptor: Option<OwnedFd>,
}

impl Response {
    fn read(bytes: &[u8]) -> Self {
        let mut response = Response::default();
        for (field, value) in Fields(bytes) {
            match field {
                1 => response.kind = value.as_number() as i64,
                2 => response.success = value.as_number() != 0,
                // criu_restore_resp
                4 => {
                    let pid = Fields(value.as_bytes()).find(|(field, _)| *field == 1);
                    response.pid = pid.map_or(0, |(_, pid)| pid.as_number() as i32);
                }
                // criu_notify
                5 => {
                    for (field, value) in Fields(value.as_bytes()) {
                        match field {
                            1 => response.script = value.as_text(),
                            2 => response.pid = value.as_number() as i32,
                            _ => {}
                        }
                    }
                }
                7 => response.errno = value.as_number() as i32,
                8 => {
                    for (field, value) in Fields(value.as_bytes()) {
                        match field {
                            1 => response.features.0 = value.as_number() != 0,
                            2 => response.features.1 = value.as_number() != 0,
                            _ => {}
                        }
                    }
                }
                9 => response.message = value.as_text(),
                10 => {
                    let mut version = Version(0, 0, 0);
                    for (field, value) in Fields(value.as_bytes()) {
                        match field {
                            1 => version.0 = value.as_number(),
                            2 => version.1 = value.as_number(),
                            4 => version.2 = value.as_number(),
                            _ => {}
                        }
                    }
                    response.version = Some(version);
                }
                _ => {}
            }
        }
        response
    }
}

/// A CRIU that waits for its one request, or works.
pub(crate) struct Criu {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    socket: Option<OwnedFd>,
    /// What it writes before it has a log.
    said: OwnedFd,
    reaped: bool,
}

/// What CRIU is born with.
pub(crate) struct Born<'a> {
    /// Our own standard descriptors instead of none: a shell's job finds its terminal there.
    pub(crate) ours: bool,
    /// A session of its own: a signal from our terminal is for us, and what we have begun is ended in order.
    pub(crate) apart: bool,
    /// A root file system that becomes a mount in a mount namespace of CRIU's own: CRIU restores on nothing else, and
    /// whatever ends us, nothing of it is left on the host.
    pub(crate) root: Option<&'a Path>,
    pub(crate) view: Option<&'a View>,
    /// Of images and of the log, with their paths.
    pub(crate) dirs: Option<[(&'a OwnedFd, &'a Path); 2]>,
    /// Descriptors that it keeps, by their numbers here, from [`KEPT_FROM`] on.
    pub(crate) kept: &'a [OwnedFd],
}

impl Program {
    /// The one that is named, or the first that is installed.
    pub(crate) fn find(named: Option<&Path>) -> Result<Self> {
        let is_there = |path: &Path| {
            CString::new(path.as_os_str().as_encoded_bytes()).is_ok_and(|path| process::may_execute(&path).is_ok())
        };
        if let Some(named) = named {
            let wrong = |why: &str| Err(Error::new(Kind::System, format!("--criu {}", named.display())).because(why));
            return match named.is_absolute() {
                false => wrong("is not an absolute path"),
                true if !is_there(named) => wrong("is no program that can be executed"),
                true => Ok(Program(named.to_owned())),
            };
        }
        let found = PLACES.iter().map(Path::new).find(|path| is_there(path));
        found.map(|path| Program(path.to_owned())).ok_or_else(|| {
            Error::new(Kind::System, "find criu")
                .because(format!("it is not installed: none of {}", PLACES.join(", ")))
                .hint("install criu, 4.0 or newer for a recent kernel, or name it with --criu")
        })
    }

    /// What a CRIU says of itself.
    pub(crate) fn version(&self) -> Result<Version> {
        let mut message = Message::default();
        message.number(1, request::VERSION);
        let response = self.ask(&message)?;
        response.version.ok_or_else(|| self.failed("ask its version", Errno::EPROTO))
    }

    /// Whether it can track memory and bring pages back lazily, on this kernel.
    pub(crate) fn features(&self) -> Result<(bool, bool)> {
        let (mut message, mut wanted) = (Message::default(), Message::default());
        wanted.flag(1, true).flag(2, true);
        message.number(1, request::FEATURE_CHECK).message(5, &wanted);
        self.ask(&message).map(|response| response.features)
    }

    fn ask(&self, message: &Message) -> Result<Response> {
        let mut criu = self.start(&Born { ours: false, apart: true, root: None, view: None, dirs: None, kept: &[] })?;
        criu.send(message)?;
        let response = criu.receive()?;
        criu.end();
        response.ok_or_else(|| self.failed("ask it", Errno::ECONNRESET).because(criu.last_words()))
    }

    fn failed(&self, doing: &str, errno: Errno) -> Error {
        Error::system(format!("{doing}: {}", self.0.display()), errno as i32)
    }

    /// Executes it; it waits for a request.
    pub(crate) fn start(&self, born: &Born<'_>) -> Result<Criu> {
        let failed = |errno: Errno| self.failed("execute criu", errno);
        let path = CString::new(self.0.as_os_str().as_encoded_bytes()).map_err(|_| failed(Errno::EINVAL))?;
        let (told, telling) = socket::pair().map_err(failed)?;
        let said = fd::memfd(c"said", false).map_err(failed)?;
        let (pid, pidfd) = match clone(0, None).map_err(failed)? {
            Side::Child => {
                let errno = become_criu(&path, born, &telling, &said).err().unwrap_or(Errno::EIO);
                let _ = fd::write(&telling, &(errno as i32).to_le_bytes());
                process::exit_now(127)
            }
            Side::Parent { pid, pidfd } => (pid, pidfd),
        };
        drop(telling);
        let mut word = [0; 4];
        let mut ours = None;
        loop {
            match socket::receive(&told, &mut word) {
                Ok((1, socket)) => ours = socket,
                // Its end is closed by the exec.
                Ok((0, _)) if ours.is_some() => {
                    return Ok(Criu { pid, pidfd, socket: ours, said, reaped: false });
                }
                other => {
                    let errno = match other {
                        Ok((4, _)) => Errno::from_raw(i32::from_le_bytes(word)),
                        Ok(_) => Errno::ECHILD,
                        Err(errno) => errno,
                    };
                    let _ = process::wait(pid, 0);
                    return Err(failed(errno));
                }
            }
        }
    }
}

fn become_criu(path: &CStr, born: &Born<'_>, telling: &OwnedFd, said: &OwnedFd) -> Result<(), Errno> {
    if born.apart {
        process::set_session()?;
    }
    signal::reset_all()?;
    if let Some(view) = born.view {
        view.take()?;
    }
    if let Some(root) = born.root {
        let root = CString::new(root.as_os_str().as_encoded_bytes()).map_err(|_| Errno::EINVAL)?;
        namespace::unshare(flag::NEWNS)?;
        // What the host mounts later still arrives, and nothing goes back.
        mount::mount(None, c"/", None, libc::MS_SLAVE | libc::MS_REC, None)?;
        mount::mount(Some(&root), &root, None, libc::MS_BIND | libc::MS_REC, None)?;
    }
    if !born.ours {
        let null = fd::openat(CWD, c"/dev/null", libc::O_RDWR, 0)?;
        fd::dup_to(&null, 0)?;
        fd::dup_to(said, 1)?;
        fd::dup_to(said, 2)?;
    }
    // Those that are kept have numbers above (`KEPT_FROM`).
    let telling = fd::duplicate_from(telling, KEPT_FROM)?;
    // CRIU takes numbers of directories for those of the process that has made the socket: that is itself then.
    let (ours, socket) = socket::pair()?;
    socket::send(&telling, &[1], Some(&ours))?;
    let dirs = match &born.dirs {
        None => Vec::new(),
        Some(dirs) => dirs.iter().map(|(dir, path)| here(dir, path, born.root.is_some())).collect::<Result<_, _>>()?,
    };
    let socket = fd::duplicate_from(&socket, KEPT_FROM)?;
    fd::dup_to(&socket, SOCKET)?;
    for (dir, number) in dirs.iter().zip([IMAGES, WORK]) {
        fd::dup_to(dir, number)?;
    }
    fd::close_by_exec(SOCKET as u32 + 1)?;
    for number in [IMAGES, WORK].into_iter().take(dirs.len()) {
        fd::set_cloexec(Fd(number), false)?;
    }
    for kept in born.kept {
        fd::set_cloexec(kept, false)?;
    }
    let arguments = ExecStrings::new([c"criu", c"swrk", c"3"]);
    Err(process::exec(path, &arguments, &ExecStrings::new([PATH])))
}

/// The directory in this process's mount namespace, where that is another than the one that it was opened in: CRIU mounts
/// in it.
fn here(dir: &OwnedFd, path: &Path, elsewhere: bool) -> Result<OwnedFd, Errno> {
    if !elsewhere {
        return fd::duplicate_from(dir, KEPT_FROM);
    }
    let text = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| Errno::EINVAL)?;
    let opened = fd::openat(CWD, &text, libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    let (one, other) = (fd::stat(dir)?, fd::stat(&opened)?);
    if (one.st_dev, one.st_ino) != (other.st_dev, other.st_ino) {
        return Err(Errno::ESTALE);
    }
    fd::duplicate_from(&opened, KEPT_FROM)
}

impl Criu {
    pub(crate) fn send(&self, message: &Message) -> Result<()> {
        let socket = self.socket.as_ref().ok_or_else(|| failed(Errno::ENOTCONN))?;
        match socket::send(socket, message.as_bytes(), None) {
            // It has ended; what it left tells why.
            Ok(()) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Answers a notification.
    pub(crate) fn answer(&self, success: bool) -> Result<()> {
        let mut message = Message::default();
        message.number(1, request::NOTIFY).number(3, i64::from(success));
        self.send(&message)
    }

    /// Its next message; none when it has ended.
    pub(crate) fn receive(&self) -> Result<Option<Response>> {
        let socket = self.socket.as_ref().ok_or_else(|| failed(Errno::ENOTCONN))?;
        let mut buffer = vec![0; LONGEST];
        let (length, descriptor) = match socket::receive(socket, &mut buffer) {
            Err(Errno::ECONNRESET) => (0, None),
            other => other.map_err(failed)?,
        };
        Ok((length > 0).then(|| Response { descriptor, ..Response::read(&buffer[..length]) }))
    }

    /// Lets it go, and waits for its end: it cleans up when nobody speaks with it any more.
    pub(crate) fn end(&mut self) -> Option<Ended> {
        self.socket = None;
        if std::mem::replace(&mut self.reaped, true) {
            return None;
        }
        process::wait(self.pid, 0).ok().flatten().map(|(_, ended)| ended)
    }

    /// What it has written beside its log, the last line of it.
    pub(crate) fn last_words(&self) -> String {
        let mut words = [0; 4096];
        let length = fd::read_at(&self.said, &mut words, 0).unwrap_or(0);
        let text = String::from_utf8_lossy(&words[..length]).into_owned();
        text.lines()
            .rfind(|line| !line.trim().is_empty())
            .map_or_else(|| "it ended without a word".to_owned(), str::to_owned)
    }
}

impl Drop for Criu {
    fn drop(&mut self) {
        self.end();
    }
}

fn failed(errno: Errno) -> Error {
    Error::system("speak with criu", errno as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_tells_its_script_and_its_process() {
        let (mut notify, mut message) = (Message::default(), Message::default());
        notify.text(1, "setup-namespaces").number(2, 4711);
        message.number(1, request::NOTIFY).flag(2, true).message(5, &notify).text(99, "of a newer one");
        let response = Response::read(message.as_bytes());
        assert_eq!((response.kind, response.success, response.pid), (request::NOTIFY, true, 4711));
        assert_eq!(response.script, "setup-namespaces");
    }

    #[test]
    fn a_version_is_compared_by_its_numbers() {
        let (mut version, mut message) = (Message::default(), Message::default());
        version.number(1, 4).number(2, 1).number(4, 1);
        message.number(1, request::VERSION).flag(2, true).message(10, &version);
        let version = Response::read(message.as_bytes()).version.unwrap();
        assert_eq!(version.to_string(), "4.1.1");
        assert!(version > Version(3, 17, 1) && version < Version(4, 10, 0));
    }
}
