//! `exec` under attack: the container is running, so whoever owns it looks at the process that joins, and has made ready
//! what that will meet.

use super::arena::{ALIVE, Arena, Ran, Runtime, SECRET, capture};
use super::descriptors::holding;
use super::executable::{EVIL, attempted, copy_of, damage, give_all, the_watcher_can_win};
use super::{Attack, Verdict};
use harness::{Value, json};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack {
            name: "exec_is_looked_into",
            cve: "2016-9962",
            what: "root of the container tries descriptors, root, cwd, environ and mem of every process that joins; the caller has the capabilities that the container has, and holds 3-9 on a directory of the host",
            run: |runtime| looked_into(runtime, false),
        },
        Attack {
            name: "exec_is_looked_into_by_a_tracer",
            cve: "2016-9962",
            what: "the same with CAP_SYS_PTRACE, and the caller has all: what is to be seen must not lead to the host",
            run: |runtime| looked_into(runtime, true),
        },
        Attack {
            name: "exec_of_a_shell_that_is_exe",
            cve: "2019-5736",
            what: "/bin/sh of the image is a script whose interpreter is /proc/self/exe; the container writes to the executable of whoever joins",
            run: interpreter,
        },
        Attack {
            name: "exec_cwd_is_a_descriptor",
            cve: "2024-21626",
            what: "the directory of exec is /proc/self/fd/N for N of 3-20, by flag and by process object, while the caller holds 3-9 on a directory of the host, kept from the process or handed on",
            run: cwd,
        },
        Attack {
            name: "exec_passwd_is_a_fifo",
            cve: "denial of service",
            what: "the container makes its /etc/passwd a FIFO before exec looks for HOME",
            run: |runtime| {
                passwd(runtime, |arena| {
                    mkfifo(&arena.rootfs().join("etc/passwd"), Mode::from_bits_truncate(0o644)).expect("a FIFO");
                })
            },
        },
        Attack {
            name: "exec_passwd_is_endless",
            cve: "denial of service",
            what: "the container makes its /etc/passwd a link to /dev/zero before exec looks for HOME",
            run: |runtime| passwd(runtime, |arena| arena.link("etc/passwd", "/dev/zero")),
        },
        Attack {
            name: "exec_passwd_is_huge",
            cve: "denial of service",
            what: "the container makes its /etc/passwd 1 GiB of holes, without a line end, before exec looks for HOME",
            run: |runtime| {
                passwd(runtime, |arena| {
                    let file = fs::File::create(arena.rootfs().join("etc/passwd")).expect("a file");
                    file.set_len(1 << 30).expect("its length");
                })
            },
        },
    ]
}

/// A running container, deleted when it goes out of sight.
struct Running<'h> {
    arena: Arena,
    runtime: Runtime<'h>,
    pid: i64,
    own: Option<JoinHandle<Ran>>,
}

impl<'h> Running<'h> {
    fn start(arena: Arena, runtime: &Runtime<'h>) -> Result<Self, Verdict> {
        arena.write_config();
        let mut line = runtime.words(&arena.root());
        let bundle = arena.dir.join("bundle").display().to_string();
        line.extend(["run", "--bundle", &bundle, &arena.id].map(String::from));
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).current_dir(&arena.dir);
        let own = Some(std::thread::spawn(move || capture(command, Duration::from_secs(40))));
        let mut running = Running { arena, runtime: runtime.clone(), pid: 0, own };
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end && !running.ended() {
            let state = running.arena.say(runtime, &["state", &running.arena.id], Duration::from_secs(5));
            if let Ok(state) = serde_json::from_str::<Value>(&state.out)
                && state["status"] == "running"
            {
                running.pid = state["pid"].as_i64().unwrap_or(0);
                return Ok(running);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(Verdict::Void("the container did not start".into()))
    }

    fn ended(&self) -> bool {
        self.own.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn exec(&self, runtime: &Runtime<'_>, flags: &[&str], command: &[&str]) -> Ran {
        let words = [&["exec"], flags, &[&self.arena.id], command].concat();
        self.arena.say(runtime, &words, self.arena.limit)
    }

    /// What the container's own process said, when it ends by itself.
    fn said(&mut self) -> Ran {
        self.own.take().expect("asked once").join().expect("the container's thread")
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.arena.wrapper = None;
        self.arena.sweep(&self.runtime, true);
        if let Some(own) = self.own.take() {
            let _ = own.join();
        }
    }
}

/// A container whose payload looks into whatever joins it.
fn prying<'h>(runtime: &Runtime<'h>, tracer: bool) -> Result<Running<'h>, Verdict> {
    let arena = Arena::new(runtime, &[]);
    let secret = arena.host_relative("secret");
    let mut arena = arena.payload(&["pry", "15", &secret]);
    give_all(&mut arena);
    let mut wrapper = holding(&arena);
    if !tracer {
        // The caller gets no more than the container has: nothing but the runtime's own care is in the way.
        for set in ["bounding", "effective", "permitted"] {
            let names = arena.config["process"]["capabilities"][set].as_array_mut().expect("capabilities");
            names.retain(|name| name != "CAP_SYS_PTRACE");
        }
        let names = arena.config["process"]["capabilities"]["bounding"].as_array().expect("capabilities");
        let words = names.iter().filter_map(Value::as_str).fold(String::from("-all"), |words, name| {
            format!("{words},+{}", name.trim_start_matches("CAP_").to_lowercase())
        });
        wrapper = wrapper.replace("exec \"$@\"", &format!("exec setpriv --bounding-set={words} \"$@\""));
    }
    let mut running = Running::start(arena, runtime)?;
    running.arena.wrapper = Some(wrapper);
    Ok(running)
}

fn looked_into(runtime: &Runtime<'_>, tracer: bool) -> Verdict {
    if let Err(verdict) = the_prying_can_win(runtime, tracer) {
        return verdict;
    }
    let mut running = match prying(runtime, tracer) {
        Ok(running) => running,
        Err(verdict) => return verdict,
    };
    let before = running.arena.inventory();
    let (mut good, mut last) = (0, None);
    for _ in 0..50 {
        let ran = running.exec(runtime, &[], &["/attacker", "say", ALIVE]);
        good += u32::from(ran.alive());
        last = Some(ran);
        if running.ended() {
            break;
        }
    }
    running.arena.file("stop", "");
    let seen = running.said();
    if seen.out.contains("REACHED") || seen.out.contains("LOOKED") || seen.out.contains(SECRET) {
        return Verdict::Hit(seen.out.trim().replace(SECRET, "SECRET"));
    }
    if running.arena.inventory() != before {
        return Verdict::Hit("the host's directory was changed".into());
    }
    let Some(line) = seen.line("reached nothing") else {
        return Verdict::Void(format!("the container said {:?} {}", seen.out, seen.said()));
    };
    if good == 0 {
        return Verdict::Void(format!("no process joined: {}", last.map(|ran| ran.said()).unwrap_or_default()));
    }
    if line.contains("looks 0, refused looks 0,") {
        return Verdict::Void(format!("none of {good} processes was seen before its exec"));
    }
    if !tracer && !line.contains(" looks 0, refused") {
        return Verdict::Hit(format!("who joins can be looked into: {line}"));
    }
    Verdict::Held(format!("{good} processes joined; the container {line}"))
}

/// A naive runtime, one that joins the pid namespace with all that it has from its caller, falls to this container. Where
/// that may not trace, the runtime has to be without capabilities for that.
fn the_prying_can_win(runtime: &Runtime<'_>, tracer: bool) -> Result<(), Verdict> {
    let mut running = prying(runtime, tracer)?;
    let naive = running.arena.dir.join("naive-runtime");
    fs::copy(runtime.host.payload().with_file_name("attacker"), &naive).expect("a copy");
    let drop: &[&str] = if tracer { &[] } else { &["setpriv", "--bounding-set=-all"] };
    while !running.ended() {
        let mut command = Command::new("sh");
        command.args(["-c", &holding(&running.arena), "sh", "nsenter", "-t", &running.pid.to_string(), "-p", "--"]);
        command.args(drop).arg(&naive).args(["say", ALIVE, ";", "wait", "50"]);
        if !capture(command, Duration::from_secs(5)).alive() {
            break;
        }
    }
    let seen = running.said();
    match seen.out.contains("REACHED the host through ") {
        true => Ok(()),
        false => Err(Verdict::Void(format!("not even a naive runtime can be looked into: {}", seen.out))),
    }
}

fn interpreter(runtime: &Runtime<'_>) -> Verdict {
    if let Err(verdict) = the_watcher_can_win(runtime) {
        return verdict;
    }
    let mut arena = Arena::new(runtime, &["seize", "3", EVIL]);
    give_all(&mut arena);
    arena.file("bin/sh", "#!/proc/self/exe\n");
    fs::set_permissions(arena.rootfs().join("bin/sh"), fs::Permissions::from_mode(0o755)).expect("a mode");
    let copy = copy_of(runtime, &arena);
    let mut running = match Running::start(arena, runtime) {
        Ok(running) => running,
        Err(verdict) => return verdict,
    };
    let (mut starts, mut last) = (0, None);
    while !running.ended() && starts < 50 {
        last = Some(running.exec(&runtime.at(&copy), &[], &["/bin/sh"]));
        starts += 1;
    }
    let seen = running.said();
    if let Some(hit) = damage(runtime, &copy) {
        return hit;
    }
    if let Some(line) = seen.line("OVERWROTE") {
        return Verdict::Hit(format!("the container {line}"));
    }
    if seen.out.contains("foreign executables 0,") {
        return Verdict::Void(format!("the container saw no foreign executable in {starts} starts"));
    }
    attempted(&seen, starts, last)
}

fn cwd(runtime: &Runtime<'_>) -> Verdict {
    let arena = Arena::new(runtime, &["wait", "40000"]);
    // The way of the payload's own working directory alone: descriptors may be handed on.
    let secret = format!("{}{}", "../".repeat(24), arena.host_relative("secret"));
    let mut running = match Running::start(arena, runtime) {
        Ok(running) => running,
        Err(verdict) => return verdict,
    };
    running.arena.wrapper = Some(holding(&running.arena));
    let command = ["/attacker", "say", ALIVE, ";", "cwd", ";", "cat", &secret];
    let mut probe = Command::new("sh");
    probe.args(["-c", "cd /proc; exec \"$@\"", "sh"]);
    probe.arg(runtime.host.payload().with_file_name("attacker")).args(&command[1..]);
    let probe = capture(probe, Duration::from_secs(5));
    if !probe.out.contains(SECRET) {
        return Verdict::Void(format!("the probe finds nothing even on the host: {}", probe.out));
    }
    let before = running.arena.inventory();
    let (mut ran_well, mut refused) = (0, 0);
    for number in 3..=20 {
        let dir = format!("/proc/self/fd/{number}");
        let mut process = running.arena.config["process"].clone();
        process["args"] = json!(command);
        process["cwd"] = json!(dir);
        let file = running.arena.dir.join("process.json");
        fs::write(&file, process.to_string()).expect("process.json");
        let file = file.display().to_string();
        let ways: [(&[&str], &[&str]); 4] = [
            (&["--cwd", &dir], &command),
            (&["--preserve-fds", "7", "--cwd", &dir], &command),
            (&["--process", &file], &[]),
            (&["--preserve-fds", "7", "--process", &file], &[]),
        ];
        for (flags, command) in ways {
            let ran = running.exec(runtime, flags, command);
            let outside = ran.line("cwd ").is_some_and(|line| line.contains("unreachable") || line.contains("error"));
            if ran.out.contains(SECRET) || outside {
                return Verdict::Hit(format!("exec {} {dir} stands outside of the root", flags[0]));
            }
            if ran.timed_out {
                return Verdict::Hit(format!("the runtime hangs ({})", ran.said()));
            }
            match ran.alive() {
                true => ran_well += 1,
                false => refused += 1,
            }
        }
    }
    if running.arena.inventory() != before {
        return Verdict::Hit("the host's directory was changed".into());
    }
    let control = running.exec(runtime, &["--preserve-fds", "7", "--cwd", "/proc"], &command);
    if !control.alive() {
        return Verdict::Void(format!("not even a good directory is joined: {}", control.said()));
    }
    Verdict::Held(format!("{refused} refused, {ran_well} ran inside their root"))
}

/// The command must run, in bounded time and memory: 512 MiB of address space, where the runtime can live with that.
fn passwd(runtime: &Runtime<'_>, prepare: fn(&Arena)) -> Verdict {
    let mut arena = Arena::new(runtime, &["wait", "40000"]);
    arena.limit = Duration::from_secs(8);
    let mut running = match Running::start(arena, runtime) {
        Ok(running) => running,
        Err(verdict) => return verdict,
    };
    let command = ["/attacker", "say", ALIVE, ";", "env"];
    running.arena.file("etc/passwd", "root:x:0:0::/from-passwd:/\n");
    let control = running.exec(runtime, &[], &command);
    if !control.out.contains("HOME=/from-passwd") {
        return Verdict::Void(format!("exec does not read passwd: {} {}", control.out, control.said()));
    }
    fs::remove_file(running.arena.rootfs().join("etc/passwd")).expect("no passwd");
    prepare(&running.arena);
    if runtime.is_wharf() {
        running.arena.wrapper = Some("ulimit -v 524288; exec \"$@\"".into());
    }
    let ran = running.exec(runtime, &[], &command);
    if ran.timed_out {
        return Verdict::Hit(format!("the runtime hangs ({})", ran.said()));
    }
    match ran.alive() {
        true => Verdict::Held("ran, the host untouched".into()),
        // A refusal would be a denial of service too, but a lesser one than a hang.
        false if runtime.is_wharf() => Verdict::Hit(format!("the command does not run: {}", ran.said())),
        false => Verdict::Held(format!("refused: {}", running.arena.anonymous(&ran.said()))),
    }
}
