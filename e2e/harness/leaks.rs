//! Takes stock of what a runtime could leave behind, and names what was not there before.

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Everything of this process's surroundings that a container touches.
///
/// The harness lives in a mount namespace of its own and is the subreaper of what it starts, so its mount table and its
/// descendants are its own affair; cgroups and state directories are told apart by the trial's tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    items: BTreeSet<String>,
}

impl Inventory {
    pub fn take(tag: &str, root: &Path) -> Self {
        let mut items = BTreeSet::new();
        for line in fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines() {
            // Mount ids differ from one mount to the next; the whole line tells a remount too.
            items.insert(format!("mount {line}"));
        }
        cgroups(tag, &mut |path| {
            items.insert(format!("cgroup {}", path.display()));
        });
        for (pid, command) in descendants() {
            items.insert(format!("process {pid} ({command})"));
            for namespace in namespaces(pid) {
                items.insert(format!("namespace {namespace}"));
            }
        }
        for namespace in namespaces(std::process::id() as i32) {
            items.insert(format!("own namespace {namespace}"));
        }
        for entry in fs::read_dir(root).into_iter().flatten().flatten() {
            items.insert(format!("state {}", entry.path().display()));
        }
        for entry in fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
            let target = fs::read_link(entry.path()).unwrap_or_default();
            if !target.ends_with("fd") {
                items.insert(format!("fd {} ({})", entry.file_name().to_string_lossy(), target.display()));
            }
        }
        Inventory { items }
    }

    /// What this one has and `before` had not, and what has gone.
    pub fn difference(&self, before: &Inventory) -> Vec<String> {
        let left = self.items.difference(&before.items).map(|item| format!("left: {item}"));
        let gone = before.items.difference(&self.items).map(|item| format!("gone: {item}"));
        left.chain(gone).collect()
    }
}

/// Collects ended children, ours and those left to us as the subreaper.
pub(crate) fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
}

/// Brings the host back to order after a trial that failed: processes, mounts below `dir`, cgroups of the tag.
pub(crate) fn sweep(tag: &str, dir: &Path) {
    let begun = Instant::now();
    loop {
        reap();
        let alive = descendants();
        if alive.is_empty() || begun.elapsed() > Duration::from_secs(5) {
            break;
        }
        for (pid, _) in alive {
            thaw(pid);
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let inside: Vec<&str> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|target| Path::new(target).starts_with(dir) && Path::new(target) != dir)
        .collect();
    for target in inside.into_iter().rev() {
        let _ = nix::mount::umount2(target, nix::mount::MntFlags::MNT_DETACH);
    }
    let mut paths = Vec::new();
    cgroups(tag, &mut |path| paths.push(path.to_owned()));
    paths.sort();
    for path in paths.into_iter().rev() {
        let _ = fs::remove_dir(path);
    }
}

/// A frozen process cannot die under cgroup v1.
fn thaw(pid: i32) {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    for line in text.lines() {
        if let Some((_, path)) = line.split_once(":freezer:") {
            let _ = fs::write(format!("/sys/fs/cgroup/freezer{path}/freezer.state"), "THAWED");
        } else if let Some(path) = line.strip_prefix("0::") {
            let _ = fs::write(format!("/sys/fs/cgroup{path}/cgroup.freeze"), "0");
        }
    }
}

/// Processes below this one, by their parents.
fn descendants() -> Vec<(i32, String)> {
    let mut all: Vec<(i32, i32, String)> = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let Some((left, right)) = stat.rsplit_once(')') else { continue };
        let name = left.split_once('(').map(|(_, name)| name.to_owned()).unwrap_or_default();
        let mut fields = right.split_whitespace();
        let state = fields.next().unwrap_or_default().to_owned();
        let parent = fields.next().and_then(|field| field.parse().ok()).unwrap_or(0);
        all.push((pid, parent, format!("{name}, {state}")));
    }
    let mut found: Vec<(i32, String)> = Vec::new();
    let mut parents = vec![std::process::id() as i32];
    while let Some(parent) = parents.pop() {
        for (pid, above, name) in &all {
            if *above == parent {
                parents.push(*pid);
                found.push((*pid, name.clone()));
            }
        }
    }
    found
}

fn namespaces(pid: i32) -> Vec<String> {
    let dir = fs::read_dir(format!("/proc/{pid}/ns"));
    let links = dir.into_iter().flatten().flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    links.map(|link| link.to_string_lossy().into_owned()).collect()
}

/// Every cgroup directory, in every hierarchy, whose path has the tag in it.
fn cgroups(tag: &str, found: &mut dyn FnMut(&Path)) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in table.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        if right.starts_with("cgroup") {
            let target = left.split(' ').nth(4).unwrap_or_default();
            walk(&PathBuf::from(target), tag, found);
        }
    }
}

fn walk(dir: &Path, tag: &str, found: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let path = entry.path();
            if path.to_string_lossy().contains(tag) {
                found(&path);
            }
            walk(&path, tag, found);
        }
    }
}
