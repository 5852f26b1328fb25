//! What was seen with each runtime, side by side, as a table of the documents: `WHARF_E2E_ENGINES_TABLE=DIR` writes
//! DIR/engines-NAME.md.

use super::{Case, Seen};
use harness::Host;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, OnceLock};

/// One case with what was seen of it.
pub(crate) struct Row {
    name: &'static str,
    own: Option<Seen>,
    cells: Vec<String>,
    notes: Vec<String>,
    reasons: Vec<(&'static str, Option<&'static str>)>,
}

/// By engine.
static ROWS: OnceLock<Mutex<BTreeMap<String, Vec<String>>>> = OnceLock::new();

impl Row {
    pub(crate) fn new(case: &Case) -> Self {
        let reasons = ["crun", "runc"].map(|peer| (peer, case.reason(peer))).to_vec();
        Row { name: case.name, own: None, cells: Vec::new(), notes: Vec::new(), reasons }
    }

    pub(crate) fn saw(&mut self, host: &Host, runtime: &str, seen: &Seen) {
        let words = plain(host, &seen.words);
        let words = if words.is_empty() { words } else { format!(" `{words}`") };
        let same = self.own.as_ref().is_some_and(|own| own.facts == seen.facts);
        let facts = if same { "same".to_owned() } else { plain(host, &seen.facts).replace('\n', "<br>") };
        if self.own.is_none() {
            self.own = Some(seen.clone());
        } else if !same && let Some((_, Some(reason))) = self.reasons.iter().find(|(peer, _)| *peer == runtime) {
            self.notes.push(format!("{runtime}: {reason}"));
        }
        self.cells.push(format!("{facts}{words}"));
    }

    pub(crate) fn skipped(&mut self, runtime: &str, why: &str) {
        self.cells.push("–".into());
        self.notes.push(format!("{runtime}: {why}"));
    }
}

/// Adds the row and writes the table as it is so far.
pub(crate) fn record(engine: &str, row: Row) {
    let Some(dir) = std::env::var_os("WHARF_E2E_ENGINES_TABLE") else { return };
    let escaped: Vec<String> = row.cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    let mut all = ROWS.get_or_init(Mutex::default).lock().expect("the rows");
    let rows = all.entry(engine.to_owned()).or_default();
    rows.push(format!("| {} | {} | {} |", row.name, escaped.join(" | "), row.notes.join("; ")));
    let place = Path::new(&dir).join(format!("engines-{engine}.md"));
    let head = std::fs::read_to_string(&place).unwrap_or_default();
    let head = head.split_once("\n|").map_or(head.as_str(), |(head, _)| head).trim_end().to_owned();
    let text = format!(
        "{head}\n\n| case | wharf | crun | runc | why not the same |\n|---|---|---|---|---|\n{}\n",
        rows.join("\n")
    );
    let _ = std::fs::write(place, text);
}

/// A text without what differs from run to run.
fn plain(host: &Host, text: &str) -> String {
    let programs = host.runtime.program().parent().map(|dir| dir.display().to_string()).unwrap_or_default();
    let text = text
        .replace(&programs, "DIR")
        .replace(&host.dir().display().to_string(), "DIR")
        .replace(host.tag(), "TAG")
        .replace('`', "'");
    let text = without_times(&text);
    // Ids of containers are 64 hexadecimal digits.
    let mut out = String::new();
    let mut word = String::new();
    for letter in text.chars().chain([' ']) {
        if letter.is_ascii_hexdigit() {
            word.push(letter);
            continue;
        }
        out.push_str(if word.len() == 64 { "ID" } else { &word });
        word.clear();
        out.push(letter);
    }
    out.trim_end().to_owned()
}

/// crun logs to stderr when its program cannot be executed, with the time of day.
fn without_times(text: &str) -> String {
    let mut parts = text.split("\"time\":\"");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| {
        let rest = part.split_once('"').map_or("", |(_, rest)| rest);
        format!("{all}\"time\":\"TIME\"{rest}")
    })
}
