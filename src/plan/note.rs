//! What of a spec is honoured only nearly, or has no effect on this machine.

use crate::seccomp;
use wharf_core::{Remark, annotations};

/// One such thing, with its place in config.json.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    Seccomp(seccomp::Note),
    /// A bind mount has the options of the file system that it shows: mount(2) ignores others, as with every runtime.
    BindOption {
        option: String,
        pointer: String,
    },
    /// The host's own device is bound, with the mode and owner that it has there.
    BoundDevice {
        pointer: String,
    },
    /// config-linux.md has /dev/ptmx be the container's own /dev/pts/ptmx; an engine that lists all devices lists the host's.
    PtmxDevice {
        pointer: String,
    },
    /// A kernel without SELinux knows no labels.
    MountLabel,
    /// An annotation that means something to other runtimes.
    Annotation {
        key: String,
        why: &'static str,
    },
    /// An ambient capability must be permitted and inheritable too.
    Ambient,
    /// The payload keeps the caller's groups instead.
    GroupsKept,
    /// config.md: "Runtimes MUST ignore consoleSize if terminal is false or unset".
    ConsoleSize,
}

impl Note {
    pub(crate) fn is_unknown_syscall(&self) -> bool {
        matches!(self, Note::Seccomp(seccomp::Note::UnknownSyscall { .. }))
    }

    pub fn remark(&self) -> Remark {
        match self {
            Note::Seccomp(note) => Remark::nearly(note.pointer(), note.text()),
            Note::BindOption { option, pointer } => {
                Remark::nearly(pointer, format!("mount option {option} has no effect on a bind mount"))
            }
            Note::BoundDevice { pointer } => {
                Remark::without_effect(pointer, "in a user namespace devices are the host's own, bound as they are")
            }
            Note::PtmxDevice { pointer } => {
                Remark::without_effect(pointer, "/dev/ptmx is always a link to the container's own pts/ptmx")
            }
            Note::MountLabel => Remark::without_effect("linux/mountLabel", "mountLabel has no effect without SELinux"),
            Note::Annotation { key, why } => {
                Remark::without_effect(annotations::pointer(key), format!("annotation {key} has no effect: {why}"))
            }
            Note::GroupsKept => Remark::without_effect(
                "process/user/additionalGids",
                format!("the caller's groups are kept, as {} says", annotations::KEEP_ORIGINAL_GROUPS),
            ),
            Note::Ambient => Remark::nearly(
                "process/capabilities/ambient",
                "a capability that is not both permitted and inheritable cannot be ambient, and is left out",
            ),
            Note::ConsoleSize => Remark::without_effect("process/consoleSize", "there is no terminal"),
        }
    }
}
