//! openat2(2) for kernels that lack it: every name of a path is opened by itself, and no link is followed but by its text.
//!
//! Whatever somebody renames or replaces meanwhile, the walk is always in a directory that it has come to downwards from
//! where it began. `..` leads back on the same way, to a descriptor that is still open, and never to what the kernel has
//! above a directory by now.

use crate::fd::{self, openat, resolve};
use crate::{CWD, Errno, Result, mount};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Links that are followed, as the kernel has it (path_resolution(7)).
const LINKS: usize = 40;
const PROC_SUPER_MAGIC: i64 = 0x9fa0;
const PROC_ROOT_INODE: u64 = 1;

struct Walk {
    /// From where it began to where it is; never empty.
    way: Vec<OwnedFd>,
    /// The names to come, the next one last.
    names: Vec<Vec<u8>>,
    /// The path ends with a slash or a dot: what is found must be a directory, and a link there is followed.
    slash: bool,
    resolve: u64,
    links: usize,
    /// The mount that it may not leave.
    mount: Option<Mount>,
}

/// As openat2(2), but nothing is made on the way.
pub(crate) fn open(dir: impl AsFd, path: &CStr, flags: i32, resolve: u64) -> Result<OwnedFd> {
    if flags & (libc::O_CREAT | libc::O_TMPFILE & !libc::O_DIRECTORY) != 0 {
        return Err(Errno::EINVAL);
    }
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    let confined = resolve & (resolve::IN_ROOT | resolve::BENEATH) != 0;
    let from = match path.to_bytes().first() {
        Some(b'/') if resolve & resolve::BENEATH != 0 => return Err(Errno::EXDEV),
        Some(b'/') if !confined => openat(CWD, c"/", libc::O_PATH | libc::O_DIRECTORY, 0)?,
        _ => openat(dir, c".", libc::O_PATH | libc::O_DIRECTORY, 0)?,
    };
    let mount = match resolve & resolve::NO_XDEV {
        0 => None,
        _ => Some(Mount::of(&from)?),
    };
    let mut walk = Walk { way: vec![from], names: Vec::new(), slash: false, resolve, links: 0, mount };
    walk.add(path.to_bytes());
    walk.go(flags)
}

impl Walk {
    fn is(&self, flag: u64) -> bool {
        self.resolve & flag != 0
    }

    fn here(&self) -> &OwnedFd {
        &self.way[self.way.len() - 1]
    }

    /// Puts the names of a path before those that are still to come.
    fn add(&mut self, path: &[u8]) {
        if self.names.is_empty() && (path.ends_with(b"/") || path.ends_with(b"/.") || path == b".") {
            self.slash = true;
        }
        let names = path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
        self.names.extend(names.rev().map(<[u8]>::to_vec));
    }

    fn go(mut self, flags: i32) -> Result<OwnedFd> {
        let directory = flags & libc::O_DIRECTORY != 0;
        while let Some(name) = self.names.pop() {
            if name == b".." {
                self.back()?;
                continue;
            }
            let last = self.names.is_empty();
            let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
            let found = openat(self.here(), &name, libc::O_PATH | libc::O_NOFOLLOW, 0)?;
            self.stay(&found)?;
            let kind = fd::stat(&found)?.st_mode & libc::S_IFMT;
            if kind == libc::S_IFLNK {
                if last && flags & libc::O_NOFOLLOW != 0 && !self.slash {
                    return match flags & libc::O_PATH {
                        _ if directory => Err(Errno::ENOTDIR),
                        0 => Err(Errno::ELOOP),
                        _ => Ok(found),
                    };
                }
                self.follow(&found)?;
                continue;
            }
            if kind != libc::S_IFDIR && (!last || directory || self.slash) {
                return Err(Errno::ENOTDIR);
            }
            if !last || kind == libc::S_IFDIR {
                self.way.push(found);
                continue;
            }
            if flags & libc::O_PATH != 0 {
                return Ok(found);
            }
            // Whatever the name means by now, it is in this directory and no link.
            let opened = openat(self.here(), &name, flags | libc::O_NOFOLLOW, 0)?;
            self.stay(&opened)?;
            return Ok(opened);
        }
        openat(self.here(), c".", flags, 0)
    }

    fn back(&mut self) -> Result<()> {
        if self.way.len() > 1 {
            self.way.pop();
            return Ok(());
        }
        if self.is(resolve::IN_ROOT) {
            return Ok(());
        }
        if self.is(resolve::BENEATH | resolve::NO_XDEV) {
            return Err(Errno::EXDEV);
        }
        self.way[0] = openat(self.here(), c"..", libc::O_PATH | libc::O_DIRECTORY, 0)?;
        Ok(())
    }

    fn follow(&mut self, link: &OwnedFd) -> Result<()> {
        self.links += 1;
        if self.is(resolve::NO_SYMLINKS) || self.links > LINKS || self.is_magic(link)? {
            return Err(Errno::ELOOP);
        }
        let mut target = [0; libc::PATH_MAX as usize];
        let length = fd::readlinkat(link, c"", &mut target)?;
        let target = &target[..length];
        if target.is_empty() {
            return Err(Errno::ENOENT);
        }
        if target[0] == b'/' {
            if self.is(resolve::IN_ROOT) {
                self.way.truncate(1);
            } else if self.is(resolve::BENEATH | resolve::NO_XDEV) {
                return Err(Errno::EXDEV);
            } else {
                self.way = vec![openat(CWD, c"/", libc::O_PATH | libc::O_DIRECTORY, 0)?];
            }
        }
        self.add(target);
        Ok(())
    }

    /// On a procfs only the links in its root are made of text.
    fn is_magic(&self, link: &OwnedFd) -> Result<bool> {
        let above = self.here();
        Ok(fd::filesystem_type(link)? == PROC_SUPER_MAGIC
            && !(fd::filesystem_type(above)? == PROC_SUPER_MAGIC && fd::stat(above)?.st_ino == PROC_ROOT_INODE))
    }

    fn stay(&self, file: &OwnedFd) -> Result<()> {
        match &self.mount {
            Some(mount) if !mount.has(file, &self.way[0])? => Err(Errno::EXDEV),
            _ => Ok(()),
        }
    }
}

/// How a mount is told from others.
enum Mount {
    Number(u64),
    /// Where no call tells the number: the device. A procfs, on which a file of its own may be mounted over another one,
    /// tells the number.
    Device(u64),
}

impl Mount {
    fn of(dir: &OwnedFd) -> Result<Self> {
        match number(dir, dir)? {
            Some(number) => Ok(Mount::Number(number)),
            None => Ok(Mount::Device(fd::stat(dir)?.st_dev)),
        }
    }

    fn has(&self, file: &OwnedFd, dir: &OwnedFd) -> Result<bool> {
        Ok(match self {
            Mount::Number(ours) => number(file, dir)? == Some(*ours),
            Mount::Device(device) => fd::stat(file)?.st_dev == *device,
        })
    }
}

fn number(file: &OwnedFd, dir: &OwnedFd) -> Result<Option<u64>> {
    if let Some(number) = mount::number_by_statx(file)? {
        return Ok(Some(number));
    }
    if fd::filesystem_type(dir)? != PROC_SUPER_MAGIC || fd::stat(dir)?.st_ino != PROC_ROOT_INODE {
        return Ok(None);
    }
    mount::number_by_fdinfo(dir, file.as_raw_fd()).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    const IN_ROOT: u64 = resolve::IN_ROOT | resolve::NO_MAGICLINKS;

    struct Place(PathBuf, OwnedFd);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("wharf-walk-{name}-{}", std::process::id()));
            std::fs::create_dir_all(path.join("root/a/b")).unwrap();
            std::fs::write(path.join("outside"), "outside").unwrap();
            std::fs::write(path.join("root/file"), "file").unwrap();
            std::fs::write(path.join("root/a/b/deep"), "deep").unwrap();
            let root = crate::dir::open(&path.join("root")).unwrap();
            Place(path, root)
        }

        fn link(&self, target: impl AsRef<Path>, name: &str) {
            symlink(target, self.0.join("root").join(name)).unwrap();
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// What is read there, or the errno.
    fn read(opened: Result<OwnedFd>) -> Result<Vec<u8>> {
        let opened = opened?;
        if fd::stat(&opened)?.st_mode & libc::S_IFMT == libc::S_IFDIR {
            return Ok(format!("inode {}", fd::stat(&opened)?.st_ino).into_bytes());
        }
        fd::read_to_end(opened, 4096)
    }

    /// The kernel's own call is the judge, where it is there.
    #[test]
    fn it_finds_what_openat2_finds() {
        let place = Place::new("same");
        place.link("/file", "absolute");
        place.link("../../outside", "out");
        place.link("a/b", "directory");
        place.link("a/b/", "directory-slash");
        place.link("loop", "loop");
        place.link("missing", "dangling");
        place.link("/proc/self/root/outside", "magic");
        place.link("../..", "a/up");
        place.link("absolute", "chain");
        place.link(".", "self");
        let paths = [
            "file",
            "/file",
            "./file",
            "file/",
            "file/.",
            "a",
            "a/",
            "a/.",
            "a/..",
            "..",
            "/",
            ".",
            "../../file",
            "a/../../file",
            "a/b/deep",
            "a//b/./deep",
            "a/b/../../file",
            "absolute",
            "absolute/",
            "chain",
            "out",
            "directory/deep",
            "directory-slash/deep",
            "directory/../b/deep",
            "loop",
            "dangling",
            "dangling/x",
            "magic",
            "a/up/file",
            "self/self/file",
            "missing",
            "missing/..",
            "file/..",
            "file/x",
            "a/b/deep/",
            "/proc/self",
            "",
        ];
        let flags = [libc::O_RDONLY, libc::O_RDONLY | libc::O_NOFOLLOW, libc::O_RDONLY | libc::O_DIRECTORY];
        for resolve in
            [IN_ROOT, IN_ROOT | resolve::NO_SYMLINKS, resolve::BENEATH, resolve::BENEATH | resolve::NO_SYMLINKS]
        {
            for path in paths {
                for flags in flags {
                    let text = CString::new(path).unwrap();
                    let kernel = match fd::openat2_only(&place.1, &text, flags, 0, resolve) {
                        Err(Errno::ENOSYS) => return,
                        other => read(other),
                    };
                    let ours = read(open(&place.1, &text, flags, resolve));
                    assert_eq!(ours, kernel, "{path:?} with flags {flags:#x}, resolve {resolve:#x}");
                }
            }
        }
    }

    #[test]
    fn a_path_handle_is_of_what_the_path_means() {
        let place = Place::new("handle");
        place.link("a", "link");
        let inode =
            |path: &CStr, flags: i32| fd::stat(open(&place.1, path, libc::O_PATH | flags, IN_ROOT).unwrap()).unwrap();
        assert_eq!(inode(c"link", 0).st_ino, inode(c"a", 0).st_ino);
        assert_eq!(inode(c"link", libc::O_NOFOLLOW).st_mode & libc::S_IFMT, libc::S_IFLNK);
        assert_eq!(inode(c"a/b/..", 0).st_ino, inode(c"a", 0).st_ino);
    }

    #[test]
    fn nothing_leads_out_of_a_procfs_or_through_its_magic() {
        let how = resolve::BENEATH | resolve::NO_XDEV | resolve::NO_MAGICLINKS;
        let proc = openat(CWD, c"/proc", libc::O_PATH | libc::O_DIRECTORY, 0).unwrap();
        let attempt = |path: &CStr| open(&proc, path, libc::O_RDONLY, how).map(drop);
        assert_eq!(attempt(c"self/status"), Ok(()));
        assert_eq!(attempt(c"self/exe"), Err(Errno::ELOOP));
        assert_eq!(attempt(c"self/cwd/."), Err(Errno::ELOOP));
        assert_eq!(attempt(c"self/root/etc"), Err(Errno::ELOOP));
        assert_eq!(attempt(c"../etc"), Err(Errno::EXDEV));
        // The numbers of mounts, also by the way of kernels that tell them only there.
        let by_fdinfo = mount::number_by_fdinfo(&proc, proc.as_raw_fd()).unwrap();
        assert!(by_fdinfo > 0);
        let root = openat(CWD, c"/", libc::O_PATH | libc::O_DIRECTORY, 0).unwrap();
        assert_ne!(mount::number_by_fdinfo(&proc, root.as_raw_fd()).unwrap(), by_fdinfo);
        let way = resolve::NO_XDEV | resolve::NO_SYMLINKS;
        assert_eq!(open(&root, c"proc/version", libc::O_RDONLY, way).map(drop), Err(Errno::EXDEV));
    }

    #[test]
    fn a_directory_that_is_moved_away_leads_back_the_way_it_was_entered() {
        let place = Place::new("moved");
        place.link("../../outside", "a/b/escape");
        let root = place.0.join("root");
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let _ = std::fs::rename(root.join("a/b"), root.join("b"));
                    let _ = std::fs::rename(root.join("b"), root.join("a/b"));
                }
            });
            for _ in 0..2000 {
                for path in [c"a/b/../../../outside", c"a/b/escape", c"a/b/../../../../outside"] {
                    let found = read(open(&place.1, path, libc::O_RDONLY, IN_ROOT));
                    assert_eq!(found, Err(Errno::ENOENT));
                }
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
}
