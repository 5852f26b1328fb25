//! What is remembered of a container beside the record's own fields.

use crate::host_mounts::HostMounts;
use crate::listener::Kept;
use serde::{Deserialize, Serialize};
use wharf_core::{Opaque, Record};
use wharf_plan::Container;
use wharf_steps::Step;

const NEWPID: u64 = 0x2000_0000;

/// Kept in [`Record::private`].
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Private {
    /// The payload is the first process of a pid namespace of its own: its end is everybody's.
    pub(crate) own_pids: bool,
    /// Its mounts are the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) host_mounts: Option<HostMounts>,
    /// Fingerprint of the device rules in force, if `create` set any.
    #[serde(default)]
    pub(crate) devices: u64,
    /// Who is given the listener of its seccomp filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) listener: Option<Kept>,
    /// What its carrier keeps.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub(crate) carried: serde_json::Value,
    /// Number of the first step after `start`.
    pub(crate) late_from: usize,
    /// Those steps in words, because whoever calls `start` has no plan.
    pub(crate) late: Vec<Late>,
}

/// A step after `start`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Late {
    /// What it does; the command or the hook's path for the two kinds that have one.
    pub(crate) doing: String,
    pub(crate) at: String,
    /// `exec`, `hook` or nothing
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) kind: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) milliseconds: i32,
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}

impl Private {
    pub(crate) fn new(container: &Container, host_mounts: Option<HostMounts>, devices: u64) -> Self {
        let plan = &container.plan;
        let late = |index: usize| {
            let step = plan.steps()[index];
            let (doing, kind, milliseconds) = match step {
                Step::Exec { arguments, .. } => {
                    (plan.list(arguments).into_iter().next().unwrap_or_default(), "exec", 0)
                }
                Step::Hook { path, milliseconds, .. } => (plan.text(path), "hook", milliseconds),
                other => (plan.describe(other), "", 0),
            };
            Late { doing, at: plan.pointer(index).to_owned(), kind: kind.to_owned(), milliseconds }
        };
        Private {
            own_pids: container.namespaces.new & NEWPID != 0,
            host_mounts,
            devices,
            listener: container.listener.as_ref().map(Kept::from),
            carried: serde_json::Value::Null,
            late_from: plan.after_start(),
            late: (plan.after_start()..plan.steps().len()).map(late).collect(),
        }
    }

    /// Of a container whose `create` was interrupted there is none.
    pub(crate) fn of(record: &Record) -> Self {
        record.private.read().unwrap_or_default()
    }

    pub(crate) fn opaque(&self) -> Opaque {
        Opaque::of(self)
    }
}
