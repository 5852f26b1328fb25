//! Mount targets that are links: whatever the image says, a target lies in the root, and nothing is made outside.

use super::arena::{Arena, Runtime};
use super::{Attack, Verdict, settle};
use harness::{Value, json};
use std::fs;

const MARK: &str = "MARK-OF-THE-VOLUME";

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack {
            name: "target_is_an_absolute_link",
            cve: "crun 2019-18837",
            what: "a mount target of the image is a link to a directory of the host",
            run: |runtime| aim(runtime, "/vol", |arena| arena.link("vol", arena.host())),
        },
        Attack {
            name: "target_is_a_climbing_link",
            cve: "crun 2019-18837",
            what: "a mount target is a relative link that climbs with `..` to a directory of the host",
            run: |runtime| {
                aim(runtime, "/vol", |arena| {
                    arena.link("vol", format!("{}{}", "../".repeat(40), arena.host_relative("")))
                })
            },
        },
        Attack {
            name: "target_is_a_dangling_link",
            cve: "2024-45310",
            what: "a mount target is a link to a path that does not exist, neither in the image nor on the host",
            run: |runtime| aim(runtime, "/vol", |arena| arena.link("vol", arena.host().join("new/deep"))),
        },
        Attack {
            name: "target_below_a_link",
            cve: "2024-45310",
            what: "a mount target has to be made below a link to a directory of the host",
            run: |runtime| aim(runtime, "/out/new/deep", |arena| arena.link("out", arena.host())),
        },
        Attack {
            name: "target_climbs",
            cve: "2021-30465",
            what: "the destination itself climbs with `..` behind a link",
            run: |runtime| {
                aim(runtime, "/out/../../../../../../../../../../../../vol/../climbed", |arena| {
                    arena.link("out", arena.host())
                })
            },
        },
        Attack {
            name: "target_through_a_magic_link",
            cve: "2021-30465",
            what: "a mount target leads through /proc/self/root, /proc/self/cwd or /proc/1/root of a mounted /proc",
            run: magic,
        },
        Attack {
            name: "target_is_a_loop_of_links",
            cve: "2019-18837",
            what: "a mount target is a loop of links, or a chain of a hundred",
            run: |runtime| {
                aim(runtime, "/loop/x", |arena| {
                    arena.link("loop", "/pool");
                    arena.link("pool", "/loop");
                })
            },
        },
        Attack {
            name: "target_file_is_a_dangling_link",
            cve: "2024-45310",
            what: "a file is bound to a target that is a link to a file of the host that does not exist yet",
            run: |runtime| file(runtime, "/hosts", |arena| arena.link("hosts", arena.host().join("new-file"))),
        },
        Attack {
            name: "target_file_is_a_link",
            cve: "2019-18837",
            what: "a file is bound to a target that is a link to a file of the host",
            run: |runtime| file(runtime, "/hosts", |arena| arena.link("hosts", arena.host().join("secret"))),
        },
        Attack {
            name: "target_copies_up_through_a_link",
            cve: "2019-18837",
            what: "a tmpfs with tmpcopyup on a target that is a link to the host must not show the host's files",
            run: copy_up,
        },
    ]
}

fn volume(arena: &Arena) -> Value {
    let volume = arena.dir.join("volume");
    fs::create_dir_all(&volume).expect("a volume");
    fs::write(volume.join("mark"), MARK).expect("a mark");
    json!(volume.display().to_string())
}

/// Binds a volume and then a tmpfs to `destination`.
fn aim(runtime: &Runtime<'_>, destination: &str, prepare: fn(&Arena)) -> Verdict {
    let mark = format!("{destination}/mark");
    for kind in ["bind", "tmpfs"] {
        let mut arena = Arena::new(runtime, &["cat", &mark]);
        prepare(&arena);
        let mount = match kind {
            "bind" => {
                json!({"destination": destination, "type": "bind", "source": volume(&arena), "options": ["rbind"]})
            }
            _ => json!({"destination": destination, "type": "tmpfs", "source": "tmpfs"}),
        };
        arena.mount(mount);
        let before = arena.inventory();
        let ran = arena.run(runtime);
        let found = ran.line("cat ").unwrap_or_default();
        if ran.alive() && kind == "bind" && !destination.contains("..") && !found.contains(MARK) {
            return Verdict::Hit(format!("ran, but the volume is not where it was asked for ({found})"));
        }
        let verdict = settle(&arena, runtime, &before, &ran);
        if kind == "tmpfs" || !matches!(verdict, Verdict::Held(_)) {
            return verdict;
        }
    }
    unreachable!("the tmpfs round returns")
}

fn file(runtime: &Runtime<'_>, destination: &str, prepare: fn(&Arena)) -> Verdict {
    let mut arena = Arena::new(runtime, &["cat", destination, ";", "put", destination, "written"]);
    prepare(&arena);
    volume(&arena);
    let source = arena.dir.join("volume/mark").display().to_string();
    arena.mount(json!({"destination": destination, "type": "bind", "source": source, "options": ["bind"]}));
    let before = arena.inventory();
    let ran = arena.run(runtime);
    settle(&arena, runtime, &before, &ran)
}

fn magic(runtime: &Runtime<'_>) -> Verdict {
    let mut last = Verdict::Void("no link was tried".into());
    for link in ["/proc/self/root", "/proc/self/cwd", "/proc/1/root", "/proc/thread-self/root"] {
        let mut arena = Arena::new(runtime, &["ls", "/"]);
        arena.link("out", link);
        let destination = format!("/out{}/new", arena.host().display());
        arena
            .mount(json!({"destination": destination, "type": "bind", "source": volume(&arena), "options": ["rbind"]}));
        let before = arena.inventory();
        let ran = arena.run(runtime);
        last = settle(&arena, runtime, &before, &ran);
        if !matches!(last, Verdict::Held(_)) {
            return last;
        }
    }
    last
}

fn copy_up(runtime: &Runtime<'_>) -> Verdict {
    let mut arena = Arena::new(runtime, &["cat", "/vol/secret"]);
    arena.link("vol", arena.host());
    arena.mount(json!({"destination": "/vol", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}));
    let before = arena.inventory();
    let ran = arena.run(runtime);
    if ran.out.contains(super::arena::SECRET) {
        return Verdict::Hit("a file of the host was copied into the container".into());
    }
    settle(&arena, runtime, &before, &ran)
}
