//! What stands for a container on the host is in no namespace of the host's but its pids and users: engines look through
//! /proc/PID/root and /proc/PID/ns at what they take for the container.

use std::os::fd::OwnedFd;
use wharf_core::{Error, Result};
use wharf_sys::{CWD, fd, libc, mount, namespace};

/// An empty root of this process's own, and nothing in its other namespaces but the network that the container is given.
pub(crate) fn seclude(network: Option<&OwnedFd>) -> Result<()> {
    let failed = |errno| Error::system("leave the host's namespaces", errno as i32);
    let all = libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWCGROUP;
    match network {
        Some(network) => namespace::enter(network, libc::CLONE_NEWNET as u64)
            .and_then(|()| namespace::unshare(all as u64))
            .map_err(failed)?,
        None => namespace::unshare((all | libc::CLONE_NEWNET) as u64).map_err(failed)?,
    }
    mount::mount(None, c"/", None, libc::MS_REC | libc::MS_PRIVATE, None).map_err(failed)?;
    // Any directory does: what is mounted here is the new root.
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    mount::mount(Some(c"none"), c"/proc", Some(c"tmpfs"), flags, Some(c"mode=555,size=4k,nr_inodes=2"))
        .map_err(failed)?;
    let root = fd::openat(CWD, c"/proc", libc::O_PATH | libc::O_DIRECTORY, 0).map_err(failed)?;
    mount::fchdir(&root).map_err(failed)?;
    mount::pivot_here().map_err(failed)?;
    mount::umount(c".", libc::MNT_DETACH).map_err(failed)?;
    mount::chroot_here()
        .and_then(|()| mount::mount(None, c"/", None, libc::MS_REMOUNT | libc::MS_RDONLY | flags, None))
        .map_err(failed)
}
