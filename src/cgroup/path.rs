//! Where a container's cgroup is, from `linux/cgroupsPath` or the id.

use crate::layout::{Layout, Version};
use wharf_core::{ContainerId, Error, Result};

const AT: &str = "linux/cgroupsPath";
/// Longest path of a cgroup, with room for the mount point and a control file in PATH_MAX.
const LONGEST: usize = 3072;

/// One path a hierarchy, below its mount point, beginning with `/`. The rules are runc's:
///
/// - an absolute path is below the root of every hierarchy;
/// - a relative one is, on v1 and hybrid hosts, below our own cgroup in each hierarchy; on v2, where our own cgroup has
///   processes and so cannot have children with controllers, below its parent;
/// - none, or an empty one, is the id as a relative path.
///
/// `slice:prefix:name` means something to systemd only; here it is a name with colons in it.
pub(crate) fn resolve(layout: &Layout, cgroups_path: Option<&str>, id: &ContainerId) -> Result<Vec<String>> {
    let asked = cgroups_path.filter(|path| !path.is_empty());
    let path = asked.unwrap_or(id.as_str());
    let wrong = |why: &str| {
        let shown: String = path.chars().take(128).collect();
        Err(Error::invalid(format!("cgroup path {shown:?}")).because(why).at(AT))
    };
    if path.contains(['\0', '\n']) {
        return wrong("holds a NUL or a newline, which no cgroup's name can");
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return wrong("leads upwards with ..");
    }
    if parts.is_empty() {
        return wrong("is the root of the hierarchy, which cannot be a container's");
    }
    if parts.iter().any(|part| part.len() > 255) || path.len() > LONGEST {
        return wrong("is too long: 255 bytes a level and 3072 in all are allowed");
    }
    let clean = parts.join("/");
    let absolute = path.starts_with('/');
    let only_v2 = layout.version() == Version::V2;
    let below = |own: &str| {
        let above = match (absolute, only_v2) {
            (true, _) => "",
            (false, true) => own.rsplit_once('/').map_or("", |(parent, _)| parent),
            (false, false) => own.trim_end_matches('/'),
        };
        format!("{above}/{clean}")
    };
    Ok(layout.hierarchies.iter().map(|hierarchy| below(&hierarchy.own)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{hybrid, v2};

    fn paths(layout: &Layout, path: Option<&str>) -> Vec<String> {
        let mut paths = resolve(layout, path, &ContainerId::new("c1").unwrap()).unwrap();
        paths.dedup();
        paths
    }

    #[test]
    fn paths_follow_the_rules_of_runc() {
        let mut one = hybrid();
        for hierarchy in &mut one.hierarchies {
            hierarchy.own = "/own/scope".to_owned();
        }
        assert_eq!(paths(&one, Some("/a//./b/")), ["/a/b"]);
        assert_eq!(paths(&one, Some("a/b")), ["/own/scope/a/b"]);
        assert_eq!(paths(&one, None), ["/own/scope/c1"]);
        assert_eq!(paths(&one, Some("")), ["/own/scope/c1"]);
        let mut two = v2();
        assert_eq!(paths(&two, None), ["/c1"]);
        two.hierarchies[0].own = "/own/scope".to_owned();
        assert_eq!(paths(&two, Some("a/b")), ["/own/a/b"]);
        assert_eq!(paths(&two, Some("/a/b")), ["/a/b"]);
        assert_eq!(paths(&two, Some("system.slice:wharf:c1")), ["/own/system.slice:wharf:c1"]);
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_refused_by_name() {
        let long = format!("/{}", "x".repeat(256));
        let many = "/x".repeat(2000);
        for path in ["..", "/a/../b", "a/..", "/", ".", "/a\nb", "a\0", &long, &many] {
            let error = resolve(&v2(), Some(path), &ContainerId::new("c1").unwrap()).unwrap_err();
            assert_eq!(error.pointer(), Some("linux/cgroupsPath"), "{path:?}");
        }
    }
}
