//! The suite's own check: what a runtime could leave behind is seen.

use harness::{Feature, Host, Inventory, Mounted, Outcome, ensure};

/// Takes stock, lets something be left, takes stock again: the difference must name it.
fn sees<T>(host: &Host, word: &str, leave: impl FnOnce() -> Result<T, harness::Stop>) -> Outcome {
    let before = Inventory::take(host.tag(), &host.root());
    let left = leave()?;
    let difference = Inventory::take(host.tag(), &host.root()).difference(&before);
    drop(left);
    ensure!(difference.iter().any(|line| line.contains(word)), "no {word:?} in {difference:?}");
    Ok(())
}

pub(crate) fn trials() -> Feature {
    Feature::new("leak_check")
        .trial("a mount is seen", |host| sees(host, "mount ", || Mounted::tmpfs(&host.dir().join("left"))))
        .trial("a cgroup is seen", |host| {
            let Some(hierarchy) = host.controller_dir("pids") else {
                return Err(harness::Stop::skipped("no pids controller"));
            };
            let path = hierarchy.join(host.unique("left"));
            let seen = sees(host, "cgroup ", || Ok(std::fs::create_dir(&path)?));
            std::fs::remove_dir(&path)?;
            seen
        })
        .trial("a process, and the namespace that it keeps, are seen", |host| {
            let mut child = None;
            let seen = sees(host, "process ", || {
                child = Some(std::process::Command::new("/bin/sleep").arg("60").spawn()?);
                Ok(())
            });
            if let Some(mut child) = child {
                child.kill()?;
                child.wait()?;
            }
            seen?;
            let mut child = None;
            let seen = sees(host, "namespace uts", || {
                child = Some(std::process::Command::new("/usr/bin/unshare").args(["--uts", "sleep", "60"]).spawn()?);
                std::thread::sleep(std::time::Duration::from_millis(100));
                Ok(())
            });
            if let Some(mut child) = child {
                child.kill()?;
                child.wait()?;
            }
            seen
        })
        .trial("a state directory is seen", |host| {
            let path = host.root().join("left");
            let seen = sees(host, "state ", || Ok(std::fs::create_dir(&path)?));
            std::fs::remove_dir(&path)?;
            seen
        })
        .trial("a descriptor is seen", |host| sees(host, "fd ", || Ok(std::fs::File::open("/etc/passwd")?)))
}
