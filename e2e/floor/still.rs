//! `still exit|wait`: the smallest payload: ends at once, or waits for a signal.
#![no_main]
#![deny(unsafe_code)]

use std::ffi::c_char;
use wharf_sys::{process, signal};

/// # Safety
/// Called by the C library, once, with the strings of execve(2).
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
unsafe extern "C" fn main(count: i32, values: *const *const c_char) -> i32 {
    // SAFETY: what the C library hands over.
    let words = unsafe { process::argument_strings(count, values) };
    if words.get(1).is_some_and(|word| *word == c"wait") {
        let _ = signal::block_all();
        let _ = signal::next();
    }
    process::exit_now(0)
}
