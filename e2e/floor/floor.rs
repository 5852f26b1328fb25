//! The floor: the kernel's work for two fixed configurations and nothing else, to measure runtimes against.
//!
//! `floor default|engine VERB ID exit|wait HIERARCHIES [PIDFILE]`. It reads no configuration and checks nothing; paths
//! are those of the benchmark's stage. Never a runtime: it trusts everything it touches.
#![no_main]
#![deny(unsafe_code)]

mod cgroup;
mod container;
mod filter;

use std::ffi::{CStr, CString, c_char};
use wharf_sys::libc::{O_CREAT, O_EXCL, O_RDONLY, O_TRUNC, O_WRONLY, SIGKILL};
use wharf_sys::namespace::{self, Side};
use wharf_sys::{CWD, Errno, Result, fd, process, socket};

/// # Safety
/// Called by the C library, once, with the strings of execve(2).
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
unsafe extern "C" fn main(count: i32, values: *const *const c_char) -> i32 {
    // SAFETY: what the C library hands over.
    let words = unsafe { process::argument_strings(count, values) };
    match floor(&words) {
        Ok(code) => code,
        Err(errno) => {
            let _ = fd::write_all(wharf_sys::Fd(2), errno.desc().as_bytes());
            1
        }
    }
}

/// What the words of the command line say.
pub(crate) struct Job {
    pub(crate) engine: bool,
    pub(crate) id: &'static str,
    pub(crate) payload: &'static CStr,
    /// Names of the cgroup v1 hierarchies below /sys/fs/cgroup.
    pub(crate) hierarchies: Vec<&'static str>,
}

impl Job {
    fn state(&self, name: &str) -> CString {
        text(&format!("/run/wharf-bench/state-floor/{}{name}", self.id))
    }
}

/// A string of ours for a call; none of them holds a NUL.
pub(crate) fn text(words: &str) -> CString {
    CString::new(words).unwrap_or_default()
}

fn floor(words: &[&'static CStr]) -> Result<i32> {
    let [_, kind, verb, id, payload, hierarchies, rest @ ..] = words else { return Err(Errno::EINVAL) };
    let readable = |word: &'static CStr| word.to_str().map_err(|_| Errno::EINVAL);
    let job = Job {
        engine: *kind == c"engine",
        id: readable(id)?,
        payload,
        hierarchies: readable(hierarchies)?.split(',').filter(|name| !name.is_empty()).collect(),
    };
    if job.hierarchies.is_empty() {
        // Only cgroup v1 is written down here.
        return Err(Errno::EOPNOTSUPP);
    }
    match readable(verb)? {
        "run" => run(&job),
        "create" => create(&job, rest.first().ok_or(Errno::EINVAL)?),
        "start" => socket::datagram()
            .and_then(|socket| {
                socket::connect(&socket, &job.state("/start"))?;
                socket::send(&socket, b"!", None)
            })
            .map(|()| 0),
        "state" => state(&job),
        "kill" => process::signal(process::pidfd(pid(&job)?)?, SIGKILL).map(|()| 0),
        "delete" => delete(&job),
        _ => Err(Errno::EINVAL),
    }
}

fn clone_flags(job: &Job) -> u64 {
    use namespace::flag::{NEWIPC, NEWNET, NEWNS, NEWPID, NEWUTS};
    NEWNS | NEWPID | NEWUTS | NEWIPC | if job.engine { 0 } else { NEWNET }
}

fn write_file(path: &CStr, value: &[u8]) -> Result<()> {
    fd::write_all(fd::openat(CWD, path, O_WRONLY | O_CREAT | O_EXCL, 0o600)?, value)
}

fn run(job: &Job) -> Result<i32> {
    fd::mkdirat(CWD, &job.state(""), 0o700)?;
    cgroup::make(job)?;
    match namespace::clone(clone_flags(job), None)? {
        Side::Child => child(job, || Ok(())),
        Side::Parent { pid, .. } => {
            write_file(&job.state("/pid"), pid.to_string().as_bytes())?;
            let (_, ended) = process::wait(pid, 0)?.ok_or(Errno::ECHILD)?;
            cgroup::remove(job)?;
            fd::unlinkat(CWD, &job.state("/pid"), 0)?;
            fd::unlinkat(CWD, &job.state(""), wharf_sys::libc::AT_REMOVEDIR)?;
            Ok(ended.code())
        }
    }
}

fn create(job: &Job, pid_file: &CStr) -> Result<i32> {
    fd::mkdirat(CWD, &job.state(""), 0o700)?;
    let start = socket::datagram()?;
    socket::bind(&start, &job.state("/start"))?;
    let (ours, theirs) = socket::pair()?;
    cgroup::make(job)?;
    match namespace::clone(clone_flags(job), None)? {
        Side::Child => {
            drop(ours);
            child(job, move || {
                fd::write(&theirs, b"!")?;
                fd::read(&start, &mut [0]).map(drop)
            })
        }
        Side::Parent { pid, .. } => {
            drop(theirs);
            if fd::read(&ours, &mut [0])? == 0 {
                return Err(Errno::ECHILD);
            }
            let pid = pid.to_string();
            write_file(&job.state("/pid"), pid.as_bytes())?;
            fd::write_all(fd::openat(CWD, pid_file, O_WRONLY | O_CREAT | O_TRUNC, 0o600)?, pid.as_bytes())?;
            Ok(0)
        }
    }
}

fn child(job: &Job, wait: impl FnOnce() -> Result<()>) -> ! {
    let errno = container::become_payload(job, wait);
    let _ = fd::write_all(wharf_sys::Fd(2), errno.desc().as_bytes());
    process::exit_now(125)
}

fn pid(job: &Job) -> Result<i32> {
    let mut buffer = [0; 16];
    let length = fd::read(fd::openat(CWD, &job.state("/pid"), O_RDONLY, 0)?, &mut buffer)?;
    std::str::from_utf8(&buffer[..length]).ok().and_then(|pid| pid.parse().ok()).ok_or(Errno::EIO)
}

fn state(job: &Job) -> Result<i32> {
    let pid = pid(job)?;
    let status = if process::pidfd(pid).is_ok() { "created" } else { "stopped" };
    let state = format!(
        "{{\"ociVersion\":\"1.0.2\",\"id\":\"{}\",\"status\":\"{status}\",\"pid\":{pid},\"bundle\":\"/run/wharf-bench\"}}\n",
        job.id
    );
    fd::write_all(wharf_sys::Fd(1), state.as_bytes()).map(|()| 0)
}

fn delete(job: &Job) -> Result<i32> {
    if process::pidfd(pid(job)?).is_ok() {
        return Err(Errno::EBUSY);
    }
    cgroup::remove(job)?;
    for name in ["/pid", "/start"] {
        fd::unlinkat(CWD, &job.state(name), 0)?;
    }
    fd::unlinkat(CWD, &job.state(""), wharf_sys::libc::AT_REMOVEDIR).map(|()| 0)
}
