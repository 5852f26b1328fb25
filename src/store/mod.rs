//! One record per container id under `--root`: locked, atomic, versioned.
//!
//! ```text
//! <root>/            0700
//!   <id>/            0700; the lock is flock(2) on the directory itself
//!     record.json    written when the container is drafted, replaced when it is made
//!     ...            private files of its backend
//! ```
//!
//! A directory without a readable record is what is left of an interrupted `create` or `delete`: such a container does
//! not exist, and whoever comes next may remove it under the lock. The record is the last file to go.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use wharf_core::{ContainerId, Error, Kind, RECORD_VERSION, Record, Result};
use wharf_sys::Errno;
use wharf_sys::dir::{self, Lock};

const RECORD: &str = "record.json";
const RECORD_NEW: &str = "record.json.new";
/// How often a directory is emptied that fills meanwhile.
const TRIES: u32 = 100;

/// The open directory of all records.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    dir: OwnedFd,
}

/// One container's state directory, open.
#[derive(Debug)]
pub(crate) struct Entry {
    id: ContainerId,
    dir: OwnedFd,
}

/// In the words that engines match.
pub(crate) fn exists(id: &ContainerId) -> Error {
    Error::new(Kind::Exists, format!("container with id {id} already exists"))
}

impl Store {
    /// For a process that ends now: its end closes it.
    pub(crate) fn leave_open(self) {
        std::mem::forget(self.dir);
    }

    /// None when the directory does not exist: then no container does.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>> {
        match dir::open(path) {
            Ok(dir) => Ok(Some(Store { path: path.to_owned(), dir })),
            Err(errno) if errno as i32 == ENOENT => Ok(None),
            Err(errno) => Err(Error::system(format!("open {}", path.display()), errno as i32)),
        }
    }

    /// Opens the directory, made where it is missing.
    pub(crate) fn make(path: &Path) -> Result<Self> {
        if let Some(store) = Self::open(path)? {
            return Ok(store);
        }
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
            let doing = format!("make directory {}", path.display());
            match error.raw_os_error() {
                Some(errno) => Error::system(doing, errno),
                None => Error::new(Kind::System, doing).because(error),
            }
        })?;
        Self::open(path)?.ok_or_else(|| Error::system(format!("open {}", path.display()), ENOENT))
    }

    /// A new container's directory, exclusively locked and empty.
    pub(crate) fn create(&self, id: &ContainerId) -> Result<Entry> {
        // Whoever removes the directory between our calls makes us begin again; 100 times in a row is no accident.
        let mut made = false;
        for _ in 0..100 {
            match dir::make_at(self.dir.as_fd(), id.as_str(), 0o700) {
                Ok(()) => made = true,
                Err(errno) if errno as i32 == EEXIST => {}
                Err(errno) => return Err(self.failed("make directory", id, errno)),
            }
            let Some(entry) = self.find(id)? else { continue };
            if !dir::try_lock(entry.dir(), Lock::Exclusive).map_err(|errno| self.failed("lock", id, errno))? {
                if made {
                    // `list` and `gc` look into a directory that has just been made, and lock it for that moment.
                    std::thread::sleep(std::time::Duration::from_millis(1));
                    continue;
                }
                return Err(exists(id));
            }
            if self.facts(&entry)?.gone {
                continue;
            }
            // Even a directory that we made may have been locked, used and given back by another in between.
            if entry.record()?.is_some() {
                return Err(exists(id).hint("delete it first"));
            }
            if !made {
                dir::clear(entry.dir(), RECORD).map_err(|errno| self.failed("clear", id, errno))?;
            }
            return Ok(entry);
        }
        Err(exists(id))
    }

    /// The container's directory, not locked; None when there is none.
    pub(crate) fn find(&self, id: &ContainerId) -> Result<Option<Entry>> {
        match dir::open_at(self.dir.as_fd(), id.as_str()) {
            Ok(dir) => Ok(Some(Entry { id: id.clone(), dir })),
            Err(errno) if errno as i32 == ENOENT => Ok(None),
            Err(errno) => Err(self.failed("open", id, errno)),
        }
    }

    /// Waits for the container's lock; None when the container is gone by then.
    pub(crate) fn lock(&self, entry: &Entry) -> Result<Option<()>> {
        dir::lock(entry.dir(), Lock::Exclusive).map_err(|errno| self.failed("lock", &entry.id, errno))?;
        self.locked(entry)
    }

    /// Takes the lock if it is free: false when another holds it, None when the container is gone.
    pub(crate) fn try_lock(&self, entry: &Entry) -> Result<Option<bool>> {
        match dir::try_lock(entry.dir(), Lock::Exclusive) {
            Ok(true) => Ok(self.locked(entry)?.map(|()| true)),
            Ok(false) => Ok(Some(false)),
            Err(errno) => Err(self.failed("lock", &entry.id, errno)),
        }
    }

    /// What a record says is done with our rights: it must be our own.
    fn locked(&self, entry: &Entry) -> Result<Option<()>> {
        let facts = self.facts(entry)?;
        if facts.gone {
            return Ok(None);
        }
        let ours = dir::effective_uid();
        if facts.owner != ours {
            return Err(Error::new(Kind::System, self.doing("trust", &entry.id))
                .because(format!("it is owned by uid {}, not by uid {ours}", facts.owner)));
        }
        if facts.mode & 0o022 != 0 {
            return Err(Error::new(Kind::System, self.doing("trust", &entry.id))
                .because(format!("others may write to it (mode {:04o})", facts.mode)));
        }
        Ok(Some(()))
    }

    /// Removes a locked entry with all that is in it.
    pub(crate) fn remove(&self, entry: &Entry) -> Result<()> {
        let mut tries = 0;
        loop {
            dir::clear(entry.dir(), RECORD).map_err(|errno| self.failed("clear", &entry.id, errno))?;
            tries += 1;
            match dir::remove_dir_at(self.dir.as_fd(), entry.id.as_str()) {
                // Who sends a signal notes it there, without the lock.
                Err(Errno::ENOTEMPTY) if tries < TRIES => {}
                other => return other.map_err(|errno| self.failed("remove", &entry.id, errno)),
            }
        }
    }

    /// Every id that has a directory, sorted. Names that are no ids are left alone.
    pub(crate) fn ids(&self) -> Result<Vec<ContainerId>> {
        let names = dir::names(self.dir.as_fd())
            .map_err(|errno| Error::system(format!("list {}", self.path.display()), errno as i32))?;
        let mut ids: Vec<ContainerId> =
            names.iter().filter_map(|name| name.to_str()).filter_map(|name| ContainerId::new(name).ok()).collect();
        ids.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        Ok(ids)
    }

    fn facts(&self, entry: &Entry) -> Result<dir::Facts> {
        dir::facts(entry.dir()).map_err(|errno| self.failed("inspect", &entry.id, errno))
    }

    fn doing(&self, doing: &str, id: &ContainerId) -> String {
        format!("{doing} state directory {}", self.path.join(id.as_str()).display())
    }

    fn failed(&self, doing: &str, id: &ContainerId, errno: wharf_sys::Errno) -> Error {
        Error::system(self.doing(doing, id), errno as i32)
    }
}

impl Entry {
    /// The directory itself, for the backend's private files.
    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// None when there is no record, or only the beginning of a draft: `create` was interrupted before it made anything.
    pub(crate) fn record(&self) -> Result<Option<Record>> {
        let bytes = match dir::read_at(self.dir(), RECORD) {
            Ok(bytes) => bytes,
            Err(errno) if errno as i32 == ENOENT => return Ok(None),
            Err(errno) => return Err(Error::system(format!("read record of container {}", self.id), errno as i32)),
        };
        parse(&self.id, &bytes)
    }

    /// Writes the first record of a locked, empty directory. Nothing exists yet that a half-written one could lose.
    pub(crate) fn save_draft(&self, record: &Record) -> Result<()> {
        dir::write_at(self.dir(), RECORD, &bytes(record)?).map_err(|errno| self.unsaved(errno))
    }

    /// Replaces the record in one step.
    pub(crate) fn save(&self, record: &Record) -> Result<()> {
        dir::replace_at(self.dir(), RECORD, RECORD_NEW, &bytes(record)?).map_err(|errno| self.unsaved(errno))
    }

    /// Whether another process is making, starting or deleting the container right now. Never waits.
    pub(crate) fn busy(&self) -> Result<bool> {
        let failed = |errno| Error::system(format!("probe the lock of container {}", self.id), errno as i32);
        let free = dir::try_lock(self.dir(), Lock::Shared).map_err(failed)?;
        if free {
            dir::unlock(self.dir()).map_err(failed)?;
        }
        Ok(!free)
    }

    /// Waits for one's turn at something that is done once at a time while the container's own lock may be another's.
    /// It is over when the result is dropped.
    pub(crate) fn turn(&self, what: &str) -> Result<OwnedFd> {
        let failed = |errno: wharf_sys::Errno| {
            Error::system(format!("wait for the turn to {what} container {}", self.id), errno as i32)
        };
        let file = dir::lock_file_at(self.dir(), &format!("{what}.lock")).map_err(failed)?;
        dir::lock(file.as_fd(), Lock::Exclusive).map_err(failed)?;
        Ok(file)
    }

    pub(crate) fn unlock(&self) -> Result<()> {
        dir::unlock(self.dir()).map_err(|errno| Error::system(format!("unlock container {}", self.id), errno as i32))
    }

    fn unsaved(&self, errno: wharf_sys::Errno) -> Error {
        Error::system(format!("save record of container {}", self.id), errno as i32)
    }
}

const ENOENT: i32 = wharf_sys::Errno::ENOENT as i32;
const EEXIST: i32 = wharf_sys::Errno::EEXIST as i32;

fn bytes(record: &Record) -> Result<Vec<u8>> {
    serde_json::to_vec(record).map_err(|error| Error::new(Kind::System, "write the record down").because(error))
}

fn parse(id: &ContainerId, bytes: &[u8]) -> Result<Option<Record>> {
    let version = || serde_json::from_slice::<serde_json::Value>(bytes).ok()?.get("version")?.as_u64();
    let what = || format!("record of container {id}");
    let newer = |found: u64| {
        Error::unsupported(what())
            .because(format!("it has version {found}, this wharf reads up to version {RECORD_VERSION}"))
            .hint("it was made by a newer wharf")
    };
    let record = match serde_json::from_slice::<Record>(bytes) {
        Ok(record) if record.version > RECORD_VERSION => return Err(newer(record.version.into())),
        Ok(record) if record.version + 1 < RECORD_VERSION => {
            return Err(Error::unsupported(what()).because(format!("version {} is too old", record.version)));
        }
        Ok(record) => record,
        Err(error) if error.is_eof() => return Ok(None),
        Err(error) => match version() {
            Some(found) if found > u64::from(RECORD_VERSION) => return Err(newer(found)),
            _ => return Err(Error::invalid(what()).because(error)),
        },
    };
    if record.id != id.as_str() {
        return Err(Error::invalid(what()).because(format!("it is of container {:?}", record.id)));
    }
    Ok(Some(record))
}

#[cfg(test)]
mod tests;
