//! `pvesm`: storages and their volumes (§7).

use crate::answer::{Death, WORKER};
use crate::args::{Kind, VMID, Verb, Words};
use crate::storage::{self, FILES, Storage, zfs};
use crate::world::World;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

type Act = fn(&World, Words) -> Result<(), Death>;

const ANY: Kind = Kind::Text(4096);
const FORMAT: Kind = Kind::One(&["raw", "qcow2", "subvol", "vmdk"]);

const fn verb(
    name: &'static str,
    positionals: &'static [(&'static str, Kind)],
    options: &'static [(&'static str, Kind)],
) -> Verb {
    Verb { name, positionals, options, keys: false, extra: false }
}

const VERBS: &[(Verb, Act)] = &[
    (verb("pvesm status", &[], &[("storage", ANY), ("content", ANY), ("enabled", Kind::Flag)]), status),
    (verb("pvesm list", &[("storage", ANY)], &[("vmid", VMID), ("content", ANY)]), list),
    (
        verb(
            "pvesm alloc",
            &[("storage", ANY), ("vmid", VMID), ("filename", ANY), ("size", Kind::Format(size))],
            &[("format", FORMAT)],
        ),
        alloc,
    ),
    (verb("pvesm free", &[("volume", ANY)], &[("storage", ANY)]), free),
    (verb("pvesm path", &[("volume", ANY)], &[]), path),
    (
        verb(
            "pvesm add",
            &[("type", Kind::One(&["dir", "zfspool", "btrfs"])), ("storage", ANY)],
            &[("path", ANY), ("pool", ANY), ("content", ANY), ("sparse", Kind::Flag), ("is_mountpoint", ANY)],
        ),
        add,
    ),
    (verb("pvesm remove", &[("storage", ANY)], &[]), remove),
];

pub(crate) fn run(world: &World, words: &[OsString]) -> Result<(), Death> {
    let name = words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let full = format!("pvesm {name}");
    let Some((verb, act)) = VERBS.iter().find(|(verb, _)| verb.name == full) else {
        let said =
            if name.is_empty() { "no command specified".to_owned() } else { format!("unknown command '{full}'") };
        return Err(Death::new(WORKER, format!("ERROR: {said}\nUSAGE: pvesm <COMMAND> [ARGS] [OPTIONS]\n")));
    };
    act(world, verb.parse(&words[1..])?)
}

/// Bytes of `128M`; a bare number is KiB.
fn bytes(text: &str) -> Option<u64> {
    let (digits, shift) = match text.chars().last()? {
        'K' => (&text[..text.len() - 1], 10),
        'M' => (&text[..text.len() - 1], 20),
        'G' => (&text[..text.len() - 1], 30),
        _ => (text, 10),
    };
    digits.parse::<u64>().ok().map(|number| number << shift)
}

fn size(text: &str) -> Result<(), String> {
    bytes(text).map(drop).ok_or_else(|| "value does not match the regex pattern".to_owned())
}

/// Total, used and available KiB; none where it cannot be reached.
fn figures(storage: &Storage) -> Option<(u64, u64, u64)> {
    if storage.is_zfs() {
        let said = zfs(&["get", "-Hpo", "value", "used,available", storage.pool()]).ok()?;
        let mut numbers = said.lines().filter_map(|line| line.trim().parse::<u64>().ok());
        let (used, free) = (numbers.next()? / 1024, numbers.next()? / 1024);
        return Some((used + free, used, free));
    }
    let about = nix::sys::statvfs::statvfs(&storage.dir()).ok()?;
    let kib = |blocks: u64| blocks * about.fragment_size() / 1024;
    Some((kib(about.blocks()), kib(about.blocks() - about.blocks_free()), kib(about.blocks_available())))
}

fn status(world: &World, words: Words) -> Result<(), Death> {
    if let Some(name) = words.get("storage") {
        storage::get(world, name)?;
    }
    let mut all: Vec<Storage> = storage::all(world);
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all.retain(|one| words.get("storage").is_none_or(|name| name == one.name));
    all.retain(|one| words.get("content").is_none_or(|content| one.holds(content)));
    let name = all.iter().map(|one| one.name.len()).max().unwrap_or(0) + 1;
    let kind = all.iter().map(|one| one.kind.len()).max().unwrap_or(0).max(10);
    let row = |cells: [&str; 7]| {
        let [a, b, c, d, e, f, g] = cells;
        println!("{a:<name$} {b:>kind$} {c:>10} {d:>15} {e:>15} {f:>15} {g:>8}");
    };
    row(["Name", "Type", "Status", "Total (KiB)", "Used (KiB)", "Available (KiB)", "%"]);
    for one in all {
        let disabled = one.options.contains_key("disable");
        let found = if disabled { None } else { figures(&one) };
        let state = if disabled {
            "disabled"
        } else if found.is_some() {
            "active"
        } else {
            "inactive"
        };
        let (total, used, free) = found.unwrap_or((0, 0, 0));
        let share = match (disabled, total) {
            (true, _) => "N/A".to_owned(),
            (_, 0) => "0.00%".to_owned(),
            _ => format!("{:.2}%", used as f64 * 100.0 / total as f64),
        };
        row([&one.name, &one.kind, state, &total.to_string(), &used.to_string(), &free.to_string(), &share]);
    }
    Ok(())
}

/// The content type, and the format that the name says.
fn sort_of(name: &str, storage: &Storage) -> (&'static str, String) {
    let end = name.rsplit('.').next().unwrap_or_default();
    match name.split('/').next() {
        Some("vztmpl") => ("vztmpl", if end == "tar" { "tar".to_owned() } else { format!("t{end}") }),
        Some("iso") => ("iso", "iso".to_owned()),
        Some("snippets") => ("snippets", "snippet".to_owned()),
        Some("backup") => ("backup", end.to_owned()),
        _ if storage.is_zfs() || end == "subvol" => ("rootdir", "subvol".to_owned()),
        _ => ("rootdir", end.to_owned()),
    }
}

fn list(world: &World, words: Words) -> Result<(), Death> {
    let storage = storage::get(world, &words.positionals[0])?;
    let mut rows = Vec::new();
    for (name, size) in storage.names() {
        let id = format!("{}:{name}", storage.name);
        let owner = storage::owner(&name).filter(|_| FILES.iter().all(|(kind, _)| !name.starts_with(kind)));
        let (kind, format) = sort_of(&name, &storage);
        let is_asked = |option: &str, value: String| words.get(option).is_none_or(|asked| asked == value);
        if is_asked("vmid", owner.map(|id| id.to_string()).unwrap_or_default()) && is_asked("content", kind.to_owned())
        {
            rows.push((id, format, kind, size, owner));
        }
    }
    let width = rows.iter().map(|(id, ..)| id.len()).max().unwrap_or(0).max(5);
    println!("{:<width$} {:<7} {:<9} {:>13} VMID", "Volid", "Format", "Type", "Size");
    for (id, format, kind, size, owner) in rows {
        let owner = owner.map(|id| id.to_string()).unwrap_or_default();
        println!("{id:<width$} {format:<7} {kind:<9} {size:>13} {owner}");
    }
    Ok(())
}

fn alloc(world: &World, words: Words) -> Result<(), Death> {
    let storage = storage::get(world, &words.positionals[0])?;
    let id: u32 = words.positionals[1].parse().unwrap_or_default();
    let size = bytes(&words.positionals[3]).unwrap_or(0);
    let is_dir = words.get("format") == Some("subvol") && size == 0;
    if !words.positionals[2].is_empty() {
        return Err(Death::worker("the double gives volumes their names: say ''"));
    }
    let name = storage.allocate(world, id, (!is_dir).then_some(size), 0)?;
    println!("successfully created '{}:{name}'", storage.name);
    Ok(())
}

fn free(world: &World, words: Words) -> Result<(), Death> {
    let id = &words.positionals[0];
    storage::existing(world, id)?;
    let (storage, name) = storage::volume(world, id)?;
    let _lock = crate::lock::storage(world, &storage.name)?;
    storage.free(&name)?;
    println!("Removed volume '{id}'");
    Ok(())
}

/// Of any volume's name, there or not.
fn path(world: &World, words: Words) -> Result<(), Death> {
    let id = &words.positionals[0];
    let (storage, name) = storage::volume(world, id)?;
    let path = storage.path(&name).ok_or_else(|| Death::worker(format!("unable to parse volume ID '{id}'")))?;
    println!("{}", path.display());
    Ok(())
}

fn add(world: &World, words: Words) -> Result<(), Death> {
    world.check_quorum()?;
    let (kind, name) = (&words.positionals[0], &words.positionals[1]);
    let needed = if kind == "zfspool" { "pool" } else { "path" };
    if words.get(needed).is_none() {
        return Err(Death::parameter(needed, "property is missing and it is not optional"));
    }
    if storage::all(world).iter().any(|one| one.name == *name) {
        return Err(Death::worker(format!("create storage failed: storage ID '{name}' already defined")));
    }
    let mut text = fs::read_to_string(world.pve("storage.cfg")).unwrap_or_default();
    text.push_str(&format!("\n{kind}: {name}\n"));
    for (key, value) in &words.options {
        text.push_str(&format!("\t{key} {value}\n"));
    }
    if let Some(path) = words.get("path") {
        for (_, dir) in FILES {
            let made = fs::create_dir_all(Path::new(path).join(dir));
            made.map_err(|error| Death::system("create storage failed", error))?;
        }
    }
    fs::write(world.pve("storage.cfg"), text).map_err(|error| Death::system("write storage.cfg", error))
}

fn remove(world: &World, words: Words) -> Result<(), Death> {
    world.check_quorum()?;
    storage::get(world, &words.positionals[0])?;
    let text = fs::read_to_string(world.pve("storage.cfg")).unwrap_or_default();
    let sections: Vec<&str> = text.split("\n\n").collect();
    let is_it = |section: &&str| {
        let head = section.trim_start().lines().next().unwrap_or_default();
        head.split_once(':').is_some_and(|(_, name)| name.trim() == words.positionals[0])
    };
    let kept: Vec<&str> = sections.into_iter().filter(|section| !is_it(section)).collect();
    fs::write(world.pve("storage.cfg"), kept.join("\n\n")).map_err(|error| Death::system("write storage.cfg", error))
}
