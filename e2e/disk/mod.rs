//! Snapshots of ZFS: found, taken, held, cloned, rolled back, sent; and what stands in the way is named. The room itself
//! is called here; what verbs make of it is tried beside.

pub(crate) mod kept;
pub(crate) mod own;
pub(crate) mod pool;

use harness::{Feature, Host, Outcome, Stop, ensure, ensure_eq, limit};
use pool::Pool;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use wharf_core::ContainerId;
use wharf_disk::{Cause, Dataset, Fault, Keeper, Marks, Snapshot, SnapshotName, Taken};

pub(crate) fn trials() -> Feature {
    Feature::new("disk")
        .trial("what keeps a directory is found: a dataset, through a bind mount, below an overlay", keepers)
        .trial("many datasets are one transaction of each pool, and marked", transaction)
        .trial("what fails in one pool is undone in the other, and a name that is taken is said to be", undone)
        .trial("a snapshot that is held stays, and another one by its name is not taken for it", held)
        .trial("a clone is a copy of its own, and its origin is protected by name", cloned)
        .trial("a dataset in use in another mount namespace: who has it is named", busy)
        .trial("a rollback names what is newer, and destroys none of it", rolled_back)
        .trial("a full pool and a used-up quota are told apart", full)
        .trial("a stream is received as what it was, whole and continued; a damaged one leaves nothing", streams)
        .trial("a missing pool is named, and missing parents are made", created)
        .trial("the time of a snapshot does not grow with what has been written", time)
}

fn name(checkpoint: &str) -> Result<SnapshotName, Stop> {
    let id = ContainerId::new("e2e+web").map_err(|error| Stop::failed(error.to_string()))?;
    well(SnapshotName::new(&id, checkpoint))
}

fn well<T>(done: Result<T, Fault>) -> Result<T, Stop> {
    done.map_err(|fault| Stop::failed(format!("{fault}; zfs: {}", fault.words())))
}

fn fault<T>(done: Result<T, Fault>) -> Result<Fault, Stop> {
    match done {
        Ok(_) => Err(Stop::failed("it succeeded")),
        Err(fault) => Ok(fault),
    }
}

fn text(fault: Fault) -> String {
    wharf_core::Error::from(fault).to_string()
}

fn take(datasets: &[Dataset], checkpoint: &str) -> Result<(Taken, Vec<Snapshot>), Stop> {
    let taken = well(wharf_disk::take(datasets, &name(checkpoint)?, &Marks::now("e2e+web", checkpoint)))?;
    let all = well(taken.identify())?;
    Ok((taken, all))
}

fn keepers(host: &Host) -> Outcome {
    let pool = Pool::new(host, 128)?;
    let (dataset, at) = pool.dataset("with blank")?;
    fs::create_dir_all(at.join("sub/upper"))?;
    fs::create_dir_all(at.join("sub/work"))?;
    let zfs = |path: &Path| -> Result<(String, String, bool), Stop> {
        match well(wharf_disk::keeper(File::open(path)?))? {
            Keeper::Zfs(place) => Ok((place.dataset.name, place.within.display().to_string(), place.upper)),
            Keeper::Other { what } => Err(Stop::failed(what)),
        }
    };
    ensure_eq!(zfs(&at)?, (dataset.clone(), String::new(), false));
    ensure_eq!(zfs(&at.join("sub/upper"))?, (dataset.clone(), "sub/upper".into(), false));
    let bound = host.new_dir("bound")?;
    let _bound = mounted(&["--bind", &at.join("sub").display().to_string()], &bound)?;
    ensure_eq!(zfs(&bound.join("upper"))?, (dataset.clone(), "sub/upper".into(), false));
    let (lower, merged) = (host.new_dir("lower")?, host.new_dir("merged")?);
    let options = format!("lowerdir={},upperdir={1}/upper,workdir={1}/work", lower.display(), bound.display());
    let overlay = mounted(&["-t", "overlay", "-o", &options, "overlay"], &merged)?;
    ensure_eq!(zfs(&merged)?, (dataset, "sub/upper".into(), true));
    drop(overlay);
    let other = |path: &Path| match well(wharf_disk::keeper(File::open(path)?))? {
        Keeper::Zfs(place) => Err(Stop::failed(format!("{place:?}"))),
        Keeper::Other { what } => Ok(what),
    };
    ensure_eq!(other(host.dir())?, "tmpfs");
    let (upper, work) = (host.new_dir("upper")?, host.new_dir("work")?);
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    let _overlay = mounted(&["-t", "overlay", "-o", &options, "overlay"], &merged)?;
    ensure_eq!(other(&merged)?, format!("overlay whose upper directory {} is on tmpfs", upper.display()));
    Ok(())
}

struct Mount(std::path::PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        umount(&self.0);
    }
}

fn umount(path: &Path) {
    let _ = Command::new("umount").arg(path).output();
}

fn mounted(words: &[&str], at: &Path) -> Result<Mount, Stop> {
    let done = Command::new("mount").args(words).arg(at).output()?;
    ensure!(done.status.success(), "mount {words:?}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(Mount(at.to_owned()))
}

fn find(name: &str) -> Result<Dataset, Stop> {
    well(wharf_disk::find(name))
}

fn transaction(host: &Host) -> Outcome {
    let (one, two) = (Pool::new(host, 128)?, Pool::new(host, 128)?);
    let all = [one.dataset("a")?.0, one.dataset("b")?.0, two.dataset("c")?.0];
    let mut datasets = all.iter().map(|name| find(name)).collect::<Result<Vec<_>, _>>()?;
    // A root file system and a volume in one dataset.
    datasets.push(datasets[0].clone());
    well(wharf_disk::preflight(&datasets, &name("first")?))?;
    let (taken, found) = take(&datasets, "first")?;
    ensure_eq!(found.len(), 3);
    ensure_eq!(found[0].full(), format!("{}@wharf-e2e:web-first", all[0]));
    let group = |at: usize| one.zfs(&["get", "-H", "-p", "-o", "value", "createtxg", &found[at].full()]);
    ensure_eq!(group(0)?, group(1)?);
    let listed = well(wharf_disk::snapshots(Some(&one.name)))?;
    ensure_eq!(listed.len(), 2);
    ensure_eq!((listed[0].container.as_str(), listed[0].checkpoint.as_str()), ("e2e+web", "first"));
    ensure_eq!(listed[0].guid, found[0].guid);
    well(taken.undo())?;
    ensure!(well(wharf_disk::snapshots(None))?.iter().all(|known| !known.name.starts_with(&one.name)), "they are left");
    Ok(())
}

fn undone(host: &Host) -> Outcome {
    let (one, two) = (Pool::new(host, 128)?, Pool::new(host, 128)?);
    let datasets = [find(&one.dataset("a")?.0)?, find(&two.dataset("b")?.0)?];
    let last = if one.name < two.name { &two } else { &one };
    let taken = format!("{}@wharf-e2e:web-first", datasets[usize::from(last.name == two.name)].name);
    last.zfs(&["snapshot", &taken])?;
    let before = fault(wharf_disk::preflight(&datasets, &name("first")?))?;
    ensure_eq!(before.cause(), &Cause::Exists);
    let fault = fault(wharf_disk::take(&datasets, &name("first")?, &Marks::now("e2e+web", "first")))?;
    ensure_eq!(fault.cause(), &Cause::Exists);
    ensure!(text(fault).contains(&format!("snapshot {taken}: the name is taken")), "it names the snapshot");
    let snapshots = |pool: &Pool| pool.zfs(&["list", "-H", "-t", "snapshot", "-o", "name", "-r", &pool.name]);
    let first = if one.name < two.name { &one } else { &two };
    ensure_eq!(snapshots(last)?, taken, "the user's own");
    ensure_eq!(snapshots(first)?, "", "what was taken before the failure");
    Ok(())
}

fn held(host: &Host) -> Outcome {
    let pool = Pool::new(host, 128)?;
    let (_, found) = take(&[find(&pool.dataset("a")?.0)?], "first")?;
    let snapshot = &found[0];
    well(wharf_disk::hold(snapshot, "wharf"))?;
    well(wharf_disk::hold(snapshot, "wharf"))?;
    ensure_eq!(well(wharf_disk::holds(snapshot))?[0].tag, "wharf");
    let refused = fault(wharf_disk::drop_snapshot(snapshot))?;
    ensure_eq!(refused.cause(), &Cause::Held);
    well(wharf_disk::release(snapshot, "wharf"))?;
    well(wharf_disk::release(snapshot, "wharf"))?;
    well(wharf_disk::drop_snapshot(snapshot))?;
    well(wharf_disk::drop_snapshot(snapshot))?;
    let (_, again) = take(std::slice::from_ref(&snapshot.dataset), "first")?;
    ensure!(again[0].guid != snapshot.guid, "a GUID is used again");
    ensure_eq!(fault(wharf_disk::drop_snapshot(snapshot))?.cause(), &Cause::Another);
    ensure_eq!(fault(wharf_disk::hold(snapshot, "wharf"))?.cause(), &Cause::Another);
    well(wharf_disk::drop_snapshot(&again[0]))
}

fn cloned(host: &Host) -> Outcome {
    let pool = Pool::new(host, 128)?;
    let (name, at) = pool.dataset("a")?;
    fs::write(at.join("file"), "before")?;
    let (_, found) = take(&[find(&name)?], "first")?;
    fs::write(at.join("file"), "after")?;
    let to = format!("{}/clones/new", pool.name);
    let clone = well(wharf_disk::clone_to(&found[0], &to, &Marks::now("new", "first")))?;
    let again = fault(wharf_disk::clone_to(&found[0], &to, &Marks::now("new", "first")))?;
    ensure_eq!(again.cause(), &Cause::Exists);
    ensure_eq!(pool.zfs(&["get", "-H", "-o", "value", "mounted", &to])?, "no");
    let place = host.new_dir("place")?;
    let tree = well(clone.mount())?;
    ensure!(fs::read_dir(&place)?.next().is_none(), "it is mounted somewhere already");
    wharf_sys::mount::attach(tree, File::open(&place)?)?;
    let mount = Mount(place.clone());
    ensure_eq!(fs::read_to_string(place.join("file"))?, "before");
    fs::write(place.join("file"), "the clone's")?;
    ensure_eq!(fs::read_to_string(at.join("file"))?, "after");
    ensure_eq!(well(wharf_disk::dependents(&found[0]))?, vec![to.clone()]);
    let refused = fault(wharf_disk::drop_snapshot(&found[0]))?;
    ensure_eq!(refused.cause(), &Cause::Clones(vec![to.clone()]));
    ensure!(text(refused).contains(&format!("clones depend on it: {to}")), "the message names the clone");
    let marked = well(wharf_disk::marked(Some(&pool.name)))?;
    ensure_eq!(marked.len(), 1);
    ensure_eq!((marked[0].container.as_str(), marked[0].origin.as_deref()), ("new", Some(found[0].full().as_str())));
    drop(mount);
    well(wharf_disk::destroy(&clone))?;
    well(wharf_disk::drop_snapshot(&found[0]))
}

/// A process in a mount namespace of its own, which has a copy of all mounts.
struct Elsewhere(Child);

impl Elsewhere {
    fn new() -> Result<Self, Stop> {
        let mut child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", "echo; exec sleep 1000"])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut byte = [0];
        let stdout = child.stdout.as_mut().ok_or_else(|| Stop::failed("no pipe"))?;
        std::io::Read::read_exact(stdout, &mut byte)?;
        Ok(Elsewhere(child))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn busy(host: &Host) -> Outcome {
    let pool = Pool::new(host, 128)?;
    let dataset = well(wharf_disk::create(&format!("{}/x/y", pool.name), &Marks::now("c", "")))?;
    let place = host.new_dir("place")?;
    wharf_sys::mount::attach(well(dataset.mount())?, File::open(&place)?)?;
    let mount = Mount(place.clone());
    let elsewhere = Elsewhere::new()?;
    let namespace = fs::read_link(format!("/proc/{}/ns/mnt", elsewhere.pid()))?;
    // Ours is gone; that of the other namespace is not.
    drop(mount);
    let refused = fault(wharf_disk::destroy(&dataset))?;
    ensure_eq!(refused.cause(), &Cause::Busy);
    let (told, pid) = (text(refused), elsewhere.pid());
    let expected = format!("mounted on {} in {} of process {pid} (sleep)", place.display(), namespace.display());
    ensure!(told.contains(&expected), "expected {expected:?} in {told:?}");
    let holders = wharf_disk::holders(&dataset);
    ensure_eq!(holders.len(), 1, "{holders:?}");
    drop(elsewhere);
    let begun = Instant::now();
    // The kernel lets a namespace's mounts go a moment after its last process.
    while let Err(fault) = wharf_disk::destroy(&dataset) {
        ensure!(begun.elapsed() < limit(20), "{fault}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    Ok(())
}

fn rolled_back(host: &Host) -> Outcome {
    let pool = Pool::new(host, 128)?;
    let (name, at) = pool.dataset("a")?;
    fs::write(at.join("file"), "one")?;
    let (_, first) = take(&[find(&name)?], "first")?;
    fs::write(at.join("file"), "two")?;
    pool.zfs(&["snapshot", &format!("{name}@mine")])?;
    pool.zfs(&["bookmark", &format!("{name}@mine"), "#mark"])?;
    let newer = [format!("{name}@mine"), format!("{name}#mark")];
    let refused = fault(wharf_disk::rollback(&first[0]))?;
    match refused.cause() {
        Cause::Newer(list) => ensure_eq!(list.len(), 2, "{list:?}"),
        other => return Err(Stop::failed(format!("{other:?}"))),
    }
    ensure!(newer.iter().all(|one| refused.to_string().contains(one)), "{refused}");
    ensure_eq!(fs::read_to_string(at.join("file"))?, "two");
    newer.iter().try_for_each(|one| pool.zfs(&["destroy", one]).map(drop))?;
    well(wharf_disk::rollback(&first[0]))?;
    ensure_eq!(fs::read_to_string(at.join("file"))?, "one");
    Ok(())
}

/// Bytes that no compression makes fewer.
fn noise() -> impl Iterator<Item = u8> {
    let mut seed: u64 = 88_172_645_463_325_252;
    let word = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    std::iter::repeat_with(word).flat_map(u64::to_ne_bytes)
}

/// Writes until there is no space left.
fn fill(path: &Path) -> Outcome {
    let (mut file, mut noise) = (File::create(path)?, noise());
    loop {
        let block: Vec<u8> = noise.by_ref().take(1 << 17).collect();
        if std::io::Write::write_all(&mut file, &block).is_err() {
            let _ = file.sync_all();
            return Ok(());
        }
    }
}

fn full(host: &Host) -> Outcome {
    let pool = Pool::new(host, 80)?;
    let (source, at) = pool.dataset("source")?;
    fs::write(at.join("file"), noise().take(6 << 20).collect::<Vec<u8>>())?;
    let (_, found) = take(&[find(&source)?], "first")?;
    let stream = host.dir().join("stream");
    well(wharf_disk::send(&found[0], None, File::create(&stream)?.into()))?;
    let (limited, _) = pool.dataset("limited")?;
    pool.zfs(&["set", "quota=4M", &limited])?;
    let (to, marks) = (format!("{limited}/copy"), Marks::now("c", "first"));
    let stream = File::open(&stream)?.into();
    let refused = fault(wharf_disk::receive(&to, &found[0].name, found[0].guid, &marks, stream))?;
    ensure_eq!(refused.cause(), &Cause::Quota(limited.clone()), "{}", refused.words());
    ensure!(text(refused).contains(&format!("the quota of {limited} is used up")), "it names the dataset");
    let (other, at) = pool.dataset("other")?;
    fill(&at.join("file"))?;
    let datasets = [find(&other)?];
    let before = fault(wharf_disk::preflight(&datasets, &name("first")?))?;
    ensure_eq!(before.cause(), &Cause::Full);
    let refused = fault(wharf_disk::take(&datasets, &name("first")?, &Marks::now("c", "first")))?;
    ensure_eq!(refused.cause(), &Cause::Full);
    ensure!(text(refused).starts_with(&format!("snapshot {other}@wharf-e2e:web-first: the pool is full")), "by name");
    let left = pool.zfs(&["list", "-H", "-t", "snapshot", "-o", "name", "-r", &other])?;
    ensure_eq!(left, "");
    Ok(())
}

fn streams(host: &Host) -> Outcome {
    let pool = Pool::new(host, 128)?;
    let (name, at) = pool.dataset("a")?;
    pool.zfs(&["set", "dev.wharf:secret=1", &name])?;
    fs::write(at.join("file"), "one")?;
    let dataset = find(&name)?;
    let (_, first) = take(std::slice::from_ref(&dataset), "first")?;
    fs::write(at.join("file"), "two")?;
    let (_, second) = take(&[dataset], "second")?;
    let (whole, part) = (host.dir().join("whole"), host.dir().join("part"));
    well(wharf_disk::send(&first[0], None, File::create(&whole)?.into()))?;
    well(wharf_disk::send(&second[0], Some(&first[0]), File::create(&part)?.into()))?;
    let to = format!("{}/copy", pool.name);
    let marks = Marks::now("other", "first");
    let receive = |from: &Path, of: &Snapshot| {
        wharf_disk::receive(&to, &of.name, of.guid, &marks, File::open(from).unwrap().into())
    };
    let orphan = fault(receive(&part, &second[0]))?;
    ensure_eq!(orphan.cause(), &Cause::Stream, "{}", orphan.words());
    let mut bytes = fs::read(&whole)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    let damaged = host.dir().join("damaged");
    fs::write(&damaged, &bytes)?;
    ensure_eq!(fault(receive(&damaged, &first[0]))?.cause(), &Cause::Stream);
    fs::write(&damaged, &fs::read(&whole)?[..middle])?;
    ensure_eq!(fault(receive(&damaged, &first[0]))?.cause(), &Cause::Stream);
    ensure_eq!(fault(wharf_disk::find(&to))?.cause(), &Cause::NoSuchDataset);
    let got = well(receive(&whole, &first[0]))?;
    ensure_eq!(got.guid, first[0].guid);
    let got = well(receive(&part, &second[0]))?;
    ensure_eq!(pool.zfs(&["get", "-H", "-o", "value", "mounted,mountpoint", &to])?, "no\nlegacy");
    let place = host.new_dir("place")?;
    wharf_sys::mount::attach(well(got.dataset.mount())?, File::open(&place)?.as_fd())?;
    let _mount = Mount(place.clone());
    ensure_eq!(fs::read_to_string(place.join("file"))?, "two");
    Ok(())
}

fn created(host: &Host) -> Outcome {
    let pool = Pool::new(host, 128)?;
    let marks = Marks::now("c", "");
    let missing = format!("{}-missing", pool.name);
    for name in [format!("{missing}/a"), format!("{missing}/a/b")] {
        let refused = fault(wharf_disk::create(&name, &marks))?;
        ensure_eq!(refused.cause(), &Cause::NoSuchPool, "{name}: {}", refused.words());
    }
    let name = format!("{}/a/b/c", pool.name);
    well(wharf_disk::create(&name, &marks))?;
    ensure_eq!(fault(wharf_disk::create(&name, &marks))?.cause(), &Cause::Exists);
    Ok(())
}

fn time(host: &Host) -> Outcome {
    let full = std::env::var_os("WHARF_E2E_FULL").is_some();
    let pool = Pool::new(host, if full { 3000 } else { 300 })?;
    let (name, at) = pool.dataset("a")?;
    let dataset = [find(&name)?];
    let mut told = Vec::new();
    for megabytes in [10, if full { 1024 } else { 40 }] {
        let done = Command::new("dd")
            .args(["if=/dev/urandom", "bs=1M", "conv=fsync", &format!("count={megabytes}")])
            .arg(format!("of={}", at.join("file").display()))
            .output()?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let mut times = Vec::new();
        for number in 0..5 {
            let checkpoint = format!("{megabytes}_{number}");
            let marks = Marks::now("c", &checkpoint);
            let begun = Instant::now();
            let taken = well(wharf_disk::take(&dataset, &self::name(&checkpoint)?, &marks))?;
            times.push(begun.elapsed());
            well(taken.undo())?;
        }
        times.sort();
        told.push((megabytes, times[2]));
    }
    eprintln!("disk: median time of a snapshot by megabytes written: {told:?}");
    ensure!(told[1].1 < told[0].1 * 4 + limit(1) / 2, "{told:?}");
    Ok(())
}
