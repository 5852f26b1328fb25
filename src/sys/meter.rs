//! Starts a program and tells what it cost, with as little cost of its own as can be.

use crate::{Errno, Result, check};
use std::ffi::{CStr, c_char};
use std::{mem, ptr};

/// What a program and the children that it waited for used.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// The wait status as wait4(2) gives it.
    pub status: i32,
    /// Nanoseconds of the monotonic clock, before the start.
    pub begin: u64,
    /// Nanoseconds of the monotonic clock, after the end.
    pub end: u64,
    /// Microseconds of processor time, user and system.
    pub cpu: u64,
    pub page_faults: u64,
    /// Peak resident memory of the biggest process, KiB.
    pub peak: u64,
}

fn now() -> u64 {
    // SAFETY: timespec is plain data for which zero is valid, and the clock exists on every kernel.
    let time = unsafe {
        let mut time: libc::timespec = mem::zeroed();
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time);
        time
    };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Runs `words[0]`, a path, with this process's environment, and waits for its end.
pub fn run(words: &[&'static CStr]) -> Result<Cost> {
    unsafe extern "C" {
        static environ: *const *mut c_char;
    }
    let program = words.first().ok_or(Errno::EINVAL)?;
    let arguments: Vec<*mut c_char> =
        words.iter().map(|word| word.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect();
    let mut pid = 0;
    let begin = now();
    // SAFETY: the arguments end with null and live on; no file actions and no attributes are given.
    let error = unsafe {
        libc::posix_spawn(&raw mut pid, program.as_ptr(), ptr::null(), ptr::null(), arguments.as_ptr(), environ)
    };
    if error != 0 {
        return Err(Errno::from_raw(error));
    }
    let mut status = 0;
    // SAFETY: rusage is plain data for which zero is valid.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: both results are our own variables.
    check(unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) as libc::c_long })?;
    let end = now();
    let micros = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    Ok(Cost {
        status,
        begin,
        end,
        cpu: micros(usage.ru_utime) + micros(usage.ru_stime),
        page_faults: (usage.ru_minflt + usage.ru_majflt) as u64,
        peak: usage.ru_maxrss as u64,
    })
}
