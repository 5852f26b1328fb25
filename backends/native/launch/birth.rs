//! The birth of the init: from a copy of wharf to the sealed one, by way of a process in between where the kernel
//! requires it.

use crate::draft::Judged;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use wharf_cgroup::Cgroup;
use wharf_core::{Error, Result};
use wharf_plan::{Born, Mapping, Namespaces};
use wharf_steps::{Failure, Slot};
use wharf_sys::namespace::{Side, clone, enter, flag, unshare};
use wharf_sys::process::{ExecStrings, exec_fd, exit_now};
use wharf_sys::procfs::Procfs;
use wharf_sys::{Errno, Fd, credentials, fd, socket};

/// First byte of the message by which the process in between tells the pid of the init.
pub(super) const BORN: u8 = 254;

/// Steps before the plan's, told as negative numbers.
const JOIN: u32 = u32::MAX - 1;
const BECOME_ROOT: u32 = u32::MAX - 2;
const SEAL: u32 = u32::MAX - 3;
const OFFSETS: u32 = u32::MAX - 4;
const BEAR: u32 = u32::MAX - 5;
/// The init itself, before its first step.
const BEGIN: u32 = u32::MAX;

/// What a child has to know.
pub(super) struct Birth<'a> {
    pub(super) namespaces: &'a Namespaces,
    pub(super) proc: &'a Procfs,
    /// Opened namespaces, in the order of [`Namespaces::joins`].
    pub(super) joined: &'a [(u64, OwnedFd)],
    pub(super) sealed: &'a OwnedFd,
    pub(super) plan: &'a OwnedFd,
    pub(super) parent: &'a OwnedFd,
    /// Descriptors that the init keeps.
    pub(super) kept: &'a [i32; Slot::COUNT],
}

impl Birth<'_> {
    /// Gives birth to the init, or to the one in between; the parent gets its pid.
    pub(super) fn give(&self, cgroup: &Cgroup<'_>) -> Result<(i32, OwnedFd), Errno> {
        let directly = self.namespaces.born == Born::Directly;
        let flags = if directly { self.namespaces.new } else { 0 };
        match clone(flags, cgroup.birth_fd().map(AsFd::as_fd))? {
            Side::Parent { pid, pidfd } => Ok((pid, pidfd)),
            Side::Child if directly => self.become_init(),
            Side::Child => self.stand_between(),
        }
    }

    /// Joins what has to be joined before the init exists, and bears it as its own sibling.
    fn stand_between(&self) -> ! {
        // In the cgroup first: what is born is then in it too.
        self.wait();
        let user = flag::NEWUSER;
        let own_last = |(kind, _): &&(u64, OwnedFd)| *kind != user;
        for (kind, file) in self.joined.iter().filter(own_last) {
            self.check(JOIN, *kind as u32, enter(file, *kind));
        }
        if let Some((kind, file)) = self.joined.iter().find(|(kind, _)| *kind == user) {
            self.check(JOIN, *kind as u32, enter(file, *kind));
            self.become_root();
        }
        let mut flags = self.namespaces.new;
        if !self.namespaces.time_offsets.is_empty() {
            // The offsets of a time namespace can be set only while nobody is in it; our children will be.
            self.check(OFFSETS, 0, unshare(flag::NEWTIME));
            flags &= !flag::NEWTIME;
            let lines = self.namespaces.time_offsets.join("\n");
            self.check(OFFSETS, 0, self.proc.write(c"self/timens_offsets", lines.as_bytes()));
        }
        match self.check(BEAR, 0, clone(flags | flag::PARENT, None)) {
            Side::Child => self.become_init(),
            Side::Parent { pid, .. } => {
                let mut message = [BORN; 5];
                message[1..].copy_from_slice(&pid.to_le_bytes());
                let sent = socket::send(self.parent, &message, None);
                exit_now(i32::from(sent.is_err()))
            }
        }
    }

    fn become_init(&self) -> ! {
        if self.namespaces.new_user() {
            // Without its map nobody here is root, and the exec would drop every capability.
            self.wait();
            self.become_root();
        }
        let kept = self.kept.iter().copied().filter(|number| *number != -1).chain([self.plan.as_raw_fd()]);
        self.check(SEAL, 0, fd::close_range(3, u32::MAX, true));
        for number in kept {
            self.check(SEAL, 0, fd::set_cloexec(Fd(number), false));
        }
        let number = CString::new(self.plan.as_raw_fd().to_string()).unwrap_or_default();
        let arguments = ExecStrings::new([super::seal::NAME, &number]);
        let errno = exec_fd(self.sealed, &arguments, &ExecStrings::new([]));
        self.fail(SEAL, 0, errno)
    }

    fn become_root(&self) {
        self.check(BECOME_ROOT, 0, credentials::set_gid(0));
        self.check(BECOME_ROOT, 0, credentials::set_uid(0));
    }

    /// The parent's word; its end is ours.
    fn wait(&self) {
        match socket::receive(self.parent, &mut [0; 8]) {
            Ok((length, _)) if length > 0 => {}
            _ => exit_now(1),
        }
    }

    fn check<T>(&self, step: u32, facts: u32, result: Result<T, Errno>) -> T {
        match result {
            Ok(value) => value,
            Err(errno) => self.fail(step, facts, errno),
        }
    }

    fn fail(&self, step: u32, facts: u32, errno: Errno) -> ! {
        let _ = socket::send(self.parent.as_fd(), &Failure::header(step, errno as i32, facts), None);
        exit_now(1)
    }
}

/// The error of a failure that is not of a step of the plan.
pub(super) fn explain(failure: &Failure, judged: &Judged<'_>) -> Option<Error> {
    let system = |doing: &str| Some(Error::system(doing, failure.errno));
    match failure.step {
        JOIN => {
            let joins = &judged.container.namespaces.joins;
            let join = joins.iter().find(|join| join.kind as u32 == failure.facts)?;
            Some(Error::system(format!("join namespace {}", join.path), failure.errno).at(join.pointer.as_str()))
        }
        BECOME_ROOT => system("become root in the user namespace"),
        SEAL => system("execute the sealed copy of the init"),
        OFFSETS => Some(Error::system("set the clocks of a new time namespace", failure.errno).at("linux/timeOffsets")),
        BEAR => Some(Error::system("make the container's namespaces", failure.errno).at("linux/namespaces")),
        BEGIN => system("begin the container's set-up"),
        _ => None,
    }
}

/// Writes the id maps of a new user namespace, from outside (user_namespaces(7)).
pub(super) fn map_ids(proc: &Procfs, pid: i32, namespaces: &Namespaces) -> Result<()> {
    let write = |file: &str, value: &str, pointer: &str| {
        let path = CString::new(format!("{pid}/{file}")).unwrap_or_default();
        proc.write(&path, value.as_bytes())
            .map_err(|errno| Error::system(format!("write {file} {:?}", value.trim_end()), errno as i32).at(pointer))
    };
    let lines = |map: &[Mapping]| {
        map.iter().map(|one| format!("{} {} {}\n", one.inside, one.outside, one.size)).collect::<String>()
    };
    if credentials::effective_uid() != 0 {
        // Without privileges a group map is allowed only where groups cannot be dropped.
        write("setgroups", "deny", "linux/gidMappings")?;
    }
    write("gid_map", &lines(&namespaces.gid_map), "linux/gidMappings")?;
    write("uid_map", &lines(&namespaces.uid_map), "linux/uidMappings")
}
