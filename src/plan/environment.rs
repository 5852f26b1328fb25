//! The payload's environment: what config.json says, and what is handed on of our own caller's.

use crate::options::MS_PRIVATE;
use crate::{Builder, Facts};
use oci_spec::runtime::Process;
use wharf_core::Result;
use wharf_steps::{List, Slot, Step};

/// Where the payload finds the socket for sd_notify(3), as with runc.
pub const NOTIFY_DIRECTORY: &str = "/run/notify";
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET=/run/notify/notify.sock";

/// Variables that have one meaning only: what hands the descriptors on sets all of them.
const LISTEN: [&str; 3] = ["LISTEN_FDS=", "LISTEN_PID=", "LISTEN_FDNAMES="];

/// MOUNT_ATTR_RDONLY, _NOSUID, _NODEV and _NOEXEC (mount_setattr(2)).
const READ_ONLY: u64 = 0x0f;

/// The directory of the socket for sd_notify(3), after all mounts of config.json.
pub(crate) fn notify_mount(facts: &Facts, plan: &mut Builder) -> Result<()> {
    let Some(source) = &facts.notify else { return Ok(()) };
    let (target, source) = (plan.text(NOTIFY_DIRECTORY, "")?, plan.text(source, "")?);
    // The state directory is the caller's alone. Root's is not reached from another user namespace, so the mount comes
    // from outside, as it has to be.
    let (slot, set) = if facts.uid == 0 { (Slot::NOTIFY, 0) } else { (Slot::NONE, READ_ONLY) };
    let step = Step::Bind {
        target,
        source,
        slot,
        recursive: false,
        set,
        clear: 0,
        recursive_set: 0,
        recursive_clear: 0,
        propagation: MS_PRIVATE,
    };
    plan.step(step, "");
    Ok(())
}

/// LISTEN_PID is the payload's own pid, as it sees it: 1 only in a pid namespace of its own.
pub(crate) fn listen_pid(facts: &Facts, plan: &mut Builder) {
    if facts.listen.is_some() {
        plan.step(Step::ListenPid {}, "");
    }
}

pub(crate) fn list(process: &Process, facts: &Facts, plan: &mut Builder) -> Result<List> {
    let of_config = process.env().iter().flatten().map(String::as_str);
    if facts.listen.is_none() && facts.notify.is_none() {
        return plan.list(of_config, "process/env");
    }
    let replaced = |variable: &&str| facts.listen.is_some() && LISTEN.iter().any(|name| variable.starts_with(name));
    let mut all: Vec<String> = of_config.filter(|variable| !replaced(variable)).map(str::to_owned).collect();
    if let Some(listen) = &facts.listen {
        all.push(format!("LISTEN_FDS={}", listen.fds));
        all.extend(listen.names.iter().map(|names| format!("LISTEN_FDNAMES={names}")));
    }
    if facts.notify.is_some() {
        all.push(NOTIFY_SOCKET.to_owned());
    }
    plan.list(all, "process/env")
}
