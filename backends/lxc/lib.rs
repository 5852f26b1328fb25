//! The LXC backend: LXC makes the container, and wharf's init performs the bundle's plan as its first process.
//!
//! ```text
//! wharf create                  the stand-in                lxc-start                 the init
//! ------------                  ------------                ---------                 --------
//! cgroup made, limits set
//! forks ----------------------> session of its own
//!                               forks --------------------> executed; makes
//!                                                           namespaces, id maps,
//!                                                           cgroups inside ours ----> executed from its copy
//! <--------------------------------------------------------------------------------- says hello
//! into the payload's cgroup ---> (counted there until the start)
//! plan, descriptors ---------------------------------------------------------------> performs the plan, as on native
//! <--------------------------------------------------------------------------------- "ready"
//! who it is ------------------> into its namespaces
//! record, pid file
//! released -------------------> waits for the end, which LXC tells with the status
//! exit
//! ```
#![forbid(unsafe_code)]

mod bear;
mod born;
mod config;
mod judge;
pub mod pct;
mod place;
mod program;
mod remove;
mod stand;
mod words;

pub use program::{START, version};

use wharf_core::{Job, Record, Remark, Result};
use wharf_host::{Carried, Carrier, Host, Labour, Remains};
use wharf_plan::Namespaces;

/// Name of the backend in records and on the command line.
pub const NAME: &str = "lxc";

/// Containers of LXC's own tools.
pub fn lxc() -> Host {
    Host::carried(NAME, Box::new(Lxc))
}

struct Lxc;

impl Carrier for Lxc {
    fn inner_cgroup(&self) -> &'static str {
        config::CONTAINER
    }

    fn judge(&self, job: &Job<'_>, namespaces: &Namespaces) -> Result<Vec<Remark>> {
        judge::judge(job, namespaces, &judge::Driver::Lxc)
    }

    fn bear(&self, labour: &Labour<'_>) -> Result<Box<dyn Carried>> {
        Ok(Box::new(bear::bear(labour)?))
    }

    fn started(&self, record: &Record, _memory: &serde_json::Value) -> Result<()> {
        remove::cgroup(record)?.seat(config::STAND_IN, record.engine_pid)
    }

    fn remove(&self, remains: &Remains<'_>) -> Result<()> {
        remove::remove(remains.record, remains.state_dir)
    }

    fn holdings(&self, remains: &Remains<'_>) -> Result<Vec<String>> {
        remove::holdings(remains.state_dir)
    }
}
