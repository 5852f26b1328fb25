//! /proc, reached only through a descriptor whose type and root were checked.

use crate::fd::{self, resolve};
use crate::lot::served;
use crate::{CWD, Errno, Result};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const PROC_SUPER_MAGIC: i64 = 0x9fa0;
const PROC_ROOT_INODE: u64 = 1;

/// The root of a real procfs.
#[derive(Debug)]
pub struct Procfs(OwnedFd);

impl AsFd for Procfs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Procfs {
    /// Opens the host's /proc. `EXDEV` means that something else is there: a bind mount over it would redirect our
    /// writes (CVE-2019-16884, CVE-2025-52881).
    pub fn open() -> Result<Self> {
        Self::checked(fd::openat(CWD, c"/proc", libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0)?)
    }

    /// The same of a descriptor that is thought to be one.
    pub fn of(root: impl AsFd) -> Result<Self> {
        Self::checked(fd::openat(root, c".", libc::O_PATH | libc::O_DIRECTORY, 0)?)
    }

    fn checked(root: OwnedFd) -> Result<Self> {
        if fd::filesystem_type(&root)? != PROC_SUPER_MAGIC || fd::stat(&root)?.st_ino != PROC_ROOT_INODE {
            return Err(Errno::EXDEV);
        }
        Ok(Procfs(root))
    }

    /// To be closed some time later, with others.
    pub fn leave(self) {
        served(self.0);
    }

    /// Opens a file below it, never over a mount or a magic link.
    pub fn open_file(&self, path: &CStr, flags: i32) -> Result<OwnedFd> {
        fd::openat2(&self.0, path, flags, 0, resolve::BENEATH | resolve::NO_XDEV | resolve::NO_MAGICLINKS)
    }

    /// Opens what a magic link of ours points to: `self/ns/net`, `self/exe`. The link itself is not crossed by a mount.
    pub fn open_link(&self, path: &CStr, flags: i32) -> Result<OwnedFd> {
        let bytes = path.to_bytes();
        let split = bytes.iter().rposition(|byte| *byte == b'/').ok_or(Errno::EINVAL)?;
        let directory = CString::new(&bytes[..split]).map_err(|_| Errno::EINVAL)?;
        let name = CString::new(&bytes[split + 1..]).map_err(|_| Errno::EINVAL)?;
        let directory = self.open_file(&directory, libc::O_PATH | libc::O_DIRECTORY)?;
        fd::openat(&directory, &name, flags, 0)
    }

    /// Writes a value in one call, as most files here demand.
    pub fn write(&self, path: &CStr, value: &[u8]) -> Result<()> {
        let file = served(self.open_file(path, libc::O_WRONLY)?);
        let written = fd::write(file, value)?;
        if written == value.len() { Ok(()) } else { Err(Errno::EIO) }
    }

    /// Reads a small file: at most 64 KiB.
    pub fn read(&self, path: &CStr) -> Result<Vec<u8>> {
        fd::read_to_end(served(self.open_file(path, libc::O_RDONLY)?), 65536)
    }

    /// When a process began: clock ticks after boot, field 22 of `PID/stat`. `ENOENT` or `ESRCH`: there is none.
    pub fn start_time(&self, pid: i32) -> Result<u64> {
        let path = CString::new(format!("{pid}/stat")).map_err(|_| Errno::EINVAL)?;
        let mut buffer = [0; 1024];
        let length = fd::read(served(self.open_file(&path, libc::O_RDONLY)?), &mut buffer)?;
        field(&buffer[..length], 22).ok_or(Errno::EIO)
    }

    /// `PID/stat`, to be read with [`Stat::of`] as long as there is such a process, and never of another one.
    pub fn open_stat(&self, pid: i32) -> Result<OwnedFd> {
        let path = CString::new(format!("{pid}/stat")).map_err(|_| Errno::EINVAL)?;
        self.open_file(&path, libc::O_RDONLY)
    }

    /// The pid of the process behind a pidfd, as it is here; `ESRCH` where it has ended, or is not to be seen here.
    pub fn pid_of(&self, pidfd: impl AsFd) -> Result<i32> {
        let path = CString::new(format!("self/fdinfo/{}", pidfd.as_fd().as_raw_fd())).map_err(|_| Errno::EINVAL)?;
        let text = self.read(&path)?;
        let text = String::from_utf8_lossy(&text);
        let pid = text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok()).ok_or(Errno::EINVAL)?;
        if pid > 0 { Ok(pid) } else { Err(Errno::ESRCH) }
    }

    /// Whether a process is on its way out (`PF_EXITING` in field 9 of `PID/stat`): the first one of a pid namespace may
    /// be so for long, as it waits for all others, and nobody is born there any more.
    pub fn is_exiting(&self, pid: i32) -> Result<bool> {
        const EXITING: u64 = 0x4;
        let path = CString::new(format!("{pid}/stat")).map_err(|_| Errno::EINVAL)?;
        let mut buffer = [0; 1024];
        let length = fd::read(served(self.open_file(&path, libc::O_RDONLY)?), &mut buffer)?;
        Ok(field(&buffer[..length], 9).ok_or(Errno::EIO)? & EXITING != 0)
    }

    /// The kernel's name for this boot, or, in a container of LXC, its name for that container's: it mounts one over the
    /// kernel's. It is compared with itself alone, so whoever made our own /proc may say it.
    pub fn boot_id(&self) -> Result<String> {
        let path = c"sys/kernel/random/boot_id";
        let file = match self.open_file(path, libc::O_RDONLY) {
            Err(Errno::EXDEV) => {
                let how = resolve::BENEATH | resolve::NO_SYMLINKS;
                fd::openat2(&self.0, path, libc::O_RDONLY | libc::O_NONBLOCK, 0, how)?
            }
            other => other?,
        };
        let mut buffer = [0; 64];
        let length = fd::read(served(file), &mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).trim().to_owned())
    }
}

/// What `PID/stat` says now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// It has ended, and its parent has not collected it yet.
    pub zombie: bool,
    pub start_time: u64,
    /// Whether a process that lives shows the caller what is for those who may trace it. Where it does not, `status` is 0.
    pub shown: bool,
    /// As wait(2) gives it; of a zombie alone.
    pub status: i32,
}

impl Stat {
    /// `ESRCH` when its parent has collected it.
    pub fn of(file: impl AsFd) -> Result<Stat> {
        let mut buffer = [0; 1024];
        let length = fd::read_at(file, &mut buffer, 0)?;
        Self::parse(&buffer[..length]).ok_or(Errno::EIO)
    }

    fn parse(stat: &[u8]) -> Option<Stat> {
        const START_CODE: usize = 26;
        const EXIT_CODE: usize = 52;
        let state = *stat.get(stat.iter().rposition(|byte| *byte == b')')? + 2)?;
        Some(Stat {
            zombie: state == b'Z',
            start_time: field(stat, 22)?,
            // 1 stands for what is hidden.
            shown: field(stat, START_CODE)? > 1,
            status: field(stat, EXIT_CODE)?.try_into().ok()?,
        })
    }
}

/// A number of `PID/stat` behind the command, by its place in proc_pid_stat(5). The command, field 2, may hold spaces and
/// parentheses, so fields are counted from the last parenthesis on.
fn field(stat: &[u8], number: usize) -> Option<u64> {
    let text = std::str::from_utf8(stat).ok().or_else(|| {
        let from = stat.iter().rposition(|byte| *byte == b')')?;
        std::str::from_utf8(&stat[from..]).ok()
    })?;
    text[text.rfind(')')? + 1..].split_ascii_whitespace().nth(number - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_a_hostile_name() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        let stat = format!("7 (a b) 1 (c) {tail}");
        assert_eq!((field(stat.as_bytes(), 22), field(stat.as_bytes(), 9)), (Some(4242), Some(6)));
        assert_eq!(field(b"7 (", 22), None);
    }

    #[test]
    fn a_zombie_tells_its_status() {
        let numbers: Vec<String> = (4..52).map(|number| number.to_string()).collect();
        let stat = |state: char, last: u32| format!("7 (a) Z) {state} {} {last}\n", numbers.join(" "));
        let read = Stat::parse(stat('Z', 1792).as_bytes()).unwrap();
        assert_eq!(read, Stat { zombie: true, start_time: 22, shown: true, status: 1792 });
        assert!(!Stat::parse(stat('S', 0).as_bytes()).unwrap().zombie);
        assert_eq!(Stat::parse(b"7 (a) Z 4 5"), None);
    }

    #[test]
    fn our_own_start_time_is_read() {
        let proc = Procfs::open().unwrap();
        assert!(proc.start_time(crate::process::pid()).unwrap() > 0);
        assert_eq!(proc.boot_id().unwrap().len(), 36);
    }
}
