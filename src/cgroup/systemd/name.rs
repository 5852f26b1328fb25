//! The unit of a container and the cgroup that it is, from `linux/cgroupsPath` as `SLICE:PREFIX:NAME`.

use wharf_core::{ContainerId, Error, Manager, Result};

const AT: &str = "linux/cgroupsPath";
/// Longest name that systemd takes, its suffix included.
const LONGEST: usize = 255;

/// A scope and the slice that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) scope: String,
    pub(crate) slice: String,
    /// Below the manager's own cgroup, with a `/` before it.
    pub(crate) path: String,
}

/// The rules are runc's:
///
/// - an empty SLICE is `system.slice`, or `user.slice` with a user's manager;
/// - the scope is `PREFIX-NAME.scope`, whatever NAME ends in;
/// - no path at all is `wharf` as PREFIX and the id as NAME.
///
/// A NAME that ends in `.slice` would be a slice there, which takes no process: it is refused here.
pub(crate) fn resolve(cgroups_path: Option<&str>, id: &ContainerId, manager: Manager) -> Result<Name> {
    let asked = cgroups_path.filter(|path| !path.is_empty());
    let shown = || asked.unwrap_or(id.as_str()).chars().take(128).collect::<String>();
    let wrong = |why: &str| Err(Error::invalid(format!("cgroup path {:?}", shown())).because(why).at(AT));
    let (slice, prefix, name) = match asked {
        None => ("", "wharf", id.as_str()),
        Some(path) => {
            let mut parts = path.split(':');
            match (parts.next(), parts.next(), parts.next(), parts.next()) {
                (Some(slice), Some(prefix), Some(name), None) => (slice, prefix, name),
                _ => return wrong("is SLICE:PREFIX:NAME with --systemd-cgroup"),
            }
        }
    };
    if name.is_empty() {
        return wrong("has no NAME");
    }
    if name.ends_with(".slice") {
        return wrong("names a slice, and systemd puts processes into scopes only");
    }
    let scope = format!("{prefix}-{name}.scope");
    if scope.len() > LONGEST {
        return wrong("is too long: the name of a unit has 255 bytes at most");
    }
    if !scope.bytes().all(is_allowed) {
        return wrong("holds a byte that no name of a unit can: letters, digits and :-_.\\ are allowed");
    }
    let slice = match (slice, manager) {
        ("", Manager::System) => "system.slice",
        ("", Manager::User) => "user.slice",
        (slice, _) => slice,
    };
    let Some(above) = expand(slice) else {
        return wrong("is not of a slice: NAME.slice, where each - leads to one inside of the other");
    };
    Ok(Name { path: format!("{above}/{scope}"), scope, slice: slice.to_owned() })
}

/// What systemd allows in the name of a unit.
fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b":-_.\\".contains(&byte)
}

/// `a-b-c.slice` as `/a.slice/a-b.slice/a-b-c.slice` (systemd.slice(5)); `-.slice` is the root.
fn expand(slice: &str) -> Option<String> {
    let name = slice.strip_suffix(".slice").filter(|name| !name.is_empty() && slice.len() <= LONGEST)?;
    if name == "-" {
        return Some(String::new());
    }
    if !name.bytes().all(is_allowed) {
        return None;
    }
    let mut path = String::new();
    for (at, _) in name.match_indices('-').chain([(name.len(), "")]) {
        if at == 0 || name[..at].ends_with('-') {
            return None;
        }
        path.push_str(&format!("/{}.slice", &name[..at]));
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(path: &str, manager: Manager) -> Result<Name> {
        resolve(Some(path), &ContainerId::new("c1").unwrap(), manager)
    }

    #[test]
    fn names_follow_the_rules_of_runc() {
        for (path, scope, slice, cgroup) in [
            ("", "wharf-c1.scope", "system.slice", "/system.slice/wharf-c1.scope"),
            ("::n", "-n.scope", "system.slice", "/system.slice/-n.scope"),
            (":p:n", "p-n.scope", "system.slice", "/system.slice/p-n.scope"),
            ("machine.slice:libpod:ab12", "libpod-ab12.scope", "machine.slice", "/machine.slice/libpod-ab12.scope"),
            ("a-b-c.slice:p:n", "p-n.scope", "a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice/p-n.scope"),
            ("-.slice:p:n", "p-n.scope", "-.slice", "/p-n.scope"),
            ("a.slice:p:n.scope", "p-n.scope.scope", "a.slice", "/a.slice/p-n.scope.scope"),
            ("a\\x2db.slice:p:n", "p-n.scope", "a\\x2db.slice", "/a\\x2db.slice/p-n.scope"),
        ] {
            let found = name(path, Manager::System).unwrap();
            assert_eq!((found.scope.as_str(), found.slice.as_str(), found.path.as_str()), (scope, slice, cgroup));
        }
        assert_eq!(name("", Manager::User).unwrap().path, "/user.slice/wharf-c1.scope");
        assert_eq!(name("app.slice:p:n", Manager::User).unwrap().path, "/app.slice/p-n.scope");
    }

    #[test]
    fn what_cannot_be_a_unit_is_refused_by_name() {
        let long = format!("a.slice:p:{}", "n".repeat(250));
        let many = format!("{}.slice:p:n", "a".repeat(260));
        for path in [
            "/a/b",
            "a.slice:n",
            "a.slice:p:n:m",
            "a.slice:p:",
            "a.slice:p:n.slice",
            "a:p:n",
            ".slice:p:n",
            "-a.slice:p:n",
            "a-.slice:p:n",
            "a--b.slice:p:n",
            "a/b.slice:p:n",
            "a.slice:p:n/m",
            "a.slice:p:n m",
            "a.slice:p:n+",
            "a b.slice:p:n",
            "../x.slice:p:n",
            &long,
            &many,
        ] {
            let error = name(path, Manager::System).unwrap_err();
            assert_eq!(error.pointer(), Some("linux/cgroupsPath"), "{path:?}");
        }
    }
}
