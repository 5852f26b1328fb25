//! AppArmor: the profile that the next exec goes into.

use crate::fd::{openat2, resolve, write_all};
use crate::{Errno, Result, check, mount};
use std::ffi::CStr;

/// True where the kernel has AppArmor and it is on.
pub fn is_enabled() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
}

/// Has the next execve(2) of this thread go into `profile` (aa_change_onexec(2)). Needs no /proc from kernel 6.8 on
/// (lsm_set_self_attr(2)). Before that it is written to a procfs of our own: what is mounted on /proc is the image's
/// choice (CVE-2019-16884).
pub fn change_on_exec(profile: &CStr) -> Result<()> {
    let wish = [b"exec ", profile.to_bytes()].concat();
    match set_self_attribute(&wish) {
        Err(Errno::ENOSYS) => write_attribute(&wish),
        other => other,
    }
}

fn set_self_attribute(wish: &[u8]) -> Result<()> {
    const SYS_LSM_SET_SELF_ATTR: libc::c_long = 460;
    const LSM_ATTR_EXEC: u32 = 101;
    const LSM_ID_APPARMOR: u64 = 104;
    // struct lsm_ctx: id, flags, its whole length, the length of the text, the text.
    let length = 32 + wish.len() as u64;
    let mut context = Vec::with_capacity(length as usize);
    for number in [LSM_ID_APPARMOR, 0, length, wish.len() as u64] {
        context.extend_from_slice(&number.to_ne_bytes());
    }
    context.extend_from_slice(wish);
    let size = context.len() as u32;
    // SAFETY: the kernel reads `size` bytes of a buffer that has as many.
    check(unsafe { libc::syscall(SYS_LSM_SET_SELF_ATTR, LSM_ATTR_EXEC, context.as_ptr(), size, 0) }).map(drop)
}

fn write_attribute(wish: &[u8]) -> Result<()> {
    let procfs = mount::fsmount(mount::fsopen(c"proc")?, 0)?;
    let how = resolve::BENEATH | resolve::NO_XDEV | resolve::NO_MAGICLINKS;
    let open = |path| openat2(&procfs, path, libc::O_WRONLY, 0, how);
    let file = match open(c"thread-self/attr/apparmor/exec") {
        // Before kernel 5.1 there is one file for the one module that has it.
        Err(Errno::ENOENT) => open(c"thread-self/attr/exec")?,
        other => other?,
    };
    write_all(&file, wish)
}
