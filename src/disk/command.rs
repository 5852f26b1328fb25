//! Runs `zfs`: by its absolute path, in the C locale, for a bounded time and with bounded output.

use crate::cause::{Cause, Fault, Result};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use wharf_sys::program::{self, Most};
use wharf_sys::{Errno, fd};

/// For what only reads, and what is done in one transaction group of the pool: a busy pool takes seconds for one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// More than any answer to a question of ours: 100,000 snapshots have 20 MB of lines.
const MOST: Most = Most { stdout: 64 << 20, stderr: 64 << 10 };

/// Where packages put it. Not from PATH: what is run here runs as root.
const DIRECTORIES: [&str; 6] = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin", "/usr/local/bin"];

/// The absolute path of `zfs`; none where it is not installed.
pub fn program() -> Option<PathBuf> {
    DIRECTORIES.iter().map(|dir| Path::new(dir).join("zfs")).find(|path| path.exists())
}

/// What it prints. `doing` names the object, as in every error.
pub(crate) fn zfs(doing: &str, arguments: &[&str]) -> Result<String> {
    zfs_within(doing, arguments, PATIENCE)
}

pub(crate) fn zfs_within(doing: &str, arguments: &[&str], limit: Duration) -> Result<String> {
    let mut command = command(doing, arguments)?;
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let out = run(doing, command, Some(limit))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// As long as it takes, from or to a descriptor.
pub(crate) fn zfs_with(doing: &str, arguments: &[&str], stdin: Option<OwnedFd>, stdout: Option<OwnedFd>) -> Result<()> {
    let mut command = command(doing, arguments)?;
    command.stdin(stdin.map_or_else(Stdio::null, Stdio::from)).stdout(stdout.map_or_else(Stdio::null, Stdio::from));
    run(doing, command, None).map(drop)
}

fn command(doing: &str, arguments: &[&str]) -> Result<Command> {
    let Some(path) = program() else { return Err(Fault::new(Cause::Missing, doing, "")) };
    let mut command = Command::new(path);
    // ZFS_COLOR, ZFS_MODULE_LOADING and their like are not for the caller of an engine to choose.
    command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").args(arguments);
    Ok(command)
}

fn run(doing: &str, mut command: Command, limit: Option<Duration>) -> Result<Vec<u8>> {
    let failed = |errno: Errno| Fault::new(Cause::Other, doing, &wharf_core::errno_text(errno as i32));
    // What the caller has open is the payload's or the engine's: a program that hangs would keep it open.
    fd::close_by_exec(3).map_err(failed)?;
    let child = command.stderr(Stdio::piped()).spawn();
    let child = child.map_err(|error| failed(Errno::from_raw(error.raw_os_error().unwrap_or(0))))?;
    let Some(finished) = program::finish(child, limit, MOST).map_err(failed)? else {
        let why = format!("zfs did not answer within {:?}", limit.unwrap_or_default());
        return Err(Fault::new(Cause::NoAnswer, doing, &why));
    };
    if finished.status.success() {
        return Ok(finished.stdout);
    }
    let words = String::from_utf8_lossy(&finished.stderr).trim().to_owned();
    let words = if words.is_empty() { format!("zfs ended with {}", finished.status) } else { words };
    Err(Fault::said(doing, &words))
}

/// The fields of a line of `-H`.
pub(crate) fn fields<const N: usize>(line: &str) -> Option<[&str; N]> {
    line.split('\t').collect::<Vec<_>>().try_into().ok()
}
