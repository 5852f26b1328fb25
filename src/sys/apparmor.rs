//! AppArmor: the profile that the next exec goes into.

use crate::lsm::{Attribute, Module};
use crate::{Result, lsm};
use std::ffi::CStr;

/// True where the kernel has AppArmor and it is on.
pub fn is_enabled() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
}

/// Has the next execve(2) of this thread go into `profile` (aa_change_onexec(2)).
pub fn change_on_exec(profile: &CStr) -> Result<()> {
    lsm::set(Module::Apparmor, Attribute::Exec, &[b"exec ", profile.to_bytes()].concat())
}
