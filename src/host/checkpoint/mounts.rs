//! Which mounts of a container come from outside.

use std::collections::{BTreeMap, BTreeSet};
use wharf_core::ExternalMount;
use wharf_core::mountinfo::Mount;

/// File systems whose content CRIU writes down, or that are the kernel's own.
const INNER: [&str; 12] = [
    "proc",
    "sysfs",
    "tmpfs",
    "devpts",
    "mqueue",
    "cgroup",
    "cgroup2",
    "securityfs",
    "debugfs",
    "tracefs",
    "pstore",
    "binfmt_misc",
];

/// What comes from outside: bind mounts of config.json (`bound`, destination and source), cgroups of v1 where the
/// container sees the host's hierarchies, and whatever else is a part of a file system that is not the container's own.
/// `host` is the table of our own mounts: there the sources are looked for that nobody names.
pub(crate) fn external(
    inside: &[Mount],
    host: &[Mount],
    bound: &BTreeMap<String, String>,
    own_cgroups: bool,
) -> Vec<ExternalMount> {
    let whole: BTreeSet<u64> = inside
        .iter()
        .filter(|mount| mount.root == "/" && INNER.contains(&mount.kind.as_str()))
        .map(|mount| mount.device)
        .collect();
    let mut all: Vec<ExternalMount> = Vec::new();
    for mount in inside.iter().filter(|mount| mount.point != "/") {
        let source = match bound.get(&mount.point) {
            Some(source) => source.clone(),
            None if mount.kind.starts_with("cgroup") && own_cgroups => continue,
            None if mount.kind.starts_with("cgroup") => source(mount, host),
            None if whole.contains(&mount.device) => continue,
            None => below(mount, bound).unwrap_or_else(|| source(mount, host)),
        };
        // Of two at a place the later one is what is there.
        all.retain(|other| other.destination != mount.point);
        all.push(ExternalMount { destination: mount.point.clone(), source });
    }
    all
}

/// The source of a mount that a recursive bind mount has brought along.
fn below(mount: &Mount, bound: &BTreeMap<String, String>) -> Option<String> {
    let inside = |point: &&String| mount.point.strip_prefix(point.as_str()).is_some_and(|rest| rest.starts_with('/'));
    let point = bound.keys().filter(inside).max_by_key(|point| point.len())?;
    Some(format!("{}{}", bound[point], &mount.point[point.len()..]))
}

/// Where our own mounts show the same: nothing where they do not.
fn source(mount: &Mount, host: &[Mount]) -> String {
    let shows = |other: &&Mount| {
        other.device == mount.device
            && (other.root == "/"
                || mount.root == other.root
                || mount.root.strip_prefix(&other.root).is_some_and(|rest| rest.starts_with('/')))
    };
    let Some(other) = host.iter().filter(shows).max_by_key(|other| other.root.len()) else { return String::new() };
    let rest = mount.root.strip_prefix(other.root.trim_end_matches('/')).unwrap_or_default();
    match format!("{}{rest}", other.point.trim_end_matches('/')) {
        empty if empty.is_empty() => "/".to_owned(),
        path => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_core::mountinfo::parse;

    const INSIDE: &str = "\
86 64 254:0 /b/rootfs / rw,relatime - ext4 /dev/vda rw
87 86 0:41 / /proc rw - proc proc rw
88 86 0:42 / /dev rw - tmpfs tmpfs rw
94 93 0:29 /c1 /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu
104 86 254:0 /b/vol /vol rw,relatime master:7 - ext4 /dev/vda rw
105 104 0:50 / /vol/sub\\040dir rw - tmpfs tmpfs rw
106 87 0:6 /null /proc/keys rw - devtmpfs devtmpfs rw
107 87 0:41 /sys /proc/sys ro - proc proc rw
108 86 0:60 / /run rw - tmpfs tmpfs rw
";
    const HOST: &str = "\
20 1 254:0 / / rw - ext4 /dev/vda rw
21 20 0:6 / /dev rw - devtmpfs devtmpfs rw
22 20 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
";

    fn found(bound: &[(&str, &str)], own_cgroups: bool) -> Vec<String> {
        let bound = bound.iter().map(|(to, from)| ((*to).to_owned(), (*from).to_owned())).collect();
        let all = external(&parse(INSIDE), &parse(HOST), &bound, own_cgroups);
        all.into_iter().map(|one| format!("{} from {}", one.destination, one.source)).collect()
    }

    #[test]
    fn what_is_the_container_s_own_stays_inside() {
        assert_eq!(
            found(&[("/vol", "/b/vol")], false),
            ["/sys/fs/cgroup/cpu from /sys/fs/cgroup/cpu/c1", "/vol from /b/vol", "/proc/keys from /dev/null",]
        );
    }

    #[test]
    fn the_host_s_tmpfs_is_known_by_config_json_and_what_is_below_by_its_parent() {
        assert_eq!(
            found(&[("/vol", "/other"), ("/run", "/run"), ("/vol/sub dir", "/else")], true),
            ["/vol from /other", "/vol/sub dir from /else", "/proc/keys from /dev/null", "/run from /run"]
        );
    }
}
