//! Who the payload is: numbers stay numbers, the image's passwd is read with care, and no capability slips in.

use super::arena::{Arena, Ran, Runtime, SECRET, capture};
use super::{Attack, Verdict, settle};
use harness::json;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::fs;
use std::process::Command;
use std::time::Duration;

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack {
            name: "user_number_is_a_name_in_passwd",
            cve: "2016-3697, crun 2026-30892",
            what: "uid 1 is asked for, and the image's passwd has a user named 1 with uid 0",
            run: numeric_name,
        },
        Attack {
            name: "passwd_is_a_fifo",
            cve: "denial of service",
            what: "the image's /etc/passwd is a FIFO that nobody writes to",
            run: |runtime| {
                passwd(runtime, |arena| {
                    mkfifo(&arena.rootfs().join("etc/passwd"), Mode::from_bits_truncate(0o644)).expect("a FIFO");
                })
            },
        },
        Attack {
            name: "passwd_is_endless",
            cve: "denial of service",
            what: "the image's /etc/passwd is a link to /dev/zero",
            run: |runtime| passwd(runtime, |arena| arena.link("etc/passwd", "/dev/zero")),
        },
        Attack {
            name: "passwd_is_huge",
            cve: "denial of service",
            what: "the image's /etc/passwd is 1 GiB of holes, without a line end",
            run: |runtime| {
                passwd(runtime, |arena| {
                    let file = fs::File::create(arena.rootfs().join("etc/passwd")).expect("a file");
                    file.set_len(1 << 30).expect("its length");
                })
            },
        },
        Attack {
            name: "passwd_is_a_link_to_the_host",
            cve: "2019-18837",
            what: "the image's /etc/passwd is a link to a file of the host; HOME would tell its content",
            run: passwd_of_the_host,
        },
        Attack {
            name: "capabilities_are_inheritable",
            cve: "2022-29162, crun 2022-27650, youki 2025-27612",
            what: "the caller has inheritable capabilities, the config asks for none",
            run: inheritable,
        },
        Attack {
            name: "groups_of_the_caller",
            cve: "2022-2995",
            what: "the caller has supplementary groups, the config asks for none",
            run: groups,
        },
    ]
}

fn numeric_name(runtime: &Runtime<'_>) -> Verdict {
    let mut arena = Arena::new(runtime, &["status", "Uid", ";", "status", "Gid", ";", "env"]);
    arena.file("etc/passwd", "1:x:0:0::/home-of-the-name:/\nroot:x:0:0::/root:/\nreal:x:1:1::/home-of-the-number:/\n");
    arena.file("etc/group", "1:x:0:\n");
    arena.config["process"]["user"] = json!({"uid": 1, "gid": 1});
    let before = arena.inventory();
    let ran = arena.run(runtime);
    if ran.alive() && ran.line("status Uid") != Some("status Uid: 1\t1\t1\t1") {
        return Verdict::Hit(format!("the payload runs as {:?}", ran.line("status Uid")));
    }
    if ran.alive() && ran.line("status Gid") != Some("status Gid: 1\t1\t1\t1") {
        return Verdict::Hit(format!("the payload runs as {:?}", ran.line("status Gid")));
    }
    if ran.out.contains("home-of-the-name") {
        return Verdict::Hit("HOME was taken by the name".into());
    }
    must_run(&arena, runtime, &before, &ran)
}

/// The container must run, in bounded time and memory: 512 MiB of address space, where the runtime can live with that.
fn passwd(runtime: &Runtime<'_>, prepare: fn(&Arena)) -> Verdict {
    let mut arena = Arena::new(runtime, &["env"]);
    prepare(&arena);
    if runtime.is_wharf() {
        arena.wrapper = Some("ulimit -v 524288; exec \"$@\"".into());
    }
    arena.limit = Duration::from_secs(8);
    let before = arena.inventory();
    let ran = arena.run(runtime);
    if ran.alive() && !ran.out.contains("HOME=") {
        return Verdict::Void("the runtime sets no HOME, so passwd may not have been read".into());
    }
    must_run(&arena, runtime, &before, &ran)
}

/// A refusal would be a denial of service too, but a lesser one than a hang.
fn must_run(arena: &Arena, runtime: &Runtime<'_>, before: &[String], ran: &Ran) -> Verdict {
    let verdict = settle(arena, runtime, before, ran);
    if runtime.is_wharf() && matches!(verdict, Verdict::Held(_)) && !ran.alive() {
        return Verdict::Hit(format!("the container does not run: {}", ran.said()));
    }
    verdict
}

fn passwd_of_the_host(runtime: &Runtime<'_>) -> Verdict {
    let arena = Arena::new(runtime, &["env"]);
    fs::write(arena.host().join("passwd"), format!("root:x:0:0::/{SECRET}:/\n")).expect("a file");
    arena.link("etc/passwd", arena.host().join("passwd"));
    let before = arena.inventory();
    let ran = arena.run(runtime);
    must_run(&arena, runtime, &before, &ran)
}

fn inheritable(runtime: &Runtime<'_>) -> Verdict {
    let mut arena = Arena::new(runtime, &["status", "CapInh", ";", "status", "CapAmb", ";", "status", "CapPrm"]);
    let prefix = "setpriv --inh-caps +net_raw,+sys_chroot";
    let mut probe = Command::new("sh");
    probe.args(["-c", &format!("exec {prefix} \"$@\""), "sh"]).arg(runtime.host.payload().with_file_name("attacker"));
    probe.args(["status", "CapInh"]);
    let probe = capture(probe, Duration::from_secs(5));
    if !probe.out.contains("status CapInh: 0000000000042000") {
        return Verdict::Void(format!("setpriv cannot give inheritable capabilities: {} {}", probe.out, probe.said()));
    }
    arena.wrapper = Some(format!("exec {prefix} \"$@\""));
    let before = arena.inventory();
    let ran = arena.run(runtime);
    for set in ["CapInh", "CapAmb"] {
        let none = format!("status {set}: 0000000000000000");
        if ran.alive() && ran.line(&format!("status {set}")) != Some(&none) {
            return Verdict::Hit(format!("the payload has {:?}", ran.line(&format!("status {set}"))));
        }
    }
    must_run(&arena, runtime, &before, &ran)
}

fn groups(runtime: &Runtime<'_>) -> Verdict {
    let mut arena = Arena::new(runtime, &["status", "Groups"]);
    arena.wrapper = Some("exec setpriv --groups 4,27 \"$@\"".into());
    arena.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    let before = arena.inventory();
    let ran = arena.run(runtime);
    let line = ran.line("status Groups").unwrap_or_default();
    if line.contains(" 4") || line.contains("27") {
        return Verdict::Hit(format!("the payload has {line}"));
    }
    must_run(&arena, runtime, &before, &ran)
}
