//! checkpoint and restore with the disk: memory and files on two datasets are of the same moment.

use crate::checkpoint::Criu;
use crate::disk::pool::Pool;
use harness::{Bundle, Container, Feature, Host, Outcome, Stop, ensure, ensure_eq, json, limit};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) fn trials() -> Feature {
    Feature::new("checkpoint_disk")
        .trial("what counts in memory and in files of two datasets goes on without a gap, whatever the moment", gapless)
        .trial("one checkpoint is restored as several containers, each with its own disk, and the origin stays", clones)
        .trial("a volume that is on no dataset is named, and nothing is left", refused)
        .trial("--rollback: the datasets are what they were, and what is newer is named and stays", rolled_back)
}

struct Place<'h> {
    criu: Criu<'h>,
    pool: Pool,
    root: PathBuf,
    volume: PathBuf,
    configuration: PathBuf,
}

fn place(host: &Host) -> Result<Place<'_>, Stop> {
    let criu = Criu::new(host)?;
    let pool = Pool::new(host, 256)?;
    let (_, at) = pool.dataset("image")?;
    let (_, volume) = pool.dataset("volume")?;
    let root = at.join("rootfs");
    let from = host.bundle()?;
    let done = Command::new("cp").arg("-a").arg(from.rootfs()).arg(&root).output()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let configuration = host.dir().join(host.unique("configuration"));
    let home = host.new_dir("checkpoints")?;
    let storage = json!({"zfs_dataset": format!("{}/containers", pool.name), "checkpoints": home});
    fs::write(&configuration, json!({ "storage": storage }).to_string())?;
    Ok(Place { criu, pool, root, volume, configuration })
}

impl Place<'_> {
    fn bundle(&self, host: &Host) -> Result<Bundle, Stop> {
        let bundle =
            host.bundle()?.payload(&["number-lines", "/tmp/log", "/volume/log"]).set("/root/path", json!(self.root));
        Ok(bundle.mount("/volume", "bind", self.volume.to_str().unwrap_or_default(), &["rbind", "rw"]))
    }

    fn call(&self, words: &[&str]) -> Outcome {
        let configuration = self.configuration.display().to_string();
        let words = [&["--config", configuration.as_str()], words].concat();
        let words = self.criu.words(&words);
        self.criu.quietly(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn delete(&self, host: &Host, id: &str) -> Outcome {
        host.runtime.must(&["delete", "--force", id]).map(drop)
    }
}

/// Complete lines of a log.
fn lines(path: &Path) -> Result<Vec<u64>, Stop> {
    let text = fs::read_to_string(path)?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    Ok(whole.lines().map(|line| line.parse().unwrap_or(0)).collect())
}

/// Waits for a log to grow, and looks that it has each number once and in order.
fn gapless_log(path: &Path, before: usize) -> Result<usize, Stop> {
    let begun = Instant::now();
    loop {
        let all = lines(path)?;
        if let Some((at, number)) = all.iter().enumerate().find(|(at, number)| **number != *at as u64 + 1) {
            return Err(Stop::failed(format!("{}: line {} is {number}", path.display(), at + 1)));
        }
        if all.len() > before {
            return Ok(all.len());
        }
        ensure!(begun.elapsed() < limit(20), "{} does not grow beyond {before} lines", path.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn logs(host: &Host, id: &str) -> [PathBuf; 2] {
    let at = host.root().join(".clones").join(id);
    [at.join("disk-0/rootfs/tmp/log"), at.join("disk-1/log")]
}

fn started<'h>(place: &Place<'h>, bundle: &Bundle) -> Result<Container<'h>, Stop> {
    let container = place.criu.start(bundle)?;
    gapless_log_when_there(&place.volume.join("log"))?;
    Ok(container)
}

fn gapless_log_when_there(path: &Path) -> Outcome {
    let begun = Instant::now();
    while !path.exists() {
        ensure!(begun.elapsed() < limit(20), "{} is not there", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
    gapless_log(path, 0).map(drop)
}

fn gapless(host: &Host) -> Outcome {
    let place = place(host)?;
    let bundle = place.bundle(host)?;
    let container = started(&place, &bundle)?;
    let rounds = if std::env::var_os("WHARF_E2E_FULL").is_some() { 50 } else { 3 };
    for round in 0..rounds {
        std::thread::sleep(Duration::from_millis(17 * (round % 13)));
        let (name, twin) = (format!("r{round}"), host.unique("twin"));
        place.call(&["checkpoint", "--name", &name, "--leave-running", bundle.id()])?;
        place.call(&["restore", "--detach", "--name", &name, "--as", &twin, bundle.id()])?;
        for log in logs(host, &twin) {
            let length = lines(&log)?.len();
            gapless_log(&log, length)?;
        }
        place.delete(host, &twin)?;
    }
    // The source has not lost a beat either.
    for log in [place.root.join("tmp/log"), place.volume.join("log")] {
        let length = lines(&log)?.len();
        gapless_log(&log, length)?;
    }
    container.delete_force()
}

fn clones(host: &Host) -> Outcome {
    let place = place(host)?;
    let bundle = place.bundle(host)?;
    let container = started(&place, &bundle)?;
    place.call(&["checkpoint", "--name", "a", bundle.id()])?;
    let twin = host.unique("twin");
    let count = if std::env::var_os("WHARF_E2E_FULL").is_some() { 10 } else { 3 };
    place.call(&["restore", "-d", "--name", "a", "--as", &twin, "--count", &count.to_string(), bundle.id()])?;
    let origin = lines(&place.volume.join("log"))?.len();
    for number in 1..=count {
        for log in logs(host, &format!("{twin}-{number}")) {
            gapless_log(&log, origin)?;
        }
    }
    ensure_eq!(lines(&place.volume.join("log"))?.len(), origin, "the origin's lines");
    let snapshot = format!("{}/volume@wharf-{}-a", place.pool.name, bundle.id());
    ensure!(place.pool.zfs(&["destroy", &snapshot]).is_err(), "the origin of clones was destroyed");
    for number in 1..=count {
        place.delete(host, &format!("{twin}-{number}"))?;
    }
    let left = place.pool.zfs(&["list", "-H", "-o", "name", "-r", &place.pool.name])?;
    ensure!(!left.contains(&twin), "{left}");
    drop(container);
    Ok(())
}

fn refused(host: &Host) -> Outcome {
    let place = place(host)?;
    let elsewhere = host.new_dir("elsewhere")?;
    let bundle = place.bundle(host)?.mount("/other", "bind", elsewhere.to_str().unwrap_or_default(), &["rbind", "rw"]);
    let container = started(&place, &bundle)?;
    let said = place.call(&["checkpoint", "--name", "a", bundle.id()]);
    let Err(Stop::Failed(said)) = said else { return Err(Stop::failed("it was not refused")) };
    ensure!(said.contains("/other (") && said.contains("is on tmpfs, not on a dataset of ZFS"), "{said}");
    ensure_eq!(container.status()?, "running");
    let left = place.pool.zfs(&["list", "-H", "-t", "snapshot", "-o", "name", "-r", &place.pool.name])?;
    ensure_eq!(left, "");
    container.delete_force()
}

fn rolled_back(host: &Host) -> Outcome {
    let place = place(host)?;
    let bundle = place.bundle(host)?;
    let container = started(&place, &bundle)?;
    place.call(&["checkpoint", "--name", "a", "--leave-running", bundle.id()])?;
    let said = place.call(&["restore", "-d", "--rollback", "--name", "a", bundle.id()]);
    let Err(Stop::Failed(said)) = said else { return Err(Stop::failed("a container that runs was rolled back")) };
    ensure!(said.contains("already exists"), "{said}");
    let then = gapless_log(&place.volume.join("log"), 0)?;
    gapless_log(&place.volume.join("log"), then + 50)?;
    container.delete_force()?;
    place.call(&["restore", "-d", "--rollback", "--name", "a", bundle.id()])?;
    for log in [place.root.join("tmp/log"), place.volume.join("log")] {
        let length = lines(&log)?.len();
        gapless_log(&log, length)?;
    }
    place.delete(host, bundle.id())
}
