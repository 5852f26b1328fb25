//! The runtime's own executable: no container may write to the file on the host (CVE-2019-5736).
//!
//! Every runtime here is a copy in the arena, never the installed file.

use super::arena::{ALIVE, Arena, Ran, Runtime, capture};
use super::{Attack, Verdict};
use harness::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub(super) const EVIL: &str = "#!overwritten";

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack {
            name: "exe_as_entrypoint",
            cve: "2019-5736",
            what: "process.args[0] is /proc/self/exe: the runtime would execute itself inside the container",
            run: |runtime| entrypoint(runtime, "/proc/self/exe"),
        },
        Attack {
            name: "exe_as_interpreter",
            cve: "2019-5736",
            what: "the entrypoint is a script whose interpreter is /proc/self/exe",
            run: |runtime| entrypoint(runtime, "/script"),
        },
        Attack {
            name: "exe_overwritten_by_a_neighbour",
            cve: "2019-5736",
            what: "a process of a shared pid namespace opens the executable of every new process and writes to it when it ends",
            run: |runtime| neighbour(runtime, false),
        },
        Attack {
            name: "exe_overwritten_by_a_privileged_neighbour",
            cve: "2019-5736",
            what: "the same with every capability, CAP_SYS_PTRACE and CAP_DAC_OVERRIDE among them",
            run: |runtime| neighbour(runtime, true),
        },
    ]
}

pub(super) fn copy_of(runtime: &Runtime<'_>, arena: &Arena) -> PathBuf {
    let copy = arena.dir.join("runtime-copy");
    fs::copy(&runtime.program, &copy).expect("a copy of the runtime");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o777)).expect("its mode");
    copy
}

/// None while the copy is as the original.
pub(super) fn damage(runtime: &Runtime<'_>, copy: &Path) -> Option<Verdict> {
    let same = fs::read(&runtime.program).ok() == fs::read(copy).ok();
    (!same).then(|| Verdict::Hit("the runtime's executable on the host was overwritten".into()))
}

fn entrypoint(runtime: &Runtime<'_>, program: &str) -> Verdict {
    // A neighbour of the same container cannot be had before its first process; this one looks from the same pid namespace.
    let (outer, watcher) = match watch(runtime, true, "2") {
        Ok(pair) => pair,
        Err(verdict) => return verdict,
    };
    let mut arena = Arena::new(runtime, &[]);
    let copy = copy_of(runtime, &arena);
    arena.file("script", "#!/proc/self/exe\n");
    fs::set_permissions(arena.rootfs().join("script"), fs::Permissions::from_mode(0o755)).expect("a mode");
    arena.config["process"]["args"] = json!([program, "--version"]);
    join_pid(&mut arena, outer.pid);
    let mut starts = 0;
    let mut last = None;
    while !watcher.is_finished() && starts < 12 {
        last = Some(arena.run(&runtime.at(&copy)));
        starts += 1;
    }
    let seen = watcher.join().expect("the watcher's thread");
    if let Some(hit) = damage(runtime, &copy) {
        return hit;
    }
    attempted(&seen, starts, last)
}

fn neighbour(runtime: &Runtime<'_>, privileged: bool) -> Verdict {
    if privileged && let Err(verdict) = the_watcher_can_win(runtime) {
        return verdict;
    }
    let (outer, watcher) = match watch(runtime, privileged, "2") {
        Ok(pair) => pair,
        Err(verdict) => return verdict,
    };
    let mut arena = Arena::new(runtime, &["wait", "20"]);
    let copy = copy_of(runtime, &arena);
    join_pid(&mut arena, outer.pid);
    let mut starts = 0;
    let mut good = 0;
    let mut last = None;
    while !watcher.is_finished() {
        let ran = arena.run(&runtime.at(&copy));
        starts += 1;
        good += u32::from(ran.alive());
        last = Some(ran);
    }
    let seen = watcher.join().expect("the watcher's thread");
    if let Some(hit) = damage(runtime, &copy) {
        return hit;
    }
    if good == 0 {
        return Verdict::Void(format!(
            "no container started beside the watcher: {}",
            last.map(|ran| ran.said()).unwrap_or_default()
        ));
    }
    attempted(&seen, starts, last)
}

pub(super) fn attempted(seen: &Ran, starts: u32, last: Option<Ran>) -> Verdict {
    let Some(line) = seen.line("seized nothing").or_else(|| seen.line("OVERWROTE")) else {
        return Verdict::Void(format!("the watcher said {:?} {}", seen.out, seen.said()));
    };
    let said = last.map(|ran| ran.said()).unwrap_or_default();
    if line.contains("executables 0, refused looks 0,") {
        return Verdict::Void(format!("the watcher saw no foreign process in {starts} starts: {said}"));
    }
    Verdict::Held(format!("the file is unchanged after {starts} starts; watcher: {line}"))
}

/// A container that is deleted when it goes out of sight.
struct Outer<'h> {
    runtime: Runtime<'h>,
    dir: PathBuf,
    id: String,
    pid: i64,
}

impl Drop for Outer<'_> {
    fn drop(&mut self) {
        let mut line = self.runtime.words(&self.dir.join("state"));
        line.extend(["delete", "--force", &self.id].map(String::from));
        let _ = Command::new(&line[0]).args(&line[1..]).output();
    }
}

/// What a container may be given that is trusted with much.
pub(super) fn give_all(arena: &mut Arena) {
    let capabilities: Value = json!([
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_DAC_READ_SEARCH",
        "CAP_FOWNER",
        "CAP_SYS_PTRACE",
        "CAP_SYS_ADMIN",
        "CAP_KILL",
        "CAP_SETUID",
        "CAP_SETGID",
        "CAP_NET_ADMIN",
        "CAP_NET_RAW",
        "CAP_SYS_CHROOT",
        "CAP_MKNOD",
        "CAP_SETPCAP"
    ]);
    for set in ["bounding", "effective", "permitted"] {
        arena.config["process"]["capabilities"][set] = capabilities.clone();
    }
}

type Watcher = std::thread::JoinHandle<Ran>;

/// Runs a container whose payload watches its pid namespace for a few seconds.
fn watch<'h>(runtime: &Runtime<'h>, privileged: bool, seconds: &str) -> Result<(Outer<'h>, Watcher), Verdict> {
    let mut arena = Arena::new(runtime, &["seize", seconds, EVIL]);
    if privileged {
        give_all(&mut arena);
    }
    let (dir, id) = (arena.dir.clone(), arena.id.clone());
    let mut words = runtime.words(&arena.root());
    words.extend(["state", &id].map(String::from));
    let watcher = std::thread::spawn({
        let runtime = (runtime.name.clone(), runtime.words(&arena.root()));
        arena.write_config();
        move || {
            let mut line = runtime.1;
            line.extend(
                ["run", "--bundle", &arena.dir.join("bundle").display().to_string(), &arena.id].map(String::from),
            );
            let mut command = Command::new(&line[0]);
            command.args(&line[1..]).current_dir(&arena.dir);
            capture(command, Duration::from_secs(15))
        }
    });
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end && !watcher.is_finished() {
        let state = Command::new(&words[0]).args(&words[1..]).output();
        let state = state.ok().and_then(|output| serde_json::from_slice::<Value>(&output.stdout).ok());
        if let Some(state) = state
            && state["status"] == "running"
            && let Some(pid @ 1..) = state["pid"].as_i64()
        {
            return Ok((Outer { runtime: runtime.clone(), dir, id, pid }, watcher));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let said = watcher.join().map(|ran| format!("{} {}", ran.out, ran.said())).unwrap_or_default();
    Err(Verdict::Void(format!("the watching container did not start: {said}")))
}

fn join_pid(arena: &mut Arena, pid: i64) {
    for namespace in arena.config["linux"]["namespaces"].as_array_mut().expect("namespaces") {
        if namespace["type"] == "pid" {
            namespace["path"] = json!(format!("/proc/{pid}/ns/pid"));
        }
    }
}

/// A naive runtime, one that joins the pid namespace as the file it is, falls to this watcher.
pub(super) fn the_watcher_can_win(runtime: &Runtime<'_>) -> Result<(), Verdict> {
    let (outer, watcher) = watch(runtime, true, "8")?;
    let naive = outer.dir.join("naive-runtime");
    let program = runtime.host.payload().with_file_name("attacker");
    fs::copy(&program, &naive).expect("a copy");
    // The watcher may win against nsenter too, so that is a copy as well.
    let entry = outer.dir.join("nsenter");
    if let Err(error) = fs::copy("/usr/bin/nsenter", &entry) {
        return Err(Verdict::Void(format!("a copy of nsenter: {error}")));
    }
    while !watcher.is_finished() {
        let mut command = Command::new(&entry);
        command.args(["-t", &outer.pid.to_string(), "-p", "--"]).arg(&naive).args(["say", ALIVE, ";", "wait", "50"]);
        if !capture(command, Duration::from_secs(5)).alive() {
            break;
        }
    }
    let seen = watcher.join().expect("the watcher's thread");
    match seen.out.contains("OVERWROTE") {
        true => Ok(()),
        false => Err(Verdict::Void(format!("the watcher cannot even overwrite a naive runtime: {}", seen.out))),
    }
}
