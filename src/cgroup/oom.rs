//! Tells when the kernel has killed for want of memory in a container's cgroup.

use crate::handle::{Handle, system};
use crate::layout::Layout;
use crate::wanted::Wanted;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use wharf_core::{CgroupPaths, Result};
use wharf_sys::Errno;
use wharf_sys::cgroup_fs::Source;
use wharf_sys::event;

/// One that waits.
pub struct OomWatch(Kind);

enum Kind {
    /// v1: the kernel writes to an eventfd. The control file stays open, as the registration is its.
    Event { eventfd: OwnedFd, _control: Source },
    /// v2: the file says that it has changed, and how often somebody was killed.
    Counter { events: Source, seen: u64, buffer: Vec<u8> },
}

/// Whether the kernel has killed for want of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Killed {
    Yes,
    No,
    /// The cgroup that would tell is gone, or counts nothing.
    Unknown,
}

impl Wanted {
    /// The limit of memory that was asked for, as `memory.max 4096`, and where.
    pub fn memory_limit(&self) -> Option<(String, &str)> {
        let of_memory = |file: &str| matches!(file, "memory.max" | "memory.limit_in_bytes");
        let write = self.writes.iter().rev().find(|write| of_memory(&write.file) && write.value != "max")?;
        Some((format!("{} {}", write.file, write.value), &write.at))
    }

    /// Whether the kernel has killed in the cgroup of these paths, or below.
    pub fn has_killed(&self, paths: &CgroupPaths) -> Killed {
        let Some(index) = self.layout.find("memory") else { return Killed::Unknown };
        let v2 = self.layout.hierarchies[index].v2;
        let file = if v2 { "memory.events" } else { "memory.oom_control" };
        let read = Handle::open(self.layout.clone(), paths).ok().and_then(|handle| {
            let base = handle.base()?;
            base.read_value(&self.layout.below_base(index, handle.paths().get(index)?, file)).ok()
        });
        match read {
            // v1 counts since Linux 4.13.
            Some(text) if text.contains("oom_kill ") => {
                if crate::parse::field(&text, "oom_kill") > 0 {
                    Killed::Yes
                } else {
                    Killed::No
                }
            }
            _ => Killed::Unknown,
        }
    }
}

impl OomWatch {
    /// None where the container's memory is not counted.
    pub fn open(paths: &CgroupPaths) -> Result<Option<OomWatch>> {
        let layout = Layout::detect(None)?;
        let handle = Handle::open(layout.clone(), paths)?;
        let (Some(base), Some(index)) = (handle.base(), layout.find("memory")) else { return Ok(None) };
        let path = &handle.paths()[index];
        let at = |file: &str| layout.below_base(index, path, file);
        let failed = |errno: Errno| system("watch the memory of", &layout, index, path, errno);
        let file = if layout.hierarchies[index].v2 { "memory.events" } else { "memory.oom_control" };
        let control = match base.open_source(&at(file)) {
            Err(Errno::ENOENT | Errno::ENODEV) => return Ok(None),
            other => other.map_err(failed)?,
        };
        if layout.hierarchies[index].v2 {
            let mut watch = OomWatch(Kind::Counter { events: control, seen: 0, buffer: Vec::new() });
            watch.has_killed().map_err(failed)?;
            return Ok(Some(watch));
        }
        let eventfd = event::eventfd().map_err(failed)?;
        let line = format!("{} {}", eventfd.as_raw_fd(), control.as_fd().as_raw_fd());
        base.write(&at("cgroup.event_control"), &line).map_err(failed)?;
        Ok(Some(OomWatch(Kind::Event { eventfd, _control: control })))
    }

    /// To be waited for with [`OomWatch::events`].
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Kind::Event { eventfd, .. } => eventfd.as_fd(),
            Kind::Counter { events, .. } => events.as_fd(),
        }
    }

    /// What poll(2) is to wait for.
    pub fn events(&self) -> i16 {
        match self.0 {
            Kind::Event { .. } => event::READABLE,
            Kind::Counter { .. } => event::URGENT,
        }
    }

    /// Whether somebody has been killed since the last call. A cgroup that is gone says no.
    pub fn has_killed(&mut self) -> std::result::Result<bool, Errno> {
        match &mut self.0 {
            Kind::Event { eventfd, .. } => event::take(eventfd),
            Kind::Counter { events, seen, buffer } => {
                match events.read_again(buffer) {
                    Err(Errno::ENODEV) => return Ok(false),
                    other => other?,
                }
                let now = crate::parse::field(&String::from_utf8_lossy(buffer), "oom_kill");
                Ok(std::mem::replace(seen, now) < now)
            }
        }
    }
}
