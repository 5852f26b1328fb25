//! The disk of a machine: a file with a file system of its own, made of the bundle's root file system.

use super::drivers::{DIRECTORIES, io};
use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use wharf_core::{Error, Kind, Result};
use wharf_sys::program::{self, Most};

const PROGRAM: &str = "mke2fs";
/// How long it may take to copy a root file system.
const PATIENCE: Duration = Duration::from_secs(600);
const MIB: u64 = 1 << 20;

/// A disk that is not there yet, or is.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) path: PathBuf,
    /// MiB.
    pub(crate) size: u64,
}

impl Disk {
    /// Where it is to be: a name that no other container of this host has.
    pub(crate) fn of(dir: &Path, state_dir: &Path, size: u64) -> Disk {
        let mut digest = wharf_core::Digest::new();
        digest.update(state_dir.as_os_str().as_encoded_bytes());
        Disk { path: dir.join(format!("{}.ext4", digest.hex())), size }
    }

    /// Whether it could be made.
    pub(crate) fn judge() -> Result<PathBuf> {
        let places = DIRECTORIES.iter().chain(&["/usr/sbin", "/sbin"]);
        places.map(|dir| Path::new(dir).join(PROGRAM)).find(|path| path.is_file()).ok_or_else(|| {
            Error::new(Kind::System, "make a disk for a virtual machine")
                .because(format!("{PROGRAM} is not installed"))
                .hint("install e2fsprogs, or leave the key vm.root of the configuration at 9p")
        })
    }

    /// Takes up what is written, not its size. Where it fails nothing is left.
    pub(crate) fn make(&self, rootfs: &Path) -> Result<()> {
        let program = Self::judge()?;
        let doing = || format!("make disk {} of {}", self.path.display(), rootfs.display());
        let failed = |error: std::io::Error| io(doing(), &error);
        if let Some(dir) = self.path.parent() {
            match fs::DirBuilder::new().recursive(true).mode(0o700).create(dir) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed(error)),
                _ => {}
            }
        }
        // One that is left of a container of this name, which is gone.
        self.remove();
        let make = || {
            let file = fs::File::options().write(true).create_new(true).mode(0o600).open(&self.path).map_err(failed)?;
            file.set_len(self.size * MIB).map_err(failed)?;
            let child = Command::new(&program)
                .args(["-q", "-F", "-t", "ext4", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1", "-d"])
                .arg(rootfs)
                .arg(&self.path)
                .env_clear()
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .map_err(failed)?;
            let finished = program::finish(child, Some(PATIENCE), Most { stdout: 0, stderr: 4096 })
                .map_err(|errno| Error::system(doing(), errno as i32))?
                .ok_or_else(|| Error::new(Kind::System, doing()).because("it took too long"))?;
            if finished.status.success() {
                return Ok(());
            }
            let words = String::from_utf8_lossy(&finished.stderr).into_owned();
            Err(match words.to_lowercase().contains("could not allocate") || words.contains("No space") {
                true => Error::new(Kind::System, doing())
                    .because(format!("it does not fit into {} MiB, or into the host's file system", self.size))
                    .hint("the key vm.disk_size of the configuration"),
                false => Error::new(Kind::System, doing()).because(format!("{PROGRAM} failed")),
            })
        };
        make().inspect_err(|_: &Error| self.remove())
    }

    pub(crate) fn remove(&self) {
        let _ = fs::remove_file(&self.path);
    }
}
