//! mounts: every type of file system that a config may ask for.

use harness::{Feature, ensure, ensure_eq, json};

pub(crate) fn trials() -> Feature {
    Feature::new("mount_types")
        .trial("a bind mount shows the source, both ways", |host| {
            let source = host.new_dir("source")?;
            std::fs::write(source.join("from-host"), "h")?;
            let words = [
                "read",
                "/var/here/from-host",
                ";",
                "write",
                "/var/here/from-inside",
                "i",
                ";",
                "list",
                "/var/here/sub",
            ];
            let bundle = host.bundle()?.payload(&words).mount("/var/here", "none", source.to_str().unwrap(), &["bind"]);
            std::fs::create_dir(source.join("sub"))?;
            let below = harness::Mounted::tmpfs(&source.join("sub"))?;
            std::fs::write(below.path().join("file"), "")?;
            let [read, write, sub] = host.lines(&bundle)?;
            ensure_eq!((read.text("/text"), write.errno()), ("h", ""));
            ensure_eq!(std::fs::read_to_string(source.join("from-inside"))?, "i");
            ensure_eq!(sub["names"], json!([]), "bind is not recursive");
            Ok(())
        })
        .trial("a recursive bind mount shows what is mounted below too", |host| {
            let (_inner, outer) = host.tree()?;
            let words = ["read", "/var/here/file", ";", "read", "/var/here/sub/file"];
            let bundle =
                host.bundle()?.payload(&words).mount("/var/here", "bind", outer.path().to_str().unwrap(), &["rbind"]);
            let [file, below] = host.lines(&bundle)?;
            ensure_eq!((file.text("/text"), below.text("/text")), ("outer", "inner"));
            Ok(())
        })
        .trial("the type of a bind mount does not matter", |host| {
            let source = host.new_dir("source")?;
            for kind in ["bind", "none", "", "ext4"] {
                let bundle = host
                    .bundle()?
                    .payload(&["list", "/var/here"])
                    .mount("/var/here", kind, source.to_str().unwrap(), &["bind"])
                    .edit(|config| {
                        if kind.is_empty()
                            && let Some(mount) = config["mounts"].as_array_mut().and_then(|list| list.last_mut())
                        {
                            mount.as_object_mut().map(|map| map.remove("type"));
                        }
                    });
                ensure_eq!(host.run_well(&bundle)?.report()?.errno(), "");
            }
            Ok(())
        })
        .trial("a relative source of a bind mount starts at the bundle", |host| {
            let bundle =
                host.bundle()?.payload(&["read", "/var/here/file"]).mount("/var/here", "bind", "beside", &["bind"]);
            std::fs::create_dir(bundle.dir().join("beside"))?;
            std::fs::write(bundle.dir().join("beside/file"), "b")?;
            let [read] = host.lines(&bundle)?;
            ensure_eq!(read["text"], "b");
            Ok(())
        })
        .trial("a missing source of a bind mount is refused by name", |host| {
            let bundle = host.bundle()?.mount("/var/here", "bind", "/not/there", &["bind"]);
            let said = host.create_fails(&bundle)?;
            ensure!(said.stderr.contains("/not/there"), "{said}");
            Ok(())
        })
        .trial("tmpfs is empty, writable, and as large and open as asked", |host| {
            let words = ["report", ";", "write", "/var/t/file", "x", ";", "statfs", "/var/t", ";", "stat", "/var/t"];
            let options = ["size=1m", "nr_inodes=50", "mode=1750", "uid=7", "gid=8"];
            let bundle = host.bundle()?.payload(&words).mount("/var/t", "tmpfs", "scratch", &options);
            let [report, write, statfs, stat] = host.lines(&bundle)?;
            let mount = report.mount("/var/t");
            ensure_eq!((mount.text("/type"), mount.text("/source")), ("tmpfs", "scratch"));
            // The payload is root, but without CAP_DAC_OVERRIDE in a directory of uid 7.
            ensure_eq!(write.errno(), "EACCES");
            ensure_eq!((&statfs["bytes"], &statfs["inodes"]), (&json!(1 << 20), &json!(50)));
            ensure_eq!((stat.text("/mode"), &stat["uid"], &stat["gid"]), ("1750", &json!(7), &json!(8)));
            Ok(())
        })
        .trial("a full tmpfs says so", |host| {
            let long = "x".repeat(100_000);
            let bundle = host.bundle()?.payload(&["write", "/var/t/file", &long]).mount(
                "/var/t",
                "tmpfs",
                "tmpfs",
                &["size=64k"],
            );
            let [write] = host.lines(&bundle)?;
            ensure_eq!(write.errno(), "ENOSPC");
            Ok(())
        })
        .trial("proc shows the container's own processes", |host| {
            let [read, report] = host.lines(&host.bundle()?.payload(&["read", "/proc/1/cmdline", ";", "report"]))?;
            ensure!(read.text("/text").starts_with("/bin/payload\0"), "{read:?}");
            ensure_eq!(report.mount("/proc").text("/type"), "proc");
            for option in ["nosuid", "nodev", "noexec"] {
                ensure!(report.has_option("/proc", option), "/proc is not {option}");
            }
            Ok(())
        })
        .trial("proc takes its own options", |host| {
            let bundle = host.bundle()?.edit(|config| config["mounts"][0]["options"] = json!(["hidepid=2", "nosuid"]));
            let report = host.report(&bundle)?;
            ensure!(
                report.has_option("/proc", "hidepid=invisible") || report.has_option("/proc", "hidepid=2"),
                "{}",
                report.mount("/proc").0
            );
            Ok(())
        })
        .trial("sysfs is that of the container's network namespace", |host| {
            let report = host.report(&host.bundle()?)?;
            ensure_eq!(report["interfaces"], json!(["lo"]));
            ensure_eq!(report.mount("/sys").text("/type"), "sysfs");
            ensure!(report.mount("/sys").list("/options").contains(&"ro"), "{}", report.mount("/sys").0);
            Ok(())
        })
        .trial("devpts is a new instance with the modes asked for", |host| {
            let words =
                ["list", "/dev/pts", ";", "stat", "/dev/pts/ptmx", ";", "open", "/dev/ptmx", "rw", ";", "report"];
            let [list, ptmx, open, report] = host.lines(&host.bundle()?.payload(&words))?;
            ensure_eq!(list["names"], json!(["ptmx"]), "terminals of the host");
            ensure_eq!((ptmx.text("/mode"), &ptmx["major"], &ptmx["minor"]), ("666", &json!(5), &json!(2)));
            ensure_eq!(open.errno(), "");
            for option in ["gid=5", "mode=620", "ptmxmode=666"] {
                ensure!(report.has_option("/dev/pts", option), "/dev/pts lacks {option}");
            }
            Ok(())
        })
        .trial("mqueue is that of the container's ipc namespace", |host| {
            let [report, list] = host.lines(&host.bundle()?.payload(&["report", ";", "list", "/dev/mqueue"]))?;
            ensure_eq!(report.mount("/dev/mqueue").text("/type"), "mqueue");
            ensure_eq!(list["names"], json!([]));
            Ok(())
        })
        .trial("cgroup shows the container its own cgroup as the root, read-only where asked", |host| {
            let words = [
                "report",
                ";",
                "list",
                "/sys/fs/cgroup",
                ";",
                "mkdir",
                "/sys/fs/cgroup/x",
                ";",
                "mkdir",
                "/sys/fs/cgroup/pids/x",
            ];
            let options = ["nosuid", "noexec", "nodev", "relatime", "ro"];
            let bundle = host.bundle()?.payload(&words).namespace("cgroup", None).mount(
                "/sys/fs/cgroup",
                "cgroup",
                "cgroup",
                &options,
            );
            let [report, list, mkdir, below] = host.lines(&bundle)?;
            for line in report.text("/cgroup").lines() {
                ensure!(line.ends_with(":/"), "/proc/self/cgroup shows more than a root: {line}");
            }
            if host.is_v2() {
                ensure_eq!(report.mount("/sys/fs/cgroup").text("/type"), "cgroup2");
                ensure!(list.list("/names").contains(&"cgroup.procs"), "{}", list["names"]);
                ensure_eq!(mkdir.errno(), "EROFS");
            } else {
                for controller in ["memory", "pids", "freezer", "devices"] {
                    let mount = report.mount(&format!("/sys/fs/cgroup/{controller}"));
                    ensure_eq!(mount.text("/type"), "cgroup", "{controller}");
                    ensure_eq!(mount.text("/root"), "/", "{controller}");
                    ensure!(mount.list("/options").contains(&"ro"), "{controller} is not read-only: {}", mount.0);
                }
                ensure_eq!(below.errno(), "EROFS");
            }
            Ok(())
        })
        .trial("cgroup without a cgroup namespace shows the container's own cgroup and not the host's", |host| {
            host.except("runc", "1.1 mounts the hierarchy's root on v1")?;
            let place = if host.is_v2() { "/sys/fs/cgroup/cgroup.procs" } else { "/sys/fs/cgroup/pids/cgroup.procs" };
            let options = ["nosuid", "noexec", "nodev", "ro"];
            let bundle = host.bundle()?.payload(&["read", place]).mount("/sys/fs/cgroup", "cgroup", "cgroup", &options);
            let [read] = host.lines(&bundle)?;
            ensure_eq!(read["text"], "1\n");
            Ok(())
        })
        .trial("overlay puts layers together", |host| {
            let dir = host.new_dir("layers")?;
            for name in ["low", "high", "work"] {
                std::fs::create_dir(dir.join(name))?;
            }
            std::fs::write(dir.join("low/file"), "low")?;
            let data = ["low", "high", "work"].map(|name| dir.join(name).display().to_string());
            let options =
                [format!("lowerdir={}", data[0]), format!("upperdir={}", data[1]), format!("workdir={}", data[2])];
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            let words = ["read", "/var/o/file", ";", "write", "/var/o/file", "HIGH", ";", "report"];
            let bundle = host.bundle()?.payload(&words).mount("/var/o", "overlay", "overlay", &options);
            let [read, write, report] = host.lines(&bundle)?;
            ensure_eq!((read.text("/text"), write.errno()), ("low", ""));
            ensure_eq!(report.mount("/var/o").text("/type"), "overlay");
            ensure_eq!(std::fs::read_to_string(dir.join("low/file"))?, "low");
            ensure_eq!(std::fs::read_to_string(dir.join("high/file"))?, "HIGH");
            Ok(())
        })
        .trial("an unknown type is refused by name and place", |host| {
            let said = host.create_fails(&host.bundle()?.mount("/var/x", "seafs", "seafs", &[]))?;
            ensure!(said.stderr.contains("seafs") && said.stderr.contains("/var/x"), "{said}");
            Ok(())
        })
}
