//! The steps that mount. A source is a path of the host, which is trusted; a target is always an opened descriptor.

use crate::perform::{Done, Init};
use crate::target;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use wharf_steps::{Slot, Step};
use wharf_sys::fd::{self, resolve};
use wharf_sys::mount::{self, AT_EMPTY_PATH, AT_RECURSIVE, OPEN_TREE_CLONE, attr};
use wharf_sys::{CWD, Errno, Fd, Result, libc, tree};

const MS_REC: u64 = 16384;

/// What hides a path. The first use attaches the original; later ones copy it from where it is attached, because copies
/// of what was never attached need kernel 6.15.
#[derive(Default)]
pub(crate) struct Masks {
    null: Option<Fd>,
    null_attached: bool,
    empty: Option<Fd>,
}

pub(crate) fn propagate(flags: u64) -> Result<()> {
    mount::mount(None, c"/", None, flags, None)
}

/// A detached copy of the mount of a host path.
pub(crate) fn open_host(path: &CStr, recursive: bool) -> Result<OwnedFd> {
    mount::open_tree(CWD, path, OPEN_TREE_CLONE | if recursive { AT_RECURSIVE } else { 0 })
}

/// The root file system, as a mount attached over itself: pivot_root(2) wants a mount point.
pub(crate) fn open_root(init: &mut Init<'_>, path: &CStr, private: bool) -> Done {
    let place = fd::openat(CWD, path, libc::O_PATH | libc::O_DIRECTORY, 0)?;
    let root = mount::open_tree(&place, c"", OPEN_TREE_CLONE | AT_EMPTY_PATH | AT_RECURSIVE)?;
    let propagation = if private { libc::MS_PRIVATE | MS_REC } else { 0 };
    attach_as(init, &root, &place, Attributes { propagation, ..Attributes::default() })?;
    init.fill(Slot::ROOT, root);
    Ok(())
}

/// Makes a device node, or binds the host's own where that is not allowed: nobody may make one who is root in a user
/// namespace only, as below a rootless engine.
pub(crate) fn device(
    init: &Init<'_>,
    slot: Slot,
    path: &CStr,
    mode: u32,
    device: u64,
    owner: (u32, u32),
) -> Result<()> {
    match target::device(init.slot(slot), path, mode, device, owner) {
        Err(Errno::EPERM) if owner == (0, 0) => {}
        other => return other,
    }
    let below = path.to_bytes();
    let whole = if slot == Slot::DEV { [b"/dev/", below].concat() } else { below.to_vec() };
    let whole = CString::new(whole).map_err(|_| Errno::EINVAL)?;
    let node = open_host(&whole, false)?;
    let is = fd::stat(&node)?;
    // Of that name it may be any other, and what is asked of it cannot be given to it.
    if is.st_mode != mode || is.st_rdev != device {
        return Err(Errno::EPERM);
    }
    attach(init, &node, &whole, Attributes::default())
}

/// Attaches a detached mount where the plan says, on a directory or a file as it is one itself.
fn attach(init: &Init<'_>, tree: &OwnedFd, target: &CStr, attributes: Attributes) -> Result<()> {
    let root = init.slot(Slot::ROOT);
    let place = if is_directory(tree)? { target::directory(root, target, false)? } else { target::file(root, target)? };
    attach_as(init, tree, &place, attributes)
}

fn is_directory(file: impl AsFd) -> Result<bool> {
    Ok(fd::stat(file)?.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

/// What becomes of a mount on its way to its place.
#[derive(Clone, Copy, Default)]
struct Attributes {
    set: u64,
    clear: u64,
    recursive_set: u64,
    recursive_clear: u64,
    propagation: u64,
}

impl Attributes {
    fn configure(self, tree: &OwnedFd) -> Result<()> {
        let Attributes { set, clear, recursive_set, recursive_clear, propagation } = self;
        if recursive_set | recursive_clear != 0 && set | clear == 0 {
            mount::set_attributes(tree, true, recursive_set, recursive_clear, 0)?;
        } else if set | clear != 0 {
            mount::set_attributes(tree, false, set, clear, 0)?;
            if recursive_set | recursive_clear != 0 {
                mount::set_attributes(tree, true, recursive_set, recursive_clear, 0)?;
            }
        }
        if propagation != 0 {
            mount::set_attributes(tree, propagation & MS_REC != 0, 0, 0, propagation & !MS_REC)?;
        }
        Ok(())
    }
}

fn attach_as(init: &Init<'_>, tree: &OwnedFd, place: &OwnedFd, attributes: Attributes) -> Result<()> {
    match attributes.configure(tree) {
        // Before kernel 5.12 only what is attached changes, and one mount at a time.
        Err(Errno::ENOSYS) if attributes.recursive_set | attributes.recursive_clear == 0 => {
            mount::attach(tree, place)?;
            reconfigure(init, Fd(tree.as_raw_fd()), None, attributes)
        }
        other => other.and_then(|()| mount::attach(tree, place)),
    }
}

/// Changes the attached mount `root`. A file is reached by the host's /proc, or, where that is out of sight, by `path`.
fn reconfigure(init: &Init<'_>, root: Fd, path: Option<&CStr>, attributes: Attributes) -> Result<()> {
    let before = fd::openat(CWD, c".", libc::O_PATH | libc::O_DIRECTORY, 0)?;
    let number;
    let name = if is_directory(root)? {
        mount::fchdir(root)?;
        c"."
    } else if let Some(path) = path {
        path
    } else {
        let descriptors = libc::O_PATH | libc::O_DIRECTORY;
        mount::fchdir(fd::openat2(init.slot(Slot::PROC), c"self/fd", descriptors, 0, resolve::BENEATH)?)?;
        number = CString::new(root.0.to_string()).map_err(|_| Errno::EINVAL)?;
        number.as_c_str()
    };
    let change = || {
        if attributes.set | attributes.clear != 0 {
            mount::remount(root, name, attributes.set, attributes.clear)?;
        }
        match attributes.propagation {
            0 => Ok(()),
            propagation => mount::mount(None, name, None, propagation, None),
        }
    };
    let changed = change();
    mount::fchdir(&before)?;
    changed
}

pub(crate) fn bind(init: &mut Init<'_>, step: Step) -> Done {
    let Step::Bind { target, source, slot, recursive, set, clear, recursive_set, recursive_clear, propagation } = step
    else {
        unreachable!("called for Bind alone");
    };
    let tree = match slot {
        slot if slot == Slot::NONE || init.slot(slot).0 == -1 => open_host(init.plan.text(source), recursive)?,
        // Opened before the container's mounts left the host's. A copy made now is listed in the order of the config;
        // copies of what was never attached need kernel 6.15.
        slot => match mount::open_tree(init.slot(slot), c"", OPEN_TREE_CLONE | AT_EMPTY_PATH | AT_RECURSIVE) {
            Err(Errno::EINVAL) => fd::duplicate(init.slot(slot))?,
            other => other?,
        },
    };
    // Where its maker could not make it so (before kernel 5.12).
    let set = if slot == Slot::NOTIFY && !fd::is_noexec(&tree)? { NOTIFY } else { set };
    let attributes = Attributes { set, clear, recursive_set, recursive_clear, propagation };
    Ok(attach(init, &tree, init.plan.text(target), attributes)?)
}

pub(crate) fn detached(init: &mut Init<'_>, step: Step) -> Done {
    let Step::MountDetached {
        target,
        kind,
        source,
        options,
        attributes,
        recursive_set,
        recursive_clear,
        propagation,
        copy_up,
        plain,
        slot,
    } = step
    else {
        unreachable!("called for MountDetached alone");
    };
    let plan = init.plan;
    let context = mount::fsopen(plan.text(kind))?;
    mount::fsconfig_set(&context, c"source", Some(plan.text(source)))?;
    for option in plan.list(options) {
        let bytes = option.to_bytes();
        match bytes.iter().position(|byte| *byte == b'=') {
            Some(at) => {
                let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| Errno::EINVAL);
                let (key, value) = (text(&bytes[..at])?, text(&bytes[at + 1..])?);
                mount::fsconfig_set(&context, &key, Some(&value))?;
            }
            None => mount::fsconfig_set(&context, option, None)?,
        }
    }
    // A read-only mount could not be filled, so that comes after.
    let first = if copy_up { attributes & !attr::RDONLY } else { attributes };
    let tree = mount::fsmount(&context, first)?;
    // A directory that is made for this mount has nothing to give, not even its mode.
    let covers = copy_up && target::existing(init.slot(Slot::ROOT), plan.text(target)).is_ok();
    let place = target::directory(init.slot(Slot::ROOT), plan.text(target), plain)?;
    if covers {
        let named = |key: &[u8]| plan.list(options).any(|option| option.to_bytes().starts_with(key));
        tree::copy(&place, &tree, !(named(b"uid=") || named(b"gid=")), !named(b"mode="))?;
    }
    let attributes = Attributes { set: attributes & !first, clear: 0, recursive_set, recursive_clear, propagation };
    attach_as(init, &tree, &place, attributes)?;
    if slot != Slot::NONE {
        init.fill(slot, tree);
    }
    Ok(())
}

pub(crate) fn enter_root(init: &Init<'_>, step: Step) -> Done {
    mount::fchdir(init.slot(Slot::ROOT))?;
    match step {
        Step::Pivot {} => {
            mount::pivot_here()?;
            // The old root is now on top of the new one, and "." means what is on top (pivot_root(2)).
            mount::umount(c".", libc::MNT_DETACH)?;
        }
        Step::MoveRoot {} => {
            mount::mount(Some(c"."), c"/", None, libc::MS_MOVE, None)?;
            mount::chroot_here()?;
        }
        _ => mount::chroot_here()?,
    }
    Ok(wharf_sys::process::chdir(c"/")?)
}

/// The host's null device, proved to be it, before the host is out of sight.
pub(crate) fn open_null(init: &mut Init<'_>) -> Done {
    let tree = mount::open_tree(CWD, c"/dev/null", OPEN_TREE_CLONE)?;
    let stat = fd::stat(&tree)?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFCHR || stat.st_rdev != libc::makedev(1, 3) {
        return Err(Errno::ENODEV.into());
    }
    init.masks.null = Some(Fd(tree.into_raw_fd()));
    Ok(())
}

/// With a `label` of SELinux the empty directory has it.
pub(crate) fn mask(init: &mut Init<'_>, path: &CStr, label: &CStr) -> Done {
    let place = match target::existing(init.slot(Slot::ROOT), path) {
        // What is not there needs no mask.
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        other => other?,
    };
    if fd::stat(&place)?.st_mode & libc::S_IFMT == libc::S_IFDIR {
        match init.masks.empty {
            Some(empty) => {
                let copy = mount::open_tree(empty, c"", OPEN_TREE_CLONE | AT_EMPTY_PATH)?;
                mount::attach(&copy, &place)?;
            }
            None => {
                let context = mount::fsopen(c"tmpfs")?;
                mount::fsconfig_set(&context, c"nr_inodes", Some(c"1"))?;
                mount::fsconfig_set(&context, c"mode", Some(c"755"))?;
                if !label.is_empty() {
                    mount::fsconfig_set(&context, c"context", Some(label))?;
                }
                let attributes = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
                let empty = mount::fsmount(&context, attributes)?;
                mount::attach(&empty, &place)?;
                init.masks.empty = Some(Fd(empty.into_raw_fd()));
            }
        }
        return Ok(());
    }
    let null = init.masks.null.ok_or(Errno::EBADF)?;
    if init.masks.null_attached {
        let copy = mount::open_tree(null, c"", OPEN_TREE_CLONE | AT_EMPTY_PATH)?;
        mount::attach(&copy, &place)?;
    } else {
        mount::attach(null, &place)?;
        init.masks.null_attached = true;
    }
    Ok(())
}

/// With `alone` the plan puts no other mount into it.
pub(crate) fn readonly(init: &Init<'_>, path: &CStr, alone: bool) -> Done {
    let how = resolve::IN_ROOT | resolve::NO_MAGICLINKS;
    let place = match fd::openat2(init.slot(Slot::ROOT), path, libc::O_PATH, 0, how) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        other => other?,
    };
    let copy = mount::open_tree(place.as_fd(), c"", OPEN_TREE_CLONE | AT_EMPTY_PATH | AT_RECURSIVE)?;
    match mount::set_attributes(&copy, true, attr::RDONLY, 0, 0) {
        Err(Errno::ENOSYS) if alone => {
            // Of this mount only: what else there may be would stay writable.
            let copy = mount::open_tree(place.as_fd(), c"", OPEN_TREE_CLONE | AT_EMPTY_PATH)?;
            mount::attach(&copy, &place)?;
            Ok(reconfigure(init, Fd(copy.as_raw_fd()), Some(path), READ_ONLY)?)
        }
        other => Ok(other.and_then(|()| mount::attach(&copy, &place))?),
    }
}

const NOTIFY: u64 = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;

const READ_ONLY: Attributes =
    Attributes { set: attr::RDONLY, clear: 0, recursive_set: 0, recursive_clear: 0, propagation: 0 };

pub(crate) fn readonly_root(init: &Init<'_>) -> Result<()> {
    let root = init.slot(Slot::ROOT);
    match mount::set_attributes(root, false, attr::RDONLY, 0, 0) {
        Err(Errno::ENOSYS) => reconfigure(init, root, None, READ_ONLY),
        other => other,
    }
}
