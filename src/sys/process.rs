//! One process: what it inherits, how it becomes another program, how it ends, how others watch it.

use crate::fd::own;
use crate::kernel::{Call, note};
use crate::{Errno, Result, check, credentials};
use std::ffi::{CStr, c_char};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Leaves without running anything of the C library's, as a child of clone3 must.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe {
        libc::syscall(libc::SYS_exit_group, code);
    }
    unreachable!("exit_group returned")
}

pub fn pid() -> i32 {
    // SAFETY: takes and fails nothing.
    unsafe { libc::syscall(libc::SYS_getpid) as i32 }
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Exited(i32),
    Signaled(i32),
}

impl Ended {
    /// As a shell tells it: 128 + n for signal n.
    pub fn code(self) -> i32 {
        match self {
            Ended::Exited(code) => code,
            Ended::Signaled(signal) => 128 + signal,
        }
    }
}

/// Waits for the child `pid`, or any child where it is -1. `None` only with `WNOHANG` in `flags`.
pub fn wait(pid: i32, flags: i32) -> Result<Option<(i32, Ended)>> {
    Ok(wait_status(pid, flags)?.map(|(pid, status)| {
        let ended = if libc::WIFEXITED(status) {
            Ended::Exited(libc::WEXITSTATUS(status))
        } else {
            Ended::Signaled(libc::WTERMSIG(status))
        };
        (pid, ended)
    }))
}

/// As [`wait`], with the status as wait(2) gives it.
pub fn wait_status(pid: i32, flags: i32) -> Result<Option<(i32, i32)>> {
    let mut status = 0;
    loop {
        // SAFETY: status is our own variable.
        match check(unsafe { libc::waitpid(pid, &raw mut status, flags) as libc::c_long }) {
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno),
            Ok(0) => return Ok(None),
            Ok(pid) => return Ok(Some((pid as i32, status))),
        }
    }
}

/// What all children that were waited for have used, theirs included.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    /// Microseconds.
    pub user: u64,
    /// Microseconds.
    pub system: u64,
    /// Of the biggest one, resident, bytes.
    pub peak: u64,
    /// From block devices, bytes.
    pub read: u64,
    /// To block devices, bytes.
    pub written: u64,
}

/// getrusage(2) of this process's children.
pub fn used_by_children() -> Used {
    // SAFETY: rusage is plain data for which zero is valid, and the call writes to no other memory.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    let microseconds = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    Used {
        user: microseconds(usage.ru_utime),
        system: microseconds(usage.ru_stime),
        peak: usage.ru_maxrss as u64 * 1024,
        read: usage.ru_inblock as u64 * 512,
        written: usage.ru_oublock as u64 * 512,
    }
}

/// pidfd_open(2). `ESRCH` means that there is no such process.
pub fn pidfd(pid: i32) -> Result<OwnedFd> {
    // SAFETY: plain integers.
    let opened = own(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }).map_err(note(Call::PidfdOpen));
    match opened {
        // Before kernel 6.15, of a process that is gone while its number is still that of a session or a group.
        Err(Errno::EINVAL) if pid > 0 => Err(Errno::ESRCH),
        other => other,
    }
}

/// The status of wait(2) of a process that somebody has waited for, from its pidfd alone (`PIDFD_GET_INFO` with
/// `PIDFD_INFO_EXIT`, Linux 6.15). None while nobody has; `EOPNOTSUPP` where the kernel does not keep it. It is that of the
/// process's first thread: where another one dumped core, the flag for that is missing.
pub fn exit_status(pidfd: impl AsFd) -> Result<Option<i32>> {
    /// struct pidfd_info of Linux 6.15.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    const EXIT: u64 = 1 << 3;
    /// `_IOWR(0xFF, 11, struct pidfd_info)`
    const PIDFD_GET_INFO: u64 = 3 << 30 | (size_of::<Info>() as u64) << 16 | 0xff << 8 | 11;
    let mut info = Info { mask: EXIT, ..Info::default() };
    // SAFETY: info is as long as the request says; the kernel writes nothing behind it.
    let result = unsafe { libc::syscall(libc::SYS_ioctl, pidfd.as_fd().as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    match check(result) {
        Ok(_) if info.mask & EXIT != 0 => Ok(Some(info.exit_code)),
        Ok(_) => Ok(None),
        // Kernels that do not keep it know nothing of a process that is gone, or not this request.
        Err(Errno::ESRCH | Errno::EINVAL | Errno::ENOTTY) => Err(Errno::EOPNOTSUPP),
        Err(errno) => Err(errno),
    }
}

/// Ends the calling thread alone (exit(2)): the process lives on in its others.
pub fn end_thread() -> ! {
    loop {
        // SAFETY: does not return; nothing of this thread is looked at by others.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
}

/// Whether the kernel dumps core at a signal that nobody handles (signal(7)).
pub fn dumps_core(signal: i32) -> bool {
    use libc::{SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGQUIT, SIGSEGV, SIGSYS, SIGTRAP, SIGXCPU, SIGXFSZ};
    [SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGQUIT, SIGSEGV, SIGSYS, SIGTRAP, SIGXCPU, SIGXFSZ].contains(&signal)
}

/// Whether [`exit_status`] will have an answer, tried with a process made for it. The caller must have one thread.
pub fn keeps_exit_status() -> Result<bool> {
    match crate::namespace::clone(0, None)? {
        crate::namespace::Side::Child => exit_now(0),
        crate::namespace::Side::Parent { pid, pidfd } => {
            wait(pid, 0)?;
            Ok(exit_status(&pidfd).is_ok())
        }
    }
}

/// Waits until the process behind a pidfd has been waited for by its parent, at most `milliseconds` (-1 for ever).
/// Kernels before 6.9 do not tell: there it returns false when the time is over.
pub fn reaped(pidfd: impl AsFd, milliseconds: i32) -> Result<bool> {
    let mut poll = libc::pollfd { fd: pidfd.as_fd().as_raw_fd(), events: 0, revents: 0 };
    loop {
        // SAFETY: one pollfd of our own.
        match check(unsafe { libc::poll(&raw mut poll, 1, milliseconds) as libc::c_long }) {
            Err(Errno::EINTR) if milliseconds < 0 => {}
            Err(errno) => return Err(errno),
            Ok(ready) => return Ok(ready > 0),
        }
    }
}

/// A copy of the descriptor `number` of the process behind a pidfd (pidfd_getfd(2)); takes the right to trace it.
pub fn take_descriptor(pidfd: impl AsFd, number: i32) -> Result<OwnedFd> {
    // SAFETY: plain integers.
    own(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_fd().as_raw_fd(), number, 0) })
        .map_err(note(Call::PidfdGetfd))
}

/// Signals exactly the process behind a pidfd.
pub fn signal(pidfd: impl AsFd, signal: i32) -> Result<()> {
    // SAFETY: no siginfo is passed.
    check(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_fd().as_raw_fd(), signal, std::ptr::null::<u8>(), 0)
    })
    .map(drop)
    .map_err(note(Call::PidfdSendSignal))
}

/// Waits until the descriptor is readable, at most `milliseconds` (-1 for ever); a pidfd is when its process has ended.
pub fn readable(fd: impl AsFd, milliseconds: i32) -> Result<bool> {
    let mut poll = libc::pollfd { fd: fd.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    loop {
        // SAFETY: one pollfd of our own.
        match check(unsafe { libc::poll(&raw mut poll, 1, milliseconds) as libc::c_long }) {
            Err(Errno::EINTR) if milliseconds < 0 => {}
            Err(errno) => return Err(errno),
            Ok(ready) => return Ok(ready > 0),
        }
    }
}

/// Waits until one of the descriptors is readable or at its end, at most `milliseconds` (-1 for ever); tells which are.
pub fn ready<const N: usize>(fds: [BorrowedFd<'_>; N], milliseconds: i32) -> Result<[bool; N]> {
    let mut polls = fds.map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    loop {
        // SAFETY: N pollfds of our own.
        match check(unsafe { libc::poll(polls.as_mut_ptr(), N as libc::nfds_t, milliseconds) as libc::c_long }) {
            Err(Errno::EINTR) if milliseconds < 0 => {}
            Err(errno) => return Err(errno),
            Ok(_) => return Ok(polls.map(|poll| poll.revents != 0)),
        }
    }
}

/// Strings laid out for execve(2): `offsets` are places in `arena` where NUL-terminated strings begin.
///
/// # Panics
/// When an offset is outside the arena or its string has no end inside it.
pub struct ExecStrings<'a> {
    pointers: Vec<*const c_char>,
    arena: std::marker::PhantomData<&'a [u8]>,
}

impl<'a> ExecStrings<'a> {
    pub fn new(strings: impl IntoIterator<Item = &'a CStr>) -> Self {
        let pointers = strings.into_iter().map(CStr::as_ptr).chain([std::ptr::null()]).collect();
        ExecStrings { pointers, arena: std::marker::PhantomData }
    }
}

/// execveat(2) of an opened file.
pub fn exec_fd(file: impl AsFd, arguments: &ExecStrings<'_>, environment: &ExecStrings<'_>) -> Errno {
    // SAFETY: both arrays end with null and their strings live as long as they do.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_fd().as_raw_fd(),
            c"".as_ptr(),
            arguments.pointers.as_ptr(),
            environment.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    Errno::last()
}

/// execve(2) of a path in this process's root.
pub fn exec(path: &CStr, arguments: &ExecStrings<'_>, environment: &ExecStrings<'_>) -> Errno {
    // SAFETY: both arrays end with null and their strings live as long as they do.
    unsafe {
        libc::execve(path.as_ptr(), arguments.pointers.as_ptr(), environment.pointers.as_ptr());
    }
    Errno::last()
}

/// Lets the kernel take back the pages of the program's code until they are needed again: a process that waits for hours
/// needs few of them.
pub fn let_go_of_code() {
    unsafe extern "C" {
        // From the linker: the first and the last address of code.
        static __executable_start: u8;
        static etext: u8;
    }
    const PAGE: usize = 4096;
    let (first, last) = (&raw const __executable_start as usize, &raw const etext as usize);
    let (first, last) = (first.next_multiple_of(PAGE), last / PAGE * PAGE);
    if first < last {
        // SAFETY: nothing between the two is ever written, so what is dropped is read from the file again.
        unsafe {
            libc::madvise(first as *mut libc::c_void, last - first, libc::MADV_DONTNEED);
        }
    }
}

pub fn parent() -> i32 {
    // SAFETY: takes and fails nothing.
    unsafe { libc::syscall(libc::SYS_getppid) as i32 }
}

pub fn set_umask(mask: u32) -> u32 {
    // SAFETY: cannot fail.
    unsafe { libc::umask(mask as libc::mode_t) as u32 }
}

pub fn set_session() -> Result<()> {
    // SAFETY: takes nothing.
    check(unsafe { libc::setsid() as libc::c_long }).map(drop)
}

/// The kernel sends us `signal` when our parent ends (PR_SET_PDEATHSIG).
pub fn end_with_parent(signal: i32) -> Result<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) as libc::c_long }).map(drop)
}

pub fn chdir(path: &CStr) -> Result<()> {
    // SAFETY: path is NUL-terminated.
    check(unsafe { libc::chdir(path.as_ptr()) as libc::c_long }).map(drop)
}

/// The kernel's own word for the working directory; it begins with `(unreachable)` where that is outside the root.
pub fn working_directory(buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the buffer's length is given.
    check(unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) }).map(|length| length as usize)
}

/// Whether the calling thread may execute the file, judged by its file system ids (faccessat2(2), `AT_EACCESS`).
pub fn may_execute(path: &CStr) -> Result<()> {
    // SAFETY: path is NUL-terminated.
    match check(unsafe {
        libc::syscall(libc::SYS_faccessat2, libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS)
    }) {
        // Before kernel 5.8 there is only the call that judges by the real ids.
        Err(Errno::ENOSYS) => credentials::with_real_filesystem_ids(|| {
            // SAFETY: path is NUL-terminated.
            check(unsafe { libc::syscall(libc::SYS_faccessat, libc::AT_FDCWD, path.as_ptr(), libc::X_OK) }).map(drop)
        }),
        other => other.map(drop),
    }
}

/// prlimit(2) of the process `pid`; `resource` is a `RLIMIT_*` number.
pub fn set_rlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit: [u64; 2] = [soft, hard];
    // SAFETY: limit has the layout of struct rlimit64.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, limit.as_ptr(), std::ptr::null::<u8>()) })
        .map(drop)
}

/// sched_setaffinity(2) of the process `pid`, 0 for ourselves: bit n of `mask` is CPU n, little endian.
pub fn set_affinity(pid: i32, mask: &[u8]) -> Result<()> {
    // SAFETY: pointer and length belong together.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, pid, mask.len(), mask.as_ptr()) }).map(drop)
}

/// Whether `pid` is a child of ours that has not been waited for (waitid(2)).
pub fn is_child(pid: i32) -> bool {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: no siginfo and no rusage are asked for.
    let result = unsafe {
        libc::syscall(libc::SYS_waitid, libc::P_PID, pid, std::ptr::null::<u8>(), flags, std::ptr::null::<u8>())
    };
    check(result).is_ok()
}

/// personality(2).
pub fn set_personality(persona: u64) -> Result<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::syscall(libc::SYS_personality, persona) }).map(drop)
}

/// set_mempolicy(2): mode with its flags, and the nodes as a mask in whole words; none where it is empty.
pub fn set_memory_policy(mode: u32, nodes: &[u8]) -> Result<()> {
    if !nodes.len().is_multiple_of(size_of::<libc::c_ulong>()) {
        return Err(Errno::EINVAL);
    }
    let (mask, bits) = if nodes.is_empty() {
        (std::ptr::null(), 0)
    } else {
        // The kernel looks at one bit less than it is told.
        (nodes.as_ptr(), 8 * nodes.len() + 1)
    };
    // SAFETY: the kernel reads the words that hold `bits - 1` bits, which are all of `nodes`.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) }).map(drop)
}

/// ioprio_set(2) on ourselves: class in bits 13-15, priority below.
pub fn set_io_priority(value: u32) -> Result<()> {
    const WHO_PROCESS: u32 = 1;
    // SAFETY: plain integers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) }).map(drop)
}

/// What sched_setattr(2) takes, version 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// sched_setattr(2) on ourselves.
pub fn set_schedule(mut schedule: Schedule) -> Result<()> {
    schedule.size = size_of::<Schedule>() as u32;
    // SAFETY: the structure carries its own size.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const schedule, 0) }).map(drop)
}

/// The strings of a C `argv`, for a program without the Rust runtime's entry.
///
/// # Safety
/// `values` must hold `count` pointers to NUL-terminated strings that live as long as the process.
pub unsafe fn argument_strings(count: i32, values: *const *const c_char) -> Vec<&'static CStr> {
    // SAFETY: the caller's promise.
    (0..count.max(0) as usize).map(|index| unsafe { CStr::from_ptr(*values.add(index)) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::{Side, clone};

    #[test]
    fn a_status_is_read_from_a_pidfd_after_somebody_else_has_waited() {
        let Ok(Side::Parent { pid, pidfd }) = clone(0, None) else { exit_now(42) };
        assert!(readable(&pidfd, 10_000).unwrap());
        assert!(!reaped(&pidfd, 0).unwrap(), "a process that nobody has waited for");
        wait(pid, 0).unwrap();
        match exit_status(&pidfd) {
            Err(Errno::EOPNOTSUPP) => println!("skipped: this kernel does not keep exit statuses (Linux 6.15 does)"),
            other => {
                assert_eq!(other, Ok(Some(42 << 8)));
                assert!(reaped(&pidfd, 0).unwrap());
            }
        }
    }
}
