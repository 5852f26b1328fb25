//! What wharf is called by the machines that it makes: the stand-in on the host, the first process of a guest, and each
//! verb that the guest is asked for.

use crate::cli::{self, Asked, Caller};
use crate::report::Log;
use crate::verbs;
use std::ffi::{OsStr, OsString, c_int};
use wharf_core::{Error, Kind, Result};

/// The exit code, where the name is one of these. Not where every call looks first: each page of code costs a fault.
#[cold]
#[inline(never)]
pub(crate) fn entry(argv0: &OsStr, words: &mut dyn Iterator<Item = OsString>) -> Option<c_int> {
    if argv0 == wharf_vm::STAND_IN {
        wharf_sys::arena::retire();
        return Some(wharf_vm::stand_in(&words.collect::<Vec<_>>()));
    }
    if argv0 == wharf_vm::guest::PROGRAM {
        wharf_sys::arena::retire();
        wharf_vm::guest::main()
    }
    if argv0 == wharf_vm::guest::VERB {
        return Some(verb(words));
    }
    None
}

/// A verb of the guest, by the host's wish; its outcome goes to the pipe that the first word names.
fn verb(words: &mut dyn Iterator<Item = OsString>) -> c_int {
    let Some(pipe) = words.next().and_then(|word| wharf_vm::guest::pipe(word.to_str()?)) else { return 2 };
    let outcome = perform(words.collect());
    wharf_vm::guest::tell(pipe, &outcome);
    c_int::from(outcome.is_err())
}

fn perform(words: Vec<OsString>) -> Result<i32> {
    let caller = Caller { argv0: "wharf".to_owned(), configuration: None, uid: 0, nested: false, runtime_dir: None };
    let (options, asked) = cli::parse(words, &caller);
    let log = Log::open(options.file.as_deref(), options.json, options.level)?;
    match asked? {
        Asked::Request(request) => verbs::perform(&request, &options, &log),
        Asked::Version | Asked::Help(_) => Err(Error::new(Kind::Usage, "do a verb in the guest")),
    }
}
