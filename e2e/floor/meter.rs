//! `meter FILE PROGRAM [WORD…]`: runs the program and writes what it cost into FILE.
//!
//! The measuring program must be small: a child's peak memory is never less than its parent's at the fork.
#![no_main]
#![deny(unsafe_code)]

use std::ffi::{CStr, c_char};
use wharf_sys::libc::{O_CREAT, O_TRUNC, O_WRONLY};
use wharf_sys::{CWD, fd, meter, process};

/// # Safety
/// Called by the C library, once, with the strings of execve(2).
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
unsafe extern "C" fn main(count: i32, values: *const *const c_char) -> i32 {
    // SAFETY: what the C library hands over.
    let words = unsafe { process::argument_strings(count, values) };
    if words.len() < 3 { 2 } else { measure(words[1], &words[2..]) }
}

fn measure(file: &CStr, command: &[&'static CStr]) -> i32 {
    let Ok(cost) = meter::run(command) else { return 1 };
    let line = format!("{} {} {} {} {} {}\n", cost.status, cost.begin, cost.end, cost.cpu, cost.page_faults, cost.peak);
    let written = fd::openat(CWD, file, O_CREAT | O_TRUNC | O_WRONLY, 0o600)
        .and_then(|file| fd::write_all(&file, line.as_bytes()));
    i32::from(written.is_err())
}
