//! What a guest boots from: a kernel and a first root made for it, kept for the next guest of the same kernel and wharf.

use super::cpio::Archive;
use super::drivers::{self, Parts, io};
use crate::guest;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use wharf_core::{Digest, Error, Kind, Result};

/// Changes when what is made of the same files changes.
const FORM: &str = "1";
const LONGEST_KERNEL: usize = 512 << 20;

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    pub(crate) path: PathBuf,
    pub(crate) modules: PathBuf,
}

/// Files to boot from.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) kernel: PathBuf,
    pub(crate) initrd: PathBuf,
}

impl Kernel {
    /// The configured one, else the newest in /boot; its drivers are where they are told to be, else beside it.
    pub(crate) fn find(kernel: Option<&Path>, modules: Option<&Path>) -> Result<Kernel> {
        let path = match kernel {
            Some(path) => path.to_owned(),
            None => newest(Path::new("/boot")).ok_or_else(|| {
                Error::new(Kind::System, "find a kernel for virtual machines")
                    .because("there is no /boot/vmlinuz-*")
                    .hint("install one (linux-image-amd64), or name one by vm.kernel in the configuration")
            })?,
        };
        let doing = || format!("use kernel {}", path.display());
        let about = fs::metadata(&path).map_err(|error| io(doing(), &error))?;
        if !about.is_file() {
            return Err(Error::new(Kind::System, doing()).because("is no regular file"));
        }
        let modules = match modules {
            Some(modules) => modules.to_owned(),
            None => beside(&path).ok_or_else(|| {
                Error::new(Kind::System, doing())
                    .because("its drivers are not found")
                    .hint("name their directory by vm.modules in the configuration")
            })?,
        };
        Ok(Kernel { path, modules })
    }

    pub(crate) fn has_drivers(&self) -> Result<()> {
        drivers::judge(&self.path, &self.modules, Parts { share: true, network: true, disk: true }).map(drop)
    }

    /// From the cache, or made now. Whoever makes the same at the same time makes the same file.
    pub(crate) fn image(&self, cache: &Path, parts: Parts) -> Result<Image> {
        let own = Path::new("/proc/self/exe");
        let mut name = Digest::new();
        for part in [&identity(&self.path)?, &identity(&self.modules)?, &identity(own)?, &parts.name(), FORM] {
            name.update(part.as_bytes());
            name.update(b"\n");
        }
        let name = name.hex();
        let (kernel, initrd) = (cache.join(format!("{name}.kernel")), cache.join(format!("{name}.initrd")));
        if kernel.is_file() && initrd.is_file() {
            return Ok(Image { kernel, initrd });
        }
        let made = |error: std::io::Error| io(format!("make {}", cache.display()), &error);
        match fs::DirBuilder::new().recursive(true).mode(0o700).create(cache) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(made(error)),
            _ => {}
        }
        let about = fs::metadata(cache).map_err(made)?;
        if about.uid() != wharf_sys::dir::effective_uid() || about.mode() & 0o022 != 0 {
            return Err(Error::new(Kind::System, format!("use {}", cache.display()))
                .because("it is not ours alone to write to, and guests boot from it"));
        }
        keep(&kernel, &unpacked_kernel(&self.path)?)?;
        keep(&initrd, &self.first_root(parts)?)?;
        Ok(Image { kernel, initrd })
    }

    /// Whether this kernel was seen not to come up with KVM since the host's boot.
    pub(crate) fn has_failed_with_kvm(&self, cache: &Path, boot: &str) -> bool {
        self.note(cache, boot).is_some_and(|note| note.exists())
    }

    /// The next guest does not wait for that again.
    pub(crate) fn note_failure_with_kvm(&self, cache: &Path, boot: &str) {
        if let Some(note) = self.note(cache, boot) {
            let _ = fs::write(note, b"");
        }
    }

    fn note(&self, cache: &Path, boot: &str) -> Option<PathBuf> {
        let mut name = Digest::new();
        name.update(identity(&self.path).ok()?.as_bytes());
        name.update(boot.as_bytes());
        Some(cache.join(format!("{}.without-kvm", name.hex())))
    }

    fn first_root(&self, parts: Parts) -> Result<Vec<u8>> {
        let own = fs::read("/proc/self/exe").map_err(|error| io("read our own program", &error))?;
        if is_dynamic(&own) {
            return Err(Error::new(Kind::System, "put wharf into a virtual machine")
                .because("this build needs libraries of the host")
                .hint("build it for x86_64-unknown-linux-musl"));
        }
        let mut archive = Archive::default();
        ["dev", "proc", "sys", "modules"].into_iter().for_each(|name| archive.directory(name));
        archive.device("dev/console", (5, 1));
        archive.device("dev/null", (1, 3));
        archive.file(guest::PROGRAM.trim_start_matches('/'), 0o755, loaded(&own));
        for (at, driver) in drivers::collect(&self.path, &self.modules, parts)?.into_iter().enumerate() {
            archive.file(&format!("modules/{at:02}-{}", driver.name), 0o600, &driver.image);
        }
        Ok(archive.finish())
    }
}

/// The one of the highest version.
fn newest(dir: &Path) -> Option<PathBuf> {
    let names = fs::read_dir(dir).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let kernels = names.filter(|name| name.starts_with("vmlinuz-"));
    kernels.max_by_key(|name| version(name)).map(|name| dir.join(name))
}

fn version(name: &str) -> Vec<u64> {
    name.split(|letter: char| !letter.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// `X/boot/vmlinuz-R` has its drivers in `X/lib/modules/R`.
fn beside(kernel: &Path) -> Option<PathBuf> {
    let release = kernel.file_name()?.to_str()?.strip_prefix("vmlinuz-")?;
    let above = kernel.parent()?.parent()?;
    let places = [above.join("lib/modules"), above.join("usr/lib/modules"), PathBuf::from("/lib/modules")];
    places.into_iter().map(|place| place.join(release)).find(|dir| dir.is_dir())
}

/// What tells a file from another and from an older one of its name.
fn identity(path: &Path) -> Result<String> {
    let about = fs::metadata(path).map_err(|error| io(format!("look at {}", path.display()), &error))?;
    let times = (about.mtime(), about.mtime_nsec(), about.ctime(), about.ctime_nsec());
    Ok(format!("{} {} {} {times:?}", about.dev(), about.ino(), about.len()))
}

fn keep(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let failed = |error: std::io::Error| io(format!("write {}", path.display()), &error);
    let own = path.with_extension(format!("new-{}", wharf_sys::process::pid()));
    let write = || -> std::io::Result<()> {
        let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&own)?;
        file.write_all(bytes)?;
        fs::rename(&own, path)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&own);
        failed(error)
    })
}

/// The kernel inside its own unpacker, which takes a second under emulation; where it cannot be had, the file as it is.
fn unpacked_kernel(path: &Path) -> Result<Vec<u8>> {
    let packed = fs::read(path).map_err(|error| io(format!("read kernel {}", path.display()), &error))?;
    let Some((payload, program)) = payload(&packed) else { return Ok(packed) };
    let unpacked = || {
        let file = wharf_sys::fd::memfd(c"kernel", false).ok()?;
        wharf_sys::fd::write_all(&file, payload).ok()?;
        wharf_sys::fd::seek_start(&file).ok()?;
        drivers::unpacked(program, "unpack a kernel", file.into(), LONGEST_KERNEL).ok()
    };
    Ok(unpacked().filter(|kernel| kernel.starts_with(b"\x7fELF")).unwrap_or(packed))
}

/// The packed kernel in a bzImage and what unpacks it (the kernel's arch/x86/boot: payload_offset and payload_length). Its
/// last four bytes are its length unpacked.
fn payload(image: &[u8]) -> Option<(&[u8], &'static str)> {
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let number = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?) as usize);
    let sectors = match *image.get(0x1f1)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let from = (sectors + 1) * 512 + number(0x248)?;
    let payload = image.get(from..from.checked_add(number(0x24c)?.checked_sub(4)?)?)?;
    let programs: [(&[u8], &str); 3] = [(b"\xfd7zXZ\0", "xz"), (b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd")];
    programs.into_iter().find(|(magic, _)| payload.starts_with(magic)).map(|(_, program)| (payload, program))
}

/// Type, place in the file and size there of each of its program headers (elf(5)).
fn headers(elf: &[u8]) -> Option<Vec<(usize, usize, usize)>> {
    let number = |at: usize, length: usize| -> Option<usize> {
        Some(elf.get(at..at + length)?.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    };
    let (from, size, count) = (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?);
    let header = |at: usize| Some((number(at, 4)?, number(at + 8, 8)?, number(at + 32, 8)?));
    (0..count).map(|index| header(from + index * size)).collect()
}

/// Whether it names a program that loads it.
fn is_dynamic(elf: &[u8]) -> bool {
    const PT_INTERP: usize = 3;
    headers(elf).is_none_or(|headers| headers.iter().any(|(kind, _, _)| *kind == PT_INTERP))
}

/// What the kernel reads of a program: names and lines for debuggers, which a build may have many of, come after that.
fn loaded(elf: &[u8]) -> &[u8] {
    let end = headers(elf).and_then(|headers| headers.iter().map(|(_, from, size)| from.saturating_add(*size)).max());
    end.and_then(|end| elf.get(..end)).unwrap_or(elf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_that_of_the_highest_number() {
        assert!(version("vmlinuz-6.12.9") < version("vmlinuz-6.12.41+deb13-amd64"));
        assert!(version("vmlinuz-6.2.0") < version("vmlinuz-6.12.0"));
    }

    #[test]
    fn what_is_no_kernel_has_nothing_inside() {
        assert!(payload(b"").is_none() && payload(&[0; 4096]).is_none());
        let mut image = vec![0; 4096];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(payload(&image).is_none());
        assert!(is_dynamic(b"") && is_dynamic(b"\x7fELF"));
    }
}
