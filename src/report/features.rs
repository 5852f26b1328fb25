//! What `features` answers (runtime-spec, features.md): only what is true of this build.

use super::SPEC_VERSION;
use oci_spec::runtime::{
    ApparmorBuilder, Arch, CgroupBuilder, Features, FeaturesBuilder, IDMapBuilder, IntelRdtBuilder,
    LinuxFeatureBuilder, LinuxNamespaceType, LinuxSeccompAction, MemoryPolicyBuilder, MountExtensionsBuilder,
    NetDevicesBuilder, SeccompBuilder, SelinuxBuilder,
};
use std::collections::HashMap;
use wharf_core::{Error, Kind, Result, annotations};

const HOOKS: &[&str] = &["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Every option that the plan knows; file systems may know more.
const MOUNT_OPTIONS: &[&str] = &[
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

/// capabilities(7), by number.
const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

const NAMESPACES: &[LinuxNamespaceType] = &[
    LinuxNamespaceType::Cgroup,
    LinuxNamespaceType::Ipc,
    LinuxNamespaceType::Mount,
    LinuxNamespaceType::Network,
    LinuxNamespaceType::Pid,
    LinuxNamespaceType::Time,
    LinuxNamespaceType::User,
    LinuxNamespaceType::Uts,
];

const ACTIONS: &[LinuxSeccompAction] = &[
    LinuxSeccompAction::ScmpActAllow,
    LinuxSeccompAction::ScmpActErrno,
    LinuxSeccompAction::ScmpActKill,
    LinuxSeccompAction::ScmpActKillProcess,
    LinuxSeccompAction::ScmpActKillThread,
    LinuxSeccompAction::ScmpActLog,
    LinuxSeccompAction::ScmpActNotify,
    LinuxSeccompAction::ScmpActTrace,
    LinuxSeccompAction::ScmpActTrap,
];

const OPERATORS: &[&str] =
    &["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"];

#[cfg(target_arch = "x86_64")]
const ARCHITECTURES: &[Arch] = &[Arch::ScmpArchX86, Arch::ScmpArchX32, Arch::ScmpArchX86_64];
#[cfg(target_arch = "aarch64")]
const ARCHITECTURES: &[Arch] = &[Arch::ScmpArchAarch64, Arch::ScmpArchArm];

const FILTER_FLAGS: &[&str] = &[
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

const MEMORY_MODES: &[&str] = &[
    "MPOL_DEFAULT",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_WEIGHTED_INTERLEAVE",
    "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY",
    "MPOL_LOCAL",
];

const MEMORY_FLAGS: &[&str] = &["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"];

/// The answer of `features`.
pub(crate) fn features() -> Result<String> {
    let failed = |error: &dyn std::fmt::Display| Error::new(Kind::System, "write the features").because(error);
    let typed = typed().map_err(|error| failed(&error))?;
    let mut value = serde_json::to_value(typed).map_err(|error| failed(&error))?;
    without_nulls(&mut value);
    super::json(&value)
}

fn typed() -> Result<Features, oci_spec::OciSpecError> {
    let owned = |list: &[&str]| -> Vec<String> { list.iter().map(|text| (*text).to_owned()).collect() };
    let cgroup = CgroupBuilder::default().v1(true).v2(true).systemd(true).systemd_user(true).rdma(true).build()?;
    let seccomp = SeccompBuilder::default()
        .enabled(true)
        .actions(ACTIONS)
        .operators(owned(OPERATORS))
        .archs(ARCHITECTURES)
        .known_flags(owned(FILTER_FLAGS))
        .supported_flags(owned(FILTER_FLAGS))
        .build()?;
    let linux = LinuxFeatureBuilder::default()
        .namespaces(NAMESPACES)
        .capabilities(owned(CAPABILITIES))
        .cgroup(cgroup)
        .seccomp(seccomp)
        .apparmor(ApparmorBuilder::default().enabled(true).build()?)
        .selinux(SelinuxBuilder::default().enabled(true).build()?)
        .intel_rdt(IntelRdtBuilder::default().enabled(false).build()?)
        .mount_extensions(
            MountExtensionsBuilder::default().idmap(IDMapBuilder::default().enabled(true).build()?).build()?,
        )
        .memory_policy(MemoryPolicyBuilder::default().modes(owned(MEMORY_MODES)).flags(owned(MEMORY_FLAGS)).build()?)
        .net_devices(NetDevicesBuilder::default().enabled(false).build()?)
        .build()?;
    FeaturesBuilder::default()
        .oci_version_min("1.0.0")
        .oci_version_max(SPEC_VERSION)
        .hooks(owned(HOOKS))
        .mount_options(owned(MOUNT_OPTIONS))
        .linux(linux)
        .potentially_unsafe_config_annotations(annotations::applied().map(str::to_owned).collect::<Vec<_>>())
        .annotations(HashMap::from([
            ("wharf.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("wharf.commit".to_owned(), super::COMMIT.to_owned()),
            // In runc's words, which engines look for.
            ("org.opencontainers.runc.checkpoint.enabled".to_owned(), "true".to_owned()),
        ]))
        .build()
}

/// An absent property means "unknown" (features.md); null means nothing.
fn without_nulls(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(without_nulls);
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_the_form_of_the_specification() {
        let text = features().unwrap();
        let read: Features = serde_json::from_str(&text).unwrap();
        assert_eq!(read.oci_version_max(), SPEC_VERSION);
        assert!(!text.contains("null"));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["linux"]["seccomp"]["actions"][0], "SCMP_ACT_ALLOW");
        assert_eq!(value["linux"]["namespaces"][0], "cgroup");
        assert_eq!(value["linux"]["cgroup"]["systemd"], true);
    }

    #[test]
    fn the_highest_capability_is_the_kernels() {
        let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
        assert!(last.trim().parse::<usize>().unwrap() < CAPABILITIES.len(), "this kernel knows more capabilities");
    }
}
