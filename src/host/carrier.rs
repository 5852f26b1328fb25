//! The seam for a backend whose containers are borne by another program: that one makes the namespaces and the id maps, and
//! the same init performs the same plan in them.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use wharf_core::{Bundle, CgroupPaths, Job, Process, Record, Remark, Result};
use wharf_plan::Namespaces;
use wharf_steps::Slot;

/// One that bears containers.
pub trait Carrier {
    /// Name of the cgroup, inside the container's, that it puts the first process into.
    fn inner_cgroup(&self) -> &'static str;

    /// It makes the container's cgroup itself, where it likes: [`Labour::found`] hears of it.
    fn makes_cgroup(&self) -> bool {
        false
    }

    /// Where the root file system is for the plan, where that is not the bundle's own place.
    fn root_place(&self, _job: &Job<'_>) -> Result<Option<String>> {
        Ok(None)
    }

    /// What is to be kept for later verbs, from the first record on.
    fn memory(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// Refuses what it cannot carry, by its place in config.json. Touches nothing. What it honours only nearly comes back.
    fn judge(&self, job: &Job<'_>, namespaces: &Namespaces) -> Result<Vec<Remark>>;

    /// Has the first process born, which then has what [`Labour`] says and waits for a word at its plan's `PARENT`.
    fn bear(&self, labour: &Labour<'_>) -> Result<Box<dyn Carried>>;

    /// The payload runs.
    fn started(&self, record: &Record, memory: &serde_json::Value) -> Result<()>;

    /// Whether the recorded cgroup is still this container's, and not another one's by now.
    fn has_cgroup(&self, _remains: &Remains<'_>) -> Result<bool> {
        Ok(true)
    }

    /// Takes away all that is its own, when every process of the container has ended; the container's cgroup is still there.
    fn remove(&self, remains: &Remains<'_>) -> Result<()>;

    /// What exists of its own, a few words each.
    fn holdings(&self, remains: &Remains<'_>) -> Result<Vec<String>>;
}

/// A container that is to be taken away, or is looked at for that.
pub struct Remains<'a> {
    pub record: &'a Record,
    pub state_dir: &'a Path,
    /// What [`Carrier::memory`] or [`StandIn::memory`] was.
    pub memory: &'a serde_json::Value,
}

/// All that a first process shall have.
pub struct Labour<'a> {
    pub id: &'a str,
    /// The state directory, and its absolute path.
    pub dir: BorrowedFd<'a>,
    pub state_dir: &'a Path,
    pub namespaces: &'a Namespaces,
    /// Those to join, as `namespaces` has them.
    pub joined: &'a [OwnedFd],
    pub bundle: &'a Bundle,
    /// The container's, which is there; none where the carrier makes it.
    pub cgroup: &'a CgroupPaths,
    /// To be told the absolute path of the cgroup that is about to be made, before that: its record comes back.
    pub found: &'a dyn Fn(&str) -> Result<CgroupPaths>,
    /// The program that the first process is to be executed from: sealed, in memory.
    pub program: &'a OwnedFd,
    pub plan: &'a OwnedFd,
    /// Descriptors that it keeps.
    pub kept: &'a [i32; Slot::COUNT],
    /// How many of ours, from 3 on, are the payload's.
    pub preserved: u32,
}

/// A container between birth and release.
pub trait Carried {
    /// The first process.
    fn pid(&self) -> i32;
    fn pidfd(&self) -> &OwnedFd;

    /// The path of its cgroup, where the carrier has made that.
    fn cgroup(&self) -> Option<&str> {
        None
    }

    /// What went wrong, where its program has ended early, in that one's own words.
    fn last_words(&self) -> Option<String>;

    /// The process that engines see in the place of the first one, which is now in its root file system and waits for
    /// `start`; what is to be kept for [`Carrier::started`].
    fn stand_in(&mut self, init: &Process) -> Result<StandIn>;

    /// It outlives us from now on.
    fn release(&mut self) -> Result<()>;

    /// It is not to be: returns when all that has borne it has ended.
    fn give_up(&mut self);
}

/// Who stands in.
pub struct StandIn {
    pub process: Process,
    pub pidfd: OwnedFd,
    pub memory: serde_json::Value,
}
