//! `plan`: what becomes of each property of a bundle. Makes nothing.

use super::{backend_of_today, facts};
use crate::cli::{self, Request};
use crate::report::{self, Log};
use crate::survey;
use std::path::Path;
use wharf_core::{Bundle, Job, Result};

/// 0 where `create` would accept the bundle, else 1.
pub(super) fn plan(request: &Request, asked: &cli::Plan, log: &Log) -> Result<i32> {
    let bundle = Bundle::open(&asked.bundle)?;
    let route = facts::choose(request, asked.id.as_str(), &bundle)?;
    let backend = backend_of_today(request, &route.place)?;
    log.debug(|| format!("bundle {} goes to backend {}: {}", bundle.dir.display(), backend.name(), route.why));
    let job = Job { systemd_cgroup: request.systemd_cgroup, ..Job::new(&asked.id, &bundle) };
    let rows = survey::survey(&bundle, wharf_sys::dir::effective_ids(), backend.judges(), |bundle| {
        // Who will have a terminal's other end is not known here; that somebody has is for `create` to see.
        let terminal = bundle.spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false);
        let console_socket = terminal.then_some(Path::new("/"));
        backend.draft(Job { bundle, console_socket, ..job }).map(|draft| draft.remarks())
    })?;
    let plan = report::Plan { bundle: &bundle.dir, backend: backend.name(), route: &route.why, rows: &rows };
    report::print(&if asked.json { plan.json()? } else { plan.text() })?;
    Ok(i32::from(!plan.accepted()))
}
