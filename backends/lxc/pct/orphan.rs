//! Containers of the node that bear a mark of ours and have no state directory any more: that was in memory, and the node has
//! started again, or other hands have removed it.

use super::ct::Ct;
use super::door::Door;
use super::settings::Settings;
use super::tool::say;
use super::vmid;
use super::{cause, conf};
use std::path::{Path, PathBuf};
use wharf_cgroup::{Handle, Layout};
use wharf_core::{CgroupPaths, Error, Kind, Result};

/// One of them. Its root file system is a bundle's and stays where it is, whatever becomes of the container.
#[derive(Debug)]
pub struct Orphan {
    settings: Settings,
    pub vmid: u32,
    /// Of the container whose record is gone.
    pub id: String,
    state_dir: PathBuf,
}

/// Those whose state directory was below `root`. None where the host is no node.
pub fn orphans(settings: &Settings, root: &Path) -> Result<Vec<Orphan>> {
    if !settings.pct.exists() {
        return Ok(Vec::new());
    }
    let root = std::fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    let mut all = Vec::new();
    for guest in vmid::guests(settings)?.into_iter().filter(|guest| guest.container) {
        // One of another node has no file in this one's directory.
        let Some(text) = conf::text(settings, guest.vmid)? else { continue };
        let Some((id, state_dir)) = conf::marked(&text) else { continue };
        if state_dir.parent() == Some(&root) && !state_dir.exists() {
            all.push(Orphan { settings: settings.clone(), vmid: guest.vmid, id, state_dir });
        }
    }
    Ok(all)
}

impl Orphan {
    /// Whether its payload may still be at work.
    pub fn runs(&self) -> Result<bool> {
        let said = say(&self.settings.pct, &["status", &self.vmid.to_string()], self.settings.timeout)?;
        match said.fine {
            true => Ok(said.stdout.trim() != "status: stopped"),
            false => Err(cause::of(format!("ask for the status of CT {}", self.vmid), &said, self.vmid)),
        }
    }

    /// Takes it off the node, and its files for LXC. It is judged once more: the number may be another's by now.
    pub fn remove(&self) -> Result<()> {
        let text = conf::text(&self.settings, self.vmid)?;
        let whose = text.as_deref().map(conf::marked);
        let is_ours = whose.is_none_or(|whose| whose.is_some_and(|(id, dir)| id == self.id && dir == self.state_dir));
        if !is_ours || self.state_dir.exists() || text.is_some() && self.runs()? {
            return Err(Error::new(Kind::WrongStatus, format!("remove CT {}", self.vmid))
                .because("it is in use again, or another container has its number by now"));
        }
        Ct { settings: &self.settings, vmid: self.vmid }.destroy()?;
        // LXC leaves what was not empty when the payload ended: who stands in was there a moment longer.
        let place = format!("/lxc/{}", self.vmid);
        let paths =
            CgroupPaths { seen: place.clone(), freezer: place.clone(), payload: place, made: 1, ..Default::default() };
        Handle::open(Layout::mounted()?, &paths)?.remove()?;
        Door::of(&self.state_dir).remove()
    }
}
