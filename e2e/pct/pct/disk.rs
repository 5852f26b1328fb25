//! mount, unmount, df, fstrim, resize, template, clone: what is done to a container's volumes (§2).

use crate::answer::Death;
use crate::args::Words;
use crate::config::Config;
use crate::keys::shape;
use crate::storage::{self, Storage, zfs};
use crate::task::{Task, Verdict};
use crate::world::World;
use crate::{ct, hook, lock, lxc};
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// In the host's own mount namespace, with the lock `mounted`.
pub(super) fn mount(world: &World, words: Words) -> Result<(), Death> {
    let id = words.id();
    ct::load(world, id)?;
    let _lock = lock::container(world, id, false)?;
    let mut config = ct::load(world, id)?;
    ct::check_lock(&config, None)?;
    let root = lxc::dir(world, id).join("rootfs");
    fs::create_dir_all(&root).map_err(|error| Death::system("make the root file system's place", error))?;
    hook::mount_all(world, &config.current, &root)?;
    config.current.set("lock", "mounted");
    ct::save(world, id, &config)?;
    println!("mounted CT {id} in '{}'", root.display());
    Ok(())
}

pub(super) fn unmount(world: &World, words: Words) -> Result<(), Death> {
    let id = words.id();
    ct::load(world, id)?;
    let _lock = lock::container(world, id, false)?;
    let mut config = ct::load(world, id)?;
    if config.current.get("lock") != Some("mounted") {
        // Two blanks, as it is.
        return Err(Death::worker("no lock found trying to remove 'mounted'  lock"));
    }
    take_down(&lxc::dir(world, id).join("rootfs"));
    config.current.remove("lock");
    ct::save(world, id, &config)
}

/// Everything that is mounted at the place or below it.
pub(crate) fn take_down(root: &Path) {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let below = table.lines().filter_map(|line| line.split(' ').nth(1)).filter(|at| Path::new(at).starts_with(root));
    let mut all: Vec<&str> = below.collect();
    all.reverse();
    for at in all {
        let path = CString::new(Path::new(at).as_os_str().as_bytes()).unwrap_or_default();
        let _ = wharf_sys::mount::umount(&path, 0);
    }
}

/// A volume of the configuration, and where it lies.
fn volume(world: &World, config: &Config, key: &str) -> Result<(Storage, String), Death> {
    let value = config.current.get(key).ok_or_else(|| Death::worker(format!("no such mount point: {key}")))?;
    let found = shape(key).map(|shape| shape.parse(value)).and_then(Result::ok).unwrap_or_default();
    storage::volume(world, found.get("volume").unwrap_or_default())
}

/// Grows only; rc 0 on failure (§0.1).
pub(super) fn resize(world: &World, words: Words) -> Result<(), Death> {
    let id = words.id();
    let config = ct::load(world, id)?;
    ct::check_lock(&config, None)?;
    Task { world, kind: "resize", id, result: Verdict::Ignored }.run(|| {
        let _lock = lock::container(world, id, false)?;
        let mut config = ct::load(world, id)?;
        let key = words.positionals[1].as_str();
        let (storage, name) = volume(world, &config, key)?;
        let path = storage.path(&name).unwrap_or_default();
        let now = match storage.is_zfs() {
            true => zfs(&["get", "-Hpo", "value", "refquota", &storage.dataset(&name)])?.trim().parse().unwrap_or(0),
            false => fs::metadata(&path).map_or(0, |about| about.len()),
        };
        let new = bytes(&words.positionals[2], now).ok_or_else(|| Death::worker("unable to parse the size"))?;
        if new < now {
            return Err(Death::worker("unable to shrink disk size"));
        }
        if storage.is_zfs() {
            zfs(&["set", &format!("refquota={new}"), &storage.dataset(&name)])?;
        } else if name.ends_with(".raw") {
            let grow = || fs::OpenOptions::new().write(true).open(&path)?.set_len(new);
            grow().map_err(|error| Death::system("grow the image", error))?;
            for (program, words) in [("/usr/sbin/e2fsck", vec!["-f", "-y"]), ("/usr/sbin/resize2fs", vec![])] {
                let _ = Command::new(program).args(words).arg(&path).stdin(Stdio::null()).status();
            }
        } else {
            return Err(Death::worker("can't resize this image format"));
        }
        let value = config.current.get(key).unwrap_or_default();
        let mut parts: Vec<String> =
            value.split(',').filter(|part| !part.starts_with("size=")).map(str::to_owned).collect();
        parts.push(format!("size={}", crate::rootfs::size(new)));
        config.current.set(key, &parts.join(","));
        ct::save(world, id, &config)
    })
}

/// `+1G`, or `5G`.
fn bytes(text: &str, now: u64) -> Option<u64> {
    let (more, text) = text.strip_prefix('+').map_or((0, text), |rest| (now, rest));
    let (digits, shift) = match text.chars().last()? {
        'K' => (&text[..text.len() - 1], 10),
        'M' => (&text[..text.len() - 1], 20),
        'G' => (&text[..text.len() - 1], 30),
        'T' => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let number: f64 = digits.parse().ok()?;
    Some(more + (number * (1u64 << shift) as f64) as u64)
}

pub(super) fn df(world: &World, words: Words) -> Result<(), Death> {
    let id = words.id();
    let config = ct::load(world, id)?;
    let mut rows = vec![["MP", "Volume", "Size", "Used", "Avail", "Use%", "Path"].map(str::to_owned)];
    for (key, value) in config.current.mounts() {
        let found = shape(&key).and_then(|shape| shape.parse(&value).ok()).unwrap_or_default();
        let volume = found.get("volume").unwrap_or_default().to_owned();
        let path = if volume.starts_with('/') { volume.clone().into() } else { storage::existing(world, &volume)? };
        let said = Command::new("/usr/bin/df").args(["-h", "--output=size,used,avail,pcent"]).arg(&path).output();
        let said = said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned()).unwrap_or_default();
        let mut figures = said.lines().nth(1).unwrap_or_default().split_whitespace().map(str::to_owned);
        let mut next = || figures.next().unwrap_or_default();
        let inside = found.get("mp").unwrap_or("/").to_owned();
        rows.push([key, volume, next(), next(), next(), next(), inside]);
    }
    let width = |at: usize| rows.iter().map(|row| row[at].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..7).map(width).collect();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        println!("{}", cells.join(" ").trim_end());
    }
    Ok(())
}

/// rc 0 on failure (§0.1). The double trims nothing: on directory storage it would be the host's file system.
pub(super) fn fstrim(world: &World, words: Words) -> Result<(), Death> {
    let id = words.id();
    ct::load(world, id)?;
    Task { world, kind: "fstrim", id, result: Verdict::Ignored }.run(|| {
        let config = ct::load(world, id)?;
        ct::check_lock(&config, None)?;
        let root = lxc::dir(world, id).join("rootfs");
        println!("{}/: 0 B (0 bytes) trimmed", root.display());
        Ok(())
    })
}

/// rc 0 on failure (§0.1). ZFS: the subvol becomes a basevol with `@__base__`.
pub(super) fn template(world: &World, words: Words) -> Result<(), Death> {
    let id = words.id();
    ct::load(world, id)?;
    Task { world, kind: "vztemplate", id, result: Verdict::Ignored }.run(|| {
        let _lock = lock::container(world, id, false)?;
        let mut config = ct::load(world, id)?;
        ct::check_lock(&config, None)?;
        if config.current.is("template") {
            return Err(Death::worker(format!("CT {id} is already a template")));
        }
        if ct::is_running(world, id) {
            return Err(Death::worker("you can't convert a CT to template if the CT is running"));
        }
        if !config.snapshots.is_empty() {
            return Err(Death::worker("unable to create template, because CT contains snapshots"));
        }
        for (key, value) in config.current.mounts() {
            let found = shape(&key).and_then(|shape| shape.parse(&value).ok()).unwrap_or_default();
            let volume = found.get("volume").unwrap_or_default();
            let unavailable = || Death::worker(format!("Template feature is not available for '{volume}'"));
            if volume.starts_with('/') {
                return Err(unavailable());
            }
            let (storage, name) = storage::volume(world, volume)?;
            if !storage.is_zfs() {
                return Err(unavailable());
            }
            let base = name.replacen("subvol-", "basevol-", 1);
            zfs(&["rename", &storage.dataset(&name), &storage.dataset(&base)])?;
            zfs(&["snapshot", &format!("{}@__base__", storage.dataset(&base))])?;
            config.current.set(&key, &value.replacen(&name, &base, 1));
        }
        config.current.set("template", "1");
        ct::save(world, id, &config)
    })
}

pub(super) fn clone(world: &World, words: Words) -> Result<(), Death> {
    let (id, new) = (words.id(), words.positionals[1].parse::<u32>().unwrap_or_default());
    let source = ct::load(world, id)?;
    if let Some((kind, node)) = ct::taken(world, new) {
        return Err(Death::worker(format!("{kind} {new} already exists on node '{node}'")));
    }
    ct::check_lock(&source, None)?;
    let running = ct::is_running(world, id);
    if running && words.get("snapname").is_none() {
        return Err(Death::worker("Full clone of a running container is only possible from a snapshot"));
    }
    let full = words.is("full") || !source.current.is("template");
    Task { world, kind: "vzclone", id, result: Verdict::Checked }.run(|| {
        let _lock = lock::container(world, new, true)?;
        let section = match words.get("snapname") {
            None => source.current.clone(),
            Some(name) => {
                let kept = source.snapshot(name);
                kept.cloned().ok_or_else(|| Death::worker(format!("snapshot '{name}' does not exist")))?
            }
        };
        let mut config = Config { current: section, ..Config::default() };
        for key in ["lock", "template", "parent", "snaptime"] {
            config.current.remove(key);
        }
        if let Some(name) = words.get("hostname") {
            config.current.set("hostname", name);
        }
        println!("creating a clone of container {id}");
        for (key, value) in config.current.mounts() {
            let found = shape(&key).and_then(|shape| shape.parse(&value).ok()).unwrap_or_default();
            let volume = found.get("volume").unwrap_or_default().to_owned();
            if volume.starts_with('/') {
                return Err(Death::worker(format!("unable to clone mountpoint '{key}' (type bind)")));
            }
            let (storage, name) = storage::volume(world, &volume)?;
            let made = if full { copy(world, new, &storage, &name)? } else { link(new, &storage, &name, &volume)? };
            config.current.set(&key, &value.replacen(&name, &made, 1));
        }
        ct::save(world, new, &config)
    })
}

fn link(new: u32, storage: &Storage, name: &str, volume: &str) -> Result<String, Death> {
    if !storage.is_zfs() || !name.starts_with("basevol-") {
        return Err(Death::worker(format!("Linked clone feature for '{volume}' is not available")));
    }
    let own = format!("subvol-{new}-disk-0");
    zfs(&["clone", &format!("{}@__base__", storage.dataset(name)), &storage.dataset(&own)])?;
    Ok(format!("{name}/{own}"))
}

fn copy(world: &World, new: u32, storage: &Storage, name: &str) -> Result<String, Death> {
    let bytes = name
        .ends_with(".raw")
        .then(|| storage.path(name).and_then(|path| path.metadata().ok()).map_or(0, |about| about.len()));
    let made = storage.allocate(world, new, bytes, 0)?;
    let (from, to) = (storage.path(name).unwrap_or_default(), storage.path(&made).unwrap_or_default());
    let mut command = Command::new("/usr/bin/cp");
    command.args(["-a", "--sparse=auto", "-T"]).arg(&from).arg(&to);
    match command.status() {
        Ok(status) if status.success() => Ok(made),
        _ => Err(Death::worker(format!("command 'rsync … {} {}' failed", from.display(), to.display()))),
    }
}
