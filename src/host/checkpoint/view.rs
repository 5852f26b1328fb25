//! Keeps the options of the host's cgroup mount while CRIU works.
//!
//! Whoever mounts cgroup v2 from the host's own cgroup namespace gives its options to every mount of it (kernel,
//! `apply_cgroup_root_flags`), and CRIU mounts it with none, to look at cgroups and to bring them back: `nsdelegate` and
//! `memory_recursiveprot` would be gone from the host. From another namespace they stay; one that was made at the root
//! shows the same paths.

use std::ffi::CString;
use wharf_cgroup::Layout;
use wharf_core::{Bundle, Error, Result, mountinfo};
use wharf_sys::cgroup_fs::Control;
use wharf_sys::namespace::{self, flag};
use wharf_sys::procfs::Procfs;
use wharf_sys::{Errno, mount};

/// Opened before CRIU begins, dropped when it has done what it does with cgroups.
pub(crate) enum View {
    /// CRIU is in a cgroup namespace of its own: the way to the root, where that one begins, and back.
    Apart { root: Control, back: Control },
    /// A container in the host's namespace must be seen from there: the options are set again afterwards.
    Mend(Vec<CString>),
}

impl View {
    /// None where v2 is not alone.
    pub(crate) fn open(bundle: &Bundle) -> Result<Option<View>> {
        let Some((root, back)) = Layout::detect(None)?.root_and_own()? else { return Ok(None) };
        let namespaces = bundle.spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
        match namespaces.into_iter().flatten().any(|one| wharf_plan::kind_of(one.typ()).0 == flag::NEWCGROUP) {
            true => Ok(Some(View::Apart { root, back })),
            false => Ok(Some(View::Mend(options()?))),
        }
    }

    /// By the process that becomes CRIU, for itself.
    pub(crate) fn take(&self) -> std::result::Result<(), Errno> {
        let View::Apart { root, back } = self else { return Ok(()) };
        // Who may not go there is in a cgroup namespace that is not the host's, and can do no harm.
        if root.write("0").is_err() {
            return Ok(());
        }
        namespace::unshare(flag::NEWCGROUP)?;
        back.write("0")
    }

    /// Sets the options again. Where that cannot be, nobody is left to be told.
    pub(crate) fn mend(&self) {
        if let View::Mend(options) = self
            && !options.is_empty()
        {
            let _ = set(options);
        }
    }

    pub(crate) fn needs_mending(&self) -> bool {
        matches!(self, View::Mend(options) if !options.is_empty())
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.mend();
    }
}

fn options() -> Result<Vec<CString>> {
    let read = Procfs::open().and_then(|proc| proc.read(c"self/mountinfo"));
    let text = read.map_err(|errno| Error::system("read the mounts", errno as i32))?;
    let mounts = mountinfo::parse(&String::from_utf8_lossy(&text));
    let Some(cgroups) = mounts.into_iter().find(|mount| mount.kind == "cgroup2") else { return Ok(Vec::new()) };
    let flags = cgroups.options.split(',').filter(|option| !matches!(*option, "rw" | "ro") && !option.contains('='));
    Ok(flags.filter_map(|flag| CString::new(flag).ok()).collect())
}

/// A mount that nobody sees sets them for all.
fn set(options: &[CString]) -> std::result::Result<(), Errno> {
    let context = mount::fsopen(c"cgroup2")?;
    options.iter().try_for_each(|option| mount::fsconfig_set(&context, option, None))?;
    mount::fsmount(&context, 0).map(drop)
}
