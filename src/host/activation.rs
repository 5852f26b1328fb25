//! Descriptors that the caller hands on as systemd does to a service: `LISTEN_FDS` (sd_listen_fds(3)).

use wharf_core::{Error, Kind, Result};
use wharf_plan::Listen;
use wharf_sys::process;

/// What the environment hands to this very process; variables that are meant for another are left alone, as
/// sd_listen_fds(3) says.
pub(crate) fn listen() -> Result<Option<Listen>> {
    let (Some(pid), Some(count)) = (std::env::var_os("LISTEN_PID"), std::env::var_os("LISTEN_FDS")) else {
        return Ok(None);
    };
    if pid.to_str().and_then(|pid| pid.parse().ok()) != Some(process::pid()) {
        return Ok(None);
    }
    let wrong = |name: &str, value: &std::ffi::OsStr| {
        Error::new(Kind::Usage, format!("hand on the descriptors of {name}={}", value.display()))
    };
    let fds = count.to_str().and_then(|count| count.parse().ok());
    let fds: u32 = fds.ok_or_else(|| wrong("LISTEN_FDS", &count).because("it is no number"))?;
    let names = match std::env::var_os("LISTEN_FDNAMES") {
        None => None,
        Some(names) => match names.to_str() {
            Some(names) => Some(names.to_owned()),
            None => return Err(wrong("LISTEN_FDNAMES", &names).because("it is not UTF-8")),
        },
    };
    Ok((fds > 0).then_some(Listen { fds, names }))
}
