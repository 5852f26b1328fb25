//! Machines whose root file system is on a disk of their own.

use crate::vm::machines;
use harness::{Feature, Host, Outcome, Stop, ensure, ensure_eq, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

pub(crate) fn trials() -> Feature {
    let feature = Feature::new("vm disk")
        .trial("the root file system is a copy on a disk, with owners, modes and links, which can be full", copies)
        .trial("what does not fit on the disk is an error, and nothing is left of it", too_large);
    match std::env::var_os("WHARF_E2E_FULL") {
        Some(_) => {
            feature.trial("bind mounts beside a disk; a disk goes with its container, however that ends", beside)
        }
        None => feature,
    }
}

fn with_disks(host: &Host) -> Result<(Host, PathBuf), Stop> {
    if !["/usr/sbin/mke2fs", "/sbin/mke2fs"].iter().any(|path| Path::new(path).exists()) {
        return Err(Stop::skipped("e2fsprogs is not installed"));
    }
    let disks = host.new_dir("disks")?;
    Ok((machines(host, json!({"root": "disk", "disk_size": 64, "disks": &disks}))?, disks))
}

fn copies(host: &Host) -> Outcome {
    let (host, disks) = with_disks(host)?;
    let words = [
        "read",
        "/proc/mounts",
        ";",
        "stat",
        "/srv/owned",
        ";",
        "read",
        "/srv/link",
        ";",
        "write",
        "/srv/new",
        "x",
        ";",
        "write-direct",
        "/srv/large",
        "80",
    ];
    let bundle = host.bundle()?.payload(&words);
    let srv = bundle.rootfs().join("srv");
    fs::create_dir_all(&srv)?;
    fs::write(srv.join("owned"), "of somebody")?;
    chown(srv.join("owned"), Some(1234), Some(99))?;
    fs::set_permissions(srv.join("owned"), fs::Permissions::from_mode(0o4644))?;
    symlink("owned", srv.join("link"))?;
    let [mounts, owned, link, new, large] = host.lines(&bundle)?;
    let mounts = mounts["text"].as_str().unwrap_or_default().to_owned();
    ensure!(mounts.contains("/dev/vda / ext4") && !mounts.contains("9p"), "{mounts}");
    ensure_eq!((&owned["uid"], &owned["gid"], &owned["mode"]), (&json!(1234), &json!(99), &json!("4644")), "{owned:?}");
    ensure!(link["text"] == "of somebody" && new.0.get("errno").is_none(), "{link:?} {new:?}");
    ensure_eq!(large.errno(), "ENOSPC");
    ensure!(!srv.join("new").exists(), "the bundle's own directory was written to");
    ensure_eq!(fs::read_dir(&disks)?.count(), 0, "disks that are left");
    Ok(())
}

fn too_large(host: &Host) -> Outcome {
    let (host, disks) = with_disks(host)?;
    let bundle = host.bundle()?;
    fs::write(bundle.rootfs().join("large"), vec![7; 80 << 20])?;
    let failed = host.create_fails(&bundle)?;
    ensure!(failed.last_line().contains("it does not fit into 64 MiB"), "{failed}");
    ensure_eq!((fs::read_dir(&disks)?.count(), fs::read_dir(host.root())?.count()), (0, 0), "what is left");
    Ok(())
}

fn beside(host: &Host) -> Outcome {
    let (host, disks) = with_disks(host)?;
    let volume = host.new_dir("volume")?;
    let bundle = host.bundle()?.payload(&["write", "/v/f", "guest", ";", "write", "/f", "x", ";", "sleep"]);
    let bundle = bundle.mount("/v", "bind", &volume.to_string_lossy(), &["rbind"]).set("/root/readonly", json!(true));
    let container = host.start(&bundle)?;
    container.lines(2)?;
    ensure_eq!(fs::read_to_string(volume.join("f"))?, "guest");
    ensure_eq!(fs::read_dir(&disks)?.count(), 1, "disks");
    let pid = container.pid()?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)?;
    container.reap(pid)?;
    container.delete()?;
    ensure_eq!(fs::read_dir(&disks)?.count(), 0, "disks that are left");
    Ok(())
}
