//! Tells what a container uses, once or as it goes, and when the kernel killed in it for want of memory.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};
use wharf_cgroup::{Detail, Meter, OomWatch};
use wharf_core::{Error, Event, Kind, Record, Result, Statistics};
use wharf_monitor::identity;
use wharf_sys::{Errno, event};

/// Once.
pub(crate) fn now(record: &Record, detail: Detail) -> Result<Statistics> {
    Meter::open(&record.cgroup, detail)?.read()?.ok_or_else(|| gone(record))
}

fn gone(record: &Record) -> Error {
    Error::new(Kind::NotRunning, format!("watch container {}: container not running", record.id))
}

pub(crate) fn events(
    record: &Record,
    dir: BorrowedFd<'_>,
    interval: Option<Duration>,
    tell: &mut dyn FnMut(Event) -> Result<()>,
) -> Result<()> {
    let Some(interval) = interval else {
        return tell(Event::Statistics(Box::new(now(record, Detail::All)?)));
    };
    let mut meter = Meter::open(&record.cgroup, Detail::All)?;
    let failed = |errno: Errno| Error::system(format!("watch container {}", record.id), errno as i32);
    let init = record.init.as_ref().ok_or_else(|| gone(record))?;
    let pidfd = identity::alive(dir, init)?.ok_or_else(|| gone(record))?;
    let mut oom = OomWatch::open(&record.cgroup)?;
    let mut next = Instant::now() + interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        let memory = oom.as_ref().map(|oom| (oom.descriptor(), oom.events()));
        let [ended, killed] = event::wait([Some((pidfd.as_fd(), event::READABLE)), memory], left).map_err(failed)?;
        // What killed the container's first process is told before its end.
        if let Some(watch) = oom.as_mut().filter(|_| killed || ended)
            && watch.has_killed().map_err(failed)?
        {
            tell(Event::OutOfMemory)?;
        }
        if ended {
            return Ok(());
        }
        if Instant::now() < next {
            continue;
        }
        match meter.read()? {
            Some(found) => tell(Event::Statistics(Box::new(found)))?,
            None => return Ok(()),
        }
        // Whoever was held up does not make up for it.
        next = (next + interval).max(Instant::now());
    }
}
