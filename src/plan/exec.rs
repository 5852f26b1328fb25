//! A process that joins a container: what it becomes, and how it gets there.

use crate::namespaces::{NEWNS, NEWPID, NEWUSER};
use crate::process::SetGroups;
use crate::{Builder, Facts, Note, Plan, capabilities, process, refuse, terminal};
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process};
use wharf_core::{Error, Exec, Result};
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
    process::become_payload(wanted, facts, filter, &mut plan)?;
    Ok(plan.finish())
}

/// What of a process that joins is honoured only nearly.
pub fn exec_notes(wanted: &Process) -> Vec<Note> {
    let mut notes = Vec::new();
    capabilities::notes(wanted, &mut notes);
    notes
}

/// The process with what the command line changes of it.
pub fn changed(mut wanted: Process, asked: &Exec) -> Result<Process> {
    if !asked.args.is_empty() {
        wanted.set_args(Some(asked.args.clone()));
    }
    // The container's own terminal is no reason to give another one to every process in it.
    if asked.tty || asked.process.is_none() {
        wanted.set_terminal(Some(asked.tty));
    }
    if let Some(user) = asked.user {
        wanted.user_mut().set_uid(user.uid);
        if let Some(gid) = user.gid {
            wanted.user_mut().set_gid(gid);
        }
    }
    if !asked.additional_gids.is_empty() {
        let mut gids = wanted.user().additional_gids().clone().unwrap_or_default();
        gids.extend(&asked.additional_gids);
        wanted.user_mut().set_additional_gids(Some(gids));
    }
    if let Some(cwd) = &asked.cwd {
        wanted.set_cwd(cwd.into());
    }
    if !asked.env.is_empty() {
        let mut env = wanted.env().clone().unwrap_or_default();
        for variable in &asked.env {
            let name = variable.split_inclusive('=').next().unwrap_or_default();
            if name.ends_with('=') {
                env.retain(|other| !other.starts_with(name));
            }
            env.push(variable.clone());
        }
        wanted.set_env(Some(env));
    }
    if !asked.capabilities.is_empty() {
        wanted.set_capabilities(Some(with(wanted.capabilities().clone(), &asked.capabilities)?));
    }
    if let Some(profile) = &asked.apparmor {
        wanted.set_apparmor_profile(Some(profile.clone()));
    }
    if let Some(label) = &asked.process_label {
        wanted.set_selinux_label(Some(label.clone()));
    }
    if asked.no_new_privileges.is_some() {
        wanted.set_no_new_privileges(asked.no_new_privileges);
    }
    Ok(wanted)
}

/// Never the inheritable set: programs with file capabilities would get more than was meant (CVE-2022-29162).
fn with(sets: Option<LinuxCapabilities>, names: &[String]) -> Result<LinuxCapabilities> {
    let mut sets = sets.unwrap_or_else(none);
    for name in names {
        let upper = name.to_ascii_uppercase();
        let one: Capability = upper.strip_prefix("CAP_").unwrap_or(&upper).parse().map_err(|_| {
            Error::invalid(format!("capability {name:?}")).because("there is none of that name").at("--cap")
        })?;
        let added = |set: &Option<Capabilities>| Some(set.iter().flatten().copied().chain([one]).collect());
        let (bounding, effective) = (added(sets.bounding()), added(sets.effective()));
        let permitted = added(sets.permitted());
        sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    }
    Ok(sets)
}

/// A process without `capabilities` has none, which is not what an empty object of this type has.
fn none() -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(None).set_effective(None).set_permitted(None).set_inheritable(None).set_ambient(None);
    sets
}
