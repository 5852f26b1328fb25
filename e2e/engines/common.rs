//! What the trials of engines with a daemon share: calls and their ends, values of cgroups, waiting.

use super::case::Choice;
use harness::{Finished, Host, Outcome, Running, Stop, ensure, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program of the host's in the directories where packages put theirs; `/usr/local` may hold another of its name.
pub(crate) fn installed(name: &str) -> Result<PathBuf, Stop> {
    ["/usr/bin", "/usr/sbin", "/usr/local/sbin", "/usr/local/bin"]
        .into_iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.exists())
        .ok_or_else(|| Stop::skipped(format!("{name} is not installed")))
}

/// Skips where an exit while the daemon is down cannot be told: from 1.7 on containerd takes a shim whose container has no
/// process for a leaked one, whatever the runtime.
pub(crate) fn keeps_exits() -> Outcome {
    let version = Command::new(installed("containerd")?).arg("--version").output()?;
    let text = String::from_utf8_lossy(&version.stdout).into_owned();
    let number = text.split_whitespace().find_map(|word| {
        let mut parts = word.trim_start_matches('v').split('.').map(|part| part.parse::<u32>().ok());
        Some((parts.next()??, parts.next()??))
    });
    match number {
        Some(number) if number >= (1, 7) => {
            let (major, minor) = number;
            let why = format!("containerd {major}.{minor} takes away a shim without processes, with every runtime");
            Err(Stop::skipped(why))
        }
        _ => Ok(()),
    }
}

/// A daemon in the foreground. Its end before its time is told with its last words.
pub(crate) struct Daemon(Running);

impl Daemon {
    pub(crate) fn start(host: &Host, command: Command) -> Result<Self, Stop> {
        host.program(command).map(Daemon)
    }

    /// Waits for its first answer.
    pub(crate) fn wait_for(&self, name: &str, mut answers: impl FnMut() -> Result<bool, Stop>) -> Outcome {
        wait_until(name, || {
            ensure!(!self.has_ended(), "{name} has ended: {}", self.last_words());
            answers()
        })
    }

    /// The last of what it has said so far.
    pub(crate) fn last_words(&self) -> String {
        self.0.stderr_so_far().lines().last().unwrap_or_default().to_owned()
    }

    fn has_ended(&self) -> bool {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.0.pid()));
        text.is_ok_and(|text| text.contains(") Z "))
    }

    /// Ends it by this signal and waits for its end.
    pub(crate) fn end(self, by: Signal) -> Outcome {
        signal(self.0.pid(), by)?;
        self.0.finish().map(drop)
    }
}

/// The call must end with this code.
pub(crate) fn code(finished: Finished, code: i32) -> Result<Finished, Stop> {
    match finished.code() {
        Some(seen) if seen == code => Ok(finished),
        _ => Err(Stop::failed(format!("code {code} was expected: {finished}"))),
    }
}

/// A call that must succeed: its stdout without the last line break.
pub(crate) fn said(finished: Finished) -> Result<String, Stop> {
    Ok(code(finished, 0)?.stdout.trim_end().to_owned())
}

pub(crate) fn signal(pid: i32, signal: Signal) -> Outcome {
    Ok(kill(Pid::from_raw(pid), signal)?)
}

/// The names in a directory; none where it is missing.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// All of `full` trials of a kind with `WHARF_E2E_FULL`, else an eighth of them.
pub(crate) fn share(full: usize) -> usize {
    if std::env::var_os("WHARF_E2E_FULL").is_some() { full } else { full / 8 }
}

/// One value of a cgroup's files, v1 or v2: what a limit came to in the kernel.
pub(crate) fn cgroup_value(pid: i32, controller: &str, v1: &str, v2: &str) -> Result<String, Stop> {
    let table = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    for line in table.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let file = match controllers {
            "" if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() => format!("/sys/fs/cgroup{path}/{v2}"),
            _ if controllers.split(',').any(|name| name == controller) => {
                format!("/sys/fs/cgroup/{controller}{path}/{v1}")
            }
            _ => continue,
        };
        let text = std::fs::read_to_string(&file).map_err(|error| Stop::failed(format!("read {file}: {error}")))?;
        return Ok(text.trim_end().to_owned());
    }
    Err(Stop::skipped(format!("no {controller} controller here")))
}

/// Takes away the trial's own parent cgroup, which engines leave; what is left inside it stays, and is found.
pub(crate) fn remove_parent_cgroups(name: &str) {
    let top = Path::new("/sys/fs/cgroup");
    let _ = std::fs::remove_dir(top.join(name));
    for hierarchy in names(top) {
        let _ = std::fs::remove_dir(top.join(hierarchy).join(name));
    }
}

/// The processes of a cgroup: of the first hierarchy that has it.
pub(crate) fn members(path: &str) -> Vec<i32> {
    let top = Path::new("/sys/fs/cgroup");
    let places = ["", "pids", "memory", "systemd"].map(|name| top.join(name).join(path.trim_start_matches('/')));
    let file = places.iter().map(|place| place.join("cgroup.procs")).find(|file| file.exists());
    let text = file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Skips where this host itself lacks a capability: Docker's `--privileged` asks for every one that the kernel has.
pub(crate) fn holds_all_capabilities() -> Outcome {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap_or_default();
    let last: u32 = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap")?.trim().parse()?;
    match u64::from_str_radix(bounding, 16)?.trailing_ones() > last {
        true => Ok(()),
        false => Err(Stop::skipped("this host itself lacks capabilities")),
    }
}

/// The program of a runtime, for an engine to call. crun refuses v1 hierarchies with one of v2 beside them: it is called
/// where that one is not seen, by a script in `dir`.
pub(crate) fn callable(choice: &Choice<'_>, dir: &Path) -> Result<PathBuf, Stop> {
    if choice.name != "crun" || !Path::new("/sys/fs/cgroup/unified").exists() {
        return Ok(choice.program.to_owned());
    }
    let wrapper = dir.join("crun");
    let hide = "umount /sys/fs/cgroup/unified && exec \"$0\" \"$@\"";
    let program = choice.program.display();
    std::fs::write(&wrapper, format!("#!/bin/sh\nexec unshare -m sh -c '{hide}' {program} \"$@\"\n"))?;
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755))?;
    Ok(wrapper)
}
