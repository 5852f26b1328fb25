//! Places for mounts in a root file system that may never have been a container's: a restore makes what `create` would.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use wharf_core::{Error, Result};
use wharf_sys::fd::{self, resolve};
use wharf_sys::{CWD, Errno, libc};

const IN_ROOT: u64 = resolve::IN_ROOT | resolve::NO_MAGICLINKS;

/// Makes each of `places`, which are on no other mount, where it is missing: a directory, or an empty file.
pub(crate) fn make<'a>(rootfs: &str, places: impl Iterator<Item = (&'a str, bool)>) -> Result<()> {
    let failed =
        |place: &str, errno: Errno| Error::system(format!("make {place} in root file system {rootfs}"), errno as i32);
    let path = CString::new(rootfs).map_err(|_| failed("/", Errno::EINVAL))?;
    let root = fd::openat(CWD, &path, libc::O_PATH | libc::O_DIRECTORY, 0).map_err(|errno| failed("/", errno))?;
    for (place, directory) in places {
        one(&root, place, directory).map_err(|errno| failed(place, errno))?;
    }
    Ok(())
}

fn one(root: &OwnedFd, place: &str, directory: bool) -> Result<(), Errno> {
    let text = |bytes: &str| CString::new(bytes).map_err(|_| Errno::EINVAL);
    match fd::openat2(root, &text(place)?, libc::O_PATH, 0, IN_ROOT) {
        Err(Errno::ENOENT) => {}
        other => return other.map(drop),
    }
    // Every directory is opened in the root anew: a link leads nowhere else.
    let names: Vec<&str> = place.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    let mut above = "/".to_owned();
    for (index, name) in names.iter().enumerate() {
        let parent = fd::openat2(root, &text(&above)?, libc::O_PATH | libc::O_DIRECTORY, 0, IN_ROOT)?;
        let made = match directory || index + 1 < names.len() {
            true => fd::mkdirat(&parent, &text(name)?, 0o755),
            false => fd::mknodat(&parent, &text(name)?, libc::S_IFREG | 0o644, 0),
        };
        match made {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        above = format!("{above}{name}/");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    #[test]
    fn a_missing_place_is_made_inside_the_root_and_no_link_leads_out_of_it() {
        let top = std::env::temp_dir().join(format!("wharf-place-{}", std::process::id()));
        let (root, outside) = (top.join("root"), top.join("outside"));
        fs::create_dir_all(&root).unwrap();
        fs::create_dir_all(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("out")).unwrap();
        let make = |place, directory| super::make(root.to_str().unwrap(), [(place, directory)].into_iter());
        make("/a/b", true).unwrap();
        make("/a/b", true).unwrap();
        make("/etc/hosts", false).unwrap();
        assert!(root.join("a/b").is_dir() && root.join("etc/hosts").is_file());
        assert!(make("/out/x", true).is_err());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        fs::remove_dir_all(&top).unwrap();
    }
}
