//! The storages of storage.cfg and their volumes: directories and ZFS pools, both for real (§4, §7).

use crate::answer::Death;
use crate::world::World;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[derive(Debug, Clone)]
pub(crate) struct Storage {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) options: BTreeMap<String, String>,
}

/// The content types that are files of a directory storage: their names in a volume id, and where they lie.
pub(crate) const FILES: [(&str, &str); 4] =
    [("vztmpl", "template/cache"), ("iso", "template/iso"), ("snippets", "snippets"), ("backup", "dump")];

pub(crate) fn all(world: &World) -> Vec<Storage> {
    let text = fs::read_to_string(world.pve("storage.cfg")).unwrap_or_default();
    let mut all: Vec<Storage> = Vec::new();
    for line in text.lines() {
        if let Some(option) = line.strip_prefix(['\t', ' ']) {
            let (key, value) = option.trim().split_once(' ').unwrap_or((option.trim(), "1"));
            if let Some(storage) = all.last_mut() {
                storage.options.insert(key.to_owned(), value.trim().to_owned());
            }
        } else if let Some((kind, name)) = line.split_once(':') {
            all.push(Storage { name: name.trim().to_owned(), kind: kind.to_owned(), options: BTreeMap::new() });
        }
    }
    all
}

pub(crate) fn get(world: &World, name: &str) -> Result<Storage, Death> {
    let found = all(world).into_iter().find(|storage| storage.name == name);
    found.ok_or_else(|| Death::worker(format!("storage '{name}' does not exist")))
}

impl Storage {
    pub(crate) fn holds(&self, content: &str) -> bool {
        self.options.get("content").is_some_and(|all| all.split(',').any(|one| one == content))
    }

    pub(crate) fn is_zfs(&self) -> bool {
        self.kind == "zfspool"
    }

    /// Of a directory storage.
    pub(crate) fn dir(&self) -> PathBuf {
        PathBuf::from(self.options.get("path").map_or("/nowhere", String::as_str))
    }

    pub(crate) fn pool(&self) -> &str {
        self.options.get("pool").map_or("", String::as_str)
    }

    /// §4: what a container's own file system may be on.
    pub(crate) fn check_rootdir(&self) -> Result<(), Death> {
        match self.holds("rootdir") {
            true => Ok(()),
            false => Err(Death::worker(format!("storage '{}' does not support container directories", self.name))),
        }
    }

    /// The path of a volume's name; none for a name that is no volume's.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        if self.is_zfs() {
            let own = name.rsplit('/').next()?;
            let known = ["subvol-", "basevol-"].iter().any(|kind| own.starts_with(kind));
            // What `mountpoint` says, which is told where it is not the pool's name.
            let top = self.options.get("mountpoint").map_or_else(|| Path::new("/").join(self.pool()), PathBuf::from);
            return known.then(|| top.join(own));
        }
        let (first, rest) = name.split_once('/')?;
        if rest.is_empty() || rest.contains('/') && !rest.starts_with("base-") || rest.contains("..") {
            return None;
        }
        if let Some((_, dir)) = FILES.iter().find(|(kind, _)| *kind == first) {
            return Some(self.dir().join(dir).join(rest));
        }
        first.parse::<u32>().ok()?;
        Some(self.dir().join("images").join(first).join(rest))
    }

    pub(crate) fn dataset(&self, name: &str) -> String {
        format!("{}/{}", self.pool(), name.rsplit('/').next().unwrap_or(name))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        match self.is_zfs() {
            true => zfs(&["list", "-H", "-o", "name", &self.dataset(name)]).is_ok(),
            false => self.path(name).is_some_and(|path| path.exists()),
        }
    }

    /// A name for the next volume of a container.
    fn free_name(&self, id: u32, suffix: &str) -> Option<String> {
        let (before, kind) = if self.is_zfs() {
            (String::new(), "subvol")
        } else if suffix == ".raw" {
            (format!("{id}/"), "vm")
        } else {
            (format!("{id}/"), "subvol")
        };
        let name = |number: u32| format!("{before}{kind}-{id}-disk-{number}{suffix}");
        (0..1000).map(name).find(|name| !self.has(name))
    }

    /// A new volume: of `bytes`, none meaning a plain directory. Its name.
    pub(crate) fn allocate(&self, world: &World, id: u32, bytes: Option<u64>, owner: u32) -> Result<String, Death> {
        let _lock = crate::lock::storage(world, &self.name)?;
        let suffix = if self.is_zfs() {
            ""
        } else if bytes.is_some() {
            ".raw"
        } else {
            ".subvol"
        };
        let name = self.free_name(id, suffix).ok_or_else(|| Death::worker("unable to allocate a volume name"))?;
        let path = self.path(&name).unwrap_or_default();
        let failed = |error: &dyn std::fmt::Display| Death::system(format!("allocate {name}"), error);
        if self.is_zfs() {
            let quota = format!("refquota={}", bytes.map_or("none".to_owned(), |bytes| bytes.to_string()));
            zfs(&["create", "-o", "acltype=posixacl", "-o", "xattr=sa", "-o", &quota, &self.dataset(&name)])?;
        } else if let Some(bytes) = bytes {
            path.parent().map_or(Ok(()), fs::create_dir_all).map_err(|error| failed(&error))?;
            println!("Formatting '{}', fmt=raw size={bytes} preallocation=off", path.display());
            fs::File::create(&path).and_then(|file| file.set_len(bytes)).map_err(|error| failed(&error))?;
            let owner = format!("root_owner={owner}:{owner}");
            let made = Command::new("/usr/sbin/mkfs.ext4").args(["-O", "mmp", "-E", &owner]).arg(&path).status();
            if !made.map_err(|error| failed(&error))?.success() {
                let _ = fs::remove_file(&path);
                return Err(Death::worker(format!("command 'mkfs.ext4 -O mmp -E {owner} {}' failed", path.display())));
            }
        } else {
            fs::create_dir_all(&path).map_err(|error| failed(&error))?;
        }
        if path.is_dir() {
            std::os::unix::fs::chown(&path, Some(owner), Some(owner)).map_err(|error| failed(&error))?;
        }
        Ok(name)
    }

    /// Every volume that it has: name, and size in bytes.
    pub(crate) fn names(&self) -> Vec<(String, u64)> {
        if self.is_zfs() {
            let said = zfs(&["list", "-Hp", "-r", "-d", "1", "-o", "name,refer", self.pool()]).unwrap_or_default();
            let own = |line: &str| {
                let (name, size) = line.split_once('\t')?;
                let name = name.strip_prefix(self.pool())?.strip_prefix('/')?.to_owned();
                self.path(&name).map(|_| (name, size.parse().unwrap_or(0)))
            };
            return said.lines().filter_map(own).collect();
        }
        let mut all = Vec::new();
        let entries = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten();
        let size =
            |entry: &fs::DirEntry| entry.metadata().map_or(0, |about| if about.is_file() { about.len() } else { 0 });
        for (kind, dir) in FILES {
            all.extend(
                entries(self.dir().join(dir))
                    .map(|entry| (format!("{kind}/{}", entry.file_name().to_string_lossy()), size(&entry))),
            );
        }
        for owner in entries(self.dir().join("images")) {
            let id = owner.file_name().to_string_lossy().into_owned();
            all.extend(
                entries(owner.path())
                    .map(|entry| (format!("{id}/{}", entry.file_name().to_string_lossy()), size(&entry))),
            );
        }
        all.sort();
        all
    }

    pub(crate) fn free(&self, name: &str) -> Result<(), Death> {
        if self.is_zfs() {
            return zfs(&["destroy", "-r", &self.dataset(name)]).map(drop);
        }
        let Some(path) = self.path(name) else { return Ok(()) };
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(|error| Death::system(format!("remove {}", path.display()), error))?;
        let _ = path.parent().map(fs::remove_dir);
        Ok(())
    }
}

/// OpenZFS's own program, and what it prints.
pub(crate) fn zfs(words: &[&str]) -> Result<String, Death> {
    let done =
        Command::new("zfs").args(words).stdin(Stdio::null()).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output();
    let done = done.map_err(|error| Death::system(format!("command 'zfs {}' failed", words.join(" ")), error))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(Death::worker(format!("zfs error: {}", said.trim_end())))
}

/// `STORAGE:NAME` as its storage and its name.
pub(crate) fn volume(world: &World, id: &str) -> Result<(Storage, String), Death> {
    let Some((storage, name)) = id.split_once(':') else {
        return Err(Death::worker(format!("unable to parse volume ID '{id}'")));
    };
    Ok((get(world, storage)?, name.to_owned()))
}

/// The path of a volume that has to be there.
pub(crate) fn existing(world: &World, id: &str) -> Result<PathBuf, Death> {
    let (storage, name) = volume(world, id)?;
    let path = storage.path(&name);
    let missing = || Death::worker(format!("volume '{id}' does not exist"));
    path.filter(|_| storage.has(&name)).ok_or_else(missing)
}

/// The container that a volume's name says it is of.
pub(crate) fn owner(id: &str) -> Option<u32> {
    let name = id.rsplit(['/', ':']).next()?;
    name.split('-').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_names_its_owner() {
        for (volume, id) in [
            ("data:100/subvol-100-disk-0.subvol", Some(100)),
            ("data:100/vm-100-disk-1.raw", Some(100)),
            ("tank:basevol-99-disk-0/subvol-101-disk-0", Some(101)),
            ("data:vztmpl/a.tar", None),
        ] {
            assert_eq!(owner(volume), id, "{volume}");
        }
    }

    #[test]
    fn paths_are_those_of_section_4() {
        let options = BTreeMap::from([("path".to_owned(), "/srv".to_owned())]);
        let storage = Storage { name: "data".to_owned(), kind: "dir".to_owned(), options };
        let path = |name: &str| storage.path(name).map(|path| path.display().to_string());
        assert_eq!(path("100/subvol-100-disk-0.subvol").as_deref(), Some("/srv/images/100/subvol-100-disk-0.subvol"));
        assert_eq!(path("vztmpl/a.tar").as_deref(), Some("/srv/template/cache/a.tar"));
        for name in ["a", "x/y", "100/../101/z", "vztmpl/../../x"] {
            assert_eq!(path(name), None, "{name}");
        }
    }
}
