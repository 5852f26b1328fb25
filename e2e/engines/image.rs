//! Images made on the spot: a root file system of busybox, as a tree, and in an archive of the OCI image layout.

use super::common::{installed, said};
use harness::{Host, Stop, Value, json};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The name it has after an import.
pub(crate) const NAME: &str = "docker.io/library/busybox:latest";

/// The same files with a command that waits, for the first container of a pod.
pub(crate) const PAUSE: &str = "docker.io/library/pause:latest";

/// The tree, made once for all trials of a run.
pub(crate) fn tree(host: &Host) -> Result<PathBuf, Stop> {
    let tree = host.shared_dir("image")?.join("tree");
    if tree.exists() {
        return Ok(tree);
    }
    let unfinished = tree.with_extension("new");
    for name in ["bin", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "var"] {
        std::fs::create_dir_all(unfinished.join(name))?;
    }
    let busybox = installed("busybox")?;
    std::fs::copy(&busybox, unfinished.join("bin/busybox"))?;
    std::fs::copy(host.payload(), unfinished.join("bin/payload"))?;
    let mut list = Command::new(&busybox);
    list.arg("--list");
    for name in said(host.program(list)?.finish()?)?.lines().filter(|name| *name != "busybox") {
        symlink("busybox", unfinished.join("bin").join(name))?;
    }
    for (name, mode) in [("plain", 0o644), ("private", 0o700)] {
        let path = unfinished.join("bin").join(name);
        std::fs::write(&path, "#!/bin/sh\n")?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
    }
    std::fs::write(
        unfinished.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nsailor:x:1000:1000::/home:/bin/sh\n",
    )?;
    std::fs::write(unfinished.join("etc/group"), "root:x:0:\nsailor:x:1000:\nharbour:x:2000:sailor\n")?;
    std::fs::rename(unfinished, &tree)?;
    Ok(tree)
}

/// The archive, made once for all trials of a run.
pub(crate) fn archive(host: &Host) -> Result<PathBuf, Stop> {
    let shared = host.shared_dir("image")?;
    let archive = shared.join("image.tar");
    if archive.exists() {
        return Ok(archive);
    }
    let layout = shared.join("layout");
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs)?;
    let layer = tar(host, &tree(host)?, &shared.join("layer"))?;
    let layer = blob(host, &layer, &blobs)?;
    let mut entries = Vec::new();
    for (name, command) in [(NAME, &["/bin/sh"][..]), (PAUSE, &["/bin/payload", "sleep"])] {
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": { "Env": ["PATH=/usr/bin:/bin"], "Cmd": command },
            "rootfs": { "type": "layers", "diff_ids": [layer.digest] },
        });
        let config = text_blob(host, &config, &shared, &blobs)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.descriptor("application/vnd.oci.image.config.v1+json"),
            "layers": [layer.descriptor("application/vnd.oci.image.layer.v1.tar")],
        });
        let manifest = text_blob(host, &manifest, &shared, &blobs)?;
        let mut entry = manifest.descriptor("application/vnd.oci.image.manifest.v1+json");
        entry["annotations"] =
            json!({ "io.containerd.image.name": name, "org.opencontainers.image.ref.name": "latest" });
        entries.push(entry);
    }
    std::fs::write(layout.join("index.json"), json!({ "schemaVersion": 2, "manifests": entries }).to_string())?;
    std::fs::write(layout.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())?;
    let made = tar(host, &layout, &shared.join("image.new"))?;
    std::fs::rename(made, &archive)?;
    Ok(archive)
}

struct Blob {
    digest: String,
    size: u64,
}

impl Blob {
    fn descriptor(&self, kind: &str) -> Value {
        json!({ "mediaType": kind, "digest": self.digest, "size": self.size })
    }
}

fn tar(host: &Host, dir: &Path, archive: &Path) -> Result<PathBuf, Stop> {
    let mut command = Command::new("tar");
    command.args(["--owner=0", "--group=0", "-cf"]).arg(archive).arg("-C").arg(dir).arg(".");
    said(host.program(command)?.finish()?)?;
    Ok(archive.to_owned())
}

/// Moves a file to where its digest says.
fn blob(host: &Host, file: &Path, blobs: &Path) -> Result<Blob, Stop> {
    let mut command = Command::new("sha256sum");
    command.arg(file);
    let sum = said(host.program(command)?.finish()?)?;
    let sum = sum.split(' ').next().unwrap_or_default();
    let size = file.metadata()?.len();
    std::fs::rename(file, blobs.join(sum))?;
    Ok(Blob { digest: format!("sha256:{sum}"), size })
}

fn text_blob(host: &Host, value: &Value, shared: &Path, blobs: &Path) -> Result<Blob, Stop> {
    let file = shared.join("blob");
    std::fs::write(&file, value.to_string())?;
    blob(host, &file, blobs)
}
