//! linux.cgroupsPath: where the container's cgroup is, and that it goes with it.

use harness::{Feature, Report, Stop, ensure, ensure_eq, json};

/// Paths of /proc/self/cgroup, of the hierarchies that carry limits.
fn paths(report: &Report) -> Vec<String> {
    let limits = ["memory", "pids", "cpu", "devices", "freezer", "blkio", "cpuset"];
    report
        .text("/cgroup")
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (number, names, path) = (parts.next()?, parts.next()?, parts.next()?);
            let carries = number == "0" && !std::path::Path::new("/sys/fs/cgroup/pids").exists();
            (carries || names.split(',').any(|name| limits.contains(&name))).then(|| path.to_owned())
        })
        .collect()
}

pub(crate) fn trials() -> Feature {
    Feature::new("cgroups_path")
        .trial("an absolute path starts at the root of every hierarchy", |host| {
            let path = format!("/{}", host.unique("absolute"));
            let report = host.report(&host.bundle()?.set("/linux/cgroupsPath", json!(path)))?;
            let seen = paths(&report);
            ensure!(!seen.is_empty(), "no cgroup: {}", report["cgroup"]);
            for seen in seen {
                ensure_eq!(seen, path);
            }
            Ok(())
        })
        .trial("an absolute path may be deep, and all levels that were made go", |host| {
            host.except("runc", "removes the last level only")?;
            let path = format!("/{}/of/several", host.unique("deep"));
            let report = host.report(&host.bundle()?.set("/linux/cgroupsPath", json!(path)))?;
            for seen in paths(&report) {
                ensure_eq!(seen, path);
            }
            Ok(())
        })
        .trial("without a path the cgroup is told apart by the id", |host| {
            let bundle = host.bundle()?.remove("/linux/cgroupsPath");
            let report = host.report(&bundle)?;
            for seen in paths(&report) {
                ensure!(seen.contains(bundle.id()), "{seen} does not name {}", bundle.id());
            }
            Ok(())
        })
        .trial("a relative path is one of the runtime's own choosing, the same each time", |host| {
            let path = host.unique("relative");
            let first = host.report(&host.bundle()?.set("/linux/cgroupsPath", json!(path)))?;
            let second = host.report(&host.bundle()?.set("/linux/cgroupsPath", json!(path)))?;
            for seen in paths(&first) {
                ensure!(seen.ends_with(&path), "{seen} does not end with {path}");
            }
            ensure_eq!(paths(&first), paths(&second));
            Ok(())
        })
        .trial("the cgroup is there from create on, with the waiting process in it", |host| {
            let bundle = host.bundle()?.payload(&["sleep"]);
            let container = host.create(&bundle)?;
            let line = std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid()?))?;
            ensure!(line.contains(bundle.id()), "{line}");
            container.delete_force()
        })
        .trial(
            "below a cgroup with processes a limit is refused with what to do, and a container without one runs",
            |host| {
                host.only_wharf("others change the cgroup above, or fail in the kernel's words")?;
                host.needs_v2("pids")?;
                let above = std::path::Path::new("/sys/fs/cgroup").join(host.unique("above"));
                std::fs::create_dir(&above)?;
                let inside = |bundle: harness::Bundle| {
                    let path = format!("/{}/c", above.file_name().unwrap_or_default().to_string_lossy());
                    bundle.set("/linux/cgroupsPath", json!(path))
                };
                let above_has =
                    |file: &str| Ok::<_, Stop>(std::fs::read_to_string(above.join(file))?.trim().to_owned());
                let mut sleeper = std::process::Command::new(host.payload()).arg("sleep").spawn()?;
                std::fs::write(above.join("cgroup.procs"), sleeper.id().to_string())?;
                let seen = (|| {
                    let said =
                        host.create_fails(&inside(host.bundle()?.set("/linux/resources/pids/limit", json!(9))))?;
                    let wanted = [
                        "enable controller pids",
                        "it holds processes itself",
                        "mkdir",
                        "[linux/resources/pids/limit]",
                    ];
                    for words in wanted {
                        ensure!(said.last_line().contains(words), "no {words:?}: {said}");
                    }
                    host.run_well(&inside(host.bundle()?))?;
                    ensure_eq!(
                        (above_has("cgroup.type")?.as_str(), above_has("cgroup.subtree_control")?.as_str()),
                        ("domain", "")
                    );
                    // As somebody else may have left it.
                    std::fs::write(above.join("cgroup.subtree_control"), "+pids")?;
                    let said = host.create_fails(&inside(host.bundle()?))?;
                    for words in ["\"domain invalid\"", "[linux/cgroupsPath]", "name one below"] {
                        ensure!(said.last_line().contains(words), "no {words:?}: {said}");
                    }
                    Ok(())
                })();
                sleeper.kill()?;
                sleeper.wait()?;
                std::fs::remove_dir(&above)?;
                seen
            },
        )
        .trial("a cgroup of somebody else's stays after delete", |host| {
            host.except("runc", "leaves the parents that it made in other hierarchies")?;
            let Some(hierarchy) = host.controller_dir("pids") else {
                return Err(harness::Stop::skipped("no pids controller"));
            };
            let name = host.unique("parent");
            let parent = hierarchy.join(&name);
            std::fs::create_dir(&parent)?;
            if host.is_v2() {
                std::fs::write(hierarchy.join("cgroup.subtree_control"), "+pids")?;
            }
            let ran = host.run(&host.bundle()?.set("/linux/cgroupsPath", json!(format!("/{name}/child"))));
            let (stays, child) = (parent.is_dir(), parent.join("child").exists());
            std::fs::remove_dir(&parent)?;
            ensure_eq!(ran?.code(), Some(0));
            ensure_eq!((stays, child), (true, false));
            Ok(())
        })
        .trial("a path that climbs out of the hierarchy stays inside it", |host| {
            let path = format!("/../../{}", host.unique("climb"));
            let bundle = host.bundle()?.set("/linux/cgroupsPath", json!(path)).payload(&["report"]);
            let ran = host.run(&bundle)?;
            if ran.code() == Some(0) {
                for seen in paths(&ran.report()?) {
                    ensure!(!seen.contains(".."), "{seen}");
                }
            }
            Ok(())
        })
}
