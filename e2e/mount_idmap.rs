//! mounts: idmap, ridmap, uidMappings and gidMappings: whose a file is inside, and whose it stays on the host.

use harness::{Bundle, Feature, Host, Mounted, Outcome, Stop, Value, ensure, ensure_eq, json};
use nix::mount::MsFlags;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

const BASE: u32 = 231_072;
/// Who owns what is shown, on the host.
const TENANT: u32 = 5001;
/// Shown of a file whose owner no mapping holds.
const NOBODY: u32 = 65534;

/// A directory of the tenant's with a file of his and one of root's.
fn home(host: &Host) -> Result<std::path::PathBuf, Stop> {
    let home = host.new_dir("home")?;
    for (name, owner) in [("letter", TENANT), ("alien", 0)] {
        std::fs::write(home.join(name), name)?;
        chown(home.join(name), Some(owner), Some(owner))?;
        std::fs::set_permissions(home.join(name), PermissionsExt::from_mode(0o600))?;
    }
    chown(&home, Some(TENANT), Some(TENANT))?;
    Ok(home)
}

fn map(inside: u32, outside: u32, size: u32) -> Value {
    json!([{ "containerID": inside, "hostID": outside, "size": size }])
}

/// A bind mount to /var/home with mappings.
fn mapped(source: &Path, options: &[&str], ids: Value) -> Value {
    json!({
        "destination": "/var/home", "type": "bind", "source": source, "options": options,
        "uidMappings": ids, "gidMappings": ids,
    })
}

fn in_user_namespace(bundle: Bundle) -> Result<Bundle, Stop> {
    for path in ["", "var", "tmp", "root"] {
        chown(bundle.rootfs().join(path), Some(BASE), Some(BASE))?;
    }
    let map = map(0, BASE, 65536);
    Ok(bundle.namespace("user", None).set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map))
}

fn sailor(bundle: Bundle) -> Bundle {
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 }))
}

/// Reads, writes and makes files as 1000 in the mount of a home, and looks at them on the host.
fn lives_in(host: &Host, home: &Path, bundle: Bundle) -> Outcome {
    let before = std::fs::metadata(home.join("letter"))?;
    let bundle = sailor(bundle).payload(&[
        "stat",
        "/var/home/letter",
        ";",
        "append",
        "/var/home/letter",
        "!",
        ";",
        "touch",
        "/var/home/new",
        ";",
        "stat",
        "/var/home/new",
        ";",
        "read",
        "/var/home/alien",
        ";",
        "stat",
        "/var/home/alien",
    ]);
    let [letter, append, touch, new, read, alien] = host.lines(&bundle)?;
    ensure_eq!((&letter["uid"], &letter["gid"]), (&json!(1000), &json!(1000)), "the tenant's file, inside");
    ensure_eq!((append.errno(), touch.errno()), ("", ""), "writing as its owner");
    ensure_eq!((&new["uid"], &new["gid"]), (&json!(1000), &json!(1000)), "a new file, inside");
    ensure_eq!((read.errno(), &alien["uid"]), ("EACCES", &json!(NOBODY)), "root's file, inside");
    let owner = |name: &str| std::fs::metadata(home.join(name)).map(|meta| (meta.uid(), meta.gid()));
    ensure_eq!((owner("letter")?, owner("new")?, owner("alien")?), ((TENANT, TENANT), (TENANT, TENANT), (0, 0)));
    ensure_eq!(std::fs::read_to_string(home.join("letter"))?, "letter!");
    std::fs::remove_file(home.join("new"))?;
    std::fs::write(home.join("letter"), "letter")?;
    ensure_eq!(before.ino(), std::fs::metadata(home.join("letter"))?.ino());
    Ok(())
}

/// `create` must be refused with these words.
fn refused(host: &Host, bundle: &Bundle, words: &[&str]) -> Outcome {
    let said = host.create_fails(bundle)?;
    for word in words {
        ensure!(said.last_line().contains(word), "no {word:?}: {said}");
    }
    Ok(())
}

fn none(host: &Host) -> Outcome {
    host.only_wharf("idmapped mounts are newer, or want a user namespace")
}

pub(crate) fn trials() -> Feature {
    let feature = Feature::new("mount_idmap")
        .trial("a mount's own mappings hold without a user namespace", |host| {
            none(host)?;
            let home = home(host)?;
            let mount = mapped(&home, &["bind", "idmap"], map(TENANT, 1000, 1));
            lives_in(host, &home, host.bundle()?.push("/mounts", mount))
        })
        .trial(
            "A0.10: a tenant's home is his on the host and 1000's inside, and no file changes hands for it",
            |host| {
                none(host)?;
                let home = home(host)?;
                let times =
                    |name: &str| std::fs::metadata(home.join(name)).map(|meta| (meta.ctime(), meta.ctime_nsec()));
                let before = (times("")?, times("letter")?, times("alien")?);
                let mount = mapped(&home, &["bind", "idmap", "nosuid"], map(TENANT, BASE + 1000, 1));
                let bundle = sailor(in_user_namespace(host.bundle()?)?.push("/mounts", mount));
                let bundle = bundle.payload(&["report", ";", "stat", "/var/home/letter"]);
                let [report, letter] = host.lines(&bundle)?;
                ensure_eq!((&letter["uid"], &report["uid"][1]), (&json!(1000), &json!(1000)));
                ensure!(report.has_option("/var/home", "idmapped"), "{:?}", report.mount("/var/home"));
                ensure!(report.has_option("/var/home", "nosuid"), "{:?}", report.mount("/var/home"));
                ensure_eq!((times("")?, times("letter")?, times("alien")?), before, "times of change");
                lives_in(host, &home, bundle)
            },
        )
        .trial("idmap alone takes the mappings of the container's user namespace", |host| {
            none(host)?;
            let home = host.new_dir("home")?;
            std::fs::write(home.join("letter"), "")?;
            chown(home.join("letter"), Some(1000), Some(2000))?;
            let path = home.to_str().unwrap_or_default();
            let bundle = in_user_namespace(host.bundle()?)?.mount("/var/home", "bind", path, &["bind", "idmap"]);
            let words = ["stat", "/var/home/letter", ";", "touch", "/var/home/new", ";", "stat", "/var/home"];
            let [letter, touch, dir] = host.lines(&bundle.payload(&words))?;
            ensure_eq!((&letter["uid"], &letter["gid"]), (&json!(1000), &json!(2000)));
            ensure_eq!((touch.errno(), &dir["uid"]), ("", &json!(0)), "root's directory is root's");
            ensure_eq!(std::fs::metadata(home.join("new"))?.uid(), 0);
            Ok(())
        })
        .trial("idmap alone takes those of a joined user namespace", |host| {
            none(host)?;
            let holder = host.start(&in_user_namespace(host.bundle()?)?.payload(&["report", ";", "sleep"]))?;
            holder.lines(1)?;
            let home = host.new_dir("home")?;
            let path = format!("/proc/{}/ns/user", holder.pid()?);
            let bundle = in_user_namespace(host.bundle()?)?
                .namespace("user", Some(&path))
                .mount("/var/home", "bind", home.to_str().unwrap_or_default(), &["bind", "idmap"])
                .payload(&["stat", "/var/home", ";", "touch", "/var/home/new"]);
            let [dir, touch] = host.lines(&bundle)?;
            ensure_eq!((&dir["uid"], touch.errno()), (&json!(0), ""));
            ensure_eq!(std::fs::metadata(home.join("new"))?.uid(), 0);
            holder.delete_force()
        })
        .trial("idmap maps the mount itself, ridmap those below too, and no option is idmap", |host| {
            none(host)?;
            let (inner, outer) = host.tree()?;
            for path in [inner.path(), outer.path()] {
                chown(path.join("file"), Some(TENANT), Some(TENANT))?;
            }
            for (options, below) in
                [(vec!["rbind"], TENANT), (vec!["rbind", "idmap"], TENANT), (vec!["rbind", "ridmap"], 1000)]
            {
                let mount = mapped(outer.path(), &options, map(TENANT, 1000, 1));
                let bundle = host.bundle()?.push("/mounts", mount);
                let bundle = bundle.payload(&["stat", "/var/home/file", ";", "stat", "/var/home/sub/file"]);
                let [top, sub] = host.lines(&bundle)?;
                ensure_eq!((&top["uid"], &sub["uid"]), (&json!(1000), &json!(below)), "{options:?}");
            }
            Ok(())
        })
        .trial("mappings within the option are read as crun reads them", |host| {
            none(host)?;
            let home = home(host)?;
            let path = home.to_str().unwrap_or_default();
            let absolute = format!("idmap=uids={TENANT}-{}-1;gids={TENANT}-{}-1", BASE + 1000, BASE + 1000);
            let relative = format!("idmap=uids=@{TENANT}-1000-1;gids=@{TENANT}-1000-1");
            for option in [absolute, relative] {
                let bundle = in_user_namespace(host.bundle()?)?.mount("/var/home", "bind", path, &["bind", &option]);
                lives_in(host, &home, bundle)?;
            }
            let short = host.bundle()?.mount("/var/home", "bind", path, &["bind", "idmap=uids=1-2"]);
            refused(host, &short, &["idmap=uids=1-2", "uids=0-1000-1;gids=0-1000-1", "[mounts/6/options/1]"])?;
            let lost = host.bundle()?.mount("/var/home", "bind", path, &["bind", "idmap=uids=@0-0-1;gids=@0-0-1"]);
            refused(host, &lost, &["no single mapping", "[mounts/6/options]"])
        });
    more(feature)
}

fn more(feature: Feature) -> Feature {
    feature
        .trial("a file system that cannot is named, the mount itself or one below", |host| {
            none(host)?;
            let place = host.new_dir("proc")?;
            let flags = MsFlags::empty();
            nix::mount::mount(Some("proc"), &place, Some("proc"), flags, None::<&str>)?;
            let outer = Mounted::tmpfs(&host.new_dir("tree")?)?;
            std::fs::create_dir(outer.path().join("sub"))?;
            nix::mount::mount(Some("sys"), &outer.path().join("sub"), Some("sysfs"), flags, None::<&str>)?;
            let map = map(0, 1000, 1);
            let one = host.bundle()?.push("/mounts", mapped(&place, &["bind", "idmap"], map.clone()));
            let below = host.bundle()?.push("/mounts", mapped(outer.path(), &["rbind", "ridmap"], map.clone()));
            let spared = host.bundle()?.push("/mounts", mapped(outer.path(), &["rbind", "idmap"], map));
            let outcome =
                refused(host, &one, &["file system proc on ", "does not support idmapped mounts", "[mounts/6]"])
                    .and_then(|()| refused(host, &below, &["file system sysfs on ", "/sub does not", "[mounts/6]"]))
                    .and_then(|()| host.run_well(&spared).map(drop));
            nix::mount::umount2(&place, nix::mount::MntFlags::MNT_DETACH)?;
            nix::mount::umount2(&outer.path().join("sub"), nix::mount::MntFlags::MNT_DETACH)?;
            outcome
        })
        .trial("a mount that is idmapped already is refused", |host| {
            none(host)?;
            let home = home(host)?;
            let mount = mapped(&home, &["bind", "idmap"], map(TENANT, 1000, 1));
            // Without a mount namespace its mounts are the host's.
            let holder = host.bundle()?.without_namespace("mount").set("/mounts", json!([mount]));
            let source = holder.rootfs().join("var/home");
            let holder = host.create(&holder)?;
            let again = mapped(&source, &["bind", "idmap"], map(1000, 7, 1));
            refused(
                host,
                &host.bundle()?.push("/mounts", again),
                &["not permitted", "idmapped one already", "[mounts/6]"],
            )?;
            holder.delete_force()
        })
        .trial("what has no sense is refused at its place", |host| {
            none(host)?;
            let home = home(host)?;
            let path = home.to_str().unwrap_or_default();
            let alone = host.bundle()?.mount("/var/home", "bind", path, &["bind", "idmap"]);
            refused(host, &alone, &["needs uidMappings and gidMappings", "[mounts/6/options]"])?;
            let mut one = mapped(&home, &["bind", "idmap"], map(0, 1, 1));
            one["gidMappings"] = json!([]);
            refused(host, &host.bundle()?.push("/mounts", one), &["without gidMappings", "[mounts/6/uidMappings]"])?;
            let mut tmpfs = mapped(&home, &["idmap"], map(0, 1, 1));
            tmpfs["type"] = json!("tmpfs");
            refused(host, &host.bundle()?.push("/mounts", tmpfs), &["only a bind mount", "[mounts/6/uidMappings]"])?;
            let wrong = mapped(&home, &["bind", "idmap"], map(0, u32::MAX, 2));
            refused(host, &host.bundle()?.push("/mounts", wrong), &["beyond the largest id", "uidMappings/0]"])?;
            let both = mapped(&home, &["bind", "idmap=uids=0-1-1;gids=0-1-1"], map(0, 1, 1));
            refused(host, &host.bundle()?.push("/mounts", both), &["beside uidMappings", "[mounts/6/options]"])?;
            let overlapping = json!([
                { "containerID": 0, "hostID": 1000, "size": 10 }, { "containerID": 5, "hostID": 5000, "size": 10 }
            ]);
            let overlapping = mapped(&home, &["bind", "idmap"], overlapping);
            refused(host, &host.bundle()?.push("/mounts", overlapping), &["Invalid argument", "[mounts/6/gidMappings]"])
        })
        .trial("an idmapped mount shares no mounts with the host unless it is to", |host| {
            none(host)?;
            for (user, option, shared) in [(false, "idmap", false), (false, "rshared", true), (true, "rshared", false)]
            {
                let (_inner, outer) = host.tree()?;
                let mount = mapped(outer.path(), &["rbind", "idmap", option], map(0, if user { BASE } else { 0 }, 10));
                let bundle = host.bundle()?.capabilities(&["bounding", "permitted", "effective"], &["CAP_SYS_ADMIN"]);
                let bundle = if user { in_user_namespace(bundle)? } else { bundle };
                let bundle = bundle.push("/mounts", mount).payload(&[
                    "mkdir",
                    "/var/home/new",
                    ";",
                    "mount",
                    "none",
                    "/var/home/new",
                    "tmpfs",
                    "size=4k",
                    ";",
                    "touch",
                    "/var/home/new/inside",
                    ";",
                    "sleep",
                ]);
                let container = host.start(&bundle)?;
                let lines = container.lines(3)?;
                let seen = outer.path().join("new/inside").exists();
                container.delete_force()?;
                let _ = nix::mount::umount2(&outer.path().join("new"), nix::mount::MntFlags::MNT_DETACH);
                ensure_eq!(seen, shared, "{option}, user namespace {user}");
                ensure!(lines.iter().all(|line| line.errno().is_empty()), "{lines:?}");
            }
            Ok(())
        })
        .trial("sources that only the host's root may reach are bound in a user namespace, many of them", |host| {
            host.except("runc", "1.1 takes few of them")?;
            let vault = host.new_dir("vault")?;
            std::fs::set_permissions(&vault, PermissionsExt::from_mode(0o700))?;
            let mut bundle = in_user_namespace(host.bundle()?)?;
            for number in 0..30 {
                let volume = vault.join(number.to_string());
                std::fs::create_dir(&volume)?;
                std::fs::write(volume.join("name"), number.to_string())?;
                let source = volume.to_str().unwrap_or_default().to_owned();
                bundle = bundle.mount(&format!("/var/{number}"), "bind", &source, &["rbind", "ro"]);
            }
            let open = host.new_dir("open")?;
            for number in 30..90 {
                let source = open.to_str().unwrap_or_default().to_owned();
                bundle = bundle.mount(&format!("/var/{number}"), "bind", &source, &["bind"]);
            }
            let words = ["read", "/var/0/name", ";", "read", "/var/29/name", ";", "touch", "/var/29/x", ";", "report"];
            let [first, last, touch, report] = host.lines(&bundle.payload(&words))?;
            ensure_eq!((first.text("/text"), last.text("/text"), touch.errno()), ("0", "29", "EROFS"));
            ensure!(!report.mount("/var/89").0.is_null(), "the last is not mounted");
            Ok(())
        })
        .trial("so is one in a user namespace that is joined", |host| {
            host.except("runc", "wants mappings there too")?;
            let vault = host.new_dir("vault")?;
            std::fs::set_permissions(&vault, PermissionsExt::from_mode(0o700))?;
            std::fs::write(vault.join("name"), "kept")?;
            let holder = host.start(&in_user_namespace(host.bundle()?)?.payload(&["sleep"]))?;
            let path = format!("/proc/{}/ns/user", holder.pid()?);
            let bundle = in_user_namespace(host.bundle()?)?
                .file("/etc/name", "")?
                .namespace("user", Some(&path))
                .remove("/linux/uidMappings")
                .remove("/linux/gidMappings")
                .mount("/etc/name", "bind", vault.join("name").to_str().unwrap_or_default(), &["bind", "ro"])
                .payload(&["read", "/etc/name"]);
            let [name] = host.lines(&bundle)?;
            ensure_eq!(name.text("/text"), "kept");
            holder.delete_force()
        })
}
