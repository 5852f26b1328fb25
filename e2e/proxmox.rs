//! The backend for a Proxmox node, on the double of its tools: what the node sees of a container, what an engine sees, and every
//! trap of the tools that the backend steps around.

use crate::lxc;
use harness::{Bundle, Container, Feature, Host, Node, Outcome, Stop, due, ensure, ensure_eq, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A node of its own for each trial, and wharf told of it.
fn host(host: &Host) -> Result<Host, Stop> {
    let node = Node::make(host)?;
    let file = host.dir().join("proxmox.json");
    fs::write(&file, json!({"proxmox": {"node_root": node.dir(), "timeout": 60}}).to_string())?;
    let options = ["--config", file.to_str().unwrap_or_default(), "--backend", "pct"];
    Ok(host.with_options(&options)?.as_node(node))
}

/// What is not the same on a node, beside what is not on LXC, by the beginning of a trial's sentence, and why.
const OTHER: &[&str] = &[
    // The name on the node, which plan tells.
    "hostname: without a hostname",
    // Refused by name.
    "mount_types: cgroup without a cgroup namespace",
    // They look for the payload's processes and its cgroup by the pid that `state` tells.
    "pause: processes in cgroups below",
    "pause: a container inside a frozen cgroup",
    // Who stands in is counted.
    "containerd: task metrics",
];

/// On cgroup v1, which no node has.
const OTHER_V1: &[&str] = &[
    // Nothing may have more devices than the cgroup above it, which is LXC's.
    "capabilities: the kernel refuses",
    "resources_devices: ",
    "containerd: capabilities are the default ones",
    // Podman's containers have no cgroup namespace there.
    "podman: ",
];

/// The trials of other features, on a node: one in ten, as its tools take a second for each container.
pub(crate) fn also(features: Vec<Feature>) -> Vec<Feature> {
    let other = |sentence: &str| {
        let is_among = |list: &[&str]| list.iter().any(|beginning| sentence.starts_with(beginning));
        let has_v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        lxc::is_other(sentence) || is_among(OTHER) || (!has_v2 && is_among(OTHER_V1)) || !due(sentence, 10)
    };
    features.into_iter().map(|feature| feature.on("pct", generous, other)).collect()
}

/// A node whose root may map every id.
fn generous(own: &Host) -> Result<Host, Stop> {
    let host = host(own)?;
    for file in ["etc/subuid", "etc/subgid"] {
        fs::write(host.node()?.dir().join(file), "root:0:4294967295\n")?;
    }
    Ok(host)
}

fn on_pct(body: fn(&Host) -> Outcome) -> impl FnOnce(&Host) -> Outcome {
    move |own| body(&host(own)?)
}

/// A call of the node's own tool.
fn pct(host: &Host, words: &[&str]) -> Result<String, Stop> {
    Ok(host.node()?.must(host, "pct", words)?.trim().to_owned())
}

/// The numbers of the node's containers.
fn numbers(host: &Host) -> Result<Vec<u32>, Stop> {
    let mut all = Vec::new();
    for entry in fs::read_dir(host.node()?.dir().join("etc/pve/lxc/"))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        all.extend(name.strip_suffix(".conf").and_then(|number| number.parse::<u32>().ok()));
    }
    all.sort_unstable();
    Ok(all)
}

fn only_number(host: &Host) -> Result<String, Stop> {
    match numbers(host)?.as_slice() {
        [one] => Ok(one.to_string()),
        other => Err(Stop::failed(format!("the node has {other:?}"))),
    }
}

/// Nothing of a container: on the node, below /run, among the cgroups.
fn nothing_left(host: &Host, number: &str) -> Outcome {
    ensure_eq!(numbers(host)?, Vec::<u32>::new());
    let files = Path::new("/run/wharf-pct").join(host.root().strip_prefix("/")?);
    ensure!(!files.exists(), "{} is left", files.display());
    for top in ["", "freezer", "memory", "unified"] {
        let cgroup = Path::new("/sys/fs/cgroup").join(top).join("lxc").join(number);
        ensure!(!cgroup.exists(), "{} is left", cgroup.display());
    }
    Ok(())
}

/// Every file below, with its mode and owner.
fn files(dir: &Path) -> Result<BTreeMap<PathBuf, String>, Stop> {
    use std::os::unix::fs::MetadataExt;
    let (mut all, mut waiting) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir)?.flatten() {
            let about = entry.metadata()?;
            all.insert(entry.path(), format!("{:o} {} {}", about.mode(), about.uid(), about.len()));
            if about.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    Ok(all)
}

/// The container's first process, from its record.
fn init(host: &Host, container: &Container<'_>) -> Result<i32, Stop> {
    let record = fs::read(host.root().join(container.id()).join("record.json"))?;
    let record: harness::Value = serde_json::from_slice(&record)?;
    record["init"]["pid"].as_i64().map(|pid| pid as i32).ok_or_else(|| Stop::failed("no init in the record"))
}

fn freezer(pid: i32) -> Result<String, Stop> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let line = text.lines().find(|line| line.contains(":freezer:") || line.starts_with("0::")).unwrap_or_default();
    Ok(line.rsplit(':').next().unwrap_or_default().to_owned())
}

fn sleeper(host: &Host) -> Result<Bundle, Stop> {
    Ok(host.bundle()?.payload(&["sleep"]))
}

pub(crate) fn trials() -> Feature {
    Feature::new("proxmox")
        .trial("the node shows a container that wharf runs, and has nothing of it afterwards", on_pct(lifecycle))
        .trial("a payload that ends at once has its exit code and both streams", on_pct(at_once))
        .trial("the pid that engines see is in the payload's namespaces and cgroup", on_pct(stand_in))
        .trial("the end of a payload by a signal is told as it was", on_pct(signals))
        .trial("exec has user, directory, environment and exit code", on_pct(exec))
        .trial("a paused container stands still, runs for the node, and is killed", on_pct(paused))
        .trial("ids are mapped as config.json says", on_pct(user_namespace))
        .trial(
            "where no container is to be privileged, a bundle without a user namespace is refused",
            on_pct(privileged),
        )
        .trial("words of any kind reach the payload", on_pct(words))
        .trial("what an administrator stops or destroys is stopped, and is deleted", on_pct(behind_our_back))
        .trial("a container of the node that is not wharf's is never touched", on_pct(not_ours))
        .trial("of many creates at once each has a number of its own", on_pct(crowd))
        .trial("a number that another took meanwhile is left to it", on_pct(taken))
        .trial("what the node's tools refuse is told by cause, and nothing is left", on_pct(causes))
        .trial("a node that does not answer has not lost its containers", on_pct(daemon_down))
        .trial("a locked container is not deleted, and afterwards it is", on_pct(locked))
        .trial("a container whose record is gone is told by gc, and is removed once it has ended", on_pct(orphan))
        .trial("doctor tells what is amiss with the node", on_pct(doctor))
        .trial("a host that is no node is refused before anything exists", no_node)
}

fn lifecycle(host: &Host) -> Outcome {
    let bundle = host.bundle()?.payload(&["report", ";", "sleep"]);
    let before = files(&bundle.rootfs())?;
    let container = host.create(&bundle)?;
    let number = only_number(host)?;
    ensure_eq!(container.status()?, "created");
    let config = pct(host, &["config", &number])?;
    ensure!(config.contains("tags: wharf") && config.contains("unprivileged: 0"), "{config}");
    ensure!(config.contains(container.id()), "{config}");
    container.start()?;
    container.lines(1)?;
    ensure_eq!(pct(host, &["status", &number])?, "status: running");
    ensure_eq!(container.status()?, "running");
    container.kill("KILL")?;
    container.wait_for_status("stopped")?;
    container.delete()?;
    ensure_eq!(files(&bundle.rootfs())?, before);
    nothing_left(host, &number)
}

fn at_once(host: &Host) -> Outcome {
    let ran = host.run(&host.bundle()?.payload(&["exit", "7"]))?;
    ensure_eq!(ran.finished.code(), Some(7));
    ensure_eq!(numbers(host)?, Vec::<u32>::new());
    let container = host.start(&host.bundle()?.payload(&["exit", "42"]))?;
    ensure_eq!(container.call("wait", &[])?.code(), Some(42));
    ensure_eq!(container.state()?["annotations"]["dev.wharf.exit.code"], "42");
    container.delete()
}

fn stand_in(host: &Host) -> Outcome {
    let container = host.create(&sleeper(host)?)?;
    let (seen, first) = (container.pid()?, init(host, &container)?);
    ensure!(seen != first, "nobody stands in");
    let namespace = |pid: i32, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}"));
    for started in [false, true] {
        if started {
            container.start()?;
        }
        for kind in ["mnt", "uts", "ipc", "net"] {
            ensure_eq!(namespace(seen, kind)?, namespace(first, kind)?);
            ensure!(namespace(seen, kind)? != namespace(std::process::id() as i32, kind)?, "{kind} is the host's");
        }
        let inside = format!("/lxc/{}/ns", only_number(host)?);
        ensure_eq!((freezer(seen)?, freezer(first)?), (inside.clone(), inside));
        ensure_eq!(fs::read_dir(format!("/proc/{seen}/root/bin"))?.count(), 1);
    }
    container.delete_force()
}

fn signals(host: &Host) -> Outcome {
    for (signal, expected) in [("TERM", 128 + 15), ("KILL", 128 + 9), ("ABRT", 128 + 6)] {
        let container = host.create(&host.bundle()?.without_namespace("pid").payload(&["kill-self", signal]))?;
        let pid = container.pid()?;
        container.start()?;
        ensure_eq!((signal, container.reap(pid)?), (signal, expected));
        container.delete()?;
    }
    let container = host.start(&host.bundle()?.payload(&["report", ";", "wait-signal", ";", "exit", "7"]))?;
    container.lines(1)?;
    let pid = container.pid()?;
    container.kill("USR1")?;
    ensure_eq!(container.reap(pid)?, 7);
    container.delete()
}

fn exec(host: &Host) -> Outcome {
    let container = host.start(&sleeper(host)?)?;
    let [report] = container.exec_lines(&["--user", "5:6", "--cwd", "/tmp", "--env", "A=b c"], &["report"])?;
    ensure_eq!((report["uid"][1].as_i64(), report["gid"][1].as_i64(), report.text("/cwd")), (Some(5), Some(6), "/tmp"));
    let ran = container.exec(&[], &["/bin/payload", "exit", "9"])?;
    ensure_eq!(ran.finished.code(), Some(9));
    container.delete_force()
}

fn paused(host: &Host) -> Outcome {
    let container = host.start(&sleeper(host)?)?;
    let number = only_number(host)?;
    container.call("pause", &[])?;
    ensure_eq!(container.status()?, "paused");
    // The node knows of no freezing.
    ensure_eq!(pct(host, &["status", &number])?, "status: running");
    container.call("resume", &[])?;
    ensure_eq!(container.status()?, "running");
    container.call("pause", &[])?;
    container.delete_force()?;
    nothing_left(host, &number)
}

fn user_namespace(host: &Host) -> Outcome {
    for outside in [100_000, 200_000] {
        let map = json!([{"containerID": 0, "hostID": outside, "size": 65536}]);
        let bundle = host
            .bundle()?
            .namespace("user", None)
            .set("/linux/uidMappings", map.clone())
            .set("/linux/gidMappings", map)
            .payload(&["report", ";", "sleep"]);
        for path in [bundle.rootfs(), bundle.rootfs().join("tmp")] {
            std::os::unix::fs::chown(path, Some(outside), Some(outside))?;
        }
        let container = host.start(&bundle)?;
        container.lines(1)?;
        let table = fs::read_to_string(format!("/proc/{}/uid_map", init(host, &container)?))?;
        ensure_eq!(table.split_whitespace().nth(1), Some(outside.to_string().as_str()));
        ensure!(pct(host, &["config", &only_number(host)?])?.contains("unprivileged: 1"), "it is a privileged one");
        container.delete_force()?;
    }
    Ok(())
}

fn privileged(host: &Host) -> Outcome {
    let file = host.dir().join("proxmox.json");
    let mut configuration: harness::Value = serde_json::from_slice(&fs::read(&file)?)?;
    configuration["proxmox"]["unprivileged"] = json!(true);
    fs::write(&file, configuration.to_string())?;
    let said = host.create_fails(&sleeper(host)?)?;
    ensure!(said.last_line().contains("[linux/namespaces]"), "{said}");
    ensure_eq!(numbers(host)?, Vec::<u32>::new());
    Ok(())
}

fn words(host: &Host) -> Outcome {
    let odd = "a \"b' \\c\n\t$x `y` %20 # = ;é";
    let bundle = host.bundle()?.payload(&["report"]);
    let bundle = bundle.push("/process/args", json!(odd)).push("/process/env", json!(format!("ODD={odd}")));
    let ran = host.run(&bundle)?;
    let shown = serde_json::to_string(odd)?;
    let shown = shown.trim_matches('"');
    ensure!(ran.finished.stdout.matches(shown).count() >= 1, "{}", ran.finished);
    Ok(())
}

fn behind_our_back(host: &Host) -> Outcome {
    for destroyed in [false, true] {
        let container = host.start(&sleeper(host)?)?;
        let (number, pid) = (only_number(host)?, container.pid()?);
        pct(host, &["stop", &number])?;
        container.wait_for_status("stopped")?;
        ensure_eq!(container.reap(pid)?, 128 + 9);
        if destroyed {
            pct(host, &["destroy", &number])?;
        }
        container.delete()?;
        nothing_left(host, &number)?;
    }
    Ok(())
}

fn not_ours(host: &Host) -> Outcome {
    let container = host.start(&sleeper(host)?)?;
    let (number, pid) = (only_number(host)?, container.pid()?);
    pct(host, &["stop", &number])?;
    container.reap(pid)?;
    pct(host, &["destroy", &number])?;
    let other = host.new_dir("other")?;
    fs::create_dir_all(other.join("dev"))?;
    let archive = host.dir().join("empty.tar");
    fs::write(&archive, [0; 1024])?;
    let (archive, rootfs) = (archive.to_string_lossy().into_owned(), other.to_string_lossy().into_owned());
    let words = ["create", &number, &archive, "--ostype", "unmanaged", "--arch", "amd64", "--unprivileged", "0"];
    pct(host, &[&words[..], &["--rootfs", &rootfs]].concat())?;
    container.delete()?;
    ensure_eq!(only_number(host)?, number);
    pct(host, &["destroy", &number]).map(drop)
}

fn crowd(host: &Host) -> Outcome {
    const COUNT: usize = 20;
    let mut running = Vec::new();
    let bundles = (0..COUNT).map(|_| sleeper(host)).collect::<Result<Vec<_>, _>>()?;
    for bundle in &bundles {
        bundle.save()?;
        running.push(host.spawn(&["create", "--bundle", bundle.dir_text(), bundle.id()])?);
    }
    for one in running {
        let finished = one.finish()?;
        ensure_eq!((finished.code(), finished.stderr.as_str()), (Some(0), ""));
    }
    ensure_eq!(numbers(host)?.len(), COUNT);
    for bundle in &bundles {
        let finished = host.spawn(&["delete", "--force", bundle.id()])?.finish()?;
        ensure_eq!((finished.code(), finished.stderr.as_str()), (Some(0), ""));
    }
    ensure_eq!(numbers(host)?, Vec::<u32>::new());
    Ok(())
}

fn taken(host: &Host) -> Outcome {
    // The list is older than what happens on another node: it says that a number is free, and it is not.
    let first = host.start(&sleeper(host)?)?;
    let list = host.node()?.dir().join("etc/pve/.vmlist");
    let whole = fs::read_to_string(&list)?;
    fs::write(&list, r#"{"version": 1, "ids": {}}"#)?;
    let second = host.create(&sleeper(host)?);
    fs::write(&list, whole)?;
    let second = second?;
    ensure_eq!(numbers(host)?.len(), 2);
    second.delete_force()?;
    ensure_eq!(numbers(host)?.len(), 1);
    first.delete_force()
}

fn causes(host: &Host) -> Outcome {
    let bundle = sleeper(host)?;
    for (line, cause) in [
        ("create.allocated die storage 'x' does not exist", "storage is missing"),
        ("create.allocated die cluster not ready - no quorum?", "no quorum"),
        ("create.allocated kill", "create CT"),
        ("create.done die can't lock file '/x' - got timeout", ""),
        ("start.begin die bridge 'vmbr9' does not exist", "bridge is missing"),
        ("start.begin die CT is locked (backup)", "locked by another task"),
        ("start.written die Permission denied", "start CT"),
    ] {
        host.node()?.fail_at(line)?;
        if cause.is_empty() {
            // What passes is tried again.
            host.create(&bundle)?.delete_force()?;
            continue;
        }
        let said = host.create_fails(&bundle)?;
        ensure!(said.last_line().contains(cause), "{line}: {said}");
        for theirs in ["does not exist", "ermission denied", "not running", "o such file"] {
            ensure!(!said.last_line().contains(theirs), "{line}: {said}");
        }
        ensure_eq!((line, numbers(host)?), (line, Vec::<u32>::new()));
    }
    Ok(())
}

/// The daemon of the cluster file system; without it /etc/pve is an empty directory.
fn cluster(host: &Host, state: &str) -> Outcome {
    host.node()?.must(host, "pct-double", &["daemon", state]).map(drop)
}

fn daemon_down(host: &Host) -> Outcome {
    let container = host.start(&sleeper(host)?)?;
    let number = only_number(host)?;
    cluster(host, "down")?;
    let said = host.create_fails(&sleeper(host)?)?;
    ensure!(said.last_line().contains("cluster file system"), "{said}");
    let said = container.call("delete", &["--force"])?;
    ensure!(said.code() != Some(0) && said.last_line().contains("cluster file system"), "{said}");
    cluster(host, "up")?;
    container.delete_force()?;
    nothing_left(host, &number)
}

fn locked(host: &Host) -> Outcome {
    let container = host.start(&host.bundle()?.payload(&["exit", "0"]))?;
    let number = only_number(host)?;
    container.wait_for_status("stopped")?;
    let file = host.node()?.dir().join("etc/pve/lxc").join(format!("{number}.conf"));
    let text = fs::read_to_string(&file)?;
    fs::write(&file, text.replacen("arch:", "lock: backup\narch:", 1))?;
    let said = container.call("delete", &[])?;
    ensure!(said.code() != Some(0) && said.last_line().contains("locked by another task"), "{said}");
    pct(host, &["unlock", &number])?;
    container.delete()?;
    nothing_left(host, &number)
}

fn orphan(host: &Host) -> Outcome {
    let container = host.start(&sleeper(host)?)?;
    let beside = host.create(&sleeper(host)?)?;
    let (number, pid, id) = (numbers(host)?[0].to_string(), container.pid()?, container.id().to_owned());
    // A node that has started again has lost what was in memory.
    let kept = host.dir().join("kept");
    fs::rename(host.root().join(&id), &kept)?;
    let said = host.spawn(&["gc", "--apply"])?.finish()?;
    ensure!(said.code() == Some(0) && said.stderr.contains(&format!("pct stop {number}")), "{said}");
    ensure_eq!(numbers(host)?.len(), 2, "one that runs is gone: {said}");
    pct(host, &["stop", &number])?;
    container.reap(pid)?;
    let said = host.spawn(&["gc"])?.finish()?;
    ensure!(said.stdout.contains(&id) && said.stdout.contains("its record is gone"), "{said}");
    ensure!(!said.stdout.contains(beside.id()), "{said}");
    host.runtime.must(&["gc", "--apply"])?;
    ensure_eq!(numbers(host)?.len(), 1);
    beside.delete_force()?;
    fs::remove_dir_all(kept)?;
    nothing_left(host, &number)
}

fn doctor(host: &Host) -> Outcome {
    let said = host.spawn(&["doctor"])?.finish()?.stdout;
    for what in ["quorum", "LXC's monitor daemon", "ids of unprivileged"] {
        ensure!(said.contains(&format!("Proxmox: {what}")), "{what}: {said}");
    }
    ensure!(said.contains("0 guests in the cluster"), "{said}");
    cluster(host, "down")?;
    let said = host.spawn(&["doctor"])?.finish()?.stdout;
    ensure!(said.contains("is not mounted there"), "{said}");
    cluster(host, "up")
}

fn no_node(host: &Host) -> Outcome {
    let host = host.with_options(&["--backend", "pct"])?;
    if Path::new("/usr/sbin/pct").exists() {
        return Err(Stop::skipped("this host is a node"));
    }
    let said = host.create_fails(&sleeper(&host)?)?;
    ensure!(said.last_line().contains("pct"), "{said}");
    Ok(())
}
