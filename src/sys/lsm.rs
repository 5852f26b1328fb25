//! What a thread says to a security module of its next exec and of the keys that it makes.

use crate::fd::{openat2, resolve, write_all};
use crate::{Errno, Result, check, mount};
use std::ffi::CStr;

/// `LSM_ID_*` (linux/lsm.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Module {
    Selinux = 101,
    Apparmor = 104,
}

/// `LSM_ATTR_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Attribute {
    Exec = 101,
    KeyCreate = 103,
}

impl Attribute {
    /// Its files in a procfs: the module's own, and from before there could be two.
    fn files(self, module: Module) -> &'static [&'static CStr] {
        match (module, self) {
            // SELinux never got a directory of its own.
            (Module::Selinux, Attribute::Exec) => &[c"thread-self/attr/exec"],
            (Module::Selinux, Attribute::KeyCreate) => &[c"thread-self/attr/keycreate"],
            // Before kernel 5.1 there is one file for the one module that has it.
            (Module::Apparmor, _) => &[c"thread-self/attr/apparmor/exec", c"thread-self/attr/exec"],
        }
    }
}

/// Sets an attribute of this thread. Needs no /proc from kernel 6.8 on (lsm_set_self_attr(2)). Before that it is written
/// to a procfs of our own: what is mounted on /proc is the image's choice (CVE-2019-16884).
pub fn set(module: Module, attribute: Attribute, value: &[u8]) -> Result<()> {
    const SYS_LSM_SET_SELF_ATTR: libc::c_long = 460;
    let context = context(module, value);
    let size = context.len() as u32;
    // SAFETY: the kernel reads `size` bytes of a buffer that has as many.
    match check(unsafe { libc::syscall(SYS_LSM_SET_SELF_ATTR, attribute as u32, context.as_ptr(), size, 0) }) {
        Err(Errno::ENOSYS) => write(attribute.files(module), value),
        other => other.map(drop),
    }
}

/// struct lsm_ctx: id, flags, its whole length, the length of the text, the text.
fn context(module: Module, value: &[u8]) -> Vec<u8> {
    let length = 32 + value.len() as u64;
    let numbers = [module as u64, 0, length, value.len() as u64];
    numbers.into_iter().flat_map(u64::to_ne_bytes).chain(value.iter().copied()).collect()
}

fn write(files: &[&CStr], value: &[u8]) -> Result<()> {
    let procfs = mount::fsmount(mount::fsopen(c"proc")?, 0)?;
    let how = resolve::BENEATH | resolve::NO_XDEV | resolve::NO_MAGICLINKS;
    let mut opened = Err(Errno::ENOENT);
    for path in files {
        opened = openat2(&procfs, path, libc::O_WRONLY, 0, how);
        if !matches!(opened, Err(Errno::ENOENT)) {
            break;
        }
    }
    write_all(&opened?, value)
}

/// True where the kernel has SELinux and it is on: its file system is where it is mounted.
pub fn has_selinux() -> bool {
    const SELINUX_MAGIC: i64 = 0xf97c_ff8c;
    let place = crate::fd::openat(crate::CWD, c"/sys/fs/selinux", libc::O_PATH | libc::O_DIRECTORY, 0);
    place.and_then(crate::fd::filesystem_type) == Ok(SELINUX_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_laid_out_as_the_kernel_reads_it() {
        let bytes = context(Module::Selinux, b"u:r:t:s0");
        let word = |at: usize| u64::from_ne_bytes(bytes[8 * at..8 * at + 8].try_into().unwrap());
        assert_eq!([word(0), word(1), word(2), word(3)], [101, 0, 40, 8]);
        assert_eq!(&bytes[32..], b"u:r:t:s0");
    }

    #[test]
    fn each_attribute_has_its_file() {
        assert_eq!(Attribute::Exec.files(Module::Selinux), [c"thread-self/attr/exec"]);
        assert_eq!(Attribute::KeyCreate.files(Module::Selinux), [c"thread-self/attr/keycreate"]);
        assert_eq!(Attribute::Exec.files(Module::Apparmor)[0], c"thread-self/attr/apparmor/exec");
    }
}
