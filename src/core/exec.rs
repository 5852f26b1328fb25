//! One more process in a container that has one already.

use crate::{Ended, Error, Remark, Result};
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process};
use std::path::PathBuf;

/// A complete request for it. Paths are as given, relative to the working directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exec {
    /// `--process`: a process object (runtime-spec, config.md) that stands for the container's own.
    pub process: Option<PathBuf>,
    /// The command; empty where `process` has it.
    pub args: Vec<String>,
    /// `--tty`
    pub tty: bool,
    /// `--user`
    pub user: Option<User>,
    /// `--additional-gids`, added to those of the process.
    pub additional_gids: Vec<u32>,
    /// `--cwd`
    pub cwd: Option<String>,
    /// `--env`: `NAME=VALUE`; one that the process has already is replaced.
    pub env: Vec<String>,
    /// `--cap`: names of capabilities, added to those of the process.
    pub capabilities: Vec<String>,
    /// `--apparmor`
    pub apparmor: Option<String>,
    /// `--process-label`
    pub process_label: Option<String>,
    /// `--no-new-privs`: set, or left unset, whatever the process has; none where it is for the process to say.
    pub no_new_privileges: Option<bool>,
    /// `--preserve-fds`: how many descriptors from 3 on the process inherits.
    pub preserve_fds: u32,
    /// `--ignore-paused`: in a paused container the process waits until that is resumed.
    pub ignore_paused: bool,
    /// `--cgroup`: a path below the container's cgroup, or `CONTROLLER[,CONTROLLER]:PATH` for hierarchies of cgroup v1.
    pub cgroups: Vec<String>,
    /// `--detach`
    pub detach: bool,
    /// `--pid-file`; whoever execs another runtime hands it on, the verb writes it otherwise.
    pub pid_file: Option<PathBuf>,
    /// `--exit-record`: the file that tells how it ended and what it used; whoever waits writes it.
    pub exit_record: Option<PathBuf>,
    /// `--pidfd-socket`
    pub pidfd_socket: Option<PathBuf>,
    /// `--console-socket`
    pub console_socket: Option<PathBuf>,
}

impl Exec {
    /// The process with what the command line changes of it.
    pub fn change(&self, mut wanted: Process) -> Result<Process> {
        if !self.args.is_empty() {
            wanted.set_args(Some(self.args.clone()));
        }
        // The container's own terminal is no reason to give another one to every process in it.
        if self.tty || self.process.is_none() {
            wanted.set_terminal(Some(self.tty));
        }
        if let Some(user) = self.user {
            wanted.user_mut().set_uid(user.uid);
            if let Some(gid) = user.gid {
                wanted.user_mut().set_gid(gid);
            }
        }
        if !self.additional_gids.is_empty() {
            let mut gids = wanted.user().additional_gids().clone().unwrap_or_default();
            gids.extend(&self.additional_gids);
            wanted.user_mut().set_additional_gids(Some(gids));
        }
        if let Some(cwd) = &self.cwd {
            wanted.set_cwd(cwd.into());
        }
        if !self.env.is_empty() {
            let mut env = wanted.env().clone().unwrap_or_default();
            for variable in &self.env {
                let name = variable.split_inclusive('=').next().unwrap_or_default();
                if name.ends_with('=') {
                    env.retain(|other| !other.starts_with(name));
                }
                env.push(variable.clone());
            }
            wanted.set_env(Some(env));
        }
        if !self.capabilities.is_empty() {
            wanted.set_capabilities(Some(with(wanted.capabilities().clone(), &self.capabilities)?));
        }
        if let Some(profile) = &self.apparmor {
            wanted.set_apparmor_profile(Some(profile.clone()));
        }
        if let Some(label) = &self.process_label {
            wanted.set_selinux_label(Some(label.clone()));
        }
        if self.no_new_privileges.is_some() {
            wanted.set_no_new_privileges(self.no_new_privileges);
        }
        Ok(wanted)
    }

    /// Whether it asks for a process that is not simply the container's own, or that of its file, with another command.
    pub fn changes_more_than_the_command(&self) -> bool {
        let Exec { user, additional_gids, cwd, env, capabilities, apparmor, process_label, .. } = self;
        user.is_some()
            || !(additional_gids.is_empty() && env.is_empty() && capabilities.is_empty())
            || cwd.is_some()
            || apparmor.is_some()
            || process_label.is_some()
            || self.no_new_privileges.is_some()
            || (self.tty && self.process.is_some())
    }
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

/// `UID[:GID]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    /// None keeps the group of the process.
    pub gid: Option<u32>,
}

/// A process that has joined a container and waits; dropped before its release, it ends.
pub trait Joined {
    /// For the pid file: whoever adopts it will wait for this one.
    fn pid(&self) -> i32;

    /// What of its process object is honoured only nearly, each with its place.
    fn remarks(&self) -> Vec<Remark> {
        Vec::new()
    }

    /// Lets it become its command; returns when that has happened. From then on it outlives us.
    fn release(&mut self) -> Result<()>;

    /// Passes signals on to it and waits for its end.
    fn wait(self: Box<Self>) -> Result<Ended>;
}
