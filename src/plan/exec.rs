//! A process that joins a container: what it becomes, and how it gets there.

use crate::namespaces::{NEWNS, NEWPID, NEWUSER};
use crate::process::SetGroups;
use crate::{Builder, Facts, Note, Plan, capabilities, process, refuse, terminal};
use oci_spec::runtime::Process;
use wharf_core::Result;
use wharf_steps::{Phase, Slot, Step};

/// What a process takes over from the container that it joins.
#[derive(Clone, Copy, Debug, Default)]
pub struct Joining<'a> {
    /// `CLONE_NEW*` of the namespaces that are not simply those of the container's creator.
    pub namespaces: u64,
    /// personality(2)
    pub persona: Option<u64>,
    /// Mode with flags, and nodes, of set_mempolicy(2).
    pub memory_policy: Option<(u32, &'a [u8])>,
    /// A seccomp filter of eight bytes an instruction, and its flags.
    pub seccomp: Option<(&'a [u8], u32)>,
    /// It is put into its cgroup after its birth, and waits until then.
    pub placed_later: bool,
}

/// Plans a process that joins a container. It says `Ready` when nothing is left but to become its command.
pub fn exec(wanted: &Process, facts: &Facts, joining: &Joining<'_>) -> Result<Plan> {
    refuse::of_process(wanted)?;
    let mut plan = Builder::new();
    if joining.placed_later {
        plan.step(Step::Await {}, "");
    }
    if joining.namespaces != 0 {
        // All at once, of one process that was identified, and not by names that may mean another one a moment later.
        plan.step(Step::EnterNamespace { slot: Slot::INIT, kind: joining.namespaces }, "");
    }
    if joining.namespaces & NEWNS == 0 {
        plan.step(Step::ChangeRoot {}, "");
    }
    if joining.namespaces & NEWUSER != 0 {
        plan.step(Step::BecomeRoot {}, "");
    }
    // Before anyone inside can see the process (CVE-2016-9962, CVE-2024-21626).
    plan.step(Step::CloseHost {}, "");
    if joining.namespaces & NEWPID != 0 {
        plan.step(Step::Bear { flags: 0 }, "");
    }
    process::early(wanted, &mut plan)?;
    terminal::join(wanted, &mut plan)?;
    let surroundings = process::Surroundings {
        persona: joining.persona,
        memory_policy: joining.memory_policy,
        set_groups: if joining.namespaces & NEWUSER == 0 { SetGroups::Allowed } else { SetGroups::Unknown },
        own_root: None,
    };
    process::prepare(wanted, facts, &surroundings, &mut plan)?;
    plan.sync(Phase::Ready);
    let filter = joining.seccomp.map(|(program, flags)| Step::Seccomp { program: plan.bytes(program), flags });
    let is_root = facts.all_root && joining.namespaces & NEWUSER == 0;
    process::become_payload(wanted, facts, is_root, filter, &mut plan)?;
    Ok(plan.finish())
}

/// What of a process that joins is honoured only nearly.
pub fn exec_notes(wanted: &Process) -> Vec<Note> {
    let mut notes = Vec::new();
    capabilities::notes(wanted, &mut notes);
    notes
}
