//! What a service manager hands to a service and the other program knows too: `NOTIFY_SOCKET` (sd_notify(3)) and the
//! descriptors of `LISTEN_FDS` (sd_listen_fds(3)).

use crate::child::Call;
use std::ffi::OsString;
use wharf_core::{Error, Job, Kind, Result};
use wharf_sys::process;

const NOTIFY: &str = "NOTIFY_SOCKET";
const PID: &str = "LISTEN_PID";
const COUNT: &str = "LISTEN_FDS";
const NAMES: &str = "LISTEN_FDNAMES";

/// The socket's variable, where the caller wants to be told.
pub(crate) fn notify() -> Option<(&'static str, OsString)> {
    std::env::var_os(NOTIFY).filter(|socket| !socket.is_empty()).map(|socket| (NOTIFY, socket))
}

/// How many descriptors from 3 on are meant for this very process.
pub(crate) fn descriptors() -> Result<u32> {
    let (Some(pid), Some(count)) = (std::env::var_os(PID), std::env::var_os(COUNT)) else { return Ok(0) };
    if pid.to_str().and_then(|pid| pid.parse().ok()) != Some(process::pid()) {
        return Ok(0);
    }
    count.to_str().and_then(|count| count.parse().ok()).ok_or_else(|| {
        Error::new(Kind::Usage, format!("hand on the descriptors of {COUNT}={}", count.display()))
            .because("it is no number")
    })
}

/// For a call that this process becomes: it keeps the pid that the descriptors are meant for. Also how many they are.
pub(crate) fn hand_on_descriptors(call: Call) -> Result<(Call, u32)> {
    let count = descriptors()?;
    let names = if count > 0 { &[PID, COUNT, NAMES][..] } else { &[] };
    let found = names.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    Ok((call.env(found), count))
}

/// `run` has the other program as a child. A service manager takes no word from that one, and the descriptors are not meant
/// for it: both would be lost.
pub(crate) fn judge_run(name: &str, job: &Job<'_>) -> Result<()> {
    let env = job.bundle.spec.process().as_ref().and_then(|process| process.env().as_ref());
    let set = |variable: &String| variable.strip_prefix(NOTIFY).is_some_and(|rest| rest.starts_with('='));
    let lost = if notify().is_some() && !env.is_some_and(|env| env.iter().any(set)) {
        NOTIFY
    } else if descriptors()? > 0 {
        COUNT
    } else {
        return Ok(());
    };
    Err(refused(lost, "run", name))
}

/// Others' `exec` hands on none of the descriptors, or does not say how many they are.
pub(crate) fn judge_exec(name: &str) -> Result<()> {
    match descriptors()? {
        0 => Ok(()),
        _ => Err(refused(COUNT, "exec", name)),
    }
}

fn refused(variable: &str, verb: &str, name: &str) -> Error {
    Error::unsupported(format!("{variable} for {verb} with {name}"))
        .because("is only handed on by create and start")
        .hint(format!("unset {variable}, or use the native backend"))
}
