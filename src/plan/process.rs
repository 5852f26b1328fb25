//! The process that the container is for: what it becomes, in the order the kernel's rules demand.

use crate::{
    Builder, Facts, Note, affinity, capabilities, environment, memory_policy, mounts, required, rlimits, schedule,
    seccomp, selinux, terminal,
};
use oci_spec::runtime::{LinuxSeccomp, Process, Spec};
use std::borrow::Cow;
use wharf_core::{Error, Remark, Result, annotations};
use wharf_steps::{List, Step};

/// Where commands are looked for in an environment without PATH (as execvp(3) and runc do).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(crate) fn of(spec: &Spec) -> Result<&Process> {
    required(spec.process(), "process")
}

/// What must hold for the parent to go on at all.
pub(crate) fn early(process: &Process, plan: &mut Builder) -> Result<()> {
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(Error::invalid("process/args is empty").at("process/args"));
    }
    if !process.cwd().is_absolute() {
        return Err(Error::invalid(format!("working directory {:?}", process.cwd()))
            .because("must be absolute")
            .at("process/cwd"));
    }
    if let Some(adjustment) = process.oom_score_adj()
        && !(-1000..=1000).contains(&adjustment)
    {
        return Err(Error::invalid(format!("oomScoreAdj {adjustment}"))
            .because("must be from -1000 to 1000")
            .at("process/oomScoreAdj"));
    }
    let user = process.user();
    // To the kernel the largest id means "do not change" (setresuid(2)), and that would be root.
    for (id, name) in [(user.uid(), "uid"), (user.gid(), "gid")] {
        if id == u32::MAX {
            return Err(Error::invalid(format!("{name} {id}")).because("is no id").at(format!("process/user/{name}")));
        }
    }
    rlimits::judge(process)?;
    affinity::judge(process)?;
    for (index, variable) in process.env().iter().flatten().enumerate() {
        if !variable.contains('=') || variable.starts_with('=') {
            return Err(Error::invalid(format!("environment variable {:?}", shortened(variable)))
                .because("must have the form NAME=VALUE")
                .at(format!("process/env/{index}")));
        }
    }
    plan.step(Step::NewSession {}, "process");
    Ok(())
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Whether supplementary groups can be changed (user_namespaces(7)).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetGroups {
    Allowed,
    /// It is for the user namespace to say, which is another's or was mapped by newgidmap(1).
    Unknown,
    /// The caller writes the map without privileges.
    Denied,
}

/// What a process finds around it.
pub(crate) struct Surroundings<'a> {
    /// personality(2)
    pub(crate) persona: Option<u64>,
    /// set_mempolicy(2): mode with flags, nodes.
    pub(crate) memory_policy: Option<(u32, &'a [u8])>,
    pub(crate) set_groups: SetGroups,
    /// The container that it is the first process of: its working directory is made, and the root may become read-only.
    pub(crate) own_root: Option<&'a Spec>,
}

/// personality(2) of every process of the container.
pub(crate) fn persona(spec: &Spec) -> Result<Option<u64>> {
    spec.linux().as_ref().and_then(|linux| linux.personality().as_ref()).map(schedule::persona).transpose()
}

/// All that can be done before `start`, so that a failure is one of `create`.
pub(crate) fn prepare(
    process: &Process,
    facts: &Facts,
    surroundings: &Surroundings<'_>,
    plan: &mut Builder,
) -> Result<()> {
    let user = process.user();
    let (uid, gid) = (user.uid(), user.gid());
    selinux::keys(process, facts, plan)?;
    if !facts.no_new_keyring {
        let name = plan.text(format!("_ses.{}", facts.id), "")?;
        plan.step(Step::SessionKeyring { name }, "");
    }
    if let Some(persona) = surroundings.persona {
        plan.step(Step::Personality { persona }, "linux/personality");
    }
    if let Some(policy) = surroundings.memory_policy {
        memory_policy::step(policy, plan);
    }
    if let Some(priority) = process.io_priority() {
        plan.step(Step::IoPriority { value: schedule::io_priority(priority)? }, "process/ioPriority");
    }
    if let Some(scheduler) = process.scheduler() {
        plan.step(schedule::step(scheduler)?, "process/scheduler");
    }
    if facts.keep_groups {
        // As they are.
    } else {
        // Engines name a group twice, once from the image and once from the command line; the kernel would keep both.
        let mut gids: Vec<u32> = user.additional_gids().iter().flatten().copied().collect();
        gids.sort_unstable();
        gids.dedup();
        match surroundings.set_groups {
            SetGroups::Denied if gids.is_empty() => {}
            SetGroups::Denied => {
                return Err(Error::unsupported("additionalGids")
                    .because("a user namespace made without root has no supplementary groups")
                    .hint("map more than your own id: newgidmap(1) then lets the container change its groups")
                    .at("process/user/additionalGids"));
            }
            SetGroups::Unknown if gids.is_empty() => {
                plan.step(Step::DropGroups {}, "process/user/additionalGids");
            }
            SetGroups::Allowed | SetGroups::Unknown => {
                let gids: Vec<u8> = gids.into_iter().flat_map(u32::to_le_bytes).collect();
                let gids = plan.bytes(&gids);
                plan.step(Step::Groups { gids }, "process/user/additionalGids");
            }
        }
    }
    let path = plan.text(path_bytes(process.cwd()), "process/cwd")?;
    let make = surroundings.own_root.is_some();
    plan.step(Step::WorkingDirectory { path, uid, gid, make }, "process/cwd");
    if let Some(spec) = surroundings.own_root {
        mounts::readonly_root(spec, plan);
    }
    let args = process.args().as_deref().unwrap_or_default();
    let name = plan.text(&args[0], "process/args/0")?;
    let candidates = candidates(process, plan)?;
    plan.step(Step::FindExecutable { name, candidates, uid, gid }, "process/args/0");
    if !process.env().iter().flatten().any(|variable| variable.starts_with("HOME=")) {
        plan.step(Step::Home { uid }, "process/user/uid");
    }
    environment::listen_pid(facts, plan);
    if let Some(mask) = user.umask() {
        if mask > 0o777 {
            return Err(Error::invalid(format!("umask {mask:#o}")).at("process/user/umask"));
        }
        plan.step(Step::Umask { mask }, "process/user/umask");
    } else {
        plan.step(Step::Umask { mask: 0o022 }, "process/user/umask");
    }
    if process.terminal().unwrap_or(false) {
        terminal::take(uid, plan);
    } else if uid != 0 {
        plan.step(Step::OwnStreams { uid }, "process/user/uid");
    }
    Ok(())
}

fn path_bytes(path: &std::path::Path) -> &[u8] {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes()
}

/// Where the executable may be: the name itself where it holds a slash, else below each directory of PATH.
fn candidates(process: &Process, plan: &mut Builder) -> Result<List> {
    let name = &process.args().as_deref().unwrap_or_default()[0];
    if name.contains('/') || name.is_empty() {
        return plan.list([name], "process/args");
    }
    // As getenv(3) reads it, the first one counts.
    let path = process.env().iter().flatten().find_map(|variable| variable.strip_prefix("PATH="));
    let directories = path.unwrap_or(DEFAULT_PATH).split(':');
    let full = directories
        .map(|directory| if directory.is_empty() { format!("./{name}") } else { format!("{directory}/{name}") });
    plan.list(full, "process/args")
}

/// The last steps: from a privileged init to the payload.
///
/// With `is_root` the init has been root from its birth on, and all of its ids are root's.
pub(crate) fn become_payload(
    process: &Process,
    facts: &Facts,
    is_root: bool,
    filter: Option<Step>,
    plan: &mut Builder,
) -> Result<()> {
    let no_new_privileges = process.no_new_privileges().unwrap_or(false);
    selinux::exec(process, facts, plan)?;
    // Before a filter that may not allow it, and after hooks, which would go into the profile.
    if let Some(profile) = process.apparmor_profile().as_ref().filter(|profile| !profile.is_empty()) {
        let pointer = "process/apparmorProfile";
        if !facts.apparmor {
            let why = "this kernel has no AppArmor, or it is off";
            return Err(Error::unsupported(format!("AppArmor profile {profile}")).because(why).at(pointer));
        }
        let profile = plan.text(profile, pointer)?;
        plan.step(Step::ChangeProfile { profile }, pointer);
    }
    // Without no_new_privs loading a filter takes CAP_SYS_ADMIN, so it comes before the drop; with it, last: the
    // filter then need not allow what dropping takes (seccomp(2)).
    if let Some(filter) = filter.filter(|_| !no_new_privileges) {
        plan.step(filter, "linux/seccomp");
    }
    let sets = capabilities::judge(process, facts)?;
    // What the kernel does not have need not be asked for.
    let unknown = u64::MAX.checked_shl(facts.last_capability + 1).unwrap_or(0);
    plan.step(Step::Bounding { keep: sets.bounding | unknown }, "process/capabilities/bounding");
    if !is_root || (process.user().uid(), process.user().gid()) != (0, 0) {
        plan.step(Step::Gid { gid: process.user().gid() }, "process/user/gid");
        plan.step(Step::Uid { uid: process.user().uid() }, "process/user/uid");
    }
    plan.step(
        Step::Capabilities { effective: sets.effective, permitted: sets.permitted, inheritable: sets.inheritable },
        "process/capabilities",
    );
    if sets.ambient != 0 {
        plan.step(Step::Ambient { set: sets.ambient }, "process/capabilities/ambient");
    }
    if no_new_privileges {
        plan.step(Step::NoNewPrivileges {}, "process/noNewPrivileges");
    }
    if let Some(filter) = filter.filter(|_| no_new_privileges) {
        plan.step(filter, "linux/seccomp");
    }
    let arguments = plan.list(process.args().iter().flatten(), "process/args")?;
    let environment = environment::list(process, facts, plan)?;
    plan.step(Step::Exec { arguments, environment }, "process/args/0");
    Ok(())
}

/// The step that loads the container's seccomp filter.
pub(crate) fn filter(spec: &Spec, notes: &mut Vec<Note>, plan: &mut Builder) -> Result<Option<Step>> {
    let Some(profile) = profile(spec) else { return Ok(None) };
    let annotation = |name: &str| spec.annotations().as_ref().and_then(|all| all.get(name));
    let from = notes.len();
    let step = compiled(&profile, notes, plan)?;
    if annotations::is_on(annotation(annotations::SECCOMP_FAIL_UNKNOWN))
        && let Some(unknown) = notes[from..].iter().find(|note| note.is_unknown_syscall())
    {
        let Remark { pointer, text, .. } = unknown.remark();
        let hint = format!("{} wants to know all", annotations::SECCOMP_FAIL_UNKNOWN);
        return Err(Error::invalid("compile the seccomp profile").because(text).at(pointer).hint(hint));
    }
    Ok(Some(step))
}

/// The seccomp profile, with the agent that an annotation names where it names none itself.
pub(crate) fn profile(spec: &Spec) -> Option<Cow<'_, LinuxSeccomp>> {
    let profile = spec.linux().as_ref()?.seccomp().as_ref()?;
    let receiver = spec.annotations().as_ref().and_then(|all| all.get(annotations::SECCOMP_RECEIVER));
    match (profile.listener_path(), receiver) {
        (None, Some(path)) => {
            let mut profile = profile.clone();
            profile.set_listener_path(Some(path.into()));
            Some(Cow::Owned(profile))
        }
        _ => Some(Cow::Borrowed(profile)),
    }
}

fn compiled(profile: &LinuxSeccomp, notes: &mut Vec<Note>, plan: &mut Builder) -> Result<Step> {
    let Some(machine) = seccomp::Machine::here() else {
        return Err(Error::unsupported("seccomp").because("has no tables for this machine").at("linux/seccomp"));
    };
    let program = seccomp::compile(profile, machine)?;
    notes.extend(program.notes.into_iter().map(Note::Seccomp));
    let mut bytes = Vec::with_capacity(8 * program.filter.len());
    for instruction in &program.filter {
        bytes.extend_from_slice(&instruction.code.to_ne_bytes());
        bytes.extend_from_slice(&[instruction.jt, instruction.jf]);
        bytes.extend_from_slice(&instruction.k.to_ne_bytes());
    }
    Ok(Step::Seccomp { program: plan.bytes(&bytes), flags: program.flags })
}
