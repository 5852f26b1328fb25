//! Every option of every verb, as another runtime is told it: handed on, done by wharf itself, or refused by name.
//!
//! The options are those of the program's own help, so that a new one without a row fails.

mod recorder;
mod table;

use recorder::{Recorder, wharf};
use std::collections::BTreeSet;
use table::{ROWS, Row, Told};

/// Options of wharf that may also stand behind a verb.
const ANYWHERE: [&str; 2] = ["timings", "trace"];

/// Options and verbs as `--help` shows them; the options before the verb have the verb "".
fn all() -> BTreeSet<(String, String)> {
    let help = |words: &[&str]| wharf(words).0;
    let options = |text: &str| -> Vec<String> {
        let lines = text.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
        let long = lines.filter_map(|line| line.split_whitespace().find_map(|word| word.strip_prefix("--")));
        let names = long.map(|word| word.split(['=', '[']).next().unwrap_or_default());
        names.filter(|name| *name != "help").map(str::to_owned).collect()
    };
    let whole = help(&["--help"]);
    let verbs = whole.split("Verbs:").nth(1).unwrap().split("\n\n").next().unwrap();
    let verbs: Vec<String> = verbs
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .filter(|verb| verb != "help")
        .collect();
    assert!(verbs.len() >= 18, "{verbs:?}");
    let mut found: BTreeSet<_> = options(&whole).into_iter().map(|option| (String::new(), option)).collect();
    for verb in verbs {
        // What may stand anywhere is one option.
        for option in options(&help(&[&verb, "--help"])).into_iter().filter(|option| !ANYWHERE.contains(&&**option)) {
            found.insert((verb.clone(), option));
        }
    }
    found
}

#[test]
fn every_option_has_exactly_one_row() {
    let rows: Vec<_> = ROWS.iter().map(|row| (row.verb.to_owned(), row.option.to_owned())).collect();
    let known: BTreeSet<_> = rows.iter().cloned().collect();
    assert_eq!(known.len(), rows.len(), "an option has two rows");
    let all = all();
    assert!(all.contains(&("exec".to_owned(), "additional-gids".to_owned())), "{all:?}");
    assert_eq!(known, all);
}

#[test]
fn each_option_reaches_a_runtime_that_has_all() {
    for row in ROWS {
        if let Some(fault) = fault(row, true) {
            panic!("{} --{}: {fault}", row.verb, row.option);
        }
    }
}

#[test]
fn an_option_that_a_runtime_lacks_is_refused_by_name() {
    for row in ROWS.iter().filter(|row| row.lacking.is_some()) {
        if let Some(fault) = fault(row, false) {
            panic!("{} --{}: {fault}", row.verb, row.option);
        }
    }
}

/// What is wrong with how a runtime is told of it.
fn fault(row: &Row, has_all: bool) -> Option<String> {
    let (before, verb) = match row.verb {
        "" => (row.typed, "create"),
        verb => ("", verb),
    };
    let of_verb = if row.verb.is_empty() { "" } else { row.typed };
    if matches!(row.told, Told::Apart) {
        return None;
    }
    let recorder = Recorder::new(has_all);
    let (said, code, told) = recorder.perform(before, verb, of_verb);
    let refused = if has_all { None } else { row.lacking };
    if let Some(words) = refused.or(if let Told::Refused(words) = row.told { Some(words) } else { None }) {
        let silent = told.iter().all(|line| line.starts_with("state") || line.contains(" state "));
        return (code == 0 || !said.contains(words) || !silent)
            .then(|| format!("it ended with {code}: {said}{told:?}"));
    }
    let (_, _, plain) = Recorder::new(true).perform("", verb, "");
    let expected: Vec<String> = match row.told {
        Told::Words(words) => {
            let words = words.to_owned();
            let without: Vec<String> = told.iter().map(|line| line.replacen(&format!(" {words}"), "", 1)).collect();
            if without == told {
                return Some(format!("{words:?} is not in {told:?}; {said}"));
            }
            return (without != plain || code != 0).then(|| format!("{told:?} differs from {plain:?}; {said}"));
        }
        Told::Object(part) => {
            let line = told.last().cloned().unwrap_or_default();
            let whole = line.contains("exec --process FD --detach c {") && line.contains(part);
            return (!whole).then(|| format!("{told:?}; {said}"));
        }
        Told::Instead(words) => vec![words.to_owned()],
        _ => plain,
    };
    (told != expected || code != 0).then(|| format!("{told:?} instead of {expected:?}; {said}"))
}
