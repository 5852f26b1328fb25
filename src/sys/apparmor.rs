//! AppArmor: the profile that the next exec goes into.

use crate::lsm::{Attribute, Module};
use crate::{Errno, Result, lsm};
use std::ffi::CStr;

/// True where the kernel has AppArmor and it is on.
pub fn is_enabled() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
}

/// Has the next execve(2) of this thread go into `profile` (aa_change_onexec(2)); where the profile that we are in lets
/// nobody out of it, into both at once (aa_stack_onexec(2)), which allow what each of them allows.
pub fn change_on_exec(profile: &CStr) -> Result<()> {
    let set = |how: &[u8]| lsm::set(Module::Apparmor, Attribute::Exec, &[how, profile.to_bytes()].concat());
    match set(b"exec ") {
        // EPERM: with no_new_privs, into one that is not stricter.
        Err(Errno::EACCES | Errno::EPERM) => set(b"stack "),
        other => other,
    }
}
