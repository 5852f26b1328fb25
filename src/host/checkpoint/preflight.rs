//! What would make a dump fail, looked for from outside: nothing of the container is touched or held up.

use super::criu::Version;
use super::dump::{Source, program};
use super::sockets;
use crate::status;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::os::fd::BorrowedFd;
use wharf_core::mountinfo::Mount;
use wharf_core::{Bundle, Checkpoint, Obstacle, Record, Result};
use wharf_sys::procfs::Procfs;
use wharf_sys::{Errno, dir, fd, libc, socket};

/// Anonymous files that CRIU knows (`anon_inode:`).
const KNOWN_ANONYMOUS: [&str; 6] = ["[eventpoll]", "[eventfd]", "[signalfd]", "[timerfd]", "inotify", "[fanotify]"];
/// File systems that are a program's, or whose content cannot be written down.
const FOREIGN: [&str; 4] = ["fuse", "fuseblk", "9p", "autofs"];
/// Namespaces that a process of the container may not have for itself, as /proc calls them. Of mounts it may.
const NESTED: [(&str, &str); 6] =
    [("pid", "pid"), ("user", "user"), ("net", "network"), ("uts", "uts"), ("ipc", "ipc"), ("time", "time")];

/// The device of taps, which CRIU knows.
const MISC_TUN: (u32, u32) = (10, 200);
/// Of a removed file that is still open, in bytes (`--ghost-limit`).
const GHOST: u64 = 1 << 20;

/// Of TCP connections in /proc/PID/net/tcp.
const ESTABLISHED: u8 = 1;
/// The first criu that does without what Linux 6.16 has taken from sockets of the Internet.
const READS_SOCKETS: Version = Version(4, 2, 0);

/// Everything that is found; none means that nothing is known to be in the way.
pub(crate) fn obstacles(
    record: &Record,
    state: BorrowedFd<'_>,
    bundle: &Bundle,
    asked: &Checkpoint,
) -> Result<Vec<Obstacle>> {
    let mut found = Vec::new();
    if dir::effective_uid() != 0 {
        found.push(obstacle("caller", "criu writes processes down only for root", "call as root"));
    }
    let version = match program(asked.images.criu.as_deref()) {
        Ok((_, version)) => Some(version),
        Err(error) => {
            found.push(obstacle("criu", error.reason(), "install criu, as new as the kernel, or name it with --criu"));
            None
        }
    };
    let source = Source::of(record, state, bundle)?;
    of_mounts(&source, &mut found);
    let pids = status::processes(record).unwrap_or_else(|_| vec![source.pid]);
    let network = link(&source.proc, &format!("{}/ns", source.pid), "net").ok();
    let mut seen = Seen { network, ..Seen::default() };
    for pid in &pids {
        // One that ends meanwhile is in nobody's way.
        let _ = of_process(&source, asked, *pid, &mut seen, &mut found);
    }
    if !asked.images.file_locks {
        of_locks(&source.proc, &pids, &mut found);
    }
    sockets::of_unix(&source.proc, asked, source.pid, &seen, &mut found);
    let sockets = internet_sockets(&source.proc, source.pid, &seen.sockets);
    let reads_them = || socket::internet_has_passcred().unwrap_or(true);
    if let Some(version) = version.filter(|version| !sockets.is_empty() && *version < READS_SOCKETS && !reads_them()) {
        let why = format!("criu {version} is too old for sockets of this kernel");
        found.push(obstacle("network", why, "install criu 4.2 or newer"));
    }
    if !asked.images.tcp_established && sockets.contains(&ESTABLISHED) {
        found.push(obstacle("network", "a TCP connection is established", "--tcp-established"));
    }
    found.dedup();
    Ok(found)
}

pub(super) fn obstacle(what: impl Into<String>, why: impl Into<String>, fix: &str) -> Obstacle {
    Obstacle { what: what.into(), why: why.into(), fix: fix.to_owned() }
}

fn of_mounts(source: &Source, found: &mut Vec<Obstacle>) {
    let external = |mount: &Mount| source.external.iter().any(|one| one.destination == mount.point);
    for mount in source.inside.iter().filter(|mount| mount.point != "/" && !external(mount)) {
        let kind = mount.kind.split('.').next().unwrap_or_default();
        if FOREIGN.contains(&kind) {
            let why = format!("is a file system of type {}, which lives in a program", mount.kind);
            found.push(obstacle(format!("mount {}", mount.point), why, "mount it from outside, as a bind mount"));
        }
    }
    for mount in source.external.iter().filter(|mount| mount.source.is_empty()) {
        let why = "nothing on the host shows what is mounted there";
        found.push(obstacle(format!("mount {}", mount.destination), why, "unmount it first"));
    }
    for mount in source.inside.iter().filter(|mount| mount.options.split(',').any(|option| option == "idmapped")) {
        let why = "its owners are mapped, which criu cannot restore";
        found.push(obstacle(format!("mount {}", mount.point), why, ""));
    }
}

#[derive(Default)]
pub(super) struct Seen {
    /// Inodes of the container's sockets, and who has each.
    pub(super) sockets: BTreeMap<u64, String>,
    /// The container's network namespace.
    network: Option<String>,
}

fn of_process(
    source: &Source,
    asked: &Checkpoint,
    pid: i32,
    seen: &mut Seen,
    found: &mut Vec<Obstacle>,
) -> Result<(), Errno> {
    let proc = &source.proc;
    let name = name(proc, pid);
    if tracer(proc, pid)? != 0 {
        found.push(obstacle(name.as_str(), "is traced by another process, as a debugger does", "end that first"));
    }
    for (file, kind) in NESTED {
        let of = |pid: i32| link(proc, &format!("{pid}/ns"), file);
        // Old kernels have fewer of them.
        if let (Ok(own), Ok(first)) = (of(pid), of(source.pid))
            && own != first
        {
            let why = format!("has a {kind} namespace of its own");
            found.push(obstacle(name.as_str(), why, "end it first"));
        }
    }
    for number in numbers(proc, pid)? {
        let Ok(target) = link(proc, &format!("{pid}/fd"), &number.to_string()) else { continue };
        if let Some(inode) = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')?.parse().ok()) {
            if seen.sockets.insert(inode, name.clone()).is_none() {
                // What cannot be looked at is not judged.
                let _ = sockets::of_descriptor(seen.network.as_deref(), pid, number, &name, found);
            }
            continue;
        }
        let Some(anonymous) = target.strip_prefix("anon_inode:") else {
            of_file(source, asked, pid, number, &target, &name, found)?;
            continue;
        };
        if !KNOWN_ANONYMOUS.contains(&anonymous) && !anonymous.starts_with("[pidfd") {
            let why = format!("has {anonymous} open, which criu does not know");
            found.push(obstacle(name.as_str(), why, "let it close that first"));
        }
    }
    Ok(())
}

fn tracer(proc: &Procfs, pid: i32) -> Result<i32, Errno> {
    let status = proc.read(&CString::new(format!("{pid}/status")).map_err(|_| Errno::EINVAL)?)?;
    let status = String::from_utf8_lossy(&status);
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    Ok(tracer.and_then(|pid| pid.trim().parse().ok()).unwrap_or(0))
}

/// Devices and removed files that CRIU does not keep, by what is open.
fn of_content(asked: &Checkpoint, stat: &libc::stat, target: &str, name: &str, found: &mut Vec<Obstacle>) {
    let (major, minor) = (libc::major(stat.st_rdev), libc::minor(stat.st_rdev));
    let known = match stat.st_mode & libc::S_IFMT {
        libc::S_IFCHR => matches!((major, minor), (1 | 4 | 5 | 136..=143, _) | MISC_TUN),
        libc::S_IFBLK => false,
        _ => true,
    };
    if !known {
        let why = format!("has the device {target} open, which criu does not keep");
        found.push(obstacle(name, why, "let it close that first"));
    }
    if !target.ends_with(" (deleted)") || stat.st_mode & libc::S_IFMT != libc::S_IFREG {
        return;
    }
    if stat.st_nlink == 0 && stat.st_size as u64 > GHOST {
        let why = format!("has {target} open, of which criu keeps a mebibyte at most");
        found.push(obstacle(name, why, "a line ghost-limit in /etc/criu/wharf.conf"));
    } else if stat.st_nlink > 0 && !asked.link_remap {
        found.push(obstacle(name, format!("has {target} open, which has another name"), "--link-remap"));
    }
}

/// An open file that is on none of the container's mounts.
fn of_file(
    source: &Source,
    asked: &Checkpoint,
    pid: i32,
    number: i32,
    target: &str,
    name: &str,
    found: &mut Vec<Obstacle>,
) -> Result<(), Errno> {
    if !target.starts_with('/') || target.starts_with("/memfd:") || target.starts_with("/dev/zero (deleted)") {
        return Ok(());
    }
    let path = |file: &str| CString::new(format!("{pid}/{file}/{number}")).map_err(|_| Errno::EINVAL);
    let info = source.proc.read(&path("fdinfo")?)?;
    let info = String::from_utf8_lossy(&info);
    let mount: Option<u64> = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    let stat = fd::statat(&source.proc, &path("fd")?, 0)?;
    if mount.is_none_or(|mount| source.inside.iter().any(|other| other.id == mount)) {
        of_content(asked, &stat, target, name, found);
        return Ok(());
    }
    let external = mount.map(|mount| format!("file[{mount:x}:{:x}]", stat.st_ino));
    if source.standard.iter().any(|one| one.outside == external) {
        return Ok(());
    }
    let terminal = stat.st_mode & libc::S_IFMT == libc::S_IFCHR && (136..=143).contains(&libc::major(stat.st_rdev));
    match terminal {
        true if asked.images.shell_job => {}
        true => found.push(obstacle(name, format!("its terminal {target} is a shell's on the host"), "--shell-job")),
        false => {
            let why = format!("has {target} open, which is on none of the container's mounts");
            let fix = "hand it a pipe instead, or mount the file's directory into the container";
            found.push(obstacle(name, why, fix));
        }
    }
    Ok(())
}

fn of_locks(proc: &Procfs, pids: &[i32], found: &mut Vec<Obstacle>) {
    let Ok(text) = proc.read(c"locks") else { return };
    for line in String::from_utf8_lossy(&text).lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().filter(|field| *field != "->").collect();
        let Some(pid) = fields.get(4).and_then(|pid| pid.parse().ok()) else { continue };
        if pids.contains(&pid) {
            found.push(obstacle(name(proc, pid), "holds the lock of a file", "--file-locks"));
        }
    }
}

/// The states of the container's sockets of the Internet, by its own tables.
fn internet_sockets(proc: &Procfs, pid: i32, own: &BTreeMap<u64, String>) -> BTreeSet<u8> {
    let mut states = BTreeSet::new();
    for file in ["tcp", "tcp6", "udp", "udp6", "raw", "raw6"] {
        let path = CString::new(format!("{pid}/net/{file}")).unwrap_or_default();
        let Ok(text) = proc.read(&path) else { continue };
        for line in String::from_utf8_lossy(&text).lines().skip(1) {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let inode = fields.get(9).and_then(|inode| inode.parse().ok());
            if inode.is_some_and(|inode| own.contains_key(&inode)) {
                let state = fields.get(3).and_then(|state| u8::from_str_radix(state, 16).ok()).unwrap_or(0);
                // Other protocols have states of these numbers that mean other things.
                states.insert(if file.starts_with("tcp") { state } else { 0 });
            }
        }
    }
    states
}

fn name(proc: &Procfs, pid: i32) -> String {
    let path = CString::new(format!("{pid}/comm")).unwrap_or_default();
    let name = proc.read(&path).unwrap_or_default();
    format!("process {pid} ({})", String::from_utf8_lossy(&name).trim())
}

fn link(proc: &Procfs, dir: &str, file: &str) -> Result<String, Errno> {
    let dir = CString::new(dir).map_err(|_| Errno::EINVAL)?;
    let dir = proc.open_file(&dir, libc::O_PATH | libc::O_DIRECTORY)?;
    let mut buffer = [0; libc::PATH_MAX as usize];
    let length = fd::readlinkat(&dir, &CString::new(file).map_err(|_| Errno::EINVAL)?, &mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn numbers(proc: &Procfs, pid: i32) -> Result<Vec<i32>, Errno> {
    use std::os::fd::AsFd;
    let dir = CString::new(format!("{pid}/fd")).map_err(|_| Errno::EINVAL)?;
    let dir = proc.open_file(&dir, libc::O_RDONLY | libc::O_DIRECTORY)?;
    let names = dir::names(dir.as_fd())?;
    let numbers: BTreeSet<i32> = names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect();
    Ok(numbers.into_iter().collect())
}
