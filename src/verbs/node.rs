//! The configuration's section `proxmox`, for the backend that reads it.

use crate::cli::Request;
use std::path::PathBuf;
use std::time::Duration;
use wharf_lxc::pct::Settings;

pub(super) fn settings(request: &Request) -> Settings {
    let Some(proxmox) = request.configuration.as_ref().and_then(|file| file.proxmox()) else {
        return Settings::default();
    };
    let mut settings = proxmox.root.map(PathBuf::from).map(Settings::of_node).unwrap_or_default();
    if let Some(pct) = proxmox.pct() {
        settings.pct = pct;
    }
    let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    settings.vmids = proxmox.vmids.map(|(first, last)| (number(first), number(last)));
    settings.unprivileged = proxmox.unprivileged;
    settings.timeout = proxmox.timeout.map_or(settings.timeout, Duration::from_secs);
    settings
}
