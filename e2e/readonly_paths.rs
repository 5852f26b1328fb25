//! linux.readonlyPaths.

use harness::{Feature, ensure, ensure_eq, json};

pub(crate) fn trials() -> Feature {
    Feature::new("readonly_paths")
        .trial("files and directories can be read and not written", |host| {
            let bundle = host
                .bundle()?
                .file("/var/dir/file", "text")?
                .set("/linux/readonlyPaths", json!(["/var/dir", "/etc/passwd"]))
                .payload(&[
                    "read",
                    "/var/dir/file",
                    ";",
                    "touch",
                    "/var/dir/new",
                    ";",
                    "append",
                    "/etc/passwd",
                    "x",
                    ";",
                    "touch",
                    "/var/free",
                ]);
            let [read, touch, append, free] = host.lines(&bundle)?;
            ensure_eq!(read["text"], "text");
            ensure_eq!((touch.errno(), append.errno(), free.errno()), ("EROFS", "EROFS", ""));
            Ok(())
        })
        .trial("parts of /proc can be read and not written", |host| {
            let bundle =
                host.bundle()?.set("/linux/readonlyPaths", json!(["/proc/sys", "/proc/sysrq-trigger"])).payload(&[
                    "read",
                    "/proc/sys/kernel/hostname",
                    ";",
                    "write",
                    "/proc/sys/kernel/hostname",
                    "x",
                    ";",
                    "report",
                ]);
            let [read, write, report] = host.lines(&bundle)?;
            ensure_eq!((read.text("/text"), write.errno()), ("e2e\n", "EROFS"));
            for option in ["ro", "nosuid", "nodev", "noexec"] {
                ensure!(
                    report.has_option("/proc/sys", option),
                    "/proc/sys is not {option}: {}",
                    report.mount("/proc/sys").0
                );
            }
            Ok(())
        })
        .trial("a path that is not there is passed over", |host| {
            let list = json!(["/not/there", "/etc/passwd"]);
            let bundle = host.bundle()?.set("/linux/readonlyPaths", list).payload(&[
                "append",
                "/etc/passwd",
                "x",
                ";",
                "stat",
                "/not",
            ]);
            let [append, stat] = host.lines(&bundle)?;
            ensure_eq!((append.errno(), stat.errno()), ("EROFS", "ENOENT"));
            Ok(())
        })
        .trial("the host can still write there", |host| {
            let bundle = host.bundle()?.set("/linux/readonlyPaths", json!(["/etc"])).payload(&["sleep"]);
            let container = host.start(&bundle)?;
            std::fs::write(bundle.rootfs().join("etc/new"), "x")?;
            container.delete_force()
        })
}
