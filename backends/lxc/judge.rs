//! What of a job LXC cannot carry: refused by name before anything exists.

use crate::pct::{self, Settings};
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

/// Who is asked to make it.
pub(crate) enum Driver<'a> {
    Lxc,
    Pct(&'a Settings),
}

impl Driver<'_> {
    fn name(&self) -> &'static str {
        match self {
            Driver::Lxc => crate::NAME,
            Driver::Pct(_) => pct::NAME,
        }
    }

    /// What a driver alone refuses, and what it honours only nearly.
    fn judge(&self, job: &Job<'_>, namespaces: &Namespaces) -> Result<Vec<Remark>> {
        let linux = job.bundle.spec.linux().as_ref();
        let path = linux.and_then(|linux| linux.cgroups_path().as_ref()).and_then(|path| path.to_str());
        let resources = linux.and_then(|linux| linux.resources().as_ref());
        let has_limit = resources.and_then(|resources| resources.memory().as_ref()?.limit()).is_some();
        let mut remarks = Vec::new();
        match self {
            Driver::Lxc => {
                program::check()?;
                if job.systemd_cgroup {
                    let instead = "let the engine manage cgroups itself (cgroupfs)";
                    return Err(Unsupported { verb: "--systemd-cgroup", backend: self.name(), instead }.into());
                }
                if let Some(path) = path {
                    config::cgroup_value(path)?;
                }
                if has_limit {
                    let why = "LXC's monitor and the stand-in, a few MiB, count too";
                    remarks.push(Remark::nearly("linux/resources/memory/limit", why));
                }
            }
            Driver::Pct(settings) => {
                pct::check(settings)?;
                if path.is_some() {
                    let why = "the container's cgroup is lxc/VMID, as the node has it";
                    remarks.push(Remark::nearly("linux/cgroupsPath", why));
                }
                if namespaces.new & flag::NEWUTS != 0 && job.bundle.spec.hostname().is_none() {
                    let why = "without one it is the name that the container has on the node";
                    remarks.push(Remark::nearly("hostname", why));
                }
                if !namespaces.new_user() {
                    if settings.unprivileged {
                        return Err(Error::unsupported("a container without a user namespace on the pct backend")
                            .because("proxmox.unprivileged in the configuration wants none that is privileged")
                            .at("linux/namespaces")
                            .hint("give it one: podman run --userns auto"));
                    }
                    let why = "without a user namespace it is a privileged container of the node";
                    remarks.push(Remark::nearly("linux/namespaces", why));
                }
                let own = namespaces.apart(flag::NEWCGROUP);
                let mut mounts = job.bundle.spec.mounts().iter().flatten();
                let is_cgroup = |kind: Option<&str>| kind.is_some_and(|kind| kind.starts_with("cgroup"));
                if let Some(index) = mounts.position(|one| !own && is_cgroup(one.typ().as_deref())) {
                    return Err(Error::unsupported(
                        "a mount of type cgroup without a cgroup namespace on the pct backend",
                    )
                    .because("where the container's cgroup will be is not known before")
                    .at(format!("mounts/{index}/type"))
                    .hint("give it a cgroup namespace: podman run --cgroupns private"));
                }
                let counted = [
                    ("linux/resources/memory/limit", has_limit),
                    ("linux/resources/pids/limit", resources.is_some_and(|resources| resources.pids().is_some())),
                ];
                for (at, _) in counted.into_iter().filter(|(_, asked)| *asked) {
                    remarks.push(Remark::nearly(at, "the stand-in, one process of about a MiB, counts too"));
                }
            }
        }
        Ok(remarks)
    }
}

pub(crate) fn judge(job: &Job<'_>, namespaces: &Namespaces, driver: &Driver<'_>) -> Result<Vec<Remark>> {
    let backend = driver.name();
    if dir::effective_uid() != 0 {
        let instead = "call wharf as root, or take the native backend";
        return Err(Unsupported { verb: "create by an ordinary user", backend, instead }.into());
    }
    let remarks = driver.judge(job, namespaces)?;
    if job.no_new_keyring {
        let instead = "LXC gives each container a session keyring of its own";
        return Err(Unsupported { verb: "--no-new-keyring", backend, instead }.into());
    }
    let unsupported = |what: &str, why: &str, at: &str| {
        Err(Error::unsupported(format!("{what} on the {backend} backend")).because(why).at(at))
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
    Ok(remarks)
}
