//! Whether a checkpoint is as it was written, and whether this host is one that it can live on.

use super::system;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use wharf_core::{CONFIG, Digest, Error, Host, ImageFile, Manifest, Result};
use wharf_sys::procfs::Procfs;
use wharf_sys::{Errno, dir, fd};

/// This host.
pub(crate) fn here() -> Result<Host> {
    let read = || {
        let proc = Procfs::open()?;
        let kernel = proc.read(c"sys/kernel/osrelease")?;
        let cpu = fd::read_to_end(proc.open_file(c"cpuinfo", wharf_sys::libc::O_RDONLY)?, 1 << 20)?;
        Ok((kernel, cpu))
    };
    let (kernel, cpu) = read().map_err(|errno: Errno| Error::system("look at this host", errno as i32))?;
    Ok(Host {
        kernel: String::from_utf8_lossy(&kernel).trim().to_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
        cpu: flags(&String::from_utf8_lossy(&cpu)),
    })
}

/// Of the first processor: `flags` on x86, `Features` on ARM.
fn flags(cpuinfo: &str) -> Vec<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
    let flags = line.and_then(|line| line.split_once(':')).map(|(_, flags)| flags).unwrap_or_default();
    let mut flags: Vec<String> = flags.split_ascii_whitespace().map(str::to_owned).collect();
    flags.sort();
    flags
}

/// Every image, with its size; with its digest too where `digest` says so of its name.
pub(crate) fn sums(images: BorrowedFd<'_>, path: &Path, digest: impl Fn(&str) -> bool) -> Result<Vec<ImageFile>> {
    let names = dir::names(images).map_err(|errno| system("list", path, errno))?;
    let mut names: Vec<String> = names.into_iter().filter_map(|name| name.into_string().ok()).collect();
    names.retain(|name| name.ends_with(".img"));
    names.sort();
    let one = |name: String| {
        let file = dir::open_file_at(images, &name)?;
        let size = fd::stat(&file)?.st_size as u64;
        let sha256 = if digest(&name) { Some(sum(&file)?) } else { None };
        Ok(ImageFile { name, size, sha256 })
    };
    names.into_iter().map(one).collect::<Result<_, Errno>>().map_err(|errno| system("read the images in", path, errno))
}

fn sum(file: impl AsFd) -> Result<String, Errno> {
    let (mut digest, mut buffer) = (Digest::new(), vec![0; 256 * 1024]);
    loop {
        match fd::read(&file, &mut buffer)? {
            0 => return Ok(digest.hex()),
            length => digest.update(&buffer[..length]),
        }
    }
}

/// Memory's own pages, which may be gigabytes.
pub(crate) fn is_pages(name: &str) -> bool {
    name.starts_with("pages-")
}

/// Refuses what is not as it was written, and what this host cannot bear. Nothing has been touched then. Digests of
/// memory's pages are compared where `whole` is asked for; their sizes always are.
pub(crate) fn verify(images: BorrowedFd<'_>, path: &Path, manifest: &Manifest, whole: bool) -> Result<()> {
    let wrong = |why: String| Error::invalid(format!("checkpoint {}", path.display())).because(why);
    let lacking = here()?.lacks(&manifest.host);
    if !lacking.is_empty() {
        return Err(Error::unsupported(format!("checkpoint {}", path.display()))
            .because(format!("it does not fit this host: {}", lacking.join("; "))));
    }
    let config = dir::read_at(images, CONFIG).map_err(|errno| system("read config.json of checkpoint", path, errno))?;
    let mut digest = Digest::new();
    digest.update(&config);
    if digest.hex() != manifest.spec.sha256 {
        return Err(wrong(format!("its {CONFIG} was changed after it had been written")));
    }
    let Some(memory) = &manifest.memory else { return Ok(()) };
    for file in &memory.files {
        let opened = match dir::open_file_at(images, &file.name) {
            Err(Errno::ENOENT) => return Err(wrong(format!("its image {} is missing", file.name))),
            other => other.map_err(|errno| system("open an image of checkpoint", path, errno))?,
        };
        let size = fd::stat(&opened).map_err(|errno| system("look at an image of checkpoint", path, errno))?.st_size;
        if size as u64 != file.size {
            return Err(wrong(format!("its image {} has {size} bytes, and had {}", file.name, file.size)));
        }
        let Some(expected) = file.sha256.as_ref().filter(|_| whole || !is_pages(&file.name)) else { continue };
        if sum(&opened).map_err(|errno| system("read an image of checkpoint", path, errno))? != *expected {
            return Err(wrong(format!("its image {} was changed after it had been written", file.name)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_features_of_a_processor_are_those_of_the_first_one() {
        assert_eq!(flags("processor\t: 0\nflags\t\t: sse avx\n\nprocessor\t: 1\nflags\t\t: sse\n"), ["avx", "sse"]);
        assert_eq!(flags("processor\t: 0\nFeatures\t: fp asimd\n"), ["asimd", "fp"]);
        assert!(!here().unwrap().kernel.is_empty());
    }
}
