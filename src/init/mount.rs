//! The steps that mount. A source is a path of the host, which is trusted; a target is always an opened descriptor.

use crate::perform::{Done, Init};
use crate::target;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use wharf_steps::{Slot, Step};
use wharf_sys::fd::{self, resolve};
use wharf_sys::lot::Lot;
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

impl Masks {
    /// When all paths are hidden.
    pub(crate) fn leave(&mut self, lot: &Lot) {
        for cover in [self.null.take(), self.empty.take()].into_iter().flatten() {
            lot.put_number(cover);
        }
    }
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
    let place = init.lot.put(fd::openat(CWD, path, libc::O_PATH | libc::O_DIRECTORY, 0)?);
    let root = mount::open_tree(place, c"", OPEN_TREE_CLONE | AT_EMPTY_PATH | AT_RECURSIVE)?;
    let propagation = if private { libc::MS_PRIVATE } else { 0 };
    attach_as(
        init,
        Fd(root.as_raw_fd()),
        place,
        Changes { all: Change { propagation, ..NONE }, ..Changes::default() },
    )?;
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
    match target::device(&init.lot, init.slot(slot), path, mode, device, owner) {
        Err(Errno::EPERM) if owner == (0, 0) => {}
        other => return other,
    }
    let below = path.to_bytes();
    let whole = if slot == Slot::DEV { [b"/dev/", below].concat() } else { below.to_vec() };
    let whole = CString::new(whole).map_err(|_| Errno::EINVAL)?;
    let node = init.lot.put(open_host(&whole, false)?);
    let is = fd::stat(node)?;
    // Of that name it may be any other, and what is asked of it cannot be given to it.
    if is.st_mode != mode || is.st_rdev != device {
        return Err(Errno::EPERM);
    }
    attach(init, node, &whole, Changes::default())
}

/// Attaches a detached mount where the plan says, on a directory or a file as it is one itself.
fn attach(init: &Init<'_>, tree: Fd, target: &CStr, changes: Changes) -> Result<()> {
    let place = target::of_either(&init.lot, init.slot(Slot::ROOT), target, || is_directory(tree))?;
    match attach_as(init, tree, place, changes) {
        Err(Errno::EINVAL) if is_directory(tree)? && !is_directory(place)? => Err(Errno::ENOTDIR),
        other => other,
    }
}

fn is_directory(file: Fd) -> Result<bool> {
    Ok(fd::stat(file)?.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

/// Attributes set and cleared, and the propagation or 0.
#[derive(Clone, Copy, Default, PartialEq)]
struct Change {
    set: u64,
    clear: u64,
    propagation: u64,
}

const NONE: Change = Change { set: 0, clear: 0, propagation: 0 };
const READ_ONLY: Change = Change { set: attr::RDONLY, ..NONE };

impl Change {
    fn make(self, tree: impl AsFd, recursive: bool) -> Result<()> {
        match self {
            NONE => Ok(()),
            Change { set, clear, propagation } => mount::set_attributes(tree, recursive, set, clear, propagation),
        }
    }
}

/// What becomes of a mount on its way to its place: of it alone, and then of it and all below it.
#[derive(Clone, Copy, Default)]
struct Changes {
    alone: Change,
    all: Change,
}

impl Changes {
    /// A copy of one mount, not `recursive`, has none below.
    fn new(recursive: bool, (set, clear): (u64, u64), all: (u64, u64), propagation: u64) -> Self {
        let kind = propagation & !MS_REC;
        let (one, each) = if recursive && propagation & MS_REC != 0 { (0, kind) } else { (kind, 0) };
        let alone = Change { set, clear, propagation: one };
        Changes { alone, all: Change { set: all.0, clear: all.1, propagation: each } }
    }

    fn make(self, tree: Fd) -> Result<()> {
        self.alone.make(tree, false)?;
        self.all.make(tree, true)
    }
}

fn attach_as(init: &Init<'_>, tree: Fd, place: Fd, changes: Changes) -> Result<()> {
    match changes.make(tree) {
        // Before kernel 5.12 only what is attached changes, and one mount at a time.
        Err(Errno::ENOSYS) if changes.all.set | changes.all.clear == 0 => {
            mount::attach(tree, place)?;
            reconfigure(init, tree, None, changes)
        }
        other => other.and_then(|()| mount::attach(tree, place)),
    }
}

/// Changes the attached mount `root`. A file is reached by the host's /proc, or, where that is out of sight, by `path`.
fn reconfigure(init: &Init<'_>, root: Fd, path: Option<&CStr>, Changes { alone, all }: Changes) -> Result<()> {
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
        if alone.set | alone.clear != 0 {
            mount::remount(root, name, alone.set, alone.clear)?;
        }
        for propagation in [alone.propagation, all.propagation | MS_REC] {
            if propagation & !MS_REC != 0 {
                mount::mount(None, name, None, propagation, None)?;
            }
        }
        Ok(())
    };
    let changed = change();
    mount::fchdir(&before)?;
    changed
}

/// A copy of a mount, changed as it is made where the kernel has that (6.15), and what is left to be changed of it.
fn copy_changed(dir: impl AsFd, path: &CStr, flags: u32, change: Change) -> Result<(OwnedFd, Change)> {
    let Change { set, clear, propagation } = change;
    let flags = flags | OPEN_TREE_CLONE;
    if change != NONE {
        match mount::open_tree_with(&dir, path, flags, set, clear, propagation) {
            Err(Errno::ENOSYS) => {}
            other => return Ok((other?, NONE)),
        }
    }
    Ok((mount::open_tree(dir, path, flags)?, change))
}

pub(crate) fn bind(init: &mut Init<'_>, step: Step) -> Done {
    let Step::Bind { target, source, slot, recursive, set, clear, recursive_set, recursive_clear, propagation } = step
    else {
        unreachable!("called for Bind alone");
    };
    let mut changes = Changes::new(recursive, (set, clear), (recursive_set, recursive_clear), propagation);
    let from_path = slot == Slot::NONE || init.slot(slot).0 == -1;
    let tree = if from_path && !recursive {
        let (tree, left) = copy_changed(CWD, init.plan.text(source), 0, changes.alone)?;
        changes.alone = left;
        tree
    } else if from_path {
        open_host(init.plan.text(source), true)?
    } else {
        // Opened before the container's mounts left the host's. A copy made now is listed in the order of the config;
        // copies of what was never attached need kernel 6.15.
        match mount::open_tree(init.slot(slot), c"", OPEN_TREE_CLONE | AT_EMPTY_PATH | AT_RECURSIVE) {
            Err(Errno::EINVAL) => fd::duplicate(init.slot(slot))?,
            other => other?,
        }
    };
    let tree = init.lot.put(tree);
    // Where its maker could not make it so (before kernel 5.12).
    if slot == Slot::NOTIFY && !fd::is_noexec(tree)? {
        changes.alone.set = NOTIFY;
    }
    Ok(attach(init, tree, init.plan.text(target), changes)?)
}

/// A directory is made for the mount, in one that nobody else has reached yet.
pub(crate) fn bind_in(init: &Init<'_>, directory: Fd, name: &CStr, source: &CStr) -> Done {
    fd::mkdirat(directory, name, 0o755)?;
    let tree = init.lot.put(mount::open_tree(CWD, source, OPEN_TREE_CLONE)?);
    Ok(mount::attach_in(tree, directory, name)?)
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
    let context = init.lot.put(mount::fsopen(plan.text(kind))?);
    mount::fsconfig_set(context, c"source", Some(plan.text(source)))?;
    for option in plan.list(options) {
        let bytes = option.to_bytes();
        match bytes.iter().position(|byte| *byte == b'=') {
            Some(at) => {
                let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| Errno::EINVAL);
                let (key, value) = (text(&bytes[..at])?, text(&bytes[at + 1..])?);
                mount::fsconfig_set(context, &key, Some(&value))?;
            }
            None => mount::fsconfig_set(context, option, None)?,
        }
    }
    // A read-only mount could not be filled, so that comes after.
    let first = if copy_up { attributes & !attr::RDONLY } else { attributes };
    let tree = mount::fsmount(context, first)?;
    // A directory that is made for this mount has nothing to give, not even its mode.
    let root = init.slot(Slot::ROOT);
    let covers = copy_up && target::existing(&init.lot, root, plan.text(target)).is_ok();
    let place = target::directory(&init.lot, root, plan.text(target), plain)?;
    if covers {
        let named = |key: &[u8]| plan.list(options).any(|option| option.to_bytes().starts_with(key));
        tree::copy(place, &tree, !(named(b"uid=") || named(b"gid=")), !named(b"mode="))?;
    }
    let changes = Changes::new(false, (attributes & !first, 0), (recursive_set, recursive_clear), propagation);
    attach_as(init, Fd(tree.as_raw_fd()), place, changes)?;
    match slot {
        Slot::NONE => drop(init.lot.put(tree)),
        slot => drop(init.fill(slot, tree)),
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
            return Ok(());
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
    let lot = &init.lot;
    let place = match target::existing(lot, init.slot(Slot::ROOT), path) {
        // What is not there needs no mask.
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        other => other?,
    };
    let copy = |of: Fd| mount::open_tree(of, c"", OPEN_TREE_CLONE | AT_EMPTY_PATH).map(|copy| lot.put(copy));
    let is_directory = fd::stat(place)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
    let cover = match is_directory {
        true => match init.masks.empty {
            Some(empty) => copy(empty)?,
            None => {
                let context = lot.put(mount::fsopen(c"tmpfs")?);
                mount::fsconfig_set(context, c"nr_inodes", Some(c"1"))?;
                mount::fsconfig_set(context, c"mode", Some(c"755"))?;
                if !label.is_empty() {
                    mount::fsconfig_set(context, c"context", Some(label))?;
                }
                let attributes = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
                *init.masks.empty.insert(Fd(mount::fsmount(context, attributes)?.into_raw_fd()))
            }
        },
        false => {
            let null = init.masks.null.ok_or(Errno::EBADF)?;
            if std::mem::replace(&mut init.masks.null_attached, true) { copy(null)? } else { null }
        }
    };
    Ok(mount::attach(cover, place)?)
}

/// With `alone` the plan puts no other mount into it.
pub(crate) fn readonly(init: &Init<'_>, path: &CStr, alone: bool) -> Done {
    let lot = &init.lot;
    let place = match target::existing(lot, init.slot(Slot::ROOT), path) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        other => other?,
    };
    let (copy, left) = copy_changed(place, c"", AT_EMPTY_PATH | AT_RECURSIVE, READ_ONLY)?;
    let copy = lot.put(copy);
    match left.make(copy, true) {
        Err(Errno::ENOSYS) if alone => {
            // Of this mount only: what else there may be would stay writable.
            let copy = lot.put(mount::open_tree(place, c"", OPEN_TREE_CLONE | AT_EMPTY_PATH)?);
            mount::attach(copy, place)?;
            Ok(reconfigure(init, copy, Some(path), Changes { alone: READ_ONLY, all: NONE })?)
        }
        other => Ok(other.and_then(|()| mount::attach(copy, place))?),
    }
}

const NOTIFY: u64 = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;

pub(crate) fn readonly_root(init: &Init<'_>) -> Result<()> {
    readonly_alone(init, init.slot(Slot::ROOT))
}

pub(crate) fn readonly_mount(init: &Init<'_>, path: &CStr) -> Done {
    let place = target::existing(&init.lot, init.slot(Slot::ROOT), path)?;
    Ok(readonly_alone(init, place)?)
}

fn readonly_alone(init: &Init<'_>, root: Fd) -> Result<()> {
    match READ_ONLY.make(root, false) {
        Err(Errno::ENOSYS) => reconfigure(init, root, None, Changes { alone: READ_ONLY, all: NONE }),
        other => other,
    }
}

/// Changes what [`bind_in`] has put into a directory, and the directory's own mount.
pub(crate) fn change_below(init: &Init<'_>, directory: Fd, set: u64, clear: u64, propagation: u64) -> Done {
    let change = Change { set, clear, propagation };
    match change.make(directory, true) {
        // Before kernel 5.12 one mount at a time.
        Err(Errno::ENOSYS) => {
            let listed = fd::openat(directory, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
            for name in tree::names(&listed)? {
                let how = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
                match fd::openat(directory, &name, how, 0) {
                    // A link to one of them.
                    Err(Errno::ENOTDIR) => {}
                    other => reconfigure(init, init.lot.put(other?), None, Changes { alone: change, all: NONE })?,
                }
            }
            Ok(reconfigure(init, directory, None, Changes { alone: change, all: NONE })?)
        }
        other => Ok(other?),
    }
}
