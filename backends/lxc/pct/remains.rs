//! What a container leaves on the node, and how it is taken away: only what bears its mark.

use super::conf;
use super::ct::Ct;
use super::door::Door;
use super::settings::Settings;
use super::vmid;
use std::path::Path;
use wharf_core::{Error, Kind, Result};
use wharf_host::Remains;

/// What became of the container on the node.
enum Found {
    /// It is this one.
    Ours(u32),
    /// Destroyed by somebody else, or never made.
    Gone,
    /// The number is another container's by now.
    Others,
}

fn found(remains: &Remains<'_>, settings: &Settings) -> Result<Found> {
    let guests = vmid::guests(settings)?;
    let state_dir = std::fs::canonicalize(remains.state_dir).unwrap_or_else(|_| remains.state_dir.to_owned());
    let mark = conf::mark(&remains.record.id, &state_dir.to_string_lossy());
    let known =
        remains.memory.get("vmid").and_then(serde_json::Value::as_u64).and_then(|vmid| u32::try_from(vmid).ok());
    let Some(vmid) = known else {
        // Its `create` was interrupted.
        return Ok(conf::find(settings, &mark)?.map_or(Found::Gone, Found::Ours));
    };
    match conf::text(settings, vmid)? {
        Some(text) if conf::is_marked(&text, &mark) => Ok(Found::Ours(vmid)),
        Some(_) => Ok(Found::Others),
        None => match guests.into_iter().find(|guest| guest.vmid == vmid && guest.container) {
            Some(guest) => Err(Error::new(Kind::System, format!("find CT {vmid}"))
                .because(format!("it is on node {} by now", guest.node))
                .hint("move it back: an OCI container is bound to the host that its engine runs on")),
            None => Ok(Found::Gone),
        },
    }
}

pub(crate) fn has_cgroup(remains: &Remains<'_>) -> Result<bool> {
    let settings = Settings::remembered(remains.memory);
    Ok(!matches!(found(remains, &settings)?, Found::Others))
}

pub(crate) fn remove(remains: &Remains<'_>) -> Result<()> {
    let settings = Settings::remembered(remains.memory);
    if let Found::Ours(vmid) = found(remains, &settings)? {
        Ct { settings: &settings, vmid }.destroy()?;
    }
    for made in remains.memory.get("made").and_then(serde_json::Value::as_array).into_iter().flatten() {
        // One that holds something by now stays.
        let _ = made.as_str().map(std::fs::remove_dir);
    }
    door(remains).remove()
}

fn door(remains: &Remains<'_>) -> Door {
    let state_dir: &Path = remains.state_dir;
    Door::of(&std::fs::canonicalize(state_dir).unwrap_or_else(|_| state_dir.to_owned()))
}

pub(crate) fn holdings(remains: &Remains<'_>) -> Result<Vec<String>> {
    let settings = Settings::remembered(remains.memory);
    let mut all = Vec::new();
    if let Found::Ours(vmid) = found(remains, &settings)? {
        all.push(format!("CT {vmid} of the node"));
    }
    let door = door(remains);
    if door.exists() {
        all.push(format!("files for LXC in {}", door.dir.display()));
    }
    Ok(all)
}
