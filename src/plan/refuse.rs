//! What the native backend does not honour: refused by name before anything exists.

use crate::{Facts, Note};
use oci_spec::runtime::Spec;
use wharf_core::{Error, Result};

/// Sections and properties that nothing below handles.
pub(crate) fn platform(spec: &Spec, facts: &Facts, notes: &mut Vec<Note>) -> Result<()> {
    let no = |what: &str, why: &str, pointer: &str| Err(Error::unsupported(what).because(why).at(pointer));
    let other = "is for another platform";
    if spec.solaris().is_some() {
        return no("solaris", other, "solaris");
    }
    if spec.windows().is_some() {
        return no("windows", other, "windows");
    }
    if spec.zos().is_some() {
        return no("zos", other, "zos");
    }
    if spec.vm().is_some() {
        return no("vm", "the native backend runs no virtual machines", "vm");
    }
    if spec.annotations().as_ref().is_some_and(|annotations| annotations.contains_key("")) {
        return Err(Error::invalid("an annotation with an empty key").at("annotations"));
    }
    let yet = "is not supported yet";
    if let Some(linux) = spec.linux() {
        if linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty()) {
            return no("netDevices", yet, "linux/netDevices");
        }
        if linux.intel_rdt().is_some() {
            return no("intelRdt", yet, "linux/intelRdt");
        }
        if linux.memory_policy().is_some() {
            return no("memoryPolicy", yet, "linux/memoryPolicy");
        }
        if linux.mount_label().as_ref().is_some_and(|label| !label.is_empty()) {
            if facts.selinux {
                return no("mountLabel", yet, "linux/mountLabel");
            }
            notes.push(Note::MountLabel);
        }
        if linux.uid_mappings().is_none() != linux.gid_mappings().is_none()
            && linux.namespaces().iter().flatten().any(|namespace| {
                namespace.typ() == oci_spec::runtime::LinuxNamespaceType::User && namespace.path().is_none()
            })
        {
            return Err(Error::invalid("a user namespace with only one of uidMappings and gidMappings").at("linux"));
        }
    }
    if let Some(process) = spec.process() {
        if process.apparmor_profile().as_ref().is_some_and(|profile| !profile.is_empty()) {
            return no("apparmorProfile", yet, "process/apparmorProfile");
        }
        if process.selinux_label().as_ref().is_some_and(|label| !label.is_empty()) {
            return no("selinuxLabel", yet, "process/selinuxLabel");
        }
    }
    Ok(())
}
