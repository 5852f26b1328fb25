//! checkpoint and restore, killed after each system call: the container runs on within a second, or has ended and can be
//! restored; what is left is named by `gc`, and removed.
//!
//! What `gc` takes for young is made old first.

use super::points_of;
use super::traced::{Traced, plain, reap, traced_silently};
use crate::attack::arena::Runtime;
use crate::checkpoint::{Criu, counted, text};
use harness::{Bundle, Feature, Host, Inventory, Outcome, Stop, Value, ensure, ensure_eq, json, limit};
use nix::sys::wait::WaitStatus;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// Each of them costs a second.
const SLICE: u32 = 24;

pub(super) fn trials(feature: Feature) -> Feature {
    feature
        .trial("checkpoint --leave-running is killed after each system call: it runs on within a second", |host| {
            written(&Scene::new(host)?, true)
        })
        .trial("checkpoint is killed after each system call: it runs on, or has ended and can be restored", |host| {
            written(&Scene::new(host)?, false)
        })
        .trial("restore is killed after each system call: one that runs, or nothing that gc leaves", |host| {
            restored(&Scene::new(host)?)
        })
}

/// A container that writes down how far it has come, and where its checkpoints are.
struct Scene<'h> {
    host: &'h Host,
    runtime: Runtime<'h>,
    criu: Criu<'h>,
    configuration: PathBuf,
    home: PathBuf,
    bundle: Bundle,
    /// The longest time that it stood still after a kill.
    stood: Cell<Duration>,
    outcomes: Cell<(u32, u32)>,
}

impl<'h> Scene<'h> {
    fn new(host: &'h Host) -> Result<Self, Stop> {
        let (home, configuration) = (host.new_dir("home")?, host.dir().join("configuration"));
        fs::write(&configuration, json!({"storage": {"checkpoints": home}}).to_string())?;
        let bundle = host.bundle()?.payload(&["count", "/tmp/count"]);
        let (runtime, criu) = (Runtime::under_test(host), Criu::new(host)?);
        bundle.save()?;
        let (stood, outcomes) = (Cell::default(), Cell::default());
        Ok(Scene { host, runtime, criu, configuration, home, bundle, stood, outcomes })
    }

    fn id(&self) -> &str {
        self.bundle.id()
    }

    fn words(&self, words: &[&str]) -> Vec<String> {
        self.criu.words(&[&["--config", text(&self.configuration)], words].concat())
    }

    fn call(&self, words: &[&str]) -> Result<String, Stop> {
        let words = self.words(words);
        plain(self.host, &self.runtime, &words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn quietly(&self, words: &[&str]) -> Outcome {
        let words = self.words(words);
        self.criu.quietly(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn killed(&self, words: &[&str], k: u32) -> Result<Traced, Stop> {
        let words = self.words(words);
        traced_silently(self.host, &self.runtime, &words.iter().map(String::as_str).collect::<Vec<_>>(), k)
    }

    /// One that runs and counts.
    fn start(&self) -> Outcome {
        self.quietly(&["run", "--detach", "--bundle", self.bundle.dir_text(), self.id()])?;
        self.goes_on(limit(10)).map(drop)
    }

    fn progress(&self) -> Result<u64, Stop> {
        counted(&self.bundle)
    }

    /// How long it took to come on; none where it does not within that time.
    fn goes_on(&self, within: Duration) -> Result<Option<Duration>, Stop> {
        let (begun, first) = (Instant::now(), self.progress()?);
        loop {
            reap();
            // A file that is being written anew is empty for a moment.
            if first > 0 && self.progress()? > first || first == 0 && self.progress()? > 0 {
                return Ok(Some(begun.elapsed()));
            }
            if begun.elapsed() > within {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// None where there is no such container.
    fn status(&self, id: &str) -> Option<String> {
        let told = self.call(&["state", id]).ok()?;
        let told: Value = serde_json::from_str(&told).ok()?;
        told["status"].as_str().map(str::to_owned)
    }

    fn images(&self) -> PathBuf {
        self.home.join(self.id()).join("a")
    }

    fn is_whole(&self) -> bool {
        self.images().join("manifest.json").exists()
    }

    fn gc(&self, words: &[&str]) -> Result<Value, Stop> {
        Ok(serde_json::from_str(&self.call(&[&["gc", "--format", "json"], words].concat())?)?)
    }

    /// What is younger than five minutes may be of somebody who is at work.
    fn age(&self) -> Outcome {
        let old = SystemTime::now() - Duration::from_secs(3600);
        let directory = self.images();
        let below = fs::read_dir(&directory).into_iter().flatten().flatten().map(|one| one.path());
        for path in below.chain([directory.clone()]) {
            match fs::File::open(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                other => other?.set_modified(old)?,
            }
        }
        Ok(())
    }

    /// Everything that is left of checkpoints and clones is named, and removed, until there is nothing.
    fn collect(&self) -> Outcome {
        let begun = Instant::now();
        loop {
            reap();
            self.age()?;
            let told = self.gc(&["--stopped"])?;
            let removed = self.gc(&["--stopped", "--apply"])?;
            let half = self.images().exists() && !self.is_whole();
            if told == json!([]) && removed == json!([]) && !half {
                return Ok(());
            }
            ensure!(begun.elapsed() < limit(20), "gc leaves {told}; half-made: {half}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_as(&self, before: &Inventory) -> Outcome {
        let begun = Instant::now();
        loop {
            reap();
            let difference = Inventory::take(self.host.tag(), &self.host.root()).difference(before);
            // One that runs now, and slept then, is the same.
            let changed: BTreeSet<String> = difference.iter().map(|one| without_state(one)).collect();
            let both = |one: &String| {
                let (left, gone) = (format!("left: {one}"), format!("gone: {one}"));
                difference.iter().any(|all| all.starts_with(&left))
                    && difference.iter().any(|all| all.starts_with(&gone))
            };
            if changed.iter().all(both) {
                return Ok(());
            }
            ensure!(begun.elapsed() < limit(2), "{}", difference.join(", "));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn told(&self, what: &str) {
        let (ran, ended) = self.outcomes.get();
        println!("crash {what}: {ran} ran on, {ended} had ended; the longest standstill {:?}", self.stood.get());
    }
}

/// What a difference is of, of a process its number and name.
fn without_state(difference: &str) -> String {
    let what = difference.trim_start_matches("left: ").trim_start_matches("gone: ");
    let end = if what.starts_with("process ") { what.rfind(", ").unwrap_or(what.len()) } else { what.len() };
    what[..end].to_owned()
}

fn ends_well(status: WaitStatus) -> bool {
    matches!(status, WaitStatus::Exited(_, 0))
}

/// A container is written down; the one that runs on is the same in every round.
fn written(scene: &Scene<'_>, leave_running: bool) -> Outcome {
    let stays: &[&str] = if leave_running { &["--leave-running"] } else { &[] };
    let words = [&["checkpoint", "--name", "a", "--disk", "none"], stays, &[scene.id()]].concat();
    if leave_running {
        scene.start()?;
    }
    let round = |k| {
        if !leave_running {
            scene.start()?;
        }
        scene.killed(&words, k)
    };
    let judge = |before: &Inventory| {
        let runs = scene.goes_on(limit(1))?;
        let (ran, ended) = scene.outcomes.get();
        match runs {
            Some(stood) => {
                scene.stood.set(scene.stood.get().max(stood));
                ensure_eq!(scene.status(scene.id()).as_deref(), Some("running"));
                scene.outcomes.set((ran + 1, ended));
            }
            None => {
                let status = scene.status(scene.id());
                ensure!(matches!(status.as_deref(), None | Some("stopped")), "it stands still, and is {status:?}");
                ensure!(scene.is_whole(), "it has ended without a checkpoint");
                scene.outcomes.set((ran, ended + 1));
            }
        }
        scene.collect()?;
        if runs.is_none() {
            back(scene)?;
        }
        if !leave_running {
            scene.call(&["delete", "--force", scene.id()])?;
        }
        if scene.is_whole() {
            scene.call(&["checkpoints", "remove", scene.id(), "a"])?;
        }
        ensure!(!scene.images().exists(), "images are left");
        scene.is_as(before)
    };
    // A failure of one round is not the next one's.
    let clean = |before: &Inventory| {
        judge(before).inspect_err(|_| {
            if !leave_running {
                let _ = scene.call(&["delete", "--force", scene.id()]);
            }
            let _ = scene.collect();
            let _ = scene.call(&["checkpoints", "remove", scene.id(), "a"]);
        })
    };
    let name = format!("checkpoint{}", if leave_running { " --leave-running" } else { "" });
    points_of(scene.host, &name, SLICE, ends_well, round, clean)?;
    scene.told(&name);
    if leave_running {
        // It has lived through all of that, and can still be written down and brought back.
        scene.quietly(&["checkpoint", "--name", "a", "--disk", "none", scene.id()])?;
        back(scene)?;
        scene.call(&["delete", "--force", scene.id()])?;
        scene.call(&["checkpoints", "remove", scene.id(), "a"])?;
    }
    Ok(())
}

/// The checkpoint can be restored.
fn back(scene: &Scene<'_>) -> Outcome {
    scene.quietly(&["restore", "-d", "--name", "a", scene.id()])?;
    ensure!(scene.goes_on(limit(10))?.is_some(), "what was restored does not go on");
    Ok(())
}

fn restored(scene: &Scene<'_>) -> Outcome {
    scene.start()?;
    scene.quietly(&["checkpoint", "--name", "a", "--disk", "none", scene.id()])?;
    // The disk is not kept: a twin that runs writes on, and then it is of another moment than the memory.
    let file = scene.bundle.rootfs().join("tmp/count");
    let written = fs::read(&file)?;
    let as_it_was = || fs::write(&file, &written);
    let twin = scene.host.unique("twin");
    let words = ["restore", "-d", "--name", "a", "--as", &twin, scene.id()];
    let clean = |before: &Inventory| {
        let begun = Instant::now();
        // Who is brought back half-way is ended by criu, a moment later.
        let runs = loop {
            reap();
            let (goes, status) = (scene.goes_on(limit(1))?.is_some(), scene.status(&twin));
            match (goes, status.as_deref()) {
                (true, Some("running")) => break true,
                (false, None | Some("stopped")) => break false,
                other => ensure!(begun.elapsed() < limit(5), "{other:?}"),
            }
        };
        let (ran, ended) = scene.outcomes.get();
        scene.outcomes.set((ran + u32::from(runs), ended + u32::from(!runs)));
        scene.collect()?;
        if runs {
            ensure!(scene.goes_on(limit(2))?.is_some(), "gc has harmed what runs");
            scene.call(&["delete", "--force", &twin])?;
        }
        ensure_eq!(scene.status(&twin), None);
        ensure!(scene.is_whole(), "the checkpoint is gone");
        scene.is_as(before)
    };
    let round = |k| {
        as_it_was()?;
        scene.killed(&words, k)
    };
    let clean = |before: &Inventory| {
        clean(before).inspect_err(|_| {
            let _ = scene.call(&["delete", "--force", &twin]);
            let _ = scene.collect();
        })
    };
    points_of(scene.host, "restore", SLICE, ends_well, round, clean)?;
    scene.told("restore");
    as_it_was()?;
    back(scene)?;
    scene.call(&["delete", "--force", scene.id()])?;
    scene.call(&["checkpoints", "remove", scene.id(), "a"]).map(drop)
}
