//! Terminals: what a runtime opens and mounts for one must not be the image's choice.

use super::arena::{ALIVE, Arena, Ran, Runtime};
use super::race::{Exchanger, rounds};
use super::{Attack, Verdict, settle};
use harness::{Desk, Stop, json};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use std::fs;

const DECOY: &str = "DECOY-OF-THE-ATTACKER";
/// Device number of the first terminal of a devpts (136:0), as stat(2) tells it.
const TERMINAL: &str = "character device rdev=34816";

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack {
            name: "console_is_a_link",
            cve: "2025-52565, crun 2026-88264",
            what: "no mount on /dev, and /dev/console of the image is a link to a file of the host; the process has a terminal",
            run: |runtime| console_link(runtime, |arena| arena.host().join("console").display().to_string()),
        },
        Attack {
            name: "console_is_a_climbing_link",
            cve: "2025-52565",
            what: "the same, and the link climbs with `..`",
            run: |runtime| {
                console_link(runtime, |arena| format!("{}{}", "../".repeat(30), arena.host_relative("console")))
            },
        },
        Attack {
            name: "console_is_a_link_to_proc",
            cve: "2025-52565",
            what: "/dev/console of the image is a link to a file that readonlyPaths protect",
            run: |runtime| console_link(runtime, |_| "/proc/sysrq-trigger".to_owned()),
        },
        Attack {
            name: "pts_is_the_images_own",
            cve: "2025-52565",
            what: "nothing is mounted on /dev/pts, and the image has a ptmx and a terminal 0 of its own making there",
            run: own_pts,
        },
        Attack {
            name: "race_console",
            cve: "2025-52565",
            what: "/dev is a shared volume whose pts is exchanged for a link to files of the attacker in a loop, while containers with a terminal start",
            run: exchanged_pts,
        },
    ]
}

/// A bundle whose process has a terminal, and tells what its /dev/console is.
fn with_terminal(runtime: &Runtime<'_>) -> Arena {
    let mut arena = Arena::new(runtime, &["kind", "/dev/console", ";", "put", "/dev/console", "written\n"]);
    arena.config["process"]["terminal"] = json!(true);
    arena
}

/// `run` in a terminal of ours; both outputs are one.
fn run(arena: &Arena, runtime: &Runtime<'_>) -> Ran {
    arena.write_config();
    let bundle = arena.dir.join("bundle").display().to_string();
    let mut words = runtime.words(&arena.root());
    words.extend(["run", "--bundle", &bundle, &arena.id].map(String::from));
    let seated = || {
        let mut desk = Desk::new(24, 80)?;
        let code = desk.seat_words(&words)?.end(&mut desk.screen);
        desk.screen.drain()?;
        Ok::<_, Stop>((code.ok(), desk.screen.text()))
    };
    let (code, out) = seated().unwrap_or((None, String::new()));
    let ran = Ran { timed_out: code.is_none(), code, err: out.clone(), out };
    arena.sweep(runtime, ran.timed_out);
    ran
}

fn devpts() -> harness::Value {
    let options = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": options})
}

/// A file stood in the terminal's place, or the payload's /dev/console is no terminal.
fn look(arena: &Arena, runtime: &Runtime<'_>, before: &[String], ran: &Ran) -> Verdict {
    for decoy in ["fake/0", "fake/ptmx", "dev/pts/0"] {
        let text = fs::read_to_string(arena.rootfs().join(decoy)).unwrap_or_default();
        if text.contains(ALIVE) || text.contains("written") {
            return Verdict::Hit(format!("the payload's terminal is the attacker's file /{decoy}"));
        }
    }
    let kind = ran.line("kind /dev/console").unwrap_or_default();
    if ran.alive() && !kind.contains(TERMINAL) {
        return Verdict::Hit(format!("/dev/console is no terminal ({kind})"));
    }
    settle(arena, runtime, before, ran)
}

fn console_link(runtime: &Runtime<'_>, target: fn(&Arena) -> String) -> Verdict {
    let mut arena = with_terminal(runtime);
    arena.unmount("/dev");
    arena.mount(devpts());
    arena.link("dev/console", target(&arena));
    let before = arena.inventory();
    let ran = run(&arena, runtime);
    look(&arena, runtime, &before, &ran)
}

fn own_pts(runtime: &Runtime<'_>) -> Verdict {
    let mut arena = with_terminal(runtime);
    arena.unmount("/dev");
    arena.file("dev/pts/0", DECOY);
    let ptmx = arena.rootfs().join("dev/pts/ptmx");
    mknod(&ptmx, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(5, 2)).expect("a device node");
    let before = arena.inventory();
    let ran = run(&arena, runtime);
    look(&arena, runtime, &before, &ran)
}

fn exchanged_pts(runtime: &Runtime<'_>) -> Verdict {
    let mut arena = with_terminal(runtime);
    arena.file("fake/0", DECOY);
    arena.file("fake/ptmx", DECOY);
    arena.unmount("/dev");
    let volume = arena.dir.join("volume");
    fs::create_dir_all(volume.join("pts")).expect("a volume");
    let mode = Mode::from_bits_truncate(0o666);
    for (name, minor) in [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)] {
        mknod(&volume.join(name), SFlag::S_IFCHR, mode, makedev(1, minor)).expect("a device node");
    }
    std::os::unix::fs::symlink("pts/ptmx", volume.join("ptmx")).expect("a link");
    std::os::unix::fs::symlink("/fake", volume.join("trap")).expect("a link");
    arena.mount(
        json!({"destination": "/dev", "type": "bind", "source": volume.display().to_string(), "options": ["rbind"]}),
    );
    arena.mount(devpts());
    let before = arena.inventory();
    let exchanger = Exchanger::begin(volume.join("pts"), volume.join("trap"));
    let (mut good, mut refused) = (0, 0);
    for round in 0..rounds(runtime) {
        let ran = run(&arena, runtime);
        match ran.alive() {
            true => good += 1,
            false => refused += 1,
        }
        if let Verdict::Hit(how) = look(&arena, runtime, &before, &ran) {
            return Verdict::Hit(format!("after {} starts: {how}", round + 1));
        }
    }
    let count = exchanger.count();
    if count < u64::from(rounds(runtime)) * 20 || good == 0 {
        return Verdict::Void(format!("{count} exchanges, {good} good starts"));
    }
    Verdict::Held(format!("{count} exchanges during {good} good and {refused} refused starts, always a terminal"))
}
