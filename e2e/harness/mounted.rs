//! A mount of the host's that a trial makes and that goes with it.

use crate::{Host, Stop};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::path::{Path, PathBuf};

/// Dropped, it is unmounted.
pub struct Mounted {
    path: PathBuf,
}

impl Mounted {
    /// A tmpfs on a directory that is made where it is missing.
    pub fn tmpfs(path: &Path) -> Result<Self, Stop> {
        std::fs::create_dir_all(path)?;
        mount(Some("e2e"), path, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
        Ok(Mounted { path: path.to_owned() })
    }

    /// One file over another.
    pub fn over(file: &Path, path: &Path) -> Result<Self, Stop> {
        mount(Some(file), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(Mounted { path: path.to_owned() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Changes the propagation of this mount alone.
    pub fn propagation(&self, flag: MsFlags) -> Result<(), Stop> {
        Ok(mount(None::<&str>, &self.path, None::<&str>, flag, None::<&str>)?)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}

impl Host {
    /// A directory with a tmpfs on it and a tmpfs below that, at `sub`: a tree for recursive binds.
    pub fn tree(&self) -> Result<(Mounted, Mounted), Stop> {
        let outer = Mounted::tmpfs(&self.new_dir("tree")?)?;
        let inner = Mounted::tmpfs(&outer.path().join("sub"))?;
        std::fs::write(outer.path().join("file"), "outer")?;
        std::fs::write(inner.path().join("file"), "inner")?;
        Ok((inner, outer))
    }
}
