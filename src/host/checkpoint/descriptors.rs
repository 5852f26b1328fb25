//! The standard descriptors of a payload: what leads out of the container is another's on the way back.

use std::ffi::CString;
use wharf_core::mountinfo::Mount;
use wharf_core::{Error, Result};
use wharf_sys::procfs::Procfs;
use wharf_sys::{Errno, fd, libc};

/// One of the descriptors 0, 1 and 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standard {
    /// As /proc shows it.
    pub(crate) link: String,
    /// CRIU's name for a file that is on none of the container's mounts.
    pub(crate) outside: Option<String>,
    pub(crate) terminal: bool,
}

impl Standard {
    /// How the images name it.
    pub(crate) fn key(&self) -> &str {
        self.outside.as_deref().unwrap_or(&self.link)
    }
}

pub(crate) fn standard(proc: &Procfs, pid: i32, mounts: &[Mount]) -> Result<Vec<Standard>> {
    let look = |number: i32| -> Result<Option<Standard>, Errno> {
        let Some(link) = link(proc, pid, number)? else { return Ok(None) };
        let path = |file: &str| CString::new(format!("{pid}/{file}/{number}")).map_err(|_| Errno::EINVAL);
        let stat = fd::statat(proc, &path("fd")?, 0)?;
        let kind = stat.st_mode & libc::S_IFMT;
        let info = proc.read(&path("fdinfo")?)?;
        let info = String::from_utf8_lossy(&info);
        let mount: Option<u64> = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
        let own = mount.is_some_and(|mount| mounts.iter().any(|other| other.id == mount));
        // Major numbers 136 to 143 are ends of pseudo-terminals.
        let terminal = kind == libc::S_IFCHR && (136..=143).contains(&libc::major(stat.st_rdev));
        // A regular file would have to be of the same size on the way back.
        let outside = mount.filter(|_| kind == libc::S_IFCHR && !own && !terminal);
        let outside = outside.map(|mount| format!("file[{mount:x}:{:x}]", stat.st_ino));
        Ok(Some(Standard { link, outside, terminal }))
    };
    let all = (0..3).map(look).collect::<Result<Vec<_>, _>>();
    all.map(|all| all.into_iter().flatten().collect())
        .map_err(|errno| Error::system("look at the payload's standard descriptors", errno as i32))
}

/// Nothing where it is closed.
fn link(proc: &Procfs, pid: i32, number: i32) -> Result<Option<String>, Errno> {
    let dir = CString::new(format!("{pid}/fd")).map_err(|_| Errno::EINVAL)?;
    let dir = proc.open_file(&dir, libc::O_PATH | libc::O_DIRECTORY)?;
    let mut buffer = [0; libc::PATH_MAX as usize];
    match fd::readlinkat(&dir, &CString::new(number.to_string()).map_err(|_| Errno::EINVAL)?, &mut buffer) {
        Err(Errno::ENOENT) => Ok(None),
        other => other.map(|length| Some(String::from_utf8_lossy(&buffer[..length]).into_owned())),
    }
}
