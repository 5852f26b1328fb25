//! What of a spec is honoured only nearly, or has no effect on this machine.

use crate::seccomp;
use std::fmt;

/// One such thing, with its place in config.json.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    Seccomp(seccomp::Note),
    /// A bind mount has the options of the file system that it shows: mount(2) ignores others, as with every runtime.
    BindOption {
        option: String,
        pointer: String,
    },
    /// A kernel without SELinux knows no labels.
    MountLabel,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Seccomp(note) => note.fmt(f),
            Note::BindOption { option, pointer } => {
                write!(f, "mount option {option} has no effect on a bind mount [{pointer}]")
            }
            Note::MountLabel => f.write_str("mountLabel has no effect without SELinux [linux/mountLabel]"),
        }
    }
}
