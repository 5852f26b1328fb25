//! set and unlock: changes of a configuration, at once or at the next start.

use crate::answer::{Death, WORKER};
use crate::args::Words;
use crate::config::Config;
use crate::world::World;
use crate::{ct, keys, lock, rootfs};
use std::fs;

pub(super) fn set(world: &World, mut words: Words) -> Result<(), Death> {
    let id = words.id();
    let (delete, revert) = (words.take("delete"), words.take("revert"));
    words.take("digest");
    if words.options.is_empty() && delete.is_none() && revert.is_none() {
        return Err(Death::new(WORKER, "no options specified\n"));
    }
    let split = |list: Option<String>| -> Vec<String> {
        let list = list.unwrap_or_default();
        list.split([',', ';', ' ']).filter(|key| !key.is_empty()).map(str::to_owned).collect()
    };
    let (delete, revert) = (split(delete), split(revert));
    for key in delete.iter().chain(&revert) {
        if keys::kind(key).is_none() {
            return Err(Death::parameter("delete", format!("unknown option '{key}'")));
        }
    }
    if words.options.contains_key("unprivileged") {
        return Err(Death::worker("unable to modify read-only option: 'unprivileged'"));
    }
    // Before the lock: the file has to be there.
    ct::load(world, id)?;
    world.check_quorum()?;
    let _lock = lock::container(world, id, false)?;
    let mut config = ct::load(world, id)?;
    ct::check_lock(&config, None)?;
    let running = ct::is_running(world, id);
    for key in &revert {
        config.pending.remove(key);
        config.pending_deletes.retain(|one| one != key);
    }
    let mut faults = Vec::new();
    for key in delete {
        match running && !is_hot(&key) {
            true => config.pending_deletes.push(key),
            false => drop(config.current.remove(&key)),
        }
    }
    let owner = rootfs::owner(&config.current);
    for (key, value) in &words.options {
        let mut value = value.clone();
        if let Some(shape) = keys::shape(key).filter(|_| key == "rootfs" || key.starts_with("mp")) {
            rootfs::check(world, shape, &value)?;
            value = rootfs::supply(world, id, shape, &value, owner, &mut Vec::new())?;
        }
        config.pending_deletes.retain(|one| one != key);
        if !running || is_plain(key) {
            config.pending.remove(key);
            config.current.set(key, &value);
        } else if is_hot(key) {
            match plug(id, key, &value, &config) {
                Ok(()) => config.current.set(key, &value),
                Err(why) => {
                    config.pending.set(key, &value);
                    faults.push((key.clone(), format!("unable to hotplug {key}: {why}")));
                }
            }
        } else {
            config.pending.set(key, &value);
        }
    }
    ct::save(world, id, &config)?;
    if faults.is_empty() { Ok(()) } else { Err(Death::parameters(&faults, "")) }
}

/// Of no meaning to a running container.
fn is_plain(key: &str) -> bool {
    ["description", "onboot", "protection", "startup", "tags", "hookscript", "lock", "template"].contains(&key)
}

/// §2, set: memory/swap, cpu, net, mp, dev of a running one change at once.
fn is_hot(key: &str) -> bool {
    let family = keys::numbered(key).map_or(key, |(family, _)| family);
    ["memory", "swap", "cpulimit", "cpuunits", "cores", "net", "mp", "dev"].contains(&family)
}

/// The files of the container's cgroup. What would be plugged into its namespaces the double does not do.
fn plug(id: u32, key: &str, value: &str, config: &Config) -> Result<(), String> {
    let number: f64 = value.parse().unwrap_or_default();
    let mib = |text: &str| text.parse::<u64>().unwrap_or(512) << 20;
    let v2 = fs::metadata("/sys/fs/cgroup/cgroup.controllers").is_ok();
    let all: Vec<(String, String)> = match (key, v2) {
        ("memory", true) => vec![("memory.max".into(), mib(value).to_string())],
        ("memory", false) => vec![("memory/memory.limit_in_bytes".into(), mib(value).to_string())],
        ("swap", true) => vec![("memory.swap.max".into(), mib(value).to_string())],
        ("cpulimit", true) => vec![("cpu.max".into(), format!("{} 100000", (number * 100_000.0) as u64))],
        ("cpulimit", false) => vec![("cpu/cpu.cfs_quota_us".into(), ((number * 100_000.0) as u64).to_string())],
        ("cpuunits", true) => vec![("cpu.weight".into(), (number as u64).clamp(1, 10_000).to_string())],
        ("cpuunits" | "swap", false) | ("cores", _) => Vec::new(),
        _ => return Err("the double has no such plug".to_owned()),
    };
    let _ = config;
    for (file, value) in all {
        let (controller, file) = file.split_once('/').map_or(("", file.as_str()), |(one, other)| (one, other));
        let path = std::path::Path::new("/sys/fs/cgroup").join(controller).join(format!("lxc/{id}")).join(file);
        fs::write(&path, value).map_err(|error| format!("unable to open file '{}' - {error}", path.display()))?;
    }
    Ok(())
}

/// §1, locks.
pub(super) fn unlock(world: &World, words: Words) -> Result<(), Death> {
    let id = words.id();
    ct::load(world, id)?;
    let _lock = lock::container(world, id, false)?;
    let mut config = ct::load(world, id)?;
    if !config.current.remove("lock") {
        return Err(Death::worker("no lock found trying to remove any lock"));
    }
    ct::save(world, id, &config)
}
