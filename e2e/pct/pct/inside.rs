//! exec, enter, console, push, pull: what goes into a running container (§2).

use crate::answer::Death;
use crate::args::Words;
use crate::task::{Task, Verdict};
use crate::world::World;
use crate::{ct, lxc, rootfs};
use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use wharf_sys::{CWD, fd, libc};

/// The running container that a command goes into.
fn attach(world: &World, id: u32, keep: bool) -> Result<Command, Death> {
    ct::load(world, id)?;
    if !ct::is_running(world, id) {
        return Err(Death::worker(format!("container '{id}' not running!")));
    }
    let mut command = Command::new("/usr/bin/lxc-attach");
    command.arg("-P").arg(world.lxc_path()).arg("-n").arg(id.to_string());
    match keep {
        true => command.arg("--keep-env"),
        false => command.args(["--clear-env", "--keep-var", "TERM"]),
    };
    Ok(command)
}

/// In place of itself: the exit code is the command's.
fn become_it(mut command: Command) -> Result<(), Death> {
    // Rust's start-up ignores it, and the command would inherit that.
    let _ = wharf_sys::signal::set_default(libc::SIGPIPE);
    Err(Death::system("run lxc-attach", command.exec()))
}

/// The caller's environment goes along unless `--keep-env 0`.
pub(super) fn exec(world: &World, words: Words) -> Result<(), Death> {
    if words.extra.is_empty() {
        return Err(Death::worker("missing command at /usr/share/perl5/PVE/CLI/pct.pm line 187."));
    }
    let mut command = attach(world, words.id(), words.get("keep-env") != Some("0"))?;
    command.arg("--").args(&words.extra);
    become_it(command)
}

pub(super) fn enter(world: &World, words: Words) -> Result<(), Death> {
    let command = attach(world, words.id(), words.get("keep-env") != Some("0"))?;
    become_it(command)
}

pub(super) fn console(world: &World, words: Words) -> Result<(), Death> {
    let id = words.id();
    let config = ct::load(world, id)?;
    let mut command = lxc::tool(world, "lxc-console", id);
    command.stdin(std::process::Stdio::inherit()).args(["-e", words.get("escape").unwrap_or("^a")]);
    if config.current.get("cmode") == Some("console") {
        command.args(["-t", "0"]);
    }
    become_it(command)
}

/// The host's ids of the container's own.
fn host_id(words: &Words, option: &str, first: u32) -> Result<u32, Death> {
    let text = words.get(option).unwrap_or("0");
    let number: u32 =
        text.parse().map_err(|_| Death::worker(format!("{option} '{text}' does not exist in the container")))?;
    Ok(first + number)
}

/// A file inside, found within its root.
fn open_inside(world: &World, id: u32, path: &str, flags: i32) -> Result<File, Death> {
    let pid = lxc::pid(world, id).ok_or_else(|| Death::worker(format!("container '{id}' not running!")))?;
    let text = |text: String| CString::new(text).map_err(|error| Death::system("name a file", error));
    let failed = |errno| Death::worker(format!("failed to open {path}: {errno}"));
    let root =
        fd::openat(CWD, &text(format!("/proc/{pid}/root"))?, libc::O_PATH | libc::O_CLOEXEC, 0).map_err(failed)?;
    const RESOLVE_IN_ROOT: u64 = 0x10;
    let flags = flags | libc::O_CLOEXEC;
    let mode = if flags & libc::O_CREAT != 0 { 0o600 } else { 0 };
    fd::openat2(&root, &text(path.to_owned())?, flags, mode, RESOLVE_IN_ROOT).map(File::from).map_err(failed)
}

fn check_regular(file: &File, name: &str) -> Result<(), Death> {
    match file.metadata() {
        Ok(about) if about.is_file() => Ok(()),
        _ => Err(Death::worker(format!("only regular files are supported: {name}"))),
    }
}

fn check_running(world: &World, id: u32) -> Result<(), Death> {
    match ct::is_running(world, id) {
        true => Ok(()),
        false => Err(Death::worker(format!("can't push/pull files to/from CT {id} - not running"))),
    }
}

/// §0.1: rc 0 whatever comes of it.
pub(super) fn push(world: &World, words: Words) -> Result<(), Death> {
    let id = words.id();
    let config = ct::load(world, id)?;
    Task { world, kind: "push_file", id, result: Verdict::Ignored }.run(|| {
        check_running(world, id)?;
        let (source, target) = (&words.positionals[1], &words.positionals[2]);
        let mut from =
            File::open(source).map_err(|error| Death::worker(format!("failed to open {source}: {error}")))?;
        check_regular(&from, source)?;
        let first = rootfs::owner(&config.current);
        let (uid, gid) = (host_id(&words, "user", first)?, host_id(&words, "group", first)?);
        let mode = words.get("perms").map_or(Ok(0o644), |text| u32::from_str_radix(text, 8));
        let mode = mode.map_err(|error| Death::system("read the permissions", error))?;
        let mut to = open_inside(world, id, target, libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC)?;
        let mut write = || {
            std::io::copy(&mut from, &mut to)?;
            fchown(&to, Some(uid), Some(gid))?;
            to.set_permissions(fs::Permissions::from_mode(mode))
        };
        write().map_err(|error| Death::worker(format!("failed to write {target}: {error}")))
    })
}

/// The same.
pub(super) fn pull(world: &World, words: Words) -> Result<(), Death> {
    let id = words.id();
    ct::load(world, id)?;
    Task { world, kind: "pull_file", id, result: Verdict::Ignored }.run(|| {
        check_running(world, id)?;
        let (source, target) = (&words.positionals[1], Path::new(&words.positionals[2]));
        let mut from = open_inside(world, id, source, libc::O_RDONLY | libc::O_NONBLOCK)?;
        check_regular(&from, source)?;
        let failed = |error: std::io::Error| Death::worker(format!("failed to write {}: {error}", target.display()));
        let mut options = fs::OpenOptions::new();
        let mut to = options.write(true).create(true).truncate(true).mode(0o644).open(target).map_err(failed)?;
        std::io::copy(&mut from, &mut to).map_err(failed)?;
        Ok(())
    })
}
