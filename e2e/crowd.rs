//! Many containers at once: made, listed, watched, paused and deleted by many callers, without an error or a leak.
//!
//! 1,000 with `WHARF_E2E_FULL=1`, else 96. Times are shown and not judged: they are the host's too.

use harness::{Bundle, Feature, Host, Outcome, Stop, Value, ensure, ensure_eq};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const WORKERS: usize = 32;

pub(crate) fn trials() -> Feature {
    Feature::new("crowd")
        .trial("A4.1: made by 32 workers all live, are listed, and are deleted", |host| {
            let bundle = of_many(host)?.payload(&["sleep"]);
            let (crowd, took) = Crowd::make(host, &bundle, many())?;
            let text = host.runtime.must(&["list", "--format", "json"])?;
            let listed: Vec<Value> = serde_json::from_str(&text)?;
            let ids: BTreeSet<&str> = listed.iter().filter_map(|row| row["id"].as_str()).collect();
            ensure_eq!(ids, crowd.ids.iter().map(String::as_str).collect());
            ensure!(listed.iter().all(|row| row["status"] == "running"), "not all run: {text}");
            let pids: BTreeSet<i64> = listed.iter().filter_map(|row| row["pid"].as_i64()).collect();
            ensure_eq!(pids.len(), crowd.ids.len(), "process ids");
            ensure_eq!(host.runtime.must(&["list"])?.lines().count(), crowd.ids.len() + 1);
            let quiet = host.runtime.must(&["list", "--quiet"])?;
            ensure_eq!(quiet.lines().collect::<BTreeSet<_>>(), ids);
            if host.runtime.name() == "wharf" {
                // What the runtime keeps of each: no process, and a small directory.
                ensure_eq!(children()?, crowd.ids.len(), "processes beside the payloads");
                let kept = kept(host)? / crowd.ids.len() as u64;
                ensure!(kept <= 16, "{kept} KiB are kept of each");
                println!("crowd: {kept} KiB kept of each");
            }
            let listing = (quickest(host, &["list"])?, quickest(host, &["list", "--format", "json"])?);
            let begun = Instant::now();
            crowd.delete()?;
            println!(
                "crowd: {} created and started in {:?}, one create of them {:?} (median) {:?} (99 of 100); list {:?}, as \
                 JSON {:?}; deleted in {:?}",
                took.len(), took.total, took.at(0.5), took.at(0.99), listing.0, listing.1, begun.elapsed()
            );
            ensure_eq!(host.runtime.must(&["list", "--quiet"])?, "");
            Ok(())
        })
        .trial("A2.10: paused ones stand still, refuse exec clearly, and go on", |host| {
            let number = if many() == FULL { 200 } else { 24 };
            // Not by a limit: who may not run for a while does not come to stand still either.
            let a_little = [["spin", "1", ";"], ["sleep", "150", ";"]].concat().repeat(1500);
            let (crowd, _) = Crowd::make(host, &of_many(host)?.payload(&a_little), number)?;
            crowd.each(|id| host.runtime.must(&["pause", id]).map(drop))?;
            let before = used(host, &crowd)?;
            std::thread::sleep(Duration::from_millis(500));
            ensure_eq!(used(host, &crowd)?, before, "they use the processor");
            let listed: Vec<Value> = serde_json::from_str(&host.runtime.must(&["list", "--format", "json"])?)?;
            ensure_eq!(listed.iter().filter(|row| row["status"] == "paused").count(), number);
            let said = host.runtime.call(&["exec", &crowd.ids[0], "/bin/payload", "nothing"])?;
            ensure!(said.code() != Some(0) && said.stderr.contains("paused"), "{said}");
            let resumed = Mutex::new(Vec::new());
            for id in &crowd.ids {
                let begun = Instant::now();
                host.runtime.must(&["resume", id])?;
                resumed.lock().expect("no panic").push(begun.elapsed());
            }
            let mut resumed = resumed.into_inner().expect("no panic");
            resumed.sort();
            println!("crowd: resume of one of {number} {:?} (median), {:?} (most)", resumed[number / 2], resumed[number - 1]);
            let begun = Instant::now();
            while used(host, &crowd)?.iter().zip(&before).any(|(now, before)| now <= before) {
                ensure!(begun.elapsed() < harness::limit(60), "some do not go on");
                std::thread::sleep(Duration::from_millis(50));
            }
            crowd.delete()
        })
}

/// A bundle of which each container has a cgroup of its own name.
fn of_many(host: &Host) -> Result<Bundle, Stop> {
    Ok(host.bundle()?.remove("/linux/cgroupsPath"))
}

const FULL: usize = 1000;

fn many() -> usize {
    if std::env::var_os("WHARF_E2E_FULL").is_some() { FULL } else { 96 }
}

/// Running containers of one bundle.
struct Crowd<'h> {
    host: &'h Host,
    ids: Vec<String>,
}

/// What each create took, sorted, and all together.
struct Took {
    each: Vec<Duration>,
    total: Duration,
}

impl Took {
    fn len(&self) -> usize {
        self.each.len()
    }

    fn at(&self, share: f64) -> Duration {
        self.each[((self.each.len() - 1) as f64 * share) as usize]
    }
}

impl<'h> Crowd<'h> {
    fn make(host: &'h Host, bundle: &Bundle, number: usize) -> Result<(Self, Took), Stop> {
        bundle.save()?;
        let crowd = Crowd { host, ids: (0..number).map(|_| host.unique("crowd")).collect() };
        let took = Mutex::new(Vec::new());
        let begun = Instant::now();
        crowd.each(|id| {
            let begun = Instant::now();
            host.runtime.must(&["create", "--bundle", bundle.dir_text(), id])?;
            took.lock().expect("no panic").push(begun.elapsed());
            host.runtime.must(&["start", id]).map(drop)
        })?;
        let total = begun.elapsed();
        let mut each = took.into_inner().expect("no panic");
        each.sort();
        Ok((crowd, Took { each, total }))
    }

    /// By all workers; the first failure of each is told.
    fn each(&self, work: impl Fn(&str) -> Outcome + Sync) -> Outcome {
        let next = AtomicUsize::new(0);
        let failed = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    while let Some(id) = self.ids.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(Stop::Failed(why) | Stop::Skipped(why)) = work(id) {
                            failed.lock().expect("no panic").push(why);
                        }
                    }
                });
            }
        });
        let failed = failed.into_inner().expect("no panic");
        ensure!(failed.is_empty(), "{} of {} failed: {}", failed.len(), self.ids.len(), failed[0]);
        Ok(())
    }

    fn delete(&self) -> Outcome {
        self.each(|id| self.host.runtime.must(&["delete", "--force", id]).map(drop))
    }
}

/// Processes that are ours, the adopted ones too.
fn children() -> Result<usize, Stop> {
    let own = std::process::id().to_string();
    let is_ours =
        |stat: &str| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.split_whitespace().nth(1) == Some(&own));
    let stats = std::fs::read_dir("/proc")?.flatten();
    let stats = stats.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    Ok(stats.filter(|stat| is_ours(stat)).count())
}

/// KiB of the state directories.
fn kept(host: &Host) -> Result<u64, Stop> {
    use std::os::unix::fs::MetadataExt;
    let mut blocks = 0;
    for dir in std::fs::read_dir(host.root())? {
        for file in std::fs::read_dir(dir?.path())? {
            blocks += file?.metadata()?.blocks();
        }
    }
    Ok(blocks / 2)
}

/// Of some calls.
fn quickest(host: &Host, words: &[&str]) -> Result<Duration, Stop> {
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let begun = Instant::now();
        host.runtime.must(words)?;
        best = best.min(begun.elapsed());
    }
    Ok(best)
}

/// Processor time of each, as the kernel has counted it, in its own units.
fn used(host: &Host, crowd: &Crowd<'_>) -> Result<Vec<u64>, Stop> {
    let (controller, file) = if host.is_v2() { ("cpu", "cpu.stat") } else { ("cpuacct", "cpuacct.usage") };
    let dir = host.controller_dir(controller).ok_or_else(|| Stop::skipped("nobody counts processor time here"))?;
    let read = |id: &String| -> Result<u64, Stop> {
        let text = std::fs::read_to_string(dir.join(id).join(file))?;
        let number = text.lines().next().unwrap_or_default().trim_start_matches("usage_usec ").trim();
        Ok(number.parse()?)
    };
    crowd.ids.iter().map(read).collect()
}
