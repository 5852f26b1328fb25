//! linux.rootfsPropagation, and which mounts of the host arrive inside.

use harness::{Feature, Host, Mounted, Report, Stop, ensure, ensure_eq, json};

/// Mounts a tmpfs on the host below a bound directory while the container runs: the payload's table before and after.
fn mount_on_host(host: &Host, option: &str, propagation: Option<&str>) -> Result<[Report; 2], Stop> {
    let source = Mounted::tmpfs(&host.new_dir("source")?)?;
    std::fs::create_dir(source.path().join("later"))?;
    let path = source.path().to_str().unwrap_or_default();
    let mut bundle = host.bundle()?.mount("/var/bound", "bind", path, &["rbind", option]).payload(&[
        "report",
        ";",
        "wait-file",
        "/tmp/go",
        ";",
        "report",
        ";",
        "sleep",
    ]);
    if let Some(propagation) = propagation {
        bundle = bundle.set("/linux/rootfsPropagation", json!(propagation));
    }
    let container = host.start(&bundle)?;
    container.lines(1)?;
    let later = Mounted::tmpfs(&source.path().join("later"))?;
    std::fs::write(bundle.rootfs().join("tmp/go"), "")?;
    let lines = container.lines(3)?;
    drop(later);
    container.delete_force()?;
    Ok([lines[0].clone(), lines[2].clone()])
}

pub(crate) fn trials() -> Feature {
    Feature::new("rootfs_propagation")
        .trial("a mount made on the host arrives in a slave bind", |host| {
            let [before, after] = mount_on_host(host, "rslave", None)?;
            ensure!(before.mount("/var/bound/later").0.is_null(), "it is there too early");
            ensure_eq!(after.mount("/var/bound/later").text("/type"), "tmpfs");
            Ok(())
        })
        .trial("a mount made on the host does not arrive in a private bind", |host| {
            let [_, after] = mount_on_host(host, "rprivate", None)?;
            ensure!(after.mount("/var/bound/later").0.is_null(), "it arrived");
            Ok(())
        })
        .trial("a mount made inside a shared bind arrives on the host where the root is shared too", |host| {
            let source = Mounted::tmpfs(&host.new_dir("source")?)?;
            std::fs::create_dir(source.path().join("inner"))?;
            let path = source.path().to_str().unwrap_or_default();
            let bundle = host
                .bundle()?
                .mount("/var/bound", "bind", path, &["rbind", "rshared"])
                .set("/linux/rootfsPropagation", json!("rshared"))
                .capabilities(&["bounding", "permitted", "effective"], &["CAP_SYS_ADMIN"])
                .payload(&["mount", "none", "/var/bound/inner", "tmpfs", "size=4k", ";", "sleep"]);
            let container = host.start(&bundle)?;
            ensure_eq!(container.lines(1)?[0].errno(), "");
            let table = std::fs::read_to_string("/proc/self/mountinfo")?;
            let target = format!(" {path}/inner ");
            let arrived = table.contains(&target);
            container.delete_force()?;
            let _ = nix::mount::umount2(target.trim(), nix::mount::MntFlags::MNT_DETACH);
            ensure!(arrived, "the host does not see the mount");
            Ok(())
        })
        .trial("by default nothing that a container mounts reaches the host", |host| {
            let bundle = host
                .bundle()?
                .capabilities(&["bounding", "permitted", "effective"], &["CAP_SYS_ADMIN"])
                .payload(&["mount", "none", "/var", "tmpfs", "size=4k", ";", "sleep"]);
            let before = std::fs::read_to_string("/proc/self/mountinfo")?;
            let container = host.start(&bundle)?;
            ensure_eq!(container.lines(1)?[0].errno(), "");
            ensure_eq!(std::fs::read_to_string("/proc/self/mountinfo")?, before);
            container.delete_force()
        })
        .trial("each value shows on the container's root", |host| {
            for (value, shown) in [
                ("private", ""),
                ("rprivate", ""),
                ("slave", "master:"),
                ("rslave", "master:"),
                ("shared", "shared:"),
                ("rshared", "shared:"),
                ("unbindable", "unbindable"),
                ("runbindable", "unbindable"),
            ] {
                if host.runtime.name() == "runc" && ["unbindable", "runbindable", "shared", "rshared"].contains(&value)
                {
                    continue;
                }
                let report = host.report(&host.bundle()?.set("/linux/rootfsPropagation", json!(value)))?;
                let root = report.mount("/");
                let propagation = root.text("/propagation");
                match shown {
                    "" => ensure!(!propagation.contains("shared:"), "{value}: {propagation:?}"),
                    // A slave whose master is private is private: runc makes the root's parent so.
                    "master:" => ensure!(!propagation.contains("shared:"), "{value}: {propagation:?}"),
                    shown => ensure!(propagation.contains(shown), "{value}: {propagation:?}"),
                }
            }
            Ok(())
        })
        .trial("with rslave a mount that the host makes below the root arrives inside", |host| {
            let bundle = host.bundle()?.set("/linux/rootfsPropagation", json!("rslave")).payload(&[
                "wait-file",
                "/tmp/go",
                ";",
                "report",
                ";",
                "sleep",
            ]);
            let container = host.start(&bundle)?;
            let later = Mounted::tmpfs(&bundle.rootfs().join("var"))?;
            std::fs::write(bundle.rootfs().join("tmp/go"), "")?;
            let arrived = container.lines(2)?[1].mount("/var").text("/type") == "tmpfs";
            container.delete_force()?;
            drop(later);
            ensure!(arrived, "it did not arrive");
            Ok(())
        })
        .trial("an unknown value is refused by name", |host| {
            let said = host.create_fails(&host.bundle()?.set("/linux/rootfsPropagation", json!("sideways")))?;
            ensure!(said.stderr.contains("sideways"), "{said}");
            Ok(())
        })
}
