//! Who the calling thread is: ids, groups, capabilities, no_new_privs, seccomp. Raw system calls only: after clone3 the
//! C library's own versions would act on threads that are not there.

use crate::{Fd, Result, check};

pub fn set_groups(gids: &[u32]) -> Result<()> {
    // SAFETY: pointer and length belong together.
    check(unsafe { libc::syscall(libc::SYS_setgroups, gids.len(), gids.as_ptr()) }).map(drop)
}

pub fn set_gid(gid: u32) -> Result<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

pub fn set_uid(uid: u32) -> Result<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// The ids that file system access is judged by. The call tells no failure, so it is made twice (setfsuid(2)).
pub fn set_filesystem_ids(uid: u32, gid: u32) -> Result<()> {
    // SAFETY: plain integers.
    unsafe {
        libc::syscall(libc::SYS_setfsgid, gid);
        libc::syscall(libc::SYS_setfsuid, uid);
        let now = (libc::syscall(libc::SYS_setfsuid, uid) as u32, libc::syscall(libc::SYS_setfsgid, gid) as u32);
        if now == (uid, gid) { Ok(()) } else { Err(crate::Errno::EPERM) }
    }
}

/// Does `work` with the ids that file system access is judged by as the real ones too, where they are not already.
pub(crate) fn with_real_filesystem_ids(work: impl FnOnce() -> Result<()>) -> Result<()> {
    const SAME: u32 = u32::MAX;
    // SAFETY: plain integers; an id that is none changes nothing.
    let (uid, gid) =
        unsafe { (libc::syscall(libc::SYS_setfsuid, SAME) as u32, libc::syscall(libc::SYS_setfsgid, SAME) as u32) };
    // SAFETY: takes and fails nothing.
    let before = unsafe { (libc::syscall(libc::SYS_getuid) as u32, libc::syscall(libc::SYS_getgid) as u32) };
    if before == (uid, gid) {
        return work();
    }
    let set_real = |(uid, gid): (u32, u32)| {
        // SAFETY: plain integers.
        check(unsafe { libc::syscall(libc::SYS_setresgid, gid, SAME, SAME) })?;
        // SAFETY: plain integers.
        check(unsafe { libc::syscall(libc::SYS_setresuid, uid, SAME, SAME) })
    };
    set_real((uid, gid))?;
    let result = work();
    set_real(before)?;
    // The other calls have made these the effective ones.
    set_filesystem_ids(uid, gid)?;
    result
}

fn prctl(option: i32, arguments: [u64; 4]) -> Result<libc::c_long> {
    let [a, b, c, d] = arguments;
    // SAFETY: only options whose arguments are integers are passed by this module.
    check(unsafe { libc::syscall(libc::SYS_prctl, option, a, b, c, d) })
}

/// Keeps the permitted set over a change of uid (prctl(2), `PR_SET_KEEPCAPS`).
pub fn keep_capabilities(keep: bool) -> Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, [keep.into(), 0, 0, 0]).map(drop)
}

/// Whether the kernel has a capability of that number.
pub fn is_known(capability: u32) -> bool {
    prctl(libc::PR_CAPBSET_READ, [capability.into(), 0, 0, 0]).is_ok()
}

pub fn drop_bounding(capability: u32) -> Result<()> {
    prctl(libc::PR_CAPBSET_DROP, [capability.into(), 0, 0, 0]).map(drop)
}

pub fn raise_ambient(capability: u32) -> Result<()> {
    prctl(libc::PR_CAP_AMBIENT, [libc::PR_CAP_AMBIENT_RAISE as u64, capability.into(), 0, 0]).map(drop)
}

pub fn clear_ambient() -> Result<()> {
    prctl(libc::PR_CAP_AMBIENT, [libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0, 0, 0]).map(drop)
}

pub fn no_new_privileges() -> Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, [1, 0, 0, 0]).map(drop)
}

/// Whether other processes of our ids may read our memory and /proc entries.
pub fn set_dumpable(dumpable: bool) -> Result<()> {
    prctl(libc::PR_SET_DUMPABLE, [dumpable.into(), 0, 0, 0]).map(drop)
}

/// Orphans below us become our children.
pub fn set_subreaper() -> Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, [1, 0, 0, 0]).map(drop)
}

/// Names the calling thread for `ps` (at most 15 bytes).
pub fn set_name(name: &std::ffi::CStr) -> Result<()> {
    // SAFETY: the kernel reads at most 16 bytes of a NUL-terminated string.
    check(unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) }).map(drop)
}

/// Effective, permitted and inheritable set, one bit a capability (capset(2), version 3).
pub fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    let header: [u32; 2] = [0x2008_0522, 0];
    let low = |set: u64| set as u32;
    let high = |set: u64| (set >> 32) as u32;
    let data: [u32; 6] =
        [low(effective), low(permitted), low(inheritable), high(effective), high(permitted), high(inheritable)];
    // SAFETY: header and data are what version 3 of the call reads.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) }).map(drop)
}

/// The calling thread's effective, permitted and inheritable sets.
pub fn capabilities() -> Result<(u64, u64, u64)> {
    let header: [u32; 2] = [0x2008_0522, 0];
    let mut data = [0u32; 6];
    // SAFETY: version 3 of the call writes six words.
    check(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) })?;
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Ok((join(data[0], data[3]), join(data[1], data[4]), join(data[2], data[5])))
}

/// Loads a classic BPF program as seccomp filter: eight bytes an instruction, in the machine's order (seccomp(2)).
pub fn load_seccomp(program: &[u8], flags: u64) -> Result<()> {
    seccomp(program, flags).map(drop)
}

/// The same with `SECCOMP_FILTER_FLAG_NEW_LISTENER` in `flags`: the number of the listener, which exec closes.
pub fn load_seccomp_listening(program: &[u8], flags: u64) -> Result<Fd> {
    seccomp(program, flags).map(|number| Fd(number as i32))
}

fn seccomp(program: &[u8], flags: u64) -> Result<libc::c_long> {
    const SET_MODE_FILTER: u32 = 1;
    #[repr(C)]
    struct Program {
        length: u16,
        filter: *const u8,
    }
    let program = Program { length: (program.len() / 8) as u16, filter: program.as_ptr() };
    // SAFETY: the structure is a sock_fprog and its filter holds `length` instructions; the kernel copies from user
    // memory byte by byte, so alignment does not matter.
    check(unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const program) })
}

/// Joins the session keyring of that name, made where there is none that we may search (keyctl(2),
/// `KEYCTL_JOIN_SESSION_KEYRING`). Its owner's other processes may join it in the same way from then on.
pub fn join_session_keyring(name: &std::ffi::CStr) -> Result<()> {
    const JOIN_SESSION_KEYRING: u32 = 1;
    const SETPERM: u32 = 5;
    // What a new one allows its possessor and its owner, and its owner's search (keyrings(7)).
    const PERMISSIONS: u32 = 0x3f13_0000 | 0x0008_0000;
    // SAFETY: name is NUL-terminated.
    let serial = check(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) })?;
    // SAFETY: plain integers.
    check(unsafe { libc::syscall(libc::SYS_keyctl, SETPERM, serial as i32, PERMISSIONS) }).map(drop)
}
