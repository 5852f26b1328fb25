//! What LXC is told: a file of a few keys, each with a value that its syntax can hold.

use std::os::fd::{AsRawFd, OwnedFd};
use wharf_core::{Error, Result};
use wharf_plan::{Mapping, Namespaces};
use wharf_sys::namespace::flag;
use wharf_sys::process;

/// The cgroups inside the container's: of the payload, of LXC's monitor while it lives and when it ends, and of the stand-in
/// from the start on.
pub(crate) const CONTAINER: &str = "container";
const MONITOR: &str = "lxcmon";
const PIVOT: &str = "pivot";
pub(crate) const STAND_IN: &str = "monitor";

/// Those that LXC makes or joins, by its names for them. A cgroup namespace is made by the init.
const NAMES: [(u64, &str); 6] = [
    (flag::NEWNS, "mnt"),
    (flag::NEWPID, "pid"),
    (flag::NEWUTS, "uts"),
    (flag::NEWIPC, "ipc"),
    (flag::NEWNET, "net"),
    (flag::NEWUSER, "user"),
];

fn name(kind: u64) -> &'static str {
    NAMES.iter().find(|(one, _)| *one == kind).map_or("", |(_, name)| name)
}

pub(crate) fn text(namespaces: &Namespaces, joined: &[OwnedFd], cgroup: &str) -> Result<String> {
    let mut text = String::new();
    let mut key = |key: &str, value: &str| text.push_str(&format!("{key} = {value}\n"));
    // No terminal and no /dev of LXC's: both are the plan's.
    key("lxc.console.path", "none");
    key("lxc.tty.max", "0");
    key("lxc.autodev", "0");
    // The init changes into the bundle's profile, and mounts before that.
    key("lxc.apparmor.profile", "unconfined");
    if has_proc(namespaces) {
        // Where there is none that shows its own pid namespace, LXC mounts one in a place that it lacks.
        key("lxc.mount.auto", "proc:rw");
    }
    namespace_lines(namespaces, joined, &mut key);
    id_maps(namespaces).for_each(|map| key("lxc.idmap", &map));
    let cgroup = cgroup_value(cgroup)?;
    key("lxc.cgroup.dir.container", &format!("{cgroup}/{CONTAINER}"));
    key("lxc.cgroup.dir.monitor", &format!("{cgroup}/{MONITOR}"));
    key("lxc.cgroup.dir.monitor.pivot", &format!("{cgroup}/{PIVOT}"));
    Ok(text)
}

/// Which namespaces are made and joined. Those in `joined` are ours, and named by our own process: no path
/// means another one a moment later.
pub(crate) fn namespace_lines(namespaces: &Namespaces, joined: &[OwnedFd], key: &mut dyn FnMut(&str, &str)) {
    let new: Vec<&str> = NAMES.iter().filter(|(kind, _)| namespaces.new & kind != 0).map(|(_, name)| *name).collect();
    key("lxc.namespace.clone", &new.join(" "));
    for (join, file) in namespaces.joins.iter().zip(joined) {
        let path = format!("/proc/{}/fd/{}", process::pid(), file.as_raw_fd());
        key(&format!("lxc.namespace.share.{}", name(join.kind)), &path);
    }
}

/// The values of `lxc.idmap`.
pub(crate) fn id_maps(namespaces: &Namespaces) -> impl Iterator<Item = String> + '_ {
    let maps = [("u", &namespaces.uid_map), ("g", &namespaces.gid_map)];
    maps.into_iter().flat_map(|(kind, map)| {
        map.iter().map(move |Mapping { inside, outside, size }| format!("{kind} {inside} {outside} {size}"))
    })
}

/// Whether LXC mounts a procfs over the host's, for the init to take away.
pub(crate) fn has_proc(namespaces: &Namespaces) -> bool {
    namespaces.new & flag::NEWPID != 0
}

/// A path below the root of each hierarchy. LXC takes a line's rest, less the blanks and the quotes around it.
pub(crate) fn cgroup_value(path: &str) -> Result<&str> {
    let value = path.trim_start_matches('/');
    let odd = |sign: char| sign.is_control() || sign == '"' || sign == '\'' || sign == '#';
    if value.contains(odd) || value.trim() != value {
        return Err(Error::unsupported(format!("cgroup path {path:?} on the lxc backend"))
            .because("LXC's configuration cannot hold it")
            .at("linux/cgroupsPath"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_what_lxc_does_and_nothing_else() {
        let namespaces = Namespaces {
            new: flag::NEWNS | flag::NEWPID | flag::NEWUSER,
            uid_map: vec![Mapping { inside: 0, outside: 100_000, size: 65536 }],
            ..Namespaces::default()
        };
        assert_eq!(
            text(&namespaces, &[], "/a/b").unwrap(),
            "lxc.console.path = none\nlxc.tty.max = 0\nlxc.autodev = 0\nlxc.apparmor.profile = unconfined\n\
             lxc.mount.auto = proc:rw\nlxc.namespace.clone = mnt pid user\nlxc.idmap = u 0 100000 65536\n\
             lxc.cgroup.dir.container = a/b/container\nlxc.cgroup.dir.monitor = a/b/lxcmon\n\
             lxc.cgroup.dir.monitor.pivot = a/b/pivot\n"
        );
    }

    #[test]
    fn a_path_that_the_file_cannot_hold_is_refused_by_its_place() {
        for path in ["/a\"b", "/a\tb", "/a b ", "/#a"] {
            assert_eq!(cgroup_value(path).unwrap_err().pointer(), Some("linux/cgroupsPath"), "{path:?}");
        }
        assert_eq!(cgroup_value("/a b/c").unwrap(), "a b/c");
    }
}
