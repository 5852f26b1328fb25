//! Podman with storage, configuration and containers of its own, and one runtime. Dropped, its containers are removed.

use crate::engines::case::Choice;
use harness::{Finished, Host, Running, Stop, limit};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) const IMAGE: &str = "localhost/e2e:1";

pub(crate) struct Podman<'h> {
    pub(crate) host: &'h Host,
    runtime: String,
    program: PathBuf,
    dir: PathBuf,
    /// Where Podman finds programs first.
    first: Option<PathBuf>,
}

impl<'h> Podman<'h> {
    pub(crate) fn new(host: &'h Host, choice: &Choice) -> Result<Self, Stop> {
        if !Path::new("/usr/bin/podman").exists() {
            return Err(Stop::skipped("podman is not installed"));
        }
        let images = images(host)?;
        // Short: Podman takes no path of more than 50 bytes for what it has in memory.
        let dir = host.dir().join(format!("p-{}", choice.name));
        fs::create_dir(&dir)?;
        let program = configure(&dir, Some(&images), choice)?;
        Ok(Podman { host, runtime: choice.name.to_owned(), program, dir, first: None })
    }

    /// With programs of this directory before all others.
    pub(crate) fn finding(mut self, dir: &Path) -> Self {
        self.first = Some(dir.to_owned());
        self
    }

    /// The name of the runtime in use.
    pub(crate) fn runtime(&self) -> &str {
        &self.runtime
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The runtime's file.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// `podman` without a choice of the runtime.
    pub(crate) fn plain(&self, words: &[&str]) -> Command {
        let mut command = base(&self.dir);
        if let Some(first) = &self.first {
            let path = std::env::var("PATH").unwrap_or_default();
            command.env("PATH", format!("{}:{path}", first.display()));
        }
        command.args(words);
        command
    }

    /// `podman` with the options that every call needs.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        self.plain(&[&["--runtime", &self.runtime], words].concat())
    }

    /// A shell script with this `podman` as `$PODMAN`, run by the words in front, `unshare` for one.
    pub(crate) fn script(&self, by: &[&str], text: &str) -> Command {
        let podman = self.command(&[]);
        let words = std::iter::once(podman.get_program()).chain(podman.get_args());
        let line = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let words = [by, &["sh", "-ec", text]].concat();
        let mut shell = Command::new(words[0]);
        shell.args(&words[1..]);
        for (name, value) in podman.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell.current_dir(&self.dir).env("PODMAN", line).stdin(Stdio::null());
        shell
    }

    /// True where the runtime knows of a container of this trial.
    pub(crate) fn known(&self) -> Result<bool, Stop> {
        let mut list = Command::new(&self.program);
        list.args(["list", "--format", "json"]);
        let text = well(self.host.program(list)?.finish()?)?;
        Ok(text.contains(&self.dir.display().to_string()))
    }

    pub(crate) fn spawn(&self, words: &[&str]) -> Result<Running, Stop> {
        self.host.program(self.command(words))
    }

    /// Any command, its end as it is.
    pub(crate) fn call(&self, words: &[&str]) -> Result<Finished, Stop> {
        self.spawn(words)?.finish()
    }

    /// A command that must succeed: its stdout, trimmed.
    pub(crate) fn must(&self, words: &[&str]) -> Result<String, Stop> {
        well(self.call(words)?)
    }

    /// `run --rm` of a command in the image.
    pub(crate) fn run(&self, options: &[&str], command: &[&str]) -> Result<Finished, Stop> {
        let words = self.words(&["run", "--rm"], options, command);
        self.call(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// `run --rm` of a shell script that must succeed: what it printed, trimmed.
    pub(crate) fn sh(&self, options: &[&str], script: &str) -> Result<String, Stop> {
        well(self.run(options, &["sh", "-c", script])?)
    }

    /// `run --detach` of a command under a name.
    pub(crate) fn start(&self, name: &str, options: &[&str], command: &[&str]) -> Result<(), Stop> {
        let words = self.words(&["run", "--detach", "--name", name], options, command);
        self.must(&words.iter().map(String::as_str).collect::<Vec<_>>()).map(drop)
    }

    /// `exec` of a shell script that must succeed: what it printed, trimmed.
    pub(crate) fn exec(&self, name: &str, script: &str) -> Result<String, Stop> {
        self.must(&["exec", name, "sh", "-c", script])
    }

    /// A field of `inspect`, as a template.
    pub(crate) fn inspect(&self, name: &str, template: &str) -> Result<String, Stop> {
        self.must(&["container", "inspect", "--format", template, name])
    }

    /// The pid of the container's first process, as the host sees it.
    pub(crate) fn pid(&self, name: &str) -> Result<i32, Stop> {
        Ok(self.inspect(name, "{{.State.Pid}}")?.parse()?)
    }

    /// Verb, options that every container gets, its own options, image and command.
    pub(crate) fn words(&self, verb: &[&str], options: &[&str], command: &[&str]) -> Vec<String> {
        let mut words: Vec<&str> = verb.to_vec();
        let parent = format!("/{}", self.host.tag());
        let has = |name: &str| options.iter().any(|word| *word == name || word.starts_with(&format!("{name}=")));
        if !has("--pod") {
            words.extend(["--cgroup-parent", &parent]);
            if !has("--network") {
                words.extend(["--network", "none"]);
            }
        }
        words.extend(options);
        if !has("--rootfs") {
            words.push(IMAGE);
        }
        words.extend(command);
        words.into_iter().map(String::from).collect()
    }

    /// Waits until the container's log has this text.
    pub(crate) fn wait_for_log(&self, name: &str, text: &str) -> Result<String, Stop> {
        self.wait_for(&format!("{text:?} in the log"), || {
            let finished = self.call(&["logs", name])?;
            let log = format!("{}{}", finished.stdout, finished.stderr);
            Ok(log.contains(text).then_some(log))
        })
    }

    /// Waits until there is an answer.
    pub(crate) fn wait_for<T>(&self, what: &str, mut ask: impl FnMut() -> Result<Option<T>, Stop>) -> Result<T, Stop> {
        let begun = Instant::now();
        loop {
            if let Some(answer) = ask()? {
                return Ok(answer);
            }
            if begun.elapsed() > limit(15) {
                return Err(Stop::failed(format!("waited in vain for {what}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The text of a file in the cgroup of the container's first process, v1 or v2.
    pub(crate) fn cgroup(&self, name: &str, controller: &str, v1: &str, v2: &str) -> Result<String, Stop> {
        let file = if self.host.is_v2() { v2 } else { v1 };
        Ok(fs::read_to_string(self.cgroup_dir(name, controller)?.join(file))?.trim().to_owned())
    }

    pub(crate) fn cgroup_dir(&self, name: &str, controller: &str) -> Result<PathBuf, Stop> {
        self.host.needs_controller(controller)?;
        let table = fs::read_to_string(format!("/proc/{}/cgroup", self.pid(name)?))?;
        let path = table.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (names, path) = (parts.next()?, parts.next()?);
            let wanted = if self.host.is_v2() { names.is_empty() } else { names.split(',').any(|n| n == controller) };
            wanted.then(|| path.trim_start_matches('/').to_owned())
        });
        let top = self.host.controller_dir(controller);
        match (top, path) {
            (Some(top), Some(path)) => Ok(top.join(path)),
            _ => Err(Stop::failed(format!("{name} has no {controller} cgroup: {table}"))),
        }
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        let _ = self.call(&["pod", "rm", "--force", "--all", "--time", "0"]);
        let _ = self.call(&["rm", "--force", "--all", "--time", "0"]);
        // conmon cleans up behind a container that has ended.
        let begun = Instant::now();
        while busy(&self.dir) && begun.elapsed() < limit(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = nix::mount::umount2(&self.dir.join("root/overlay"), nix::mount::MntFlags::MNT_DETACH);
        // What Podman itself leaves: the parent that it was told to use, conmon's cgroup in it, and those of its pods,
        // in hierarchies of v1 that it does not know. A container's are called libpod-ID, a pod's are a bare ID.
        for hierarchy in ["/sys/fs/cgroup".into()].into_iter().chain(children(Path::new("/sys/fs/cgroup"))) {
            let parent = hierarchy.join(self.host.tag());
            for own in children(&parent) {
                let name = own.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if name == "conmon" || name.len() == 64 {
                    let _ = fs::remove_dir(own.join("conmon"));
                    let _ = fs::remove_dir(own);
                }
            }
            let _ = fs::remove_dir(parent);
        }
    }
}

/// The stdout of a call that must have succeeded, trimmed.
pub(crate) fn well(finished: Finished) -> Result<String, Stop> {
    match finished.code() {
        Some(0) => Ok(finished.stdout.trim().to_owned()),
        _ => Err(Stop::failed(finished.to_string())),
    }
}

fn children(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// True while a process of this Podman lives, conmon or the clean-up that it calls: its command line has the directory.
fn busy(dir: &Path) -> bool {
    let dir = dir.display().to_string();
    let lines = children(Path::new("/proc")).into_iter().filter_map(|path| fs::read(path.join("cmdline")).ok());
    lines.into_iter().any(|line| String::from_utf8_lossy(&line).contains(&dir))
}

fn base(dir: &Path) -> Command {
    let mut command = Command::new("/usr/bin/podman");
    command.args(["--log-level", "error", "--tmpdir"]).arg(dir.join("tmp"));
    for (name, file) in [("CONTAINERS_CONF", "containers.conf"), ("CONTAINERS_STORAGE_CONF", "storage.conf")] {
        command.env(name, dir.join(file));
    }
    // conmon writes files into its working directory.
    command.current_dir(dir).env("HOME", dir).env_remove("NOTIFY_SOCKET").env("TERM", "xterm").stdin(Stdio::null());
    command
}

/// The configuration that a user writes (docs/engines.md), with places of this trial.
fn configure(dir: &Path, images: Option<&Path>, choice: &Choice) -> Result<PathBuf, Stop> {
    let place = dir.display();
    let also = images.map(|path| format!("additionalimagestores = [\"{}\"]", path.display())).unwrap_or_default();
    fs::write(
        dir.join("storage.conf"),
        format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{place}/root\"\nrunroot = \"{place}/run\"\n[storage.options]\n{also}\n"
        ),
    )?;
    let program = match choice.peer && choice.name == "crun" {
        true => without_hybrid(dir, choice.program)?,
        false => choice.program.to_owned(),
    };
    fs::write(
        dir.join("containers.conf"),
        format!(
            "[containers]\nlog_driver = \"k8s-file\"\n\
             default_ulimits = [\"nofile=1024:20000\", \"nproc=1000:1000\"]\n\
             [network]\nnetwork_config_dir = \"{place}/networks\"\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nlock_type = \"file\"\npull_policy = \"never\"\n\
             runtime_supports_json = [\"wharf\", \"crun\", \"runc\"]\n\
             runtime_supports_nocgroups = [\"wharf\", \"crun\"]\n\
             [engine.runtimes]\n{} = [\"{}\"]\n",
            choice.name,
            program.display()
        ),
    )?;
    Ok(program)
}

/// crun refuses cgroup v1 with a v2 hierarchy beside it that has controllers: that one is hidden from crun alone.
pub(crate) fn without_hybrid(dir: &Path, crun: &Path) -> Result<PathBuf, Stop> {
    if !Path::new("/sys/fs/cgroup/unified").is_dir() {
        return Ok(crun.to_owned());
    }
    let script = dir.join("crun");
    let text = format!(
        "#!/bin/sh\nexec unshare --mount --propagation unchanged sh -c 'mount --make-private /sys/fs/cgroup &&\n\
         umount /sys/fs/cgroup/unified && exec {} \"$@\"' crun \"$@\"\n",
        crun.display()
    );
    fs::write(&script, text)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

/// A store with the image, made once for all trials, from nothing but busybox.
pub(crate) fn images(host: &Host) -> Result<PathBuf, Stop> {
    let dir = host.shared_dir("podman-images")?;
    let store = dir.join("root");
    if dir.join("done").exists() {
        return Ok(store);
    }
    let tree = dir.join("tree");
    plant(&tree)?;
    configure(&dir, None, &Choice { name: "none", program: Path::new("/bin/false"), peer: false })?;
    let archive = dir.join("image.tar");
    let mut tar = Command::new("tar");
    tar.arg("--numeric-owner").arg("-C").arg(&tree).arg("-cf").arg(&archive).arg(".");
    well(host.program(tar)?.finish()?)?;
    let mut import = base(&dir);
    import.args(["import", "--change", "CMD=sh", "--change", "ENV=FROM_IMAGE=yes"]).arg(&archive).arg(IMAGE);
    let imported = host.program(import)?.finish().and_then(well);
    let _ = nix::mount::umount2(&store.join("overlay"), nix::mount::MntFlags::MNT_DETACH);
    imported?;
    fs::write(dir.join("done"), "")?;
    Ok(store)
}

/// The image's files.
fn plant(tree: &Path) -> Result<(), Stop> {
    for name in ["bin", "etc", "proc", "sys", "dev", "tmp", "root", "home", "var/data", "run"] {
        fs::create_dir_all(tree.join(name))?;
    }
    fs::set_permissions(tree.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    let busybox = ["/usr/bin/busybox", "/bin/busybox"].map(Path::new).into_iter().find(|path| is_static(path));
    let busybox = busybox.ok_or_else(|| Stop::skipped("busybox-static is not installed"))?;
    fs::copy(busybox, tree.join("bin/busybox"))?;
    let list = Command::new(busybox).arg("--list").output()?;
    for applet in String::from_utf8_lossy(&list.stdout).lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", tree.join("bin").join(applet))?;
    }
    let files = [
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nsailor:x:1000:1000::/home:/bin/sh\n", 0o644),
        ("etc/group", "root:x:0:\nsailor:x:1000:\ndeck:x:2000:sailor\n", 0o644),
        ("bin/no-x", "#!/bin/sh\n", 0o644),
        ("bin/no-interpreter", "#!/nowhere/sh\n", 0o755),
        ("bin/no-format", "neither a script nor a program\n", 0o755),
        ("var/data/kept", "from the image\n", 0o640),
    ];
    for (path, text, mode) in files {
        fs::write(tree.join(path), text)?;
        fs::set_permissions(tree.join(path), fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// True for a program without an interpreter of its own (PT_INTERP is a path of a loader, which stands near its start).
fn is_static(path: &Path) -> bool {
    let bytes = fs::read(path).unwrap_or_default();
    let start = &bytes[..bytes.len().min(4096)];
    !start.is_empty() && !start.windows(6).any(|window| window == b"ld-lin")
}
