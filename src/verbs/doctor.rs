//! `doctor`: what this host can do for containers. The exit code is 0 where nothing is wrong, 1 where something is limited,
//! 2 where the native backend cannot do its work or no container can be made.

use crate::cli::{ListFormat, Request};
use crate::doctor::{Patient, State, examine};
use crate::report;
use wharf_core::Result;

const CAP_SYS_ADMIN: u64 = 1 << 21;

pub(super) fn doctor(request: &Request, format: ListFormat) -> Result<i32> {
    let uid = wharf_sys::dir::effective_uid();
    let may = wharf_sys::credentials::capabilities().is_ok_and(|(effective, ..)| effective & CAP_SYS_ADMIN != 0);
    let lines = examine(&Patient {
        root: &request.root,
        configuration: request.configuration.as_ref(),
        broken: request.ignored.as_ref(),
        uid,
        privileged: may && super::facts::outer_uid()? == uid,
    });
    report::print(&match format {
        ListFormat::Table => report::examined(&lines),
        ListFormat::Json => report::json(&lines)?,
    })?;
    Ok(match lines.iter().map(|line| line.state).max() {
        None | Some(State::Good | State::Absent) => 0,
        Some(State::Limited) => 1,
        Some(State::Missing) => 2,
    })
}
