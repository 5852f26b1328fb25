//! What of a job LXC cannot carry: refused by name before anything exists.

use crate::{config, program};
use wharf_core::{Error, Job, Remark, Result, Unsupported, annotations};
use wharf_plan::Namespaces;
use wharf_sys::dir;
use wharf_sys::namespace::flag;
use wharf_sys::parcel;

/// Joined by path by LXC itself.
const JOINED: u64 = flag::NEWNET | flag::NEWIPC | flag::NEWUTS;
/// What an init has beside the caller's descriptors.
const OWN: usize = 64;

pub(crate) fn judge(job: &Job<'_>, namespaces: &Namespaces) -> Result<Vec<Remark>> {
    if dir::effective_uid() != 0 {
        let instead = "call wharf as root, or take the native backend";
        return Err(Unsupported { verb: "create by an ordinary user", backend: crate::NAME, instead }.into());
    }
    program::check()?;
    if job.systemd_cgroup {
        let instead = "let the engine manage cgroups itself (cgroupfs)";
        return Err(Unsupported { verb: "--systemd-cgroup", backend: crate::NAME, instead }.into());
    }
    if job.no_new_keyring {
        let instead = "LXC gives each container a session keyring of its own";
        return Err(Unsupported { verb: "--no-new-keyring", backend: crate::NAME, instead }.into());
    }
    let unsupported = |what: &str, why: &str, at: &str| {
        Err(Error::unsupported(format!("{what} on the lxc backend")).because(why).at(at))
    };
    let annotations = job.bundle.spec.annotations().as_ref();
    if annotations::is_on(annotations.and_then(|all| all.get(annotations::KEEP_ORIGINAL_GROUPS))) {
        let at = format!("annotations/{}", annotations::KEEP_ORIGINAL_GROUPS);
        return unsupported("the caller's groups for the payload", "LXC gives them up before the payload's birth", &at);
    }
    if namespaces.new & flag::NEWNS == 0 {
        return unsupported("a container without a new mount namespace", "LXC always makes one", "linux/namespaces");
    }
    if namespaces.new & flag::NEWTIME != 0 {
        return unsupported("a time namespace", "is not supported yet", "linux/namespaces");
    }
    if let Some(join) = namespaces.joins.iter().find(|join| join.kind & JOINED == 0) {
        let why = "only network, ipc and uts namespaces are joined by path";
        return unsupported(&format!("namespace {}", join.path), why, &join.pointer);
    }
    if job.preserve_fds as usize > parcel::MOST - OWN {
        return unsupported(
            &format!("--preserve-fds {}", job.preserve_fds),
            "more descriptors than one message to the init can carry",
            "",
        );
    }
    let linux = job.bundle.spec.linux().as_ref();
    if let Some(path) = linux.and_then(|linux| linux.cgroups_path().as_ref()).and_then(|path| path.to_str()) {
        config::cgroup_value(path)?;
    }
    // Its mounts are slaves of the host's.
    let shared = |word: &str| ["shared", "rshared"].contains(&word);
    let why = "the mounts of a container of LXC's are not seen on the host";
    if linux.and_then(|linux| linux.rootfs_propagation().as_deref()).is_some_and(shared) {
        return unsupported("shared mounts", why, "linux/rootfsPropagation");
    }
    for (index, one) in job.bundle.spec.mounts().iter().flatten().enumerate() {
        if one.options().iter().flatten().any(|option| shared(option)) {
            return unsupported("shared mounts", why, &format!("mounts/{index}/options"));
        }
    }
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    let mut remarks = Vec::new();
    if resources.is_some_and(|resources| resources.memory().as_ref().is_some_and(|memory| memory.limit().is_some())) {
        let why = "LXC's monitor and the stand-in, a few MiB, count too";
        remarks.push(Remark::nearly("linux/resources/memory/limit", why));
    }
    Ok(remarks)
}
