//! The driver for Proxmox VE: the container is one of the node's own, with a number, made and ended by `pct`.

mod birth;
mod cause;
mod conf;
mod ct;
mod door;
mod hostname;
mod include;
mod look;
mod orphan;
mod remains;
mod settings;
mod shown;
mod told;
mod tool;
mod vmid;

pub use look::{Finding, look};
pub use orphan::{Orphan, orphans};
pub use settings::Settings;

use crate::judge::{self, Driver};
use door::Door;
use std::path::Path;
use wharf_core::{Error, Job, Kind, Record, Remark, Result};
use wharf_host::{Carried, Carrier, Host, Labour, Remains};
use wharf_plan::Namespaces;

/// Name of the backend in records and on the command line.
pub const NAME: &str = "pct";

/// The cgroup inside the container's that the node gives to its processes.
const INNER: &str = "ns";

/// Containers of a Proxmox node.
pub fn pct(settings: Settings) -> Host {
    Host::carried(NAME, Box::new(Pct { settings }))
}

/// Refuses a host that is no node.
pub(crate) fn check(settings: &Settings) -> Result<()> {
    let missing = |what: &Path| {
        Error::new(Kind::System, "use Proxmox VE")
            .because(format!("{} is not there", what.display()))
            .hint("this backend is for a node of Proxmox VE; proxmox.pct_path in the configuration names its program")
    };
    if !settings.pct.exists() {
        return Err(missing(&settings.pct));
    }
    vmid::guests(settings).map(drop)
}

struct Pct {
    settings: Settings,
}

impl Carrier for Pct {
    fn inner_cgroup(&self) -> &'static str {
        INNER
    }

    fn makes_cgroup(&self) -> bool {
        true
    }

    fn root_place(&self, job: &Job<'_>) -> Result<Option<String>> {
        Ok(Some(Door::of(job.state_dir).root().to_string_lossy().into_owned()))
    }

    fn memory(&self) -> serde_json::Value {
        self.settings.memory()
    }

    fn judge(&self, job: &Job<'_>, namespaces: &Namespaces) -> Result<Vec<Remark>> {
        judge::judge(job, namespaces, &Driver::Pct(&self.settings))
    }

    fn bear(&self, labour: &Labour<'_>) -> Result<Box<dyn Carried>> {
        Ok(Box::new(birth::bear(&self.settings, labour)?))
    }

    fn started(&self, _record: &Record, _memory: &serde_json::Value) -> Result<()> {
        // Who stands in stays with the payload: engines count what they see there.
        Ok(())
    }

    fn has_cgroup(&self, remains: &Remains<'_>) -> Result<bool> {
        remains::has_cgroup(remains)
    }

    fn remove(&self, remains: &Remains<'_>) -> Result<()> {
        remains::remove(remains)
    }

    fn holdings(&self, remains: &Remains<'_>) -> Result<Vec<String>> {
        remains::holdings(remains)
    }
}
