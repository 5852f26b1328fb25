//! Who has a dataset in use: mounts of every mount namespace, and what processes have open on it.

use crate::cause::Fault;
use crate::dataset::Dataset;
use crate::keeper::read;
use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use wharf_core::mountinfo::{self, Mount};
use wharf_sys::procfs::Procfs;
use wharf_sys::{dir, fd, libc};

/// More are counted, not told.
const MOST_TOLD: usize = 8;

/// Why a dataset cannot be unmounted or destroyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// It is mounted in a mount namespace, of which this is one process.
    Mounted { pid: i32, command: String, namespace: String, at: PathBuf },
    /// A process has its working directory, its program or a file there.
    Uses { pid: i32, command: String, what: &'static str },
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Holder::Mounted { pid, command, namespace, at } => {
                write!(f, "mounted on {} in {namespace} of process {pid} ({command})", at.display())
            }
            Holder::Uses { pid, command, what } => write!(f, "{what} of process {pid} ({command})"),
        }
    }
}

/// All that can be seen from here: of processes of other users, only root sees what they have open.
pub fn holders(dataset: &Dataset) -> Vec<Holder> {
    let Ok(proc) = Procfs::open() else { return Vec::new() };
    let mut pids = processes(&proc);
    pids.sort_unstable();
    let (mut all, mut namespaces, mut device) = (Vec::new(), BTreeSet::new(), None);
    for pid in &pids {
        let Some(namespace) = link(&proc, *pid, "ns/mnt") else { continue };
        // Every process of a namespace has the same mounts.
        if !namespaces.insert(namespace.clone()) {
            continue;
        }
        for mount in mounts(&proc, *pid).into_iter().filter(|mount| is_of(mount, &dataset.name)) {
            device = Some(mount.device);
            let (command, namespace) = (command(&proc, *pid), namespace.clone());
            all.push(Holder::Mounted { pid: *pid, command, namespace, at: mount.point.into() });
        }
    }
    // Of one that is mounted nowhere any more, files may be open; by what device cannot be told then.
    if let Some(device) = device {
        all.extend(pids.iter().filter_map(|pid| uses(&proc, *pid, device)));
    }
    all
}

/// Processes with something open on the file system of this device number (stat(2), `st_dev`), mounted or not.
pub fn users(device: u64) -> Vec<Holder> {
    let Ok(proc) = Procfs::open() else { return Vec::new() };
    processes(&proc).into_iter().filter_map(|pid| uses(&proc, pid, device)).collect()
}

fn uses(proc: &Procfs, pid: i32, device: u64) -> Option<Holder> {
    used(proc, pid, device).map(|what| Holder::Uses { pid, command: command(proc, pid), what })
}

fn is_of(mount: &Mount, dataset: &str) -> bool {
    mount.kind == "zfs" && mount.source == dataset
}

/// Names them in the hint.
pub(crate) fn told(fault: Fault, dataset: &Dataset) -> Fault {
    let all = holders(dataset);
    if all.is_empty() {
        return fault.hint("nobody is seen to have it: files that were opened before it was unmounted keep it in use");
    }
    let more = all.len().saturating_sub(MOST_TOLD);
    let mut shown: Vec<String> = all.iter().take(MOST_TOLD).map(Holder::to_string).collect();
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    fault.hint(shown.join("; "))
}

fn processes(proc: &Procfs) -> Vec<i32> {
    let Ok(root) = fd::openat(proc, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0) else { return Vec::new() };
    let names = dir::names(root.as_fd()).unwrap_or_default();
    names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect()
}

fn path(pid: i32, name: &str) -> CString {
    CString::new(format!("{pid}/{name}")).unwrap_or_default()
}

fn link(proc: &Procfs, pid: i32, name: &str) -> Option<String> {
    let mut buffer = [0; 64];
    let length = fd::readlinkat(proc, &path(pid, name), &mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn command(proc: &Procfs, pid: i32) -> String {
    read(proc, &path(pid, "comm")).unwrap_or_default().trim().to_owned()
}

fn mounts(proc: &Procfs, pid: i32) -> Vec<Mount> {
    let text = read(proc, &path(pid, "mountinfo")).unwrap_or_default();
    mountinfo::parse(&text)
}

/// What of a process is on that device, which is no other file system's.
fn used(proc: &Procfs, pid: i32, device: u64) -> Option<&'static str> {
    let on = |path: &CStr| fd::statat(proc, path, 0).is_ok_and(|stat| stat.st_dev == device);
    for (name, what) in [("cwd", "working directory"), ("root", "root directory"), ("exe", "program")] {
        if on(&path(pid, name)) {
            return Some(what);
        }
    }
    let open = fd::openat(proc, &path(pid, "fd"), libc::O_RDONLY | libc::O_DIRECTORY, 0).ok();
    let files = open.and_then(|open| dir::names(open.as_fd()).ok()).unwrap_or_default();
    let mut files =
        files.iter().map(|number| CString::new([format!("{pid}/fd/").as_bytes(), number.as_bytes()].concat()));
    files.any(|file| file.is_ok_and(|file| on(&file))).then_some("open file")
}
