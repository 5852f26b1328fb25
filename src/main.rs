//! The `wharf` command: from the process's arguments to its exit code.
//!
//! Rust's own start-up is left out (`no_main`): it costs a fifth of an empty process. What it would have done and is
//! needed is done here: the arguments are handed on, and the descriptors 0, 1 and 2 are filled. What it would have done
//! and is not wanted is to ignore SIGPIPE: a payload must inherit the default, and a broken stdout ends us quietly.
#![deny(unsafe_code)]
#![cfg_attr(not(test), no_main)]

mod checkpoints;
mod cli;
mod config;
mod doctor;
mod guest;
mod report;
mod route;
mod store;
mod survey;
mod verbs;

use cli::{Action, Asked, Caller, LogOptions};
use report::Log;
use std::ffi::{CStr, OsStr, OsString, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use wharf_core::phases;
use wharf_core::{Error, Kind, Result};

#[global_allocator]
static ARENA: wharf_sys::arena::Arena = wharf_sys::arena::Arena;

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
    let mut words = words.map(|word| OsStr::from_bytes(word.to_bytes()).to_owned());
    let argv0 = words.next().unwrap_or_default();
    if argv0 == wharf_monitor::NAME {
        wharf_sys::arena::retire();
        return wharf_monitor::main(&words.collect::<Vec<_>>());
    }
    let is_ours = [&b"wharf-"[..], b"/wharf-"].iter().any(|start| argv0.as_bytes().starts_with(start));
    if is_ours && let Some(code) = guest::entry(&argv0, &mut words) {
        return code;
    }
    command(&argv0, words.collect())
}

fn command(argv0: &OsStr, words: Vec<OsString>) -> c_int {
    let asks =
        |word: &OsString| [b"--timings", &b"--trace"[..]].iter().any(|option| word.as_bytes().starts_with(option));
    if words.iter().any(asks) {
        phases::begin("command line");
    }
    let uid = wharf_sys::dir::effective_uid();
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR");
    // Rootless engines hand on the runtime directory of their user; the host's root has none, and is not asked.
    let nested = uid == 0
        && runtime_dir.is_some()
        && std::env::var_os("USER").is_none_or(|name| name != "root")
        && wharf_sys::namespace::is_nested_user();
    let caller = Caller {
        argv0: Path::new(argv0).file_name().unwrap_or_default().to_string_lossy().into_owned(),
        configuration: std::env::var_os(config::VARIABLE),
        uid,
        nested,
        runtime_dir,
    };
    let (options, asked) = cli::parse(words, &caller);
    let log = match Log::open(options.file.as_deref(), options.json, options.level) {
        Ok(log) => log,
        Err(error) => return fail(&Log::stderr(options.json), &error, 1),
    };
    let request = match asked {
        Ok(Asked::Request(request)) => request,
        Ok(Asked::Version) => return finish(&log, report::print(&report::version()).map(|()| 0), Codes::Plain),
        Ok(Asked::Help(text)) => return finish(&log, report::print(&text).map(|()| 0), Codes::Plain),
        Err(error) => return finish(&log, Err(error), Codes::Plain),
    };
    if let Err(error) = tell_times(&options) {
        return fail(&log, &error, 1);
    }
    let codes = match request.action {
        Action::Run { .. } | Action::Wait { .. } => Codes::Run,
        Action::Exec { .. } => Codes::Exec,
        _ => Codes::Plain,
    };
    let outcome = verbs::perform(&request, &options, &log);
    finish(&log, outcome, codes)
}

/// Where that is asked for.
fn tell_times(options: &LogOptions) -> Result<()> {
    let Some(command) = &options.timed else { return Ok(()) };
    let log = || Log::open(options.file.as_deref(), options.json, options.level);
    let log = options.timings.then(log).transpose()?;
    report::tell_times(command.clone(), log, options.trace.as_deref())
}

fn finish(log: &Log, outcome: Result<i32>, codes: Codes) -> c_int {
    phases::finish();
    match outcome {
        Ok(code) => code,
        Err(error) => {
            let error = named(error);
            fail(log, &error, exit_code(error.kind(), codes))
        }
    }
}

/// With the kernel that has the system call which was missing.
fn named(error: Error) -> Error {
    let missing = error.raw_errno() == Some(wharf_sys::Errno::ENOSYS as i32) && error.advice().is_none();
    match wharf_sys::kernel::needed(wharf_sys::kernel::missing()) {
        Some(needed) if missing => error.hint(needed),
        _ => error,
    }
}

fn fail(log: &Log, error: &Error, code: c_int) -> c_int {
    log.failure(error);
    code
}

/// What failures of a verb are told as.
#[derive(Clone, Copy, Debug)]
enum Codes {
    Plain,
    /// Shares its codes with the payload and keeps 125 to 127 apart, as shells and engines do.
    Run,
    /// Shares its codes with the payload; a failure is 255, as with runc.
    Exec,
}

/// 2 for a wrong command line, 1 for a failure.
fn exit_code(kind: Kind, codes: Codes) -> c_int {
    match (kind, codes) {
        (Kind::Usage, _) => 2,
        (Kind::CommandNotFound, Codes::Run) => 127,
        (Kind::CommandNotExecutable, Codes::Run) => 126,
        (_, Codes::Run) => 125,
        (_, Codes::Exec) => 255,
        (_, Codes::Plain) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_tells_its_own_failures_from_the_payloads() {
        assert_eq!(exit_code(Kind::Usage, Codes::Run), 2);
        assert_eq!(exit_code(Kind::CommandNotFound, Codes::Run), 127);
        assert_eq!(exit_code(Kind::CommandNotExecutable, Codes::Run), 126);
        assert_eq!(exit_code(Kind::Invalid, Codes::Run), 125);
        assert_eq!(exit_code(Kind::CommandNotFound, Codes::Exec), 255);
        for kind in [Kind::CommandNotFound, Kind::Exists, Kind::NoSuchContainer, Kind::Unsupported] {
            assert_eq!(exit_code(kind, Codes::Plain), 1);
        }
    }
}
