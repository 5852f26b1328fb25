//! docs/support.md: every property, what native does with it, and the counts of all backends.

use super::Shown;
use super::row::Row;
use harness::{Host, Outcome, Stop};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, OnceLock};

const HEAD: &str = "\
# What becomes of each property

Each property of the JSON schema of runtime-spec 1.3 is set alone on a small bundle by a trial of `e2e/schema_walk`, which
looks for the effect inside the container and in the kernel's files. Written by
`WHARF_E2E_SUPPORT_TABLE=$PWD/docs/support.md cargo test -p wharf-e2e --test e2e -- \"schema walk\"`, as root. For one
bundle, `wharf plan` says the same.

* **applied**: the effect was seen.
* **approximated**: the effect was seen, and differs as it says.
* **refused**: `plan` and `create` refuse it, by name.
* **refused by this kernel**: `create` says by name that the kernel does not take it.
* **not exercised**: accepted; the table\'s host cannot show the effect, and it says what was looked at instead.
* **ignored**: without effect here, and `plan` says why.

What the specification does not define is ignored, as it demands, and shown by `plan`. With another runtime as the backend
config.json is handed on as it is. What that one does is counted, not judged: it may accept a property and do nothing.
";

/// Results of all sections so far.
#[derive(Default)]
struct Table {
    sections: Vec<(String, Vec<(&'static str, Shown)>)>,
    /// Of each other runtime: seen, refused, without the effect, not exercised.
    peers: BTreeMap<String, [usize; 4]>,
}

static TABLE: OnceLock<Mutex<Table>> = OnceLock::new();

/// Adds a section and writes the file again, when asked to.
pub(super) fn record(host: &Host, section: &str, rows: &[Row], results: &[(&'static str, Shown)]) -> Outcome {
    let Some(path) = std::env::var_os("WHARF_E2E_SUPPORT_TABLE") else { return Ok(()) };
    let mut table = TABLE.get_or_init(Mutex::default).lock().expect("the table");
    table.sections.push((section.to_owned(), results.to_vec()));
    let peers: &[&str] = match std::env::var("WHARF_E2E_PEERS").as_deref() {
        Ok("no") => &[],
        _ => &["crun", "runc"],
    };
    for backend in peers {
        let Some(version) = version(backend) else { continue };
        let other = host.handing_on_to(backend)?;
        let counts = table.peers.entry(format!("{backend} {version}")).or_default();
        for row in rows {
            counts[attempt(&other, row)?] += 1;
        }
        other.sweep()?;
    }
    std::fs::write(path, table.text())?;
    Ok(())
}

fn version(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text.lines().next()?.rsplit(' ').next()?.to_owned())
}

/// What another runtime does with a property, as an index into its counts.
fn attempt(host: &Host, row: &Row) -> Result<usize, Stop> {
    let bundle = row.bundle(host)?;
    let looked = row.look.as_ref().map(|look| look(host, &bundle));
    let _ = host.runtime.call(&["delete", "--force", bundle.id()]);
    Ok(match looked {
        Some(Ok(())) => 0,
        Some(Err(Stop::Skipped(_))) => 3,
        Some(Err(Stop::Failed(_))) | None => {
            bundle.save()?;
            // One that does not come to an end has not refused.
            let created = host.runtime.call(&["create", "--bundle", bundle.dir_text(), bundle.id()]);
            let accepted = created.map_or(true, |said| said.code() == Some(0));
            let _ = host.runtime.call(&["delete", "--force", bundle.id()]);
            match (accepted, looked.is_some()) {
                (false, _) => 1,
                (true, true) => 2,
                (true, false) => 3,
            }
        }
    })
}

impl Table {
    fn text(&self) -> String {
        let mut text = HEAD.to_owned();
        let count = |is: fn(&Shown) -> bool| {
            self.sections.iter().flat_map(|(_, results)| results).filter(|(_, shown)| is(shown)).count()
        };
        let _ = writeln!(text, "\n## Counts\n\nOn {}. A section of another platform counts as one property.\n", here());
        text.push_str("| native | properties |\n|---|---|\n");
        type Kind = (&'static str, fn(&Shown) -> bool);
        let kinds: [Kind; 6] = [
            ("applied", |shown| matches!(shown, Shown::Seen)),
            ("approximated", |shown| matches!(shown, Shown::Nearly(_))),
            ("refused", |shown| matches!(shown, Shown::Refused(_))),
            ("refused by this kernel", |shown| matches!(shown, Shown::ByTheKernel(_))),
            ("not exercised", |shown| matches!(shown, Shown::NotExercised(_))),
            ("ignored, and told", |shown| matches!(shown, Shown::Ignored(_))),
        ];
        for (word, is) in kinds {
            let _ = writeln!(text, "| {word} | {} |", count(is));
        }
        let total = count(|_| true);
        let _ = writeln!(text, "| dropped in silence | 0 |\n| all | {total} |");
        if !self.peers.is_empty() {
            text.push_str(
                "\n| handed on to | effect seen | refused | accepted, no effect seen | accepted, not exercised |\n",
            );
            text.push_str("|---|---|---|---|---|\n");
            for (name, [seen, refused, without, not_exercised]) in &self.peers {
                let _ = writeln!(text, "| {name} | {seen} | {refused} | {without} | {not_exercised} |");
            }
        }
        for (section, results) in &self.sections {
            let _ = writeln!(text, "\n## {section}\n\n| property | native |\n|---|---|");
            for (property, shown) in results {
                let _ = writeln!(text, "| `{property}` | {} |", cell(shown));
            }
        }
        text
    }
}

fn cell(shown: &Shown) -> String {
    let words = match shown {
        Shown::Seen => "applied".to_owned(),
        Shown::Nearly(how) => format!("approximated: {how}"),
        Shown::Refused(why) => format!("refused: {why}"),
        Shown::ByTheKernel(why) => format!("refused by this kernel: {why}"),
        Shown::NotExercised(why) => format!("*not exercised*: {why}"),
        Shown::Ignored(why) => format!("ignored: {why}"),
    };
    words.replace('|', "\\|").replace('\n', " ")
}

/// The kernel and its cgroups.
fn here() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let number: Vec<&str> = release.trim().split('.').take(2).collect();
    let cgroups =
        match (Path::new("/sys/fs/cgroup/cgroup.controllers").exists(), Path::new("/sys/fs/cgroup/unified").exists()) {
            (true, _) => "v2",
            (false, true) => "v1 with v2 beside it",
            (false, false) => "v1",
        };
    format!("Linux {} with cgroup {cgroups}", number.join("."))
}
