//! Paths that are hidden, and paths that are read-only.

use crate::{Builder, Facts, selinux};
use oci_spec::runtime::{Mount, Spec};
use std::path::Path;
use wharf_core::{Error, Result};
use wharf_steps::{Step, Text};

/// Before the root is entered: the host's null device, behind which files are hidden. Never the container's own, which
/// an image can replace (CVE-2025-31133).
pub(crate) fn source(spec: &Spec, plan: &mut Builder) {
    let masked = spec.linux().as_ref().and_then(|linux| linux.masked_paths().as_ref());
    if masked.is_some_and(|paths| !paths.is_empty()) {
        plan.step(Step::OpenNull {}, "linux/maskedPaths");
    }
}

pub(crate) fn all(spec: &Spec, facts: &Facts, plan: &mut Builder) -> Result<()> {
    let Some(linux) = spec.linux() else { return Ok(()) };
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    each(linux.readonly_paths(), "linux/readonlyPaths", plan, |text, path| Step::ReadonlyPath {
        path: text,
        alone: mounts.iter().all(|mount| !is_below(mount, path)),
    })?;
    let label = plan.text(selinux::of_mounts(spec, facts).unwrap_or_default(), "linux/mountLabel")?;
    each(linux.masked_paths(), "linux/maskedPaths", plan, |path, _| Step::Mask { path, label })
}

/// Whether a mount may put others below the path: it is there itself, or brings more than one mount to it.
fn is_below(mount: &Mount, path: &str) -> bool {
    let (mount_point, path) = (mount.destination(), Path::new(path));
    let recursive = matches!(mount.typ().as_deref(), Some("rbind" | "cgroup" | "cgroup2"))
        || mount.options().iter().flatten().any(|option| option == "rbind");
    (mount_point != path && mount_point.starts_with(path)) || (recursive && path.starts_with(mount_point))
}

fn each(
    paths: &Option<Vec<String>>,
    pointer: &str,
    plan: &mut Builder,
    step: impl Fn(Text, &str) -> Step,
) -> Result<()> {
    for (index, path) in paths.iter().flatten().enumerate() {
        let pointer = format!("{pointer}/{index}");
        if !path.starts_with('/') {
            return Err(Error::invalid(format!("path {path:?}")).because("must be absolute").at(pointer));
        }
        let text = plan.text(path, &pointer)?;
        plan.step(step(text, path), pointer);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_below_a_read_only_path_is_seen() {
        let mount = |destination: &str, kind: &str, options: &[&str]| -> Mount {
            let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
            let mut mount = Mount::default();
            mount.set_destination(destination.into()).set_typ(Some(kind.to_owned())).set_options(Some(options));
            mount
        };
        assert!(!is_below(&mount("/proc", "proc", &[]), "/proc/sys"));
        assert!(!is_below(&mount("/proc/sys", "bind", &["bind"]), "/proc/sys"));
        assert!(!is_below(&mount("/proc/sysrq", "bind", &["bind"]), "/proc/sys"));
        assert!(is_below(&mount("/proc/sys/net/", "bind", &["bind"]), "/proc/sys"));
        assert!(is_below(&mount("/sys", "bind", &["rbind"]), "/sys/fs"));
        assert!(is_below(&mount("/sys/fs/cgroup", "cgroup", &[]), "/sys/fs/cgroup"));
    }
}
