//! Paths that are hidden, and paths that are read-only.

use crate::Builder;
use oci_spec::runtime::Spec;
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

pub(crate) fn all(spec: &Spec, plan: &mut Builder) -> Result<()> {
    let Some(linux) = spec.linux() else { return Ok(()) };
    each(linux.readonly_paths(), "linux/readonlyPaths", plan, |path| Step::ReadonlyPath { path })?;
    each(linux.masked_paths(), "linux/maskedPaths", plan, |path| Step::Mask { path })
}

fn each(paths: &Option<Vec<String>>, pointer: &str, plan: &mut Builder, step: impl Fn(Text) -> Step) -> Result<()> {
    for (index, path) in paths.iter().flatten().enumerate() {
        let pointer = format!("{pointer}/{index}");
        if !path.starts_with('/') {
            return Err(Error::invalid(format!("path {path:?}")).because("must be absolute").at(pointer));
        }
        let text = plan.text(path, &pointer)?;
        plan.step(step(text), pointer);
    }
    Ok(())
}
