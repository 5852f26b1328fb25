//! Shell scripts as the other runtime: good ones, and every kind of bad one.

use super::*;
use serde_json::json;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::sync::OnceLock;
use std::time::Instant;
use wharf_core::{Bundle, CgroupPaths, Log, Opaque, RECORD_VERSION};

/// Its calls are `--root R --log F --log-format X VERB ...`. It keeps a container as runc does, in R/ID.
const HONEST: &str = r#"
root=$2; shift 6; verb=$1; shift
echo "$verb $*" >> "$root.calls"
for id; do :; done
case $verb in
create) mkdir "$root/$id"; sleep 1000 >/dev/null 2>&1 & echo "{\"status\":\"created\",\"pid\":$!}" > "$root/$id/state" ;;
state) cat "$root/$id/state" 2>/dev/null || { echo "container does not exist" >&2; exit 1; } ;;
kill) echo "container not running" >&2; exit 1 ;;
delete) sed 's/.*"pid":\([0-9]*\).*/\1/' "$root/$id/state" | xargs -r kill; rm -r "$root/$id" ;;
start) echo "a warning" >&2 ;;
esac"#;

const SCRIPTS: &[(&str, &str)] = &[
    ("honest", HONEST),
    ("hanging", "exec sleep 1000"),
    ("babbling", "exec yes"),
    ("garbage", "echo hello"),
    ("silent", "exit 3"),
    ("frank", r#"echo "$1 $2 $3" >&2; exit 1"#),
    ("killed", "kill -KILL $$"),
    ("refusing", "echo 'a warning' >&2; echo 'the disk is full' >&2; exit 1"),
    ("curious", r#"env > "$2.env"; ls -l /proc/self/fd > "$2.fds"; echo '{"status":"stopped"}'"#),
    ("failing create", r#"echo '{"level":"error","msg":"no such user"}' > "$4"; exit 1"#),
];

/// All scripts are written before the first is run: a fork in another thread would inherit a script still open for
/// writing, and its exec fails with ETXTBSY then.
fn scripts() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        // Beside the test program, where the next run replaces it.
        let dir = std::env::current_exe().unwrap().with_extension("scripts");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        for (name, body) in SCRIPTS {
            fs::write(dir.join(name), format!("#!/bin/sh\n{body}\n")).unwrap();
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(dir.join("not executable"), "#!/bin/sh\n").unwrap();
        dir
    })
}

/// A state directory with a container of the script's in it.
struct Place {
    delegate: Delegate,
    path: PathBuf,
    dir: File,
    record: Record,
}

impl Place {
    fn new(script: &str) -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = scripts().join(format!("state.{count}"));
        fs::create_dir_all(path.join("delegate/c")).unwrap();
        let program = scripts().join(script);
        let record = Record {
            version: RECORD_VERSION,
            id: "c".to_owned(),
            oci_version: "1.0.2".to_owned(),
            bundle: "/b".to_owned(),
            rootfs: "/b/rootfs".to_owned(),
            backend: "other".to_owned(),
            route: String::new(),
            rule: None,
            argv0: String::new(),
            owner: 0,
            created: "2026-01-01T00:00:00Z".to_owned(),
            state: None,
            init: None,
            engine_pid: 0,
            cgroup: CgroupPaths::default(),
            annotations: Default::default(),
            poststart: Vec::new(),
            poststop: Vec::new(),
            witness: None,
            clones: Vec::new(),
            private: Opaque::of(&json!({ "program": program.to_str() })),
        };
        let mut delegate = Delegate::new("other", program, Vec::new());
        delegate.answer_time = Duration::from_millis(500);
        Place { delegate, dir: File::open(&path).unwrap(), path, record }
    }

    fn has(&self, state: &str) {
        fs::write(self.path.join("delegate/c/state"), state).unwrap();
    }

    fn state(&self) -> Result<(Status, i32)> {
        self.delegate.state(&self.record, self.dir.as_fd())
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.path.join("delegate.calls")).unwrap_or_default()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn bundle() -> Bundle {
    let spec = serde_json::from_value(json!({ "ociVersion": "1.0.2", "root": { "path": "rootfs" } })).unwrap();
    Bundle { dir: PathBuf::from("/b"), spec, raw: Vec::new() }
}

fn refusal(program: &Path) -> String {
    let (id, bundle) = (ContainerId::new("c").unwrap(), bundle());
    match Delegate::new("other", program.to_owned(), Vec::new()).draft(Job::new(&id, &bundle)) {
        Ok(_) => panic!("{} was accepted", program.display()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_program_is_refused_unless_it_is_absolute_present_and_executable() {
    assert_eq!(refusal(Path::new("runc")), "use runc as backend other: the path is not absolute");
    assert_eq!(refusal(Path::new("/nowhere/runc")), "use /nowhere/runc as backend other: No such file or directory");
    assert_eq!(refusal(Path::new("/")), "use / as backend other: it is not a regular file");
    let error = refusal(&scripts().join("not executable"));
    assert!(error.ends_with("as backend other: Permission denied"), "{error}");
}

#[test]
fn the_program_s_own_state_decides() {
    let place = Place::new("honest");
    place.has(r#"{"status":"running","pid":4321}"#);
    assert_eq!(place.state().unwrap(), (Status::Running, 4321));
    assert_eq!(place.delegate.status(&place.record, place.dir.as_fd()).unwrap(), Status::Running);
    place.has(r#"{"status":"stopped","pid":0}"#);
    assert_eq!(place.state().unwrap(), (Status::Stopped, 0));
}

#[test]
fn a_container_that_the_program_does_not_know_does_not_exist() {
    let place = Place::new("honest");
    let error = place.state().unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (Kind::NoSuchContainer, "container c does not exist"));
    let place = Place::new("silent");
    fs::remove_dir(place.path.join("delegate/c")).unwrap();
    assert_eq!(place.state().unwrap_err().kind(), Kind::NoSuchContainer);
}

#[test]
fn an_unknown_container_is_being_created_as_long_as_its_creator_lives() {
    let mut place = Place::new("honest");
    let memory = Memory::new(&place.delegate.program, &[]).unwrap();
    place.record.private = Opaque::of(&memory.value());
    assert_eq!(place.state().unwrap().0, Status::Creating);
    let mut private = memory.value();
    private["creator"]["start_time"] = json!(private["creator"]["start_time"].as_u64().unwrap() - 1);
    place.record.private = Opaque::of(&private);
    assert_eq!(place.state().unwrap_err().kind(), Kind::NoSuchContainer);
}

#[test]
fn a_program_that_hangs_is_killed_in_time() {
    for script in ["hanging", "babbling"] {
        let begun = Instant::now();
        let error = Place::new(script).state().unwrap_err();
        assert_eq!(
            error.to_string(),
            "ask other for the state of container c: it did not answer within 500ms",
            "{script}"
        );
        assert!(begun.elapsed() < Duration::from_secs(5), "{script}");
    }
}

#[test]
fn bad_answers_are_errors_that_say_what_was_bad() {
    for (script, why) in [
        ("garbage", "its answer is no state"),
        ("silent", "it ended with status 3 and said nothing"),
        ("killed", "it was killed by signal 9"),
        ("refusing", "ask other for the state of container c: the disk is full"),
    ] {
        let error = Place::new(script).state().unwrap_err();
        assert!(error.to_string().contains(why) && error.kind() == Kind::System, "{script}: {error}");
    }
}

#[test]
fn a_program_that_vanished_is_named() {
    let mut place = Place::new("honest");
    place.record.private = Opaque::of(&json!({ "program": "/nowhere/runc" }));
    let error = place.state().unwrap_err().to_string();
    assert_eq!(error, "ask other for the state of container c: No such file or directory");
}

#[test]
fn the_program_in_the_record_is_asked_and_not_the_configured_one() {
    let mut place = Place::new("honest");
    place.has(r#"{"status":"running","pid":1}"#);
    place.delegate.program = scripts().join("garbage");
    assert_eq!(place.state().unwrap().0, Status::Running);
}

#[test]
fn the_administrator_s_options_come_first_in_every_call_and_are_those_of_the_record() {
    let (id, bundle) = (ContainerId::new("c").unwrap(), bundle());
    let options = vec!["--cgroup-manager".to_owned(), "cgroupfs".to_owned()];
    let delegate = Delegate::new("other", scripts().join("frank"), options);
    let job = Job::new(&id, &bundle);
    let command = create::call(&delegate, &job, Path::new("/state")).into_command();
    let words: Vec<_> = command.get_args().map(|word| word.to_str().unwrap()).collect();
    assert_eq!(words[..4], ["--cgroup-manager", "cgroupfs", "--root", "/state"]);
    let mut place = Place::new("frank");
    delegate.draft(job).unwrap().describe(&mut place.record);
    // The configured one has none of them by now.
    let error = place.state().unwrap_err().to_string();
    assert!(error.ends_with(": --cgroup-manager cgroupfs --root"), "{error}");
    assert_eq!(
        program(&place.record).unwrap(),
        format!("{} --cgroup-manager cgroupfs", scripts().join("frank").display())
    );
}

#[test]
fn only_a_cgroup_that_is_certainly_the_container_s_own_is_remembered() {
    let own = |path: &str, systemd_cgroup: bool| {
        let (id, mut bundle) = (ContainerId::new("c1").unwrap(), bundle());
        bundle.spec =
            serde_json::from_value(json!({ "ociVersion": "1.0.2", "linux": { "cgroupsPath": path } })).unwrap();
        cgroup::own(&Job { systemd_cgroup, ..Job::new(&id, &bundle) })
    };
    assert_eq!(own("/parent/libpod-c1", false).as_deref(), Some("/parent/libpod-c1"));
    for path in ["/parent", "/c1/leaf", "relative/c1", "c1", "slice:libpod:c1"] {
        assert_eq!(own(path, false), None, "{path}");
    }
    assert_eq!(own("/parent/c1", true), None);
}

#[test]
fn the_words_of_a_failed_verb_reach_the_caller_unchanged() {
    let place = Place::new("honest");
    let error = place.delegate.kill(&place.record, place.dir.as_fd(), 9, true).unwrap_err();
    assert_eq!(error.to_string(), "kill container c with other: container not running");
    assert_eq!(error.kind(), Kind::NotRunning);
    assert_eq!(place.calls(), "kill --all c 9\n");
    let place = Place::new("refusing");
    let error = place.delegate.start(&place.record, place.dir.as_fd()).unwrap_err();
    assert_eq!(error.to_string(), "start container c with other: the disk is full");
}

#[test]
fn a_delete_leaves_nothing_and_a_failed_one_keeps_what_it_needs_to_try_again() {
    let place = Place::new("honest");
    place.has(r#"{"status":"stopped","pid":}"#);
    fs::write(place.path.join("delegate/left behind"), "").unwrap();
    place.delegate.delete(&place.record, place.dir.as_fd()).unwrap();
    assert_eq!(place.calls(), "delete --force c\n");
    assert!(!place.path.join("delegate").exists());
    place.delegate.delete(&place.record, place.dir.as_fd()).unwrap();

    let place = Place::new("refusing");
    let error = place.delegate.delete(&place.record, place.dir.as_fd()).unwrap_err();
    assert_eq!(error.to_string(), "delete container c with other: the disk is full");
    assert!(place.path.join("delegate/c").exists());
}

#[test]
fn the_program_inherits_no_environment_and_no_files() {
    let place = Place::new("curious");
    // Kept over exec, as an engine's forgotten descriptor would be.
    wharf_sys::fd::dup_to(&place.dir, 77).unwrap();
    place.state().unwrap();
    let environment = fs::read_to_string(place.path.join("delegate.env")).unwrap();
    let names: Vec<&str> = environment.lines().filter_map(|line| line.split('=').next()).collect();
    let allowed = ["PATH", "PWD", "OLDPWD", "SHLVL", "_", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"];
    assert!(names.contains(&"PATH") && names.iter().all(|name| allowed.contains(name)), "{names:?}");
    let files = fs::read_to_string(place.path.join("delegate.fds")).unwrap();
    assert!(!files.contains(" 77 ->") && files.contains(" 0 -> /dev/null"), "{files}");
}

#[test]
fn create_hands_every_option_on() {
    let (id, bundle) = (ContainerId::new("c").unwrap(), bundle());
    let mut job = Job::new(&id, &bundle);
    let delegate = Delegate::new("other", scripts().join("honest"), Vec::new());
    let words = |job: Job<'_>| {
        let command = create::call(&delegate, &job, Path::new("/state")).into_command();
        let words: Vec<String> = command.get_args().map(|word| word.to_str().unwrap().to_owned()).collect();
        words.join(" ")
    };
    assert_eq!(words(job), "--root /state --log /dev/null --log-format text create --bundle /b c");
    job.log = Log { file: Some(Path::new("/log")), json: true, debug: false };
    job.systemd_cgroup = true;
    job.pid_file = Some(Path::new("/pid"));
    job.console_socket = Some(Path::new("/console"));
    job.pidfd_socket = Some(Path::new("/pidfd"));
    job.preserve_fds = 2;
    job.no_pivot = true;
    job.no_new_keyring = true;
    assert_eq!(
        words(job),
        "--root /state --log /log --log-format json --systemd-cgroup create --bundle /b --pid-file /pid \
         --console-socket /console --pidfd-socket /pidfd --preserve-fds 2 --no-pivot --no-new-keyring c"
    );
}

/// The program runs as a child and everything is as after a native create.
#[test]
fn a_create_that_must_return_knows_the_payload_and_takes_it_away_unless_released() {
    for released in [true, false] {
        let mut place = Place::new("honest");
        fs::remove_dir_all(place.path.join("delegate")).unwrap();
        let (id, bundle) = (ContainerId::new("c").unwrap(), bundle());
        let job = Job { then_start: true, ..Job::new(&id, &bundle) };
        let draft = place.delegate.draft(job).unwrap();
        draft.describe(&mut place.record);
        assert_eq!(place.record.rootfs, "/b/rootfs");
        let created = draft.create(place.dir.as_fd(), &place.record, &|_| Ok(())).unwrap();
        assert_eq!(place.state().unwrap(), (Status::Created, created.engine_pid));
        assert_eq!(memory::identify(created.engine_pid).unwrap(), Some(created.init));
        if released {
            created.hold.release().unwrap();
            place.delegate.delete(&place.record, place.dir.as_fd()).unwrap();
        } else {
            drop(created.hold);
        }
        assert!(!place.path.join("delegate").exists());
    }
}

#[test]
fn a_failed_create_says_the_cause_from_the_program_s_log_and_leaves_nothing() {
    let mut place = Place::new("failing create");
    fs::remove_dir_all(place.path.join("delegate")).unwrap();
    let (id, bundle) = (ContainerId::new("c").unwrap(), bundle());
    let draft = place.delegate.draft(Job { then_start: true, ..Job::new(&id, &bundle) }).unwrap();
    draft.describe(&mut place.record);
    let Err(error) = draft.create(place.dir.as_fd(), &place.record, &|_| Ok(())) else { panic!("it was created") };
    assert_eq!(error.to_string(), "create container c with other: no such user");
    assert_eq!(fs::read_dir(&place.path).unwrap().count(), 0);
}
