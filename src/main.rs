//! The `wharf` command: from the process's arguments to its exit code.
//!
//! Rust's own start-up is left out (`no_main`): it costs a fifth of an empty process. What it would have done and is
//! needed is done here: the arguments are handed on, and the descriptors 0, 1 and 2 are filled. What it would have done
//! and is not wanted is to ignore SIGPIPE: a payload must inherit the default, and a broken stdout ends us quietly.
#![deny(unsafe_code)]
#![cfg_attr(not(test), no_main)]

mod cli;
mod report;
mod route;
mod store;
mod survey;
mod verbs;

use cli::{Action, Asked, Caller};
use report::Log;
use std::ffi::{CStr, OsStr, OsString, c_int};
use std::os::unix::ffi::OsStrExt;
use wharf_core::{Error, Kind, Result};

#[global_allocator]
static ARENA: wharf_sys::arena::Arena = wharf_sys::arena::Arena::new();

/// The C entry.
#[cfg(not(test))]
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const std::ffi::c_char) -> c_int {
    // SAFETY: the C library calls this once, with argc pointers to NUL-terminated strings that live as long as the
    // process.
    let words = unsafe { std::slice::from_raw_parts(argv, argc.max(0) as usize) }
        .iter()
        .map(|word| unsafe { CStr::from_ptr(*word) });
    entry(words)
}

#[cfg_attr(test, allow(dead_code))]
fn entry<'a>(words: impl Iterator<Item = &'a CStr>) -> c_int {
    if let Err(errno) = wharf_sys::dir::fill_standard_descriptors() {
        return fail(&Log::stderr(false), &Error::system("open /dev/null", errno as i32), 1);
    }
    command(words.skip(1).map(|word| OsStr::from_bytes(word.to_bytes()).to_owned()).collect())
}

fn command(words: Vec<OsString>) -> c_int {
    let caller = Caller { uid: wharf_sys::dir::effective_uid(), runtime_dir: std::env::var_os("XDG_RUNTIME_DIR") };
    let (options, asked) = cli::parse(words, &caller);
    let log = match Log::open(options.file.as_deref(), options.json, options.level) {
        Ok(log) => log,
        Err(error) => return fail(&Log::stderr(options.json), &error, 1),
    };
    let request = match asked {
        Ok(Asked::Request(request)) => request,
        Ok(Asked::Version) => return finish(&log, report::print(&report::version()).map(|()| 0), false),
        Ok(Asked::Help(text)) => return finish(&log, report::print(&text).map(|()| 0), false),
        Err(error) => return finish(&log, Err(error), false),
    };
    let run = matches!(request.action, Action::Run { .. });
    let outcome = verbs::perform(&request, &options, &log);
    finish(&log, outcome, run)
}

fn finish(log: &Log, outcome: Result<i32>, run: bool) -> c_int {
    match outcome {
        Ok(code) => code,
        Err(error) => fail(log, &error, exit_code(error.kind(), run)),
    }
}

fn fail(log: &Log, error: &Error, code: c_int) -> c_int {
    log.failure(error);
    code
}

/// 2 for a wrong command line, 1 for a failure; `run` shares its codes with the payload and keeps 125 to 127 apart, as
/// shells and engines do.
fn exit_code(kind: Kind, run: bool) -> c_int {
    match kind {
        Kind::Usage => 2,
        Kind::CommandNotFound if run => 127,
        Kind::CommandNotExecutable if run => 126,
        _ if run => 125,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_tells_its_own_failures_from_the_payloads() {
        assert_eq!(exit_code(Kind::Usage, true), 2);
        assert_eq!(exit_code(Kind::CommandNotFound, true), 127);
        assert_eq!(exit_code(Kind::CommandNotExecutable, true), 126);
        assert_eq!(exit_code(Kind::Invalid, true), 125);
        for kind in [Kind::CommandNotFound, Kind::Exists, Kind::NoSuchContainer, Kind::Unsupported] {
            assert_eq!(exit_code(kind, false), 1);
        }
    }
}
