//! create and destroy.

use crate::answer::Death;
use crate::args::{Kind, Words};
use crate::config::{Config, Section};
use crate::task::{self, Task, Verdict};
use crate::world::World;
use crate::{ct, ids, keys, lock, lxc, oci, rootfs, storage};
use std::fs;

const ANY: Kind = Kind::Text(4096);

/// What is no key of the configuration.
pub(super) const OPTIONS: &[(&str, Kind)] = &[
    ("storage", ANY),
    ("password", ANY),
    ("ssh-public-keys", ANY),
    ("pool", ANY),
    ("bwlimit", Kind::Number(0.0, f64::MAX)),
    ("start", Kind::Flag),
    ("unique", Kind::Flag),
    ("force", Kind::Flag),
    ("restore", Kind::Flag),
    ("ignore-unpack-errors", Kind::Flag),
    ("ha-managed", Kind::Flag),
];

/// A tar from stdin, with no configuration of its own, is all of it that the double knows.
pub(super) fn restore(world: &World, mut words: Words) -> Result<(), Death> {
    words.options.insert("restore".to_owned(), "1".to_owned());
    create(world, words)
}

pub(super) fn create(world: &World, mut words: Words) -> Result<(), Death> {
    let id = words.id();
    if let Some((kind, node)) = ct::taken(world, id) {
        // §1, VMID: at once, before anything was made.
        return Err(Death::worker(format!("{kind} {id} already exists on node '{node}'")));
    }
    let others: Vec<(&str, Option<String>)> = OPTIONS.iter().map(|(name, _)| (*name, words.take(name))).collect();
    let other = |name: &str| others.iter().find(|(one, _)| *one == name).and_then(|(_, value)| value.as_deref());
    let template = words.positionals[1].clone();
    let restored = other("restore") == Some("1");
    if restored && (template != "-" || !words.options.contains_key("rootfs")) {
        return Err(match template.as_str() {
            "-" => Death::worker("missing 'rootfs' parameter"),
            _ => Death::worker("the double restores nothing but a tar from stdin ('-')"),
        });
    }
    let mut section = Section::default();
    for (key, value) in &words.options {
        section.set(key, value);
    }
    // §0.7: since PVE 9.
    let unprivileged = section.get("unprivileged").unwrap_or("1").to_owned();
    section.set("unprivileged", &unprivileged);
    if section.get("rootfs").is_none() {
        section.set("rootfs", &format!("{}:4", other("storage").unwrap_or("local")));
    }
    for (key, value) in section.mounts() {
        let shape = keys::shape(&key).unwrap_or(&crate::property::ROOTFS);
        rootfs::check(world, shape, &value)?;
    }
    world.check_quorum()?;
    {
        let _lock = lock::container(world, id, true)?;
        if let Some((kind, node)) = ct::taken(world, id) {
            return Err(Death::worker(format!("{kind} {id} already exists on node '{node}'")));
        }
        let mut reserved = Config::default();
        reserved.current.set("lock", "create");
        ct::save(world, id, &reserved)?;
    }
    let start = other("start") == Some("1");
    let kind = if restored { "vzrestore" } else { "vzcreate" };
    Task { world, kind, id, result: Verdict::Checked }.run(|| {
        let _lock = lock::container(world, id, true)?;
        world.step("create.locked")?;
        let mut made = Vec::new();
        if let Err(death) = fill(world, id, &template, section, &mut made) {
            // §4.3: what is newly made goes, nothing else.
            for volume in made {
                let freed = storage::volume(world, &volume).and_then(|(storage, name)| storage.free(&name));
                freed.unwrap_or_else(|death| task::warn(death.words()));
            }
            let _ = fs::remove_dir_all(lxc::dir(world, id));
            ct::remove(world, id)?;
            return Err(Death::worker(format!("unable to create CT {id} - {}", death.words())));
        }
        world.step("create.done")?;
        if start { super::power::start_locked(world, id, false) } else { Ok(()) }
    })
}

fn fill(world: &World, id: u32, template: &str, mut section: Section, made: &mut Vec<String>) -> Result<(), Death> {
    let from_stdin = template == "-";
    let archive = if from_stdin { "/dev/stdin".into() } else { rootfs::template(world, template)? };
    let owner = rootfs::owner(&section);
    for (key, value) in section.mounts() {
        let shape = keys::shape(&key).unwrap_or(&crate::property::ROOTFS);
        let supplied = rootfs::supply(world, id, shape, &value, owner, made)?;
        section.set(&key, &supplied);
        world.step("create.allocated")?;
    }
    if let Some(said) = ids::refusal(world, &section) {
        println!("{said}");
        return Err(Death::worker("command 'lxc-usernsexec … -- tar xpf …' failed: exit code 1"));
    }
    let place = lxc::dir(world, id);
    let is_oci = oci::is_archive(&archive);
    let told = task::apart_with(|| {
        let root = rootfs::mounted(world, id, &section)?;
        let mut told = Section::default();
        if is_oci {
            told = oci::unpack(&archive, &place, &root, &section)?;
        } else {
            rootfs::unpack(&archive, &root, &section)?;
            if from_stdin && !root.join("etc/vzdump/pct.conf").exists() {
                let rule = "#".repeat(70);
                println!("{rule}\n## WARNING: archive has no configuration: it is that of this call ##\n{rule}");
            }
        }
        if section.get("ostype").is_none() {
            told.set("ostype", &rootfs::detect(&root)?);
        }
        Ok(Config { current: told, ..Config::default() }.text())
    })?;
    world.step("create.unpacked")?;
    // §0.5: the image's own words win over those of this very call.
    let told = Config::parse(id, &told).current;
    for (key, value) in told.all() {
        section.set(&key, &value);
    }
    section.raw.extend(told.raw);
    if is_oci {
        manage_nets(&mut section);
    }
    if section.get("arch").is_none() {
        // §2, create: two lines, of which the second ends so.
        println!("Falling back to amd64.\nUse `pct set VMID --arch ARCH` to change.");
        section.set("arch", "amd64");
    }
    let config = Config { current: section, ..Config::default() };
    ct::save(world, id, &config)
}

/// §4.5: every network that does not say otherwise.
fn manage_nets(section: &mut Section) {
    for (number, value) in section.numbered("net") {
        if !value.contains("host-managed=") {
            section.set(&format!("net{number}"), &format!("{value},host-managed=1"));
        }
    }
}

pub(super) fn destroy(world: &World, words: Words) -> Result<(), Death> {
    let id = words.id();
    let check = |config: &Config| {
        if config.current.is("protection") {
            return Err(Death::worker(format!("can't remove CT {id} - protection mode enabled")));
        }
        // Forced or not: that of an aborted create too.
        ct::check_lock(config, None)
    };
    let config = ct::load(world, id)?;
    check(&config)?;
    if ct::is_running(world, id) && !words.is("force") {
        return Err(Death::worker(format!("unable to destroy CT {id} - container is running")));
    }
    Task { world, kind: "vzdestroy", id, result: Verdict::Checked }.run(|| {
        let _lock = lock::container(world, id, false)?;
        let config = ct::load(world, id)?;
        check(&config)?;
        if ct::is_running(world, id) {
            lxc::kill(world, id);
        }
        world.step("destroy.begin")?;
        let sections = std::iter::once(&config.current).chain(config.snapshots.iter().map(|(_, section)| section));
        let mut volumes: Vec<String> = sections.flat_map(volumes).collect();
        volumes.sort();
        volumes.dedup();
        for volume in volumes {
            if storage::owner(&volume) != Some(id) {
                task::warn(format!("ignore deletion of '{volume}', CT {id} isn't the owner!"));
                continue;
            }
            let freed = storage::volume(world, &volume).and_then(|(storage, name)| match storage.has(&name) {
                true => storage.free(&name),
                false => Ok(()),
            });
            freed.unwrap_or_else(|death| task::warn(death.words()));
        }
        world.step("destroy.freed")?;
        if words.is("destroy-unreferenced-disks") {
            unreferenced(world, id)?;
        }
        fs::remove_dir_all(lxc::dir(world, id))
            .or_else(absent)
            .map_err(|error| Death::system("remove LXC's files", error))?;
        let _ = fs::remove_file(lxc::log(world, id));
        ct::remove(world, id)
    })
}

fn absent(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Directories and devices of the host are never its own.
fn volumes(section: &Section) -> Vec<String> {
    let mounts = section.mounts().into_iter().map(|(_, value)| value);
    let unused = section.numbered("unused").into_iter().map(|(_, value)| value);
    let first = |value: String| value.split(',').next().unwrap_or_default().trim_start_matches("volume=").to_owned();
    mounts.chain(unused).map(first).filter(|volume| !volume.starts_with('/') && !volume.is_empty()).collect()
}

/// Those that carry its number and are in no configuration.
fn unreferenced(world: &World, id: u32) -> Result<(), Death> {
    for storage in storage::all(world) {
        for (name, _) in storage.names() {
            if storage::owner(&name) == Some(id) && (storage.holds("rootdir") || storage.holds("images")) {
                storage.free(&name)?;
            }
        }
    }
    Ok(())
}
