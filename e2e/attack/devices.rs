//! /dev under the image's control: what a runtime makes there must not land on the host.

use super::arena::{Arena, Runtime};
use super::{Attack, Verdict, settle};

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack {
            name: "dev_is_an_absolute_link",
            cve: "2026-41579, crun 2026-47766",
            what: "/dev of the image is a link to a directory of the host; the config mounts a tmpfs on /dev",
            run: |runtime| dev_link(runtime, true, |arena| arena.host().display().to_string()),
        },
        Attack {
            name: "dev_is_an_absolute_link_and_not_mounted",
            cve: "2026-41579, crun 2026-88264",
            what: "/dev of the image is a link to a directory of the host; the config mounts nothing on /dev",
            run: |runtime| dev_link(runtime, false, |arena| arena.host().display().to_string()),
        },
        Attack {
            name: "dev_is_a_climbing_link_and_not_mounted",
            cve: "2026-41579",
            what: "/dev of the image is a relative link that climbs with `..` to a directory of the host",
            run: |runtime| dev_link(runtime, false, |arena| format!("{}{}", "../".repeat(30), arena.host_relative(""))),
        },
        Attack {
            name: "dev_nodes_are_links",
            cve: "2026-41579",
            what: "/dev/ptmx, /dev/null, /dev/console and /dev/fd of the image are links to files of the host; no mount on /dev",
            run: dev_nodes,
        },
        Attack {
            name: "dev_device_path_through_a_link",
            cve: "crun 2019-18837",
            what: "linux.devices asks for a node below a directory of the image that is a link to the host",
            run: device_path,
        },
    ]
}

fn dev_link(runtime: &Runtime<'_>, mounted: bool, target: fn(&Arena) -> String) -> Verdict {
    let mut arena = Arena::new(runtime, &["ls", "/dev"]);
    if !mounted {
        arena.unmount("/dev");
    }
    arena.link("dev", target(&arena));
    let before = arena.inventory();
    let ran = arena.run(runtime);
    settle(&arena, runtime, &before, &ran)
}

fn dev_nodes(runtime: &Runtime<'_>) -> Verdict {
    let mut arena = Arena::new(runtime, &["ls", "/dev", ";", "put", "/dev/null", "written"]);
    arena.unmount("/dev");
    for (name, target) in
        [("ptmx", "ptmx"), ("null", "null"), ("console", "console"), ("fd", "new-fd"), ("zero", "new")]
    {
        arena.link(&format!("dev/{name}"), arena.host().join(target));
    }
    let before = arena.inventory();
    let ran = arena.run(runtime);
    settle(&arena, runtime, &before, &ran)
}

fn device_path(runtime: &Runtime<'_>) -> Verdict {
    let mut arena = Arena::new(runtime, &["ls", "/nodes"]);
    arena.link("nodes", arena.host());
    arena.config["linux"]["devices"] = harness::json!([
        {"path": "/nodes/evil", "type": "c", "major": 1, "minor": 5, "fileMode": 438, "uid": 0, "gid": 0}
    ]);
    let before = arena.inventory();
    let ran = arena.run(runtime);
    settle(&arena, runtime, &before, &ran)
}
