//! Namespaces, and the birth of a process in new ones.

use crate::fd::own;
use crate::kernel::{Call, lacks};
use crate::procfs::Procfs;
use crate::{Errno, Result, check, process};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Flags of clone3(2), unshare(2) and setns(2).
pub mod flag {
    pub const NEWTIME: u64 = 0x80;
    pub const NEWNS: u64 = 0x0002_0000;
    pub const NEWCGROUP: u64 = 0x0200_0000;
    pub const NEWUTS: u64 = 0x0400_0000;
    pub const NEWIPC: u64 = 0x0800_0000;
    pub const NEWUSER: u64 = 0x1000_0000;
    pub const NEWPID: u64 = 0x2000_0000;
    pub const NEWNET: u64 = 0x4000_0000;
    /// The child becomes a sibling of its creator.
    pub const PARENT: u64 = 0x8000;
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Which side of a clone this is.
pub enum Side {
    Parent { pid: i32, pidfd: OwnedFd },
    Child,
}

/// clone3(2) like a fork, with namespaces `flags`, and, on cgroup v2, born in the cgroup directory `cgroup`.
///
/// The caller must have one thread: the child may then use anything its parent could. It must leave by exec or
/// [`crate::process::exit_now`]. `E2BIG` where the kernel cannot bear it in a cgroup (before 5.7).
pub fn clone(flags: u64, cgroup: Option<&OwnedFd>) -> Result<Side> {
    const CLONE_PIDFD: u64 = 0x1000;
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: i32 = -1;
    let mut args = CloneArgs {
        flags: flags | CLONE_PIDFD,
        pidfd: &raw mut pidfd as u64,
        exit_signal: if flags & flag::PARENT != 0 { 0 } else { libc::SIGCHLD as u64 },
        ..Default::default()
    };
    if let Some(dir) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = dir.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child gets a copy of our memory, as by fork; args is complete and its size is given;
    // we have one thread, so no lock is held by anyone else.
    let pid = match check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) }) {
        // A structure that ends before the cgroup, or a flag that is not known.
        Err(Errno::ENOSYS | Errno::E2BIG | Errno::EINVAL) if cgroup.is_some() => return Err(Errno::E2BIG),
        Err(Errno::ENOSYS) => clone_older(args.flags | args.exit_signal, &mut pidfd)?,
        other => other?,
    };
    match pid {
        0 => Ok(Side::Child),
        _ if pidfd == -1 => Err(lacks(Call::PidfdOpen)),
        _ => Ok(Side::Parent { pid: pid as i32, pidfd: own(libc::c_long::from(pidfd))? }),
    }
}

/// clone(2), which finds the signal of the end in the lowest byte of its flags, where there is no room for NEWTIME.
fn clone_older(flags: u64, pidfd: &mut i32) -> Result<libc::c_long> {
    if flags & flag::NEWTIME != 0 {
        return Err(lacks(Call::Clone3));
    }
    // The order of the last two differs between architectures; both are null.
    // SAFETY: without CLONE_VM the child gets a copy of our memory, as by fork, and goes on with the same stack; the
    // pidfd goes to our own variable.
    check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, std::ptr::from_mut(pidfd), 0, 0) })
}

/// setns(2): `kind` is the `CLONE_NEW*` flag the descriptor must be of.
pub fn enter(namespace: impl AsFd, kind: u64) -> Result<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::syscall(libc::SYS_setns, namespace.as_fd().as_raw_fd(), kind) }).map(drop)
}

/// Enters those of `kinds` that the process behind a pidfd is in, at once, or, before kernel 5.8, one after the other, as
/// `proc` has them: all are opened before the pidfd says that it was still that process.
pub fn enter_all(pidfd: impl AsFd, kinds: u64, proc: impl AsFd) -> Result<()> {
    match enter(&pidfd, kinds) {
        Err(Errno::EINVAL) => enter_each(pidfd, kinds, proc),
        other => other,
    }
}

fn enter_each(pidfd: impl AsFd, kinds: u64, proc: impl AsFd) -> Result<()> {
    // The user namespace first: it brings the rights to enter the others.
    const NAMES: [(u64, &str); 8] = [
        (flag::NEWUSER, "user"),
        (flag::NEWCGROUP, "cgroup"),
        (flag::NEWIPC, "ipc"),
        (flag::NEWUTS, "uts"),
        (flag::NEWNET, "net"),
        (flag::NEWPID, "pid"),
        (flag::NEWTIME, "time"),
        (flag::NEWNS, "mnt"),
    ];
    let proc = Procfs::of(proc)?;
    let pid = proc.pid_of(&pidfd)?;
    let mut opened = Vec::new();
    for (kind, name) in NAMES.into_iter().filter(|(kind, _)| kinds & kind != 0) {
        let path = std::ffi::CString::new(format!("{pid}/ns/{name}")).map_err(|_| Errno::EINVAL)?;
        opened.push((kind, proc.open_link(&path, libc::O_RDONLY)?));
    }
    if process::readable(&pidfd, 0)? {
        return Err(Errno::ESRCH);
    }
    opened.iter().try_for_each(|(kind, namespace)| enter(namespace, *kind))
}

pub fn unshare(flags: u64) -> Result<()> {
    // SAFETY: plain integers; none of the flags gives memory or descriptors another owner.
    match check(unsafe { libc::syscall(libc::SYS_unshare, flags) }) {
        // We have one thread, so nothing else can be wrong with it.
        Err(Errno::EINVAL) if flags & flag::NEWTIME != 0 => Err(lacks(Call::TimeNamespaces)),
        other => other.map(drop),
    }
}

/// The type of the namespace behind a descriptor (`NS_GET_NSTYPE`, ioctl_nsfs(2)).
pub fn kind(namespace: impl AsFd) -> Result<u64> {
    const NS_GET_NSTYPE: u64 = 0xb703;
    // SAFETY: the request takes no argument.
    let kind = check(unsafe { libc::syscall(libc::SYS_ioctl, namespace.as_fd().as_raw_fd(), NS_GET_NSTYPE, 0) })?;
    Ok(kind as u64)
}

/// Whether our user namespace is another one than the kernel's first. Not known counts as no.
pub fn is_nested_user() -> bool {
    /// The first one's inode (PROC_USER_INIT_INO).
    const FIRST: u64 = 0xefff_fffd;
    crate::fd::statat(crate::CWD, c"/proc/self/ns/user", 0).is_ok_and(|stat| stat.st_ino != FIRST)
}

/// sethostname(2), in this UTS namespace.
pub fn set_hostname(name: &[u8]) -> Result<()> {
    // SAFETY: pointer and length belong together.
    check(unsafe { libc::syscall(libc::SYS_sethostname, name.as_ptr(), name.len()) }).map(drop)
}

/// setdomainname(2), in this UTS namespace.
pub fn set_domainname(name: &[u8]) -> Result<()> {
    // SAFETY: pointer and length belong together.
    check(unsafe { libc::syscall(libc::SYS_setdomainname, name.as_ptr(), name.len()) }).map(drop)
}

/// Brings the loopback interface of this network namespace up, as every engine expects of a new one.
pub fn loopback_up() -> Result<()> {
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: i16,
        rest: [u8; 22],
    }
    const SIOCSIFFLAGS: u64 = 0x8914;
    // SAFETY: plain integers.
    let socket = own(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) as libc::c_long })?;
    let mut request = Request { name: [0; 16], flags: (libc::IFF_UP | libc::IFF_RUNNING) as i16, rest: [0; 22] };
    request.name[..2].copy_from_slice(b"lo");
    // SAFETY: Request has the layout and size of struct ifreq (netdevice(7)).
    check(unsafe { libc::syscall(libc::SYS_ioctl, socket.as_raw_fd(), SIOCSIFFLAGS, &raw mut request) }).map(drop)
}
