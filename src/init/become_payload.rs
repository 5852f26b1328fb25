//! The last steps: working directory, executable, environment, exec.

use crate::perform::{Done, Failed, Init};
use std::ffi::{CStr, CString};
use wharf_steps::List;
use wharf_steps::facts::{OUTSIDE, executable};
use wharf_sys::process::{self, ExecStrings};
use wharf_sys::{CWD, Errno, Fd, Result, credentials, fd, libc};

/// What earlier steps found out for the exec.
#[derive(Default)]
pub(crate) struct Payload<'a> {
    executable: CString,
    /// `HOME=…`, for an environment without it.
    pub(crate) home: Option<CString>,
    /// `LISTEN_PID=…`, where descriptors are handed on.
    pub(crate) listen_pid: Option<CString>,
    strings: Option<(ExecStrings<'a>, ExecStrings<'a>)>,
}

/// Runs `work` with the file system ids of the payload's user.
fn as_user<T>(uid: u32, gid: u32, work: impl FnOnce() -> Result<T>) -> Result<T> {
    if (uid, gid) == (0, 0) {
        return work();
    }
    credentials::set_filesystem_ids(uid, gid)?;
    let result = work();
    credentials::set_filesystem_ids(0, 0)?;
    result
}

/// Changes to the working directory with the user's own rights, or with root's where those do not suffice, as runc does
/// for a home that is not yet the user's. The kernel then says where it is: a descriptor of the host that leads outside
/// must not (CVE-2024-21626).
pub(crate) fn directory(path: &CStr, uid: u32, gid: u32, make: bool) -> Done {
    match as_user(uid, gid, || process::chdir(path)) {
        Err(Errno::ENOENT) if make => {
            make_directories(path)?;
            process::chdir(path)?;
        }
        Err(Errno::EACCES) => process::chdir(path)?,
        other => other?,
    }
    let mut buffer = [0; libc::PATH_MAX as usize];
    let length = match process::working_directory(&mut buffer) {
        // Longer than a path may be, and so no "(unreachable)" of a few bytes; or removed while we came.
        Err(errno) => return Err(Failed { errno, facts: 0, head: Vec::new() }),
        Ok(length) => length,
    };
    if !buffer[..length].starts_with(b"/") {
        return Err(Failed { errno: Errno::EPERM, facts: OUTSIDE, head: Vec::new() });
    }
    Ok(())
}

fn make_directories(path: &CStr) -> Result<()> {
    let bytes = path.to_bytes();
    let ends = (1..bytes.len()).filter(|at| bytes[*at] == b'/').chain([bytes.len()]);
    for end in ends {
        let part = CString::new(&bytes[..end]).map_err(|_| Errno::EINVAL)?;
        match fd::mkdirat(CWD, &part, 0o755) {
            Err(Errno::EEXIST) => {}
            other => other?,
        }
    }
    Ok(())
}

/// The first of the candidates that the user may execute. The exec may still refuse it; then it has its own reasons.
pub(crate) fn find(init: &mut Init<'_>, name: &CStr, candidates: List, uid: u32, gid: u32) -> Done {
    let plan = init.plan;
    let searched = !name.to_bytes().contains(&b'/');
    let found = as_user(uid, gid, || {
        let mut denied = Errno::ENOENT;
        for candidate in plan.list(candidates) {
            match process::may_execute(candidate) {
                Ok(()) if is_directory(candidate) => denied = Errno::EACCES,
                Ok(()) => return Ok(Ok(candidate)),
                Err(Errno::ENOENT) => {}
                // A part of PATH that is no directory is passed over, as execvp(3) does.
                Err(Errno::ENOTDIR) if searched => {}
                Err(errno) => denied = errno,
            }
        }
        Ok(Err(denied))
    })?;
    match found {
        Ok(path) => {
            init.payload.executable = path.to_owned();
            Ok(())
        }
        Err(Errno::ENOENT) if searched => {
            Err(Failed { errno: Errno::ENOENT, facts: executable::NOT_FOUND, head: Vec::new() })
        }
        Err(errno) => Err(seen(name, errno)),
    }
}

/// Descriptors 0 to 2 become the user's, except for the null device, which is everybody's. What cannot be given away, of
/// an owner that this user namespace does not know or on a read-only file system, stays as it is.
pub(crate) fn own_streams(uid: u32) -> Result<()> {
    for stream in (0..3).map(Fd) {
        let stat = fd::stat(stream)?;
        let null = stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == libc::makedev(1, 3);
        if null || stat.st_uid == uid {
            continue;
        }
        match fd::fchown(stream, uid, stat.st_gid) {
            Err(Errno::EINVAL | Errno::EPERM | Errno::EROFS) => {}
            other => other?,
        }
    }
    Ok(())
}

fn is_directory(path: &CStr) -> bool {
    fd::statat(CWD, path, 0).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

/// A failure with what can be seen of the file: its mode, its mount, its first bytes.
fn seen(path: &CStr, errno: Errno) -> Failed {
    let mut failed = Failed::from(errno);
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    let Ok(stat) = fd::statat(CWD, path, 0) else { return failed };
    failed.facts = executable::SEEN | stat.st_mode & 0xffff;
    if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
        return failed;
    }
    let Ok(file) = fd::openat(CWD, path, flags, 0) else { return failed };
    if fd::is_noexec(&file).unwrap_or(false) {
        failed.facts |= executable::NOEXEC;
    }
    failed.head = fd::read_to_end(&file, 2048).unwrap_or_default();
    failed
}

/// Takes every capability that the kernel knows and `keep` lacks out of the bounding set.
pub(crate) fn bounding(keep: u64) -> Result<()> {
    for capability in (0..64).filter(|bit| keep & 1 << bit == 0) {
        match credentials::drop_bounding(capability) {
            // The first number beyond the kernel's last.
            Err(Errno::EINVAL) => break,
            other => other?,
        }
    }
    Ok(())
}

/// Longest passwd that is looked through.
const PASSWD: usize = 1 << 20;

/// `HOME=` of a user: from the container's passwd by number, `/` where it is not found there, as runc has it. The file
/// is the image's: only a regular one is read, and not without end.
pub(crate) fn home(uid: u32) -> CString {
    let found = passwd().and_then(|text| {
        text.split(|byte| *byte == b'\n').find_map(|line| {
            let mut fields = line.split(|byte| *byte == b':');
            let number = std::str::from_utf8(fields.nth(2)?).ok()?.parse::<u32>().ok()?;
            let home = fields.nth(2)?;
            (number == uid && !home.is_empty()).then(|| CString::new([b"HOME=", home].concat()).ok())?
        })
    });
    found.unwrap_or_else(|| c"HOME=/".to_owned())
}

fn passwd() -> Option<Vec<u8>> {
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = fd::openat(CWD, c"/etc/passwd", flags, 0).ok()?;
    let regular = fd::stat(&file).ok()?.st_mode & libc::S_IFMT == libc::S_IFREG;
    regular.then(|| fd::read_to_end(&file, PASSWD).ok())?
}

/// Lays the strings of the exec out. A filter that is loaded may forbid what an allocation takes, so this comes before.
pub(crate) fn lay_out(init: &mut Init<'_>, arguments: List, environment: List) {
    let plan = init.plan;
    // What was found out lives as long as the plan: until the exec.
    let found = |text: &mut Option<CString>| text.take().map(|text| &*Box::leak(text.into_boxed_c_str()));
    let found = [found(&mut init.payload.home), found(&mut init.payload.listen_pid)];
    let environment = ExecStrings::new(plan.list(environment).chain(found.into_iter().flatten()));
    init.payload.strings = Some((ExecStrings::new(plan.list(arguments)), environment));
}

pub(crate) fn exec(init: &mut Init<'_>, arguments: List, environment: List) -> Done {
    if init.payload.strings.is_none() {
        lay_out(init, arguments, environment);
    }
    let path = init.payload.executable.as_c_str();
    let Some((arguments, environment)) = &init.payload.strings else { return Err(Errno::ENOSYS.into()) };
    Err(seen(path, process::exec(path, arguments, environment)))
}
