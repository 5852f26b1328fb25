//! The payload's terminal. No name of one is ever opened: the master is made in a directory that is the root of a devpts,
//! and everything else comes of the master (CVE-2025-52565).

use crate::perform::{Done, Failed, Init};
use crate::target;
use std::ffi::CStr;
use std::os::fd::OwnedFd;
use wharf_steps::Slot;
use wharf_steps::facts::NO_DEVPTS;
use wharf_sys::fd::{self, resolve};
use wharf_sys::mount::{self, AT_EMPTY_PATH, OPEN_TREE_CLONE};
use wharf_sys::terminal::{self, DEVPTS_SUPER_MAGIC, PTMX, Size};
use wharf_sys::{CWD, Errno, Fd, libc, socket};

/// What receivers take for the terminal's name, as runc spells it.
const NAME: &[u8] = b"/dev/ptmx";

/// Both ends of a terminal; the master only until it is sent.
pub(crate) struct Pair {
    master: Option<OwnedFd>,
    slave: OwnedFd,
}

fn no_devpts() -> Failed {
    Failed { errno: Errno::ENODEV, facts: NO_DEVPTS, head: Vec::new() }
}

pub(crate) fn open(init: &mut Init<'_>, slot: Slot, path: &CStr, (rows, columns): (u32, u32)) -> Done {
    let directory = match slot {
        Slot::NONE => find(init, path)?,
        slot => init.slot(slot),
    };
    if fd::filesystem_type(directory)? != DEVPTS_SUPER_MAGIC {
        return Err(no_devpts());
    }
    // Nothing can be made in a devpts but by the kernel; what is mounted over its ptmx is not crossed to.
    let how = resolve::BENEATH | resolve::NO_XDEV | resolve::NO_SYMLINKS;
    let master = match fd::openat2(directory, c"ptmx", libc::O_RDWR | libc::O_NOCTTY, 0, how) {
        // The path led to a terminal, not to the directory of terminals.
        Err(Errno::ENOTDIR) => return Err(no_devpts()),
        other => other?,
    };
    let about = fd::stat(&master)?;
    if about.st_mode & libc::S_IFMT != libc::S_IFCHR || about.st_rdev != PTMX {
        return Err(no_devpts());
    }
    terminal::unlock(&master)?;
    if rows != 0 && columns != 0 {
        terminal::set_size(&master, Size { rows: rows as u16, columns: columns as u16 })?;
    }
    let slave = terminal::peer(&master)?;
    init.terminal = Some(Pair { master: Some(master), slave });
    Ok(())
}

/// What is at `path` in the root: the container's, or our own once we are in it.
fn find(init: &Init<'_>, path: &CStr) -> Result<Fd, Failed> {
    let root = match init.slot(Slot::ROOT) {
        Fd(-1) => init.lot.put(fd::openat(CWD, c"/", libc::O_PATH | libc::O_DIRECTORY, 0)?),
        root => root,
    };
    match target::existing(&init.lot, root, path) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => Err(no_devpts()),
        other => Ok(other?),
    }
}

pub(crate) fn bind(init: &Init<'_>, directory: &CStr, name: &CStr) -> Done {
    let Some(pair) = &init.terminal else { return Err(Errno::EBADF.into()) };
    let place = target::directory(&init.lot, init.slot(Slot::ROOT), directory, false)?;
    let flags = libc::O_RDONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
    match fd::openat(place, name, flags, 0o644) {
        Err(Errno::EEXIST) => {}
        other => drop(other?),
    }
    let place = fd::openat(place, name, libc::O_PATH | libc::O_NOFOLLOW, 0)?;
    if fd::stat(&place)?.st_mode & libc::S_IFMT == libc::S_IFLNK {
        return Err(Errno::ELOOP.into());
    }
    let tree = mount::open_tree(&pair.slave, c"", OPEN_TREE_CLONE | AT_EMPTY_PATH)?;
    Ok(mount::attach(&tree, &place)?)
}

pub(crate) fn send(init: &mut Init<'_>) -> Done {
    let console = init.slot(Slot::CONSOLE);
    let master = init.terminal.as_mut().and_then(|pair| pair.master.take()).ok_or(Errno::EBADF)?;
    socket::send(console, NAME, Some(&master))?;
    init.close(Slot::CONSOLE);
    Ok(())
}

pub(crate) fn take(init: &mut Init<'_>, uid: u32) -> Done {
    let Some(Pair { slave, .. }) = init.terminal.take() else { return Err(Errno::EBADF.into()) };
    // The group is the one that the mount says (`gid=5`).
    const SAME: u32 = u32::MAX;
    if fd::stat(&slave)?.st_uid != uid {
        match fd::fchown(&slave, uid, SAME) {
            // On a devpts mounted read-only, or of another user namespace. The payload has it open all the same.
            Err(Errno::EPERM | Errno::EROFS) => {}
            other => other?,
        }
    }
    terminal::take_control(&slave)?;
    for number in 0..3 {
        fd::dup_to(&slave, number)?;
    }
    Ok(())
}
