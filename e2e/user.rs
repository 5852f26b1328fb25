//! process.user: ids, groups and umask.

use harness::{Feature, ensure_eq, json};

pub(crate) fn trials() -> Feature {
    Feature::new("user")
        .trial("real, effective, saved and file system ids are those of the config", |host| {
            let bundle = host.bundle()?.set("/process/user", json!({"uid": 1234, "gid": 5678}));
            let report = host.report(&bundle)?;
            ensure_eq!(report["uid"], json!([1234, 1234, 1234, 1234]));
            ensure_eq!(report["gid"], json!([5678, 5678, 5678, 5678]));
            Ok(())
        })
        .trial("additional groups are exactly those of the config", |host| {
            for groups in [json!([]), json!([7]), json!([3, 11, 4_000_000])] {
                let user = json!({"uid": 1000, "gid": 1000, "additionalGids": groups});
                ensure_eq!(host.report(&host.bundle()?.set("/process/user", user))?["groups"], groups);
            }
            Ok(())
        })
        .trial("a group that is named twice counts once", |host| {
            let user = json!({"uid": 1000, "gid": 1000, "additionalGids": [11, 3, 11]});
            ensure_eq!(host.report(&host.bundle()?.set("/process/user", user))?["groups"], json!([3, 11]));
            Ok(())
        })
        .trial("groups of the caller are not inherited", |host| {
            ensure_eq!(host.report(&host.bundle()?)?["groups"], json!([]));
            Ok(())
        })
        .trial("an ordinary user's payload can open its standard output by name", |host| {
            let user = json!({"uid": 1000, "gid": 1000});
            let bundle = host.bundle()?.set("/process/user", user).payload(&["open", "/dev/stdout", "w"]);
            let [opened] = host.lines(&bundle)?;
            ensure_eq!(opened.errno(), "");
            Ok(())
        })
        .trial("the umask is that of the config", |host| {
            for (umask, shown) in [(0o77, "0077"), (0, "0000"), (0o27, "0027")] {
                let bundle = host.bundle()?.set("/process/user/umask", json!(umask));
                ensure_eq!(host.report(&bundle)?["umask"], shown);
            }
            Ok(())
        })
        .trial("without a umask in the config it is 0022, whatever the caller's is", |host| {
            let bundle = host.bundle()?;
            let old = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
            let report = host.report(&bundle);
            nix::sys::stat::umask(old);
            ensure_eq!(report?["umask"], "0022");
            Ok(())
        })
        .trial("a user without an entry in passwd works, and one without passwd too", |host| {
            let bundle = host.bundle()?.set("/process/user", json!({"uid": 99_999, "gid": 99_999}));
            ensure_eq!(host.report(&bundle)?["uid"][1], 99_999);
            let bundle = host.bundle()?.set("/process/user", json!({"uid": 99_999, "gid": 99_999}));
            std::fs::remove_dir_all(bundle.rootfs().join("etc"))?;
            ensure_eq!(host.report(&bundle)?["uid"][1], 99_999);
            Ok(())
        })
        .trial("the kernel judges the payload by its ids", |host| {
            let words =
                ["read", "/secret", ";", "touch", "/var/mine", ";", "touch", "/theirs", ";", "lstat", "/var/mine"];
            let bundle = host.bundle()?.file("/secret", "s")?.payload(&words);
            let bundle = bundle.set("/process/user", json!({"uid": 1000, "gid": 2000})).remove("/process/capabilities");
            let mode = std::os::unix::fs::PermissionsExt::from_mode;
            std::fs::set_permissions(bundle.rootfs().join("secret"), mode(0o600))?;
            std::fs::set_permissions(bundle.rootfs().join("var"), mode(0o777))?;
            let [read, mine, theirs, stat] = host.lines(&bundle)?;
            ensure_eq!((read.errno(), mine.errno(), theirs.errno()), ("EACCES", "", "EACCES"));
            ensure_eq!((&stat["uid"], &stat["gid"]), (&json!(1000), &json!(2000)));
            Ok(())
        })
}
