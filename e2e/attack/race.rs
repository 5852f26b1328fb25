//! Races: another process exchanges a directory and a link, or a device and a link, while containers start.

use super::arena::{Arena, Runtime};
use super::{Attack, Verdict, settle};
use harness::json;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack {
            name: "race_target_directory",
            cve: "2021-30465, 2024-45310",
            what: "a directory of a shared volume, on the way to a mount target, is exchanged for a link to the host in a loop",
            run: |runtime| exchanged_target(runtime, false),
        },
        Attack {
            name: "race_target_file",
            cve: "2021-30465, 2024-45310",
            what: "the same, and a file is bound to the target",
            run: |runtime| exchanged_target(runtime, true),
        },
        Attack {
            name: "race_mask_null",
            cve: "2025-31133",
            what: "/dev is a shared volume whose null is exchanged for a link to a file of the attacker in a loop",
            run: exchanged_null,
        },
        Attack {
            name: "race_procfs_target",
            cve: "2019-19921, 2025-52881",
            what: "proc is mounted below a directory of a shared volume that is exchanged for a link to the host in a loop",
            run: exchanged_proc,
        },
    ]
}

/// In one step; false where the kernel refused.
#[cfg(target_env = "gnu")]
fn exchange(one: &Path, other: &Path) -> bool {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE).is_ok()
}

/// nix has no renameat2 for musl: three steps, so that one of the paths is missing for a moment.
#[cfg(not(target_env = "gnu"))]
fn exchange(one: &Path, other: &Path) -> bool {
    let aside = one.with_extension("aside");
    fs::rename(one, &aside).and_then(|()| fs::rename(other, one)).and_then(|()| fs::rename(&aside, other)).is_ok()
}

/// Exchanges two paths until it is dropped.
pub(super) struct Exchanger {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Exchanger {
    pub(super) fn begin(one: PathBuf, other: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicU64::new(0));
        let (ended, counted) = (stop.clone(), count.clone());
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                if exchange(&one, &other) {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Exchanger { stop, count, thread: Some(thread) }
    }

    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for Exchanger {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Starts per race; all of them with `WHARF_E2E_FULL`.
pub(super) fn rounds(runtime: &Runtime<'_>) -> u32 {
    match (std::env::var_os("WHARF_E2E_FULL").is_some(), runtime.is_wharf()) {
        (true, true) => 1000,
        (true, false) => 300,
        (false, true) => 60,
        (false, false) => 60,
    }
}

fn exchanged_target(runtime: &Runtime<'_>, file: bool) -> Verdict {
    let mut arena = Arena::new(runtime, &[]);
    let volume = shared_volume(&mut arena);
    let inner = arena.dir.join("inner");
    fs::create_dir(&inner).expect("an inner volume");
    fs::write(inner.join("file"), "inner").expect("a file");
    let source = if file { inner.join("file") } else { inner };
    arena.mount(json!({
        "destination": "/vol/way/new/deep", "type": "bind", "source": source.display().to_string(), "options": ["rbind"]
    }));
    race(&arena, runtime, &volume)
}

fn exchanged_proc(runtime: &Runtime<'_>) -> Verdict {
    let mut arena = Arena::new(runtime, &[]);
    let volume = shared_volume(&mut arena);
    arena.mount(json!({"destination": "/vol/way/new/deep", "type": "proc", "source": "proc"}));
    race(&arena, runtime, &volume)
}

/// /vol is a volume in which `way` is a directory, and `trap` a link to a directory of the host.
fn shared_volume(arena: &mut Arena) -> PathBuf {
    let volume = arena.dir.join("volume");
    fs::create_dir_all(volume.join("way")).expect("a volume");
    std::os::unix::fs::symlink(arena.host(), volume.join("trap")).expect("a link");
    arena.mount(
        json!({"destination": "/vol", "type": "bind", "source": volume.display().to_string(), "options": ["rbind"]}),
    );
    volume
}

fn race(arena: &Arena, runtime: &Runtime<'_>, volume: &Path) -> Verdict {
    let before = arena.inventory();
    let exchanger = Exchanger::begin(volume.join("way"), volume.join("trap"));
    let (mut ran_well, mut refused) = (0, 0);
    let mut last = None;
    for round in 0..rounds(runtime) {
        let ran = arena.run(runtime);
        match ran.alive() {
            true => ran_well += 1,
            false => refused += 1,
        }
        if let Verdict::Hit(how) = settle(arena, runtime, &before, &ran) {
            return Verdict::Hit(format!("after {} starts: {how}", round + 1));
        }
        // What was made below the directory is made anew by the next start.
        for name in ["way", "trap"] {
            let path = volume.join(name);
            if !path.is_symlink() {
                let _ = fs::remove_dir_all(path.join("new"));
            }
        }
        last = Some(ran);
    }
    let count = exchanger.count();
    if count < u64::from(rounds(runtime)) * 20 {
        return Verdict::Void(format!("only {count} exchanges in {ran_well} + {refused} starts"));
    }
    if ran_well == 0 {
        return Verdict::Void(format!("no start succeeded: {}", last.map(|ran| ran.said()).unwrap_or_default()));
    }
    Verdict::Held(format!("{count} exchanges during {ran_well} good and {refused} refused starts, the host untouched"))
}

fn exchanged_null(runtime: &Runtime<'_>) -> Verdict {
    let mut arena = Arena::new(runtime, &["cat", "/private"]);
    arena.file("private", "WHAT-THE-MASK-HIDES");
    arena.file("decoy", "DECOY");
    arena.config["linux"]["maskedPaths"] = json!(["/private"]);
    arena.unmount("/dev");
    let volume = arena.dir.join("volume");
    fs::create_dir(&volume).expect("a volume");
    let mode = Mode::from_bits_truncate(0o666);
    for (name, minor) in [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)] {
        mknod(&volume.join(name), SFlag::S_IFCHR, mode, makedev(1, minor)).expect("a device node");
    }
    std::os::unix::fs::symlink("/decoy", volume.join("trap")).expect("a link");
    arena.mount(
        json!({"destination": "/dev", "type": "bind", "source": volume.display().to_string(), "options": ["rbind"]}),
    );
    let before = arena.inventory();
    let exchanger = Exchanger::begin(volume.join("null"), volume.join("trap"));
    let (mut masked, mut refused) = (0, 0);
    for round in 0..rounds(runtime) {
        let ran = arena.run(runtime);
        let read = ran.line("cat /private").unwrap_or_default();
        if read.contains("DECOY") || read.contains("HIDES") {
            return Verdict::Hit(format!("after {} starts: the masked path reads {read:?}", round + 1));
        }
        match ran.alive() {
            true => masked += 1,
            false => refused += 1,
        }
        if let Verdict::Hit(how) = settle(&arena, runtime, &before, &ran) {
            return Verdict::Hit(format!("after {} starts: {how}", round + 1));
        }
    }
    let count = exchanger.count();
    if count < u64::from(rounds(runtime)) * 20 || masked == 0 {
        return Verdict::Void(format!("{count} exchanges, {masked} good starts"));
    }
    Verdict::Held(format!("{count} exchanges during {masked} good and {refused} refused starts, always masked"))
}
