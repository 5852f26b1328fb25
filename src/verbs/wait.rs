//! `wait`: until a container's process has ended, and exit as it did.

use super::Found;
use crate::report;
use std::path::Path;
use wharf_core::phases;
use wharf_core::{ContainerId, Ended, Error, Exit, Kind, Result, WitnessKind, time};
use wharf_monitor::{Ending, identity};
use wharf_sys::{Errno, process};

/// The payload's exit code, 128 + n for signal n; 0 with `json`, where the answer has it.
pub(super) fn wait(root: &Path, id: &ContainerId, json: bool) -> Result<i32> {
    let found = Found::look(root, id)?;
    phases::enter("payload");
    let exit = until_end(&found, id)?;
    if json {
        report::print(&report::exit(&exit)?)?;
        return Ok(0);
    }
    exit.ended.code().ok_or_else(|| {
        let why = match found.record.witness {
            Some(_) => "its witness could not tell, or died before",
            None => "it was reaped by the engine, and nobody was asked to watch",
        };
        Error::new(Kind::System, format!("tell how container {id} ended"))
            .because(why)
            .hint("the annotation dev.wharf.exit-record or the key exit_record of the configuration asks for a watcher")
    })
}

fn until_end(found: &Found, id: &ContainerId) -> Result<Exit> {
    let failed = |errno: Errno| Error::system(format!("wait for container {id}"), errno as i32);
    let Some(init) = &found.record.init else {
        return Err(Error::unsupported(format!("wait for container {id}"))
            .because("its process is known to another runtime, or not there yet"));
    };
    let Some(pidfd) = identity::find(found.entry.dir(), init)? else {
        return told(found).map(|exit| exit.unwrap_or_else(|| Exit::unknown(WitnessKind::Wait)));
    };
    let _reading = match found.record.witness {
        Some(_) => wharf_monitor::reader(found.entry.dir())?,
        None => None,
    };
    let ending = Ending::of(init, pidfd).map_err(failed)?;
    process::readable(ending.pidfd(), -1).map_err(failed)?;
    // Its parent may delete it next: what is to be seen is looked at first.
    let ended = ending.now();
    let mut seen = wharf_monitor::glimpse(found.entry.dir(), ended.unwrap_or(Ended::Unknown), time::now());
    match told(found)? {
        Some(exit) if exit.ended != Ended::Unknown => return Ok(exit),
        // It has counted what it could not see the end of.
        Some(exit) => seen.usage = exit.usage,
        None => {}
    }
    if ended.is_none() {
        seen.ended = ending.afterwards(COLLECTED).map_err(failed)?;
    }
    Ok(seen)
}

fn told(found: &Found) -> Result<Option<Exit>> {
    if found.record.witness.is_some() { wharf_monitor::last_word(found.entry.dir()) } else { Ok(None) }
}

/// How long the parent of an ended process may take to collect it, in milliseconds.
const COLLECTED: i32 = 10_000;
