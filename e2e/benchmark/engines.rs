//! Engines from end to end: `podman run --rm` and `ctr run --rm`, with each runtime in turn. Storage, configuration,
//! daemon and image are made for the run alone.

use crate::Result;
use crate::candidate::{Candidate, search};
use crate::life::{Cost, Verb, cool_down, meter, reap};
use crate::stage::{CGROUP, DIR, Stage};
use crate::table::Results;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike;
use nix::time::ClockId;
use nix::unistd::Pid;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const IMAGE: &str = "docker.io/library/still:latest";
/// Where shims have their sockets, and runtimes their state, whatever containerd's configuration says.
const RUN: &str = "/run/containerd";
/// How long a daemon may take to answer, and an engine to end what a container left.
const PATIENCE: Duration = Duration::from_secs(30);

/// Podman and containerd in interleaved rounds of all candidates but the floor. None where no engine is installed.
pub(crate) fn measure(stage: &Stage, candidates: &[Candidate], rounds: usize) -> Result<Option<Results>> {
    let candidates: Vec<&Candidate> = candidates
        .iter()
        .filter(|candidate| candidate.name != "floor" && !candidate.name.starts_with("wharf-"))
        .collect();
    if candidates.is_empty() {
        return Ok(None);
    }
    let mut results = Results::new(candidates.iter().copied());
    let mut measured = false;
    for (name, raise) in [("podman", Engine::podman as fn() -> Result<Engine>), ("containerd", Engine::containerd)] {
        let account = Account::open(stage)?;
        let engine = match raise() {
            Ok(engine) => engine,
            Err(why) => {
                eprintln!("skipped: {name}: {why}");
                continue;
            }
        };
        let mut able = candidates.clone();
        // The first round warms the caches and tells who works here.
        able.retain(|candidate| match engine.run(&account, candidate) {
            Ok(_) => true,
            Err(why) => {
                eprintln!("skipped: {name} with {}: {why}", candidate.name);
                false
            }
        });
        for round in 0..rounds {
            for candidate in &able {
                let cost = engine
                    .run(&account, candidate)
                    .map_err(|why| format!("{name} with {}, round {round}: {why}", candidate.name))?;
                results.add(candidate, vec![(engine.verb, cost)]);
                measured = true;
            }
        }
        eprintln!("done: {}", engine.verb.word());
    }
    Ok(measured.then_some(results))
}

/// An engine with the image imported, ready to run containers.
struct Engine {
    verb: Verb,
    dir: PathBuf,
    /// The client, with the words that every call needs.
    client: Vec<String>,
    _daemon: Option<Daemon>,
}

impl Engine {
    fn podman() -> Result<Engine> {
        let program = installed("podman")?;
        installed("conmon")?;
        let dir = new_dir("podman")?;
        let place = dir.display();
        fs::write(
            dir.join("storage.conf"),
            format!("[storage]\ndriver = \"overlay\"\ngraphroot = \"{place}/root\"\nrunroot = \"{place}/run\"\n"),
        )?;
        // The limits of the default may be above what this host allows.
        fs::write(
            dir.join("containers.conf"),
            format!(
                "[containers]\nlog_driver = \"k8s-file\"\n\
                 default_ulimits = [\"nofile=1024:20000\", \"nproc=1000:1000\"]\n\
                 [network]\nnetwork_config_dir = \"{place}/networks\"\n\
                 [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nlock_type = \"file\"\n\
                 pull_policy = \"never\"\nruntime_supports_json = [\"wharf\", \"crun\", \"runc\"]\n"
            ),
        )?;
        let client = [&program.display().to_string(), "--log-level", "error", "--tmpdir", &format!("{place}/tmp")];
        let engine = Engine { verb: Verb::PodmanRun, client: client.map(str::to_owned).to_vec(), dir, _daemon: None };
        let layer = image_layer(&engine.dir)?;
        engine.must(&["import", &layer.display().to_string(), IMAGE])?;
        Ok(engine)
    }

    fn containerd() -> Result<Engine> {
        let program = installed("containerd")?;
        installed("containerd-shim-runc-v2")?;
        let ctr = installed("ctr")?;
        let dir = new_dir("containerd")?;
        let place = dir.display();
        // CRI, and snapshotters that want a disk of their own, have no part in this.
        let off = ["grpc.v1.cri", "snapshotter.v1.btrfs", "snapshotter.v1.zfs", "snapshotter.v1.devmapper"];
        let off = off.map(|name| format!("\"io.containerd.{name}\"")).join(", ");
        let configuration = dir.join("config.toml");
        fs::write(
            &configuration,
            format!(
                "version = 2\nroot = \"{place}/root\"\nstate = \"{place}/state\"\ndisabled_plugins = [{off}]\n\
                 [grpc]\naddress = \"{place}/sock\"\n\
                 [plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{place}/opt\"\n"
            ),
        )?;
        // The namespace stands in the path of each cgroup.
        let namespace = CGROUP.trim_start_matches('/').to_owned();
        let client = vec![
            ctr.display().to_string(),
            "--address".to_owned(),
            format!("{place}/sock"),
            "--namespace".to_owned(),
            namespace,
        ];
        let daemon = Daemon::start(&program, &configuration, &dir.join("log"))?;
        let engine = Engine { verb: Verb::CtrRun, client, dir, _daemon: Some(daemon) };
        let begun = Instant::now();
        while let Err(why) = engine.must(&["version"]) {
            if begun.elapsed() > PATIENCE {
                return Err(why);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let archive = image_archive(&engine.dir)?;
        engine.must(&["image", "import", &archive.display().to_string()])?;
        Ok(engine)
    }

    /// The environment and directory that the client needs.
    fn prepare(&self, command: &mut Command) {
        command.env("HOME", &self.dir).env_remove("NOTIFY_SOCKET");
        if matches!(self.verb, Verb::PodmanRun) {
            command.env("CONTAINERS_CONF", self.dir.join("containers.conf"));
            command.env("CONTAINERS_STORAGE_CONF", self.dir.join("storage.conf"));
            // conmon writes files into its working directory.
            command.current_dir(&self.dir);
        }
    }

    /// An unmeasured call of the client, which must succeed.
    fn must(&self, words: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.client[0]);
        command.args(&self.client[1..]).args(words);
        self.prepare(&mut command);
        well(&mut command).map(drop)
    }

    fn words(&self, candidate: &Candidate) -> Vec<String> {
        let program = candidate.program.display().to_string();
        let id = format!("{}-container", candidate.name);
        let words: &[&str] = match self.verb {
            Verb::PodmanRun => {
                &["--runtime", &program, "run", "--rm", "--network", "none", "--cgroup-parent", CGROUP, IMAGE]
            }
            _ => &["run", "--rm", "--runtime", "io.containerd.runc.v2", "--runc-binary", &program, IMAGE, &id],
        };
        let payload = ["/still", "exit"];
        self.client.iter().cloned().chain(words.iter().chain(&payload).map(|word| (*word).to_owned())).collect()
    }

    /// One container. Wall time is the client's; CPU time is of all processes, also of those that clean up behind it.
    fn run(&self, account: &Account, candidate: &Candidate) -> Result<Cost> {
        reap();
        cool_down();
        let resident = account.members()?;
        let before = account.used()?;
        let mut cost = meter(&self.words(candidate), |command| self.prepare(command))?;
        let begun = Instant::now();
        loop {
            reap();
            if account.members()?.is_subset(&resident) {
                break;
            }
            if begun.elapsed() > PATIENCE {
                return Err("processes are left behind".into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        cost.cpu = account.used()? - before;
        Ok(cost)
    }
}

/// containerd in the foreground. Dropped, it ends.
struct Daemon {
    child: Child,
    /// `RUN` was not there before.
    made: bool,
}

impl Daemon {
    fn start(program: &Path, configuration: &Path, log: &Path) -> Result<Daemon> {
        let none: Option<&str> = None;
        let made = !Path::new(RUN).exists();
        fs::create_dir_all(RUN)?;
        mount(Some("tmpfs"), RUN, Some("tmpfs"), MsFlags::empty(), none)?;
        let child = Command::new(program)
            .arg("--config")
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(log)?)
            .spawn();
        let child = child.inspect_err(|_| take_away_run(made))?;
        Ok(Daemon { child, made })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let _ = self.child.wait();
        take_away_run(self.made);
    }
}

fn take_away_run(made: bool) {
    let _ = umount2(RUN, MntFlags::MNT_DETACH);
    if made {
        let _ = fs::remove_dir(RUN);
    }
}

/// CPU time by the kernel's account of a cgroup. This process is inside, so that all that it starts is, too;
/// the containers' cgroups are beside its own, under one parent. Dropped, it goes back.
struct Account {
    parent: PathBuf,
    back: PathBuf,
}

impl Account {
    fn open(stage: &Stage) -> Result<Account> {
        let having = |file: &str| stage.cgroups.iter().find(|path| path.join(file).exists());
        let by_v1 = having("cpuacct.usage");
        let parent = by_v1.or_else(|| having("cpu.stat")).ok_or("no cgroup accounts for CPU time here")?;
        let table = fs::read_to_string("/proc/self/cgroup")?;
        let own = table.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (names, path) = (fields.next()?, fields.next()?);
            let wanted =
                if by_v1.is_some() { names.split(',').any(|name| name == "cpuacct") } else { names.is_empty() };
            wanted.then(|| path.trim_start_matches('/'))
        });
        let top = parent.parent().ok_or("a cgroup hierarchy without a mount point")?;
        let account = Account { parent: parent.clone(), back: top.join(own.unwrap_or_default()) };
        let cgroup = account.parent.join("engines");
        fs::create_dir_all(&cgroup)?;
        enter(&cgroup)?;
        Ok(account)
    }

    /// Microseconds that all but this process used so far.
    fn used(&self) -> Result<f64> {
        let own = ClockId::CLOCK_PROCESS_CPUTIME_ID.now()?.num_nanoseconds() as f64 / 1e3;
        let all = match fs::read_to_string(self.parent.join("cpuacct.usage")) {
            Ok(nanoseconds) => nanoseconds.trim().parse::<f64>()? / 1e3,
            Err(_) => {
                let text = fs::read_to_string(self.parent.join("cpu.stat"))?;
                let usage = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
                usage.ok_or("cpu.stat without usage_usec")?.parse()?
            }
        };
        Ok(all - own)
    }

    /// The processes in the cgroups under the parent.
    fn members(&self) -> Result<BTreeSet<i32>> {
        let mut pids = BTreeSet::new();
        for entry in fs::read_dir(&self.parent)?.flatten() {
            // An engine may take the cgroup away meanwhile.
            let text = fs::read_to_string(entry.path().join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        }
        Ok(pids)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if let Err(why) = enter(&self.back) {
            eprintln!("bench: {why}");
        }
    }
}

fn enter(cgroup: &Path) -> Result<()> {
    let file = cgroup.join("cgroup.procs");
    fs::write(&file, std::process::id().to_string())
        .map_err(|error| format!("move into {}: {error}", file.display()).into())
}

fn installed(name: &str) -> Result<PathBuf> {
    search(name).ok_or_else(|| format!("{name} is not installed").into())
}

fn new_dir(name: &str) -> Result<PathBuf> {
    let dir = Path::new(DIR).join(name);
    fs::create_dir(&dir)?;
    Ok(dir)
}

/// Runs a command that must succeed: its stdout.
fn well(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?);
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: {}: {}", command.get_program().display(), output.status, words.trim()).into())
}

fn tar(dir: &Path, archive: &Path) -> Result<()> {
    well(Command::new("tar").args(["--owner=0", "--group=0", "-cf"]).arg(archive).arg("-C").arg(dir).arg(".")).map(drop)
}

/// The image's only layer: the payload and the places that mounts need.
fn image_layer(dir: &Path) -> Result<PathBuf> {
    let tree = dir.join("tree");
    for name in ["dev", "etc", "proc", "run", "sys", "tmp"] {
        fs::create_dir_all(tree.join(name))?;
    }
    fs::copy(Path::new(DIR).join("rootfs/still"), tree.join("still"))?;
    fs::write(tree.join("etc/passwd"), "root:x:0:0:root:/:/still\n")?;
    fs::write(tree.join("etc/group"), "root:x:0:\n")?;
    let layer = dir.join("layer.tar");
    tar(&tree, &layer)?;
    Ok(layer)
}

/// An archive as `docker save` writes it.
fn image_archive(dir: &Path) -> Result<PathBuf> {
    let content = dir.join("image");
    fs::create_dir(&content)?;
    let layer = content.join("layer.tar");
    fs::rename(image_layer(dir)?, &layer)?;
    let sum = well(Command::new("sha256sum").arg(&layer))?;
    let sum = sum.split(' ').next().unwrap_or_default();
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": { "Env": ["PATH=/usr/bin:/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{sum}")] },
    });
    fs::write(content.join("config.json"), config.to_string())?;
    let manifest = json!([{ "Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"] }]);
    fs::write(content.join("manifest.json"), manifest.to_string())?;
    let archive = dir.join("image.tar");
    let files = ["manifest.json", "config.json", "layer.tar"];
    well(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&content).args(files))?;
    Ok(archive)
}
