//! What a container uses, as its guest tells it: once, or after each interval until it ends.

use crate::PATIENCE;
use crate::host::control::{self, Request};
use serde_json::Value;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};
use wharf_core::{Error, Event, Kind, Record, Result};
use wharf_monitor::identity;
use wharf_sys::{Errno, process};

/// The guest's own cgroup: what QEMU uses is in the container's cgroup on the host.
pub(crate) fn events(
    record: &Record,
    dir: BorrowedFd<'_>,
    interval: Option<Duration>,
    tell: &mut dyn FnMut(Event) -> Result<()>,
) -> Result<()> {
    let ask = || -> Result<(String, i64)> {
        let answer = control::ask(record, dir, &Request::Events, PATIENCE)?;
        let killed = answer.get("killed").and_then(Value::as_i64).unwrap_or(0);
        Ok((format!("{}\n", answer.get("line").unwrap_or(&Value::Null)), killed))
    };
    let Some(interval) = interval else { return tell(Event::Line(ask()?.0)) };
    let gone = || Error::new(Kind::NotRunning, format!("container {}: container not running", record.id));
    let failed = |errno: Errno| Error::system(format!("watch container {}", record.id), errno as i32);
    let init = record.init.as_ref().ok_or_else(gone)?;
    let stand_in = identity::alive(dir, init)?.ok_or_else(gone)?;
    let mut known = None;
    let mut next = Instant::now() + interval;
    loop {
        let left = next.saturating_duration_since(Instant::now()).as_millis();
        if process::readable(&stand_in, i32::try_from(left).unwrap_or(i32::MAX)).map_err(failed)? {
            return Ok(());
        }
        if Instant::now() < next {
            continue;
        }
        match ask() {
            Ok((line, killed)) => {
                if killed > known.unwrap_or(0) {
                    tell(Event::OutOfMemory)?;
                }
                known = Some(killed);
                tell(Event::Line(line))?;
            }
            // It stands still, and uses nothing.
            Err(error) if error.kind() == Kind::WrongStatus => {}
            Err(error) if error.kind() == Kind::NotRunning => return Ok(()),
            Err(error) => return Err(error),
        }
        // Whoever was held up does not make up for it.
        next = (next + interval).max(Instant::now());
    }
}
