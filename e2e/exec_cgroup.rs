//! `exec` and cgroups: the container's, one below it, and none that is somebody else's.

use harness::{Bundle, Container, Feature, Host, Outcome, Report, Stop, ensure, ensure_eq, json};
use std::path::PathBuf;

pub(crate) fn trials() -> Feature {
    Feature::new("exec_cgroup")
        .trial("--cgroup chooses one below the container's, in every hierarchy", |host| {
            let (bundle, container) = with_cgroup(host)?;
            nested(host, &bundle, "below/deep")?;
            let [joined] = container.exec_lines(&["--cgroup", "/below/deep"], &["report"])?;
            for (names, path) in of_containers(&joined, &bundle) {
                ensure_eq!(path, format!("/{}/below/deep", bundle.id()), "{names}");
            }
            let [joined] = container.exec_lines(&["--cgroup", "/"], &["report"])?;
            for (names, path) in of_containers(&joined, &bundle) {
                ensure_eq!(path, format!("/{}", bundle.id()), "{names}");
            }
            container.delete_force()
        })
        .trial("--cgroup with a controller chooses in its hierarchy alone", |host| {
            if host.is_v2() {
                return Err(Stop::skipped("cgroup v2 has one hierarchy"));
            }
            let (bundle, container) = with_cgroup(host)?;
            nested(host, &bundle, "below")?;
            let [joined] = container.exec_lines(&["--cgroup", "memory,freezer:/below"], &["report"])?;
            for (names, path) in of_containers(&joined, &bundle) {
                let chosen = names.split(',').any(|name| ["memory", "freezer"].contains(&name));
                let expected = if chosen { format!("/{}/below", bundle.id()) } else { format!("/{}", bundle.id()) };
                ensure_eq!(path, expected, "{names}");
            }
            container.delete_force()
        })
        .trial("a cgroup that is not there, of no controller, or outside of the container's is refused", |host| {
            let (_, container) = with_cgroup(host)?;
            for (asked, words) in [
                ("/not-there", "it is not there"),
                ("weather:/", "no cgroup of that controller"),
                ("/../outside", "leads out of the container's cgroup"),
                ("..", "leads out of the container's cgroup"),
            ] {
                let ran = container.exec(&["--cgroup", asked], &["/bin/payload", "nothing"])?;
                ensure_eq!(ran.code(), Some(255), "{}", ran.finished);
                if host.runtime.name() == "wharf" {
                    ensure!(ran.finished.last_line().contains(words), "{}", ran.finished);
                }
            }
            container.delete_force()
        })
        .trial("a limit of the container's holds for the process too", |host| {
            host.needs_controller("pids")?;
            let bundle = host.bundle()?.payload(&["sleep"]).set("/linux/resources/pids", json!({"limit": 8}));
            let container = host.start(&bundle)?;
            let [forked] = container.exec_lines(&[], &["fork", "20"])?;
            ensure_eq!(forked["refused"], json!("EAGAIN"));
            ensure!(forked["made"].as_i64() < Some(8), "{}", forked["made"]);
            container.delete_force()
        })
        .trial(
            "v2: where the container has cgroups of its own below, the process goes where its first one is",
            |host| {
                host.needs_v2("pids")?;
                let (bundle, container) = with_cgroup(host)?;
                let top = PathBuf::from("/sys/fs/cgroup").join(bundle.id());
                std::fs::create_dir(top.join("init"))?;
                std::fs::write(top.join("init/cgroup.procs"), container.pid()?.to_string())?;
                std::fs::write(top.join("cgroup.subtree_control"), "+pids")?;
                let [joined] = container.exec_lines(&[], &["report"])?;
                ensure_eq!(joined.text("/cgroup").trim(), format!("0::/{}/init", bundle.id()));
                let ran = container.exec(&["--cgroup", "/"], &["/bin/payload", "nothing"])?;
                ensure_eq!(ran.code(), Some(255), "--cgroup / asks for exactly that one: {}", ran.finished);
                container.delete_force()
            },
        )
}

fn with_cgroup(host: &Host) -> Result<(Bundle, Container<'_>), Stop> {
    let bundle = host.bundle()?.payload(&["sleep"]);
    let container = host.start(&bundle)?;
    Ok((bundle, container))
}

/// The hierarchies in which the container has a cgroup, and where the process is in each.
fn of_containers(report: &Report, bundle: &Bundle) -> Vec<(String, String)> {
    let all: Vec<(String, String)> = report
        .text("/cgroup")
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
        })
        .filter(|(_, path)| path.contains(bundle.id()))
        .collect();
    assert!(!all.is_empty(), "no cgroup of the container's in {}", report.text("/cgroup"));
    all
}

/// Makes a cgroup below the container's in every hierarchy.
fn nested(host: &Host, bundle: &Bundle, below: &str) -> Outcome {
    let roots = match host.is_v2() {
        true => vec![PathBuf::from("/sys/fs/cgroup")],
        false => std::fs::read_dir("/sys/fs/cgroup")?.flatten().map(|entry| entry.path()).collect(),
    };
    for root in roots.into_iter().filter(|root| root.join(bundle.id()).is_dir()) {
        let mut dir = root.join(bundle.id());
        for part in below.split('/') {
            let above = dir.clone();
            dir = dir.join(part);
            if !dir.exists() {
                std::fs::create_dir(&dir)?;
            }
            // A v1 cpuset takes no process while it is empty.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(text) = std::fs::read_to_string(above.join(file)) {
                    let _ = std::fs::write(dir.join(file), text.trim());
                }
            }
        }
    }
    Ok(())
}
