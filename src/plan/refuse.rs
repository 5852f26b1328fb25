//! What the native backend does not honour: refused by name before anything exists.
//!
//! A property of runtime-spec that is in neither [`REFUSED`] nor refused by its value further on must have its effect:
//! `e2e/schema_walk.rs` sets each alone and looks for it.

use crate::{Facts, Note};
use oci_spec::runtime::{Linux, LinuxNamespaceType, Process, Spec};
use wharf_core::{Error, Result, annotations};

/// A property that is refused wherever it asks for something.
struct Refusal<T> {
    pointer: &'static str,
    why: &'static str,
    asks: fn(&T) -> bool,
}

const PLATFORM: &str = "is for another platform";
const YET: &str = "is not supported yet";

/// All of them. What comes to be supported leaves this table.
const REFUSED: &[Refusal<Spec>] = &[
    Refusal { pointer: "solaris", why: PLATFORM, asks: |spec| spec.solaris().is_some() },
    Refusal { pointer: "windows", why: PLATFORM, asks: |spec| spec.windows().is_some() },
    Refusal { pointer: "zos", why: PLATFORM, asks: |spec| spec.zos().is_some() },
    Refusal { pointer: "vm", why: "the native backend runs no virtual machines", asks: |spec| spec.vm().is_some() },
    Refusal {
        pointer: "linux/netDevices",
        why: YET,
        asks: |spec| linux(spec, |linux| linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty())),
    },
    Refusal { pointer: "linux/intelRdt", why: YET, asks: |spec| linux(spec, |linux| linux.intel_rdt().is_some()) },
];

/// Those of a process, the container's own or one that joins it.
const REFUSED_OF_PROCESS: &[Refusal<Process>] = &[
    Refusal { pointer: "process/commandLine", why: PLATFORM, asks: |process| is_set(process.command_line()) },
    Refusal { pointer: "process/user/username", why: PLATFORM, asks: |process| is_set(process.user().username()) },
];

fn process(spec: &Spec, asks: impl Fn(&Process) -> bool) -> bool {
    spec.process().as_ref().is_some_and(asks)
}

fn linux(spec: &Spec, asks: impl Fn(&Linux) -> bool) -> bool {
    spec.linux().as_ref().is_some_and(asks)
}

fn is_set(text: &Option<String>) -> bool {
    text.as_ref().is_some_and(|text| !text.is_empty())
}

impl<T> Refusal<T> {
    fn error(&self) -> Error {
        let name = self.pointer.rsplit('/').next().unwrap_or_default();
        Error::unsupported(name).because(self.why).at(self.pointer)
    }
}

/// What is refused of a process.
pub(crate) fn of_process(process: &Process) -> Result<()> {
    REFUSED_OF_PROCESS.iter().find(|refusal| (refusal.asks)(process)).map_or(Ok(()), |refusal| Err(refusal.error()))
}

pub(crate) fn all(spec: &Spec, facts: &Facts, notes: &mut Vec<Note>) -> Result<()> {
    if facts.freebsd {
        return Err(Refusal::<Spec> { pointer: "freebsd", why: PLATFORM, asks: |_| true }.error());
    }
    if let Some(refusal) = REFUSED.iter().find(|refusal| (refusal.asks)(spec)) {
        return Err(refusal.error());
    }
    spec.process().as_ref().map_or(Ok(()), of_process)?;
    if spec.annotations().as_ref().is_some_and(|annotations| annotations.contains_key("")) {
        return Err(Error::invalid("an annotation with an empty key").at("annotations/"));
    }
    let keys = spec.annotations().iter().flatten().map(|(key, _)| key.as_str());
    let ineffective = annotations::judge(keys, facts.systemd_cgroup)?;
    notes.extend(ineffective.into_iter().map(|(key, why)| Note::Annotation { key: key.to_owned(), why }));
    let adds = |process: &Process| process.user().additional_gids().as_ref().is_some_and(|gids| !gids.is_empty());
    if facts.keep_groups && process(spec, adds) {
        notes.push(Note::GroupsKept);
    }
    if process(spec, |process| process.console_size().is_some() && !process.terminal().unwrap_or(false)) {
        notes.push(Note::ConsoleSize);
    }
    let Some(linux) = spec.linux() else { return Ok(()) };
    if is_set(linux.mount_label()) && !facts.selinux {
        notes.push(Note::MountLabel);
    }
    let new_user = linux
        .namespaces()
        .iter()
        .flatten()
        .any(|namespace| namespace.typ() == LinuxNamespaceType::User && namespace.path().is_none());
    if new_user && linux.uid_mappings().is_none() != linux.gid_mappings().is_none() {
        let given = if linux.uid_mappings().is_some() { "linux/uidMappings" } else { "linux/gidMappings" };
        return Err(Error::invalid("a user namespace with only one of uidMappings and gidMappings").at(given));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_core::{PROPERTIES, Place, place};

    #[test]
    fn only_what_the_specification_knows_is_refused_by_name() {
        for refusal in REFUSED {
            assert_ne!(place(refusal.pointer.split('/')), Place::Unknown, "{}", refusal.pointer);
        }
        assert!(PROPERTIES.contains(&"freebsd"));
    }
}
