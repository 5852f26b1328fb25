//! `pct`: its verbs, and what each takes (§2).

mod create;
mod look;
mod power;
mod set;

use crate::answer::{Death, WORKER};
use crate::args::{Kind, VMID, Verb, Words};
use crate::world::World;
use std::ffi::OsString;

type Act = fn(&World, Words) -> Result<(), Death>;

const ID: &[(&str, Kind)] = &[("vmid", VMID)];
const ANY: Kind = Kind::Text(4096);

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
        Verb {
            keys: true,
            ..verb(
                "pct create",
                &[("vmid", VMID), ("ostemplate", Kind::Text(255))],
                &[
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
                ],
            )
        },
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
    (verb("pct start", ID, &[("debug", Kind::Flag), ("skiplock", Kind::Flag)]), power::start),
    (verb("pct stop", ID, &[("skiplock", Kind::Flag), ("overrule-shutdown", Kind::Flag)]), power::stop),
    (verb("pct shutdown", ID, &[("timeout", Kind::Integer(0, i64::MAX)), ("forceStop", Kind::Flag)]), power::shutdown),
    (verb("pct reboot", ID, &[("timeout", Kind::Integer(0, i64::MAX))]), power::reboot),
    (
        Verb { keys: true, ..verb("pct set", ID, &[("delete", ANY), ("revert", ANY), ("digest", Kind::Text(64))]) },
        set::set,
    ),
    (verb("pct unlock", ID, &[]), set::unlock),
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
