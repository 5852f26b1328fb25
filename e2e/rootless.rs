//! Containers of an ordinary user: every verb, id maps of newuidmap, cgroups that are his, and the refusals with advice.

use harness::{Bundle, Feature, Host, Outcome, Report, Stop, Value, ensure, ensure_eq, json};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

/// An id that no user of the machine has.
pub(crate) const USER: u32 = 61_234;
/// First of his further ids.
pub(crate) const BASE: u32 = 1_700_000;

/// The caller of wharf is the user.
pub(crate) fn user(host: &Host) -> Result<Host, Stop> {
    host.only_wharf("the advice is wharf's own")?;
    host.for_user(USER, "")
}

pub(crate) fn own(path: &Path, uid: u32) -> Result<(), Stop> {
    std::os::unix::fs::lchown(path, Some(uid), Some(uid))?;
    if path.symlink_metadata()?.is_dir() {
        for entry in std::fs::read_dir(path)? {
            own(&entry?.path(), uid)?;
        }
    }
    Ok(())
}

/// As `wharf spec --rootless` has it: root inside is the user, and what the kernel then denies is left out.
pub(crate) fn bundle(host: &Host) -> Result<Bundle, Stop> {
    let one = json!([{ "containerID": 0, "hostID": USER, "size": 1 }]);
    let bundle = host.bundle()?.namespace("user", None).remove("/linux/cgroupsPath").remove("/linux/resources");
    own(&bundle.rootfs(), USER)?;
    let bundle = bundle.edit(|config| {
        let options = config["mounts"][2]["options"].as_array_mut().expect("devpts has options");
        options.retain(|option| option != "gid=5");
    });
    Ok(bundle.set("/linux/uidMappings", one.clone()).set("/linux/gidMappings", one))
}

/// Maps of `count` further ids.
pub(crate) fn with_more(bundle: Bundle, base: u32, count: u32) -> Bundle {
    let map = json!([
        { "containerID": 0, "hostID": USER, "size": 1 }, { "containerID": 1, "hostID": base, "size": count }
    ]);
    bundle.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map)
}

/// Files of the host's /etc with other contents, while it lives.
pub(crate) struct Etc(Vec<PathBuf>);

impl Etc {
    fn new(host: &Host, files: &[(&str, String)]) -> Result<Self, Stop> {
        let mut etc = Etc(Vec::new());
        for (name, text) in files {
            let (source, target) = (host.new_dir("etc")?.join(name), Path::new("/etc").join(name));
            if !target.exists() {
                return Err(Stop::skipped(format!("this host has no {}", target.display())));
            }
            std::fs::write(&source, text)?;
            mount(Some(&source), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
            etc.0.push(target);
        }
        Ok(etc)
    }

    /// The user has a name and these ranges.
    pub(crate) fn ranges(host: &Host, text: &str) -> Result<Self, Stop> {
        if !Path::new("/usr/bin/newuidmap").exists() {
            return Err(Stop::skipped("newuidmap is not installed (package uidmap)"));
        }
        let passwd = std::fs::read_to_string("/etc/passwd")? + &format!("sailor:x:{USER}:{USER}::/:/bin/false\n");
        Self::new(host, &[("passwd", passwd), ("subuid", text.to_owned()), ("subgid", text.to_owned())])
    }
}

impl Drop for Etc {
    fn drop(&mut self) {
        for target in &self.0 {
            let _ = umount2(target, MntFlags::MNT_DETACH);
        }
    }
}

/// `create` must be refused with these words in its last line.
pub(crate) fn refused(host: &Host, bundle: &Bundle, words: &[&str]) -> Outcome {
    let said = host.create_fails(bundle)?;
    for word in words {
        ensure!(said.last_line().contains(word), "no {word:?}: {said}");
    }
    Ok(())
}

fn numbers(report: &Report, pointer: &str) -> Vec<u32> {
    report.text(pointer).split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

pub(crate) fn trials() -> Feature {
    let feature = Feature::new("rootless")
        .trial("a life from create to delete, and nobody is more than the user", |host| {
            let user = user(host)?;
            let bundle = bundle(&user)?.payload(&["report", ";", "touch", "/var/mine", ";", "sleep"]);
            let container = user.create(&bundle)?;
            ensure_eq!(container.status()?, "created");
            let state = container.pid()?;
            container.start()?;
            let lines = container.lines(2)?;
            ensure_eq!((&lines[0]["uid"], lines[1].errno()), (&json!([0, 0, 0, 0]), ""));
            ensure_eq!(numbers(&lines[0], "/uid_map"), [0, USER, 1]);
            ensure_eq!(std::fs::metadata(bundle.rootfs().join("var/mine"))?.uid(), USER);
            let status = std::fs::read_to_string(format!("/proc/{state}/status"))?;
            let ids = format!("Uid:\t{USER}\t{USER}\t{USER}\t{USER}");
            ensure!(status.contains(&ids) && status.contains("Groups:\t \n"), "{status}");
            let [joined] = container.exec_lines(&[], &["report"])?;
            ensure_eq!((&joined["uid"], &joined["namespaces"]), (&json!([0, 0, 0, 0]), &lines[0]["namespaces"]));
            ensure!(user.runtime.must(&["list", "--quiet"])?.contains(bundle.id()), "list does not show it");
            container.kill("KILL")?;
            ensure_eq!(container.reap(state)?, 137);
            container.wait_for_status("stopped")?;
            container.delete()?;
            Ok(())
        })
        .trial("records are the user's own, in $XDG_RUNTIME_DIR/wharf", |host| {
            let user = user(host)?;
            let bundle = bundle(&user)?.payload(&["sleep"]);
            bundle.save()?;
            // Without --root.
            let mut command = std::process::Command::new(user.runtime.program());
            command.args(["create", "--bundle", bundle.dir_text(), bundle.id()]).stdin(std::process::Stdio::null());
            let made = host.program(command)?.finish()?;
            ensure_eq!(made.code(), Some(0), "{made}");
            let records = user.runtime.program().with_file_name("run/wharf");
            for dir in [records.clone(), records.join(bundle.id())] {
                let meta = std::fs::metadata(&dir)?;
                ensure_eq!((meta.uid(), meta.mode() & 0o7777), (USER, 0o700), "{}", dir.display());
            }
            user.runtime.must(&["delete", "--force", bundle.id()])?;
            ensure_eq!(std::fs::read_dir(&records)?.count(), 0);
            Ok(())
        })
        .trial("what spec --rootless writes runs", |host| {
            let user = user(host)?;
            let bundle = bundle(&user)?;
            let config = bundle.dir().join("config.json");
            let _ = std::fs::remove_file(&config);
            own(bundle.dir(), USER)?;
            user.runtime.must(&["spec", "--rootless", "--bundle", bundle.dir_text()])?;
            let mut spec: Value = serde_json::from_slice(&std::fs::read(&config)?)?;
            (spec["process"]["terminal"], spec["process"]["args"]) = (json!(false), json!(["/bin/payload", "report"]));
            std::fs::write(&config, spec.to_string())?;
            let ran = user.runtime.call(&["run", "--bundle", bundle.dir_text(), bundle.id()])?;
            ensure_eq!(ran.code(), Some(0), "{ran}");
            let report: Value = serde_json::from_str(ran.stdout.trim())?;
            ensure!(report["mounts"].to_string().contains("/sys/fs/cgroup"), "{report}");
            Ok(())
        })
        .trial("the caller may stand where the user may not search", |host| {
            host.only_wharf("others want their working directory")?;
            let closed = host.new_dir("closed")?;
            std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
            let user = host.for_user(USER, &format!("cd {}", closed.display()))?;
            let container = user.start(&bundle(&user)?.payload(&["report", ";", "sleep"]))?;
            container.lines(1)?;
            container.exec_lines::<1>(&[], &["nothing"])?;
            container.delete_force()
        })
        .trial("run gives the payload's code, and a hook runs as the user", |host| {
            let user = user(host)?;
            let told = user.runtime.program().with_file_name("run/hook");
            let script = format!("id -u > {}", told.display());
            let hook = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] }]);
            let bundle = bundle(&user)?.set("/hooks/createRuntime", hook).payload(&["exit", "7"]);
            ensure_eq!(user.run(&bundle)?.code(), Some(7));
            ensure_eq!(std::fs::read_to_string(told)?.trim(), USER.to_string());
            Ok(())
        })
        .trial("devices are the host's, bound, and work; their rules are told to be left out", |host| {
            let user = user(host)?;
            let rules = json!([{ "allow": false, "access": "rwm" }]);
            let bundle = bundle(&user)?.set("/linux/resources/devices", rules).payload(&[
                "head",
                "/dev/zero",
                "2",
                ";",
                "write",
                "/dev/null",
                "x",
                ";",
                "stat",
                "/dev/null",
                ";",
                "mknod",
                "/tmp/n",
                "c",
                "1",
                "3",
            ]);
            let [zero, null, stat, mknod] = user.lines(&bundle)?;
            ensure_eq!((&zero["bytes"], null.errno(), mknod.errno()), (&json!([0, 0]), "", "EPERM"));
            ensure_eq!((&stat["major"], &stat["minor"]), (&json!(1), &json!(3)));
            let plan = user.runtime.must(&["plan", "--bundle", bundle.dir_text()])?;
            let line =
                plan.lines().find(|line| line.contains("linux/resources/devices") && line.contains("approximated"));
            ensure!(line.is_some(), "{plan}");
            Ok(())
        });
    with_ids(refusals(cgroups(feature)))
}

fn with_ids(feature: Feature) -> Feature {
    feature
        .trial("ids of /etc/subuid and /etc/subgid are mapped by newuidmap and newgidmap", |host| {
            let user = user(host)?;
            let _etc = Etc::ranges(&user, &format!("sailor:{BASE}:65536\n"))?;
            let bundle = with_more(bundle(&user)?, BASE, 65536);
            std::fs::set_permissions(
                bundle.rootfs().join("tmp"),
                std::os::unix::fs::PermissionsExt::from_mode(0o1777),
            )?;
            let ids = json!({ "uid": 1000, "gid": 2000, "additionalGids": [5, 6] });
            let bundle = bundle.set("/process/user", ids).payload(&["report", ";", "touch", "/tmp/his"]);
            let [report, touch] = user.lines(&bundle)?;
            ensure_eq!(numbers(&report, "/uid_map"), [0, USER, 1, 1, BASE, 65536]);
            ensure_eq!((&report["uid"][1], &report["gid"][1], touch.errno()), (&json!(1000), &json!(2000), ""));
            ensure_eq!((&report["groups"], report.text("/setgroups")), (&json!([5, 6]), "allow"));
            let file = std::fs::metadata(bundle.rootfs().join("tmp/his"))?;
            ensure_eq!((file.uid(), file.gid()), (BASE + 999, BASE + 1999));
            Ok(())
        })
        .trial("ranges that are missing, or too short, are named with what to do", |host| {
            let user = user(host)?;
            let etc = Etc::ranges(&user, "somebody:1:1\n")?;
            let gid = "[linux/gidMappings]";
            refused(
                &user,
                &with_more(bundle(&user)?, BASE, 10),
                &["by newgidmap: sailor has no range of ids in /etc/subgid", gid, "usermod --add-subgids", "sailor"],
            )?;
            drop(etc);
            let _etc = Etc::ranges(&user, &format!("sailor:{BASE}:10\n"))?;
            let shown = format!("{BASE} to {} is not within the ranges of sailor in /etc/subgid: {BASE}:10", BASE + 10);
            refused(&user, &with_more(bundle(&user)?, BASE, 11), &[&shown, gid])?;
            user.run_well(&with_more(bundle(&user)?, BASE, 10).payload(&["nothing"]))?;
            Ok(())
        })
        .trial("a helper that is not what it should be is told, and its words are not engines' words", |host| {
            let user = user(host)?;
            let _etc = Etc::ranges(&user, &format!("sailor:{BASE}:65536\n"))?;
            let fake = host.new_dir("fake")?.join("newgidmap");
            std::fs::write(&fake, "#!/bin/sh\necho no such file or directory >&2; exit 3\n")?;
            std::fs::set_permissions(&fake, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
            let real = Path::new("/usr/bin/newgidmap");
            mount(Some(&fake), real, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
            let said = bundle(&user).and_then(|bundle| user.create_fails(&with_more(bundle, BASE, 10)));
            umount2(real, MntFlags::MNT_DETACH)?;
            let said = said?;
            ensure!(said.last_line().contains("map group ids by newgidmap: it ended with code 3"), "{said}");
            ensure!(!said.stderr.contains("no such file"), "{said}");
            Ok(())
        })
        .trial("with his own id alone the user has no further groups, and no other user is inside", |host| {
            let user = user(host)?;
            let groups = bundle(&user)?.set("/process/user/additionalGids", json!([0]));
            refused(
                &user,
                &groups,
                &["additionalGids", "made without root", "newgidmap", "[process/user/additionalGids]"],
            )?;
            let other = bundle(&user)?.set("/process/user/uid", json!(5));
            refused(&user, &other, &["user 5: has no id", "linux/uidMappings must map it", "[process/user/uid]"])?;
            let container = user.start(&bundle(&user)?.payload(&["report", ";", "sleep"]))?;
            container.lines(1)?;
            let said = container.exec(&["--user", "5"], &["/bin/payload", "nothing"])?;
            ensure!(
                said.finished.last_line().contains("become user 5 and group 0: the container's user"),
                "{}",
                said.finished
            );
            container.delete_force()
        })
        .trial("a user namespace of the user's own is joined by path", |host| {
            let user = user(host)?;
            let holder = user.start(&bundle(&user)?.payload(&["report", ";", "sleep"]))?;
            let held = holder.lines(1)?[0].clone();
            let path = format!("/proc/{}/ns/user", holder.pid()?);
            let joining = bundle(&user)?.namespace("user", Some(&path));
            let report = user.report(&joining.remove("/linux/uidMappings").remove("/linux/gidMappings"))?;
            ensure_eq!(report["namespaces"]["user"], held["namespaces"]["user"]);
            ensure_eq!(report["uid"], json!([0, 0, 0, 0]));
            holder.delete_force()
        })
}

fn refusals(feature: Feature) -> Feature {
    feature
        .trial("what a user namespace cannot mount is refused by name, with what to do", |host| {
            let user = user(host)?;
            for (kind, namespace, index) in [("proc", "pid", 0), ("mqueue", "ipc", 4), ("sysfs", "network", 5)] {
                let shared = bundle(&user)?.without_namespace(namespace);
                let at = format!("[mounts/{index}/type]");
                let shown = format!("it shows the {namespace} namespace");
                refused(&user, &shared, &[&format!("mount {kind} in a user namespace"), &shown, &at])?;
            }
            let bound = bundle(&user)?.without_namespace("network").edit(|config| {
                config["mounts"][5] = json!({
                    "destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "ro"]
                });
            });
            let [list] = user.lines(&bound.payload(&["list", "/sys/class/net"]))?;
            ensure!(list["names"].as_array().is_some_and(|names| !names.is_empty()), "{list:?}");
            let group = bundle(&user)?.mount("/var/t", "tmpfs", "tmpfs", &["size=4k", "gid=5"]);
            refused(&user, &group, &["mount option gid=5", "linux/gidMappings", "[mounts/6/options]"])
        })
        .trial("an idmapped mount is root's to make", |host| {
            let user = user(host)?;
            let source = host.new_dir("source")?;
            let mount = bundle(&user)?.mount("/var/t", "bind", source.to_str().unwrap_or_default(), &["bind", "idmap"]);
            refused(&user, &mount, &["an idmapped mount", "root's rights", "[mounts/6/options]"])
        })
}

fn cgroups(feature: Feature) -> Feature {
    feature
        .trial("a limit or a path of a cgroup that nobody may make is refused, with what to do", |host| {
            let user = user(host)?;
            host.needs_controller("memory")?;
            let limited = bundle(&user)?.set("/linux/resources/memory/limit", json!(64 << 20));
            refused(&user, &limited, &["cgroup", "[linux/resources/memory/limit]", "systemd-run --user --scope"])?;
            let placed = bundle(&user)?.set("/linux/cgroupsPath", json!(format!("/{}", user.unique("cg"))));
            refused(&user, &placed, &["make cgroup", "[linux/cgroupsPath]", "systemd-run --user --scope"])
        })
        .trial("without a cgroup the verbs that need one say so, with what to do, and plan tells it", |host| {
            let user = user(host)?;
            let bundle = bundle(&user)?.payload(&["report", ";", "sleep"]);
            let container = user.start(&bundle)?;
            container.lines(1)?;
            for words in [&["pause"][..], &["update", "--pids-limit", "5"], &["events", "--stats"]] {
                let said = container.call(words[0], &words[1..])?;
                ensure_eq!(said.code(), Some(1), "{said}");
                ensure!(said.last_line().contains("it has no cgroup"), "{said}");
                ensure!(said.last_line().contains("systemd-run --user --scope"), "{said}");
            }
            container.delete_force()?;
            let plan: Value = serde_json::from_str(&user.runtime.must(&[
                "plan",
                "--format",
                "json",
                "--bundle",
                bundle.dir_text(),
            ])?)?;
            ensure!(plan.to_string().contains("the container gets no cgroup"), "{plan}");
            Ok(())
        })
        .trial("a cgroup below a delegated one is made, limits, counts and freezes, and goes", |host| {
            let (user, delegated) = with_cgroup(host)?;
            let bundle = bundle(&user)?
                .set("/linux/resources", json!({ "memory": { "limit": 64 << 20 }, "pids": { "limit": 20 } }))
                .payload(&["report", ";", "sleep"]);
            let container = user.start(&bundle)?;
            container.lines(1)?;
            let file = |name: &str| std::fs::read_to_string(delegated.path.join(bundle.id()).join(name));
            ensure_eq!((file("memory.max")?.trim(), file("pids.max")?.trim()), ("67108864", "20"));
            let pid = container.pid()?;
            ensure_eq!(file("cgroup.procs")?.trim(), pid.to_string());
            user.runtime.must(&["pause", bundle.id()])?;
            ensure!(file("cgroup.events")?.contains("frozen 1"), "it is not frozen");
            user.runtime.must(&["resume", bundle.id()])?;
            user.runtime.must(&["update", "--pids-limit", "30", bundle.id()])?;
            ensure_eq!(file("pids.max")?.trim(), "30");
            let stats: Value = serde_json::from_str(&user.runtime.must(&["events", "--stats", bundle.id()])?)?;
            ensure_eq!(stats["data"]["pids"]["limit"], 30);
            ensure!(user.runtime.must(&["ps", "--format", "json", bundle.id()])?.contains(&pid.to_string()), "ps");
            let [joined] = container.exec_lines(&[], &["report"])?;
            ensure!(
                joined.text("/cgroup").contains(bundle.id()) || joined.text("/cgroup").contains("0::/"),
                "{joined:?}"
            );
            container.delete_force()?;
            ensure!(!delegated.path.join(bundle.id()).exists(), "its cgroup is left");
            Ok(())
        })
}

/// A cgroup of v2 that is the user's, as a session of systemd's has it; it goes with this value.
pub(crate) struct Delegated {
    pub(crate) path: PathBuf,
}

impl Drop for Delegated {
    fn drop(&mut self) {
        for path in [self.path.join("caller"), self.path.clone()] {
            let _ = std::fs::remove_dir(path);
        }
    }
}

/// The user calls wharf from a cgroup below one that is delegated to him with memory, cpu and pids.
pub(crate) fn with_cgroup(host: &Host) -> Result<(Host, Delegated), Stop> {
    host.only_wharf("the advice is wharf's own")?;
    for controller in ["memory", "cpu", "pids"] {
        host.needs_v2(controller)?;
    }
    let root = Path::new("/sys/fs/cgroup");
    let _ = std::fs::write(root.join("cgroup.subtree_control"), "+memory +cpu +pids");
    let delegated = Delegated { path: root.join(host.unique("delegated")) };
    std::fs::create_dir(&delegated.path)?;
    std::fs::write(delegated.path.join("cgroup.subtree_control"), "+memory +cpu +pids")?;
    let caller = delegated.path.join("caller");
    std::fs::create_dir(&caller)?;
    for dir in [&delegated.path, &caller] {
        for name in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            chown(dir.join(name), Some(USER), Some(USER))?;
        }
    }
    let user = host.for_user(USER, &format!("echo $$ > {}/cgroup.procs", caller.display()))?;
    Ok((user, delegated))
}
