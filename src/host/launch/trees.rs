//! Copies of the host's mounts that the init cannot make, with their owners mapped where that is asked.

use super::{Slots, birth};
use crate::draft::Judged;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use wharf_core::{Error, Kind, Result};
use wharf_plan::{Ids, Mapping, Owners, Tree};
use wharf_sys::mount::{self, AT_RECURSIVE, OPEN_TREE_CLONE};
use wharf_sys::namespace::{Side, clone, flag};
use wharf_sys::process::{self, exit_now};
use wharf_sys::procfs::Procfs;
use wharf_sys::{CWD, Errno, Fd, fd, libc, socket};

/// Opens them all, detached, into their slots. Nobody else sees them until the init attaches them.
pub(super) fn open(judged: &Judged<'_>, slots: &mut Slots) -> Result<Vec<OwnedFd>> {
    let mut namespaces = MappedNamespaces { proc: &judged.proc, made: Vec::new() };
    let mut all = Vec::with_capacity(judged.container.trees.len());
    for tree in &judged.container.trees {
        let copy = copy(tree)?;
        if let Some(owners) = &tree.owners {
            match &owners.ids {
                Ids::Joined(slot) => map(tree, owners, &copy, Fd(slots.numbers[usize::from(slot.0)]), &judged.proc)?,
                Ids::Mapped { uids, gids } => {
                    map(tree, owners, &copy, namespaces.of(uids, gids, &tree.pointer)?, &judged.proc)?
                }
            }
        }
        if tree.propagation != 0 {
            match mount::set_attributes(&copy, tree.recursive, 0, 0, tree.propagation) {
                // Before kernel 5.12 the init opens it, with the rights that it has.
                Err(Errno::ENOSYS) if tree.owners.is_none() => continue,
                set => set.map_err(|errno| failed(tree, errno))?,
            }
        }
        slots.put(tree.slot, copy.as_raw_fd());
        all.push(copy);
    }
    Ok(all)
}

fn copy(tree: &Tree) -> Result<OwnedFd> {
    let source = CString::new(tree.source.as_str()).map_err(|_| failed(tree, Errno::EINVAL))?;
    let flags = OPEN_TREE_CLONE | if tree.recursive { AT_RECURSIVE } else { 0 };
    mount::open_tree(CWD, &source, flags).map_err(|errno| failed(tree, errno))
}

fn failed(tree: &Tree, errno: Errno) -> Error {
    Error::system(format!("bind mount {} on {}", tree.source, tree.target), errno as i32).at(tree.pointer.as_str())
}

fn map(tree: &Tree, owners: &Owners, copy: &OwnedFd, namespace: impl AsFd, proc: &Procfs) -> Result<()> {
    let doing = || format!("map the owners of {} for {}", tree.source, tree.target);
    let error = match mount::set_idmap(copy, owners.recursive, &namespace) {
        Ok(()) => return Ok(()),
        Err(Errno::ENOSYS) => Error::unsupported(doing())
            .errno(libc::ENOSYS)
            .hint("idmapped mounts need a kernel of version 5.12 or newer"),
        Err(Errno::EPERM) => Error::system(doing(), libc::EPERM).hint(
            "the file system must be one that this user namespace may mount, and its mount not an idmapped one already",
        ),
        Err(Errno::EINVAL) => Error::new(Kind::System, doing())
            .because(format!("{} does not support idmapped mounts", culprit(tree, owners, &namespace, proc)))
            .hint("the kernel knows them for each type of file system apart, for some since a certain version only"),
        Err(errno) => Error::system(doing(), errno as i32),
    };
    Err(error.at(tree.pointer.as_str()))
}

/// Which file system it is that cannot be mapped.
fn culprit(tree: &Tree, owners: &Owners, namespace: impl AsFd, proc: &Procfs) -> String {
    let top = std::fs::canonicalize(&tree.source).unwrap_or_else(|_| tree.source.as_str().into());
    let table = proc.open_file(c"self/mountinfo", libc::O_RDONLY).and_then(|file| fd::read_to_end(file, 1 << 24));
    let table = String::from_utf8_lossy(&table.unwrap_or_default()).into_owned();
    // Place and type of every mount; the source is on the deepest one that it is below, of two at a place the later.
    let mounts = table.lines().filter_map(|line| {
        let (fields, tail) = line.split_once(" - ")?;
        Some((Path::new(fields.split(' ').nth(4)?), tail.split(' ').next()?))
    });
    let mounts: Vec<_> = mounts.collect();
    let own = mounts.iter().filter(|(place, _)| top.starts_with(place));
    let own = own.max_by_key(|(place, _)| place.components().count()).map(|(_, kind)| (top.as_path(), *kind));
    let below =
        mounts.iter().filter(|(place, _)| owners.recursive && *place != top && place.starts_with(&top)).copied();
    let refuses = |place: &Path| {
        let Ok(place) = CString::new(place.as_os_str().as_encoded_bytes()) else { return false };
        let copy = mount::open_tree(CWD, &place, OPEN_TREE_CLONE);
        copy.is_ok_and(|copy| mount::set_idmap(copy, false, &namespace) == Err(Errno::EINVAL))
    };
    match own.into_iter().chain(below).find(|(place, _)| refuses(place)) {
        Some((place, kind)) => format!("file system {kind} on {}", place.display()),
        None => format!("a file system on {} or below", top.display()),
    }
}

/// User namespaces that nobody lives in: all that counts of them is their maps.
struct MappedNamespaces<'a> {
    proc: &'a Procfs,
    made: Vec<(Vec<Mapping>, Vec<Mapping>, OwnedFd)>,
}

impl MappedNamespaces<'_> {
    fn of(&mut self, uids: &[Mapping], gids: &[Mapping], at: &str) -> Result<&OwnedFd> {
        let found = self.made.iter().position(|(own_uids, own_gids, _)| own_uids == uids && own_gids == gids);
        let index = match found {
            Some(index) => index,
            None => {
                let namespace = self.make(uids, gids, at)?;
                self.made.push((uids.to_vec(), gids.to_vec(), namespace));
                self.made.len() - 1
            }
        };
        Ok(&self.made[index].2)
    }

    /// A child is born in one and ends as soon as the maps are written and the namespace is open, or with us.
    fn make(&self, uids: &[Mapping], gids: &[Mapping], at: &str) -> Result<OwnedFd> {
        let failed = |errno: Errno| Error::system("make a user namespace for an idmapped mount", errno as i32).at(at);
        let (ours, theirs) = socket::pair().map_err(failed)?;
        match clone(flag::NEWUSER, None).map_err(failed)? {
            Side::Child => {
                drop(ours);
                let _ = socket::receive(&theirs, &mut [0; 1]);
                exit_now(0)
            }
            Side::Parent { pid, .. } => {
                drop(theirs);
                let link = CString::new(format!("{pid}/ns/user")).unwrap_or_default();
                let opened = birth::map_ids(self.proc, pid, uids, gids, at)
                    .and_then(|()| self.proc.open_link(&link, libc::O_RDONLY).map_err(failed));
                drop(ours);
                process::wait(pid, 0).map_err(failed)?;
                opened
            }
        }
    }
}
