//! The drivers that a guest needs of its kernel: which are in it, which are files, and what those need first.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use wharf_core::{Error, Kind, Result};
use wharf_sys::program::{self, Most};

/// What a guest cannot be without.
const NEEDED: &[&str] = &["virtio_pci", "virtio_console"];
/// And one that sees directories of the host.
const FOR_SHARE: &[&str] = &["9pnet_virtio", "9p"];
/// And one with a network.
const FOR_NETWORK: &[&str] = &["virtio_net"];
/// And one with a disk.
const FOR_DISK: &[&str] = &["virtio_blk", "ext4"];
/// What ext4 asks for by no name of a driver: in the kernel, a file, or not needed any more.
const BEFORE_DISK: &[&str] = &["crc32c_generic"];

/// What a machine has, as far as it needs drivers of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) share: bool,
    pub(crate) network: bool,
    pub(crate) disk: bool,
}

impl Parts {
    fn drivers(self) -> impl Iterator<Item = &'static str> {
        let of = |has: bool, drivers: &'static [&'static str]| if has { drivers } else { &[] };
        let parts = [NEEDED, of(self.share, FOR_SHARE), of(self.network, FOR_NETWORK), of(self.disk, FOR_DISK)];
        parts.into_iter().flatten().copied()
    }

    /// Another for each.
    pub(crate) fn name(self) -> String {
        self.drivers().collect::<Vec<_>>().join(" ")
    }
}
/// Programs that unpack what a distribution has packed, by the name's end.
const UNPACKERS: &[(&str, &str)] = &[("xz", "xz"), ("zst", "zstd"), ("gz", "gzip")];
pub(super) const DIRECTORIES: &[&str] = &["/usr/bin", "/bin"];
/// How long one may take, and how long a driver may be.
const PATIENCE: Duration = Duration::from_secs(30);
const LONGEST: usize = 64 << 20;

/// A driver, ready to be inserted.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) name: String,
    pub(crate) image: Vec<u8>,
}

/// All that are files, in an order in which they can be inserted. `directory` is the kernel's own, /lib/modules/RELEASE.
pub(crate) fn collect(kernel: &Path, directory: &Path, parts: Parts) -> Result<Vec<Driver>> {
    let files = judge(kernel, directory, parts)?;
    let mut found = Vec::new();
    for wanted in BEFORE_DISK.iter().filter(|_| parts.disk) {
        add(wanted, &files, &mut found)?;
    }
    for needed in parts.drivers() {
        add(needed, &files, &mut found)?;
    }
    Ok(found)
}

/// The files of drivers, where none of those is missing that a guest cannot be without.
pub(crate) fn judge(kernel: &Path, directory: &Path, parts: Parts) -> Result<BTreeMap<String, PathBuf>> {
    let builtin = fs::read_to_string(directory.join("modules.builtin")).unwrap_or_default();
    let is_builtin = |name: &str| builtin.lines().any(|line| plain_name(line) == name);
    let mut files = BTreeMap::new();
    for part in [
        "kernel/drivers/virtio",
        "kernel/drivers/char",
        "kernel/fs",
        "kernel/crypto",
        "kernel/net/9p",
        "kernel/net/core",
        "kernel/drivers/net",
        "kernel/lib",
        "kernel/drivers/block",
    ] {
        walk(&directory.join(part), &mut files);
    }
    for needed in parts.drivers() {
        if !is_builtin(needed) && !files.contains_key(needed) {
            return Err(Error::new(Kind::System, format!("use kernel {}", kernel.display()))
                .because(format!("driver {needed} is neither in it nor in {}", directory.display()))
                .hint(format!(
                    "this guest needs {}: Debian's plain kernel has them, its cloud kernel has no 9p",
                    parts.name().replace(' ', ", ")
                )));
        }
    }
    Ok(files)
}

/// After what it depends on; nothing where it is no file, and so in the kernel.
fn add(name: &str, files: &BTreeMap<String, PathBuf>, found: &mut Vec<Driver>) -> Result<()> {
    let Some(path) = files.get(name).filter(|_| !found.iter().any(|driver| driver.name == name)) else { return Ok(()) };
    let image = unpack(path)?;
    for other in depends(&image) {
        add(&other, files, found)?;
    }
    found.push(Driver { name: name.to_owned(), image });
    Ok(())
}

/// `kernel/fs/9p/9p.ko.xz` is `9p`; hyphens are the same as underscores.
fn plain_name(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.split(".ko").next().unwrap_or_default().replace('-', "_")
}

fn walk(dir: &Path, files: &mut BTreeMap<String, PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&path, files),
            Ok(kind) if kind.is_file() && path.to_string_lossy().contains(".ko") => {
                files.insert(plain_name(&path.to_string_lossy()), path);
            }
            _ => {}
        }
    }
}

/// Out of its section `.modinfo`, whose strings are `key=value`.
fn depends(image: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = image.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let rest = &image[at + KEY.len()..];
    let text = String::from_utf8_lossy(&rest[..rest.iter().position(|byte| *byte == 0).unwrap_or(0)]).into_owned();
    text.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

fn unpack(path: &Path) -> Result<Vec<u8>> {
    let failed = |error: std::io::Error| io(format!("read driver {}", path.display()), &error);
    let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default();
    match UNPACKERS.iter().find(|(packed, _)| *packed == end) {
        None => fs::read(path).map_err(failed),
        Some((_, program)) => {
            let file = fs::File::open(path).map_err(failed)?;
            unpacked(program, &format!("unpack driver {}", path.display()), file.into(), LONGEST)
        }
    }
}

/// What a program makes of a packed file.
pub(crate) fn unpacked(program: &str, doing: &str, packed: Stdio, longest: usize) -> Result<Vec<u8>> {
    let path =
        DIRECTORIES.iter().map(|dir| Path::new(dir).join(program)).find(|path| path.is_file()).ok_or_else(|| {
            Error::new(Kind::System, doing).because(format!("{program} is in none of {}", DIRECTORIES.join(", ")))
        })?;
    let child = Command::new(path)
        .arg("-dc")
        .env_clear()
        .stdin(packed)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| io(doing, &error))?;
    let finished = program::finish(child, Some(PATIENCE), Most { stdout: longest, stderr: 0 })
        .map_err(|errno| Error::system(doing, errno as i32))?
        .ok_or_else(|| Error::new(Kind::System, doing).because("it took too long"))?;
    if !finished.status.success() || finished.stdout.is_empty() {
        return Err(Error::new(Kind::System, doing).because(format!("{program} failed")));
    }
    Ok(finished.stdout)
}

pub(crate) fn io(doing: impl Into<String>, error: &std::io::Error) -> Error {
    match error.raw_os_error() {
        Some(errno) => Error::system(doing, errno),
        None => Error::new(Kind::System, doing).because(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_is_known_by_its_name_and_says_what_it_needs() {
        assert_eq!(plain_name("kernel/arch/x86/crypto/crc32c-intel.ko.xz"), "crc32c_intel");
        assert_eq!(depends(b"x\0license=GPL\0depends=netfs,9pnet\0name=9p\0"), ["netfs", "9pnet"]);
        assert!(depends(b"\0depends=\0").is_empty() && depends(b"").is_empty());
    }
}
