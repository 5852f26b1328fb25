//! Where attacks are fought: a bundle whose image and config.json may be made hostile, a directory of the host that must
//! stay as it is, and the runtimes to try, wharf and its peers alike.

use harness::{Host, Value, json};
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What the payload prints first: it says that the container ran at all.
pub(crate) const ALIVE: &str = "ALIVE";
/// In the host's file that no container may read.
pub(crate) const SECRET: &str = "SECRET-OF-THE-HOST";

/// A runtime under attack.
#[derive(Clone)]
pub(crate) struct Runtime<'h> {
    /// `wharf`, or name and version of a peer.
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) host: &'h Host,
    /// A peer runs in a mount namespace of its own, so that what it leaves mounted ends with it.
    peer: bool,
}

impl<'h> Runtime<'h> {
    /// The runtime under test.
    pub(crate) fn under_test(host: &'h Host) -> Self {
        Runtime { name: host.runtime.name().into(), program: host.runtime.program().into(), host, peer: false }
    }

    /// The peers that are installed here.
    pub(crate) fn peers(host: &'h Host) -> Vec<Self> {
        let found = ["runc", "crun"].into_iter().filter(|name| *name != host.runtime.name()).filter_map(|name| {
            let program = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"]
                .into_iter()
                .map(|dir| Path::new(dir).join(name))
                .find(|path| path.exists())?;
            let output = Command::new(&program).arg("--version").output().ok()?;
            let text = String::from_utf8_lossy(&output.stdout);
            let version = text.lines().next()?.rsplit(' ').next()?.to_owned();
            Some(Runtime { name: format!("{name} {version}"), program, host, peer: true })
        });
        found.collect()
    }

    pub(crate) fn is_wharf(&self) -> bool {
        self.name == "wharf"
    }

    /// The same runtime from another file.
    pub(crate) fn at(&self, program: &Path) -> Self {
        Runtime { program: program.to_owned(), ..self.clone() }
    }

    /// The command line `runtime --root ROOT`. crun refuses a hybrid hierarchy: its v2 part is hidden from it.
    pub(crate) fn words(&self, root: &Path) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        if self.peer || self.name == "crun" {
            let hide = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";
            words.extend(["unshare", "-m", "sh", "-c", hide, "sh"].map(String::from));
        }
        words.extend([self.program.display().to_string(), "--root".into(), root.display().to_string()]);
        words
    }
}

/// What a runtime did.
#[derive(Debug)]
pub(crate) struct Ran {
    /// None when it was ended by a signal.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) timed_out: bool,
}

impl Ran {
    pub(crate) fn alive(&self) -> bool {
        self.out.lines().any(|line| line == ALIVE)
    }

    /// The payload's line that begins with `start`.
    pub(crate) fn line(&self, start: &str) -> Option<&str> {
        self.out.lines().find(|line| line.starts_with(start))
    }

    /// The runtime's last words, for a verdict.
    pub(crate) fn said(&self) -> String {
        let last = self.err.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("(nothing)");
        // runc logs in logfmt: its message is the last value.
        let last = last.split_once(" msg=").map_or(last, |(_, message)| message.trim_matches('"'));
        let mut text = last.to_owned();
        if self.timed_out {
            text = format!("did not return in time; {text}");
        }
        text
    }
}

/// One bundle and one piece of the host.
pub(crate) struct Arena {
    pub(crate) dir: PathBuf,
    pub(crate) id: String,
    pub(crate) config: Value,
    /// Wraps the runtime's command line: a shell text that ends in `exec "$@"`.
    pub(crate) wrapper: Option<String>,
    pub(crate) limit: Duration,
}

impl Arena {
    /// A good bundle: its payload says [`ALIVE`] and performs `commands` (of the attacker program, `;` between).
    pub(crate) fn new(runtime: &Runtime<'_>, commands: &[&str]) -> Self {
        let id = runtime.host.unique("attack");
        let dir = runtime.host.dir().join(&id);
        fs::create_dir(&dir).expect("a directory for the attack");
        let arena = Arena { config: config(&id), dir, id, wrapper: None, limit: Duration::from_secs(20) };
        for part in ["host", "bundle/rootfs/proc", "bundle/rootfs/sys", "bundle/rootfs/dev", "bundle/rootfs/etc"] {
            fs::create_dir_all(arena.dir.join(part)).expect("a directory");
        }
        fs::copy(runtime.host.payload().with_file_name("attacker"), arena.rootfs().join("attacker"))
            .expect("the attacker program in the image");
        for (name, text) in [("secret", SECRET), ("ptmx", "precious"), ("null", "precious"), ("console", "precious")] {
            fs::write(arena.host().join(name), text).expect("a file of the host");
        }
        arena.payload(commands)
    }

    /// Replaces what the payload does.
    pub(crate) fn payload(mut self, commands: &[&str]) -> Self {
        let mut args = vec!["/attacker", "say", ALIVE];
        if !commands.is_empty() {
            args.push(";");
            args.extend(commands);
        }
        self.config["process"]["args"] = json!(args);
        self
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.dir.join("bundle/rootfs")
    }

    /// The directory that stands for the host.
    pub(crate) fn host(&self) -> PathBuf {
        self.dir.join("host")
    }

    /// `host()/name` as it reads from the host's root, without the leading slash.
    pub(crate) fn host_relative(&self, name: &str) -> String {
        self.host().join(name).display().to_string().trim_start_matches('/').to_owned()
    }

    /// Replaces a path of the image by a symbolic link.
    pub(crate) fn link(&self, path: &str, target: impl AsRef<Path>) {
        let path = self.rootfs().join(path);
        let _ = fs::remove_file(&path);
        let _ = fs::remove_dir_all(&path);
        std::os::unix::fs::symlink(target, path).expect("a link in the image");
    }

    pub(crate) fn file(&self, path: &str, text: &str) {
        let path = self.rootfs().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories in the image");
        fs::write(path, text).expect("a file in the image");
    }

    pub(crate) fn mount(&mut self, mount: Value) {
        self.config["mounts"].as_array_mut().expect("mounts").push(mount);
    }

    pub(crate) fn unmount(&mut self, destination: &str) {
        let mounts = self.config["mounts"].as_array_mut().expect("mounts");
        let below = format!("{destination}/");
        mounts.retain(|mount| {
            let at = mount["destination"].as_str().unwrap_or_default();
            at != destination && !at.starts_with(&below)
        });
    }

    /// A text without the names of this arena, so that it reads the same in every run.
    pub(crate) fn anonymous(&self, text: &str) -> String {
        let text = text.replace(&self.host().display().to_string(), "HOST");
        let text = text.replace(&self.dir.display().to_string(), "ARENA").replace(&self.id, "ID");
        text.chars().take(240).collect()
    }

    /// Everything below `host()`: names, kinds, modes, owners, contents.
    pub(crate) fn inventory(&self) -> Vec<String> {
        let mut lines = Vec::new();
        inventory(&self.host(), &mut lines);
        lines.sort();
        lines
    }

    pub(crate) fn write_config(&self) {
        let text = serde_json::to_string_pretty(&self.config).expect("JSON");
        fs::write(self.dir.join("bundle/config.json"), text).expect("config.json");
    }

    /// `run` with this arena's bundle.
    pub(crate) fn run(&self, runtime: &Runtime<'_>) -> Ran {
        self.write_config();
        let bundle = self.dir.join("bundle").display().to_string();
        let ran = self.say(runtime, &["run", "--bundle", &bundle, &self.id], self.limit);
        self.sweep(runtime, ran.timed_out);
        ran
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Any verb.
    pub(crate) fn say(&self, runtime: &Runtime<'_>, words: &[&str], limit: Duration) -> Ran {
        let mut line = runtime.words(&self.root());
        line.extend(words.iter().map(|word| word.to_string()));
        let mut command = match &self.wrapper {
            Some(script) => {
                let mut command = Command::new("sh");
                command.args(["-c", script, "sh"]).args(&line);
                command
            }
            None => {
                let mut command = Command::new(&line[0]);
                command.args(&line[1..]);
                command
            }
        };
        command.env("CALLER_SECRET", SECRET).current_dir(&self.dir);
        capture(command, limit)
    }

    /// Ends what a runtime left behind, so that one peer's failure does not become another one's.
    pub(crate) fn sweep(&self, runtime: &Runtime<'_>, all: bool) {
        if all {
            self.say(runtime, &["delete", "--force", &self.id], Duration::from_secs(10));
        }
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let dir = hierarchy.path().join(&self.id);
            if let Ok(members) = fs::read_to_string(dir.join("cgroup.procs")) {
                for pid in members.lines().filter_map(|line| line.parse().ok()) {
                    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
                }
                for _ in 0..50 {
                    if fs::remove_dir(&dir).is_ok() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Runs a command with a time limit, all it prints kept.
pub(crate) fn capture(mut command: Command, limit: Duration) -> Ran {
    let mut child = match command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => {
            return Ran { code: None, out: String::new(), err: format!("cannot execute: {error}"), timed_out: false };
        }
    };
    let reader = |pipe: Option<Box<dyn Read + Send>>| {
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            let Some(mut pipe) = pipe else { return };
            while let Ok(length @ 1..) = pipe.read(&mut chunk) {
                let _ = send.send(chunk[..length].to_vec());
            }
        });
        receive
    };
    let out = reader(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let err = reader(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    let end = Instant::now() + limit;
    let mut timed_out = false;
    let code = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status.code(),
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(2)),
            _ => {
                timed_out = true;
                let _ = child.kill();
                break child.wait().ok().and_then(|status| status.code());
            }
        }
    };
    // A process that survived may hold the pipes open: then what was said until now has to do.
    let last = Instant::now() + Duration::from_secs(3);
    let drain = |receive: std::sync::mpsc::Receiver<Vec<u8>>| {
        let mut all = Vec::new();
        while let Ok(chunk) = receive.recv_timeout(last.saturating_duration_since(Instant::now())) {
            all.extend(chunk);
        }
        String::from_utf8_lossy(&all).into_owned()
    };
    Ran { code, out: drain(out), err: drain(err), timed_out }
}

fn inventory(dir: &Path, lines: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        let kind = meta.file_type();
        let content = match () {
            () if kind.is_symlink() => format!("{:?}", fs::read_link(&path).ok()),
            () if kind.is_file() => format!("{:?}", fs::read(&path).map(|bytes| bytes.len()).ok()) + &text_of(&path),
            () if kind.is_char_device() || kind.is_block_device() => format!("device {:x}", meta.rdev()),
            () => String::new(),
        };
        lines.push(format!("{} {:o} {}:{} {content}", path.display(), meta.mode(), meta.uid(), meta.gid()));
        if kind.is_dir() {
            inventory(&path, lines);
        }
    }
}

fn text_of(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes[..bytes.len().min(64)]).into_owned()).unwrap_or_default()
}

/// A plain container with the mounts of an engine.
fn config(id: &str) -> Value {
    let capabilities = json!(["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_MKNOD", "CAP_SETUID", "CAP_SETGID"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": [],
            "env": ["PATH=/bin:/usr/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities
            },
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "arena",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}
        ],
        "linux": {
            "cgroupsPath": format!("/{id}"),
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}
            ],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}
