//! The directories of checkpoints: where they are, what lies in them, and whether it is whole.
//!
//! ```text
//! <checkpoints>/     0700; by name: <id>/<name>/, else a directory that the caller names
//!   *.img            CRIU's images
//!   config.json      of the bundle
//!   dump.log         CRIU's
//!   manifest.json    last, by rename: without it the checkpoint is half-made
//! ```

mod kept;
mod tar;
mod verify;

pub(crate) use kept::{Kept, all, remove};
pub(crate) use tar::{Reader, Writer};
pub(crate) use verify::{here, is_pages, sums, verify};

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use wharf_core::{CONFIG, ContainerId, Error, Kind, MANIFEST, Manifest, Result};
use wharf_sys::Errno;
use wharf_sys::{dir, fd};

/// Not below --root, which is in memory and goes with the boot.
const HOME: &str = "/var/lib/wharf/checkpoints";
const NEW: &str = ".manifest.json";

/// Where checkpoints are kept by name. `configured` is `storage.checkpoints`.
pub(crate) fn home(configured: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(path) = configured {
        return Ok(path);
    }
    if dir::effective_uid() == 0 {
        return Ok(PathBuf::from(HOME));
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")));
    data.map(|data| data.join("wharf/checkpoints")).ok_or_else(|| {
        Error::new(Kind::Usage, "choose the directory of checkpoints")
            .because("neither XDG_DATA_HOME nor HOME is set")
            .hint("give --image-path")
    })
}

/// The directory of one checkpoint by its name, which is as a container's id.
pub(crate) fn named(home: &Path, id: &ContainerId, name: &str) -> Result<PathBuf> {
    let wrong = |_| {
        Error::new(Kind::Usage, format!("--name {name:?}"))
            .because("is no name of a checkpoint: letters, digits and _ + - ., and no dot in front")
    };
    let name = ContainerId::new(name).map_err(wrong)?;
    Ok(home.join(id.as_str()).join(name.as_str()))
}

/// A directory that a checkpoint is being written into.
#[derive(Debug)]
pub(crate) struct Images {
    path: PathBuf,
    dir: OwnedFd,
    /// It was not there before; its directory above neither.
    made: (bool, bool),
    before: BTreeSet<OsString>,
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> Error {
    let doing = format!("{doing} {}", path.display());
    match error.raw_os_error() {
        Some(errno) => Error::system(doing, errno),
        None => Error::new(Kind::System, doing).because(error),
    }
}

fn system(doing: &str, path: &Path, errno: Errno) -> Error {
    Error::system(format!("{doing} {}", path.display()), errno as i32)
}

/// Makes a directory with those above it, for its owner alone; says whether it and the one above were missing.
pub(crate) fn make_dir(path: &Path) -> Result<(bool, bool)> {
    use std::os::unix::fs::DirBuilderExt;
    let missing = !path.exists();
    let above = path.parent().is_some_and(|above| !above.exists());
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| failed("make directory", path, &error))?;
    Ok((missing, above))
}

/// Makes the directory, and locks it as one that is being written: `gc` leaves it alone for as long as it is open.
fn own(path: &Path) -> Result<((bool, bool), OwnedFd)> {
    let mut made = (false, false);
    loop {
        let missing = make_dir(path)?;
        made = (made.0 || missing.0, made.1 || missing.1);
        let opened = match dir::open(path) {
            Err(Errno::ENOENT) => continue,
            other => other.map_err(|errno| system("open", path, errno))?,
        };
        dir::lock(opened.as_fd(), dir::Lock::Shared).map_err(|errno| system("lock", path, errno))?;
        // Who removed it meanwhile had it locked.
        let is_there = fd::stat(&opened).map_err(|errno| system("look at", path, errno))?.st_nlink > 0;
        if is_there {
            return Ok((made, opened));
        }
    }
}

/// The directory opened and locked for its removal; none where somebody writes in it, or it is gone.
fn unowned(path: &Path) -> Result<Option<OwnedFd>> {
    let opened = match dir::open(path) {
        Err(Errno::ENOENT) => return Ok(None),
        other => other.map_err(|errno| system("open checkpoint", path, errno))?,
    };
    let ours = dir::try_lock(opened.as_fd(), dir::Lock::Exclusive);
    Ok(ours.map_err(|errno| system("lock checkpoint", path, errno))?.then_some(opened))
}

/// Whether a checkpoint is being written there, or read from an archive.
pub(crate) fn is_being_written(path: &Path) -> bool {
    path.exists() && unowned(path).is_ok_and(|ours| ours.is_none())
}

impl Images {
    /// Makes the directory where it is missing. One that holds a checkpoint is written over only where that is asked
    /// for (`again`); until the new one is whole there is none.
    pub(crate) fn begin(path: &Path, again: bool) -> Result<Self> {
        let (made, dir) = own(path)?;
        let names = dir::names(dir.as_fd()).map_err(|errno| system("list", path, errno))?;
        if names.iter().any(|name| name == MANIFEST) {
            if !again {
                return Err(Error::new(Kind::Exists, format!("checkpoint {}", path.display()))
                    .because("it exists")
                    .hint("choose another name, or remove it first"));
            }
            dir::remove_file_at(dir.as_fd(), MANIFEST)
                .map_err(|errno| system("remove the manifest of", path, errno))?;
        }
        Ok(Images { path: path.to_owned(), dir, made, before: names.into_iter().collect() })
    }

    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Writes the manifest, and beside it the config.json that it speaks of.
    pub(crate) fn seal(&self, manifest: &Manifest, config: Option<&[u8]>) -> Result<()> {
        let write = |name: &str, new: &str, bytes: &[u8]| {
            dir::replace_at(self.dir(), name, new, bytes)
                .map_err(|errno| system("write the manifest in", &self.path, errno))
        };
        if let Some(config) = config {
            write(CONFIG, ".config.json", config)?;
        }
        write(MANIFEST, NEW, &manifest.to_bytes()?)
    }

    /// Removes what has come since the beginning, but for CRIU's log, which moves to where its directory was when that
    /// is gone. Gives the log's place, where there is one.
    pub(crate) fn take_back(&self, log: &str) -> Option<PathBuf> {
        let names = dir::names(self.dir()).unwrap_or_default();
        let has_log = names.iter().any(|name| name == log);
        for name in names.iter().filter(|name| *name != log && !self.before.contains(*name)) {
            let _ = std::fs::remove_file(self.path.join(name));
        }
        if !self.made.0 || !has_log {
            if self.made.0 {
                let _ = std::fs::remove_dir(&self.path);
                if let (true, Some(above)) = (self.made.1, self.path.parent()) {
                    let _ = std::fs::remove_dir(above);
                }
            }
            return has_log.then(|| self.path.join(log));
        }
        Some(self.path.join(log))
    }
}

/// The manifest in a directory.
pub(crate) fn read(path: &Path) -> Result<(OwnedFd, Manifest)> {
    let opened = dir::open(path).map_err(|errno| system("open checkpoint", path, errno))?;
    let file = path.join(MANIFEST);
    let bytes = match dir::read_at(opened.as_fd(), MANIFEST) {
        Err(Errno::ENOENT) => {
            return Err(Error::invalid(format!("checkpoint {}", path.display()))
                .because(format!("it has no {MANIFEST}: it is half-made, or of another runtime"))
                .hint("only what wharf checkpoint has finished can be restored"));
        }
        other => other.map_err(|errno| system("read manifest", &file, errno))?,
    };
    let manifest = Manifest::parse(&bytes, &file.display().to_string())?;
    Ok((opened, manifest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_a_checkpoint_stays_in_its_container_s_directory() {
        let id = ContainerId::new("c").unwrap();
        assert_eq!(named(Path::new("/h"), &id, "before-update").unwrap(), Path::new("/h/c/before-update"));
        for name in ["", "..", "a/b", ".hidden"] {
            assert!(named(Path::new("/h"), &id, name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn what_was_there_before_stays_when_a_checkpoint_is_taken_back() {
        let top = std::env::temp_dir().join(format!("wharf-images-{}", std::process::id()));
        std::fs::create_dir_all(top.join("old")).unwrap();
        std::fs::write(top.join("old/mine"), "m").unwrap();
        let images = Images::begin(&top.join("old"), false).unwrap();
        std::fs::write(top.join("old/pages-1.img"), "p").unwrap();
        std::fs::write(top.join("old/dump.log"), "l").unwrap();
        assert_eq!(images.take_back("dump.log"), Some(top.join("old/dump.log")));
        let mut left: Vec<_> =
            std::fs::read_dir(top.join("old")).unwrap().map(|one| one.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["dump.log", "mine"]);
        let images = Images::begin(&top.join("new/x"), false).unwrap();
        assert_eq!(images.take_back("dump.log"), None);
        assert!(!top.join("new").exists());
        std::fs::remove_dir_all(&top).unwrap();
    }
}
