//! The birth of the init: from a copy of wharf to the sealed program.
//!
//! Nobody else sees the copy of wharf: it is alone in its new pid namespace, or still in ours. Namespaces that others
//! are in are joined by the init, when it runs from what they may see (CVE-2019-5736).

use super::helpers;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use wharf_core::{Error, Result};
use wharf_plan::Mapping;
use wharf_steps::{Failure, Slot};
use wharf_sys::namespace::{Side, clone, flag};
use wharf_sys::process::{ExecStrings, exec_fd, exit_now};
use wharf_sys::procfs::Procfs;
use wharf_sys::{Errno, Fd, credentials, fd, kernel, socket};

/// Steps before the plan's, told as numbers that no plan has.
const BECOME_ROOT: u32 = u32::MAX - 1;
const SEAL: u32 = u32::MAX - 2;
/// The init itself, before its first step.
const BEGIN: u32 = u32::MAX;

/// What a child has to know.
pub(crate) struct Birth<'a> {
    /// `CLONE_NEW*` of what it is born in.
    pub(crate) new: u64,
    pub(crate) sealed: &'a OwnedFd,
    pub(crate) plan: &'a OwnedFd,
    pub(crate) parent: &'a OwnedFd,
    /// Descriptors that the init keeps.
    pub(crate) kept: &'a [i32; Slot::COUNT],
    /// How many of the caller's, from 3 on, are the payload's.
    pub(crate) preserved: u32,
}

impl Birth<'_> {
    /// Gives birth to the init, in the cgroup where one is given; the parent gets its pid.
    pub(crate) fn give(&self, cgroup: Option<&OwnedFd>) -> Result<(i32, OwnedFd), Errno> {
        match clone(self.new, cgroup)? {
            Side::Parent { pid, pidfd } => Ok((pid, pidfd)),
            Side::Child => self.become_init(self.new & flag::NEWUSER != 0),
        }
    }

    fn become_init(&self, in_new_user: bool) -> ! {
        if in_new_user {
            // Without its map nobody here is root, and the exec would drop every capability.
            self.wait();
            self.check(BECOME_ROOT, credentials::set_gid(0));
            self.check(BECOME_ROOT, credentials::set_uid(0));
        }
        let kept = self.kept.iter().copied().filter(|number| *number != -1).chain([self.plan.as_raw_fd()]);
        self.check(SEAL, fd::close_by_exec(self.preserved.saturating_add(3)));
        for number in kept {
            self.check(SEAL, fd::set_cloexec(Fd(number), false));
        }
        let word = |number: String| CString::new(number).unwrap_or_default();
        let (plan, preserved) = (word(self.plan.as_raw_fd().to_string()), word(self.preserved.to_string()));
        let arguments = ExecStrings::new([super::seal::NAME, &plan, &preserved]);
        let errno = exec_fd(self.sealed, &arguments, &ExecStrings::new([]));
        self.fail(SEAL, errno)
    }

    /// The parent's word; its end is ours.
    fn wait(&self) {
        match socket::receive(self.parent, &mut [0; 8]) {
            Ok((length, _)) if length > 0 => {}
            _ => exit_now(1),
        }
    }

    fn check<T>(&self, step: u32, result: Result<T, Errno>) -> T {
        match result {
            Ok(value) => value,
            Err(errno) => self.fail(step, errno),
        }
    }

    fn fail(&self, step: u32, errno: Errno) -> ! {
        let _ = socket::send(self.parent.as_fd(), &Failure::header(step, errno as i32, 0), None);
        exit_now(1)
    }
}

/// The error of a failure that is not of a step of the plan.
pub(crate) fn explain(failure: &Failure) -> Option<Error> {
    let system = |doing: &str| Some(Error::system(doing, failure.errno));
    match failure.step {
        BECOME_ROOT => system("become root in the user namespace"),
        SEAL => system("execute the sealed copy of the init"),
        BEGIN => system("begin the container's set-up"),
        _ => None,
    }
}

/// With the kernel that has the system call which the init has missed.
pub(crate) fn named(error: Error, failure: &Failure) -> Error {
    match kernel::needed(failure.facts) {
        Some(needed) if failure.errno == Errno::ENOSYS as i32 => error.hint(needed),
        _ => error,
    }
}

/// Writes the id maps of a new user namespace, from outside (user_namespaces(7)). `at` is what has the maps in
/// config.json.
pub(super) fn map_ids(proc: &Procfs, pid: i32, uids: &[Mapping], gids: &[Mapping], at: &str) -> Result<()> {
    let write = |file: &str, value: &str, property: &str| {
        let path = CString::new(format!("{pid}/{file}")).unwrap_or_default();
        proc.write(&path, value.as_bytes()).map_err(|errno| {
            Error::system(format!("write {file} {:?}", value.trim_end()), errno as i32).at(format!("{at}/{property}"))
        })
    };
    let lines = |map: &[Mapping]| {
        map.iter().map(|one| format!("{} {} {}\n", one.inside, one.outside, one.size)).collect::<String>()
    };
    let (uid, gid) = wharf_sys::dir::effective_ids();
    if uid != 0 {
        if !only_own(uids, uid) || !only_own(gids, gid) {
            return helpers::map_ids(pid, uids, gids);
        }
        // Without privileges a group map is allowed only where groups cannot be dropped.
        write("setgroups", "deny", "gidMappings")?;
    }
    write("gid_map", &lines(gids), "gidMappings")?;
    write("uid_map", &lines(uids), "uidMappings")
}

/// Whether an ordinary user may write this map himself.
fn only_own(map: &[Mapping], id: u32) -> bool {
    matches!(map, [one] if one.outside == id && one.size == 1)
}
