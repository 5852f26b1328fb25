//! /proc and /sys under the image's or a volume's control: writes meant for the kernel must reach the kernel, and masks
//! must lie on the real thing.

use super::arena::{Arena, Runtime};
use super::{Attack, Verdict, settle};
use harness::json;
use std::fs;
use std::path::Path;

const SYSCTL: &str = "kernel.shm_rmid_forced";
const SYSCTL_FILE: &str = "sys/kernel/shm_rmid_forced";

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack {
            name: "proc_is_a_link_inside_the_image",
            cve: "2019-19921, 2023-27561, 2023-28642",
            what: "/proc of the image is a link to another directory of the image",
            run: |runtime| linked(runtime, "proc", |_| "/fake".into()),
        },
        Attack {
            name: "proc_is_a_link_to_the_host",
            cve: "2019-19921, 2023-27561",
            what: "/proc of the image is a link to a directory of the host",
            run: |runtime| linked(runtime, "proc", |arena| arena.host().display().to_string()),
        },
        Attack {
            name: "sys_is_a_link_inside_the_image",
            cve: "2023-28642",
            what: "/sys of the image is a link to another directory of the image",
            run: |runtime| linked(runtime, "sys", |_| "/fake".into()),
        },
        Attack {
            name: "sys_is_a_link_to_the_host",
            cve: "2023-28642",
            what: "/sys of the image is a link to a directory of the host",
            run: |runtime| linked(runtime, "sys", |arena| arena.host().display().to_string()),
        },
        Attack {
            name: "proc_is_covered_by_a_volume",
            cve: "2019-16884",
            what: "a volume with a fake /proc tree is bound over /proc; sysctl and oom_score_adj must not be written there",
            run: |runtime| covered(runtime, "/proc", ""),
        },
        Attack {
            name: "proc_sys_is_covered_by_a_volume",
            cve: "2019-16884, 2025-52881",
            what: "a volume with a fake tree is bound over /proc/sys; the sysctl must not be written there",
            run: |runtime| covered(runtime, "/proc/sys", "sys"),
        },
        Attack {
            name: "proc_is_covered_through_a_link",
            cve: "2025-52881",
            what: "a volume with a fake /proc tree is bound to a path that is a link of the image to /proc",
            run: |runtime| covered(runtime, "/alias", ""),
        },
        Attack {
            name: "proc_is_a_plain_directory",
            cve: "2019-16884",
            what: "nothing is mounted on /proc, and the image brings a fake tree there; the sysctl must reach the kernel or be refused",
            run: plain_directory,
        },
        Attack {
            name: "proc_is_covered_by_a_tmpfs",
            cve: "2025-52881",
            what: "a tmpfs lies on /proc/sys/kernel; the sysctl must reach the kernel or be refused",
            run: tmpfs_on_sysctl,
        },
    ]
}

fn linked(runtime: &Runtime<'_>, which: &str, target: fn(&Arena) -> String) -> Verdict {
    let probe = format!("/{which}");
    let arena = Arena::new(
        runtime,
        &[
            "kind",
            &probe,
            ";",
            "put",
            "/proc/sys/kernel/shm_rmid_forced",
            "1",
            ";",
            "kind",
            "/proc/keys",
            ";",
            "ls",
            "/sys",
        ],
    );
    fs::create_dir_all(arena.rootfs().join("fake/kernel")).expect("a fake tree");
    arena.link(which, target(&arena));
    let before = arena.inventory();
    let ran = arena.run(runtime);
    if ran.alive() && which == "proc" {
        if ran.out.contains("shm_rmid_forced: done") {
            return Verdict::Hit("ran with /proc/sys writable: the read-only paths went elsewhere".into());
        }
        if !ran.out.contains("kind /proc/keys: character device rdev=259") {
            return Verdict::Hit("ran with /proc/keys unmasked: the masks went elsewhere".into());
        }
    }
    if ran.alive() && runtime.is_wharf() {
        return Verdict::Hit(format!("ran although /{which} of the image is a link; it must be refused"));
    }
    if runtime.is_wharf() && !ran.err.contains(&format!("/{which}")) {
        return Verdict::Void(format!("the refusal does not name /{which}: {}", ran.said()));
    }
    settle(&arena, runtime, &before, &ran)
}

/// A tree that looks like /proc to a program that does not look closely.
fn fake_tree(dir: &Path) {
    for file in [
        SYSCTL_FILE,
        "self/oom_score_adj",
        "self/attr/exec",
        "self/attr/apparmor/exec",
        "1/oom_score_adj",
        "self/loginuid",
    ] {
        let path = dir.join(file);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a fake tree");
        fs::write(path, "untouched\n").expect("a fake file");
    }
    std::os::unix::fs::symlink("self", dir.join("thread-self")).expect("a link");
}

fn covered(runtime: &Runtime<'_>, destination: &str, part: &str) -> Verdict {
    let mut arena =
        Arena::new(runtime, &["cat", "/second/sys/kernel/shm_rmid_forced", ";", "cat", "/second/self/oom_score_adj"]);
    fake_tree(&arena.host());
    arena.link("alias", "/proc");
    arena.mount(json!({"destination": "/second", "type": "proc", "source": "proc"}));
    let source = arena.host().join(part).display().to_string();
    arena.mount(json!({"destination": destination, "type": "bind", "source": source, "options": ["rbind"]}));
    demand(&mut arena);
    let before = arena.inventory();
    let ran = arena.run(runtime);
    reached_the_kernel(&arena, runtime, &before, &ran)
}

fn plain_directory(runtime: &Runtime<'_>) -> Verdict {
    let mut arena = Arena::new(runtime, &["cat", "/second/sys/kernel/shm_rmid_forced"]);
    arena.unmount("/proc");
    fake_tree(&arena.rootfs().join("proc"));
    arena.mount(json!({"destination": "/second", "type": "proc", "source": "proc"}));
    demand(&mut arena);
    arena.config["linux"]["maskedPaths"] = json!([]);
    arena.config["linux"]["readonlyPaths"] = json!([]);
    let before = arena.inventory();
    let ran = arena.run(runtime);
    let fake = fs::read_to_string(arena.rootfs().join("proc").join(SYSCTL_FILE)).unwrap_or_default();
    if fake != "untouched\n" {
        return Verdict::Hit(format!("the sysctl was written into the image's file: {:?}", fake.trim()));
    }
    reached_the_kernel(&arena, runtime, &before, &ran)
}

fn tmpfs_on_sysctl(runtime: &Runtime<'_>) -> Verdict {
    let mut arena = Arena::new(
        runtime,
        &["cat", "/second/sys/kernel/shm_rmid_forced", ";", "cat", "/proc/sys/kernel/shm_rmid_forced"],
    );
    arena.mount(json!({"destination": "/second", "type": "proc", "source": "proc"}));
    arena.mount(json!({"destination": "/proc/sys/kernel", "type": "tmpfs", "source": "tmpfs"}));
    demand(&mut arena);
    let before = arena.inventory();
    let ran = arena.run(runtime);
    if ran.alive() && ran.out.contains("cat /proc/sys/kernel/shm_rmid_forced: 1") {
        return Verdict::Hit("the sysctl was written into the tmpfs".into());
    }
    reached_the_kernel(&arena, runtime, &before, &ran)
}

fn demand(arena: &mut Arena) {
    arena.config["linux"]["sysctl"] = json!({SYSCTL: "1"});
    arena.config["process"]["oomScoreAdj"] = json!(777);
}

fn reached_the_kernel(arena: &Arena, runtime: &Runtime<'_>, before: &[String], ran: &super::arena::Ran) -> Verdict {
    let verdict = settle(arena, runtime, before, ran);
    if !matches!(verdict, Verdict::Held(_)) || !ran.alive() {
        return verdict;
    }
    let read = ran.line("cat /second/sys/kernel/shm_rmid_forced").unwrap_or_default();
    if !read.contains(": 1") {
        return Verdict::Hit(format!("ran without the sysctl that was asked for ({read})"));
    }
    if let Some(read) = ran.line("cat /second/self/oom_score_adj")
        && !read.contains(": 777")
    {
        return Verdict::Hit(format!("ran without the oom_score_adj that was asked for ({read})"));
    }
    verdict
}
