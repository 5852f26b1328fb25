//! Changes the limits of a container that lives.

use crate::freeze::gone;
use crate::launch::Private;
use std::os::fd::BorrowedFd;
use wharf_cgroup::Update;
use wharf_core::{LinuxResources, Opaque, Record, Result};

/// The private part of the record where it has changed.
pub(crate) fn update(record: &Record, dir: BorrowedFd<'_>, resources: LinuxResources) -> Result<Option<Opaque>> {
    let private = Private::of(record);
    let update = Update::new(&record.cgroup, resources)?;
    let devices = update.apply(private.devices).map_err(|error| gone(record, dir, "update").unwrap_or(error))?;
    Ok((devices != private.devices).then(|| Private { devices, ..private }.opaque()))
}
