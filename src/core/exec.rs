//! One more process in a container that has one already.

use crate::{Remark, Result};
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
    /// `--pidfd-socket`
    pub pidfd_socket: Option<PathBuf>,
    /// `--console-socket`
    pub console_socket: Option<PathBuf>,
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

    /// Passes signals on to it and waits for its end; returns its exit code, 128 + n for signal n.
    fn wait(self: Box<Self>) -> Result<i32>;
}
