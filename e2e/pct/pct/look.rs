//! list, status, config, pending: reads, without a lock (§1).

use crate::answer::Death;
use crate::args::Words;
use crate::config::{encode, shown};
use crate::world::World;
use crate::{ct, lxc};
use std::fs;
use std::path::PathBuf;

fn word(running: bool) -> &'static str {
    if running { "running" } else { "stopped" }
}

/// No line at all where there is no container.
pub(super) fn list(world: &World, _: Words) -> Result<(), Death> {
    let ids = ct::ids(world);
    if ids.is_empty() {
        return Ok(());
    }
    let row = |id: &str, status: &str, lock: &str, name: &str| println!("{id:<10} {status:<10} {lock:<12} {name:<20} ");
    row("VMID", "Status", "Lock", "Name");
    for id in ids {
        let config = ct::load(world, id)?;
        let name = config.current.get("hostname").map_or_else(|| format!("CT{id}"), str::to_owned);
        let lock = config.current.get("lock").unwrap_or_default();
        row(&id.to_string(), word(ct::is_running(world, id)), lock, &name);
    }
    Ok(())
}

pub(super) fn status(world: &World, words: Words) -> Result<(), Death> {
    let id = words.id();
    let config = ct::load(world, id)?;
    let running = ct::is_running(world, id);
    if !words.is("verbose") {
        // A frozen one too: only the monitor's socket is looked for.
        println!("status: {}", word(running));
        return Ok(());
    }
    let section = &config.current;
    let mib = |key: &str| section.get(key).and_then(|text| text.parse::<u64>().ok()).unwrap_or(512) << 20;
    let mut lines = vec![
        ("cpus".to_owned(), section.get("cpulimit").or(section.get("cores")).unwrap_or("1").to_owned()),
        ("maxmem".to_owned(), mib("memory").to_string()),
        ("maxswap".to_owned(), mib("swap").to_string()),
        ("name".to_owned(), section.get("hostname").map_or_else(|| format!("CT{id}"), str::to_owned)),
        ("status".to_owned(), word(running).to_owned()),
        ("type".to_owned(), "lxc".to_owned()),
        ("vmid".to_owned(), id.to_string()),
        ("mem".to_owned(), counter(id, "memory.current").unwrap_or(0).to_string()),
        ("swap".to_owned(), counter(id, "memory.swap.current").unwrap_or(0).to_string()),
    ];
    for key in ["disk", "diskread", "diskwrite", "maxdisk", "netin", "netout", "uptime"] {
        lines.push((key.to_owned(), "0".to_owned()));
    }
    for key in ["lock", "tags", "template"] {
        lines.extend(section.get(key).map(|value| (key.to_owned(), value.to_owned())));
    }
    if running {
        lines.extend(lxc::pid(world, id).map(|pid| ("pid".to_owned(), pid.to_string())));
    }
    lines.sort();
    lines.iter().for_each(|(key, value)| println!("{key}: {value}"));
    Ok(())
}

fn counter(id: u32, file: &str) -> Option<u64> {
    let path = PathBuf::from(format!("/sys/fs/cgroup/lxc/{id}")).join(file);
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// With what is pending, unless `--current 1`.
pub(super) fn config(world: &World, words: Words) -> Result<(), Death> {
    let config = ct::load(world, words.id())?;
    let section = match words.get("snapshot") {
        Some(name) => {
            config.snapshot(name).cloned().ok_or_else(|| Death::worker(format!("snapshot '{name}' does not exist")))?
        }
        None if words.is("current") => config.current,
        None => config.merged(),
    };
    print!("{}", shown(&section));
    Ok(())
}

pub(super) fn pending(world: &World, words: Words) -> Result<(), Death> {
    let config = ct::load(world, words.id())?;
    let (current, new) = (config.current.all(), config.pending.all());
    let mut keys: Vec<&String> = current.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    let text = |key: &str, value: &str| if key == "description" { encode(value) } else { value.to_owned() };
    for key in keys {
        if let Some(value) = current.get(key) {
            println!("cur {key}: {}", text(key, value));
        }
        if let Some(value) = new.get(key) {
            println!("new {key}: {}", text(key, value));
        }
        if config.pending_deletes.contains(key) {
            println!("del {key}: {}", current.get(key).map(|value| text(key, value)).unwrap_or_default());
        }
    }
    Ok(())
}
