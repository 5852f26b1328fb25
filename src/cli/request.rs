//! What was asked for: complete when made, never filled in later.

use crate::config::{Configuration, Setting};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use wharf_core::{ContainerId, Error, Exec, Level};

#[derive(Debug)]
pub(crate) struct Request {
    /// Directory of the records, absolute.
    pub(crate) root: PathBuf,
    /// `--backend`
    pub(crate) backend: Option<String>,
    /// The name that wharf was called by, without directories.
    pub(crate) argv0: String,
    /// None: there is none, or this verb does without a broken one.
    pub(crate) configuration: Option<Configuration>,
    /// Why it does without.
    pub(crate) ignored: Option<Error>,
    /// `--systemd-cgroup`
    pub(crate) systemd_cgroup: bool,
    /// `--rootless`
    pub(crate) rootless: Option<String>,
    pub(crate) action: Action,
}

#[derive(Debug)]
pub(crate) enum Action {
    Create(Create),
    Start { id: ContainerId },
    State { id: ContainerId },
    Kill { id: ContainerId, signal: i32, all: bool },
    Delete { id: ContainerId, force: bool },
    Pause { id: ContainerId },
    Resume { id: ContainerId },
    Ps { id: ContainerId, format: ListFormat, options: Vec<OsString> },
    Events(Events),
    Update { id: ContainerId, from: Resources },
    Exec { id: ContainerId, exec: Box<Exec> },
    Wait { id: ContainerId, json: bool },
    Run { create: Create, detach: bool, keep: bool },
    Checkpoint(Box<Checkpoint>),
    Restore(Box<Restore>),
    List { format: ListFormat, quiet: bool },
    Gc { apply: bool, stopped: bool, format: ListFormat },
    Checkpoints(Checkpoints),
    Spec { bundle: PathBuf, rootless: bool },
    Features,
    Doctor { format: ListFormat },
    Config(ConfigAction),
    Explain(Explain),
    Plan(Plan),
}

#[derive(Debug)]
pub(crate) enum ConfigAction {
    /// None: the configuration in effect.
    Check { file: Option<PathBuf> },
    /// The settings that are in effect beside those that only the file knows.
    Show { json: bool, settings: Vec<Setting> },
    /// `renamed`: pairs of a backend's name there and here.
    Import { file: PathBuf, renamed: Vec<(String, String)> },
}

/// `checkpoints` and its action.
#[derive(Debug)]
pub(crate) enum Checkpoints {
    /// None: of every container.
    List {
        id: Option<ContainerId>,
        format: ListFormat,
    },
    Show {
        id: ContainerId,
        name: String,
    },
    Remove {
        id: ContainerId,
        name: String,
    },
    /// `apply`: not only told.
    Prune {
        id: Option<ContainerId>,
        apply: bool,
        format: ListFormat,
    },
    /// `from`: only what has changed on disk since that one. None of `output` is stdout.
    Export {
        id: ContainerId,
        name: String,
        from: Option<String>,
        output: Option<PathBuf>,
    },
    /// None is stdin.
    Import {
        input: Option<PathBuf>,
    },
}

/// `route explain`: at least one of id and bundle is given.
#[derive(Debug)]
pub(crate) struct Explain {
    pub(crate) id: Option<ContainerId>,
    pub(crate) bundle: Option<PathBuf>,
    /// In the place of the name that wharf was called by.
    pub(crate) argv0: Option<String>,
    pub(crate) json: bool,
}

/// What `create` and `run` are told. Paths are as given, relative to the working directory.
#[derive(Debug)]
pub(crate) struct Create {
    pub(crate) id: ContainerId,
    pub(crate) bundle: PathBuf,
    pub(crate) console_socket: Option<PathBuf>,
    pub(crate) pidfd_socket: Option<PathBuf>,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) preserve_fds: u32,
    pub(crate) no_pivot: bool,
    pub(crate) no_new_keyring: bool,
    /// Of `run` alone.
    pub(crate) no_subreaper: bool,
}

/// What `checkpoint` is told. Paths are as given.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) id: ContainerId,
    pub(crate) name: Option<String>,
    /// `--disk zfs`; none where it is left to us.
    pub(crate) zfs: Option<bool>,
    /// `--check`
    pub(crate) only_check: bool,
    /// Without the directory of the images, which follows from the name where there is one.
    pub(crate) wanted: wharf_core::Checkpoint,
}

/// What `restore` is told.
#[derive(Debug)]
pub(crate) struct Restore {
    /// The words of a `create`; the bundle is empty where none is named.
    pub(crate) create: Create,
    pub(crate) name: Option<String>,
    pub(crate) detach: bool,
    /// `--as`
    pub(crate) new: Option<ContainerId>,
    /// `--count`
    pub(crate) count: Option<u32>,
    pub(crate) verify: bool,
    pub(crate) rollback: bool,
    pub(crate) wanted: wharf_core::Restore,
}

/// Where the limits of `update` stand.
#[derive(Debug)]
pub(crate) enum Resources {
    /// On the command line; `linux.resources` as JSON.
    Typed(serde_json::Value),
    Stdin,
    File(PathBuf),
}

/// What `plan` is told.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The container that would be made.
    pub(crate) id: ContainerId,
    pub(crate) bundle: PathBuf,
    /// `--format json`
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListFormat {
    Table,
    Json,
}

/// Where and how failures are logged; known even when the rest of the command line is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogOptions {
    pub(crate) file: Option<PathBuf>,
    /// `--log-format json`
    pub(crate) json: bool,
    pub(crate) level: Level,
    /// The command, for people, where it is to be timed.
    pub(crate) timed: Option<String>,
    /// `--timings`
    pub(crate) timings: bool,
    /// `--trace`
    pub(crate) trace: Option<PathBuf>,
}

impl LogOptions {
    /// As another runtime is told them.
    pub(crate) fn to(&self) -> wharf_core::Log<'_> {
        wharf_core::Log { file: self.file.as_deref(), json: self.json, debug: self.level == Level::Debug }
    }
}

/// What `events` is asked for.
#[derive(Debug)]
pub(crate) struct Events {
    /// None for all.
    pub(crate) of: Option<ContainerId>,
    /// None for once.
    pub(crate) interval: Option<Duration>,
    /// Only once.
    pub(crate) prometheus: bool,
}
