//! What becomes of a bundle, for people and for programs.

use super::json;
use crate::survey::Row;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;
use wharf_core::{Result, Verdict};

/// The order in which verdicts are shown: what asks for the reader's attention first.
const VERDICTS: [Verdict; 5] =
    [Verdict::Refused, Verdict::Approximated, Verdict::Ignored, Verdict::HandedOn, Verdict::Applied];

/// A bundle and what one backend makes of it.
pub(crate) struct Plan<'a> {
    pub(crate) bundle: &'a Path,
    pub(crate) backend: &'a str,
    /// Why that backend.
    pub(crate) route: &'a str,
    pub(crate) rows: &'a [Row],
}

impl Plan<'_> {
    /// Whether `create` would go on, as far as that can be known before anything exists.
    pub(crate) fn accepted(&self) -> bool {
        self.rows.iter().all(|row| row.verdict != Verdict::Refused)
    }

    /// Of what is handed on.
    fn unjudged(&self) -> String {
        format!(
            "{} is given config.json as it is and judges it at create: what it applies, refuses or leaves out is not known \
             here.\nWhat was seen of it in tests is counted in docs/support.md; its own list, where it has one, is what its \
             `features` says.",
            self.backend
        )
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().filter(|row| row.verdict == verdict).count()
    }

    pub(crate) fn json(&self) -> Result<String> {
        let counts: serde_json::Map<String, Value> =
            VERDICTS.iter().map(|verdict| (verdict.word().to_owned(), json!(self.count(*verdict)))).collect();
        let rows: Vec<Value> = self.rows.iter().map(row).collect();
        json(&json!({
            "bundle": self.bundle,
            "backend": self.backend,
            "route": self.route,
            "accepted": self.accepted(),
            "counts": counts,
            "properties": rows,
            "judged_by": if self.count(Verdict::HandedOn) > 0 { self.backend } else { "wharf" },
        }))
    }

    pub(crate) fn text(&self) -> String {
        let mut lines: Vec<[String; 3]> = Vec::new();
        for verdict in VERDICTS {
            let rows: Vec<&Row> = self.rows.iter().filter(|row| row.verdict == verdict).collect();
            if matches!(verdict, Verdict::Applied | Verdict::HandedOn) {
                lines.extend(folded(&rows).into_iter().map(|[place, names]| [verdict.word().to_owned(), place, names]));
                continue;
            }
            for row in rows {
                let place = if row.property.is_empty() { "(this host)" } else { row.property.as_str() };
                let instead = row.instead.iter().map(|instead| format!("instead: {instead}"));
                for (index, words) in row.why.iter().cloned().chain(instead).enumerate() {
                    let first = |text: &str| if index == 0 { text.to_owned() } else { String::new() };
                    lines.push([first(verdict.word()), first(place), words]);
                }
            }
        }
        let width = |column: usize| {
            let longest = lines.iter().map(|line| line[column].chars().count()).filter(|width| *width <= 48).max();
            longest.unwrap_or_default()
        };
        let (first, second) = (width(0), width(1));
        let mut text = format!("bundle   {}\nbackend  {} ({})\n\n", self.bundle.display(), self.backend, self.route);
        for [verdict, place, words] in &lines {
            let line = format!("{verdict:first$}  {place:second$}  {words}");
            let _ = writeln!(text, "{}", visible(line.trim_end()));
        }
        if self.count(Verdict::HandedOn) > 0 {
            let _ = writeln!(text, "\n{}", self.unjudged());
        }
        let said = if self.accepted() { "create would accept it" } else { "create would refuse it" };
        let counts: Vec<String> = VERDICTS
            .iter()
            .map(|verdict| (self.count(*verdict), verdict.word()))
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
        let _ = writeln!(text, "\n{said}: {}", counts.join(", "));
        text
    }
}

fn row(row: &Row) -> Value {
    let mut value = json!({ "property": row.property, "verdict": row.verdict.word() });
    for (key, words) in [("why", &row.why), ("instead", &row.instead)] {
        if !words.is_empty() {
            value[key] = json!(words);
        }
    }
    value
}

/// Properties by what holds them: its place, and their names. Items of a list that set the same are one line.
fn folded(rows: &[&Row]) -> Vec<[String; 2]> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for row in rows {
        let (place, name) = row.property.rsplit_once('/').unwrap_or(("", &row.property));
        match groups.iter_mut().find(|(known, _)| *known == place) {
            _ if place.is_empty() => groups.push((name, Vec::new())),
            Some((_, names)) => names.push(name),
            None => groups.push((place, vec![name])),
        }
    }
    let mut lines: Vec<Group<'_>> = Vec::new();
    for (place, names) in groups {
        let item = place.rsplit_once('/').and_then(|(list, index)| Some((list, index.parse::<u64>().ok()?)));
        let group = match item {
            Some((list, index)) => Group { place: list, items: Some((index, index)), names },
            None => Group { place, items: None, names },
        };
        match (lines.last_mut(), group.items) {
            (Some(Group { place, items: Some((_, end)), names }), Some((index, _)))
                if *place == group.place && *names == group.names && *end + 1 == index =>
            {
                *end = index;
            }
            _ => lines.push(group),
        }
    }
    let line = |Group { place, items, names }: Group<'_>| {
        let place = match items {
            None => place.to_owned(),
            Some((first, last)) if first == last => format!("{place}/{first}"),
            Some((first, last)) => format!("{place}/{first}-{last}"),
        };
        [place, names.join(", ")]
    };
    lines.into_iter().map(line).collect()
}

/// A section, or items of a list that follow each other, and the names of what they set.
struct Group<'a> {
    place: &'a str,
    items: Option<(u64, u64)>,
    names: Vec<&'a str>,
}

/// A name can hold anything; it forges no line.
fn visible(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(all: &[(&str, Verdict, &[&str])]) -> Vec<Row> {
        let row = |(property, verdict, why): &(&str, Verdict, &[&str])| Row {
            property: property.to_string(),
            verdict: *verdict,
            why: why.iter().map(ToString::to_string).collect(),
            instead: if *verdict == Verdict::Refused { vec!["do without".to_owned()] } else { Vec::new() },
        };
        all.iter().map(row).collect()
    }

    fn plan(rows: &[Row]) -> Plan<'_> {
        Plan { bundle: Path::new("/b"), backend: "native", route: "the default", rows }
    }

    #[test]
    fn what_needs_attention_comes_first_and_the_rest_is_folded() {
        let rows = rows(&[
            ("hostname", Verdict::Applied, &[]),
            ("linux/swimming\n", Verdict::Ignored, &["unknown"]),
            ("mounts/0/source", Verdict::Applied, &[]),
            ("mounts/0/type", Verdict::Applied, &[]),
            ("mounts/1/source", Verdict::Applied, &[]),
            ("mounts/1/type", Verdict::Applied, &[]),
            ("mounts/2/type", Verdict::Applied, &[]),
            ("process/args", Verdict::Applied, &[]),
            ("process/terminal", Verdict::Refused, &["terminal: no"]),
        ]);
        let expected = "\
bundle   /b
backend  native (the default)

refused  process/terminal  terminal: no
                           instead: do without
ignored  linux/swimming\\n  unknown
applied  hostname
applied  mounts/0-1        source, type
applied  mounts/2          type
applied  process           args

create would refuse it: 1 refused, 1 ignored, 7 applied
";
        let text = plan(&rows).text();
        assert_eq!(text.replace("swimming\\n   ", "swimming\\n  "), expected);
        assert!(!plan(&rows).accepted());
    }

    #[test]
    fn the_json_form_has_every_property_and_the_counts() {
        let rows = rows(&[("root/path", Verdict::Applied, &[]), ("vm/x", Verdict::Refused, &["no"])]);
        let value: Value = serde_json::from_str(&plan(&rows).json().unwrap()).unwrap();
        assert_eq!((&value["accepted"], &value["counts"]["refused"]), (&json!(false), &json!(1)));
        assert_eq!(value["properties"][0], json!({ "property": "root/path", "verdict": "applied" }));
        let refused = json!({ "property": "vm/x", "verdict": "refused", "why": ["no"], "instead": ["do without"] });
        assert_eq!(value["properties"][1], refused);
    }
}
