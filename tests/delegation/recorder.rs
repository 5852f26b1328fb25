//! A runtime that writes down how it is called.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Beside itself it finds `help` and leaves `calls`. What it is asked for is the first word that is a verb.
const SCRIPT: &str = r#"#!/bin/sh
dir=$(dirname "$0"); here=$(dirname "$dir")
case " $* " in *" --help "*) cat "$dir/help"; exit ;; *" --version "*) echo "recorder version 1"; exit ;; esac
line="$*"; object=; verb=
for word; do
    case $word in /proc/self/fd/*) object=" $(cat "$word")" ;; --root) next=root ;; *) [ "$next" = root ] && root=$word; next= ;; esac
    [ -n "$verb" ] || case $word in create|state|start|kill|delete|exec|events|update|ps|pause|resume) verb=$word ;; esac
    last=$word
done
[ $verb != update ] || line="update $(cat)"
[ $verb = state ] || echo "$line$object" >> "$here/calls"
case $verb in
create) mkdir -p "$root/c"; sleep ${LIVE:-0.2} >/dev/null 2>&1 </dev/null & echo $! > "$root/c/pid" ;;
state) echo "{\"status\":\"$(cat "$root/c/status" 2>/dev/null || echo created)\",\"pid\":$(cat "$root/c/pid")}" ;;
start) echo running > "$root/c/status" ;;
ps) echo "[1]" ;;
delete) rm -r "$root/c" ;;
esac
"#;

/// What every option of crun, runc and their later versions would be.
const HELP: &str = "--pidfd-socket --exit-record --no-pivot --no-new-keyring --preserve-fds --all --ignore-paused --cgroup [<controller>:] \
    --stats --interval --blkio-weight --cpu-period --cpu-quota --cpu-burst --cpu-share --cpu-rt-period --cpu-rt-runtime \
    --cpu-idle --cpuset-cpus --cpuset-mems --memory --memory-reservation --memory-swap --kernel-memory \
    --kernel-memory-tcp --pids-limit";

const CONFIG: &str = r#"{"ociVersion":"1.0.2","process":{"user":{"uid":3,"gid":4},"args":["x"],"cwd":"/",
    "env":["PATH=/bin","A=1"]},"root":{"path":"rootfs"}}"#;

/// Both scripts are written before the first is run: a fork in another thread would inherit one still open for writing.
fn scripts() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("delegation.{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    })
}

pub(crate) struct Recorder {
    dir: PathBuf,
    program: PathBuf,
}

impl Recorder {
    /// With all options in its help, or with none.
    pub(crate) fn new(has_all: bool) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let dir = scripts().join(COUNT.fetch_add(1, Ordering::Relaxed).to_string());
        let bin = dir.join("bin");
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir_all(dir.join("rootfs")).unwrap();
        fs::write(bin.join("help"), if has_all { HELP } else { "" }).unwrap();
        fs::write(dir.join("config.json"), CONFIG).unwrap();
        fs::write(dir.join("file"), r#"{"args":["y"],"cwd":"/","user":{"uid":0,"gid":0}}"#).unwrap();
        fs::write(dir.join("limits"), r#"{"unified":{"a.b":"1"}}"#).unwrap();
        fs::write(dir.join("wharf.json"), "{}").unwrap();
        // A link: the script itself stays as it is, so that no exec of it fails for a file being written.
        let script = script();
        std::os::unix::fs::symlink(script, bin.join("other")).unwrap();
        Recorder { program: bin.join("other"), dir }
    }

    pub(crate) fn filled(&self, words: &str) -> String {
        words.replace("DIR", &self.dir.display().to_string())
    }

    /// What wharf says, its exit code, and what the runtime was told by this verb alone.
    pub(crate) fn perform(&self, before: &str, verb: &str, options: &str) -> (String, i32, Vec<String>) {
        let root = self.dir.join("root").display().to_string();
        let program = self.program.display().to_string();
        let dir = self.dir.display().to_string();
        let make = ["--root", &root, "--backend", &program, "create", "--bundle", &dir, "c"];
        if !matches!(verb, "create" | "run") {
            let (said, code) = wharf(&make);
            assert_eq!(code, 0, "{said}");
            if verb != "delete" {
                let (said, code) = wharf(&["--root", &root, "start", "c"]);
                assert_eq!(code, 0, "{said}");
            } else {
                fs::write(self.dir.join("root/c/delegate/c/status"), "stopped").unwrap();
            }
            let _ = fs::remove_file(self.dir.join("calls"));
        }
        let (before, options) = (self.filled(before), self.filled(options));
        let mut words = vec!["--root", &root, "--backend", &program];
        words.extend(before.split_whitespace());
        words.push(verb);
        words.extend(options.split_whitespace());
        if matches!(verb, "create" | "run") {
            words.extend(["--bundle", &dir]);
        }
        if !matches!(verb, "list" | "gc") {
            words.push("c");
        }
        if verb == "exec" && !options.contains("--process ") {
            words.push("command");
        }
        let (said, code) = wharf(&words);
        let calls = fs::read_to_string(self.dir.join("calls")).unwrap_or_default();
        let state = format!("{root}/c/delegate");
        // Of `run` the first call alone: the rest is the same with every option.
        let first = if verb == "run" { 1 } else { usize::MAX };
        let shown = |line: &str| {
            let line = line.replace(&state, "ROOT").replace(&dir, "DIR");
            ["3", "4"].iter().fold(line, |line, number| line.replace(&format!("/proc/self/fd/{number}"), "FD"))
        };
        let told = calls.lines().take(first).map(shown).collect();
        (said.replace(&dir, "DIR"), code, told)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn script() -> &'static Path {
    static SCRIPT_FILE: OnceLock<PathBuf> = OnceLock::new();
    SCRIPT_FILE.get_or_init(|| {
        let path = scripts().join("script");
        fs::write(&path, SCRIPT).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    })
}

/// What it says on both streams, and its exit code.
pub(crate) fn wharf(words: &[&str]) -> (String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wharf"));
    let output = command.env_remove("WHARF_CONFIG").args(words).stdin(Stdio::null()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&said).into_owned(), output.status.code().unwrap_or(-1))
}
