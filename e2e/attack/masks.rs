//! Masked and read-only paths: the mask must come from the runtime's own hand, never from the image's /dev/null.

use super::arena::{ALIVE, Arena, Ran, Runtime};
use super::{Attack, Verdict, settle};
use harness::json;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use std::fs;

const DECOY: &str = "DECOY-OF-THE-ATTACKER";
const PRIVATE: &str = "WHAT-THE-MASK-HIDES";

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack {
            name: "mask_null_is_a_link",
            cve: "2025-31133, crun 2026-88265",
            what: "no mount on /dev, and /dev/null of the image is a link to a file that the attacker wants unmasked and writable",
            run: |runtime| no_dev_mount(runtime, |arena| arena.link("dev/null", "/decoy")),
        },
        Attack {
            name: "mask_null_is_a_file",
            cve: "2025-31133",
            what: "no mount on /dev, and /dev/null of the image is a plain file",
            run: |runtime| no_dev_mount(runtime, |arena| arena.file("dev/null", DECOY)),
        },
        Attack {
            name: "mask_null_is_another_device",
            cve: "2025-31133",
            what: "no mount on /dev, and /dev/null of the image is character device 1:5 (zero)",
            run: |runtime| {
                no_dev_mount(runtime, |arena| {
                    let path = arena.rootfs().join("dev/null");
                    mknod(&path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 5))
                        .expect("a device node");
                })
            },
        },
        Attack {
            name: "mask_null_of_a_dev_volume_is_a_link",
            cve: "2025-31133",
            what: "/dev is a bound volume whose null is a link to a file of the attacker",
            run: dev_volume,
        },
        Attack {
            name: "mask_path_is_a_link",
            cve: "2019-18837",
            what: "a masked path is a link of the image to the file to hide, and another one a link to a file of the host",
            run: masked_link,
        },
        Attack {
            name: "mask_directory_through_a_link",
            cve: "2019-19921",
            what: "a masked path leads through a linked directory of the image",
            run: masked_below_a_link,
        },
        Attack {
            name: "readonly_path_is_a_link",
            cve: "2019-19921",
            what: "a read-only path is a link of the image to a directory that must become read-only",
            run: readonly_link,
        },
    ]
}

fn masked(runtime: &Runtime<'_>, commands: &[&str]) -> Arena {
    let mut arena = Arena::new(runtime, commands);
    arena.file("decoy", DECOY);
    arena.file("private", PRIVATE);
    arena.config["linux"]["maskedPaths"] = json!(["/private", "/proc/kcore"]);
    arena
}

fn no_dev_mount(runtime: &Runtime<'_>, prepare: fn(&Arena)) -> Verdict {
    let mut arena = masked(runtime, &["cat", "/private", ";", "kind", "/private", ";", "put", "/private", "written"]);
    arena.unmount("/dev");
    prepare(&arena);
    let before = arena.inventory();
    let ran = arena.run(runtime);
    look(&arena, runtime, &before, &ran)
}

fn dev_volume(runtime: &Runtime<'_>) -> Verdict {
    let mut arena = masked(runtime, &["cat", "/private", ";", "kind", "/private", ";", "put", "/private", "written"]);
    arena.unmount("/dev");
    let volume = arena.dir.join("volume");
    fs::create_dir(&volume).expect("a volume");
    std::os::unix::fs::symlink("/decoy", volume.join("null")).expect("a link");
    arena.mount(
        json!({"destination": "/dev", "type": "bind", "source": volume.display().to_string(), "options": ["rbind"]}),
    );
    let before = arena.inventory();
    let ran = arena.run(runtime);
    look(&arena, runtime, &before, &ran)
}

/// What the payload found at the masked path.
fn look(arena: &Arena, runtime: &Runtime<'_>, before: &[String], ran: &Ran) -> Verdict {
    let decoys: Vec<String> = ["decoy", "dev/null"].map(|name| plain(&arena.rootfs().join(name))).to_vec();
    if decoys.iter().any(|text| text.contains(ALIVE)) {
        return Verdict::Hit("the payload's own stdout became a file of the attacker's choice".into());
    }
    let read = ran.line("cat /private").unwrap_or_default();
    if read.contains(DECOY) {
        return Verdict::Hit("the mask is a file of the attacker's choice".into());
    }
    if read.contains(PRIVATE) {
        return Verdict::Hit("the path is not masked".into());
    }
    let kind = ran.line("kind /private").unwrap_or_default();
    if ran.alive() && !kind.contains("character device rdev=259") && !kind.contains("file rdev=0 size=0") {
        return Verdict::Hit(format!("the mask is not the null device ({kind})"));
    }
    if decoys[0] != DECOY {
        return Verdict::Hit("a write to the masked path changed another file".into());
    }
    settle(arena, runtime, before, ran)
}

fn masked_link(runtime: &Runtime<'_>) -> Verdict {
    let mut arena = masked(runtime, &["cat", "/private", ";", "kind", "/private"]);
    arena.link("to-private", "/private");
    arena.link("to-host", arena.host().join("secret"));
    arena.config["linux"]["maskedPaths"] = json!(["/to-private", "/to-host"]);
    let before = arena.inventory();
    let ran = arena.run(runtime);
    look(&arena, runtime, &before, &ran)
}

fn masked_below_a_link(runtime: &Runtime<'_>) -> Verdict {
    let mut arena = masked(runtime, &["cat", "/real/private", ";", "cat", "/private"]);
    arena.file("real/private", PRIVATE);
    arena.link("aside", "/real");
    arena.link("out", arena.host());
    arena.config["linux"]["maskedPaths"] = json!(["/aside/private", "/out/secret", "/private"]);
    let before = arena.inventory();
    let ran = arena.run(runtime);
    if ran.line("cat /real/private").unwrap_or_default().contains(PRIVATE) {
        return Verdict::Hit("the path behind the link is not masked".into());
    }
    settle(&arena, runtime, &before, &ran)
}

fn readonly_link(runtime: &Runtime<'_>) -> Verdict {
    let mut arena = Arena::new(runtime, &["put", "/data/file", "written", ";", "put", "/free", "written"]);
    arena.file("data/file", "original");
    arena.file("free", "original");
    arena.link("to-data", "/data");
    arena.link("to-host", arena.host());
    arena.config["linux"]["readonlyPaths"] = json!(["/to-data", "/to-host"]);
    let before = arena.inventory();
    let ran = arena.run(runtime);
    if ran.alive() && ran.line("put /free") != Some("put /free: done") {
        return Verdict::Void("even a free file could not be written".into());
    }
    if ran.line("put /data/file") == Some("put /data/file: done") {
        return Verdict::Hit("the directory behind the link stayed writable".into());
    }
    settle(&arena, runtime, &before, &ran)
}

/// The text of a plain file, empty for anything else.
fn plain(path: &std::path::Path) -> String {
    let is_file = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file());
    if is_file { fs::read_to_string(path).unwrap_or_default() } else { String::new() }
}
