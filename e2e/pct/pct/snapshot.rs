//! snapshot, listsnapshot, rollback, delsnapshot (§2).

use crate::answer::Death;
use crate::args::Words;
use crate::config::{Config, Section};
use crate::keys::shape;
use crate::storage::{self, Storage, zfs};
use crate::task::{Task, Verdict};
use crate::world::World;
use crate::{ct, lock, lxc};
use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

/// A letter, then at least one more; at most 40.
pub(super) fn name(value: &str) -> Result<(), String> {
    let rest = value.chars().skip(1).all(|sign| sign.is_ascii_alphanumeric() || sign == '_' || sign == '-');
    let holds = value.starts_with(|first: char| first.is_ascii_alphabetic()) && rest && value.len() > 1;
    if value.len() > 40 {
        return Err("value may only be 40 characters long".to_owned());
    }
    holds.then_some(()).ok_or_else(|| format!("invalid format - invalid configuration ID '{value}'"))
}

/// Those names are taken by the format itself.
fn check_reserved(name: &str) -> Result<(), Death> {
    match name {
        "current" => Err(Death::worker("unable to use snapshot name 'current' (reserved name)")),
        "vzdump" => Err(Death::worker("unable to use snapshot name 'vzdump' (reserved name)")),
        _ => Ok(()),
    }
}

/// Its volumes, where each can be snapshotted; none of the host's directories can.
fn volumes(world: &World, section: &Section) -> Result<Vec<(String, Storage, String)>, Death> {
    let unavailable = || Death::worker("snapshot feature is not available");
    let mut all = Vec::new();
    for (key, value) in section.mounts() {
        let found = shape(&key).and_then(|shape| shape.parse(&value).ok()).ok_or_else(unavailable)?;
        let volume = found.get("volume").unwrap_or_default().to_owned();
        if volume.starts_with('/') {
            // A mount point of the host is left out, the root file system cannot be.
            if key == "rootfs" {
                return Err(unavailable());
            }
            continue;
        }
        let (storage, name) = storage::volume(world, &volume)?;
        if !storage.is_zfs() {
            return Err(unavailable());
        }
        all.push((volume, storage, name));
    }
    Ok(all)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

pub(super) fn snapshot(world: &World, words: Words) -> Result<(), Death> {
    let (id, name) = (words.id(), words.positionals[1].clone());
    check_reserved(&name)?;
    ct::load(world, id)?;
    Task { world, kind: "vzsnapshot", id, result: Verdict::Checked }.run(|| {
        let mut config = {
            let _lock = lock::container(world, id, false)?;
            let mut config = ct::load(world, id)?;
            ct::check_lock(&config, None)?;
            if config.snapshot(&name).is_some() {
                return Err(Death::worker(format!("snapshot name '{name}' already used")));
            }
            volumes(world, &config.current)?;
            config.current.set("lock", "snapshot");
            ct::save(world, id, &config)?;
            config
        };
        world.step("snapshot.locked")?;
        let taken = take(world, id, &config, &name);
        let _lock = lock::container(world, id, false)?;
        config.current.remove("lock");
        if taken.is_ok() {
            let mut kept = config.current.clone();
            kept.set("snaptime", &now().to_string());
            if let Some(description) = words.get("description") {
                kept.set("description", &format!("{}\n", description.trim_end()));
            } else {
                kept.remove("description");
            }
            config.snapshots.push((name.clone(), kept));
            config.current.set("parent", &name);
        }
        ct::save(world, id, &config)?;
        taken
    })
}

/// With the container frozen meanwhile.
fn take(world: &World, id: u32, config: &Config, name: &str) -> Result<(), Death> {
    let running = ct::is_running(world, id);
    let freezer = |tool: &str| {
        let _ = lxc::tool(world, tool, id).stdout(Stdio::null()).status();
    };
    if running {
        freezer("lxc-freeze");
    }
    let mut taken = world.step("snapshot.frozen");
    let mut done: Vec<String> = Vec::new();
    for (_, storage, volume) in volumes(world, &config.current)? {
        let full = format!("{}@{name}", storage.dataset(&volume));
        taken = taken.and_then(|()| zfs(&["snapshot", &full]).map(drop));
        done.push(full);
    }
    if taken.is_err() {
        done.iter().for_each(|full| drop(zfs(&["destroy", full])));
    }
    if running {
        freezer("lxc-unfreeze");
    }
    taken
}

fn existing<'a>(config: &'a Config, name: &str) -> Result<&'a Section, Death> {
    config.snapshot(name).ok_or_else(|| Death::worker(format!("snapshot '{name}' does not exist")))
}

/// Kills a running one; only the newest snapshot (ZFS).
pub(super) fn rollback(world: &World, words: Words) -> Result<(), Death> {
    let (id, name) = (words.id(), words.positionals[1].clone());
    ct::load(world, id)?;
    Task { world, kind: "vzrollback", id, result: Verdict::Checked }.run(|| {
        let _lock = lock::container(world, id, false)?;
        let mut config = ct::load(world, id)?;
        ct::check_lock(&config, None)?;
        if config.current.is("template") {
            return Err(Death::worker("rollback is not possible for a template"));
        }
        let kept = existing(&config, &name)?.clone();
        let volumes = volumes(world, &kept)?;
        for (volume, storage, own) in &volumes {
            let dataset = storage.dataset(own);
            let all = zfs(&["list", "-H", "-t", "snapshot", "-o", "name", "-s", "createtxg", "-d", "1", &dataset])?;
            if all.lines().last() != Some(format!("{dataset}@{name}").as_str()) {
                return Err(Death::worker(format!(
                    "can't rollback, '{name}' is not most recent snapshot on '{volume}'"
                )));
            }
        }
        config.current.set("lock", "rollback");
        ct::save(world, id, &config)?;
        world.step("rollback.locked")?;
        lxc::kill(world, id);
        for (_, storage, own) in &volumes {
            zfs(&["rollback", &format!("{}@{name}", storage.dataset(own))])?;
        }
        world.step("rollback.done")?;
        config.current = kept;
        config.current.remove("snaptime");
        config.current.set("parent", &name);
        ct::save(world, id, &config)?;
        if words.is("start") { super::power::start_locked(world, id, false) } else { Ok(()) }
    })
}

pub(super) fn delete(world: &World, words: Words) -> Result<(), Death> {
    let (id, name) = (words.id(), words.positionals[1].clone());
    ct::load(world, id)?;
    Task { world, kind: "vzdelsnapshot", id, result: Verdict::Checked }.run(|| {
        let _lock = lock::container(world, id, false)?;
        let mut config = ct::load(world, id)?;
        ct::check_lock(&config, None)?;
        let kept = existing(&config, &name)?.clone();
        config.current.set("lock", "snapshot-delete");
        ct::save(world, id, &config)?;
        world.step("delsnapshot.locked")?;
        for (_, storage, own) in volumes(world, &kept)? {
            let gone = zfs(&["destroy", &format!("{}@{name}", storage.dataset(&own))]);
            if !words.is("force") {
                gone?;
            }
        }
        config.current.remove("lock");
        // Whoever had it for its parent gets its own.
        let parent = kept.get("parent").map(str::to_owned);
        config.snapshots.retain(|(one, _)| *one != name);
        let sections = config.snapshots.iter_mut().map(|(_, section)| section).chain([&mut config.current]);
        for section in sections.filter(|section| section.get("parent") == Some(&name)) {
            match &parent {
                Some(parent) => section.set("parent", parent),
                None => drop(section.remove("parent")),
            }
        }
        ct::save(world, id, &config)
    })
}

/// §2: one more blank in front of each deeper one.
pub(super) fn list(world: &World, words: Words) -> Result<(), Death> {
    let config = ct::load(world, words.id())?;
    let mut children: BTreeMap<Option<String>, Vec<(String, Option<&Section>)>> = BTreeMap::new();
    let parent = |section: &Section| {
        let parent = section.get("parent").map(str::to_owned);
        parent.filter(|name| config.snapshot(name).is_some())
    };
    for (name, section) in &config.snapshots {
        children.entry(parent(section)).or_default().push((name.clone(), Some(section)));
    }
    children.entry(parent(&config.current)).or_default().push(("current".to_owned(), None));
    print!("{}", tree(&children, &None, 0));
    Ok(())
}

fn tree(
    children: &BTreeMap<Option<String>, Vec<(String, Option<&Section>)>>,
    at: &Option<String>,
    depth: usize,
) -> String {
    let mut text = String::new();
    for (name, section) in children.get(at).into_iter().flatten() {
        let prefix = format!("{}`->", " ".repeat(depth));
        let width = 30usize.saturating_sub(prefix.len());
        let (time, description) = match section {
            None => (String::new(), "You are here!".to_owned()),
            Some(section) => {
                let description =
                    section.get("description").and_then(|text| text.lines().next()).unwrap_or("no-description");
                (time(section.get("snaptime")), description.to_owned())
            }
        };
        text.push_str(&format!("{prefix} {name:<width$} {time:<23} {description}\n"));
        if section.is_some() {
            text.push_str(&tree(children, &Some(name.clone()), depth + 1));
        }
    }
    text
}

fn time(seconds: Option<&str>) -> String {
    let Some(seconds) = seconds.and_then(|text| text.parse().ok()) else { return String::new() };
    let local = wharf_sys::clock::local(seconds);
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        local.year,
        local.month + 1,
        local.day,
        local.hour,
        local.minute,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_drawn_as_section_2_tells() {
        let (first, second) = (
            Section::default(),
            Section { keys: [("description".to_owned(), "two\n".to_owned())].into(), ..Section::default() },
        );
        let children = BTreeMap::from([
            (None, vec![("one".to_owned(), Some(&first))]),
            (Some("one".to_owned()), vec![("two".to_owned(), Some(&second))]),
            (Some("two".to_owned()), vec![("current".to_owned(), None)]),
        ]);
        let blank = " ".repeat(23);
        assert_eq!(
            tree(&children, &None, 0),
            format!(
                "`-> one{} {blank} no-description\n `-> two{} {blank} two\n  `-> current{} {blank} You are here!\n",
                " ".repeat(24),
                " ".repeat(23),
                " ".repeat(18)
            )
        );
    }

    #[test]
    fn names_are_those_of_section_2() {
        assert!(name("ab").is_ok() && name("a-1_b").is_ok());
        for wrong in ["a", "1a", "a b", "", &"a".repeat(41)] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
    }
}
