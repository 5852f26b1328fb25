//! The world of one double: what would be a node's own files, beneath one directory.

use crate::answer::Death;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Its name as itself.
pub(crate) const NAME: &str = "pct-double";
/// What may be said instead of where its program lies.
const VARIABLE: &str = "WHARF_PCT_DOUBLE";
const MONITORD: &str = "/usr/libexec/lxc/lxc-monitord";

pub(crate) struct World {
    pub(crate) root: PathBuf,
}

impl World {
    /// The one that the program lies in: `ROOT/bin/pct-double`.
    pub(crate) fn find() -> Result<Self, Death> {
        if let Some(root) = std::env::var_os(VARIABLE) {
            return Ok(World { root: root.into() });
        }
        let program = fs::read_link("/proc/self/exe").map_err(|error| Death::system("find the program", error))?;
        let root = program.parent().and_then(Path::parent).map(Path::to_owned);
        match root {
            Some(root) if root.join("state").is_dir() => Ok(World { root }),
            _ => Err(Death::new(2, format!("{NAME}: {} is in no world; say {VARIABLE}=DIR\n", program.display()))),
        }
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    pub(crate) fn pve(&self, below: &str) -> PathBuf {
        self.root.join("etc/pve").join(below)
    }

    pub(crate) fn lxc_path(&self) -> PathBuf {
        self.root.join("var/lib/lxc")
    }

    pub(crate) fn node(&self) -> String {
        fs::read_to_string(self.path("etc/hostname")).unwrap_or_default().trim().to_owned()
    }

    /// What somebody has switched on for this world: `state/NAME`.
    pub(crate) fn is(&self, state: &str) -> bool {
        self.path("state").join(state).exists()
    }

    /// A number that somebody has set: `state/NAME`.
    pub(crate) fn number(&self, state: &str) -> Option<f64> {
        fs::read_to_string(self.path("state").join(state)).ok()?.trim().parse().ok()
    }

    pub(crate) fn seconds(&self, state: &str, usual: f64) -> Duration {
        Duration::from_secs_f64(self.number(state).unwrap_or(usual))
    }

    /// §1, user and cluster file system: four lines, in front of everything else.
    pub(crate) fn check_caller(&self) -> Result<(), Death> {
        let (reason, code) = if !nix::unistd::geteuid().is_root() || self.is("not-root") {
            ("Unknown error -1", 255)
        } else if self.is("daemon-down") {
            ("Connection refused", 111)
        } else {
            return Ok(());
        };
        let mut text = String::new();
        for number in 1..4 {
            text.push_str(&format!("ipcc_send_rec[{number}] failed: {reason}\n"));
        }
        text.push_str(&format!("Unable to load access control list: {reason}\n"));
        Err(Death::new(code, text))
    }

    /// §1, quorum: whoever writes below /etc/pve.
    pub(crate) fn check_quorum(&self) -> Result<(), Death> {
        match self.is("no-quorum") {
            true => Err(Death::worker("cluster not ready - no quorum?")),
            false => Ok(()),
        }
    }

    /// The trials' hand: the first line `STEP ACTION` of the file `fail` whose step this is, once. Actions: `die WORDS`, `kill`
    /// (by SIGKILL, here and now), `hang SECONDS`.
    pub(crate) fn step(&self, step: &str) -> Result<(), Death> {
        let file = self.path("fail");
        let Ok(text) = fs::read_to_string(&file) else { return Ok(()) };
        let mut lines: Vec<&str> = text.lines().collect();
        let Some(at) = lines.iter().position(|line| line.split(' ').next() == Some(step)) else { return Ok(()) };
        let line = lines.remove(at);
        let rest = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        fs::write(&file, rest).map_err(|error| Death::system("write the file of failures", error))?;
        let action = line[step.len()..].trim_start();
        match action.split_once(' ').unwrap_or((action, "")) {
            ("die", words) => Err(Death::worker(words)),
            ("kill", _) => {
                let own = nix::unistd::Pid::this();
                let _ = nix::sys::signal::kill(own, nix::sys::signal::Signal::SIGKILL);
                Ok(())
            }
            ("hang", seconds) => {
                std::thread::sleep(Duration::from_secs_f64(seconds.parse().unwrap_or(1.0)));
                Ok(())
            }
            _ => Err(Death::new(
                2,
                format!("{NAME}: a failure is `STEP die WORDS`, `STEP kill` or `STEP hang SECONDS`\n"),
            )),
        }
    }
}

/// `make DIR …` and `down`.
pub(crate) fn command(words: &[OsString]) -> Result<(), Death> {
    let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
    match words.as_slice() {
        ["make", dir, options @ ..] => make(Path::new(dir), options),
        ["down"] => down(&World::find()?),
        ["daemon", state @ ("up" | "down")] => daemon(&World::find()?, *state == "up"),
        _ => Err(Death::new(
            2,
            format!(
                "usage: {NAME} make DIR [--node NAME] [--zfs DATASET] [--lower VMID]\n       DIR/bin/{NAME} down | daemon up | daemon down\n"
            ),
        )),
    }
}

fn make(dir: &Path, options: &[&str]) -> Result<(), Death> {
    let (mut node, mut zfs, mut lower) = ("pve1", None, None);
    for pair in options.chunks(2) {
        match pair {
            ["--node", name] => node = name,
            ["--zfs", dataset] => zfs = Some(*dataset),
            ["--lower", number] => lower = number.parse::<u32>().ok(),
            other => return Err(Death::new(2, format!("{NAME}: {other:?} is no option of make\n"))),
        }
    }
    let build = || -> std::io::Result<PathBuf> {
        fs::create_dir_all(dir)?;
        let dir = fs::canonicalize(dir)?;
        // The root of a container's user namespace has to get to its root file system.
        let lower = lower.unwrap_or_else(|| spread(&dir));
        for below in
            ["bin", "etc/pve/priv/lock", "run/lock/lxc", "run/pve", "state", "var/lib/lxc", "var/lock/pve-manager"]
                .into_iter()
                .chain(["var/log/pve/tasks", "var/lib/vz/template/cache", "var/lib/vz/snippets", "var/lib/vz/dump"])
                .chain(["srv/data/images", "srv/data/template/cache", "srv/data/snippets"])
        {
            fs::create_dir_all(dir.join(below))?;
        }
        for below in ["lxc", "qemu-server"] {
            fs::create_dir_all(dir.join("etc/pve/nodes").join(node).join(below))?;
            symlink(Path::new("nodes").join(node).join(below), dir.join("etc/pve").join(below))?;
        }
        symlink(Path::new("nodes").join(node), dir.join("etc/pve/local"))?;
        fs::write(dir.join("etc/hostname"), format!("{node}\n"))?;
        // §3: the map of an unprivileged container is root's by the first; the other its administrator has given him.
        for name in ["etc/subuid", "etc/subgid"] {
            fs::write(dir.join(name), "root:100000:65536\nroot:200000:65536\n")?;
        }
        let upper = if lower < 1_000_000 { 999_999 } else { 999_999_999 };
        fs::write(dir.join("etc/pve/datacenter.cfg"), format!("next-id: lower={lower},upper={upper}\n"))?;
        fs::write(dir.join("etc/pve/.members"), members(node))?;
        fs::write(dir.join("etc/pve/.version"), "{}\n")?;
        let mut storages = format!(
            "dir: local\n\tpath {0}/var/lib/vz\n\tcontent backup,iso,snippets,vztmpl\n\n\
             dir: data\n\tpath {0}/srv/data\n\tcontent images,rootdir,snippets,vztmpl\n",
            dir.display()
        );
        if let Some(dataset) = zfs {
            let at = crate::storage::zfs(&["get", "-Hpo", "value", "mountpoint", dataset]).unwrap_or_default();
            let at = Some(at.trim()).filter(|at| at.starts_with('/') && at[1..] != *dataset);
            let at = at.map(|at| format!("\tmountpoint {at}\n")).unwrap_or_default();
            storages
                .push_str(&format!("\nzfspool: tank\n\tpool {dataset}\n\tcontent images,rootdir\n{at}\tsparse 1\n"));
        }
        fs::write(dir.join("etc/pve/storage.cfg"), storages)?;
        fs::copy("/proc/self/exe", dir.join("bin").join(NAME))?;
        for name in ["pct", "pvesh", "pvesm", "pveam", crate::hook::NAME] {
            symlink(NAME, dir.join("bin").join(name))?;
        }
        Ok(dir)
    };
    let root = build().map_err(|error| Death::system(format!("make a world in {}", dir.display()), error))?;
    let world = World { root };
    crate::ct::write_list(&world)?;
    // §2: the service that tells how a container's first process ended runs on every node.
    let _ = Command::new(MONITORD)
        .arg("--daemon")
        .arg(world.lxc_path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .and_then(|child| fs::write(world.path("run/monitord.pid"), child.id().to_string()));
    Ok(())
}

fn members(node: &str) -> String {
    format!("{{\n\"nodename\": \"{node}\",\n\"version\": 0\n}}\n")
}

/// Worlds that live at once must not meet in `lxc/VMID` of the cgroups.
fn spread(dir: &Path) -> u32 {
    let mut hash: u32 = 2_166_136_261;
    for byte in dir.as_os_str().as_encoded_bytes() {
        hash = (hash ^ u32::from(*byte)).wrapping_mul(16_777_619);
    }
    1000 + hash % 9900 * 100
}

/// §1, cluster fs: without its daemon /etc/pve is an empty directory, and no tool works.
fn daemon(world: &World, up: bool) -> Result<(), Death> {
    let (pve, away, state) = (world.path("etc/pve"), world.path("etc/pve.away"), world.path("state/daemon-down"));
    let turn = || match up {
        true => {
            fs::remove_dir(&pve)?;
            fs::rename(&away, &pve)?;
            fs::remove_file(&state)
        }
        false => {
            fs::rename(&pve, &away)?;
            fs::create_dir(&pve)?;
            fs::write(&state, "")
        }
    };
    turn().map_err(|error| Death::system("turn the daemon", error))
}

/// Ends everything of it that runs.
fn down(world: &World) -> Result<(), Death> {
    if world.path("etc/pve.away").exists() {
        daemon(world, true)?;
    }
    for id in crate::ct::ids(world) {
        crate::lxc::kill(world, id);
        crate::pct::disk::take_down(&crate::lxc::dir(world, id).join("rootfs"));
    }
    if let Some(pid) = fs::read_to_string(world.path("run/monitord.pid")).ok().and_then(|text| text.parse().ok()) {
        let pid = nix::unistd::Pid::from_raw(pid);
        let its = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if its.contains(&*world.lxc_path().to_string_lossy()) {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        }
    }
    for dir in ["lxc", "lxc/lock"] {
        let below = world.lxc_path();
        let below = below.strip_prefix("/").unwrap_or(&below);
        let _ = fs::remove_dir_all(Path::new("/run").join(dir).join(below));
        for parent in below.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
            let _ = fs::remove_dir(Path::new("/run").join(dir).join(parent));
        }
    }
    Ok(())
}
