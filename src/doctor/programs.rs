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
    lines.extend(machine_lines(patient));
    if routing.node().is_ok() {
        lines.extend(node_lines(patient));
    }
    let zfs = tool("zfs", "zfsutils-linux", &["version"], "snapshots and clones of disks");
    let usable = zfs.state == super::State::Good;
    lines.push(zfs);
    if usable {
        lines.extend(zfs_lines(patient));
    }
    lines
}

/// What containers of a Proxmox node take.
fn node_lines(patient: &Patient<'_>) -> Vec<Line> {
    let root =
        patient.configuration.and_then(|file| file.proxmox()).and_then(|proxmox| proxmox.root.map(PathBuf::from));
    let settings = root.map(wharf_lxc::pct::Settings::of_node).unwrap_or_default();
    let line = |found: wharf_lxc::pct::Finding| match found.fault {
        None => Line::good(AREA, found.what),
        Some((why, fix)) => Line::limited(AREA, found.what, why, fix),
    };
    wharf_lxc::pct::look(&settings).into_iter().map(line).collect()
}

/// What virtual machines take besides QEMU.
fn machine_lines(patient: &Patient<'_>) -> Vec<Line> {
    let vm = patient.configuration.and_then(|file| file.vm());
    let path = |text: Option<&str>| text.map(PathBuf::from);
    let (kernel, modules) = vm.map_or((None, None), |vm| (path(vm.kernel), path(vm.modules)));
    let kvm = "KVM, for virtual machines";
    let kvm = match std::fs::File::options().read(true).write(true).open("/dev/kvm") {
        // Only a boot shows more: the first container of each kernel finds out.
        Ok(_) => Line::good(AREA, format!("{kvm}: /dev/kvm can be opened")),
        Err(error) => {
            let fix = "load kvm_intel or kvm_amd, on a host that has them; emulation needs nothing, and is slow";
            Line::absent(AREA, kvm, format!("/dev/kvm: {error}"), fix)
        }
    };
    let what = "kernel of virtual machines";
    let kernel = match wharf_vm::kernel(kernel.as_deref(), modules.as_deref()) {
        Ok(path) => Line::good(AREA, format!("{what}: {}, with the drivers needed", path.display())),
        Err(error) => {
            let fix = error.advice().unwrap_or("see docs/vm.md").to_owned();
            Line::absent(AREA, what, error.reason(), fix)
        }
    };
    vec![kvm, kernel]
}

/// The other half of ZFS, what the caller may do with it, and the dataset that the configuration names.
fn zfs_lines(patient: &Patient<'_>) -> Vec<Line> {
    let what = "ZFS in the kernel";
    let Some(version) = super::read("/sys/module/zfs/version").filter(|_| Path::new("/dev/zfs").exists()) else {
        return vec![Line::absent(AREA, what, "its module is not loaded, or /dev/zfs is not there", "modprobe zfs")];
    };
    let mut lines = vec![Line::good(AREA, format!("{what}: {version}"))];
    if patient.uid != 0 {
        let fix = format!("as root: zfs allow -u {} snapshot,userprop,destroy,mount,hold,release DATASET", patient.uid);
        let cause = "only root mounts ZFS on Linux; snapshots need a permission of their dataset";
        lines.push(Line::absent(AREA, "ZFS for an ordinary user", cause, fix));
    }
    let Some(name) = patient.configuration.and_then(|configuration| configuration.zfs_dataset()) else { return lines };
    let (what, pool) = (format!("storage.zfs_dataset: {name}"), name.split('/').next().unwrap_or_default());
    lines.push(
        match wharf_disk::find(name).or_else(|fault| match fault.cause() {
            // The pool is enough: it is made with the first container.
            wharf_disk::Cause::NoSuchDataset => wharf_disk::find(pool),
            _ => Err(fault),
        }) {
            Ok(_) => Line::good(AREA, what),
            Err(fault) => {
                Line::limited(AREA, what, fault.to_string(), format!("make the pool {pool}, or name another"))
            }
        },
    );
    lines
}

/// None for wharf itself.
fn runtime(routing: &Routing, name: &str) -> Option<Line> {
    let (what, cause) = match routing.place(name) {
        Ok(Place::Native) => return None,
        Ok(Place::Vm) => match routing.machines() {
            Ok(path) => match version(&path, &["--version"]) {
                Ok(version) => return Some(Line::good(AREA, format!("backend vm: {version}, {}", path.display()))),
                Err(why) => (format!("backend vm at {}", path.display()), why),
            },
            Err(error) => ("backend vm".to_owned(), error.to_string()),
        },
        Ok(Place::Lxc) => {
            let version = wharf_lxc::version().unwrap_or_else(|| "of an unknown version".to_owned());
            return Some(Line::good(AREA, format!("backend lxc: LXC {version}, {}", wharf_lxc::START)));
        }
        Ok(Place::Pct) => {
            let version = wharf_lxc::version().unwrap_or_else(|| "of an unknown version".to_owned());
            return Some(Line::good(AREA, format!("backend pct: a node of Proxmox VE, LXC {version}")));
        }
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
