//! The one directory that a guest sees of the host: the root file system and each bind mount, in a mount namespace of
//! the machine's own. What is read-only is so by the host's kernel, whatever the guest does.

use super::job::Binding;
use std::ffi::CString;
use std::fs;
use std::path::Path;
use wharf_core::{Error, Result};
use wharf_sys::{dir, libc, mount, namespace, place};

/// Where it is in the container's state directory.
pub(crate) const NAME: &str = "share";

/// Makes it, in a new mount namespace of this process: with that it goes.
pub(crate) fn make(at: &Path, bindings: &[Binding]) -> Result<()> {
    let failed = |errno| Error::system("make the machine's mount namespace", errno as i32);
    namespace::unshare(libc::CLONE_NEWNS as u64).map_err(failed)?;
    mount::mount(None, c"/", None, libc::MS_REC | libc::MS_PRIVATE, None).map_err(failed)?;
    let mount = |source: Option<&Path>, target: &Path, kind: Option<&str>, flags: u64, data: &str| {
        let text = |path: &Path| CString::new(path.as_os_str().as_encoded_bytes()).unwrap_or_default();
        let (source, target, data) = (source.map(text), text(target), CString::new(data).unwrap_or_default());
        let kind = kind.map(|kind| CString::new(kind).unwrap_or_default());
        mount::mount(source.as_deref(), &target, kind.as_deref(), flags, Some(&data))
    };
    mount(Some(Path::new("tmpfs")), at, Some("tmpfs"), libc::MS_NOSUID | libc::MS_NODEV, "mode=700,size=1m")
        .map_err(failed)?;
    for binding in bindings {
        let doing = || format!("show {} to the machine", binding.source.display());
        let failed = |errno| Error::system(doing(), errno as i32).at(&binding.at);
        let io = |error: std::io::Error| crate::machine::drivers::io(doing(), &error).at(&binding.at);
        let target = at.join(&binding.name);
        if fs::metadata(&binding.source).map_err(io)?.is_dir() {
            fs::create_dir(&target).map_err(io)?;
        } else {
            fs::write(&target, b"").map_err(io)?;
        }
        if !binding.places.is_empty() {
            let root = dir::open(&binding.source).map_err(failed)?;
            for (at, directory) in &binding.places {
                let doing = format!("make {at} in the root file system");
                place::make(&root, at, *directory).map_err(|errno| Error::system(doing, errno as i32).at("mounts"))?;
            }
        }
        let recursive = if binding.recursive { libc::MS_REC } else { 0 };
        mount(Some(&binding.source), &target, None, libc::MS_BIND | recursive, "").map_err(failed)?;
        if binding.readonly {
            let flags = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY;
            mount(None, &target, None, flags, "").map_err(failed)?;
        }
    }
    Ok(())
}
