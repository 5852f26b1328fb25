//! Places for mounts in a root file system, made by who has not entered it and must not be led out of it.

use crate::fd::{self, resolve};
use crate::{Errno, Result};
use std::ffi::CString;
use std::os::fd::AsFd;

const IN_ROOT: u64 = resolve::IN_ROOT | resolve::NO_MAGICLINKS;

/// Makes `place` in the directory `root` where it is missing: a directory, or an empty file.
pub fn make(root: impl AsFd, place: &str, directory: bool) -> Result<()> {
    let text = |bytes: &str| CString::new(bytes).map_err(|_| Errno::EINVAL);
    match fd::openat2(&root, &text(place)?, libc::O_PATH, 0, IN_ROOT) {
        Err(Errno::ENOENT) => {}
        other => return other.map(drop),
    }
    // Every directory is opened in the root anew: a link leads nowhere else.
    let names: Vec<&str> = place.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    let mut above = "/".to_owned();
    for (index, name) in names.iter().enumerate() {
        let parent = fd::openat2(&root, &text(&above)?, libc::O_PATH | libc::O_DIRECTORY, 0, IN_ROOT)?;
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
        let make = |place, directory| super::make(fs::File::open(&root).unwrap(), place, directory);
        make("/a/b", true).unwrap();
        make("/a/b", true).unwrap();
        make("/etc/hosts", false).unwrap();
        assert!(root.join("a/b").is_dir() && root.join("etc/hosts").is_file());
        assert!(make("/out/x", true).is_err());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        fs::remove_dir_all(&top).unwrap();
    }
}
