//! LXC's hooks of a container (§2, start): the mounts in the monitor's own mount namespace, before anything is in it.

use crate::answer::Death;
use crate::config::Section;
use crate::property::{DEVICE, MOUNT, Properties, ROOTFS};
use crate::world::World;
use crate::{ct, lxc, rootfs};
use std::ffi::{CString, OsString};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use wharf_sys::mount::{self, attr};
use wharf_sys::namespace::{Side, clone, flag};
use wharf_sys::{CWD, credentials, fd, libc, process};

pub(crate) const NAME: &str = "lxc-pve-hook";

/// `NAME lxc PHASE`.
pub(crate) fn run(world: &World, words: &[OsString]) -> Result<(), Death> {
    let id = words.first().and_then(|word| word.to_str()).and_then(|word| word.parse().ok()).unwrap_or_default();
    match words.get(2).and_then(|word| word.to_str()) {
        Some("pre-start") => before(world, id),
        Some("autodev" | "post-stop") => Ok(()),
        other => Err(Death::worker(format!("no such hook: {other:?}"))),
    }
}

fn before(world: &World, id: u32) -> Result<(), Death> {
    world.check_quorum()?;
    let config = ct::load(world, id)?;
    make_devices(world, id, &config.current)?;
    mount_all(world, &config.current, &lxc::dir(world, id).join("rootfs"))
}

/// On a tmpfs that nobody but this container's monitor sees.
fn make_devices(world: &World, id: u32, section: &Section) -> Result<(), Death> {
    let all = section.numbered("dev");
    if all.is_empty() {
        return Ok(());
    }
    let place = lxc::dir(world, id).join("passthrough");
    let failed = |error: &dyn std::fmt::Display| Death::system("make the devices", error);
    fs::create_dir_all(&place).map_err(|error| failed(&error))?;
    mount::mount(Some(c"none"), &c_path(&place), Some(c"tmpfs"), 0, Some(c"size=8k"))
        .map_err(|errno| failed(&errno))?;
    let first = rootfs::owner(section);
    for (_, value) in all {
        let found = DEVICE.parse(&value).map_err(Death::worker)?;
        let path = found.get("path").unwrap_or_default();
        let about = fs::metadata(path).map_err(|_| Death::worker(format!("Device {path} does not exist")))?;
        let node = place.join(path.trim_start_matches('/'));
        node.parent().map_or(Ok(()), fs::create_dir_all).map_err(|error| failed(&error))?;
        let mode = found.get("mode").and_then(|text| u32::from_str_radix(text, 8).ok()).unwrap_or(0o660);
        let id = |key: &str| first + found.get(key).and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
        let kind = about.mode() & libc::S_IFMT;
        let make = || {
            fd::mknodat(CWD, &c_path(&node), kind | mode, about.rdev())?;
            fd::chownat(CWD, &c_path(&node), id("uid"), id("gid"), 0)?;
            fd::chmodat(CWD, &c_path(&node), mode)
        };
        make().map_err(|errno| failed(&errno))?;
    }
    Ok(())
}

/// The root file system at `root`, and all mount points in it.
pub(crate) fn mount_all(world: &World, section: &Section, root: &Path) -> Result<(), Death> {
    for (key, value) in section.mounts() {
        let shape = if key == "rootfs" { &ROOTFS } else { &MOUNT };
        let found = shape.parse(&value).map_err(Death::worker)?;
        let target = match found.get("mp") {
            None => root.to_owned(),
            Some(inside) => {
                // On a mount that maps ids the host's own root is nobody, and can make nothing.
                let owner = rootfs::owner(section);
                let failed = |errno| Death::system("act as the container's root", errno);
                credentials::set_filesystem_ids(owner, owner).map_err(failed)?;
                let made = place(root, inside);
                credentials::set_filesystem_ids(0, 0).map_err(failed)?;
                made?
            }
        };
        put(world, &found, &target)?;
    }
    Ok(())
}

/// A mount point inside, made where it is missing. No link on the way (§5, mounts).
fn place(root: &Path, inside: &str) -> Result<PathBuf, Death> {
    let mut path = root.to_owned();
    for part in inside.split('/').filter(|part| !part.is_empty()) {
        path.push(part);
        let there = fs::symlink_metadata(&path);
        if there.as_ref().is_ok_and(|about| about.is_symlink()) {
            return Err(Death::worker(format!("symlink encountered at: {}", path.display())));
        }
        if there.is_err() {
            fs::create_dir(&path)
                .map_err(|error| Death::system(format!("failed to create directory {}", path.display()), error))?;
        }
    }
    Ok(path)
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

/// Mounts one volume, directory or device.
pub(crate) fn put(world: &World, found: &Properties, target: &Path) -> Result<(), Death> {
    let volume = found.get("volume").unwrap_or_default();
    let source = if volume.starts_with('/') { PathBuf::from(volume) } else { crate::storage::existing(world, volume)? };
    let failed = |error: &dyn std::fmt::Display| {
        Death::system(format!("mount {} on {}", source.display(), target.display()), error)
    };
    let about = fs::metadata(&source).map_err(|error| failed(&error))?;
    let options: Vec<&str> =
        found.get("mountoptions").unwrap_or_default().split(';').filter(|one| !one.is_empty()).collect();
    if !about.is_dir() {
        // §3, mpN: no single files. Images and block devices are mounted.
        let is_image = source.extension().is_some_and(|end| end == "raw");
        let is_block = std::os::unix::fs::FileTypeExt::is_block_device(&about.file_type());
        if !is_image && !is_block {
            return Err(Death::worker(format!(
                "unsupported mountpoint: '{volume}' is neither a directory nor a block device"
            )));
        }
        let mut all = vec![if is_image { "loop" } else { "defaults" }];
        all.extend(if found.is("ro") { Some("ro") } else { None });
        all.extend(&options);
        let done = Command::new("/usr/bin/mount")
            .args(["-o", &all.join(",")])
            .arg(&source)
            .arg(target)
            .stdin(Stdio::null())
            .status();
        return match done.map_err(|error| failed(&error))?.success() {
            true => Ok(()),
            false => Err(Death::worker(format!("command 'mount {} {}' failed", source.display(), target.display()))),
        };
    }
    let flags = mount::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    let tree = mount::open_tree(CWD, &c_path(&source), flags).map_err(|errno| failed(&errno))?;
    if found.get("idmap") == Some("passthrough") {
        let userns = namespace_of_map().map_err(|errno| failed(&errno))?;
        mount::set_idmap(&tree, false, &userns).map_err(|errno| failed(&errno))?;
    }
    let mut set = if found.is("ro") { attr::RDONLY } else { 0 };
    for option in options {
        set |= match option {
            "noatime" => attr::NOATIME,
            "nodev" => attr::NODEV,
            "noexec" => attr::NOEXEC,
            "nosuid" => attr::NOSUID,
            _ => 0,
        };
    }
    let clear = if set & attr::NOATIME != 0 { attr::ATIME } else { 0 };
    mount::set_attributes(&tree, false, set, clear, 0).map_err(|errno| failed(&errno))?;
    let place = fd::openat(CWD, &c_path(target), libc::O_PATH | libc::O_CLOEXEC, 0).map_err(|errno| failed(&errno))?;
    mount::attach(&tree, &place).map_err(|errno| failed(&errno))
}

/// A user namespace with the map of unprivileged containers.
fn namespace_of_map() -> Result<OwnedFd, wharf_sys::Errno> {
    let (pid, pidfd) = match clone(flag::NEWUSER, None)? {
        Side::Child => {
            let _ = process::end_with_parent(libc::SIGKILL);
            std::thread::sleep(std::time::Duration::from_secs(10));
            process::exit_now(0)
        }
        Side::Parent { pid, pidfd } => (pid, pidfd),
    };
    let map = format!("0 {} {}", lxc::FIRST, lxc::COUNT);
    let written =
        fs::write(format!("/proc/{pid}/uid_map"), &map).and_then(|()| fs::write(format!("/proc/{pid}/gid_map"), &map));
    let path = CString::new(format!("/proc/{pid}/ns/user")).unwrap_or_default();
    let opened = fd::openat(CWD, &path, libc::O_RDONLY | libc::O_CLOEXEC, 0);
    let _ = process::signal(&pidfd, libc::SIGKILL);
    let _ = process::wait(pid, 0);
    written.map_err(|_| wharf_sys::Errno::EPERM)?;
    opened
}
