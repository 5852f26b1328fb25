//! The walk over runtime-spec's JSON schema: each property is set alone, and has its effect or is refused by name.
//!
//! `plan` says what becomes of the property. Where it says that it is applied, the effect must be seen inside the
//! container or in the kernel's files; where it says that it is refused, `create` must fail and name the place. A
//! property of the schema without a row here fails the walk, and so does a row without a property: nothing can be
//! dropped in silence.
//!
//! | environment | meaning |
//! |---|---|
//! | `WHARF_E2E_FULL=1` | shows of each row that it fails where the property is not set |
//! | `WHARF_E2E_SUPPORT_TABLE=FILE` | writes docs/support.md; without `WHARF_E2E_PEERS=no` with the counts of the installed peers |

mod hooks;
mod mounts;
mod platforms;
mod process;
mod resources;
mod row;
mod schema;
mod seccomp;
mod surroundings;
mod table;

use crate::plan::{plan, verdict, why};
use harness::{Feature, Host, Outcome, Stop, ensure, json};
use row::Row;
use std::collections::BTreeSet;

/// What a row comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shown {
    /// The effect was seen.
    Seen,
    /// It was seen, and `plan` says how it differs.
    Nearly(String),
    /// Refused by name, by `plan` and by `create`.
    Refused(String),
    /// Accepted by `plan`, refused by this kernel, by name.
    ByTheKernel(String),
    /// Accepted; this host cannot show the effect.
    NotExercised(String),
    /// Without effect, as `plan` says.
    Ignored(String),
}

type Section = (&'static str, fn() -> Vec<Row>);

const SECTIONS: [Section; 7] = [
    ("process", process::rows),
    ("root, mounts and names", mounts::rows),
    ("hooks", hooks::rows),
    ("linux", surroundings::rows),
    ("linux/resources", resources::rows),
    ("linux/seccomp", seccomp::rows),
    ("other platforms", platforms::rows),
];

pub(crate) fn trials() -> Feature {
    let feature = Feature::new("schema walk").trial("every property of the schema has exactly one row", |_| complete());
    let feature = feature.trial("each word that the schema lists for a value is understood", words);
    SECTIONS.into_iter().fold(feature, |feature, (name, rows)| {
        let sentence = format!("each property of {name} has its effect, or is refused by name");
        feature.trial(&sentence, move |host| walk(host, name, rows()))
    })
}

fn complete() -> Outcome {
    let rows: Vec<Row> = SECTIONS.iter().flat_map(|(_, rows)| rows()).collect();
    let of_rows: BTreeSet<&str> = rows.iter().map(|row| row.property).collect();
    ensure!(of_rows.len() == rows.len(), "a property has two rows");
    let properties = schema::properties();
    let is_of = |property: &str, row: &str| property == row || property.starts_with(&format!("{row}/"));
    let without: Vec<&String> =
        properties.iter().filter(|property| !of_rows.iter().any(|row| is_of(property, row))).collect();
    ensure!(without.is_empty(), "properties without a row: {without:?}");
    let unknown: Vec<&&str> =
        of_rows.iter().filter(|row| !properties.iter().any(|property| is_of(property, row))).collect();
    ensure!(unknown.is_empty(), "rows without a property of the schema: {unknown:?}");
    Ok(())
}

/// Applied or refused for what it means, but read.
fn words(host: &Host) -> Outcome {
    host.only_wharf("plan is a verb of wharf")?;
    let rows: Vec<Row> = SECTIONS.iter().flat_map(|(_, rows)| rows()).collect();
    let mut failed = Vec::new();
    for (path, words) in schema::enumerations() {
        let list = path.strip_suffix("/*");
        // Sections of other platforms are not read that far.
        let Some(row) = rows.iter().find(|row| row.property == list.unwrap_or(&path)) else { continue };
        for word in words {
            let value = if list.is_some() { json!([word]) } else { json!(word) };
            let bundle = row.bundle(host)?.set(&format!("/{}", row.at), value);
            if let Err(Stop::Failed(why) | Stop::Skipped(why)) = plan(host, &bundle, &[]) {
                failed.push(format!("{path} {word}: {why}"));
            }
        }
    }
    ensure!(failed.is_empty(), "\n  {}", failed.join("\n  "));
    Ok(())
}

fn walk(host: &Host, section: &str, rows: Vec<Row>) -> Outcome {
    host.only_wharf("plan is a verb of wharf")?;
    let mut failed = Vec::new();
    let mut results = Vec::new();
    for row in &rows {
        match judge(host, row) {
            Ok(shown) => results.push((row.property, shown)),
            Err(Stop::Failed(why) | Stop::Skipped(why)) => failed.push(format!("{}: {why}", row.property)),
        }
    }
    table::record(host, section, &rows, &results)?;
    ensure!(
        failed.is_empty(),
        "{} of {} properties:\n  {}",
        failed.len(),
        failed.len() + results.len(),
        failed.join("\n  ")
    );
    Ok(())
}

fn judge(host: &Host, row: &Row) -> Result<Shown, Stop> {
    let bundle = row.bundle(host)?;
    let (_, plan) = plan(host, &bundle, &[])?;
    let (said, reason) = (verdict(&plan, &row.at), why(&plan, &row.at));
    match (said, &row.look) {
        ("applied" | "approximated", Some(look)) => match look(host, &bundle) {
            Ok(()) if std::env::var_os("WHARF_E2E_FULL").is_some() => {
                let control = look(host, &row.control(host)?);
                ensure!(control.is_err(), "the effect is there where the property is not set");
                Ok(seen(said, reason))
            }
            Ok(()) => Ok(seen(said, reason)),
            Err(Stop::Skipped(why)) => Ok(Shown::NotExercised(why)),
            Err(Stop::Failed(why)) => match refused_by(host, row, &bundle)? {
                Some(words) => Ok(Shown::ByTheKernel(words)),
                None => Err(Stop::failed(format!("plan says {said}: {why}"))),
            },
        },
        ("refused", _) => match refused_by(host, row, &bundle)? {
            Some(_) => Ok(Shown::Refused(reason)),
            None => Err(Stop::failed(format!("plan says refused ({reason}), and create does not name {}", row.at))),
        },
        ("ignored", None) => {
            host.create(&bundle)?.delete_force()?;
            Ok(Shown::Ignored(reason))
        }
        (said, _) => Err(Stop::failed(format!("plan says {said:?} ({reason}), which this row does not expect"))),
    }
}

fn seen(said: &str, reason: String) -> Shown {
    if said == "approximated" { Shown::Nearly(reason) } else { Shown::Seen }
}

/// What `create` says where it fails because of the row's property: it names its place, or the section that it is in.
fn refused_by(host: &Host, row: &Row, bundle: &harness::Bundle) -> Result<Option<String>, Stop> {
    bundle.save()?;
    let said = host.runtime.call(&["create", "--bundle", bundle.dir_text(), bundle.id()])?;
    if said.code() == Some(0) {
        host.runtime.must(&["delete", "--force", bundle.id()])?;
        return Ok(None);
    }
    let line = said.last_line().trim_start_matches("wharf: ");
    // Of an item of a list the message may name another part.
    let numbered = row.at.split('/').scan(0, |end, part| {
        *end += part.len() + 1;
        Some((*end - 1, part.parse::<u32>().is_ok()))
    });
    let item = numbered.filter(|(_, is_index)| *is_index).map(|(end, _)| &row.at[..end]).next().unwrap_or(&row.at);
    let within = |inner: &str, outer: &str| inner == outer || inner.starts_with(&format!("{outer}/"));
    let places = line.match_indices('[').filter_map(|(at, _)| line[at + 1..].split(']').next());
    let named = places.filter(|place| !place.is_empty()).any(|place| within(place, item) || within(&row.at, place));
    Ok(named.then(|| line.replace(bundle.id(), "ID")))
}
