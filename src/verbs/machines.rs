//! The configuration's section `vm`, for the backend that reads it.

use crate::cli::Request;
use std::path::PathBuf;
use std::time::Duration;
use wharf_vm::{Processor, Settings};

pub(super) fn settings(request: &Request) -> Settings {
    let mut settings = Settings::default();
    let Some(vm) = request.configuration.as_ref().and_then(|file| file.vm()) else { return settings };
    let path = |text: Option<&str>| text.map(PathBuf::from);
    settings.qemu = path(vm.qemu_path);
    settings.kernel = path(vm.kernel);
    settings.modules = path(vm.modules);
    if let Some(cache) = path(vm.cache) {
        settings.cache = cache;
    }
    settings.processor = match vm.processor {
        Some("kvm") => Processor::Kvm,
        Some("emulation") => Processor::Emulation,
        _ => Processor::Auto,
    };
    settings.memory = vm.memory.unwrap_or(settings.memory);
    settings.patience = vm.timeout.map_or(settings.patience, Duration::from_secs);
    settings.has_disk = vm.root == Some("disk");
    settings.disk_size = vm.disk_size.unwrap_or(settings.disk_size);
    if let Some(disks) = path(vm.disks) {
        settings.disks = disks;
    }
    settings
}
