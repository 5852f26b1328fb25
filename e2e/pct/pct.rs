//! `pct`: its verbs, and what each takes (§2).

mod create;
pub(crate) mod disk;
mod inside;
mod look;
mod power;
mod set;
mod snapshot;

use crate::answer::{Death, WORKER};
use crate::args::{Kind, VMID, Verb, Words};
use crate::world::World;
use std::ffi::OsString;

type Act = fn(&World, Words) -> Result<(), Death>;

const ID: &[(&str, Kind)] = &[("vmid", VMID)];
const ANY: Kind = Kind::Text(4096);

const SNAPSHOT: &[(&str, Kind)] = &[("vmid", VMID), ("snapname", Kind::Format(snapshot::name))];

fn disk_name(value: &str) -> Result<(), String> {
    match crate::keys::shape(value) {
        Some(_) if value == "rootfs" || value.starts_with("mp") => Ok(()),
        _ => Err(format!("value '{value}' does not have a value in the enumeration 'rootfs, mp0, mp1, …'")),
    }
}

const fn verb(
    name: &'static str,
    positionals: &'static [(&'static str, Kind)],
    options: &'static [(&'static str, Kind)],
) -> Verb {
    Verb { name, positionals, options, keys: false, extra: false }
}

/// §2's table.
const VERBS: &[(Verb, Act)] = &[
    (verb("pct list", &[], &[]), look::list),
    (verb("pct status", ID, &[("verbose", Kind::Flag)]), look::status),
    (verb("pct config", ID, &[("current", Kind::Flag), ("snapshot", ANY)]), look::config),
    (verb("pct pending", ID, &[]), look::pending),
    (
        Verb { keys: true, ..verb("pct create", &[("vmid", VMID), ("ostemplate", Kind::Text(255))], create::OPTIONS) },
        create::create,
    ),
    (
        verb(
            "pct destroy",
            ID,
            &[("force", Kind::Flag), ("purge", Kind::Flag), ("destroy-unreferenced-disks", Kind::Flag)],
        ),
        create::destroy,
    ),
    (
        Verb { keys: true, ..verb("pct restore", &[("vmid", VMID), ("ostemplate", Kind::Text(255))], create::OPTIONS) },
        create::restore,
    ),
    (verb("pct start", ID, &[("debug", Kind::Flag), ("skiplock", Kind::Flag)]), power::start),
    (verb("pct stop", ID, &[("skiplock", Kind::Flag), ("overrule-shutdown", Kind::Flag)]), power::stop),
    (verb("pct shutdown", ID, &[("timeout", Kind::Integer(0, i64::MAX)), ("forceStop", Kind::Flag)]), power::shutdown),
    (verb("pct reboot", ID, &[("timeout", Kind::Integer(0, i64::MAX))]), power::reboot),
    (
        Verb { keys: true, ..verb("pct set", ID, &[("delete", ANY), ("revert", ANY), ("digest", Kind::Text(64))]) },
        set::set,
    ),
    (verb("pct unlock", ID, &[]), set::unlock),
    (Verb { extra: true, ..verb("pct exec", ID, &[("keep-env", Kind::Flag)]) }, inside::exec),
    (verb("pct enter", ID, &[("keep-env", Kind::Flag)]), inside::enter),
    (verb("pct console", ID, &[("escape", ANY)]), inside::console),
    (
        verb(
            "pct push",
            &[("vmid", VMID), ("file", ANY), ("destination", ANY)],
            &[("user", ANY), ("group", ANY), ("perms", ANY)],
        ),
        inside::push,
    ),
    (
        verb(
            "pct pull",
            &[("vmid", VMID), ("path", ANY), ("destination", ANY)],
            &[("user", ANY), ("group", ANY), ("perms", ANY)],
        ),
        inside::pull,
    ),
    (verb("pct snapshot", SNAPSHOT, &[("description", ANY)]), snapshot::snapshot),
    (verb("pct listsnapshot", ID, &[]), snapshot::list),
    (verb("pct rollback", SNAPSHOT, &[("start", Kind::Flag)]), snapshot::rollback),
    (verb("pct delsnapshot", SNAPSHOT, &[("force", Kind::Flag)]), snapshot::delete),
    (verb("pct mount", ID, &[]), disk::mount),
    (verb("pct unmount", ID, &[]), disk::unmount),
    (verb("pct df", ID, &[]), disk::df),
    (verb("pct fstrim", ID, &[("ignore-mountpoints", Kind::Flag)]), disk::fstrim),
    (
        verb(
            "pct resize",
            &[("vmid", VMID), ("disk", Kind::Format(disk_name)), ("size", ANY)],
            &[("digest", Kind::Text(64))],
        ),
        disk::resize,
    ),
    (verb("pct template", ID, &[]), disk::template),
    (
        verb(
            "pct clone",
            &[("vmid", VMID), ("newid", VMID)],
            &[
                ("full", Kind::Flag),
                ("storage", ANY),
                ("snapname", Kind::Format(snapshot::name)),
                ("hostname", Kind::Format(crate::keys::dns_name)),
                ("pool", ANY),
                ("target", ANY),
                ("description", ANY),
                ("bwlimit", Kind::Number(0.0, f64::MAX)),
            ],
        ),
        disk::clone,
    ),
    (verb("pct suspend", ID, &[]), power::suspend),
    (verb("pct resume", ID, &[]), power::resume),
];

pub(crate) fn run(world: &World, words: &[OsString]) -> Result<(), Death> {
    let name = words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let full = format!("pct {name}");
    let Some((verb, act)) = VERBS.iter().find(|(verb, _)| verb.name == full) else {
        return Err(unknown(&name));
    };
    act(world, verb.parse(&words[1..])?)
}

/// §1, unknown verb.
fn unknown(name: &str) -> Death {
    let mut text = match name {
        "" => "ERROR: no command specified\n".to_owned(),
        _ => format!("ERROR: unknown command 'pct {name}'\n"),
    };
    text.push_str("USAGE: pct <COMMAND> [ARGS] [OPTIONS]\n");
    Death::new(WORKER, text)
}
