//! Finds the programs under test.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The runtime under test: `WHARF_RUNTIME`, else `WHARF_BIN`, else the newest wharf that cargo built.
pub(crate) fn runtime() -> Result<PathBuf, String> {
    given("WHARF_RUNTIME").or_else(|| given("WHARF_BIN")).unwrap_or_else(|| newest("wharf"))
}

/// The payload program: `WHARF_PAYLOAD`, else the newest that cargo built.
pub(crate) fn payload() -> Result<PathBuf, String> {
    given("WHARF_PAYLOAD").unwrap_or_else(|| newest("payload"))
}

/// The double of Proxmox's tools: `WHARF_PCT`, else the newest that cargo built.
pub(crate) fn pct_double() -> Result<PathBuf, String> {
    given("WHARF_PCT").unwrap_or_else(|| newest("pct-double"))
}

fn given(variable: &str) -> Option<Result<PathBuf, String>> {
    let value = std::env::var_os(variable).filter(|value| !value.is_empty())?;
    let path = PathBuf::from(&value);
    Some(path.canonicalize().map_err(|error| format!("{variable}={}: {error}", path.display())))
}

fn newest(name: &str) -> Result<PathBuf, String> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"));
    let places = ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl", ""]
        .into_iter()
        .flat_map(|triple| ["release", "debug"].map(|profile| target.join(triple).join(profile).join(name)));
    let age = |path: &PathBuf| path.metadata().and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    places
        .filter(|path| path.is_file())
        .max_by_key(age)
        .ok_or_else(|| format!("no {name} under {}: build it, or name it in the environment", target.display()))
}
