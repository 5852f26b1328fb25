//! Runs a built checkout of a conformance suite on wharf and on its peers, and fails where a peer passes and wharf does not.
#![forbid(unsafe_code)]

mod compare;
mod outcome;
mod page;
mod reasons;
mod sandbox;
mod suite;

use compare::{Compared, Lag};
use reasons::Reasons;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use suite::Suite;

const CRUN_ADAPTER: &str = include_str!("crun_adapter.sh");

/// Several tests race with the payload: one that signals a shell before its `trap` is set fails where `start` is fast.
/// wharf gets as many tries where a peer passes and no reason is known; a fault of its own fails each time.
const TRIES: u32 = 3;

/// A runtime that the suites are run on; the first one is wharf.
pub(crate) struct Runtime {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) version: String,
}

struct Options {
    checkouts: Vec<PathBuf>,
    wharf: PathBuf,
    page: PathBuf,
    peers: Vec<(String, PathBuf)>,
    only: Option<String>,
    kept: Option<PathBuf>,
}

fn main() -> ExitCode {
    match options().and_then(|options| conform(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("conformance: {why}");
            ExitCode::from(2)
        }
    }
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        checkouts: vec![],
        wharf: "wharf".into(),
        page: PathBuf::new(),
        peers: vec![],
        only: None,
        kept: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--wharf" => options.wharf = value()?.into(),
            "--page" => options.page = value()?.into(),
            "--only" => options.only = Some(value()?),
            "--peers-kept" => options.kept = Some(value()?.into()),
            "--peer" => {
                let text = value()?;
                let (name, path) = text.split_once('=').ok_or(format!("--peer {text}: NAME=PATH is expected"))?;
                options.peers.push((name.to_owned(), path.into()));
            }
            _ if word.starts_with('-') => return Err(format!("unknown option {word}")),
            _ => options.checkouts.push(word.into()),
        }
    }
    if options.checkouts.is_empty() {
        return Err("name a built checkout of runtime-tools or of youki".to_owned());
    }
    Ok(options)
}

/// True where wharf passes everything that a peer passes.
fn conform(options: &Options) -> Result<bool, String> {
    let private = std::env::temp_dir().join(format!("wharf-suites.{}", std::process::id()));
    std::fs::create_dir(&private).map_err(|error| format!("make {}: {error}", private.display()))?;
    let done = runtimes(options, &private).and_then(|runtimes| {
        let reasons = Reasons::parse(include_str!("reasons.tsv"))?;
        let mut good = true;
        for checkout in &options.checkouts {
            good &= one_suite(options, checkout, &runtimes, &reasons)?;
        }
        Ok(good)
    });
    let _ = std::fs::remove_dir_all(&private);
    done
}

fn one_suite(options: &Options, checkout: &Path, runtimes: &[Runtime], reasons: &Reasons) -> Result<bool, String> {
    let suite = Suite::open(checkout)?;
    let mut compared = Compared::new(suite.name(), runtimes.len());
    let units: Vec<String> = suite.units()?.into_iter().filter(|unit| chosen(options, unit)).collect();
    for (number, unit) in units.iter().enumerate() {
        eprintln!("{} {}/{} {unit}", suite.name(), number + 1, units.len());
        for (index, runtime) in runtimes.iter().enumerate().skip(1) {
            let file = options.kept.as_ref().map(|dir| dir.join(suite.name()).join(&runtime.name).join(unit));
            let run = sandbox::kept_or_run(file.as_deref(), || suite.run(unit, runtime))?;
            compared.add(index, unit, suite.read(unit, &run));
        }
        for _ in 0..TRIES {
            let run = suite.run(unit, &runtimes[0])?;
            compared.add(0, unit, suite.read(unit, &run));
            let unexplained = |lag: &Lag| lag.a_peer_passes && reasons.kind(suite.name(), &lag.test).is_none();
            if run.code.is_none() || !compared.lags(unit).iter().any(unexplained) {
                break;
            }
        }
    }
    let worse = compared.worse();
    for lag in &worse {
        let kind = reasons.kind(suite.name(), &lag.test).unwrap_or("unexplained");
        println!("{}: {}: {} [{kind}]", suite.name(), lag.test, lag.why);
    }
    let failures = worse.iter().filter(|lag| lag.a_peer_passes).count();
    println!(
        "{}: {} of {} pass; a peer passes {failures} of the others",
        suite.name(),
        compared.passes(0),
        compared.len()
    );
    if options.only.is_none() {
        page::write(&options.page, &suite, runtimes, &compared, reasons)?;
    }
    Ok(failures == 0)
}

fn chosen(options: &Options, unit: &str) -> bool {
    options.only.as_ref().is_none_or(|only| only == unit)
}

/// wharf, then crun and runc where they are installed, then the peers that were named.
fn runtimes(options: &Options, private: &Path) -> Result<Vec<Runtime>, String> {
    let wharf = options.wharf.canonicalize().map_err(|error| format!("{}: {error}", options.wharf.display()))?;
    let mut found = BTreeMap::new();
    for name in ["crun", "runc"] {
        match which(name) {
            Some(path) => drop(found.insert(name.to_owned(), path)),
            None => eprintln!("skipped: {name} is not installed, so it is not compared with"),
        }
    }
    found.extend(options.peers.iter().cloned());
    let version = |program: &Path| -> Result<String, String> {
        let output = Command::new(program)
            .arg("--version")
            .output()
            .map_err(|error| format!("{} --version: {error}", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let number = text.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
        Ok(number.unwrap_or("?").to_owned())
    };
    let mut all = vec![Runtime { name: "wharf".to_owned(), version: version(&wharf)?, program: wharf }];
    for (name, path) in found {
        let version = version(&path)?;
        let program = if name == "crun" && version.starts_with("1.8") { adapted(private)? } else { path };
        all.push(Runtime { name, program, version });
    }
    Ok(all)
}

fn adapted(private: &Path) -> Result<PathBuf, String> {
    use std::os::unix::fs::PermissionsExt;
    let path = private.join("crun");
    std::fs::write(&path, CRUN_ADAPTER)
        .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)))
        .map_err(|error| format!("write {}: {error}", path.display()))?;
    Ok(path)
}

fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|program| program.is_file())
}
