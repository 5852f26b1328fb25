//! Names and numbers of signals, as kill(1) and other runtimes take them.

use wharf_core::{Error, Kind, Result};

/// signal(7), numbers of x86 and ARM.
const NAMES: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The kernel's first real-time signal is 32; C libraries keep two for themselves, and engines count from 34.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

pub(super) const TERM: i32 = 15;

/// `KILL`, `SIGKILL`, `sigkill`, `9`, `SIGRTMIN+3`, `RTMAX-1`; 0 asks only whether the process is there.
pub(super) fn parse(text: &str) -> Result<i32> {
    number(text).ok_or_else(|| {
        let error = Error::new(Kind::Usage, format!("unknown signal {text:?}"));
        match nearest(&bare(text), NAMES.iter().map(|(name, _)| *name)) {
            Some(name) => error.hint(format!("did you mean SIG{name}?")),
            None => error.hint(format!("a name as SIGTERM or a number from 0 to {RTMAX}")),
        }
    })
}

fn bare(text: &str) -> String {
    let upper = text.to_ascii_uppercase();
    upper.strip_prefix("SIG").map(str::to_owned).unwrap_or(upper)
}

fn number(text: &str) -> Option<i32> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().filter(|number| *number <= RTMAX);
    }
    let name = bare(text);
    let offset = |rest: &str, sign: char| -> Option<i32> {
        if rest.is_empty() {
            return Some(0);
        }
        let digits = rest.strip_prefix(sign)?;
        if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
    };
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return offset(rest, '+').and_then(|n| RTMIN.checked_add(n)).filter(|n| *n <= RTMAX);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return offset(rest, '-').and_then(|n| RTMAX.checked_sub(n)).filter(|n| *n >= RTMIN);
    }
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// The candidate that fewest edits turn into `word`, at most a third of its letters and at least one.
fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    candidates.map(|name| (edits(word, name), name)).filter(|(edits, _)| *edits <= limit).min().map(|(_, name)| name)
}

/// How many letters must be inserted, dropped or changed to turn one word into the other.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_any_case_with_and_without_sig_and_numbers_are_signals() {
        let table = [
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigkill", 9),
            ("Term", 15),
            ("0", 0),
            ("9", 9),
            ("64", 64),
            ("CLD", 17),
            ("SIGRTMIN", 34),
            ("rtmin+3", 37),
            ("SIGRTMAX-1", 63),
            ("RTMIN+30", 64),
        ];
        for (text, number) in table {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
    }

    #[test]
    fn a_wrong_signal_is_refused_with_a_suggestion() {
        for text in ["", "65", "-1", "SIG", "RTMIN+31", "RTMIN-1", "RTMAX+1", "RTMIN+", "99999999999", "9x"] {
            assert_eq!(parse(text).unwrap_err().kind(), Kind::Usage, "{text}");
        }
        assert_eq!(parse("SIGKIL").unwrap_err().to_string(), "unknown signal \"SIGKIL\" (did you mean SIGKILL?)");
        assert_eq!(
            parse("trem").unwrap_err().to_string(),
            "unknown signal \"trem\" (a name as SIGTERM or a number from 0 to 64)"
        );
    }
}
