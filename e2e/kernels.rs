//! Older kernels: what wharf does where a system call is missing. docs/kernels.md has the list.

use harness::{Bundle, Feature, Host, Outcome, Report, Stop, Value, ensure, ensure_eq, json};

/// Each is replaced by something that comes to the same.
const REPLACED: &[&str] = &[
    "linux-5.4",
    "linux-5.10",
    "openat2",
    "clone3",
    "clone-into-cgroup",
    "mount_setattr",
    "close_range",
    "close-range-cloexec",
    "setns-pidfd",
    "statx",
    "faccessat2",
];

pub(crate) fn trials() -> Feature {
    REPLACED
        .iter()
        .fold(Feature::new("kernels"), |feature, word| {
            feature.trial(&format!("without {word} a container and a process that joins it are the same"), |host| {
                host.only_wharf("the calls that it can do without are its own")?;
                same(host, word)
            })
        })
        .trial("without faccessat2 a command is looked for with its user's rights", |host| {
            let host = host.without("faccessat2")?;
            let bundle = host.bundle()?.payload(&["read", "/proc/self/status"]).set("/process/user/uid", json!(1000));
            let payload = bundle.rootfs().join("bin/payload");
            host.run_well(&bundle)?;
            std::fs::set_permissions(&payload, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
            let ran = host.run(&bundle)?;
            ensure!(ran.code() == Some(126), "{}", ran.finished);
            Ok(())
        })
        .trial("without statx and close_range the mounts of a container on the host's go with it", |host| {
            let host = host.without("linux-5.4")?;
            let bundle = host.bundle()?.without_namespace("mount").payload(&["sleep"]);
            let container = host.start(&bundle)?;
            container.delete_force()
        })
        .trial("without mount_setattr a user namespace has its volumes", |host| {
            let host = host.without("linux-5.10")?;
            let map = json!([{"containerID": 0, "hostID": 231_072, "size": 65536}]);
            let volume = host.new_dir("volume")?;
            std::fs::write(volume.join("file"), "shared")?;
            let bundle = host
                .bundle()?
                .namespace("user", None)
                .set("/linux/uidMappings", map.clone())
                .set("/linux/gidMappings", map)
                .directory("/volume")?
                .mount("/volume", "bind", &volume.display().to_string(), &["rbind", "ro"])
                .payload(&["read", "/volume/file", ";", "report"]);
            let [file, report] = host.lines(&bundle)?;
            ensure_eq!(file.text("/text"), "shared");
            ensure!(report.has_option("/volume", "ro"), "{:?}", report.mount("/volume"));
            Ok(())
        })
        .trial("recursive mount options are refused by name without mount_setattr", |host| {
            let host = host.without("mount_setattr")?;
            let bundle = host.bundle()?.mount("/mnt/all", "bind", "/usr", &["rbind", "rro"]);
            refused(&host, &bundle, "needs mount_setattr with AT_RECURSIVE (Linux 5.12)")
        })
        .trial("a read-only path with a mount in it is refused by name without mount_setattr", |host| {
            let host = host.without("mount_setattr")?;
            let bundle = host
                .bundle()?
                .mount("/data/inner", "tmpfs", "tmpfs", &[])
                .set("/linux/readonlyPaths", json!(["/data"]));
            refused(&host, &bundle, "needs mount_setattr with AT_RECURSIVE (Linux 5.12)")
        })
        .trial("what every container needs is named, with the kernel that has it", |host| {
            for (word, needed) in [
                ("open_tree", "needs open_tree (Linux 5.2)"),
                ("move_mount", "needs move_mount (Linux 5.2)"),
                ("pidfd_open", "needs pidfd_open (Linux 5.3)"),
            ] {
                let fewer = host.without(word)?;
                let bundle = host.bundle()?.payload(&["sleep"]);
                bundle.save()?;
                let created = fewer.runtime.call(&["create", "--bundle", bundle.dir_text(), bundle.id()])?;
                let said = match created.code() {
                    // Nothing of it is needed before the container is looked at.
                    Some(0) => fewer.runtime.call(&["kill", bundle.id()])?,
                    _ => created,
                };
                let _ = host.runtime.call(&["delete", "--force", bundle.id()]);
                ensure!(said.last_line().contains(needed), "without {word}: {said}");
            }
            Ok(())
        })
        .trial("a time namespace is refused by name where the kernel has none", |host| {
            let host = host.without("time-namespaces")?;
            let bundle =
                host.bundle()?.namespace("time", None).set("/linux/timeOffsets", json!({"monotonic": {"secs": 5}}));
            refused(&host, &bundle, "needs time namespaces (Linux 5.6)")
        })
}

fn refused(host: &Host, bundle: &Bundle, needed: &str) -> Outcome {
    let failed = host.create_fails(bundle)?;
    ensure!(failed.last_line().contains(needed), "{failed}");
    Ok(())
}

/// A container that makes use of what has a replacement.
fn rich(host: &Host) -> Result<Bundle, Stop> {
    let file = host.new_dir("shared")?;
    std::fs::write(file.join("file"), "shared")?;
    let (dir, file) = (file.display().to_string(), file.join("file").display().to_string());
    let bundle = host
        .bundle()?
        .directory("/real")?
        .symlink("/real", "/linked")?
        .mount("/linked/directory", "bind", &dir, &["rbind", "ro", "nosuid", "nodev", "noexec", "rprivate"])
        .mount("/etc/file", "bind", &file, &["bind", "ro", "noatime", "private"])
        .mount("/scratch", "tmpfs", "tmpfs", &["nosuid", "nodev", "noexec", "size=1m", "rslave"])
        .set("/root/readonly", json!(true))
        .set("/linux/readonlyPaths", json!(["/proc/sys", "/proc/sysrq-trigger", "/bin"]))
        .set("/linux/maskedPaths", json!(["/proc/kcore", "/proc/acpi", "/root"]))
        .set("/process/user/uid", json!(1000))
        .set("/process/noNewPrivileges", json!(true));
    Ok(bundle)
}

/// What is compared of a report: not what tells containers apart, nor the filter that takes the calls away.
fn seen(report: &Report) -> Value {
    const KEYS: [&str; 13] = [
        "uid",
        "gid",
        "groups",
        "capabilities",
        "no_new_privileges",
        "signals",
        "root",
        "dev",
        "umask",
        "cwd",
        "rlimits",
        "threads",
        "dumpable_exe",
    ];
    let mut seen: serde_json::Map<String, Value> =
        KEYS.iter().map(|key| ((*key).to_owned(), report[key].clone())).collect();
    let numbers: Vec<&String> = report["fds"].as_object().into_iter().flatten().map(|(number, _)| number).collect();
    seen.insert("fds".to_owned(), json!(numbers));
    let word = |text: &Value| text.as_str().unwrap_or_default().split(':').next().unwrap_or_default().to_owned();
    let mount = |mount: &Value| {
        json!([mount["target"], mount["type"], mount["options"], word(&mount["propagation"])]).to_string()
    };
    let mut mounts: Vec<String> = report["mounts"].as_array().into_iter().flatten().map(mount).collect();
    mounts.sort();
    seen.insert("mounts".to_owned(), json!(mounts));
    Value::Object(seen)
}

fn same(host: &Host, word: &str) -> Outcome {
    let fewer = host.without(word)?;
    let look = |host: &Host| -> Result<(Value, Value), Stop> {
        let own = host.report(&rich(host)?.payload(&["report"]))?;
        let container = host.start(&rich(host)?.payload(&["sleep"]))?;
        let [joined] = container.exec_lines(&[], &["report"])?;
        container.delete_force()?;
        Ok((seen(&own), seen(&joined)))
    };
    let (all, few) = (look(host)?, look(&fewer)?);
    for ((all, few), who) in [(all.0, few.0), (all.1, few.1)].into_iter().zip(["first process", "joined process"]) {
        for (key, value) in all.as_object().into_iter().flatten() {
            ensure_eq!(few[key], *value, "{who}: {key}");
        }
    }
    Ok(())
}
