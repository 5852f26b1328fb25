//! Where a root file system comes from (§4): the template, the volumes that are made for it, and what is unpacked over it.

use crate::answer::Death;
use crate::config::Section;
use crate::property::{Properties, Shape};
use crate::storage;
use crate::world::World;
use crate::{hook, lxc};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use wharf_sys::namespace::{flag, unshare};
use wharf_sys::{libc, mount};

const ENDINGS: [&str; 6] = [".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.lzo", ".tar.zst"];

/// §4.1: the archive that `ostemplate` names.
pub(crate) fn template(world: &World, text: &str) -> Result<PathBuf, Death> {
    if !text.starts_with('/') {
        let name = text.split_once(':').map_or("", |(_, name)| name);
        if !name.starts_with("vztmpl/") && !name.starts_with("backup/") {
            return Err(Death::worker(format!("unable to parse volume ID '{text}'")));
        }
        return storage::existing(world, text);
    }
    if !ENDINGS.iter().any(|end| text.ends_with(end)) {
        return Err(Death::worker(format!("file does not look like a template archive: {text}")));
    }
    match fs::metadata(text) {
        Ok(about) if about.is_file() => Ok(text.into()),
        _ => Err(Death::worker(format!("can't find file '{text}'"))),
    }
}

/// `STORAGE:GIB`: a volume to be made.
pub(crate) fn to_allocate(volume: &str) -> Option<(&str, f64)> {
    let (storage, size) = volume.split_once(':')?;
    let plain = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    plain.then(|| size.parse().ok()).flatten().map(|size| (storage, size))
}

/// The volume first, then `mp`, then the others in order.
fn print(found: &Properties) -> String {
    let mut parts: Vec<(u8, &str, String)> = Vec::new();
    for (key, value) in &found.0 {
        let (rank, part) = match key.as_str() {
            "volume" => (0, value.clone()),
            "mp" => (1, format!("mp={value}")),
            _ => (2, format!("{key}={value}")),
        };
        parts.push((rank, key, part));
    }
    parts.sort();
    parts.into_iter().map(|(.., part)| part).collect::<Vec<_>>().join(",")
}

/// Whether a mount's volume can be had, before any worker: its storage is there, and may hold containers.
pub(crate) fn check(world: &World, shape: &Shape, value: &str) -> Result<(), Death> {
    let found = shape.parse(value).map_err(Death::worker)?;
    let volume = found.get("volume").unwrap_or_default();
    match volume.split_once(':') {
        Some((name, _)) if !volume.starts_with('/') => storage::get(world, name)?.check_rootdir(),
        _ => Ok(()),
    }
}

/// Makes the volume that a mount asks for; the mount as it is in the configuration then. What is made is put on `made`.
pub(crate) fn supply(
    world: &World,
    id: u32,
    shape: &Shape,
    value: &str,
    owner: u32,
    made: &mut Vec<String>,
) -> Result<String, Death> {
    let mut found = shape.parse(value).map_err(Death::worker)?;
    let volume = found.get("volume").unwrap_or_default().to_owned();
    if let Some((name, gib)) = to_allocate(&volume) {
        let storage = storage::get(world, name)?;
        let bytes = (gib > 0.0).then_some((gib * f64::from(1 << 30)) as u64);
        let id = format!("{name}:{}", storage.allocate(world, id, bytes, owner)?);
        made.push(id.clone());
        found.0.retain(|(key, _)| key != "volume" && key != "size");
        found.0.push(("volume".to_owned(), id));
        found.0.push(("size".to_owned(), bytes.map_or("0T".to_owned(), size)));
    } else if volume.starts_with('/') {
        if !Path::new(&volume).exists() {
            return Err(Death::worker(format!("directory '{volume}' does not exist")));
        }
    } else {
        storage::existing(world, &volume)?;
    }
    Ok(print(&found))
}

pub(crate) fn size(bytes: u64) -> String {
    let units = [(40, 'T'), (30, 'G'), (20, 'M'), (10, 'K')];
    let whole = units.into_iter().find(|(shift, _)| bytes.trailing_zeros() >= *shift);
    whole.map_or(bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// The root file system at its place, for this process alone.
pub(crate) fn mounted(world: &World, id: u32, section: &Section) -> Result<PathBuf, Death> {
    let root = lxc::dir(world, id).join("rootfs");
    let private =
        || unshare(flag::NEWNS).and_then(|()| mount::mount(None, c"/", None, libc::MS_SLAVE | libc::MS_REC, None));
    private().map_err(|errno| Death::system("make a mount namespace", errno))?;
    fs::create_dir_all(&root).map_err(|error| Death::system("make the root file system's place", error))?;
    let value = section.get("rootfs").unwrap_or_default();
    let mut found = crate::property::ROOTFS.parse(value).map_err(Death::worker)?;
    // It has to be filled.
    found.0.retain(|(key, _)| key != "ro");
    hook::put(world, &found, &root)?;
    Ok(root)
}

/// Whoever is root in the container is this one outside.
pub(crate) fn owner(section: &Section) -> u32 {
    if section.is("unprivileged") { lxc::FIRST } else { 0 }
}

/// What a program of the host does as the container's root, with no more rights than that one has.
pub(crate) fn as_its_root(section: &Section) -> Command {
    if !section.is("unprivileged") {
        let mut command = Command::new("/usr/bin/env");
        command.arg("PATH=/usr/bin:/bin");
        return command;
    }
    let mut command = Command::new("/usr/bin/lxc-usernsexec");
    let map = |kind: char| format!("{kind}:0:{}:{}", lxc::FIRST, lxc::COUNT);
    // As for lxc-start: without newuidmap(1).
    command
        .args(["-m", &map('u'), "-m", &map('g'), "--", "/usr/bin/env", "PATH=/usr/bin:/bin"])
        .env("PATH", "/usr/sbin:/sbin");
    command
}

/// §4.1: unpacked by GNU tar in the container's user namespace; `./dev/*` is skipped, existing files are kept.
pub(crate) fn unpack(archive: &Path, root: &Path, section: &Section) -> Result<(), Death> {
    println!("extracting archive '{}'", archive.display());
    let name = archive.to_string_lossy();
    let packed = [(".gz", "-z"), (".bz2", "-j"), (".xz", "-J"), (".lzo", "--lzop"), (".zst", "--zstd")];
    let option = packed.into_iter().find(|(end, _)| name.ends_with(end)).map(|(_, option)| option);
    let done = as_its_root(section)
        .args(["tar", "xpf", "-"])
        .args(option)
        .args(["--totals", "--one-file-system", "-p", "--sparse", "--numeric-owner", "--acls", "--xattrs"])
        .args(["--xattrs-include=user.*", "--xattrs-include=security.capability", "--warning=no-file-ignored"])
        .args(["--warning=no-xattr-write", "-C"])
        .arg(root)
        .args(["--skip-old-files", "--anchored", "--exclude", "./dev/*"])
        .stdin(fs::File::open(archive).map_or_else(|_| Stdio::null(), Stdio::from))
        .status()
        .map_err(|error| Death::system("run tar", error))?;
    match done.code() {
        Some(0) => Ok(()),
        code => Err(Death::worker(format!(
            "command 'tar xpf - --totals … -C {}' failed: exit code {}",
            root.display(),
            code.unwrap_or(255)
        ))),
    }
}

/// §4.2: the distribution, where nobody has said `--ostype`.
pub(crate) fn detect(root: &Path) -> Result<String, Death> {
    let Ok(text) = fs::read_to_string(root.join("etc/os-release")) else {
        return Ok("unmanaged".to_owned());
    };
    let found = text.lines().find_map(|line| line.strip_prefix("ID=")).unwrap_or_default().trim_matches('"').to_owned();
    let known = crate::keys::kind("ostype").map(|kind| crate::args::judge(kind, &mut found.clone()));
    match known {
        Some(Ok(())) if found != "unmanaged" => Ok(found),
        _ => Err(Death::worker("unable to detect OS distribution")),
    }
}

/// §0.6: what is no `unmanaged` has its own files rewritten at every start.
pub(crate) fn rewrite(world: &World, id: u32, section: &Section) -> Result<(), Death> {
    if section.get("ostype") == Some("unmanaged") {
        return Ok(());
    }
    let root = mounted(world, id, section)?;
    let name = section.get("hostname").map_or_else(|| format!("CT{id}"), str::to_owned);
    let write = || {
        fs::create_dir_all(root.join("etc"))?;
        fs::write(root.join("etc/hostname"), format!("{name}\n"))?;
        let hosts = format!("# --- BEGIN PVE ---\n127.0.1.1 {name}\n# --- END PVE ---\n");
        fs::write(root.join("etc/hosts"), hosts)?;
        fs::write(root.join("etc/resolv.conf"), "# --- BEGIN PVE ---\n# --- END PVE ---\n")
    };
    write().map_err(|error| Death::system("set the container up", error))
}
