//! The process that the container is for: what it becomes, in the order the kernel's rules demand.

use crate::namespaces::Namespaces;
use crate::{Builder, Facts, Note, capabilities, environment, mounts, required, rlimits, schedule, seccomp, terminal};
use oci_spec::runtime::{Process, Spec};
use wharf_core::{Error, Result};
use wharf_steps::{List, Step};

/// Where commands are looked for in an environment without PATH (as execvp(3) and runc do).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn process(spec: &Spec) -> Result<&Process> {
    required(spec.process(), "process")
}

/// What must hold for the parent to go on at all.
pub(crate) fn early(spec: &Spec, plan: &mut Builder) -> Result<()> {
    let process = process(spec)?;
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
    rlimits::judge(process)?;
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

/// All that can be done before `start`, so that a failure is one of `create`.
pub(crate) fn prepare(spec: &Spec, facts: &Facts, namespaces: &Namespaces, plan: &mut Builder) -> Result<()> {
    let process = process(spec)?;
    let user = process.user();
    let (uid, gid) = (user.uid(), user.gid());
    if !facts.no_new_keyring {
        let name = plan.text(format!("_ses.{}", facts.id), "")?;
        plan.step(Step::SessionKeyring { name }, "");
    }
    if let Some(personality) = spec.linux().as_ref().and_then(|linux| linux.personality().as_ref()) {
        plan.step(Step::Personality { persona: schedule::persona(personality)? }, "linux/personality");
    }
    if let Some(priority) = process.io_priority() {
        plan.step(Step::IoPriority { value: schedule::io_priority(priority)? }, "process/ioPriority");
    }
    if let Some(scheduler) = process.scheduler() {
        plan.step(schedule::step(scheduler)?, "process/scheduler");
    }
    // A caller without privileges may not change its groups: setgroups(2) is denied to its user namespace.
    if facts.uid == 0 || !namespaces.new_user() {
        let gids: Vec<u8> = user.additional_gids().iter().flatten().flat_map(|gid| gid.to_le_bytes()).collect();
        let gids = plan.bytes(&gids);
        plan.step(Step::Groups { gids }, "process/user/additionalGids");
    } else if user.additional_gids().as_ref().is_some_and(|gids| !gids.is_empty()) {
        return Err(Error::unsupported("additionalGids")
            .because("a user namespace made without root has no supplementary groups")
            .at("process/user/additionalGids"));
    }
    let path = plan.text(path_bytes(process.cwd()), "process/cwd")?;
    plan.step(Step::WorkingDirectory { path, uid, gid }, "process/cwd");
    mounts::readonly_root(spec, plan);
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
pub(crate) fn become_payload(spec: &Spec, facts: &Facts, notes: &mut Vec<Note>, plan: &mut Builder) -> Result<()> {
    let process = process(spec)?;
    let no_new_privileges = process.no_new_privileges().unwrap_or(false);
    let filter = match spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) {
        Some(profile) => Some(compiled(profile, notes, plan)?),
        None => None,
    };
    // Without no_new_privs loading a filter takes CAP_SYS_ADMIN, so it comes before the drop; with it, last: the
    // filter then need not allow what dropping takes (seccomp(2)).
    if let Some(filter) = filter.filter(|_| !no_new_privileges) {
        plan.step(filter, "linux/seccomp");
    }
    let sets = capabilities::judge(process, facts)?;
    plan.step(Step::Bounding { keep: sets.bounding }, "process/capabilities/bounding");
    plan.step(Step::Gid { gid: process.user().gid() }, "process/user/gid");
    plan.step(Step::Uid { uid: process.user().uid() }, "process/user/uid");
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

fn compiled(profile: &oci_spec::runtime::LinuxSeccomp, notes: &mut Vec<Note>, plan: &mut Builder) -> Result<Step> {
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
