//! Named trials, one list per feature, and the program that runs them and counts.

use crate::leaks::{self, Inventory};
use crate::runtime::{Runtime, limit};
use crate::{Host, find};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use nix::mount::{MsFlags, mount};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Why a trial did not pass.
#[derive(Debug)]
pub enum Stop {
    Failed(String),
    Skipped(String),
}

impl Stop {
    pub fn failed(why: impl Into<String>) -> Self {
        Stop::Failed(why.into())
    }

    pub fn skipped(why: impl Into<String>) -> Self {
        Stop::Skipped(why.into())
    }
}

impl<E: std::error::Error> From<E> for Stop {
    fn from(error: E) -> Self {
        Stop::Failed(error.to_string())
    }
}

pub type Outcome = Result<(), Stop>;

type Body = Box<dyn FnOnce(&Host) -> Outcome + Send>;

/// The trials of one feature.
pub struct Feature {
    name: &'static str,
    trials: Vec<(String, Body)>,
}

impl Feature {
    pub fn new(name: &'static str) -> Self {
        Feature { name, trials: Vec::new() }
    }

    /// Adds a trial; its name is the sentence that it proves.
    pub fn trial(mut self, sentence: &str, body: impl FnOnce(&Host) -> Outcome + Send + 'static) -> Self {
        self.trials.push((format!("{}: {sentence}", self.name), Box::new(body)));
        self
    }

    /// The same trials on another host, each called by `name` and its own name; `host` may skip them. Those of which
    /// `is_other` knows why they cannot hold there are left out.
    pub fn on(self, name: &'static str, host: fn(&Host) -> Result<Host, Stop>, is_other: fn(&str) -> bool) -> Self {
        let there = |(sentence, body): (String, Body)| {
            let body: Body = Box::new(move |own: &Host| body(&host(own)?));
            (format!("{name}, {sentence}"), body)
        };
        let trials = self.trials.into_iter().filter(|(sentence, _)| !is_other(sentence)).map(there).collect();
        Feature { name, trials }
    }
}

/// Runs every feature's trials; arguments as `cargo test` hands them on. One at a time: each is followed by a check that
/// the host is as it was.
pub fn main(mut features: Vec<Feature>) -> ExitCode {
    if let Ok(wanted) = std::env::var("WHARF_E2E_FEATURE") {
        features.retain(|feature| feature.name == wanted);
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let suite = Suite::prepare();
    let skipped = match &suite {
        Ok(_) => None,
        Err(Stop::Skipped(why)) => Some(why.clone()),
        Err(Stop::Failed(why)) => {
            eprintln!("the suite cannot begin: {why}");
            return ExitCode::FAILURE;
        }
    };
    let suite = suite.ok().map(Arc::new);
    let trials = features.into_iter().flat_map(|feature| feature.trials).map(|(name, body)| {
        let (suite, skipped) = (suite.clone(), skipped.clone());
        Trial::ignorable_test(name, move || match (suite, skipped) {
            (Some(suite), _) => suite.perform(body),
            (None, why) => Ok(Completion::ignored_with(why.unwrap_or_default())),
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    drop(suite);
    println!("{} passed, {} failed, {} skipped", conclusion.num_passed, conclusion.num_failed, conclusion.num_ignored);
    conclusion.exit_code()
}

/// What all trials share: the programs, and a tmpfs in a mount namespace of our own.
struct Suite {
    runtime: Runtime,
    payload: PathBuf,
    dir: PathBuf,
    count: AtomicU32,
}

impl Suite {
    fn prepare() -> Result<Self, Stop> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Stop::skipped("needs root"));
        }
        let runtime = Runtime::new(find::runtime().map_err(Stop::failed)?);
        let payload = find::payload().map_err(Stop::failed)?;
        let none = None::<&str>;
        // A private copy of the mount table, then shared like systemd's: a mount that a runtime lets out of its
        // container's namespace shows up here, and nowhere else on the host.
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        let dir = std::env::temp_dir().join(format!("wharf-e2e.{}", std::process::id()));
        fs::create_dir(&dir)?;
        mount(Some("wharf-e2e"), &dir, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SHARED, none)?;
        nix::sys::prctl::set_child_subreaper(true)?;
        let mut suite = Suite { runtime, payload, dir, count: AtomicU32::new(0) };
        suite.stage()?;
        Ok(suite)
    }

    /// Takes copies of the programs, which may lie on a slow share, and which no attack is to damage.
    fn stage(&mut self) -> Result<(), Stop> {
        let dir = self.dir.join("programs");
        fs::create_dir(&dir)?;
        // Other programs of the tests lie beside the payload.
        let beside = ["attacker", "without"].map(|name| self.payload.with_file_name(name));
        for program in [self.runtime.program(), &self.payload].into_iter().chain(beside.iter().map(PathBuf::as_path)) {
            if let (Some(name), true) = (program.file_name(), program.is_file()) {
                fs::copy(program, dir.join(name))?;
            }
        }
        let name = self.runtime.name();
        let staged = dir.join(name);
        self.runtime = Runtime::new(match std::env::var("WHARF_E2E_WITHOUT") {
            Ok(missing) => crate::host::taking_away(&staged, &missing, &dir.join("fewer-calls"))?,
            Err(_) => staged,
        });
        self.payload = dir.join(self.payload.file_name().unwrap_or_default());
        Ok(())
    }

    fn perform(&self, body: Body) -> Result<Completion, Failed> {
        let tag = format!("e2e{}-{}", std::process::id(), self.count.fetch_add(1, Ordering::Relaxed));
        let dir = self.dir.join(&tag);
        let host = Host::new(self.runtime.clone(), self.payload.clone(), dir.clone(), tag.clone())
            .map_err(|_| Failed::from(format!("make {}", dir.display())))?;
        let before = Inventory::take(&tag, &host.root());
        let outcome = catch_unwind(AssertUnwindSafe(|| body(&host)));
        let outcome = match outcome {
            Ok(Ok(())) => settle(&before, &tag, &host.root()).map(|()| Completion::Completed),
            Ok(Err(Stop::Skipped(why))) => settle(&before, &tag, &host.root()).map(|()| Completion::ignored_with(why)),
            Ok(Err(Stop::Failed(why))) => Err(why),
            Err(panic) => Err(words(&*panic)),
        };
        leaks::sweep(&tag, &dir);
        let _ = fs::remove_dir_all(&dir);
        outcome.map_err(Failed::from)
    }
}

impl Drop for Suite {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.dir, nix::mount::MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(&self.dir);
    }
}

/// Gives what was killed a moment to go, then demands the host as it was.
fn settle(before: &Inventory, tag: &str, root: &Path) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        leaks::reap();
        let difference = Inventory::take(tag, root).difference(before);
        if difference.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > limit(2) {
            return Err(format!("the host is not as before:\n  {}", difference.join("\n  ")));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked").to_owned()
}

/// Whether a trial's turn is now: of every one with `WHARF_E2E_FULL` or where trials are chosen by name, else of about one in
/// `share`, chosen by `WHARF_E2E_SEED`.
pub fn due(name: &str, share: u64) -> bool {
    let named = std::env::var_os("WHARF_E2E_FEATURE").is_some()
        || std::env::args().skip(1).any(|word| !word.starts_with('-') || word == "--list");
    let seed: u64 = std::env::var("WHARF_E2E_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mixed = name.bytes().fold(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    named || std::env::var_os("WHARF_E2E_FULL").is_some() || (mixed >> 32).is_multiple_of(share)
}
