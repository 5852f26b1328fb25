//! What this host can and cannot do for containers: looked at, never changed, and without asking anybody else.

mod cgroups;
mod kernel;
mod place;
mod programs;
mod security;
mod users;

use crate::config::Configuration;
use serde::Serialize;
use std::path::Path;
use wharf_core::Error;

/// How well something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Good,
    /// Not there, and only missed by who asks for it.
    Absent,
    /// Some containers cannot have what they may ask for.
    Limited,
    /// The native backend makes no container, or none with limits.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Line {
    pub(crate) area: &'static str,
    /// What was looked at, and found.
    pub(crate) what: String,
    pub(crate) state: State,
    /// Why it is not good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cause: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fix: Option<String>,
}

impl Line {
    fn good(area: &'static str, what: impl Into<String>) -> Self {
        Line { area, what: what.into(), state: State::Good, cause: None, fix: None }
    }

    fn absent(area: &'static str, what: impl Into<String>, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Line { state: State::Absent, ..Line::limited(area, what, cause, fix) }
    }

    fn limited(area: &'static str, what: impl Into<String>, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Line { area, what: what.into(), state: State::Limited, cause: Some(cause.into()), fix: Some(fix.into()) }
    }

    fn missing(area: &'static str, what: impl Into<String>, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Line { state: State::Missing, ..Line::limited(area, what, cause, fix) }
    }
}

/// Who asks, and with which settings.
pub(crate) struct Patient<'a> {
    /// Directory of the records.
    pub(crate) root: &'a Path,
    pub(crate) configuration: Option<&'a Configuration>,
    /// Why the configuration cannot be read.
    pub(crate) broken: Option<&'a Error>,
    /// Effective user id.
    pub(crate) uid: u32,
    /// CAP_SYS_ADMIN over the host, and not only over a user namespace.
    pub(crate) privileged: bool,
}

/// Everything, in the order in which it matters.
pub(crate) fn examine(patient: &Patient<'_>) -> Vec<Line> {
    let mut lines = kernel::lines(patient);
    lines.extend(cgroups::lines(patient));
    lines.extend(users::lines(patient));
    lines.extend(security::lines());
    lines.extend(programs::lines(patient));
    lines.extend(place::lines(patient));
    lines
}

/// A file of the kernel's or of the administrator's, without the white space around it; `None` where it cannot be read.
fn read(path: impl AsRef<Path>) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}
