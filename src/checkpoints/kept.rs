//! All checkpoints that are kept by name.

use super::{failed, system};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use wharf_core::{ContainerId, Error, Kind, MANIFEST, Manifest, Result};
use wharf_sys::dir;

/// One of them, whole or not.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// What its files take, in bytes.
    pub(crate) bytes: u64,
    /// When a file of it was last written.
    pub(crate) changed: SystemTime,
    /// Or why there is none.
    pub(crate) manifest: Result<Manifest, String>,
}

impl Kept {
    /// It was begun, and never came to its end.
    pub(crate) fn is_half_made(&self) -> bool {
        self.manifest.is_err() && !self.path.join(MANIFEST).exists()
    }
}

/// In the order of containers, and then of time. What is no name of a container or of a checkpoint is not ours.
pub(crate) fn all(home: &Path, of: Option<&ContainerId>) -> Result<Vec<Kept>> {
    let mut found = Vec::new();
    for id in names(home)?.iter().filter(|id| of.is_none_or(|of| of.as_str() == *id)) {
        for name in names(&home.join(id))? {
            let path = home.join(id).join(&name);
            if path.is_dir() {
                found.push(look(id, name, path)?);
            }
        }
    }
    found.sort_by(|a, b| {
        let created = |kept: &Kept| kept.manifest.as_ref().map(|manifest| manifest.created.clone()).ok();
        (&a.id, created(a), &a.name).cmp(&(&b.id, created(b), &b.name))
    });
    Ok(found)
}

fn names(path: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        other => other.map_err(|error| failed("list", path, &error))?,
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter(|name| ContainerId::new(name).is_ok()).collect())
}

fn look(id: &str, name: String, path: PathBuf) -> Result<Kept> {
    let (mut bytes, mut changed) = (0, SystemTime::UNIX_EPOCH);
    for entry in fs::read_dir(&path).map_err(|error| failed("list", &path, &error))?.flatten() {
        if let Ok(about) = entry.metadata() {
            bytes += about.blocks() * 512;
            changed = changed.max(about.modified().unwrap_or(changed));
        }
    }
    if let Ok(about) = fs::metadata(&path) {
        changed = changed.max(about.modified().unwrap_or(changed));
    }
    let manifest = super::read(&path).map(|(_, manifest)| manifest).map_err(|error: Error| error.reason());
    Ok(Kept { id: id.to_owned(), name, path, bytes, changed, manifest })
}

/// Removes the directory of a checkpoint, its manifest first: from then on it is half-made. And that of the container,
/// where it was the last one.
pub(crate) fn remove(path: &Path) -> Result<()> {
    use std::os::fd::AsFd;
    let Some(opened) = super::unowned(path)? else {
        return match path.exists() {
            true => Err(Error::new(Kind::WrongStatus, format!("remove checkpoint {}", path.display()))
                .because("it is being written")),
            false => Ok(()),
        };
    };
    match dir::remove_file_at(opened.as_fd(), MANIFEST) {
        Ok(()) | Err(wharf_sys::Errno::ENOENT) => {}
        Err(errno) => return Err(system("remove the manifest of checkpoint", path, errno)),
    }
    dir::clear(opened.as_fd(), "").map_err(|errno| system("remove what is in checkpoint", path, errno))?;
    fs::remove_dir(path).map_err(|error| failed("remove checkpoint", path, &error))?;
    if let Some(above) = path.parent() {
        let _ = fs::remove_dir(above);
    }
    Ok(())
}
