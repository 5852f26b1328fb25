//! What becomes of each property of a bundle, found by asking a backend's draft again and again.
//!
//! A draft ends at the first thing that it refuses. So what it refused is cut out of config.json and the rest is drafted
//! again, until nothing more is refused: the judgment is the one of `create`, and there is no other list of what it
//! would say.

mod config;

use config::{Cuts, Path, show};
use serde_json::Value;
use std::cmp::Ordering;
use wharf_core::{Bundle, Error, Place, Remark, Result, Verdict, place};

/// One property that the bundle sets, or that is missing in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// JSON pointer without its first slash; empty for what has no place in config.json.
    pub(crate) property: String,
    pub(crate) verdict: Verdict,
    /// Why it is not simply applied.
    pub(crate) why: Vec<String>,
    /// What to do instead.
    pub(crate) instead: Vec<String>,
}

/// Every property of the bundle, drafted by `draft` for a caller with these ids. Where `judges` is false the draft hands
/// config.json on as it is.
pub(crate) fn survey(
    bundle: &Bundle,
    ids: (u32, u32),
    judges: bool,
    draft: impl Fn(&Bundle) -> Result<Vec<Remark>>,
) -> Result<Vec<Row>> {
    let config: Value =
        serde_json::from_slice(&bundle.raw).map_err(|error| Error::invalid("read config.json").because(error))?;
    let mut rows = Vec::new();
    list(&config, judges, &mut Vec::new(), &mut rows);
    let (errors, remarks) = ask(bundle, &config, ids, draft);
    for remark in &remarks {
        note(&mut rows, remark);
    }
    for error in &errors {
        refuse(&mut rows, error);
    }
    rows.sort_by(|one, other| by_place(&one.property, &other.property));
    Ok(rows)
}

/// Numbers in the order of numbers.
fn by_place(one: &str, other: &str) -> Ordering {
    let key = |part: &str| (part.parse::<u64>().unwrap_or(u64::MAX), part.to_owned());
    one.split('/').map(key).cmp(other.split('/').map(key))
}

fn list(value: &Value, judges: bool, path: &mut Path, rows: &mut Vec<Row>) {
    let found = if path.is_empty() { Place::Section } else { place(path.iter().map(String::as_str)) };
    let (verdict, why) = match (found, value) {
        // As if it were not there.
        (_, Value::Null) => return,
        (Place::Section, Value::Object(map)) => {
            for (key, value) in map {
                path.push(key.clone());
                list(value, judges, path, rows);
                path.pop();
            }
            return;
        }
        (Place::Section, Value::Array(items)) => {
            for (index, value) in items.iter().enumerate() {
                path.push(index.to_string());
                list(value, judges, path, rows);
                path.pop();
            }
            return;
        }
        _ if !judges => (Verdict::HandedOn, vec![]),
        (Place::Unknown, _) => (Verdict::Ignored, vec!["runtime-spec 1.3 knows no such property".to_owned()]),
        _ => (Verdict::Applied, vec![]),
    };
    rows.push(Row { property: show(path), verdict, why, instead: Vec::new() });
}

/// Everything that the draft refuses, and what it remarks on the rest.
fn ask(
    original: &Bundle,
    config: &Value,
    ids: (u32, u32),
    draft: impl Fn(&Bundle) -> Result<Vec<Remark>>,
) -> (Vec<Error>, Vec<Remark>) {
    let mut errors: Vec<Error> = Vec::new();
    let mut cuts = Cuts::new(config, ids);
    // What is left of it.
    let mut rest: Option<Bundle> = None;
    loop {
        let error = match draft(rest.as_ref().unwrap_or(original)) {
            Ok(remarks) => return (errors, remarks.into_iter().map(|remark| cuts.original(remark)).collect()),
            Err(error) => error,
        };
        let Some(at) = error.pointer().map(|pointer| cuts.place(pointer)) else {
            errors.push(error);
            return (errors, Vec::new());
        };
        // What is missing only because it was cut out is not the bundle's fault.
        if !cuts.is_of_our_making(&at) {
            errors.push(error.moved_to(show(&at)));
        }
        rest = loop {
            if !cuts.cut(&at) {
                return (errors, Vec::new());
            }
            // A part that its section cannot be without takes the section with it.
            match original.with_config(&cuts.apply()) {
                Ok(bundle) => break Some(bundle),
                Err(_) => continue,
            }
        };
    }
}

/// The rows of a place: the property that it is part of, or all that it holds.
fn concerned<'r>(rows: &'r mut [Row], pointer: &str) -> Vec<&'r mut Row> {
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) && !outer.is_empty()
    };
    rows.iter_mut().filter(|row| within(pointer, &row.property) || within(&row.property, pointer)).collect()
}

fn note(rows: &mut [Row], remark: &Remark) {
    for row in concerned(rows, &remark.pointer) {
        // Of a property in parts, one part without effect leaves the others.
        let whole = row.property == remark.pointer || row.property.starts_with(&format!("{}/", remark.pointer));
        row.verdict = row.verdict.max(if whole { remark.verdict } else { Verdict::Approximated });
        row.why.push(if whole { remark.text.clone() } else { remark.to_string() });
    }
}

fn refuse(rows: &mut Vec<Row>, error: &Error) {
    let at = error.pointer().unwrap_or_default();
    let advice = error.advice().map(str::to_owned);
    let found = concerned(rows, at);
    if found.is_empty() {
        let (why, instead) = (vec![error.reason()], advice.into_iter().collect());
        rows.push(Row { property: at.to_owned(), verdict: Verdict::Refused, why, instead });
        return;
    }
    for row in found {
        if row.verdict != Verdict::Refused {
            row.why.clear();
        }
        row.verdict = Verdict::Refused;
        let reason = error.reason();
        let deeper = row.property.len() < at.len();
        row.why.push(if deeper { format!("{reason} [{at}]") } else { reason });
        row.instead.extend(advice.clone());
    }
}

#[cfg(test)]
mod tests;
