//! The containers of the node: which there are, their files, and whether they run.

use crate::answer::Death;
use crate::config::Config;
use crate::world::World;
use serde_json::json;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

fn file(world: &World, id: u32) -> PathBuf {
    world.pve(&format!("nodes/{}/lxc/{id}.conf", world.node()))
}

/// Those of this node, in the order of their numbers.
pub(crate) fn ids(world: &World) -> Vec<u32> {
    of_dir(world, &world.node(), "lxc")
}

fn of_dir(world: &World, node: &str, kind: &str) -> Vec<u32> {
    let entries = fs::read_dir(world.pve(&format!("nodes/{node}/{kind}"))).into_iter().flatten().flatten();
    let name = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_suffix(".conf")?.parse().ok();
    let mut ids: Vec<u32> = entries.filter_map(name).collect();
    ids.sort_unstable();
    ids
}

/// Every guest of the cluster: number, node, and directory (`lxc`, `qemu-server`).
pub(crate) fn guests(world: &World) -> Vec<(u32, String, &'static str)> {
    let mut all = Vec::new();
    for node in nodes(world) {
        for kind in ["lxc", "qemu-server"] {
            all.extend(of_dir(world, &node, kind).into_iter().map(|id| (id, node.clone(), kind)));
        }
    }
    all.sort();
    all
}

pub(crate) fn nodes(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.pve("nodes")).into_iter().flatten().flatten();
    let mut nodes: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    nodes.sort();
    nodes
}

/// `CT`, or `VM`, and the node that has it.
pub(crate) fn taken(world: &World, id: u32) -> Option<(&'static str, String)> {
    let found = guests(world).into_iter().find(|(one, ..)| *one == id);
    found.map(|(_, node, kind)| (if kind == "lxc" { "CT" } else { "VM" }, node))
}

/// §2, above the table.
pub(crate) fn missing(world: &World, id: u32) -> String {
    format!("Configuration file 'nodes/{}/lxc/{id}.conf' does not exist", world.node())
}

pub(crate) fn load(world: &World, id: u32) -> Result<Config, Death> {
    match fs::read_to_string(file(world, id)) {
        Ok(text) => {
            let config = Config::parse(id, &text);
            config.warnings.iter().for_each(|warning| eprintln!("{warning}"));
            Ok(config)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Death::stale(missing(world, id))),
        Err(error) => Err(Death::system(format!("read the configuration of {id}"), error)),
    }
}

/// By a rename, so no reader sees half of it.
pub(crate) fn save(world: &World, id: u32, config: &Config) -> Result<(), Death> {
    world.check_quorum()?;
    let path = file(world, id);
    let temporary = path.with_extension(format!("conf.tmp.{}", std::process::id()));
    fs::write(&temporary, config.text())
        .and_then(|()| fs::rename(&temporary, &path))
        .map_err(|error| Death::system(format!("write the configuration of {id}"), error))?;
    write_list(world)
}

pub(crate) fn remove(world: &World, id: u32) -> Result<(), Death> {
    world.check_quorum()?;
    fs::remove_file(file(world, id))
        .map_err(|error| Death::system(format!("remove the configuration of {id}"), error))?;
    write_list(world)
}

/// `.vmlist`, which the cluster's file system keeps itself (§2, time per verb).
pub(crate) fn write_list(world: &World) -> Result<(), Death> {
    let mut ids = serde_json::Map::new();
    for (version, (id, node, kind)) in guests(world).into_iter().enumerate() {
        let kind = if kind == "lxc" { "lxc" } else { "qemu" };
        ids.insert(id.to_string(), json!({"node": node, "type": kind, "version": version + 1}));
    }
    let text = format!("{:#}\n", json!({"version": ids.len(), "ids": ids}));
    let path = world.pve(".vmlist");
    let temporary = world.pve(&format!(".vmlist.tmp.{}", std::process::id()));
    fs::write(&temporary, text)
        .and_then(|()| fs::rename(&temporary, &path))
        .map_err(|error| Death::system("write .vmlist", error))
}

/// §1, network namespace: the abstract socket of LXC's monitor, as this network namespace shows it.
pub(crate) fn is_running(world: &World, id: u32) -> bool {
    let socket = format!("@{}/{id}/command", world.lxc_path().display());
    let all = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    all.lines().any(|line| line.ends_with(&socket))
}

/// §1, locks: `CT is locked (…)`, but for one lock that the verb bears.
pub(crate) fn check_lock(config: &Config, borne: Option<&str>) -> Result<(), Death> {
    match config.current.get("lock") {
        Some(lock) if Some(lock) != borne => Err(Death::worker(format!("CT is locked ({lock})"))),
        _ => Ok(()),
    }
}
