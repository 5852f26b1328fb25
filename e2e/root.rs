//! root: where the root file system is, and whether it may be written.

use harness::{Feature, ensure, ensure_eq, json};

pub(crate) fn trials() -> Feature {
    Feature::new("root")
        .trial("the payload sees the root file system of the bundle and nothing beyond", |host| {
            let words = ["read", "/etc/only-here", ";", "list", "/", ";", "list", "/..", ";", "report"];
            let bundle = host.bundle()?.file("/etc/only-here", "yes")?.payload(&words);
            let [read, root, above, report] = host.lines(&bundle)?;
            ensure_eq!(read["text"], "yes");
            ensure_eq!(root["names"], json!(["bin", "dev", "etc", "proc", "root", "sys", "tmp", "var"]));
            ensure_eq!(above["names"], root["names"]);
            let targets: Vec<_> = report["mounts"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|mount| mount["target"].as_str())
                .collect();
            ensure_eq!(
                targets,
                ["/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys"],
                "nothing of the host is mounted"
            );
            Ok(())
        })
        .trial("what the payload writes lands in the bundle", |host| {
            let bundle = host.bundle()?.payload(&["write", "/var/log", "written inside"]);
            host.run_well(&bundle)?;
            ensure_eq!(std::fs::read_to_string(bundle.rootfs().join("var/log"))?, "written inside");
            Ok(())
        })
        .trial("a read-only root refuses writes, and mounts in it allow them", |host| {
            let words = ["write", "/var/log", "x", ";", "touch", "/dev/shm/x", ";", "report"];
            let bundle = host.bundle()?.set("/root/readonly", json!(true)).payload(&words);
            let [write, shm, report] = host.lines(&bundle)?;
            ensure_eq!((write.errno(), shm.errno()), ("EROFS", ""));
            ensure!(report.mount("/").list("/options").contains(&"ro"), "/ is not read-only: {}", report.mount("/").0);
            ensure!(!bundle.rootfs().join("var/log").exists(), "the file is there");
            Ok(())
        })
        .trial("a read-only root leaves the host's view of it writable", |host| {
            let bundle = host.bundle()?.set("/root/readonly", json!(true)).payload(&["sleep"]);
            let container = host.start(&bundle)?;
            std::fs::write(bundle.rootfs().join("var/by-the-host"), "x")?;
            container.delete_force()
        })
        .trial("the path may be absolute", |host| {
            let bundle = host.bundle()?;
            let path = bundle.rootfs();
            let bundle = bundle.set("/root/path", json!(path)).payload(&["read", "/etc/passwd"]);
            let [read] = host.lines(&bundle)?;
            ensure!(read.text("/text").starts_with("root:"), "{:?}", read);
            Ok(())
        })
        .trial("a missing root file system is refused by name", |host| {
            let said = host.create_fails(&host.bundle()?.set("/root/path", json!("not-there")))?;
            ensure!(said.stderr.contains("not-there"), "{said}");
            Ok(())
        })
        .trial("a root file system that is a file is refused", |host| {
            let bundle = host.bundle()?.set("/root/path", json!("config.json"));
            host.create_fails(&bundle)?;
            Ok(())
        })
        .trial("two containers of one root file system live side by side", |host| {
            let bundle = host.bundle()?.payload(&["sleep"]);
            let first = host.start(&bundle)?;
            let other = host.unique("other");
            let bundle = bundle.with_id(&other).set("/linux/cgroupsPath", json!(format!("/{other}")));
            let second = host.start(&bundle)?;
            ensure_eq!((first.status()?.as_str(), second.status()?.as_str()), ("running", "running"));
            first.delete_force()?;
            ensure_eq!(second.status()?, "running");
            second.delete_force()
        })
}
