//! The LXC backend: what LXC makes, the process that stands in for the payload, and what of the bundle it cannot carry.
//!
//! That a property of a bundle, a verb and an engine's option mean on it what they mean on native is not told again here: the
//! trials of those run on it too.

use harness::{Container, Feature, Host, Outcome, Stop, ensure, ensure_eq, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const START: &str = "/usr/bin/lxc-start";

/// What is not the same on LXC, by the beginning of a trial's sentence, and why.
const OTHER: &[&str] = &[
    // Refused there by name.
    "inherited: the session keyring is a new one, and the caller's",
    "mount_options: propagation options show",
    "user_namespace: a user namespace by path is joined",
    // It has no cgroupsPath, and on v1 one that LXC cannot take.
    "foreground: what spec writes runs",
    // It is LXC that fails first, in making its own cgroup.
    "resources_memory: a limit that is too small for the container to start",
    // Who stands in is counted with the payload until the start.
    "resources_pids: the limit binds",
    // They take the pid that `state` tells for the payload's own.
    "hooks: each hook is told the state on stdin",
    "pause: a paused container stands still",
    "pause: SIGKILL ends every process of a paused container without",
    "pause: a container that forks on and on",
    "containerd: a detached container is listed",
    "containerd: a detached exec is listed",
    // They look at the limits of the cgroup that this pid is in.
    "containerd: --memory-limit is",
    "containerd: --cpus",
    "containerd: --cgroup",
    // They join a pid namespace by path, which is refused by name.
    "containerd: kill --all",
    "containerd: exit codes",
    "containerd: CRI: a pod",
    "containerd: CRI: a command",
    "containerd: CRI: pods outlive",
    "podman: --pid container:",
    "podman: --userns container:",
    "podman: a pod of shared processes",
    // It asks for the native backend.
    "containerd: CRI: containers land",
    // They look for the payload, its pid namespace or its limits by the pid that Podman tells.
    "podman: a pod of two containers",
    "podman: children left behind",
    "podman: container inspect",
    "podman: exec: the same namespaces",
    "podman: stats",
    "podman: update",
    "podman: --memory",
    "podman: --cpu",
    "podman: --pids-limit",
    "podman: --cgroups no-conmon",
    "podman: --userns with mappings",
    // The known fault of docs/lxc.md: one of them has hung once.
    "podman: 200 exit codes",
    // Refused by name.
    "podman: --group-add keep-groups",
    "podman: --volume :shared",
    "podman: --volume :rshared",
];

pub(crate) fn host(host: &Host) -> Result<Host, Stop> {
    if !Path::new(START).exists() {
        return Err(Stop::skipped("LXC is not installed"));
    }
    host.with_options(&["--backend", "lxc"])
}

/// The trials of other features, on LXC.
pub(crate) fn also(features: Vec<Feature>) -> Vec<Feature> {
    features.into_iter().map(|feature| feature.on("lxc", host, is_other)).collect()
}

pub(crate) fn is_other(sentence: &str) -> bool {
    OTHER.iter().any(|beginning| sentence.starts_with(beginning))
}

fn on_lxc(body: fn(&Host) -> Outcome) -> impl FnOnce(&Host) -> Outcome {
    move |own| body(&host(own)?)
}

/// The namespaces of a process.
fn namespaces(pid: i32) -> Result<BTreeMap<String, String>, Stop> {
    let mut all = BTreeMap::new();
    for kind in ["mnt", "uts", "ipc", "net", "cgroup", "pid", "user"] {
        let link = std::fs::read_link(format!("/proc/{pid}/ns/{kind}"))?;
        all.insert(kind.to_owned(), link.to_string_lossy().into_owned());
    }
    Ok(all)
}

/// The container's first process, from its record.
fn init(host: &Host, container: &Container<'_>) -> Result<i32, Stop> {
    let record = std::fs::read(host.root().join(container.id()).join("record.json"))?;
    let record: harness::Value = serde_json::from_slice(&record)?;
    record["init"]["pid"].as_i64().map(|pid| pid as i32).ok_or_else(|| Stop::failed("no init in the record"))
}

fn cgroup(pid: i32) -> Result<String, Stop> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let line = text.lines().find(|line| line.contains(":freezer:") || line.starts_with("0::")).unwrap_or_default();
    Ok(line.rsplit(':').next().unwrap_or_default().to_owned())
}

/// One of LXC's tools about a container.
fn tool(host: &Host, name: &str, container: &Container<'_>, words: &[&str]) -> Result<String, Stop> {
    let state = host.root().join(container.id());
    let path = Path::new("/run/wharf-lxc").join(state.strip_prefix("/")?);
    let mut command = Command::new(name);
    command.arg("-P").arg(path).args(["-n", container.id()]).args(words);
    let finished = host.program(command)?.finish()?;
    match finished.code() {
        Some(0) => Ok(finished.stdout.trim().to_owned()),
        _ => Err(Stop::failed(finished.to_string())),
    }
}

pub(crate) fn trials() -> Feature {
    Feature::new("lxc")
        .trial("LXC knows the container: its state, its first process, and a way in", on_lxc(known))
        .trial(
            "the pid that engines see is waitable, in the payload's namespaces and in its cgroup",
            on_lxc(three_properties),
        )
        .trial("whoever signals the stand-in signals the payload, and its end is the stand-in's", on_lxc(signals))
        .trial("the stand-in writes down how the payload ended", on_lxc(exit_record))
        .trial("a container that LXC's own tools stop is stopped, and is deleted", on_lxc(behind_our_back))
        .trial("a stand-in that is killed takes the container along at the next delete", on_lxc(killed))
        .trial("a container in a user namespace is LXC's too", on_lxc(user_namespace))
        .trial("a network namespace by path is joined", on_lxc(network))
        .trial("what LXC cannot carry is refused by name before anything exists", on_lxc(refused))
        .trial("a payload cannot reach the program that it was started from", on_lxc(program))
}

fn known(host: &Host) -> Outcome {
    let container = host.start(&host.bundle()?.payload(&["report", ";", "sleep"]))?;
    container.lines(1)?;
    ensure_eq!(tool(host, "lxc-info", &container, &["-sH"])?, "RUNNING");
    let pid = init(host, &container)?;
    ensure_eq!(tool(host, "lxc-info", &container, &["-pH"])?, pid.to_string());
    let attached = tool(host, "lxc-attach", &container, &["--clear-env", "--", "/bin/payload", "report"])?;
    ensure!(attached.contains("hostname"), "lxc-attach: {attached}");
    let line = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let inside = line.lines().find(|line| line.starts_with("NSpid:")).unwrap_or_default();
    ensure!(inside.ends_with("\t1"), "the payload is no first process: {inside}");
    container.delete_force()
}

fn three_properties(host: &Host) -> Outcome {
    let file = host.dir().join("pid");
    let bundle = host.bundle()?.payload(&["sleep"]);
    let container = Container::create(host, &bundle, &["--pid-file", file.to_str().unwrap_or_default()])?;
    let seen: i32 = std::fs::read_to_string(&file)?.parse()?;
    ensure_eq!(seen, container.pid()?);
    let first = init(host, &container)?;
    ensure!(seen != first, "nobody stands in");
    // Left behind by `create`, it is its subreaper's, which this process is.
    let status = std::fs::read_to_string(format!("/proc/{seen}/status"))?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t")).unwrap_or_default();
    ensure_eq!(parent, std::process::id().to_string());
    let (its, own, ours) = (namespaces(seen)?, namespaces(first)?, namespaces(std::process::id() as i32)?);
    for kind in ["mnt", "uts", "ipc", "net", "cgroup"] {
        ensure_eq!(its[kind], own[kind]);
    }
    for kind in ["mnt", "uts", "ipc", "net"] {
        ensure!(its[kind] != ours[kind], "the stand-in shows the host's {kind} namespace");
    }
    ensure_eq!((&its["pid"], &its["user"]), (&ours["pid"], &ours["user"]));
    let root = std::fs::read_dir(format!("/proc/{seen}/root/bin"))?.count();
    ensure_eq!(root, 1);
    let inside = cgroup(first)?;
    ensure!(inside.ends_with("/container"), "the payload is in {inside}");
    ensure_eq!(cgroup(seen)?, inside);
    container.start()?;
    let scope = inside.trim_end_matches("/container");
    ensure_eq!((cgroup(seen)?, cgroup(first)?), (format!("{scope}/monitor"), inside.clone()));
    container.delete_force()
}

fn signals(host: &Host) -> Outcome {
    for (signal, expected) in [("TERM", 128 + 15), ("KILL", 128 + 9), ("USR1", 128 + 10), ("ABRT", 128 + 6)] {
        // The first process of a pid namespace would be spared its own signals.
        let container = host.create(&host.bundle()?.without_namespace("pid").payload(&["kill-self", signal]))?;
        let pid = container.pid()?;
        container.start()?;
        ensure_eq!((signal, container.reap(pid)?), (signal, expected));
        container.delete()?;
    }
    // A signal to the stand-in.
    let container = host.start(&host.bundle()?.payload(&["report", ";", "wait-signal", ";", "exit", "7"]))?;
    container.lines(1)?;
    let pid = container.pid()?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGUSR1)?;
    ensure_eq!(container.reap(pid)?, 7);
    let told = container.printed();
    ensure!(told.contains("USR1"), "{told}");
    container.delete()
}

fn exit_record(host: &Host) -> Outcome {
    let container = host.start(&host.bundle()?.payload(&["exit", "42"]))?;
    let finished = container.call("wait", &[])?;
    ensure_eq!(finished.code(), Some(42));
    let state = container.state()?;
    ensure_eq!(state["status"], "stopped");
    ensure_eq!(state["annotations"]["dev.wharf.exit.code"], "42");
    container.delete()
}

fn behind_our_back(host: &Host) -> Outcome {
    let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
    let pid = container.pid()?;
    tool(host, "lxc-stop", &container, &["-k"])?;
    container.wait_for_status("stopped")?;
    ensure_eq!(container.reap(pid)?, 128 + 9);
    container.delete()
}

fn killed(host: &Host) -> Outcome {
    let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
    let pid = container.pid()?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)?;
    ensure_eq!(container.reap(pid)?, 128 + 9);
    container.delete_force()
}

fn user_namespace(host: &Host) -> Outcome {
    let map = json!([{"containerID": 0, "hostID": 200000, "size": 65536}]);
    let bundle = host
        .bundle()?
        .namespace("user", None)
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map)
        .payload(&["report", ";", "sleep"]);
    for path in [bundle.rootfs(), bundle.rootfs().join("tmp")] {
        std::os::unix::fs::chown(path, Some(200000), Some(200000))?;
    }
    let container = host.start(&bundle)?;
    container.lines(1)?;
    let first = init(host, &container)?;
    let table = std::fs::read_to_string(format!("/proc/{first}/uid_map"))?;
    ensure_eq!(table.split_whitespace().collect::<Vec<_>>(), ["0", "200000", "65536"]);
    ensure_eq!(tool(host, "lxc-info", &container, &["-sH"])?, "RUNNING");
    container.delete_force()
}

fn network(host: &Host) -> Outcome {
    let holder = host.start(&host.bundle()?.payload(&["sleep"]))?;
    let path = format!("/proc/{}/ns/net", init(host, &holder)?);
    let bundle = host.bundle()?.namespace("network", Some(&path)).payload(&["sleep"]);
    let guest = host.start(&bundle)?;
    let (one, other) = (namespaces(init(host, &holder)?)?, namespaces(init(host, &guest)?)?);
    ensure_eq!(one["net"], other["net"]);
    ensure!(one["mnt"] != other["mnt"], "one container for two");
    ensure_eq!(namespaces(guest.pid()?)?["net"], one["net"]);
    guest.delete_force()?;
    holder.delete_force()
}

fn refused(host: &Host) -> Outcome {
    let own = |kind: &str| format!("/proc/{}/ns/{kind}", std::process::id());
    for (bundle, at) in [
        (host.bundle()?.without_namespace("mount"), "linux/namespaces"),
        (host.bundle()?.namespace("time", None), "linux/namespaces"),
        (host.bundle()?.set("/linux/rootfsPropagation", json!("shared")), "linux/rootfsPropagation"),
        (host.bundle()?.set("/annotations", json!({"run.oci.keep_original_groups": "1"})), "annotations/run.oci.keep"),
        (host.bundle()?.mount("/tmp", "bind", "/tmp", &["bind", "rshared"]), "/options"),
        (host.bundle()?.namespace("pid", Some(&own("pid"))), "/path"),
        (host.bundle()?.set("/linux/cgroupsPath", json!("/wharf \"e2e\"")), "linux/cgroupsPath"),
    ] {
        let said = host.create_fails(&bundle)?;
        ensure!(said.last_line().contains(at) && said.last_line().contains("lxc backend"), "{said}");
    }
    let bundle = host.bundle()?.payload(&["sleep"]);
    let container = host.start(&bundle)?;
    let said = container.call("checkpoint", &["--image-path", "/nowhere"])?;
    ensure!(said.code() != Some(0) && said.last_line().contains("checkpoint on the lxc backend"), "{said}");
    container.delete_force()
}

fn program(host: &Host) -> Outcome {
    let container = host.create(&host.bundle()?.payload(&["sleep"]))?;
    let first = init(host, &container)?;
    // While it waits it still runs from the copy, which has lost its name: nobody else will ever execute it.
    let shown = std::fs::read_link(format!("/proc/{first}/exe"))?;
    let shown = shown.to_string_lossy();
    ensure!(shown.contains("/wharf-lxc/") && shown.ends_with("/init (deleted)"), "{shown}");
    container.delete_force()
}
