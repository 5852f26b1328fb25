//! State that outlived its container: another boot, a process id used again, records that are damaged.
//!
//! These trials change wharf's own records, which is the only way to be in the past.

use harness::{Container, Feature, Host, Stop, Value, ensure, ensure_eq, json};
use std::path::PathBuf;

fn record(host: &Host, container: &Container) -> PathBuf {
    host.root().join(container.id()).join("record.json")
}

pub(crate) fn edit(host: &Host, container: &Container, change: impl FnOnce(&mut Value)) -> Result<(), Stop> {
    let path = record(host, container);
    let mut value: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    change(&mut value);
    std::fs::write(&path, serde_json::to_vec(&value)?)?;
    Ok(())
}

pub(crate) fn trials() -> Feature {
    Feature::new("stale_state")
        .trial("a container of another boot is stopped and can be deleted", |host| {
            host.only_wharf("its records are its own")?;
            // What lies in memory is of this boot.
            let root = persistent(host)?;
            let bundle = host.bundle()?.payload(&["sleep"]);
            bundle.save()?;
            let call = |words: &[&str]| host.runtime.call(&[&["--root", &*root.path], words].concat());
            let must = |words: &[&str]| host.runtime.must(&[&["--root", &*root.path], words].concat());
            must(&["create", "--bundle", bundle.dir_text(), bundle.id()])?;
            must(&["start", bundle.id()])?;
            let state = |id: &str| -> Result<Value, Stop> { Ok(serde_json::from_str(&must(&["state", id])?)?) };
            let before = state(bundle.id())?;
            ensure_eq!(before["status"], "running");
            let pid = before["pid"].as_i64().unwrap_or_default() as i32;
            let path = PathBuf::from(&root.path).join(bundle.id()).join("record.json");
            let mut record: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
            record["init"]["boot_id"] = json!("00000000-0000-0000-0000-000000000000");
            std::fs::write(&path, serde_json::to_vec(&record)?)?;
            let after = state(bundle.id())?;
            let killed = call(&["kill", bundle.id(), "KILL"])?.code();
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)?;
            nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None)?;
            must(&["delete", bundle.id()])?;
            ensure_eq!(after["status"], "stopped");
            ensure!(killed != Some(0), "kill found a process of another boot");
            Ok(())
        })
        .trial("a process id that another process has now is not the container's", |host| {
            host.only_wharf("its records are its own")?;
            let container = host.start(&host.bundle()?.payload(&["nothing"]))?;
            container.wait_for_status("stopped")?;
            let mut stranger = std::process::Command::new("/bin/sleep").arg("60").spawn()?;
            edit(host, &container, |record| record["init"]["pid"] = json!(stranger.id()))?;
            let status = container.status();
            let killed = container.call("kill", &["KILL"])?.code();
            let deleted = container.delete_force();
            let alive = stranger.try_wait()?.is_none();
            stranger.kill()?;
            stranger.wait()?;
            ensure_eq!(status?, "stopped");
            ensure!(killed != Some(0), "kill reached a stranger");
            ensure!(alive, "a stranger was killed");
            deleted
        })
        .trial("a record of a newer version is refused by name and left alone", |host| {
            host.only_wharf("its records are its own")?;
            let container = host.create(&host.bundle()?.payload(&["sleep"]))?;
            let path = record(host, &container);
            let before = std::fs::read(&path)?;
            edit(host, &container, |record| record["version"] = json!(4711))?;
            let said = container.call("state", &[])?;
            ensure!(said.code() != Some(0) && said.stderr.contains("4711"), "{said}");
            std::fs::write(&path, before)?;
            ensure_eq!(container.status()?, "created");
            container.delete_force()
        })
        .trial("an empty state directory, as a crash leaves it, can be deleted by force", |host| {
            host.only_wharf("its records are its own")?;
            let id = host.unique("crashed");
            std::fs::create_dir(host.root().join(&id))?;
            host.runtime.must(&["delete", "--force", &id])?;
            ensure!(!host.root().join(&id).exists(), "the directory is still there");
            Ok(())
        })
        .trial("a damaged record is named, and delete by force clears it away", |host| {
            host.only_wharf("its records are its own")?;
            let container = host.start(&host.bundle()?.payload(&["nothing"]))?;
            container.wait_for_status("stopped")?;
            let path = record(host, &container);
            let before = std::fs::read(&path)?;
            std::fs::write(&path, "{\"version\": 1, \"id\"")?;
            let said = container.call("state", &[])?;
            ensure!(said.code() != Some(0) && said.stderr.contains(container.id()), "{said}");
            ensure!(host.runtime.call(&["list"])?.code() == Some(0), "list fails because of one damaged record");
            std::fs::write(&path, before)?;
            container.delete()
        })
        .trial("the state directory is for its owner alone", |host| {
            host.only_wharf("its records are its own")?;
            let container = host.create(&host.bundle()?.payload(&["sleep"]))?;
            let mode = std::os::unix::fs::PermissionsExt::mode(
                &std::fs::metadata(host.root().join(container.id()))?.permissions(),
            );
            ensure_eq!(mode & 0o777, 0o700);
            container.delete_force()
        })
        .trial("a root that a link stands for is used, a state directory that is a link is not", |host| {
            host.only_wharf("its records are its own")?;
            let elsewhere = host.new_dir("elsewhere")?;
            let id = host.unique("link");
            std::os::unix::fs::symlink(&elsewhere, host.root().join(&id))?;
            let bundle = host.bundle()?.with_id(&id).payload(&["sleep"]);
            let said = host.create_fails(&bundle)?;
            ensure!(said.stderr.contains(&id), "{said}");
            ensure!(std::fs::read_dir(&elsewhere)?.next().is_none(), "something was written through the link");
            std::fs::remove_file(host.root().join(&id))?;
            Ok(())
        })
}

/// A `--root` that outlives a boot, removed with its value.
pub(crate) struct Persistent {
    pub(crate) path: String,
}

impl Drop for Persistent {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

pub(crate) fn persistent(host: &Host) -> Result<Persistent, Stop> {
    use nix::sys::statfs::{TMPFS_MAGIC, statfs};
    for top in ["/var/tmp", "/var/lib", "/tmp", "/root"] {
        if statfs(top).is_ok_and(|about| about.filesystem_type() != TMPFS_MAGIC) {
            let path = format!("{top}/{}", host.unique("root"));
            std::fs::create_dir(&path)?;
            return Ok(Persistent { path });
        }
    }
    Err(Stop::skipped("every file system of this host is in memory"))
}
