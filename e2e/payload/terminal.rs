//! Commands that concern the payload's terminal.

use crate::{Found, acts, say};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::fstat;
use nix::sys::termios::{LocalFlags, OutputFlags, tcgetattr, tcgetsid};
use nix::unistd::{Pid, getpgrp, getsid, isatty, tcgetpgrp, tcsetpgrp};
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

pub(crate) fn perform(verb: &str, args: &[&str]) -> Option<Found> {
    Some(match (verb, args) {
        ("terminal", []) => terminal(),
        ("window", []) => Ok(window()),
        ("wait-window", []) => wait_window(),
        ("read-line", []) => read_line(),
        ("flood", [mebibytes]) => flood(mebibytes),
        ("print", [text]) => print(text),
        ("read-lines", [count]) => read_lines(count),
        ("console-later", [milliseconds]) => console_later(milliseconds),
        ("foreground-child", words) if !words.is_empty() => foreground_child(words),
        _ => return None,
    })
}

/// What descriptors 0 to 2 are, and whether they are the session's terminal.
fn terminal() -> Found {
    let streams = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let standard = [isatty(&streams.0)?, isatty(&streams.1)?, isatty(&streams.2)?];
    let names: Vec<String> = (0..3)
        .map(|number| std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap_or_default())
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    let about = fstat(&streams.0)?;
    let settings = tcgetattr(&streams.0)?;
    let device =
        |path: &str| std::fs::metadata(path).map(|file| std::os::unix::fs::MetadataExt::rdev(&file)).unwrap_or(0);
    Ok(json!({
        "standard": standard,
        "names": names,
        "device": about.st_rdev,
        "console": device("/dev/console"),
        "uid": about.st_uid,
        "gid": about.st_gid,
        "mode": format!("{:o}", about.st_mode & 0o7777),
        "controlling": std::fs::File::open("/dev/tty").is_ok(),
        "leads": tcgetsid(&streams.0).ok() == getsid(None).ok(),
        "foreground": tcgetpgrp(&streams.0).ok() == Some(getpgrp()),
        "onlcr": settings.output_flags.contains(OutputFlags::ONLCR),
        "echo": settings.local_flags.contains(LocalFlags::ECHO),
        "canonical": settings.local_flags.contains(LocalFlags::ICANON),
        "window": window(),
    }))
}

/// Rows and columns, as stty(1) has them; null without a terminal.
fn window() -> Value {
    match wharf_sys::terminal::size(std::io::stdin()) {
        Ok(size) => json!([size.rows, size.columns]),
        Err(_) => Value::Null,
    }
}

fn wait_window() -> Found {
    let mut set = SigSet::empty();
    set.add(Signal::SIGWINCH);
    set.thread_block()?;
    say(&json!({ "ready": true }));
    set.wait()?;
    Ok(json!({ "window": window() }))
}

fn read_line() -> Found {
    say(&json!({ "ready": true }));
    let mut line = String::new();
    let length = std::io::stdin().lock().read_line(&mut line)?;
    Ok(json!({ "line": line, "length": length }))
}

/// How many bytes that many lines hold, and whether each is what [`flood`] writes.
fn read_lines(count: &str) -> Found {
    let count: usize = count.parse()?;
    say(&json!({ "ready": true }));
    let mut input = std::io::stdin().lock();
    let (mut length, mut right) = (0, true);
    for number in 0..count {
        let mut line = String::new();
        length += input.read_line(&mut line)?;
        right &= line == numbered(number);
    }
    Ok(json!({ "length": length, "right": right }))
}

/// Lets go of its terminal, and writes to it again later.
fn console_later(milliseconds: &str) -> Found {
    let pause: u64 = milliseconds.parse()?;
    for number in 0..3 {
        nix::unistd::close(number)?;
    }
    std::thread::sleep(std::time::Duration::from_millis(pause));
    std::fs::write("/dev/console", "here again\n")?;
    Ok(Value::Null)
}

fn numbered(number: usize) -> String {
    format!("{number:063}\n")
}

/// Lines of 64 bytes, numbered.
fn flood(mebibytes: &str) -> Found {
    let mebibytes: usize = mebibytes.parse()?;
    let mut out = std::io::stdout().lock();
    for block in 0..mebibytes << 4 {
        let mut text = String::with_capacity(1 << 16);
        for line in 0..1 << 10 {
            text.push_str(&numbered(block << 10 | line));
        }
        out.write_all(text.as_bytes())?;
    }
    Ok(json!({ "flooded": mebibytes }))
}

/// The text as it is, and no line end.
fn print(text: &str) -> Found {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(Value::Null)
}

/// Runs a command of ours as the terminal's foreground process group, as a shell does.
fn foreground_child(words: &[&str]) -> Found {
    let terminal = std::io::stdin();
    // To hand the terminal back from the background is allowed to who is deaf to it.
    let mut deaf = SigSet::empty();
    deaf.add(Signal::SIGTTOU);
    deaf.thread_block()?;
    let mut child = Command::new(acts::own_path()).args(words).process_group(0).spawn()?;
    tcsetpgrp(&terminal, Pid::from_raw(child.id() as i32))?;
    say(&json!({ "handed": true }));
    let status = child.wait()?;
    tcsetpgrp(&terminal, getpgrp())?;
    Ok(json!({ "code": status.code(), "signal": status.signal() }))
}
