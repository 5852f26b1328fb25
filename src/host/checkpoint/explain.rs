//! What CRIU's log says of a failure: its first error, and the cause where it is a known one.

use super::criu::{Criu, Response};
use std::os::fd::BorrowedFd;
use std::path::Path;
use wharf_core::{Error, Kind, errno_text};
use wharf_sys::dir;

/// Errors that CRIU logs and that change nothing.
const HARMLESS: [&str; 2] = ["rlimit: Can't setup RLIMIT_NOFILE for self", "tun: Unable to create tun"];

/// Words of CRIU's, the cause in ours, and what to do.
const KNOWN: [(&str, &str, &str); 20] = [
    ("Can't get 1:16 opt", "this criu is too old for sockets of this kernel", "install criu 4.2 or newer"),
    ("Can't get rlimit", "limits of another user's process are told only to who has CAP_SYS_RESOURCE", ""),
    ("external socket is used", "a unix socket's other end is outside of the container", "--ext-unix-sk"),
    (
        "Can't dump half of stream unix connection",
        "a unix socket's other end is outside of the container",
        "--ext-unix-sk",
    ),
    ("Connected TCP socket", "a TCP connection is established", "--tcp-established"),
    ("in-flight connection", "a TCP connection is being established", "--tcp-skip-in-flight"),
    ("Some file locks are hold", "a file is locked", "--file-locks"),
    ("file locks are held", "a file is locked", "--file-locks"),
    ("has a dev we don't", "its terminal is another's", "--shell-job"),
    ("Found dangling tty", "its terminal is another's", "--shell-job"),
    ("Found slave peer", "its terminal is another's", "--shell-job"),
    ("sits outside of", "its session is a shell's outside of the container", "--shell-job"),
    ("Can't create link remap", "an open file was unlinked", "--link-remap"),
    ("Can't dump ghost file", "an open file that was unlinked is larger than a mebibyte", "--link-remap"),
    (
        "has bad size",
        "a file has another size than when it was open: the disk is of another moment",
        "bring the disk back as it was",
    ),
    (
        "Can't open file",
        "an open file of the container is missing: the disk is of another moment",
        "bring the disk back as it was",
    ),
    ("Nested mount namespaces", "a process has made a mount namespace of its own", "end it first"),
    ("doesn't have a proper root mount", "a mount of the container is a part of a file system that is not there", ""),
    (
        "Can't lookup mount=",
        "an open file is on none of the container's mounts",
        "close it, or mount its directory into the container",
    ),
    ("No such process", "the process has ended meanwhile", ""),
];

/// The error of a CRIU that has failed. `work` has its log.
pub(crate) fn failed(
    doing: &str,
    criu: &Criu,
    response: Option<&Response>,
    work: (BorrowedFd<'_>, &Path),
    log: &str,
) -> Error {
    let text = dir::read_at(work.0, log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let place = work.1.join(log);
    let error = Error::new(Kind::System, doing);
    let Some(line) = first_error(&text) else {
        let why = match response {
            Some(response) if !response.message.is_empty() => response.message.clone(),
            Some(response) if response.errno != 0 => errno_text(response.errno),
            _ => criu.last_words(),
        };
        return match text.is_empty() {
            true => error.because(format!("criu failed: {why}")),
            false => error.because(format!("criu failed: {why}")).hint(format!("its log is {}", place.display())),
        };
    };
    let kept = format!("criu's log is {}", place.display());
    match cause(&text) {
        Some((cause, fix)) => {
            let hint = if fix.is_empty() { kept } else { format!("{fix}; {kept}") };
            error.because(format!("{cause}: criu says {line:?}")).hint(hint)
        }
        None => error.because(format!("criu says {line:?}")).hint(kept),
    }
}

/// The first line of an error, without its time and its place in CRIU's source.
fn first_error(log: &str) -> Option<String> {
    let line = log.lines().find(|line| is_error(line))?;
    let (_, told) = line.split_once("): ")?;
    Some(told.trim().to_owned())
}

fn is_error(line: &str) -> bool {
    line.contains("Error (") && !HARMLESS.iter().any(|words| line.contains(words))
}

fn cause(log: &str) -> Option<(&'static str, &'static str)> {
    let errors = log.lines().filter(|line| is_error(line));
    let mut known = errors.filter_map(|line| KNOWN.iter().find(|(words, ..)| line.contains(words)));
    known.next().map(|(_, cause, fix)| (*cause, *fix))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
(00.000100) Version: 4.1.1
(00.058718) Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted
(00.060000) Warn  (criu/net.c:1): something
(00.061000) Error (criu/sk-inet.c:191): inet: Connected TCP socket, consider using --tcp-established option.
(00.062000) Error (criu/cr-dump.c:1): Dump files (pid: 7) failed with -1
";

    #[test]
    fn the_first_error_that_matters_is_told_and_its_cause_in_words() {
        assert_eq!(first_error(LOG).unwrap(), "inet: Connected TCP socket, consider using --tcp-established option.");
        assert_eq!(cause(LOG), Some(("a TCP connection is established", "--tcp-established")));
        assert_eq!(first_error("(00.1) Version: 4\n"), None);
    }
}
