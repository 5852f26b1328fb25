//! Files of cgroup file systems, reached from one directory: written in one call, read, listed, made and removed.

use crate::fd::{read, resolve};
use crate::lot::served;
use crate::{CWD, Errno, Fd, Result, check, fd};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A directory that paths start from. No path leads out of it or through a link: `openat2` says so to the kernel, and
/// where a call knows no such flag (mkdirat, unlinkat) the file system does, because cgroup file systems hold no links.
#[derive(Debug)]
pub struct Dir(OwnedFd);

fn c_string(path: &str) -> Result<CString> {
    CString::new(path).map_err(|_| Errno::EINVAL)
}

impl Dir {
    /// Opens a directory of the host by its absolute path.
    pub fn open(path: &str) -> Result<Dir> {
        fd::openat(CWD, &c_string(path)?, libc::O_RDONLY | libc::O_DIRECTORY, 0).map(Dir)
    }

    fn open_file(&self, path: &str, flags: i32) -> Result<OwnedFd> {
        let resolve = resolve::BENEATH | resolve::NO_SYMLINKS | resolve::NO_MAGICLINKS;
        fd::openat2(&self.0, &c_string(path)?, flags, 0, resolve)
    }

    /// To be closed some time later, with others.
    pub fn leave(self) {
        served(self.0);
    }

    pub fn open_dir(&self, path: &str) -> Result<Dir> {
        self.open_file(path, libc::O_RDONLY | libc::O_DIRECTORY).map(Dir)
    }

    /// Opens a control file for several writes.
    pub fn open_control(&self, path: &str) -> Result<Control> {
        self.open_file(path, libc::O_WRONLY).map(|file| Control(served(file)))
    }

    /// Opens a control file for many reads.
    pub fn open_source(&self, path: &str) -> Result<Source> {
        self.open_file(path, libc::O_RDONLY).map(Source)
    }

    /// Writes `value` to an existing control file, in one call.
    pub fn write(&self, path: &str, value: &str) -> Result<()> {
        self.open_control(path)?.write(value)
    }

    /// The first `buffer` bytes of a control file: enough for a value, by one read.
    pub fn read_value(&self, path: &str) -> Result<String> {
        let file = served(self.open_file(path, libc::O_RDONLY)?);
        let mut buffer = [0; 4096];
        let length = read(file, &mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned())
    }

    /// A control file to its end: lists of processes are longer than one read.
    pub fn read_all(&self, path: &str) -> Result<String> {
        let file = served(self.open_file(path, libc::O_RDONLY)?);
        Ok(String::from_utf8_lossy(&fd::read_to_end(file, 64 << 20)?).into_owned())
    }

    pub fn exists(&self, path: &str) -> Result<bool> {
        self.access(path, libc::F_OK)
    }

    /// Whether the caller may make something in a directory.
    pub fn is_writable(&self, path: &str) -> Result<bool> {
        self.access(path, libc::W_OK | libc::X_OK)
    }

    fn access(&self, path: &str, mode: i32) -> Result<bool> {
        let path = c_string(path)?;
        // SAFETY: path is NUL-terminated.
        match check(unsafe { libc::faccessat(self.0.as_raw_fd(), path.as_ptr(), mode, 0) } as libc::c_long) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES | Errno::EPERM | Errno::EROFS) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    pub fn mkdir(&self, path: &str) -> Result<()> {
        fd::mkdirat(&self.0, &c_string(path)?, 0o755)
    }

    pub fn rmdir(&self, path: &str) -> Result<()> {
        fd::unlinkat(&self.0, &c_string(path)?, libc::AT_REMOVEDIR)
    }

    /// How many directories are in this one: kernfs keeps the link count true, so nothing is listed.
    pub fn count_dirs(&self) -> Result<u64> {
        let links = fd::stat(&self.0)?.st_nlink;
        #[allow(clippy::useless_conversion)]
        Ok(u64::from(links).saturating_sub(2))
    }

    /// Names of the directories in this one. To be called once on an open directory.
    pub fn list_dirs(&self) -> Result<Vec<String>> {
        // struct linux_dirent64 (getdents64(2)): inode 8, offset 8, length 2, type 1, name.
        const LENGTH: usize = 16;
        const TYPE: usize = 18;
        const NAME: usize = 19;
        let mut names = Vec::new();
        let mut buffer = [0u8; 4096];
        loop {
            let fd = self.0.as_raw_fd();
            // SAFETY: the buffer is ours and its length is given.
            let got =
                check(unsafe { libc::syscall(libc::SYS_getdents64, fd, buffer.as_mut_ptr(), buffer.len()) })? as usize;
            if got == 0 {
                return Ok(names);
            }
            let mut entries = &buffer[..got];
            while entries.len() > NAME {
                let length = usize::from(u16::from_ne_bytes([entries[LENGTH], entries[LENGTH + 1]]));
                let name = entries[NAME..length].split(|byte| *byte == 0).next().unwrap_or_default();
                if entries[TYPE] == libc::DT_DIR && name != b"." && name != b".." {
                    names.push(String::from_utf8_lossy(name).into_owned());
                }
                entries = &entries[length..];
            }
        }
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRef<OwnedFd> for Dir {
    fn as_ref(&self) -> &OwnedFd {
        &self.0
    }
}

/// A control file, open for writing.
#[derive(Debug)]
pub struct Control(Fd);

impl Control {
    /// One write(2): the kernel reads each as one whole command.
    pub fn write(&self, value: &str) -> Result<()> {
        match fd::write(self.0, value.as_bytes())? {
            length if length == value.len() => Ok(()),
            _ => Err(Errno::EIO),
        }
    }
}

/// A control file, open for reading.
#[derive(Debug)]
pub struct Source(OwnedFd);

impl Source {
    /// Reads it anew from its beginning, at most a mebibyte; what was in the buffer goes. `ENODEV` when its cgroup has
    /// been removed. A file of counters is one record, of which the kernel gives all that there is room for: who gets
    /// less than asked has it all. A list, as of processes, may come in parts.
    pub fn read_again(&self, buffer: &mut Vec<u8>) -> Result<()> {
        let mut length = 0;
        loop {
            if buffer.len() < length + 4096 {
                buffer.resize((2 * buffer.len()).max(length + 4096), 0);
            }
            length += fd::read_at(&self.0, &mut buffer[length..], length as u64)?;
            if length < buffer.len() || length >= 1 << 20 {
                break;
            }
        }
        buffer.truncate(length);
        Ok(())
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Names of the directories in one of the host's.
pub fn list_names(path: &str) -> Result<Vec<String>> {
    Dir::open(path)?.list_dirs()
}

/// A file of the host that the kernel writes in one piece (/proc/self/cgroup, a control file): one read is all of it.
pub fn read_piece(path: &str) -> Result<String> {
    let file = served(fd::openat(CWD, &c_string(path)?, libc::O_RDONLY, 0)?);
    let mut buffer = vec![0; 32 * 1024];
    let length = read(file, &mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// A file of the host that the kernel writes in many pieces (/proc/self/mountinfo).
pub fn read_pieces(path: &str) -> Result<String> {
    let file = served(fd::openat(CWD, &c_string(path)?, libc::O_RDONLY, 0)?);
    Ok(String::from_utf8_lossy(&fd::read_to_end(file, 64 << 20)?).into_owned())
}

/// A control file by its absolute path on the host, which holds no links: one read is all of it.
pub fn read_host_value(path: &str) -> Result<String> {
    let file = fd::openat2(CWD, &c_string(path)?, libc::O_RDONLY, 0, resolve::NO_SYMLINKS | resolve::NO_MAGICLINKS)?;
    let mut buffer = [0; 64];
    let length = read(served(file), &mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned())
}

/// Whether the cgroup v2 hierarchy alone is mounted on `path` (statfs(2)).
pub fn is_v2(path: &str) -> Result<bool> {
    let path = c_string(path)?;
    let mut stat = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: path is NUL-terminated; the buffer is a struct statfs and is read only after success.
    unsafe {
        check(libc::statfs(path.as_ptr(), stat.as_mut_ptr()) as libc::c_long)?;
        #[allow(clippy::unnecessary_cast)]
        Ok(stat.assume_init().f_type as i64 == libc::CGROUP2_SUPER_MAGIC as i64)
    }
}

/// Signals a process of a frozen cgroup: what cannot end cannot give its pid away, so the number is safe there.
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::kill(pid, signal) } as libc::c_long).map(drop)
}
