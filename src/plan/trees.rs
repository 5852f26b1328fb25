//! What is copied of the host's mounts before the birth, and whose the files in a copy are.
//!
//! The init of a container in another user namespace has no rights on the host: it can neither map the owners of a
//! file system (mount_setattr(2)) nor pass a directory that only the host's root may search.

use crate::facts::Facts;
use crate::namespaces::{self, Mapping, NEWNS, NEWUSER, Namespaces};
use crate::options::{Idmap, MS_SHARED, Options};
use oci_spec::runtime::Mount;
use wharf_core::{Error, Result};
use wharf_steps::Slot;

const CAP_SYS_ADMIN: u64 = 1 << 21;

/// A copy of a host's mount, opened by the parent and attached by the init.
#[derive(Clone, Debug)]
pub struct Tree {
    pub slot: Slot,
    /// Absolute path on the host.
    pub source: String,
    /// As config.json has it, for messages.
    pub target: String,
    pub recursive: bool,
    pub owners: Option<Owners>,
    /// `MS_SLAVE` or `MS_PRIVATE` for the copy and all below, where it is not to share mounts with the host; else 0.
    pub propagation: u64,
    /// Of the mount in config.json.
    pub pointer: String,
}

/// How the owners of files are mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owners {
    pub ids: Ids,
    /// In the mounts below, too.
    pub recursive: bool,
}

/// Whose ids the files in a copy get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ids {
    /// Those of a user namespace with these maps: `inside` is what the file system holds, `outside` is what the host sees.
    Mapped { uids: Vec<Mapping>, gids: Vec<Mapping> },
    /// Those of the joined user namespace in this slot.
    Joined(Slot),
}

/// How a mount's files change owners, where config.json asks for that. `is_bind`: it shows a place of the host.
pub(crate) fn owners(
    mount: &Mount,
    options: &Options,
    is_bind: bool,
    facts: &Facts,
    namespaces: &Namespaces,
    pointer: &str,
) -> Result<Option<Owners>> {
    let uids = mount.uid_mappings().as_deref().unwrap_or_default();
    let gids = mount.gid_mappings().as_deref().unwrap_or_default();
    let listed = match (uids.is_empty(), gids.is_empty()) {
        (true, true) => false,
        (false, false) => true,
        (no_uids, _) => {
            let (given, other) = if no_uids { ("gidMappings", "uidMappings") } else { ("uidMappings", "gidMappings") };
            return Err(Error::invalid(format!("{given} of a mount without {other}")).at(format!("{pointer}/{given}")));
        }
    };
    let Some(asked) = options.idmap.clone().or(listed.then(Idmap::default)) else { return Ok(None) };
    let at = if listed { format!("{pointer}/uidMappings") } else { format!("{pointer}/options") };
    let no = |why: &str| Err(Error::unsupported("an idmapped mount").because(why).at(at.as_str()));
    if !is_bind {
        return no("only a bind mount can be one");
    }
    if namespaces.joins(NEWNS) {
        return no("its source is the host's, and the mount namespace is one that is joined");
    }
    if facts.uid != 0 {
        return no("mapping the owners of a file system takes root's rights on it");
    }
    let invalid = |why: &str| Err(Error::invalid("mount option idmap").because(why).at(format!("{pointer}/options")));
    let inline = !asked.uids.is_empty();
    let ids = if listed && inline {
        return invalid("has mappings of its own beside uidMappings and gidMappings");
    } else if listed {
        let map = |mappings, name| namespaces::mappings(mappings, &format!("{pointer}/{name}"));
        Ids::Mapped { uids: map(uids, "uidMappings")?, gids: map(gids, "gidMappings")? }
    } else if inline {
        let absolute = |list: &[(Mapping, bool)], container: &[Mapping]| {
            list.iter().map(|(one, relative)| if *relative { outside(*one, container) } else { Some(*one) }).collect()
        };
        let (uids, gids): (Option<_>, Option<_>) =
            (absolute(&asked.uids, &namespaces.uid_map), absolute(&asked.gids, &namespaces.gid_map));
        match (uids, gids) {
            (Some(uids), Some(gids)) => Ids::Mapped { uids, gids },
            _ => return invalid("has ids after @ that no single mapping of the container's user namespace covers"),
        }
    } else if namespaces.new_user() {
        Ids::Mapped { uids: namespaces.uid_map.clone(), gids: namespaces.gid_map.clone() }
    } else if let Some(join) = namespaces.joins.iter().find(|join| join.kind == NEWUSER) {
        Ids::Joined(join.slot)
    } else {
        return invalid("needs uidMappings and gidMappings, or a user namespace of the container");
    };
    Ok(Some(Owners { ids, recursive: asked.recursive }))
}

/// A mapping to ids of the container, as one to ids of the host.
fn outside(one: Mapping, container: &[Mapping]) -> Option<Mapping> {
    let holds = |map: &&Mapping| {
        one.outside >= map.inside
            && u64::from(one.outside) + u64::from(one.size) <= u64::from(map.inside) + u64::from(map.size)
    };
    let map = container.iter().find(holds)?;
    Some(Mapping { outside: one.outside - map.inside + map.outside, ..one })
}

/// Whether the parent opens a source although nothing has to be mapped.
pub(crate) fn are_wanted(facts: &Facts, namespaces: &Namespaces) -> bool {
    namespaces.other_user() && namespaces.new & NEWNS != 0 && facts.uid == 0 && facts.permitted & CAP_SYS_ADMIN != 0
}

/// The propagation of a copy: that of every mount the container inherits, unless it is to share the host's. In another user
/// namespace it never does: what is mounted in there must not show up on the host.
pub(crate) fn propagation(options: &Options, namespaces: &Namespaces, inherited: u64) -> u64 {
    let shares = options.propagation & MS_SHARED != 0 && !namespaces.other_user();
    if namespaces.has_mounts() && !shares { inherited } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_the_container_is_found_on_the_host() {
        let map = |inside, outside, size| Mapping { inside, outside, size };
        let container = [map(0, 0, 1), map(1, 2, 1000)];
        assert_eq!(outside(map(1, 3, 10), &container), Some(map(1, 4, 10)));
        assert_eq!(outside(map(1, 0, 1), &container), Some(map(1, 0, 1)));
        assert_eq!(outside(map(1, 0, 2), &container), None);
        assert_eq!(outside(map(1, 995, 10), &container), None);
    }
}
