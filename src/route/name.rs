//! What the name of a backend leads to.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use wharf_core::{Error, Kind, Result};

/// Where runtimes are looked for by name. $PATH is the caller's, and not trusted with this.
pub(super) const DIRECTORIES: &[&str] = &["/usr/local/bin", "/usr/bin", "/usr/sbin", "/usr/local/sbin"];

/// What makes containers of LXC.
pub(super) const LXC: &str = "/usr/bin/lxc-start";

/// Known without a configuration.
pub(super) const KNOWN: &[&str] = &["crun", "runc", "youki"];

/// Reserved for backends that this build does not have.
const LATER: &[(&str, &str)] = &[("qm", "machines of Proxmox VE")];

/// Another OCI runtime that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Runtime {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// Options before the verb of every call.
    pub(crate) args: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Later {
    pub(crate) what: &'static str,
}

/// A backend's name, understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Name<'r> {
    Native,
    Lxc,
    Pct,
    Vm,
    /// Of the configuration.
    Runtime(&'r Runtime),
    /// Looked for in the usual directories.
    Known,
    /// A runtime by its absolute path.
    Path,
    Later(Later),
    Unknown,
}

impl<'r> Name<'r> {
    pub(crate) fn of(text: &str, runtimes: &'r [Runtime]) -> Self {
        match text {
            "native" => return Name::Native,
            "lxc" => return Name::Lxc,
            _ => {}
        }
        if ["pct", "proxmox"].contains(&text) {
            return Name::Pct;
        }
        if ["vm", "qemu"].contains(&text) {
            return Name::Vm;
        }
        if let Some(runtime) = runtimes.iter().find(|runtime| runtime.name == text) {
            return Name::Runtime(runtime);
        }
        if let Some((_, what)) = LATER.iter().find(|(name, _)| *name == text) {
            return Name::Later(Later { what });
        }
        match text {
            _ if text.starts_with('/') => Name::Path,
            _ if KNOWN.contains(&text) => Name::Known,
            _ => Name::Unknown,
        }
    }
}

/// Where a container goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Namespaces of this host, by our own hand.
    Native,
    /// Containers that LXC makes.
    Lxc,
    /// Containers of a Proxmox node.
    Pct,
    /// A virtual machine of its own.
    Vm,
    /// Another runtime: the name it was asked for by, its absolute path, and its options.
    Delegate { name: String, path: PathBuf, args: Vec<String> },
}

/// The place of that name, if it can be used on this host.
pub(super) fn place(name: &str, runtimes: &[Runtime]) -> Result<Place> {
    let delegate = |path: PathBuf, args: &[String]| {
        executable(name, &path)?;
        Ok(Place::Delegate { name: name.to_owned(), path, args: args.to_vec() })
    };
    match Name::of(name, runtimes) {
        Name::Native => Ok(Place::Native),
        Name::Lxc => executable(name, Path::new(LXC)).map(|()| Place::Lxc),
        Name::Pct => Ok(Place::Pct),
        Name::Vm => Ok(Place::Vm),
        Name::Runtime(runtime) => delegate(runtime.path.clone(), &runtime.args),
        Name::Path => delegate(PathBuf::from(name), &[]),
        Name::Known => Ok(Place::Delegate { name: name.to_owned(), path: find(name, DIRECTORIES)?, args: Vec::new() }),
        Name::Later(Later { what }) => {
            Err(Error::new(Kind::Usage, format!("backend {name:?} ({what})")).because("is not in this build of wharf"))
        }
        Name::Unknown => Err(Error::new(Kind::Usage, format!("unknown backend {name:?}"))
            .hint("native, lxc, pct, vm, crun, runc, youki, a runtime of the configuration, or an absolute path")),
    }
}

/// What makes containers of a Proxmox node. Whether the node is in order is seen when one is made.
pub(super) fn node(configured: Option<&Path>) -> Result<PathBuf> {
    let path = configured.unwrap_or(Path::new("/usr/sbin/pct"));
    executable("pct", path).map(|()| path.to_owned())
}

/// What makes virtual machines, where it is not found elsewhere.
const QEMU: &str = "qemu-system-x86_64";

/// The program that makes virtual machines. Whether there is a kernel for them is seen when one is made.
pub(super) fn machines(configured: Option<&Path>) -> Result<PathBuf> {
    match configured {
        Some(path) => executable("vm", path).map(|()| path.to_owned()),
        None => find(QEMU, &["/usr/local/bin", "/usr/bin"]),
    }
}

pub(super) fn find(name: &str, directories: &[&str]) -> Result<PathBuf> {
    directories.iter().map(|dir| Path::new(dir).join(name)).find(|path| executable(name, path).is_ok()).ok_or_else(
        || {
            Error::new(Kind::System, format!("find backend {name}"))
                .because(format!("it is in none of {}", directories.join(", ")))
        },
    )
}

fn executable(name: &str, path: &Path) -> Result<()> {
    let doing = || match name.starts_with('/') {
        true => format!("use backend {}", path.display()),
        false => format!("use backend {name} at {}", path.display()),
    };
    let about = std::fs::metadata(path).map_err(|error| match error.raw_os_error() {
        Some(errno) => Error::system(doing(), errno),
        None => Error::new(Kind::System, doing()).because(error),
    })?;
    if !about.is_file() || about.permissions().mode() & 0o111 == 0 {
        return Err(Error::new(Kind::System, doing()).because("it is no executable file"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_by_path_is_taken_as_it_is_and_must_be_executable() {
        let sh = place("/bin/sh", &[]).unwrap();
        assert_eq!(sh, Place::Delegate { name: "/bin/sh".to_owned(), path: "/bin/sh".into(), args: Vec::new() });
        assert!(place("/etc/passwd", &[]).unwrap_err().to_string().contains("no executable file"));
        assert!(place("/no/such", &[]).unwrap_err().to_string().contains("No such file"));
    }

    #[test]
    fn a_runtime_by_name_is_found_in_the_given_directories_alone() {
        assert_eq!(find("sh", &["/nowhere", "/bin"]).unwrap(), Path::new("/bin/sh"));
        assert_eq!(find("sh", &["/nowhere"]).unwrap_err().to_string(), "find backend sh: it is in none of /nowhere");
    }

    #[test]
    fn a_configured_runtime_comes_before_the_directories() {
        let runtimes = [Runtime { name: "runc".to_owned(), path: "/bin/sh".into(), args: vec!["-x".to_owned()] }];
        let place = place("runc", &runtimes).unwrap();
        assert_eq!(
            place,
            Place::Delegate { name: "runc".to_owned(), path: "/bin/sh".into(), args: vec!["-x".to_owned()] }
        );
    }

    #[test]
    fn an_unknown_or_relative_name_is_a_mistake_of_the_caller() {
        for name in ["kata", "./crun", "", "qm"] {
            assert_eq!(place(name, &[]).unwrap_err().kind(), Kind::Usage, "{name}");
        }
        assert!(place("qm", &[]).unwrap_err().to_string().contains("not in this build"));
    }
}
