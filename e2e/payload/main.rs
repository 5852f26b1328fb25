//! The program that tests and the demo run inside a container: it does what its arguments say and prints what it found.
//!
//! `payload COMMAND ARG... [';' COMMAND ARG...]...` — each command prints one line of JSON with its result, or with
//! `errno` where the kernel refused. Statically linked: it needs nothing from the root file system.
#![forbid(unsafe_code)]

mod acts;
mod files;
mod report;
mod terminal;

use serde_json::{Value, json};
use std::io::Write;

/// What a command found, or the errno it was refused with.
type Found = Result<Value, Refused>;

/// Why a command failed: an errno of the kernel, or a mistake in the command itself.
enum Refused {
    Errno(i32),
    Usage(String),
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Refused::Errno(errno),
            None => Refused::Usage(error.to_string()),
        }
    }
}

impl From<nix::Error> for Refused {
    fn from(errno: nix::Error) -> Self {
        Refused::Errno(errno as i32)
    }
}

impl From<std::num::ParseIntError> for Refused {
    fn from(error: std::num::ParseIntError) -> Self {
        Refused::Usage(error.to_string())
    }
}

fn main() {
    let words: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    if words == ["show"] {
        report::show();
        return;
    }
    let mut wrong = false;
    for command in words.split(|word| word == ";") {
        let Some((verb, args)) = command.split_first() else { continue };
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let line = match perform(verb, &args) {
            Ok(Value::Null) => json!({ "did": verb }),
            Ok(found) => found,
            Err(Refused::Errno(errno)) => json!({ "did": verb, "errno": errno_name(errno) }),
            Err(Refused::Usage(why)) => {
                wrong = true;
                json!({ "did": verb, "wrong": why })
            }
        };
        say(&line);
    }
    std::process::exit(if wrong { 2 } else { 0 });
}

/// One line of JSON; stdout may be closed, and that is not our concern.
fn say(line: &Value) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

fn perform(verb: &str, args: &[&str]) -> Found {
    match verb {
        "report" => Ok(report::everything()),
        _ => match files::perform(verb, args).or_else(|| terminal::perform(verb, args)) {
            Some(found) => found,
            None => acts::perform(verb, args),
        },
    }
}

fn errno_name(errno: i32) -> String {
    format!("{:?}", nix::errno::Errno::from_raw(errno))
}

fn number(word: &str) -> Result<i64, Refused> {
    let (digits, base) = match word.strip_prefix("0x") {
        Some(hex) => (hex, 16),
        None => (word, 10),
    };
    Ok(i64::from_str_radix(digits, base)?)
}
