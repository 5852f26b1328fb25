//! linux.devices: nodes that are made, and those that every container has.

use harness::{Feature, ensure, ensure_eq, json};

/// Default devices of runtime-spec and their numbers.
const DEFAULTS: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

pub(crate) fn trials() -> Feature {
    Feature::new("devices")
        .trial("every default device is there for everybody", |host| {
            for (name, major, minor) in DEFAULTS {
                let [stat] = host.lines(&host.bundle()?.payload(&["lstat", &format!("/dev/{name}")]))?;
                ensure_eq!((stat.text("/kind"), stat.text("/mode")), ("char", "666"), "{name}");
                ensure_eq!((&stat["major"], &stat["minor"]), (&json!(major), &json!(minor)), "{name}");
                ensure_eq!((&stat["uid"], &stat["gid"]), (&json!(0), &json!(0)), "{name}");
            }
            Ok(())
        })
        .trial("the default devices do what their numbers say", |host| {
            let bundle = host.bundle()?.set("/process/user/uid", json!(1000)).payload(&[
                "head", "/dev/zero", "2", ";", "write", "/dev/null", "x", ";", "write", "/dev/full", "x", ";", "head", "/dev/random",
                "1", ";", "head", "/dev/urandom", "1", ";", "head", "/dev/null", "1",
            ]);
            let [zero, null, full, random, urandom, empty] = host.lines(&bundle)?;
            ensure_eq!(zero["bytes"], json!([0, 0]));
            ensure_eq!((null.errno(), full.errno(), random.errno(), urandom.errno()), ("", "ENOSPC", "", ""));
            ensure_eq!(empty["bytes"], json!([]));
            Ok(())
        })
        .trial("the usual links are there", |host| {
            for (link, target) in [("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2")] {
                let [stat] = host.lines(&host.bundle()?.payload(&["lstat", &format!("/dev/{link}")]))?;
                ensure_eq!((stat.text("/kind"), stat.text("/link")), ("symlink", target), "{link}");
            }
            let [link, node] = host.lines(&host.bundle()?.payload(&["lstat", "/dev/ptmx", ";", "stat", "/dev/ptmx"]))?;
            ensure_eq!((link.text("/kind"), node.text("/kind")), ("symlink", "char"));
            ensure!(["pts/ptmx", "/dev/pts/ptmx"].contains(&link.text("/link")), "{link:?}");
            Ok(())
        })
        .trial("a listed /dev/ptmx is the link all the same: the host's terminals are not the container's", |host| {
            let device = json!({"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2, "fileMode": 0o666});
            let bundle = host.bundle()?.push("/linux/devices", device).payload(&["lstat", "/dev/ptmx"]);
            let [link] = host.lines(&bundle)?;
            ensure_eq!((link.text("/kind"), link.text("/link")), ("symlink", "pts/ptmx"));
            Ok(())
        })
        .trial("nothing else is in /dev", |host| {
            let report = host.report(&host.bundle()?)?;
            let mut names = report.list("/dev");
            names.retain(|name| *name != "core");
            let expected = ["fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"];
            ensure_eq!(names, expected);
            Ok(())
        })
        .trial("a read-only /dev, as engines ask for it, has everything in it and takes nothing more", |host| {
            let usual = host.report(&host.bundle()?)?;
            for bundle in [host.bundle()?, crate::user_namespace::mapped(host)?] {
                let words =
                    ["report", ";", "touch", "/dev/x", ";", "touch", "/dev/shm/x", ";", "write", "/dev/null", "x"];
                let bundle = bundle.payload(&words).edit(|config| {
                    let mounts = config["mounts"].as_array_mut().expect("there are mounts");
                    let dev = mounts.iter_mut().find(|mount| mount["destination"] == "/dev").expect("/dev is one");
                    dev["options"].as_array_mut().expect("it has options").push(json!("ro"));
                });
                let [report, dev, shm, null] = host.lines(&bundle)?;
                ensure_eq!((dev.errno(), shm.errno(), null.errno()), ("EROFS", "", ""));
                ensure!(report.has_option("/dev", "nosuid") && report.has_option("/dev", "ro"), "{:?}", report.mount("/dev"));
                ensure_eq!(report.list("/dev"), usual.list("/dev"));
            }
            Ok(())
        })
        .trial("devices of the config are made with their type, numbers, mode and owner", |host| {
            let list = json!([
                {"path": "/dev/wave", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 7, "gid": 8},
                {"path": "/dev/deep/er/block", "type": "b", "major": 7, "minor": 0, "fileMode": 0o600},
                {"path": "/dev/unbuffered", "type": "u", "major": 1, "minor": 5, "fileMode": 0o666},
                {"path": "/dev/pipe", "type": "p", "fileMode": 0o622},
                {"path": "/var/elsewhere", "type": "c", "major": 1, "minor": 3, "fileMode": 0o777}
            ]);
            let bundle = host.bundle()?.set("/linux/devices", list).payload(&[
                "lstat", "/dev/wave", ";", "lstat", "/dev/deep/er/block", ";", "lstat", "/dev/unbuffered", ";", "lstat", "/dev/pipe", ";",
                "lstat", "/var/elsewhere",
            ]);
            let [wave, block, unbuffered, pipe, elsewhere] = host.lines(&bundle)?;
            let facts = |stat: &harness::Report| {
                let number = |key: &str| stat[key].as_u64().unwrap_or(u64::MAX);
                (stat.text("/kind").to_owned(), stat.text("/mode").to_owned(), number("major"), number("minor"), number("uid"), number("gid"))
            };
            let of = |kind: &str, mode: &str, major, minor, uid, gid| (kind.to_owned(), mode.to_owned(), major, minor, uid, gid);
            ensure_eq!(facts(&wave), of("char", "640", 10, 229, 7, 8));
            ensure_eq!(facts(&block), of("block", "600", 7, 0, 0, 0));
            ensure_eq!(facts(&unbuffered), of("char", "666", 1, 5, 0, 0));
            ensure_eq!(facts(&pipe).0, "fifo");
            ensure_eq!(pipe["mode"], "622");
            ensure_eq!(facts(&elsewhere), of("char", "777", 1, 3, 0, 0));
            Ok(())
        })
        .trial("a device of the config replaces a default one of the same path", |host| {
            let allow = json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"});
            let list = json!([{"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 3, "gid": 4}]);
            let [stat] = host.lines(&host.bundle()?.set("/linux/devices", list).push("/linux/resources/devices", allow).payload(&["lstat", "/dev/null"]))?;
            ensure_eq!((stat.text("/mode"), &stat["uid"], &stat["gid"]), ("600", &json!(3), &json!(4)));
            Ok(())
        })
        .trial("a node of the image under a default device's name does no harm", |host| {
            host.except("runc", "1.1 takes the file for the device")?;
            let bundle = host.bundle()?.edit(|config| {
                if let Some(list) = config["mounts"].as_array_mut() { list.retain(|mount| !mount["destination"].as_str().unwrap_or("").starts_with("/dev")) }
            });
            std::fs::write(bundle.rootfs().join("dev/null"), "a file of the image")?;
            let ran = host.run(&bundle.payload(&["lstat", "/dev/null"]))?;
            // Refused, or the right device: never a container whose /dev/null is something else.
            if ran.code() == Some(0) {
                let stat = ran.report()?;
                ensure_eq!((stat.text("/kind"), &stat["major"], &stat["minor"]), ("char", &json!(1), &json!(3)));
            }
            Ok(())
        })
        .trial("a device of an unknown type is refused by name", |host| {
            let list = json!([{"path": "/dev/odd", "type": "z", "major": 1, "minor": 3}]);
            host.create_fails(&host.bundle()?.set("/linux/devices", list))?;
            Ok(())
        })
}
