//! Commands that touch the file system.

use crate::{Found, Refused};
use nix::sys::stat::{FileStat, Mode, SFlag};
use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};

pub(crate) fn perform(verb: &str, args: &[&str]) -> Option<Found> {
    Some(match (verb, args) {
        ("read", [path]) => read(path),
        ("head", [path, count]) => head(path, count),
        ("write", [path, text]) => write(path, text),
        ("append", [path, text]) => {
            OpenOptions::new().append(true).open(path).and_then(|mut file| file.write_all(text.as_bytes())).done()
        }
        ("fill", [path]) => fill(path),
        ("open", [path, how]) => open(path, how),
        ("touch", [path]) => OpenOptions::new().create(true).append(true).open(path).map(drop).done(),
        ("mkdir", [path]) => fs::create_dir(path).done(),
        ("remove", [path]) => fs::remove_file(path).done(),
        ("rmdir", [path]) => fs::remove_dir(path).done(),
        ("rename", [from, to]) => fs::rename(from, to).done(),
        ("symlink", [target, path]) => symlink(target, path).done(),
        ("chmod", [path, mode]) => chmod(path, mode),
        ("chown", [path, uid, gid]) => chown(path, uid, gid),
        ("chdir", [path]) => std::env::set_current_dir(path).done(),
        ("list", [path]) => list(path),
        ("stat", [path]) => stat(path, true),
        ("lstat", [path]) => stat(path, false),
        ("statfs", [path]) => statfs(path),
        ("mknod", [path, kind, major, minor]) => mknod(path, kind, major, minor),
        ("mount", [source, target, kind, data]) => mount(source, target, kind, data),
        ("bind", [source, target]) => {
            nix::mount::mount(Some(*source), *target, None::<&str>, nix::mount::MsFlags::MS_BIND, None::<&str>).done()
        }
        ("umount", [path]) => nix::mount::umount2(*path, nix::mount::MntFlags::MNT_DETACH).done(),
        ("chroot", [path]) => nix::unistd::chroot(*path).done(),
        _ => return None,
    })
}

/// Turns "it worked" into a result without a value.
trait Done {
    fn done(self) -> Found;
}

impl<E: Into<Refused>> Done for Result<(), E> {
    fn done(self) -> Found {
        self.map(|()| Value::Null).map_err(Into::into)
    }
}

fn read(path: &str) -> Found {
    let mut text = Vec::new();
    File::open(path)?.take(1 << 20).read_to_end(&mut text)?;
    Ok(json!({ "text": String::from_utf8_lossy(&text) }))
}

/// Writes until it is refused.
fn fill(path: &str) -> Found {
    let block = vec![1; 1 << 20];
    let mut file = File::create(path)?;
    loop {
        file.write_all(&block)?;
    }
}

fn head(path: &str, count: &str) -> Found {
    let mut bytes = Vec::new();
    File::open(path)?.take(crate::number(count)? as u64).read_to_end(&mut bytes)?;
    Ok(json!({ "bytes": bytes }))
}

fn write(path: &str, text: &str) -> Found {
    // No O_CREAT on what is there: a read-only mount and a device answer for themselves.
    let mut file = match OpenOptions::new().write(true).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => File::create_new(path)?,
        other => other?,
    };
    file.write_all(text.as_bytes()).done()
}

fn open(path: &str, how: &str) -> Found {
    let mut options = OpenOptions::new();
    options.read(how.contains('r')).write(how.contains('w')).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits());
    options.open(path).map(drop).done()
}

fn chmod(path: &str, mode: &str) -> Found {
    fs::set_permissions(path, fs::Permissions::from_mode(u32::from_str_radix(mode, 8)?)).done()
}

fn chown(path: &str, uid: &str, gid: &str) -> Found {
    std::os::unix::fs::chown(path, Some(uid.parse()?), Some(gid.parse()?)).done()
}

fn list(path: &str) -> Found {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(json!({ "names": names }))
}

fn stat(path: &str, follow: bool) -> Found {
    let found: FileStat = if follow { nix::sys::stat::stat(path)? } else { nix::sys::stat::lstat(path)? };
    let kind = match SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFDIR => "directory",
        SFlag::S_IFREG => "file",
        SFlag::S_IFLNK => "symlink",
        SFlag::S_IFCHR => "char",
        SFlag::S_IFBLK => "block",
        SFlag::S_IFIFO => "fifo",
        _ => "other",
    };
    let link = if kind == "symlink" { fs::read_link(path)?.to_string_lossy().into_owned() } else { String::new() };
    Ok(json!({
        "kind": kind,
        "mode": format!("{:o}", found.st_mode & 0o7777),
        "uid": found.st_uid,
        "gid": found.st_gid,
        "size": found.st_size,
        "major": nix::sys::stat::major(found.st_rdev),
        "minor": nix::sys::stat::minor(found.st_rdev),
        "inode": found.st_ino,
        "device": found.st_dev,
        "link": link,
    }))
}

fn statfs(path: &str) -> Found {
    let found = nix::sys::statvfs::statvfs(path)?;
    Ok(json!({
        "flags": format!("{:?}", found.flags()),
        "bytes": found.blocks() as u64 * found.fragment_size() as u64,
        "inodes": found.files() as u64,
    }))
}

fn mknod(path: &str, kind: &str, major: &str, minor: &str) -> Found {
    let flag = if kind == "b" { SFlag::S_IFBLK } else { SFlag::S_IFCHR };
    let device = nix::sys::stat::makedev(crate::number(major)? as u64, crate::number(minor)? as u64);
    nix::sys::stat::mknod(path, flag, Mode::from_bits_truncate(0o666), device).done()
}

fn mount(source: &str, target: &str, kind: &str, data: &str) -> Found {
    nix::mount::mount(Some(source), target, Some(kind), nix::mount::MsFlags::empty(), Some(data)).done()
}
