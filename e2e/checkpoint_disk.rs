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
        .trial("what counts in memory and in files of two datasets goes on without a gap, with fsync", |host| {
            gapless(host, "1")
        })
        .trial("what counts in memory and in files of two datasets goes on without a gap, without fsync", |host| {
            gapless(host, "0")
        })
        .trial("a database that is written to is whole, and of one moment with its writer: rollback journal", |host| {
            database(host, "delete")
        })
        .trial("a database that is written to is whole, and of one moment with its writer: write-ahead log", |host| {
            database(host, "wal")
        })
        .trial("one checkpoint is restored as several containers, each with its own disk, and the origin stays", clones)
        .trial("a volume that is on no dataset is named, and nothing is left", refused)
        .trial("a container that has stopped: its disk alone is kept, and is told to be", of_disk_alone)
        .trial("--rollback: the datasets are what they were, and what is newer is named and stays", rolled_back)
}

pub(crate) struct Place<'h> {
    pub(crate) criu: Criu<'h>,
    pub(crate) pool: Pool,
    pub(crate) root: PathBuf,
    pub(crate) volume: PathBuf,
    pub(crate) configuration: PathBuf,
}

pub(crate) fn place(host: &Host) -> Result<Place<'_>, Stop> {
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
    pub(crate) fn bundle(&self, host: &Host) -> Result<Bundle, Stop> {
        self.numbering(host, "8")
    }

    /// One that writes a number after the other, and every so many of them with fsync(2); never with 0.
    fn numbering(&self, host: &Host, sync: &str) -> Result<Bundle, Stop> {
        let words = ["number-lines", sync, "/tmp/log", "/volume/log"];
        let bundle = host.bundle()?.payload(&words).set("/root/path", json!(self.root));
        Ok(bundle.mount("/volume", "bind", self.volume.to_str().unwrap_or_default(), &["rbind", "rw"]))
    }

    pub(crate) fn call(&self, words: &[&str]) -> Outcome {
        let configuration = self.configuration.display().to_string();
        let words = [&["--config", configuration.as_str()], words].concat();
        let words = self.criu.words(&words);
        self.criu.quietly(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    pub(crate) fn delete(&self, host: &Host, id: &str) -> Outcome {
        host.runtime.must(&["delete", "--force", id]).map(drop)
    }
}

/// Complete lines of a log.
pub(crate) fn lines(path: &Path) -> Result<Vec<u64>, Stop> {
    let text = fs::read_to_string(path)?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    Ok(whole.lines().map(|line| line.parse().unwrap_or(0)).collect())
}

/// Waits for a log to grow, and looks that it has each number once and in order.
pub(crate) fn gapless_log(path: &Path, before: usize) -> Result<usize, Stop> {
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

pub(crate) fn logs(host: &Host, id: &str) -> [PathBuf; 2] {
    let at = host.root().join(".clones").join(id);
    [at.join("disk-0/rootfs/tmp/log"), at.join("disk-1/log")]
}

pub(crate) fn started<'h>(place: &Place<'h>, bundle: &Bundle) -> Result<Container<'h>, Stop> {
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

fn rounds() -> u64 {
    if std::env::var_os("WHARF_E2E_FULL").is_some() { 50 } else { 3 }
}

fn gapless(host: &Host, sync: &str) -> Outcome {
    let place = place(host)?;
    let bundle = place.numbering(host, sync)?;
    let container = started(&place, &bundle)?;
    for round in 0..rounds() {
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

/// Writes one row after the other, whose number it has in its memory, and tells in a file on the other dataset.
const WRITER: &str = "
import sqlite3, sys, time
base = sqlite3.connect('/volume/base', isolation_level=None)
base.execute('pragma journal_mode = ' + sys.argv[1])
base.execute('create table row (number integer primary key, text text)')
number = 0
log = open('/tmp/log', 'a', buffering=1)
while True:
    number += 1
    base.execute('begin immediate')
    base.execute('insert into row values (?, ?)', (number, 'x' * (number % 4000)))
    base.execute('commit')
    log.write(f'{number}\\n')
    time.sleep(0.001)
";

/// What is in a database: rows, and the highest number; all is well with it.
const READER: &str = "
import sqlite3, sys
base = sqlite3.connect(sys.argv[1], timeout=60)
print(base.execute('pragma integrity_check').fetchone()[0], *base.execute('select count(*), max(number) from row').fetchone())
";

fn rows(path: &Path) -> Result<usize, Stop> {
    let read = Command::new("/usr/bin/python3").args(["-c", READER]).arg(path).output()?;
    let told = String::from_utf8_lossy(&read.stdout).into_owned();
    match told.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["ok", count, highest] if count == highest => Ok(count.parse()?),
        _ => Err(Stop::failed(format!("{}: {told}{}", path.display(), String::from_utf8_lossy(&read.stderr)))),
    }
}

fn database(host: &Host, journal: &str) -> Outcome {
    let python = Command::new("/usr/bin/python3").args(["-c", "import sqlite3"]).output();
    if !python.is_ok_and(|done| done.status.success()) {
        return Err(Stop::skipped("python3 with sqlite3 is not installed"));
    }
    let place = place(host)?;
    let mut bundle = place.bundle(host)?.args(&["/usr/bin/python3", "-c", WRITER, journal]);
    for dir in ["usr", "lib", "lib64"].iter().filter(|dir| Path::new("/").join(dir).exists()) {
        let dir = format!("/{dir}");
        bundle = bundle.mount(&dir, "bind", &dir, &["bind", "ro"]);
    }
    let container = place.criu.start(&bundle)?;
    gapless_log_when_there(&place.root.join("tmp/log"))?;
    for round in 0..rounds() {
        std::thread::sleep(Duration::from_millis(17 * (round % 13)));
        let (name, twin) = (format!("r{round}"), host.unique("twin"));
        place.call(&["checkpoint", "--name", &name, "--leave-running", "--file-locks", bundle.id()])?;
        place.call(&["restore", "-d", "--name", &name, "--file-locks", "--as", &twin, bundle.id()])?;
        let at = host.root().join(".clones").join(&twin);
        let (log, base) = (at.join("disk-0/rootfs/tmp/log"), at.join("disk-1/base"));
        let told = lines(&log)?.len();
        gapless_log(&log, told)?;
        place.delete(host, &twin_stopped(host, &twin, &log, &base)?)?;
    }
    container.delete_force()
}

/// Its writer ends where it is, and what it has written is compared: a row for each line, or one more that it had no time
/// to tell of.
fn twin_stopped(host: &Host, twin: &str, log: &Path, base: &Path) -> Result<String, Stop> {
    host.runtime.must(&["kill", twin, "KILL"])?;
    let begun = Instant::now();
    while !host.runtime.must(&["state", twin])?.contains("stopped") {
        ensure!(begun.elapsed() < limit(20), "{twin} does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
    let (told, kept) = (lines(log)?.len(), rows(base)?);
    ensure!(kept == told || kept == told + 1, "{told} lines and {kept} rows");
    Ok(twin.to_owned())
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

fn of_disk_alone(host: &Host) -> Outcome {
    let place = place(host)?;
    let bundle = place.bundle(host)?;
    let container = started(&place, &bundle)?;
    container.kill("KILL")?;
    container.wait_for_status("stopped")?;
    let told = |words: &[&str]| place.call(words).err().map(|stop| format!("{stop:?}")).unwrap_or_default();
    let images = host.new_dir("images")?.display().to_string();
    let refused = told(&["checkpoint", "--image-path", &images, bundle.id()]);
    ensure!(refused.contains("container not running (--name keeps its disk"), "{refused}");
    place.call(&["checkpoint", "--name", "a", bundle.id()])?;
    ensure_eq!(container.status()?, "stopped");
    let configuration = place.configuration.display().to_string();
    let listed = host.runtime.must(&["--config", &configuration, "checkpoints", "list"])?;
    ensure!(listed.lines().any(|line| line.contains(bundle.id()) && line.contains("disk only")), "{listed}");
    let snapshots = place.pool.zfs(&["list", "-H", "-t", "snapshot", "-o", "name", "-r", &place.pool.name])?;
    ensure_eq!(snapshots.lines().filter(|line| line.ends_with(&format!("@wharf-{}-a", bundle.id()))).count(), 2);
    let refused = told(&["restore", "-d", "--name", "a", "--as", "other", bundle.id()]);
    ensure!(refused.contains("the checkpoint holds no memory: it is of the disk alone"), "{refused}");
    host.runtime.must(&["--config", &configuration, "checkpoints", "remove", bundle.id(), "a"])?;
    ensure_eq!(place.pool.zfs(&["list", "-H", "-t", "snapshot", "-o", "name", "-r", &place.pool.name])?, "");
    container.delete()
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
