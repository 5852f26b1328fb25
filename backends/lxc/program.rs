//! LXC's own program: where it is, and which version.

use std::path::Path;
use std::process::{Command, Stdio};
use wharf_core::{Error, Kind, Result};

/// The caller's PATH has no say.
pub const START: &str = "/usr/bin/lxc-start";
/// Without /usr/bin, LXC finds no newuidmap(1), which maps for root only what /etc/subuid gives to root; it writes the maps
/// itself then.
pub(crate) const PATH: &str = "PATH=/usr/sbin:/sbin";

/// Refuses a host without it.
pub(crate) fn check() -> Result<()> {
    if Path::new(START).exists() {
        return Ok(());
    }
    Err(Error::new(Kind::System, "use LXC")
        .because(format!("{START} is not installed"))
        .hint("install LXC: apt install lxc"))
}

/// None where it is not there, or says nothing.
pub fn version() -> Option<String> {
    let said = Command::new(START).arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    (said.status.success() && !text.is_empty()).then_some(text)
}
