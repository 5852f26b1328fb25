//! User namespaces: linux.uidMappings and gidMappings, as root.

use harness::{Bundle, Feature, Host, Stop, ensure, ensure_eq, json};

const BASE: u32 = 231_072;

/// Root inside is another user outside.
pub(crate) fn mapped(host: &Host) -> Result<Bundle, Stop> {
    let map = json!([{"containerID": 0, "hostID": BASE, "size": 65536}]);
    let bundle =
        host.bundle()?.namespace("user", None).set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    // What the container is to write must belong to somebody who exists inside.
    for path in ["", "var", "tmp", "root"] {
        std::os::unix::fs::chown(bundle.rootfs().join(path), Some(BASE), Some(BASE))?;
    }
    Ok(bundle)
}

pub(crate) fn trials() -> Feature {
    Feature::new("user_namespace")
        .trial("root inside is the mapped user outside", |host| {
            let bundle = mapped(host)?.payload(&["report", ";", "touch", "/var/mine", ";", "lstat", "/var/mine"]);
            let [report, touch, stat] = host.lines(&bundle)?;
            ensure_eq!(report["uid"], json!([0, 0, 0, 0]));
            ensure_eq!((touch.errno(), &stat["uid"], &stat["gid"]), ("", &json!(0), &json!(0)));
            let meta = std::fs::metadata(bundle.rootfs().join("var/mine"))?;
            use std::os::unix::fs::MetadataExt;
            ensure_eq!((meta.uid(), meta.gid()), (BASE, BASE));
            Ok(())
        })
        .trial("the maps are those of the config", |host| {
            let uid = json!([
                {"containerID": 0, "hostID": BASE, "size": 10}, {"containerID": 10, "hostID": BASE + 1000, "size": 5},
                {"containerID": 2000, "hostID": BASE + 5000, "size": 1}
            ]);
            let report = host.report(&mapped(host)?.set("/linux/uidMappings", uid))?;
            let words: Vec<u32> =
                report.text("/uid_map").split_whitespace().filter_map(|word| word.parse().ok()).collect();
            ensure_eq!(words, [0, BASE, 10, 10, BASE + 1000, 5, 2000, BASE + 5000, 1]);
            let words: Vec<u32> =
                report.text("/gid_map").split_whitespace().filter_map(|word| word.parse().ok()).collect();
            ensure_eq!(words, [0, BASE, 65536]);
            let own = std::fs::read_link("/proc/self/ns/user")?;
            ensure!(
                report["namespaces"]["user"] != own.to_string_lossy().as_ref(),
                "the user namespace is the caller's"
            );
            Ok(())
        })
        .trial("other users and groups can be taken on", |host| {
            let user = json!({"uid": 1000, "gid": 2000, "additionalGids": [5, 6]});
            let report = host.report(&mapped(host)?.set("/process/user", user))?;
            ensure_eq!((&report["uid"][1], &report["gid"][1]), (&json!(1000), &json!(2000)));
            ensure_eq!((&report["groups"], report.text("/setgroups")), (&json!([5, 6]), "allow"));
            Ok(())
        })
        .trial("the other namespaces belong to it", |host| {
            let bundle = mapped(host)?
                .capabilities(&["bounding", "permitted", "effective"], &["CAP_SYS_ADMIN", "CAP_NET_BIND_SERVICE"])
                .payload(&[
                    "mount", "none", "/var", "tmpfs", "size=4k", ";", "listen", "80", ";", "mknod", "/tmp/n", "c", "1",
                    "3",
                ]);
            let [mount, listen, mknod] = host.lines(&bundle)?;
            ensure_eq!((mount.errno(), listen.errno(), mknod.errno()), ("", "", "EPERM"));
            Ok(())
        })
        .trial("capabilities are those of the config", |host| {
            let report =
                host.report(&mapped(host)?.capabilities(&["bounding", "permitted", "effective"], &["CAP_KILL"]))?;
            for set in ["effective", "permitted", "bounding"] {
                ensure_eq!(report.mask(&format!("/capabilities/{set}")), 1 << 5, "{set}");
            }
            Ok(())
        })
        .trial("default devices are there and work", |host| {
            let bundle = mapped(host)?.payload(&[
                "head",
                "/dev/zero",
                "3",
                ";",
                "write",
                "/dev/null",
                "x",
                ";",
                "head",
                "/dev/urandom",
                "2",
                ";",
                "stat",
                "/dev/null",
            ]);
            let [zero, null, random, stat] = host.lines(&bundle)?;
            ensure_eq!((&zero["bytes"], null.errno(), random.errno()), (&json!([0, 0, 0]), "", ""));
            ensure_eq!((&stat["major"], &stat["minor"]), (&json!(1), &json!(3)));
            Ok(())
        })
        .trial("a user outside the map is refused by name", |host| {
            let said = host.run(&mapped(host)?.set("/process/user/uid", json!(70_000)))?;
            ensure!(said.code() != Some(0), "it ran");
            Ok(())
        })
        .trial("a user namespace without mappings, and mappings without one, are refused", |host| {
            host.except("runc", "passes over mappings without a user namespace")?;
            host.create_fails(&mapped(host)?.remove("/linux/uidMappings"))?;
            host.create_fails(&mapped(host)?.without_namespace("user"))?;
            Ok(())
        })
        .trial("a user namespace by path is joined", |host| {
            host.except("runc", "wants mappings there too")?;
            let holder = host.start(&mapped(host)?.payload(&["report", ";", "sleep"]))?;
            let held = holder.lines(1)?[0].clone();
            let path = format!("/proc/{}/ns/user", holder.pid()?);
            let bundle =
                mapped(host)?.namespace("user", Some(&path)).remove("/linux/uidMappings").remove("/linux/gidMappings");
            let report = host.report(&bundle)?;
            ensure_eq!(report["namespaces"]["user"], held["namespaces"]["user"]);
            ensure_eq!(report["uid"][1], 0);
            holder.delete_force()
        })
        .trial("mounts, masks and read-only paths hold as without it", |host| {
            let bundle = mapped(host)?
                .file("/etc/secret", "do not read")?
                .set("/linux/maskedPaths", json!(["/etc/secret", "/proc/kcore"]))
                .set("/linux/readonlyPaths", json!(["/proc/sys", "/etc"]))
                .mount("/var/t", "tmpfs", "tmpfs", &["nosuid", "size=1m"])
                .payload(&["read", "/etc/secret", ";", "touch", "/etc/x", ";", "touch", "/var/t/x", ";", "report"]);
            let [secret, etc, tmpfs, report] = host.lines(&bundle)?;
            ensure_eq!((secret.text("/text"), etc.errno(), tmpfs.errno()), ("", "EROFS", ""));
            ensure!(report.has_option("/proc/sys", "ro"), "/proc/sys is writable");
            Ok(())
        })
}
