//! `pveam`: templates (§7). There is no network and no index here.

use crate::answer::{Death, WORKER};
use crate::args::{Kind, Verb};
use crate::storage;
use crate::world::World;
use std::ffi::OsString;
use std::fs;

const ANY: Kind = Kind::Text(4096);

const fn verb(name: &'static str, positionals: &'static [(&'static str, Kind)]) -> Verb {
    Verb { name, positionals, options: &[("section", ANY)], keys: false, extra: false }
}

const LIST: Verb = verb("pveam list", &[("storage", ANY)]);
const AVAILABLE: Verb = verb("pveam available", &[]);
const UPDATE: Verb = verb("pveam update", &[]);
const DOWNLOAD: Verb = verb("pveam download", &[("storage", ANY), ("template", ANY)]);
const REMOVE: Verb = verb("pveam remove", &[("template_path", ANY)]);

pub(crate) fn run(world: &World, words: &[OsString]) -> Result<(), Death> {
    let name = words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let rest = words.get(1..).unwrap_or_default();
    match name.as_str() {
        "list" => list(world, &LIST.parse(rest)?.positionals[0]),
        "available" => available(world, AVAILABLE.parse(rest)?.get("section")),
        "update" => {
            UPDATE.parse(rest)?;
            Err(Death::worker("update failed - see /var/log/pveam.log for details"))
        }
        "download" => {
            let found = DOWNLOAD.parse(rest)?;
            storage::get(world, &found.positionals[0])?;
            Err(Death::new(WORKER, "400 Parameter verification failed.\ntemplate: no such template\n"))
        }
        "remove" => remove(world, &REMOVE.parse(rest)?.positionals[0]),
        "" => Err(Death::new(WORKER, "ERROR: no command specified\nUSAGE: pveam <COMMAND> [ARGS] [OPTIONS]\n")),
        _ => Err(Death::new(
            WORKER,
            format!("ERROR: unknown command 'pveam {name}'\nUSAGE: pveam <COMMAND> [ARGS] [OPTIONS]\n"),
        )),
    }
}

fn list(world: &World, name: &str) -> Result<(), Death> {
    let storage = storage::get(world, name)?;
    let all: Vec<_> = storage.names().into_iter().filter(|(name, _)| name.starts_with("vztmpl/")).collect();
    println!("{:<60} {:<6}", "NAME", "SIZE");
    for (volume, size) in all {
        println!("{:<60} {:.2}MB", format!("{name}:{volume}"), size as f64 / f64::from(1 << 20));
    }
    Ok(())
}

/// A missing index is a warning, and rc 0.
fn available(world: &World, section: Option<&str>) -> Result<(), Death> {
    let path = world.path("var/lib/pve-manager/apl-info/available");
    let Ok(text) = fs::read_to_string(&path) else {
        eprintln!("can't open '{}' - No such file or directory", path.display());
        return Ok(());
    };
    for line in text.lines() {
        let mut columns = line.split_whitespace();
        let mut next = || columns.next().unwrap_or_default();
        let (kind, file, arch) = (next(), next(), next());
        if section.is_none_or(|asked| asked == kind) {
            println!("{kind:<15} {file:<60} {arch}");
        }
    }
    Ok(())
}

fn remove(world: &World, id: &str) -> Result<(), Death> {
    storage::existing(world, id)?;
    let (storage, name) = storage::volume(world, id)?;
    if !name.starts_with("vztmpl/") {
        return Err(Death::worker(format!("volume '{id}' is no template")));
    }
    storage.free(&name)
}
