//! The properties that runtime-spec 1.3 defines: what is not among them is unknown, and ignored as config.md demands.

/// What stands at a place in config.json.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A property. What is below it belongs to its value.
    Property,
    /// An object or a list that holds properties.
    Section,
    /// Nothing that the specification knows.
    Unknown,
}

/// What the specification has at `path`: keys and indices from the top.
pub fn place<'a>(path: impl Iterator<Item = &'a str> + Clone) -> Place {
    let mut found = Place::Unknown;
    for property in PROPERTIES {
        let mut path = path.clone();
        let mut parts = property.split('/');
        loop {
            match (path.next(), parts.next()) {
                (_, None) => return Place::Property,
                (None, Some(_)) => {
                    found = Place::Section;
                    break;
                }
                (Some(key), Some(part)) if part == "*" || part == key => {}
                _ => break,
            }
        }
    }
    found
}

/// Every property, `*` for the keys of a map and the indices of a list. The sections of other platforms stand whole.
pub const PROPERTIES: &[&str] = &[
    "ociVersion",
    "hooks/prestart/*/path",
    "hooks/prestart/*/args",
    "hooks/prestart/*/env",
    "hooks/prestart/*/timeout",
    "hooks/createRuntime/*/path",
    "hooks/createRuntime/*/args",
    "hooks/createRuntime/*/env",
    "hooks/createRuntime/*/timeout",
    "hooks/createContainer/*/path",
    "hooks/createContainer/*/args",
    "hooks/createContainer/*/env",
    "hooks/createContainer/*/timeout",
    "hooks/startContainer/*/path",
    "hooks/startContainer/*/args",
    "hooks/startContainer/*/env",
    "hooks/startContainer/*/timeout",
    "hooks/poststart/*/path",
    "hooks/poststart/*/args",
    "hooks/poststart/*/env",
    "hooks/poststart/*/timeout",
    "hooks/poststop/*/path",
    "hooks/poststop/*/args",
    "hooks/poststop/*/env",
    "hooks/poststop/*/timeout",
    "annotations/*",
    "hostname",
    "domainname",
    "mounts/*/source",
    "mounts/*/destination",
    "mounts/*/options",
    "mounts/*/type",
    "mounts/*/uidMappings/*/containerID",
    "mounts/*/uidMappings/*/hostID",
    "mounts/*/uidMappings/*/size",
    "mounts/*/gidMappings/*/containerID",
    "mounts/*/gidMappings/*/hostID",
    "mounts/*/gidMappings/*/size",
    "root/path",
    "root/readonly",
    "process/args",
    "process/commandLine",
    "process/consoleSize/height",
    "process/consoleSize/width",
    "process/cwd",
    "process/env",
    "process/terminal",
    "process/user/uid",
    "process/user/gid",
    "process/user/umask",
    "process/user/additionalGids",
    "process/user/username",
    "process/capabilities/bounding",
    "process/capabilities/permitted",
    "process/capabilities/effective",
    "process/capabilities/inheritable",
    "process/capabilities/ambient",
    "process/apparmorProfile",
    "process/oomScoreAdj",
    "process/selinuxLabel",
    "process/ioPriority/class",
    "process/ioPriority/priority",
    "process/noNewPrivileges",
    "process/scheduler/policy",
    "process/scheduler/nice",
    "process/scheduler/priority",
    "process/scheduler/flags",
    "process/scheduler/runtime",
    "process/scheduler/deadline",
    "process/scheduler/period",
    "process/rlimits/*/hard",
    "process/rlimits/*/soft",
    "process/rlimits/*/type",
    "process/execCPUAffinity/initial",
    "process/execCPUAffinity/final",
    "linux/devices/*/type",
    "linux/devices/*/path",
    "linux/devices/*/fileMode",
    "linux/devices/*/major",
    "linux/devices/*/minor",
    "linux/devices/*/uid",
    "linux/devices/*/gid",
    "linux/netDevices/*/name",
    "linux/uidMappings/*/containerID",
    "linux/uidMappings/*/hostID",
    "linux/uidMappings/*/size",
    "linux/gidMappings/*/containerID",
    "linux/gidMappings/*/hostID",
    "linux/gidMappings/*/size",
    "linux/namespaces/*/type",
    "linux/namespaces/*/path",
    "linux/resources/unified/*",
    "linux/resources/devices/*/allow",
    "linux/resources/devices/*/type",
    "linux/resources/devices/*/major",
    "linux/resources/devices/*/minor",
    "linux/resources/devices/*/access",
    "linux/resources/pids/limit",
    "linux/resources/blockIO/weight",
    "linux/resources/blockIO/leafWeight",
    "linux/resources/blockIO/throttleReadBpsDevice/*/major",
    "linux/resources/blockIO/throttleReadBpsDevice/*/minor",
    "linux/resources/blockIO/throttleReadBpsDevice/*/rate",
    "linux/resources/blockIO/throttleWriteBpsDevice/*/major",
    "linux/resources/blockIO/throttleWriteBpsDevice/*/minor",
    "linux/resources/blockIO/throttleWriteBpsDevice/*/rate",
    "linux/resources/blockIO/throttleReadIOPSDevice/*/major",
    "linux/resources/blockIO/throttleReadIOPSDevice/*/minor",
    "linux/resources/blockIO/throttleReadIOPSDevice/*/rate",
    "linux/resources/blockIO/throttleWriteIOPSDevice/*/major",
    "linux/resources/blockIO/throttleWriteIOPSDevice/*/minor",
    "linux/resources/blockIO/throttleWriteIOPSDevice/*/rate",
    "linux/resources/blockIO/weightDevice/*/major",
    "linux/resources/blockIO/weightDevice/*/minor",
    "linux/resources/blockIO/weightDevice/*/weight",
    "linux/resources/blockIO/weightDevice/*/leafWeight",
    "linux/resources/cpu/cpus",
    "linux/resources/cpu/mems",
    "linux/resources/cpu/period",
    "linux/resources/cpu/quota",
    "linux/resources/cpu/burst",
    "linux/resources/cpu/realtimePeriod",
    "linux/resources/cpu/realtimeRuntime",
    "linux/resources/cpu/shares",
    "linux/resources/cpu/idle",
    "linux/resources/hugepageLimits/*/pageSize",
    "linux/resources/hugepageLimits/*/limit",
    "linux/resources/memory/kernel",
    "linux/resources/memory/kernelTCP",
    "linux/resources/memory/limit",
    "linux/resources/memory/reservation",
    "linux/resources/memory/swap",
    "linux/resources/memory/swappiness",
    "linux/resources/memory/disableOOMKiller",
    "linux/resources/memory/useHierarchy",
    "linux/resources/memory/checkBeforeUpdate",
    "linux/resources/network/classID",
    "linux/resources/network/priorities/*/name",
    "linux/resources/network/priorities/*/priority",
    "linux/resources/rdma/*/hcaHandles",
    "linux/resources/rdma/*/hcaObjects",
    "linux/cgroupsPath",
    "linux/rootfsPropagation",
    "linux/seccomp/defaultAction",
    "linux/seccomp/defaultErrnoRet",
    "linux/seccomp/flags",
    "linux/seccomp/listenerPath",
    "linux/seccomp/listenerMetadata",
    "linux/seccomp/architectures",
    "linux/seccomp/syscalls/*/names",
    "linux/seccomp/syscalls/*/action",
    "linux/seccomp/syscalls/*/errnoRet",
    "linux/seccomp/syscalls/*/args/*/index",
    "linux/seccomp/syscalls/*/args/*/value",
    "linux/seccomp/syscalls/*/args/*/valueTwo",
    "linux/seccomp/syscalls/*/args/*/op",
    "linux/sysctl/*",
    "linux/maskedPaths",
    "linux/readonlyPaths",
    "linux/mountLabel",
    "linux/intelRdt/closID",
    "linux/intelRdt/schemata",
    "linux/intelRdt/l3CacheSchema",
    "linux/intelRdt/memBwSchema",
    "linux/intelRdt/enableMonitoring",
    "linux/memoryPolicy/mode",
    "linux/memoryPolicy/nodes",
    "linux/memoryPolicy/flags",
    "linux/personality/domain",
    "linux/personality/flags",
    "linux/timeOffsets/boottime/secs",
    "linux/timeOffsets/boottime/nanosecs",
    "linux/timeOffsets/monotonic/secs",
    "linux/timeOffsets/monotonic/nanosecs",
    "windows",
    "solaris",
    "zos",
    "vm",
    "freebsd",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str) -> Place {
        place(path.split('/'))
    }

    #[test]
    fn properties_sections_and_the_unknown_are_told_apart() {
        assert_eq!(at("process/args"), Place::Property);
        assert_eq!(at("process/args/0"), Place::Property);
        assert_eq!(at("process"), Place::Section);
        assert_eq!(at("mounts/3"), Place::Section);
        assert_eq!(at("mounts/3/options"), Place::Property);
        assert_eq!(at("annotations/any.thing"), Place::Property);
        assert_eq!(at("vm/hwConfig/vcpus"), Place::Property);
        assert_eq!(at("mounts/3/flags"), Place::Unknown);
        assert_eq!(at("linux/swimming"), Place::Unknown);
    }
}
