//! linux.maskedPaths.

use harness::{Feature, ensure, ensure_eq, json};

pub(crate) fn trials() -> Feature {
    Feature::new("masked_paths")
        .trial("a masked file reads as empty and keeps nothing that is written", |host| {
            let bundle = host
                .bundle()?
                .file("/etc/secret", "do not read")?
                .set("/linux/maskedPaths", json!(["/etc/secret", "/proc/version"]))
                .payload(&["read", "/etc/secret", ";", "read", "/proc/version", ";", "append", "/etc/secret", "x"]);
            let [secret, version, _] = host.lines(&bundle)?;
            ensure_eq!((&secret["text"], &version["text"]), (&json!(""), &json!("")));
            ensure_eq!(std::fs::read_to_string(bundle.rootfs().join("etc/secret"))?, "do not read");
            Ok(())
        })
        .trial("a masked directory is empty and read-only", |host| {
            let bundle = host
                .bundle()?
                .file("/var/private/file", "x")?
                .set("/linux/maskedPaths", json!(["/var/private", "/proc/irq"]))
                .payload(&["list", "/var/private", ";", "touch", "/var/private/new", ";", "list", "/proc/irq"]);
            let [list, touch, irq] = host.lines(&bundle)?;
            ensure_eq!((&list["names"], &irq["names"]), (&json!([]), &json!([])));
            ensure_eq!(touch.errno(), "EROFS");
            Ok(())
        })
        .trial("a path that is not there is passed over", |host| {
            let bundle = host
                .bundle()?
                .set("/linux/maskedPaths", json!(["/not/there", "/proc/none", "/etc/passwd"]))
                .payload(&["read", "/etc/passwd", ";", "stat", "/not"]);
            let [read, stat] = host.lines(&bundle)?;
            ensure_eq!(read["text"], "");
            ensure_eq!(stat.errno(), "ENOENT");
            Ok(())
        })
        .trial("the payload cannot take a mask off", |host| {
            let bundle = host
                .bundle()?
                .file("/etc/secret", "do not read")?
                .set("/linux/maskedPaths", json!(["/etc/secret"]))
                .payload(&["umount", "/etc/secret", ";", "remove", "/etc/secret", ";", "read", "/etc/secret"]);
            let [umount, remove, read] = host.lines(&bundle)?;
            ensure_eq!((umount.errno(), remove.errno()), ("EPERM", "EBUSY"));
            ensure_eq!(read["text"], "");
            Ok(())
        })
        .trial("masks lie on a mounted volume too", |host| {
            let source = host.new_dir("volume")?;
            std::fs::write(source.join("secret"), "do not read")?;
            let bundle = host
                .bundle()?
                .mount("/var/volume", "bind", source.to_str().unwrap_or_default(), &["bind"])
                .set("/linux/maskedPaths", json!(["/var/volume/secret"]))
                .payload(&["read", "/var/volume/secret"]);
            let [read] = host.lines(&bundle)?;
            ensure_eq!(read["text"], "");
            Ok(())
        })
        .trial("the engines' usual list holds", |host| {
            let list = [
                "/proc/acpi",
                "/proc/asound",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/timer_list",
                "/proc/sched_debug",
                "/proc/scsi",
                "/sys/firmware",
            ];
            let bundle = host.bundle()?.set("/linux/maskedPaths", json!(list)).payload(&[
                "head",
                "/proc/kcore",
                "4",
                ";",
                "read",
                "/proc/keys",
                ";",
                "list",
                "/sys/firmware",
            ]);
            let [kcore, keys, firmware] = host.lines(&bundle)?;
            ensure!(kcore["bytes"] == json!([]) || kcore.errno() == "ENOENT", "{kcore:?}");
            ensure!(keys["text"] == "" || keys.errno() == "ENOENT", "{keys:?}");
            ensure!(firmware["names"] == json!([]) || firmware.errno() == "ENOENT", "{firmware:?}");
            Ok(())
        })
}
