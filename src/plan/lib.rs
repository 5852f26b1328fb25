//! Turns a spec into a plan, and performs nothing: every judgment about a container is made here.
#![forbid(unsafe_code)]

mod affinity;
mod builder;
mod capabilities;
mod describe;
mod devices;
mod environment;
mod exec;
mod facts;
mod hooks;
mod masks;
mod memory_policy;
mod mounts;
mod namespaces;
mod note;
pub mod options;
mod process;
mod refuse;
mod rlimits;
mod schedule;
pub mod seccomp;
mod selinux;
mod sysctl;
mod terminal;
mod trees;

pub use affinity::{Affinity, Cpus, judge as affinity};
pub use builder::{Builder, Plan};
pub use describe::{command, hook};
pub use environment::NOTIFY_DIRECTORY;
pub use exec::{Joining, exec, exec_notes};
pub use facts::{CgroupMount, Facts, Listen};
pub use hooks::entries as hook_entries;
pub use namespaces::{Born, Join, Mapping, Namespaces, kind_of};
pub use note::Note;
pub use rlimits::{Rlimit, judge as rlimits};
pub use trees::{Ids, Owners, Tree};

use oci_spec::runtime::Spec;
use wharf_core::{Error, Result};
use wharf_steps::Phase;

/// A container as the planner leaves it: what the parent does around the birth, and what the init does after it.
#[derive(Debug)]
pub struct Container {
    pub namespaces: Namespaces,
    pub plan: Plan,
    /// What the parent opens for the init before the birth.
    pub trees: Vec<Tree>,
    /// The init stops for hooks when its mounts are made.
    pub has_hooks: bool,
    /// Who is given the listener of a seccomp filter that notifies.
    pub listener: Option<seccomp::Listener>,
    /// What is honoured only nearly, or has no effect on this machine.
    pub notes: Vec<Note>,
}

/// Plans a whole container. Errors name the first property that cannot be honoured.
pub fn container(spec: &Spec, facts: &Facts) -> Result<Container> {
    let mut notes = Vec::new();
    refuse::all(spec, facts, &mut notes)?;
    let namespaces = namespaces::judge(spec)?;
    let own_mounts = namespaces.has_mounts();
    let mut plan = Builder::new();
    namespaces::enter(&namespaces, facts, &mut plan)?;
    let copies = mounts::root(spec, facts, &namespaces, &mut plan)?;
    let terminal = terminal::judge(spec, &mut plan)?;
    let mounted = mounts::all(spec, facts, &namespaces, &copies, terminal.as_ref(), &mut notes, &mut plan)?;
    if mounted.own_dev {
        devices::all(spec, facts, &namespaces, &mut notes, &mut plan)?;
    }
    if let Some(terminal) = &terminal {
        terminal.open(&mut plan)?;
    }
    environment::notify_mount(facts, &mut plan)?;
    namespaces::configure(spec, &namespaces, &mut plan)?;
    sysctl::all(spec, &namespaces, &mut plan)?;
    let process = process::of(spec)?;
    namespaces::has_user(process.user(), &namespaces)?;
    process::early(process, &mut plan)?;
    masks::source(spec, &mut plan);
    let has_hooks = spec.hooks().is_some();
    if has_hooks {
        plan.sync(Phase::Mounted);
    }
    hooks::create_container(spec, &mut plan)?;
    mounts::enter_root(spec, facts, own_mounts, &mut plan)?;
    masks::all(spec, facts, &mut plan)?;
    if let Some(terminal) = &terminal {
        terminal.bind(&mut plan)?;
    }
    mounted.finish_dev(&mut plan)?;
    let memory_policy = memory_policy::judge(spec)?;
    let surroundings = process::Surroundings {
        persona: process::persona(spec)?,
        memory_policy: memory_policy.as_ref().map(|(mode, nodes)| (*mode, nodes.as_slice())),
        set_groups: namespaces.set_groups(facts),
        own_root: Some(spec),
    };
    process::prepare(process, facts, &surroundings, &mut plan)?;
    match facts.then_start {
        // One word is both the release and the start.
        true => plan.report(Phase::Ready),
        false => plan.sync(Phase::Ready),
    }
    plan.wait_start();
    hooks::start_container(spec, &mut plan)?;
    let filter = process::filter(spec, &mut notes, &mut plan)?;
    let is_root = facts.all_root && !namespaces.apart(namespaces::NEWUSER);
    process::become_payload(process, facts, is_root, filter, &mut plan)?;
    capabilities::notes(process, &mut notes);
    let listener = process::profile(spec).and_then(|profile| seccomp::agent(&profile));
    Ok(Container { namespaces, plan: plan.finish(), trees: copies.trees, has_hooks, listener, notes })
}

/// A property of `config.json` that must be there.
fn required<'a, T>(value: &'a Option<T>, pointer: &str) -> Result<&'a T> {
    value.as_ref().ok_or_else(|| Error::invalid(format!("{pointer} is missing")).at(pointer))
}
