//! A pool of ZFS in a file, for one trial.

use harness::{Host, Stop};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Dropped, it is destroyed, with all that is mounted of it.
pub(crate) struct Pool {
    pub(crate) name: String,
    at: PathBuf,
    file: PathBuf,
}

impl Pool {
    /// With its root dataset mounted in the trial's directory; skips the trial where there is no ZFS.
    pub(crate) fn new(host: &Host, megabytes: u64) -> Result<Pool, Stop> {
        if !Path::new("/sbin/zpool").exists() && !Path::new("/usr/sbin/zpool").exists() {
            return Err(Stop::skipped("ZFS is not installed"));
        }
        let _ = Command::new("modprobe").arg("zfs").output();
        if !Path::new("/dev/zfs").exists() {
            return Err(Stop::skipped("the kernel has no ZFS"));
        }
        let name = host.unique("pool").replace('+', "_");
        // Not on the trial's tmpfs: a gigabyte does not fit there.
        let file = PathBuf::from(format!("/var/tmp/{name}"));
        std::fs::File::create(&file)?.set_len(megabytes << 20)?;
        let at = host.new_dir("pool")?;
        let pool = Pool { name, at, file };
        let mountpoint = format!("mountpoint={}", pool.at.display());
        let cache = "cachefile=none";
        pool.must("zpool", &["create", "-o", cache, "-O", &mountpoint, &pool.name, &pool.file.display().to_string()])?;
        Ok(pool)
    }

    pub(crate) fn dataset(&self, name: &str) -> Result<(String, PathBuf), Stop> {
        let full = format!("{}/{name}", self.name);
        self.zfs(&["create", "-p", &full])?;
        Ok((full, self.at.join(name)))
    }

    pub(crate) fn zfs(&self, words: &[&str]) -> Result<String, Stop> {
        self.must("zfs", words)
    }

    fn must(&self, program: &str, words: &[&str]) -> Result<String, Stop> {
        let done = Command::new(program).args(words).output()?;
        match done.status.success() {
            true => Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned()),
            false => Err(Stop::failed(format!("{program} {words:?}: {}", String::from_utf8_lossy(&done.stderr)))),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // What a namespace that has just ended had mounted is let go a moment later.
        for _ in 0..50 {
            let done = Command::new("zpool").args(["destroy", "-f", &self.name]).output();
            if done.is_ok_and(|done| done.status.success()) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let _ = std::fs::remove_file(&self.file);
    }
}
