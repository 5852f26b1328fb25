//! mounts: every option of runtime-spec's table, read back from the kernel's mount table.

use harness::{Feature, Host, Report, Stop, Value, ensure, ensure_eq, json};

/// Options, what mountinfo must then show, and what it must not.
type Case = (&'static [&'static str], &'static [&'static str], &'static [&'static str]);

/// Options of one mount.
const SINGLE: &[Case] = &[
    (&[], &["rw", "relatime"], &["nosuid", "nodev", "noexec"]),
    (&["ro"], &["ro"], &[]),
    (&["ro", "rw"], &["rw"], &[]),
    (&["nosuid"], &["nosuid"], &[]),
    (&["nosuid", "suid"], &[], &["nosuid"]),
    (&["nodev"], &["nodev"], &[]),
    (&["nodev", "dev"], &[], &["nodev"]),
    (&["noexec"], &["noexec"], &[]),
    (&["noexec", "exec"], &[], &["noexec"]),
    (&["noatime"], &["noatime"], &["relatime"]),
    (&["noatime", "atime"], &["relatime"], &["noatime"]),
    (&["nodiratime"], &["nodiratime"], &[]),
    (&["nodiratime", "diratime"], &[], &["nodiratime"]),
    (&["relatime"], &["relatime"], &[]),
    (&["strictatime"], &[], &["relatime", "noatime"]),
    (&["strictatime", "nostrictatime"], &["relatime"], &[]),
    // Without relatime an access time is strict, or what the kernel takes by default: peers differ.
    (&["relatime", "norelatime"], &["rw"], &["noatime"]),
];

/// Options of the file system itself, which a bind mount cannot change.
const SUPER: &[Case] = &[
    (&["sync"], &["sync"], &[]),
    (&["sync", "async"], &[], &["sync"]),
    (&["dirsync"], &["dirsync"], &[]),
    (&["silent"], &["rw"], &[]),
    (&["loud"], &["rw"], &[]),
];

/// Later additions to the table.
const NEWER: &[Case] = &[
    (&["defaults"], &["rw"], &["nosuid", "nodev", "noexec", "sync"]),
    (&["nosymfollow"], &["nosymfollow"], &[]),
    (&["nosymfollow", "symfollow"], &[], &["nosymfollow"]),
    (&["lazytime"], &["lazytime"], &[]),
    (&["lazytime", "nolazytime"], &[], &["lazytime"]),
];

/// Recursive options of a recursive bind; what the mount below must show.
const RECURSIVE: &[Case] = &[
    (&["rro"], &["ro"], &["rw"]),
    (&["rro", "rrw"], &["rw"], &["ro"]),
    (&["rnosuid"], &["nosuid"], &[]),
    (&["rnosuid", "rsuid"], &[], &["nosuid"]),
    (&["rnodev"], &["nodev"], &[]),
    (&["rnodev", "rdev"], &[], &["nodev"]),
    (&["rnoexec"], &["noexec"], &[]),
    (&["rnoexec", "rexec"], &[], &["noexec"]),
    (&["rnodiratime"], &["nodiratime"], &[]),
    (&["rnodiratime", "rdiratime"], &[], &["nodiratime"]),
    (&["rrelatime"], &["relatime"], &["noatime"]),
    (&["rnoatime"], &["noatime"], &["relatime"]),
    (&["rstrictatime"], &[], &["relatime", "noatime"]),
    (&["rnosymfollow"], &["nosymfollow"], &[]),
    (&["rnosymfollow", "rsymfollow"], &[], &["nosymfollow"]),
    (&["ro"], &["rw"], &["ro"]),
];

/// runc sets what an opposite has taken back.
fn recursive(host: &Host) -> Vec<Case> {
    RECURSIVE.iter().filter(|case| case.0.len() == 1 || host.runtime.name() != "runc").copied().collect()
}

fn holds(what: &str, options: &[&str], mount: &Report, shown: &[&str], hidden: &[&str]) -> Result<(), Stop> {
    let mut seen = mount.list("/options");
    // The super block's own ro/rw is not the mount's.
    seen.extend(mount.list("/super").into_iter().filter(|option| !["ro", "rw"].contains(option)));
    for option in shown {
        ensure!(seen.contains(option), "{what} with {options:?}: no {option} in {seen:?}");
    }
    for option in hidden {
        ensure!(!seen.contains(option), "{what} with {options:?}: {option} in {seen:?}");
    }
    Ok(())
}

/// One container with a mount per case: cheap, and the cases cannot disturb each other.
fn try_all(host: &Host, kind: &str, cases: &[Case], at: &str) -> Result<(), Stop> {
    let (_inner, outer) = host.tree()?;
    let mut bundle = host.bundle()?;
    for (number, (options, ..)) in cases.iter().enumerate() {
        let mut options = options.to_vec();
        let (mount_type, source) = match kind {
            "tmpfs" => ("tmpfs", "tmpfs"),
            bind => {
                options.insert(0, bind);
                ("bind", outer.path().to_str().unwrap_or_default())
            }
        };
        bundle = bundle.mount(&format!("/var/case{number}"), mount_type, source, &options);
    }
    let report = host.report(&bundle)?;
    for (number, (options, shown, hidden)) in cases.iter().enumerate() {
        let mount = report.mount(&format!("/var/case{number}{at}"));
        ensure!(!mount.0.is_null(), "{kind} with {options:?} is not mounted");
        holds(kind, options, &mount, shown, hidden)?;
    }
    Ok(())
}

pub(crate) fn trials() -> Feature {
    Feature::new("mount_options")
        .trial("each option of a mount holds on tmpfs", |host| try_all(host, "tmpfs", SINGLE, ""))
        .trial("each option of a mount holds on a bind mount", |host| try_all(host, "bind", SINGLE, ""))
        .trial("each option of the file system holds on tmpfs", |host| try_all(host, "tmpfs", SUPER, ""))
        .trial("defaults, nosymfollow, lazytime and their opposites hold on tmpfs", |host| {
            host.except("runc", "1.1 does not know defaults and nosymfollow")?;
            try_all(host, "tmpfs", NEWER, "")
        })
        .trial("each recursive option reaches the mount below", |host| try_all(host, "rbind", &recursive(host), "/sub"))
        .trial("each recursive option holds on the mount itself", |host| {
            let cases: Vec<Case> = recursive(host).into_iter().filter(|case| case.0 != ["ro"]).collect();
            try_all(host, "rbind", &cases, "")
        })
        .trial("a bind mount keeps the options of its source that it does not name", |host| {
            let source = harness::Mounted::tmpfs(&host.new_dir("source")?)?;
            let locked = nix::mount::MsFlags::MS_REMOUNT
                | nix::mount::MsFlags::MS_BIND
                | nix::mount::MsFlags::MS_NOSUID
                | nix::mount::MsFlags::MS_NODEV
                | nix::mount::MsFlags::MS_NOEXEC;
            nix::mount::mount(None::<&str>, source.path(), None::<&str>, locked, None::<&str>)?;
            let path = source.path().to_str().unwrap_or_default();
            let bundle = host.bundle()?.mount("/var/b", "bind", path, &["bind"]);
            let report = host.report(&bundle)?;
            holds("bind", &[], &report.mount("/var/b"), &["nosuid", "nodev", "noexec"], &[])
        })
        .trial("read-only refuses writes, noexec programs, nodev devices", |host| {
            let words = [
                "touch",
                "/var/ro/x",
                ";",
                "spawn",
                "/var/noexec/payload",
                "nothing",
                ";",
                "open",
                "/var/nodev/null",
                "r",
            ];
            let source = host.new_dir("source")?;
            std::fs::copy(host.payload(), source.join("payload"))?;
            let node = nix::sys::stat::makedev(1, 3);
            let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
            nix::sys::stat::mknod(&source.join("null"), nix::sys::stat::SFlag::S_IFCHR, mode, node)?;
            let source = source.to_str().unwrap_or_default();
            let bundle = host
                .bundle()?
                .payload(&words)
                .mount("/var/ro", "bind", source, &["bind", "ro"])
                .mount("/var/noexec", "bind", source, &["bind", "noexec"])
                .mount("/var/nodev", "bind", source, &["bind", "nodev"]);
            let [touch, spawn, open] = host.lines(&bundle)?;
            ensure_eq!((touch.errno(), spawn.errno(), open.errno()), ("EROFS", "EACCES", "EACCES"));
            Ok(())
        })
        .trial("recursive read-only refuses writes below, plain read-only does not", |host| {
            let (_inner, outer) = host.tree()?;
            let path = outer.path().to_str().unwrap_or_default();
            let words = ["touch", "/var/rro/sub/x", ";", "touch", "/var/ro/sub/x"];
            let bundle = host.bundle()?.payload(&words).mount("/var/rro", "bind", path, &["rbind", "rro"]).mount(
                "/var/ro",
                "bind",
                path,
                &["rbind", "ro"],
            );
            let [recursive, plain] = host.lines(&bundle)?;
            ensure_eq!((recursive.errno(), plain.errno()), ("EROFS", ""));
            Ok(())
        })
        .trial("recursive options leave the host's own mounts alone", |host| {
            let (_inner, outer) = host.tree()?;
            let before = std::fs::read_to_string("/proc/self/mountinfo")?;
            let path = outer.path().to_str().unwrap_or_default();
            let bundle = host.bundle()?.mount("/var/r", "bind", path, &["rbind", "rro", "rnosuid"]).payload(&["sleep"]);
            let container = host.start(&bundle)?;
            ensure_eq!(std::fs::read_to_string("/proc/self/mountinfo")?, before);
            container.delete_force()
        })
        .trial("tmpcopyup takes the mode of what it covers, unless an option names one", |host| {
            let covered: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o711);
            let bundle = host
                .bundle()?
                .directory("/covered")?
                .directory("/named")?
                .mount("/covered", "tmpfs", "tmpfs", &["tmpcopyup"])
                .mount("/named", "tmpfs", "tmpfs", &["tmpcopyup", "mode=700"])
                .mount("/new", "tmpfs", "tmpfs", &["tmpcopyup"])
                .payload(&["stat", "/covered", ";", "stat", "/named", ";", "stat", "/new"]);
            for name in ["covered", "named"] {
                std::fs::set_permissions(bundle.rootfs().join(name), covered.clone())?;
            }
            let [covered, named, new] = host.lines(&bundle)?;
            ensure_eq!((covered.text("/mode"), named.text("/mode"), new.text("/mode")), ("711", "700", "1777"));
            Ok(())
        })
        .trial("tmpcopyup begins with what the image has there", |host| {
            let bundle = host
                .bundle()?
                .file("/var/cache/a/deep", "kept")?
                .symlink("a/deep", "/var/cache/link")?
                .mount("/var/cache", "tmpfs", "tmpfs", &["tmpcopyup"])
                .payload(&[
                    "read",
                    "/var/cache/link",
                    ";",
                    "stat",
                    "/var/cache/a",
                    ";",
                    "write",
                    "/var/cache/a/deep",
                    "new",
                    ";",
                    "report",
                    ";",
                    "lstat",
                    "/var/cache/link",
                ]);
            let private: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o711);
            std::fs::set_permissions(bundle.rootfs().join("var/cache/a"), private)?;
            let [read, stat, write, report, link] = host.lines(&bundle)?;
            ensure_eq!((read.text("/text"), stat.text("/mode"), write.errno()), ("kept", "711", ""));
            ensure_eq!(report.mount("/var/cache").text("/type"), "tmpfs");
            ensure_eq!(link["link"], "a/deep");
            ensure_eq!(std::fs::read_to_string(bundle.rootfs().join("var/cache/a/deep"))?, "kept");
            Ok(())
        })
        .trial("remount changes what is mounted there", |host| {
            let bundle = host.bundle()?.mount("/var/t", "tmpfs", "tmpfs", &["size=1m"]).mount(
                "/var/t",
                "tmpfs",
                "tmpfs",
                &["remount", "size=2m"],
            );
            let [statfs] = host.lines(&bundle.payload(&["statfs", "/var/t"]))?;
            ensure_eq!(statfs["bytes"], 2 << 20);
            Ok(())
        })
        .trial("propagation options show in the mount table", |host| {
            let words = [
                ("private", ""),
                ("rprivate", ""),
                ("shared", "shared:"),
                ("rshared", "shared:"),
                ("slave", "master:"),
                ("rslave", "master:"),
                ("unbindable", "unbindable"),
                ("runbindable", "unbindable"),
            ];
            let (_inner, outer) = host.tree()?;
            let path = outer.path().to_str().unwrap_or_default();
            let mut bundle = host.bundle()?;
            for (word, _) in words {
                bundle = bundle.mount(&format!("/var/{word}"), "bind", path, &["rbind", word]);
            }
            let report = host.report(&bundle)?;
            for (word, shown) in words {
                let propagation = report.mount(&format!("/var/{word}"));
                let propagation = propagation.text("/propagation");
                match shown {
                    "" => ensure_eq!(propagation, "", "{word}"),
                    shown => ensure!(propagation.contains(shown), "{word}: {propagation:?}"),
                }
                let below = report.mount(&format!("/var/{word}/sub"));
                let below = below.text("/propagation");
                if word.starts_with('r') {
                    ensure!(below.contains(shown) && below.is_empty() == shown.is_empty(), "{word} below: {below:?}");
                }
            }
            Ok(())
        })
        .trial("an option that the file system does not know is refused by name", |host| {
            let said = host.create_fails(&host.bundle()?.mount("/var/t", "tmpfs", "tmpfs", &["keelhaul"]))?;
            ensure!(said.stderr.contains("/var/t"), "{said}");
            if host.runtime.name() == "wharf" {
                ensure!(said.stderr.contains("keelhaul"), "{said}");
            }
            Ok(())
        })
        .trial("options may be missing, or an empty list", |host| {
            let bare = json!({"destination": "/var/bare", "type": "tmpfs", "source": "tmpfs"});
            let report =
                host.report(&host.bundle()?.push("/mounts", bare).mount("/var/none", "tmpfs", "tmpfs", &[]))?;
            for target in ["/var/bare", "/var/none"] {
                ensure!(report.mount(target).0 != Value::Null, "{target} is not mounted");
            }
            Ok(())
        })
}
