//! Chooses the backend from the request, and can say why. Later verbs never ask: the record decides.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use wharf_core::{Error, Kind, Result};

/// Where runtimes are looked for by name. $PATH is the caller's, and not trusted with this.
const DIRECTORIES: &[&str] = &["/usr/local/bin", "/usr/bin", "/usr/sbin", "/usr/local/sbin"];

const RUNTIMES: &[&str] = &["crun", "runc"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Namespaces of this host, by our own hand.
    Native,
    /// Another runtime, by the name it was asked for and its absolute path.
    Delegate { name: String, path: PathBuf },
}

#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) place: Place,
    pub(crate) why: &'static str,
}

/// `asked` is `--backend`, or the configuration's.
pub(crate) fn choose(asked: Option<&str>) -> Result<Route> {
    match asked {
        None => Ok(Route { place: Place::Native, why: "the default" }),
        Some(name) => Ok(Route { place: place(name)?, why: "asked for" }),
    }
}

/// The place that a record names. Not looked for: a delegate's program is remembered in the record's private part.
pub(crate) fn recorded(name: &str) -> Place {
    match name {
        "native" => Place::Native,
        _ => Place::Delegate { name: name.to_owned(), path: PathBuf::from(name) },
    }
}

fn place(name: &str) -> Result<Place> {
    if name == "native" {
        return Ok(Place::Native);
    }
    let path = if name.starts_with('/') {
        let path = PathBuf::from(name);
        executable(&path)?;
        path
    } else if RUNTIMES.contains(&name) {
        find(name, DIRECTORIES)?
    } else {
        return Err(Error::new(Kind::Usage, format!("unknown backend {name:?}"))
            .hint("one of native, crun, runc or an absolute path"));
    };
    Ok(Place::Delegate { name: name.to_owned(), path })
}

fn find(name: &str, directories: &[&str]) -> Result<PathBuf> {
    directories.iter().map(|dir| Path::new(dir).join(name)).find(|path| executable(path).is_ok()).ok_or_else(|| {
        Error::new(Kind::System, format!("find backend {name}"))
            .because(format!("it is in none of {}", directories.join(", ")))
    })
}

fn executable(path: &Path) -> Result<()> {
    let doing = || format!("use backend {}", path.display());
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
    fn native_is_the_default_and_can_be_asked_for() {
        assert_eq!(choose(None).unwrap().place, Place::Native);
        let route = choose(Some("native")).unwrap();
        assert_eq!((route.place, route.why), (Place::Native, "asked for"));
    }

    #[test]
    fn a_runtime_by_path_is_taken_as_it_is_and_must_be_executable() {
        let place = place("/bin/sh").unwrap();
        assert_eq!(place, Place::Delegate { name: "/bin/sh".to_owned(), path: "/bin/sh".into() });
        assert!(choose(Some("/etc/passwd")).unwrap_err().to_string().contains("no executable file"));
        assert!(choose(Some("/no/such")).unwrap_err().to_string().contains("No such file"));
    }

    #[test]
    fn a_runtime_by_name_is_found_in_the_given_directories_alone() {
        assert_eq!(find("sh", &["/nowhere", "/bin"]).unwrap(), Path::new("/bin/sh"));
        assert_eq!(find("sh", &["/nowhere"]).unwrap_err().to_string(), "find backend sh: it is in none of /nowhere");
    }

    #[test]
    fn an_unknown_or_relative_name_is_a_mistake_of_the_caller() {
        for name in ["kata", "./crun", ""] {
            assert_eq!(choose(Some(name)).unwrap_err().kind(), Kind::Usage, "{name}");
        }
    }
}
