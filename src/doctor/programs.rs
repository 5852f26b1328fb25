//! Other programs: the runtimes that containers may be handed to, and what checkpoints need.

use super::{Line, Patient};
use crate::route::{Place, Routing};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use wharf_sys::program::{self, Most};

const AREA: &str = "programs";

/// How long a program may take to tell its version.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than any version is long.
const MOST: Most = Most { stdout: 4096, stderr: 0 };

/// Where packages put what an administrator calls.
const DIRECTORIES: [&str; 6] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"];

pub(super) fn lines(patient: &Patient<'_>) -> Vec<Line> {
    let routing = patient.configuration.and_then(|file| file.routing().ok()).unwrap_or_default();
    let mut lines: Vec<Line> = routing.names().iter().filter_map(|name| runtime(&routing, name)).collect();
    lines.push(tool("criu", "criu", &["--version"], "checkpoints of memory (checkpoint, restore)"));
    lines.push(tool("zfs", "zfsutils-linux", &["version"], "checkpoints of disks, which this build does not make yet"));
    lines
}

/// None for wharf itself.
fn runtime(routing: &Routing, name: &str) -> Option<Line> {
    let (what, cause) = match routing.place(name) {
        Ok(Place::Native) => return None,
        Ok(Place::Delegate { path, .. }) => match version(&path, &["--version"]) {
            Ok(version) => return Some(Line::good(AREA, format!("backend {name}: {version}, {}", path.display()))),
            Err(why) => (format!("backend {name} at {}", path.display()), why),
        },
        Err(error) => (format!("backend {name}"), error.to_string()),
    };
    // Who writes it down means to use it.
    Some(match routing.runtimes.iter().any(|runtime| runtime.name == name) {
        true => Line::limited(AREA, what, cause, format!("install it there, or correct runtimes/{name}")),
        false => {
            Line::absent(AREA, what, cause, format!("install {name}, or name its path in the configuration (runtimes)"))
        }
    })
}

fn tool(name: &str, package: &str, words: &[&str], used_for: &str) -> Line {
    let found = DIRECTORIES.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.exists());
    let what = format!("{name}, for {used_for}");
    let Some(path) = found else {
        return Line::absent(AREA, what, "it is not installed", format!("install the package {package}"));
    };
    match version(&path, words) {
        Ok(version) => Line::good(AREA, format!("{what}: {version}, {}", path.display())),
        Err(why) => Line::absent(AREA, format!("{what}: {}", path.display()), why, "see what it says by hand"),
    }
}

/// The first line that it prints.
fn version(path: &PathBuf, words: &[&str]) -> Result<String, String> {
    let mut command = Command::new(path);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let child = command.spawn().map_err(|error| error.to_string())?;
    let finished = program::finish(child, Some(PATIENCE), MOST).map_err(|errno| errno.desc().to_owned())?;
    let finished = finished.ok_or_else(|| format!("it does not tell its version within {} s", PATIENCE.as_secs()))?;
    let (status, text) = (finished.status, String::from_utf8_lossy(&finished.stdout));
    match text.lines().next().map(str::trim) {
        Some(line) if status.success() && !line.is_empty() => Ok(line.to_owned()),
        _ => Err(format!("asked for its version, it ended with {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_the_first_line_and_a_program_that_fails_has_none() {
        let sh = PathBuf::from("/bin/sh");
        assert_eq!(version(&sh, &["-c", "echo one 1.2; echo two"]).as_deref(), Ok("one 1.2"));
        assert!(version(&sh, &["-c", "echo one; exit 3"]).unwrap_err().contains('3'));
        assert!(version(&PathBuf::from("/nonexistent"), &[]).is_err());
    }
}
