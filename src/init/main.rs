//! Performs a plan in the process that becomes the payload, and reports the step that failed.
//!
//! A small program of its own: wharf carries it inside, and each container gets a sealed copy of it in memory. Whatever
//! a container does through `/proc/self/exe`, it reaches neither the installed file nor its pages (CVE-2019-5736). It
//! knows nothing of the spec; every judgment is in the plan.
#![deny(unsafe_code)]
#![no_main]

mod become_payload;
mod carried;
mod mount;
mod perform;
mod target;
mod terminal;

use std::ffi::{c_char, c_int};

/// Only what a plan needs is ever touched of it.
#[global_allocator]
static ARENA: wharf_sys::arena::Arena = wharf_sys::arena::Arena;

/// The C entry: Rust's own start-up costs more than some containers' whole set-up, and nothing of it is needed here.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    // SAFETY: the C library calls this once, with argc pointers to NUL-terminated strings that live as long as the
    // process.
    let arguments = unsafe { wharf_sys::process::argument_strings(argc, argv) };
    perform::main(&arguments)
}
