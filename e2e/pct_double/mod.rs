//! The double of Proxmox's tools: that it answers as the real ones were observed to, with a real container behind each answer.
//!
//! "§" names the section of the contract that an expected answer is from.

mod disks;

use harness::{Finished, Host, Node, Outcome, Stop, ensure, ensure_eq};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) fn trials() -> harness::Feature {
    harness::Feature::new("pct-double")
        .trial("wrong words are answered with their parameter and the usage", wrong_words)
        .trial("list is empty without a container, and has fixed columns with one", list)
        .trial("a container lives its whole life, with a real payload", life)
        .trial("an unprivileged container is mapped, its bind stays 0-based by an idmap", unprivileged)
        .trial("a payload that ends within the start is no success, though it ran", quick)
        .trial("what LXC says of a failed start is on stdout, one line on stderr", failed_start)
        .trial("push, pull, resize, template end with 0 although they failed", zero_on_failure)
        .trial("push and pull bring a regular file in and out", push_and_pull)
        .trial("the configuration's lock is held through a shutdown, and others give up", lock)
        .trial("an aborted create leaves a configuration that holds only its lock", aborted)
        .trial("nextid reserves nothing, and the loser of a race is told at once", race)
        .trial("what a running container cannot take at once is pending until its next start", pending)
        .trial("without root, the daemon or a quorum nothing is done", states)
        .trial("raw keys go through by the list, others are dropped with a warning, an include brings any", raw_keys)
        .trial("a frozen container is said to run; seen from another network namespace it is stopped", illusions)
        .trial("storages and templates that are not there, or not for this, are told by name", disks::storages)
        .trial("an image's environment and entrypoint win over those of the same create", disks::image)
        .trial("destroy deletes what carries its number, and nothing else", disks::destroy)
        .trial("mount takes the container for itself until unmount", disks::mount)
        .trial("on directory storage there are no snapshots", disks::snapshots)
        .trial("on ZFS a snapshot is taken, listed, rolled back to and deleted", disks::zfs_snapshots)
        .trial(
            "on ZFS an existing clone is taken for a volume, and a template is cloned by reference",
            disks::zfs_clones,
        )
}

/// rc, stdout and stderr, byte for byte.
fn expect(finished: &Finished, code: i32, stdout: &str, stderr: &str) -> Outcome {
    ensure_eq!((finished.code(), finished.stdout.as_str(), finished.stderr.as_str()), (Some(code), stdout, stderr));
    Ok(())
}

/// A root file system with the payload in it.
fn rootfs(host: &Host, owner: u32) -> Result<PathBuf, Stop> {
    let root = host.new_dir("rootfs")?;
    for dir in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir(root.join(dir))?;
        std::os::unix::fs::chown(root.join(dir), Some(owner), Some(owner))?;
    }
    fs::copy(host.payload(), root.join("bin/payload"))?;
    std::os::unix::fs::chown(&root, Some(owner), Some(owner))?;
    Ok(root)
}

/// A container on a bind of `root`, whose payload does what `words` say.
fn create(host: &Host, node: &Node, root: &Path, words: &str, more: &[&str]) -> Result<String, Stop> {
    let id = node.next_id(host)?;
    let (template, root) = (node.template()?, root.display().to_string());
    let entrypoint = format!("/bin/payload {words}");
    let mut all =
        vec!["create", &id, &template, "--ostype", "unmanaged", "--arch", "amd64", "--entrypoint", &entrypoint];
    if !more.contains(&"--unprivileged") {
        all.extend(["--unprivileged", "0"]);
    }
    if !more.contains(&"--rootfs") {
        all.extend(["--rootfs", &root]);
    }
    all.extend(more);
    node.must(host, "pct", &all)?;
    Ok(id)
}

fn file(node: &Node, id: &str) -> PathBuf {
    node.dir().join(format!("etc/pve/lxc/{id}.conf"))
}

/// §2, above the table.
fn missing(id: &str) -> String {
    format!("Configuration file 'nodes/pve1/lxc/{id}.conf' does not exist\n")
}

/// §1.
fn wrong_words(host: &Host) -> Outcome {
    let node = Node::make(host)?;
    let pct = |words: &[&str]| node.call(host, "pct", words);
    let verify = "400 Parameter verification failed.\n";
    expect(&pct(&["status"])?, 2, "", "400 not enough arguments\npct status <vmid> [OPTIONS]\n")?;
    let said = "Unknown option: x\n400 unable to parse option\npct status <vmid> [OPTIONS]\n";
    expect(&pct(&["status", "100", "--x"])?, 2, "", said)?;
    let said = format!("{verify}vmid: type check ('integer') failed - got 'abc'\npct status <vmid> [OPTIONS]\n");
    expect(&pct(&["status", "abc"])?, 255, "", &said)?;
    let said =
        format!("{verify}vmid: invalid format - value does not look like a valid VM ID\npct status <vmid> [OPTIONS]\n");
    expect(&pct(&["status", "0100"])?, 255, "", &said)?;
    let unknown = pct(&["x"])?;
    ensure!(unknown.code() == Some(255) && unknown.stderr.starts_with("ERROR: unknown command 'pct x'\n"), "{unknown}");
    expect(&pct(&["status", "100"])?, 2, "", &missing("100"))?;
    expect(&pct(&["start", "100"])?, 255, "", &missing("100"))?;
    expect(&pct(&["stop", "100"])?, 255, "", "CT 100 not running\n")?;
    expect(&pct(&["set", "100"])?, 255, "", "no options specified\n")
}

/// §2, list.
fn list(host: &Host) -> Outcome {
    let node = Node::make(host)?;
    expect(&node.call(host, "pct", &["list"])?, 0, "", "")?;
    let root = rootfs(host, 0)?;
    let (one, two) =
        (create(host, &node, &root, "sleep", &["--hostname", "named"])?, create(host, &node, &root, "sleep", &[])?);
    let header = "VMID       Status     Lock         Name                 \n";
    let rows = format!(
        "{one:<10} stopped                 named                \n{two:<10} stopped                 {:<20} \n",
        format!("CT{two}")
    );
    expect(&node.call(host, "pct", &["list"])?, 0, &format!("{header}{rows}"), "")
}

fn life(host: &Host) -> Outcome {
    let node = Node::make(host)?;
    let root = rootfs(host, 0)?;
    let id = create(
        host,
        &node,
        &root,
        "sleep",
        &["--memory", "64", "--hostname", "abc", "--description", "a: b", "--tags", "wharf"],
    )?;
    let shown = format!(
        "arch: amd64\ndescription: a%3A b%0A\nentrypoint: /bin/payload sleep\nhostname: abc\nmemory: 64\nostype: unmanaged\n\
         rootfs: {}\ntags: wharf\nunprivileged: 0\n",
        root.display()
    );
    expect(&node.call(host, "pct", &["config", &id])?, 0, &shown, "")?;
    expect(&node.call(host, "pct", &["status", &id])?, 0, "status: stopped\n", "")?;
    let said = format!("container '{id}' not running!\n");
    expect(&node.call(host, "pct", &["exec", &id, "--", "/bin/payload"])?, 255, "", &said)?;
    expect(&node.call(host, "pct", &["start", &id])?, 0, "", "")?;
    expect(&node.call(host, "pct", &["start", &id])?, 255, "", &format!("CT {id} already running\n"))?;
    expect(&node.call(host, "pct", &["status", &id])?, 0, "status: running\n", "")?;
    let verbose = node.must(host, "pct", &["status", &id, "--verbose"])?;
    let pid = verbose.lines().find_map(|line| line.strip_prefix("pid: ")).unwrap_or_default().to_owned();
    // §2, init pid and cgroup.
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    ensure!(cgroup.lines().any(|line| line.ends_with(&format!(":/lxc/{id}/ns"))), "{cgroup}");
    let exec =
        node.call(host, "pct", &["exec", &id, "--keep-env", "0", "--", "/bin/payload", "report", ";", "exit", "7"])?;
    ensure!(exec.code() == Some(7) && exec.stdout.contains("\"hostname\":\"abc\""), "{exec}");
    ensure!(!exec.stdout.contains("\"PWD="), "the caller's environment: {exec}");
    let exec = node.call(host, "pct", &["exec", &id, "--", "/bin/nothing"])?;
    ensure_eq!(exec.code(), Some(127));
    let said = format!("unable to destroy CT {id} - container is running\n");
    expect(&node.call(host, "pct", &["destroy", &id])?, 255, "", &said)?;
    expect(&node.call(host, "pct", &["stop", &id])?, 0, "", "")?;
    expect(&node.call(host, "pct", &["stop", &id])?, 255, "", &format!("CT {id} not running\n"))?;
    expect(&node.call(host, "pct", &["destroy", &id])?, 0, "", "")?;
    ensure!(root.join("bin/payload").exists(), "destroy took the bind's directory");
    // §1, task log.
    let index = fs::read_to_string(node.dir().join("var/log/pve/tasks/index"))?;
    let kinds: Vec<&str> = index.lines().filter_map(|line| line.split(':').nth(5)).collect();
    ensure_eq!(kinds, ["vzcreate", "vzstart", "vzstop", "vzdestroy"]);
    Ok(())
}

/// §3, unprivileged; §4.4.
fn unprivileged(host: &Host) -> Outcome {
    let node = Node::make(host)?;
    let root = rootfs(host, 0)?;
    let volume = format!("{},idmap=passthrough", root.display());
    let id = create(host, &node, &root, "sleep", &["--unprivileged", "1", "--rootfs", &volume])?;
    let started = node.call(host, "pct", &["start", &id])?;
    if started.code() != Some(0) && started.stdout.contains("pre-start") {
        return Err(Stop::skipped("the file system of the trial cannot map ids"));
    }
    expect(&started, 0, "", "")?;
    let told = node.must(host, "pct", &["exec", &id, "--", "/bin/payload", "report"])?;
    ensure!(told.contains("\"uid_map\":\"         0     100000      65536\""), "{told}");
    node.must(host, "pct", &["stop", &id])?;
    // The host must allow the range, of raw lines too.
    fs::write(file(&node, &id), fs::read_to_string(file(&node, &id))? + "lxc.idmap: u 0 300000 65536\n")?;
    let refused = node.call(host, "pct", &["start", &id])?;
    ensure!(refused.stdout.contains("[0-65536) -> [300000-365536) not allowed"), "{refused}");
    fs::write(node.dir().join("etc/subuid"), "")?;
    let refused = node.call(host, "pct", &["start", &id])?;
    ensure!(refused.code() == Some(255) && refused.stdout.contains("newuidmap"), "{refused}");
    Ok(())
}

/// §0.3.
fn quick(host: &Host) -> Outcome {
    let node = Node::make(host)?;
    let root = rootfs(host, 0)?;
    let id = create(host, &node, &root, "mkdir /tmp/ran ; exit 3", &[])?;
    let said = format!("unable to get PID for CT {id} (not running?)\n");
    expect(&node.call(host, "pct", &["start", &id])?, 255, "", &said)?;
    ensure!(root.join("tmp/ran").exists(), "it did not run");
    expect(&node.call(host, "pct", &["status", &id])?, 0, "status: stopped\n", "")
}

/// §2, start; §0.2.
fn failed_start(host: &Host) -> Outcome {
    let node = Node::make(host)?;
    let root = rootfs(host, 0)?;
    let id = create(host, &node, &root, "sleep", &["--mp0", "/etc/hosts,mp=/data"])?;
    let failed = node.call(host, "pct", &["start", &id])?;
    let said = format!("startup for container '{id}' failed\n");
    ensure!(failed.code() == Some(255) && failed.stderr == said, "{failed}");
    // §0.9: no single files.
    ensure!(failed.stdout.contains(&format!("Failed to run lxc.hook.pre-start for container \"{id}\"")), "{failed}");
    ensure!(!failed.stdout.contains("../src/lxc"), "{failed}");
    let bridge = create(host, &node, &root, "sleep", &["--net0", "name=eth0,bridge=wharfnone0"])?;
    expect(&node.call(host, "pct", &["start", &bridge])?, 255, "", "bridge 'wharfnone0' does not exist\n")
}

/// §0.1.
fn zero_on_failure(host: &Host) -> Outcome {
    let node = Node::make(host)?;
    let root = rootfs(host, 0)?;
    let id = create(host, &node, &root, "sleep", &[])?;
    let volume = create(host, &node, &root, "sleep", &["--rootfs", "data:0"])?;
    for words in [
        vec!["push", &id, "/etc/hosts", "/tmp/hosts"],
        vec!["pull", &id, "/etc/hosts", "/tmp/hosts"],
        vec!["resize", &volume, "rootfs", "+1G"],
        vec!["template", &id],
    ] {
        let finished = node.call(host, "pct", &words)?;
        ensure!(finished.code() == Some(0) && finished.stderr.lines().count() == 1, "{finished}");
    }
    Ok(())
}

fn push_and_pull(host: &Host) -> Outcome {
    let node = Node::make(host)?;
    let root = rootfs(host, 0)?;
    let id = create(host, &node, &root, "sleep", &[])?;
    node.must(host, "pct", &["start", &id])?;
    let (from, to) = (host.dir().join("from"), host.dir().join("to"));
    fs::write(&from, "text")?;
    let (from, to) = (from.display().to_string(), to.display().to_string());
    expect(&node.call(host, "pct", &["push", &id, &from, "/tmp/file", "--perms", "600"])?, 0, "", "")?;
    ensure_eq!(fs::read_to_string(root.join("tmp/file"))?, "text");
    expect(&node.call(host, "pct", &["pull", &id, "/tmp/file", &to])?, 0, "", "")?;
    ensure_eq!(fs::read_to_string(to)?, "text");
    let refused = node.call(host, "pct", &["push", &id, "/dev/null", "/tmp/null"])?;
    ensure!(refused.code() == Some(0) && !refused.stderr.is_empty(), "{refused}");
    Ok(())
}

/// §1, locks; §0.8.
fn lock(host: &Host) -> Outcome {
    let node = Node::make(host)?;
    node.switch("lock-seconds", "0.3")?;
    node.switch("shutdown-seconds", "0")?;
    let id = create(host, &node, &rootfs(host, 0)?, "sleep", &[])?;
    node.must(host, "pct", &["start", &id])?;
    let mut command = node.program("pct");
    command.args(["shutdown", &id, "--timeout", "2"]).stdin(Stdio::null());
    let shutdown = host.program(command)?;
    // Until it holds the lock.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let path = node.dir().join(format!("run/lock/lxc/pve-config-{id}.lock"));
    let said = format!("trying to acquire lock...\ncan't lock file '{}' - got timeout\n", path.display());
    expect(&node.call(host, "pct", &["set", &id, "--memory", "128"])?, 255, "", &said)?;
    expect(&node.call(host, "pct", &["status", &id])?, 0, "status: running\n", "")?;
    let ended = shutdown.finish()?;
    ensure!(ended.code() == Some(255) && ended.stderr == "container did not stop\n", "{ended}");
    ensure!(ended.stdout.ends_with("failed: exit code 1\n"), "{ended}");
    Ok(())
}

/// §1, locks.
fn aborted(host: &Host) -> Outcome {
    let node = Node::make(host)?;
    let root = rootfs(host, 0)?.display().to_string();
    let (id, template) = (node.next_id(host)?, node.template()?);
    node.fail_at("create.unpacked kill")?;
    let words = ["create", &id, &template, "--ostype", "unmanaged", "--arch", "amd64", "--rootfs", &root];
    let killed = node.call(host, "pct", &words)?;
    ensure_eq!((killed.code(), killed.stderr.as_str()), (Some(255), "unexpected status\n"));
    ensure_eq!(fs::read_to_string(file(&node, &id))?, "lock: create\n");
    expect(&node.call(host, "pct", &["start", &id])?, 255, "", "CT is locked (create)\n")?;
    expect(&node.call(host, "pct", &["destroy", &id, "--force", "1"])?, 255, "", "CT is locked (create)\n")?;
    expect(&node.call(host, "pct", &["unlock", &id])?, 0, "", "")?;
    let said = "no lock found trying to remove any lock\n";
    expect(&node.call(host, "pct", &["unlock", &id])?, 255, "", said)?;
    expect(&node.call(host, "pct", &["destroy", &id])?, 0, "", "")?;
    // A failure that is none of a signal undoes it all.
    node.fail_at("create.unpacked die no space")?;
    let failed = node.call(host, "pct", &words)?;
    ensure_eq!((failed.code(), failed.stderr), (Some(255), format!("unable to create CT {id} - no space\n")));
    ensure!(!file(&node, &id).exists(), "a failed create left its configuration");
    Ok(())
}

/// §0.7.
fn race(host: &Host) -> Outcome {
    let node = Node::make(host)?;
    let root = rootfs(host, 0)?;
    let id = node.next_id(host)?;
    ensure_eq!(node.next_id(host)?, id);
    ensure_eq!(
        node.must(host, "pvesh", &["get", "/cluster/nextid", "--output-format", "json"])?,
        format!("\"{id}\"\n")
    );
    let mut running = Vec::new();
    for _ in 0..5 {
        let mut command = node.program("pct");
        command.args(["create", &id, &node.template()?, "--ostype", "unmanaged", "--arch", "amd64"]);
        command.arg("--rootfs").arg(&root).stdin(Stdio::null());
        running.push(host.program(command)?);
    }
    let mut won = 0;
    for one in running {
        let ended = one.finish()?;
        match ended.code() {
            Some(0) => won += 1,
            _ => ensure!(ended.stderr.ends_with(&format!("CT {id} already exists on node 'pve1'\n")), "{ended}"),
        }
    }
    ensure_eq!(won, 1);
    let taken = node.call(host, "pvesh", &["get", "/cluster/nextid", "--vmid", &id])?;
    expect(&taken, 2, "", &format!("400 Parameter verification failed.\nvmid: VM {id} already exists\n"))
}

/// §2, set, config, pending.
fn pending(host: &Host) -> Outcome {
    let node = Node::make(host)?;
    let id = create(host, &node, &rootfs(host, 0)?, "sleep", &["--memory", "64"])?;
    node.must(host, "pct", &["start", &id])?;
    node.must(host, "pct", &["set", &id, "--entrypoint", "/bin/payload wait-signal", "--memory", "96"])?;
    let pending = node.must(host, "pct", &["pending", &id])?;
    ensure!(
        pending.contains("cur entrypoint: /bin/payload sleep\nnew entrypoint: /bin/payload wait-signal\n"),
        "{pending}"
    );
    ensure!(pending.contains("cur memory: 96\n") && !pending.contains("new memory"), "{pending}");
    let merged = node.must(host, "pct", &["config", &id])?;
    ensure!(merged.contains("entrypoint: /bin/payload wait-signal\n"), "{merged}");
    let current = node.must(host, "pct", &["config", &id, "--current", "1"])?;
    ensure!(current.contains("entrypoint: /bin/payload sleep\n"), "{current}");
    node.must(host, "pct", &["stop", &id])?;
    node.must(host, "pct", &["start", &id])?;
    ensure!(!fs::read_to_string(file(&node, &id))?.contains("pending"), "a start left it pending");
    node.must(host, "pct", &["stop", &id]).map(drop)
}

/// §1, user, cluster fs, quorum.
fn states(host: &Host) -> Outcome {
    let node = Node::make(host)?;
    let id = create(host, &node, &rootfs(host, 0)?, "sleep", &[])?;
    let lines = |reason: &str| {
        let numbered: String = (1..4).map(|number| format!("ipcc_send_rec[{number}] failed: {reason}\n")).collect();
        format!("{numbered}Unable to load access control list: {reason}\n")
    };
    node.must(host, "pct-double", &["daemon", "down"])?;
    expect(&node.call(host, "pct", &["list"])?, 111, "", &lines("Connection refused"))?;
    ensure_eq!(fs::read_dir(node.dir().join("etc/pve"))?.count(), 0);
    node.must(host, "pct-double", &["daemon", "up"])?;
    node.switch("not-root", "")?;
    expect(&node.call(host, "pct", &["list"])?, 255, "", &lines("Unknown error -1"))?;
    node.switch_off("not-root")?;
    node.switch("no-quorum", "")?;
    let said = "cluster not ready - no quorum?\n";
    expect(&node.call(host, "pct", &["set", &id, "--memory", "128"])?, 255, "", said)?;
    expect(&node.call(host, "pct", &["start", &id])?, 255, "", said)?;
    expect(&node.call(host, "pct", &["status", &id])?, 0, "status: stopped\n", "")?;
    node.switch_off("no-quorum")?;
    // An exit code that means nothing, but for that it is not 0.
    node.switch("stale-errno", "25")?;
    expect(&node.call(host, "pct", &["stop", &id])?, 25, "", &format!("CT {id} not running\n"))?;
    expect(&node.call(host, "pct", &["status", &id])?, 0, "status: stopped\n", "")
}

/// §3, raw keys.
fn raw_keys(host: &Host) -> Outcome {
    let node = Node::make(host)?;
    let id = create(host, &node, &rootfs(host, 0)?, "sleep", &[])?;
    let include = host.dir().join("include");
    fs::write(&include, "lxc.no_new_privs = 1\n")?;
    let mut text = fs::read_to_string(file(&node, &id))?;
    text.push_str("lxc.environment.runtime: A=one two\nlxc.prlimit.nofile: 123\nlxc.ephemeral: 1\n");
    text.push_str(&format!("lxc.include: {}\n", include.display()));
    fs::write(file(&node, &id), text)?;
    let shown = node.call(host, "pct", &["config", &id])?;
    ensure_eq!(shown.stderr, format!("vm {id} - unable to parse config: lxc.ephemeral: 1\n"));
    ensure!(
        shown.stdout.contains("\nenv: A=one two\n") && shown.stdout.contains("lxc.prlimit.nofile: 123\n"),
        "{shown}"
    );
    node.must(host, "pct", &["start", &id])?;
    let pid = node.must(host, "pct", &["status", &id, "--verbose"])?;
    let pid = pid.lines().find_map(|line| line.strip_prefix("pid: ")).unwrap_or_default().to_owned();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    ensure!(status.contains("NoNewPrivs:\t1"), "the include was not read");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    ensure!(limits.lines().any(|line| line.starts_with("Max open files") && line.contains("123")), "{limits}");
    let environment = fs::read_to_string(format!("/proc/{pid}/environ"))?;
    ensure!(environment.split('\0').any(|one| one == "A=one two"), "{environment}");
    node.must(host, "pct", &["stop", &id]).map(drop)
}

/// §0.8, §0.10.
fn illusions(host: &Host) -> Outcome {
    let node = Node::make(host)?;
    let id = create(host, &node, &rootfs(host, 0)?, "sleep", &[])?;
    node.must(host, "pct", &["start", &id])?;
    let lxc = |tool: &str| {
        let mut command = Command::new(tool);
        command.arg("-P").arg(node.dir().join("var/lib/lxc")).args(["-n", &id]);
        command
    };
    ensure_eq!(host.program(lxc("lxc-freeze"))?.finish()?.code(), Some(0));
    expect(&node.call(host, "pct", &["status", &id])?, 0, "status: running\n", "")?;
    ensure_eq!(host.program(lxc("lxc-unfreeze"))?.finish()?.code(), Some(0));
    let mut elsewhere = Command::new("unshare");
    elsewhere.arg("-n").arg(node.dir().join("bin/pct")).args(["status", &id]);
    expect(&host.program(elsewhere)?.finish()?, 0, "status: stopped\n", "")?;
    node.must(host, "pct", &["stop", &id]).map(drop)
}
