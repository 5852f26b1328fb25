//! `update`: changes the limits of a container that lives; all that is asked, or nothing.

use super::{Found, no_such};
use crate::cli::Resources;
use std::io::Read;
use std::path::Path;
use wharf_core::phases;
use wharf_core::{ContainerId, Error, Kind, Result, Verb, allowed, parse_resources};

pub(super) fn update(root: &Path, id: &ContainerId, from: &Resources) -> Result<()> {
    phases::enter("resources");
    let resources = match from {
        Resources::Typed(value) => parse_resources(value.to_string().as_bytes(), "the options of update")?,
        Resources::Stdin => parse_resources(&read("stdin", std::io::stdin().lock())?, "stdin")?,
        Resources::File(path) => {
            let name = path.display().to_string();
            let file = std::fs::File::open(path).map_err(|error| failed(&name, &error))?;
            parse_resources(&read(&name, file)?, &name)?
        }
    };
    phases::enter("container");
    let found = Found::look(root, id)?;
    // One update at a time, so that what one takes back is its own. Not the container's lock: a hook may be what calls.
    let _turn = found.entry.turn("update")?;
    let held = found.store.try_lock(&found.entry)?.ok_or_else(|| no_such(id))?;
    let found = if held { Found::read(found.store, found.entry, id)? } else { found };
    allowed(id, if held { found.status_under_lock()? } else { found.status()? }, Verb::Update)?;
    phases::enter("limits");
    let changed = found.backend.update(&found.record, found.entry.dir(), resources);
    let changed = changed.map_err(|error| error.below("linux/resources/"))?;
    match changed {
        Some(private) => found.entry.save(&wharf_core::Record { private, ..found.record }),
        None => Ok(()),
    }
}

fn failed(name: &str, error: &std::io::Error) -> Error {
    let doing = format!("read resources from {name}");
    match error.raw_os_error() {
        Some(errno) => Error::system(doing, errno),
        None => Error::new(Kind::System, doing).because(error),
    }
}

/// At most a mebibyte.
fn read(name: &str, from: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(1 << 20).read_to_end(&mut bytes).map_err(|error| failed(name, &error))?;
    Ok(bytes)
}
