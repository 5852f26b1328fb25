//! mounts: where they land, and what is made for them.

use harness::{Feature, ensure, ensure_eq, json};

pub(crate) fn trials() -> Feature {
    Feature::new("mount_targets")
        .trial("missing directories of a target are made", |host| {
            let bundle = host.bundle()?.mount("/made/for/this", "tmpfs", "tmpfs", &[]).payload(&[
                "report",
                ";",
                "stat",
                "/made/for",
            ]);
            let [report, stat] = host.lines(&bundle)?;
            ensure_eq!(report.mount("/made/for/this").text("/type"), "tmpfs");
            ensure_eq!((stat.text("/kind"), stat.text("/mode")), ("directory", "755"));
            Ok(())
        })
        .trial("the target of a file is made as a file", |host| {
            let source = host.new_dir("source")?.join("file");
            std::fs::write(&source, "from the host")?;
            let path = source.to_str().unwrap_or_default();
            let words = ["read", "/made/file", ";", "write", "/made/file", "changed inside", ";", "stat", "/made/file"];
            let bundle = host.bundle()?.mount("/made/file", "bind", path, &["bind"]).payload(&words);
            let [read, write, stat] = host.lines(&bundle)?;
            ensure_eq!((read.text("/text"), write.errno(), stat.text("/kind")), ("from the host", "", "file"));
            ensure!(std::fs::read_to_string(&source)?.starts_with("changed inside"), "the host's file is as before");
            ensure_eq!(bundle.rootfs().join("made/file").metadata()?.len(), 0);
            Ok(())
        })
        .trial("a file is mounted over a file that is there", |host| {
            let source = host.new_dir("source")?.join("file");
            std::fs::write(&source, "other")?;
            let bundle = host
                .bundle()?
                .mount("/etc/passwd", "bind", source.to_str().unwrap_or_default(), &["bind", "ro"])
                .payload(&["read", "/etc/passwd", ";", "append", "/etc/passwd", "x"]);
            let [read, append] = host.lines(&bundle)?;
            ensure_eq!((read.text("/text"), append.errno()), ("other", "EROFS"));
            Ok(())
        })
        .trial("a device is bound like a file", |host| {
            let bundle = host.bundle()?.mount("/var/void", "bind", "/dev/null", &["bind"]).payload(&[
                "stat",
                "/var/void",
                ";",
                "write",
                "/var/void",
                "x",
            ]);
            let [stat, write] = host.lines(&bundle)?;
            ensure_eq!((stat.text("/kind"), &stat["major"], &stat["minor"]), ("char", &json!(1), &json!(3)));
            ensure_eq!(write.errno(), "");
            Ok(())
        })
        .trial("a relative target starts at the root", |host| {
            let report = host.report(&host.bundle()?.mount("var/relative", "tmpfs", "tmpfs", &[]))?;
            ensure_eq!(report.mount("/var/relative").text("/type"), "tmpfs");
            Ok(())
        })
        .trial("a symbolic link on the way is followed inside the root", |host| {
            let bundle = host
                .bundle()?
                .directory("/var/real")?
                .symlink("/var/real", "/absolute")?
                .symlink("var/real", "/relative")?
                .symlink("/etc/../../../../var/real", "/climbing")?
                .mount("/absolute/a", "tmpfs", "tmpfs", &[])
                .mount("/relative/b", "tmpfs", "tmpfs", &[])
                .mount("/climbing/c", "tmpfs", "tmpfs", &[]);
            let report = host.report(&bundle)?;
            for name in ["a", "b", "c"] {
                ensure_eq!(report.mount(&format!("/var/real/{name}")).text("/type"), "tmpfs");
            }
            Ok(())
        })
        .trial("a target that is a link is followed inside the root", |host| {
            let outside = host.new_dir("outside")?;
            let bundle = host
                .bundle()?
                .symlink(outside.to_str().unwrap_or_default(), "/link")?
                .mount("/link", "tmpfs", "tmpfs", &[])
                .payload(&["report"]);
            let report = host.report(&bundle)?;
            let landed = report.mount(outside.to_str().unwrap_or_default());
            ensure_eq!(landed.text("/type"), "tmpfs", "the link was not resolved inside the root");
            ensure!(std::fs::read_dir(&outside)?.next().is_none(), "something was made outside");
            Ok(())
        })
        .trial("dots in a target do not leave the root", |host| {
            let bundle = host.bundle()?.mount("/../../var/./x/../dotted", "tmpfs", "tmpfs", &[]);
            let report = host.report(&bundle)?;
            ensure_eq!(report.mount("/var/dotted").text("/type"), "tmpfs");
            Ok(())
        })
        .trial("a name with spaces and other signs works", |host| {
            let bundle = host.bundle()?.mount("/var/two words ä", "tmpfs", "tmpfs", &[]);
            let report = host.report(&bundle)?;
            ensure_eq!(report.mount("/var/two words ä").text("/type"), "tmpfs");
            Ok(())
        })
        .trial("later mounts lie on earlier ones", |host| {
            let (first, second) = (host.new_dir("first")?, host.new_dir("second")?);
            std::fs::write(first.join("name"), "first")?;
            std::fs::write(second.join("name"), "second")?;
            let bundle = host
                .bundle()?
                .mount("/var/x", "bind", first.to_str().unwrap_or_default(), &["bind"])
                .mount("/var/x", "bind", second.to_str().unwrap_or_default(), &["bind"])
                .mount("/var/x/deeper", "tmpfs", "tmpfs", &[])
                .payload(&["read", "/var/x/name", ";", "report"]);
            let [read, report] = host.lines(&bundle)?;
            ensure_eq!(read["text"], "second");
            ensure_eq!(report.mount("/var/x/deeper").text("/type"), "tmpfs");
            Ok(())
        })
        .trial("a target below a read-only mount must be there already", |host| {
            let source = host.new_dir("source")?;
            std::fs::create_dir(source.join("there"))?;
            let path = source.to_str().unwrap_or_default();
            let good = host.bundle()?.mount("/var/x", "bind", path, &["bind", "ro"]).mount(
                "/var/x/there",
                "tmpfs",
                "tmpfs",
                &[],
            );
            ensure_eq!(host.report(&good)?.mount("/var/x/there").text("/type"), "tmpfs");
            let bad = host.bundle()?.mount("/var/x", "bind", path, &["bind", "ro"]).mount(
                "/var/x/missing",
                "tmpfs",
                "tmpfs",
                &[],
            );
            let said = host.create_fails(&bad)?;
            ensure!(said.stderr.contains("missing"), "{said}");
            Ok(())
        })
        .trial("a directory over a file, and a file over a directory, are refused by name", |host| {
            let said = host.create_fails(&host.bundle()?.mount("/etc/passwd", "tmpfs", "tmpfs", &[]))?;
            ensure!(said.stderr.contains("/etc/passwd"), "{said}");
            let source = host.new_dir("source")?.join("file");
            std::fs::write(&source, "")?;
            let bundle = host.bundle()?.mount("/var", "bind", source.to_str().unwrap_or_default(), &["bind"]);
            host.create_fails(&bundle)?;
            Ok(())
        })
        .trial("no mounts at all is a container too", |host| {
            host.except("runc", "needs a /proc inside")?;
            let bundle = host.bundle()?.set("/mounts", json!([])).payload(&["list", "/proc", ";", "list", "/dev"]);
            let [proc, _dev] = host.lines(&bundle)?;
            ensure_eq!(proc["names"], json!([]));
            Ok(())
        })
}
