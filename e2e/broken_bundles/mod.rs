//! Broken bundles: each gives exactly one clear error that names the object and the place, and leaves nothing.
//!
//! | environment | meaning |
//! |---|---|
//! | `WHARF_E2E_BROKEN_TABLE=FILE` | tries the installed peers too and writes docs/broken-bundles.md |

mod containers;
mod form;
mod resources;

use crate::attack::arena::{Runtime, capture};
use harness::{Bundle, Feature, Host, Outcome, Stop, Value, ensure};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// What a runtime must do with a bundle.
enum Expect {
    /// Refuse: the message has all these words, in any case, and points to this place or into it (none for what has no
    /// place in config.json).
    Refused(&'static [&'static str], &'static str),
    /// Run, and print this.
    Runs(&'static str),
}

/// One row of the table.
struct Broken {
    name: &'static str,
    expect: Expect,
    make: fn(Case) -> Case,
}

/// A bundle about to be broken.
struct Case {
    bundle: Bundle,
    /// Replaces config.json, byte by byte.
    raw: Option<Vec<u8>>,
    id: Option<String>,
    dir: Option<PathBuf>,
    /// A container of the same id exists.
    taken: bool,
}

const SECONDS: u64 = 10;

pub(crate) fn trials() -> Feature {
    rows()
        .into_iter()
        .fold(Feature::new("broken bundle"), |feature, row| feature.trial(row.name, move |host| judge(&row, host)))
}

fn rows() -> Vec<Broken> {
    let mut rows = form::rows();
    rows.extend(containers::rows());
    rows.extend(resources::rows());
    rows
}

impl Case {
    fn new(host: &Host) -> Result<Self, Stop> {
        let bundle = host.bundle()?.args(&["/bin/attacker", "say", "it ran"]);
        fs::copy(host.payload().with_file_name("attacker"), bundle.rootfs().join("bin/attacker"))?;
        Ok(Case { bundle, raw: None, id: None, dir: None, taken: false })
    }

    fn set(mut self, pointer: &str, value: Value) -> Self {
        self.bundle = self.bundle.set(pointer, value);
        self
    }

    fn remove(mut self, pointer: &str) -> Self {
        self.bundle = self.bundle.remove(pointer);
        self
    }

    fn push(mut self, pointer: &str, value: Value) -> Self {
        self.bundle = self.bundle.push(pointer, value);
        self
    }

    fn without_namespace(mut self, kind: &str) -> Self {
        self.bundle = self.bundle.without_namespace(kind);
        self
    }

    fn raw(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.raw = Some(text.into());
        self
    }

    /// Changes the text of the good config.json.
    fn text(self, change: fn(String) -> String) -> Self {
        let text = self.bundle.config.to_string();
        self.raw(change(text))
    }

    fn id(mut self, id: &str) -> Self {
        self.id = Some(id.to_owned());
        self
    }

    fn file(self, path: &str, text: &str, mode: u32) -> Self {
        let path = self.bundle.rootfs().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory of the image");
        fs::write(&path, text).expect("a file of the image");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
        self
    }

    /// `run`, by whatever runtime these words call.
    fn run(&self, words: &[String]) -> crate::attack::arena::Ran {
        self.call(words, &["run"])
    }

    fn call(&self, words: &[String], verb: &[&str]) -> crate::attack::arena::Ran {
        let dir = self.dir.clone().unwrap_or_else(|| self.bundle.dir().to_owned());
        let id = self.id.clone().unwrap_or_else(|| self.bundle.id().to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(verb).arg("--bundle").arg(dir).arg("--").arg(id);
        capture(command, Duration::from_secs(SECONDS))
    }

    fn save(&self) -> Outcome {
        self.bundle.save()?;
        if let Some(raw) = &self.raw {
            fs::write(self.bundle.dir().join("config.json"), raw)?;
        }
        Ok(())
    }
}

fn judge(row: &Broken, host: &Host) -> Outcome {
    let case = prepare(row, host)?;
    let log = host.dir().join("log");
    let words = [
        &host.runtime.program().display().to_string(),
        "--root",
        &host.root().display().to_string(),
        "--log",
        &log.display().to_string(),
        "--log-format",
        "json",
    ]
    .map(String::from);
    if case.taken {
        let first = host.create(&case.bundle)?;
        let ran = case.run(&words);
        let status = first.status()?;
        ensure!(status == "created", "the first container became {status}");
        first.delete_force()?;
        return check(row, host, &case, ran, &log);
    }
    let ran = case.run(&words);
    foreseen(row, host, &case, &ran)?;
    check(row, host, &case, ran, &log)
}

/// `plan` refuses nothing that runs, and what it refuses is refused in its words.
fn foreseen(row: &Broken, host: &Host, case: &Case, ran: &crate::attack::arena::Ran) -> Outcome {
    if host.runtime.name() != "wharf" {
        return Ok(());
    }
    let words = [host.runtime.program().display().to_string()];
    let said = case.call(&words, &["plan", "--format", "json"]);
    ensure!(!said.timed_out && matches!(said.code, Some(0..=2)), "plan: {:?} {}", said.code, said.err);
    if matches!(row.expect, Expect::Runs(_)) {
        ensure!(said.code == Some(0), "it runs, and plan says {} {}", said.out, said.err);
        return Ok(());
    }
    if said.out.is_empty() {
        ensure!(said.err.trim_end() == ran.err.trim_end(), "plan says {}, create {}", said.err, ran.err);
        return Ok(());
    }
    let plan: Value = serde_json::from_str(&said.out)?;
    let refused = plan["properties"].as_array().into_iter().flatten().filter(|row| row["verdict"] == "refused");
    let reasons: Vec<&str> =
        refused.flat_map(|row| row["why"].as_array()).flatten().filter_map(Value::as_str).collect();
    let reasons = reasons.iter().map(|reason| reason.rsplit_once(" [").map_or(*reason, |(words, _)| words));
    let mut reasons = reasons.map(|reason| reason.replace('\0', "\\u{0}")).peekable();
    // None where only the attempt shows it: what is in the root file system, and what the kernel alone can judge.
    let foreseen = reasons.peek().is_none() || reasons.any(|reason| ran.err.contains(&reason));
    ensure!(foreseen, "plan says {}, create {}", said.out, ran.err);
    Ok(())
}

fn prepare(row: &Broken, host: &Host) -> Result<Case, Stop> {
    // Some directories must be taken away before they are missed: the order is good bundle, saved, then broken.
    let case = Case::new(host)?;
    case.save()?;
    let case = (row.make)(case);
    if case.bundle.dir().join("config.json").is_file() {
        case.save()?;
    }
    Ok(case)
}

fn check(row: &Broken, host: &Host, case: &Case, ran: crate::attack::arena::Ran, log: &std::path::Path) -> Outcome {
    let said = ran.err.trim_end().to_owned();
    if std::env::var_os("WHARF_E2E_BROKEN_TABLE").is_some() {
        record(row, host, case, &ran);
    }
    ensure!(!ran.timed_out, "no answer after {SECONDS} s; stderr {said:?}");
    let Expect::Refused(names, place) = row.expect else {
        let Expect::Runs(text) = row.expect else { unreachable!("two kinds") };
        ensure!(ran.code == Some(0) && ran.out.contains(text), "it should run: code {:?}, stderr {said:?}", ran.code);
        ensure!(ran.err.is_empty(), "it ran, and said {said:?}");
        return Ok(());
    };
    ensure!(ran.code.is_some_and(|code| code != 0), "code {:?}, stdout {:?}, stderr {said:?}", ran.code, ran.out);
    ensure!(!ran.out.contains("it ran"), "the payload ran all the same; stderr {said:?}");
    ensure!(!said.contains("panicked"), "it panicked: {said}");
    ensure!(
        said.len() < 2000,
        "the message is {} bytes long: {}…",
        said.len(),
        said.chars().take(200).collect::<String>()
    );
    ensure!(said.lines().count() == 1, "one line was expected on stderr: {said:?}");
    let small = said.to_lowercase();
    for name in names {
        ensure!(small.contains(&name.to_lowercase()), "the message does not name {name:?}: {said}");
    }
    let pointed = place.is_empty() || said.contains(&format!("[{place}"));
    ensure!(pointed, "the message does not point to {place}: {said}");
    if host.runtime.name() == "wharf" {
        let text = fs::read_to_string(log).unwrap_or_default();
        let objects: Vec<_> = serde_json::Deserializer::from_str(&text).into_iter::<Value>().collect();
        let [Ok(object)] = &objects[..] else {
            return Err(Stop::failed(format!("the log is not one JSON object: {text:?}")));
        };
        ensure!(object["level"] == "error", "the log's level: {object}");
        ensure!(
            object["msg"].as_str().is_some_and(|message| said.contains(message)),
            "log {object} and stderr {said:?} differ"
        );
    }
    Ok(())
}

static TABLE: OnceLock<Mutex<Vec<String>>> = OnceLock::new();

/// Runs the peers on the same bundle and writes the table again.
fn record(row: &Broken, host: &Host, case: &Case, ours: &crate::attack::arena::Ran) {
    let Some(path) = std::env::var_os("WHARF_E2E_BROKEN_TABLE") else { return };
    let mut cells = vec![row.name.to_owned(), words_of(host, case, ours)];
    for name in ["crun", "runc"] {
        let peer = Runtime::peers(host).into_iter().find(|peer| peer.name.starts_with(name));
        cells.push(match peer {
            None => "(not installed)".into(),
            Some(peer) => {
                let root = host.dir().join(format!("peer-{name}"));
                let mut words = peer.words(&root);
                let id = case.id.clone().unwrap_or_else(|| case.bundle.id().to_owned());
                if case.taken {
                    let mut first = Command::new(&words[0]);
                    first.args(&words[1..]).args(["create", "--bundle", case.bundle.dir_text(), &id]);
                    capture(first, Duration::from_secs(SECONDS));
                }
                let ran = case.run(&words);
                // crun takes an id like `..` for a directory and would remove it.
                if id == case.bundle.id() {
                    words.extend(["delete", "--force", &id].map(String::from));
                    let mut delete = Command::new(&words[0]);
                    delete.args(&words[1..]);
                    capture(delete, Duration::from_secs(SECONDS));
                }
                words_of(host, case, &ran)
            }
        });
    }
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
    let mut table = TABLE.get_or_init(Mutex::default).lock().expect("the table");
    table.push(format!("| {} |", cells.join(" | ")));
    let head = "# Broken bundles\n\nWhat wharf says to each broken bundle of `e2e/broken_bundles`, and what crun 1.8.1 and runc 1.1.5 say to the same one.\n\
        Written by `WHARF_E2E_BROKEN_TABLE=docs/broken-bundles.md cargo test -p wharf-e2e -- \"broken bundle\"`, as root.\n\
        *Runs* means that the container ran as if nothing were wrong.\n\n\
        | bundle | wharf | crun | runc |\n|---|---|---|---|\n";
    let _ = fs::write(path, format!("{head}{}\n", table.join("\n")));
}

/// The last line of stderr, without what differs from run to run.
fn words_of(host: &Host, case: &Case, ran: &crate::attack::arena::Ran) -> String {
    if ran.out.contains("it ran") || ran.code == Some(0) {
        return "*runs*".into();
    }
    let said = ran.said().replace("\\\"", "\"");
    let said = said.replace(case.bundle.dir_text(), "BUNDLE").replace(&host.dir().display().to_string(), "DIR");
    let said = said.replace(case.bundle.id(), "ID").replace(host.tag(), "TAG");
    let short: String = said.chars().take(300).collect();
    let cut = if said.chars().count() > 300 { "…" } else { "" };
    format!("`{}{cut}`", short.replace('`', "'"))
}
