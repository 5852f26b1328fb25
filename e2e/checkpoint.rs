//! checkpoint and restore: memory, files, mounts, cgroups, terminals and namespaces are as they were.

mod check;

pub(crate) use check::trials as check_trials;

use harness::{
    Bundle, ConsoleSocket, Container, Feature, Finished, Host, Outcome, Stop, Value, ensure, ensure_eq, limit,
};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) fn trials() -> Feature {
    Feature::new("checkpoint")
        .trial("what counts goes on from where it was, in the same cgroup and by the same id", |host| {
            let criu = Criu::new(host)?;
            let bundle = host.bundle()?.payload(&["count", "/tmp/count"]);
            let container = criu.start(&bundle)?;
            goes_on(&bundle)?;
            let before = container.pid()?;
            let images = host.new_dir("images")?;
            criu.checkpoint(&container, &images, &[])?;
            ensure_eq!(host.runtime.call(&["state", bundle.id()])?.code(), Some(1), "a checkpointed container");
            container.reap(before)?;
            let last = counted(&bundle)?;
            let pid_file = host.dir().join(host.unique("pid"));
            criu.restore(&bundle, &images, &["--pid-file", pid_file.to_str().unwrap_or_default()])?;
            let next = goes_on(&bundle)?;
            ensure!(next > last, "it counts {next} after {last}");
            ensure_eq!(container.status()?, "running");
            ensure_eq!(std::fs::read_to_string(&pid_file)?, container.pid()?.to_string());
            let cgroups = std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid()?))?;
            ensure!(cgroups.lines().any(|line| line.ends_with(bundle.id())), "its cgroups are {cgroups}");
            let [report] = container.exec_lines(&[], &["report"])?;
            ensure_eq!(report.text("/hostname"), "e2e");
            container.call("pause", &[])?;
            ensure_eq!(container.status()?, "paused");
            container.call("resume", &[])?;
            goes_on(&bundle)?;
            let pid = container.pid()?;
            container.kill("KILL")?;
            ensure_eq!(container.reap(pid)?, 137);
            container.delete()
        })
        .trial("--leave-running: it runs on, and what was written can be restored later", |host| {
            let criu = Criu::new(host)?;
            let bundle = host.bundle()?.payload(&["count", "/tmp/count"]);
            let container = criu.start(&bundle)?;
            goes_on(&bundle)?;
            let (pid, images) = (container.pid()?, host.new_dir("images")?);
            criu.checkpoint(&container, &images, &["--leave-running"])?;
            let then = goes_on(&bundle)?;
            ensure_eq!(container.pid()?, pid);
            while counted(&bundle)? < then + 5000 {
                std::thread::sleep(Duration::from_millis(5));
            }
            container.delete_force()?;
            criu.restore(&bundle, &images, &[])?;
            std::thread::sleep(Duration::from_millis(50));
            let back = goes_on(&bundle)?;
            ensure!(back < then + 5000, "it counts {back}, and had about {then} when it was written down");
            criu.host.runtime.must(&["delete", "--force", bundle.id()]).map(drop)
        })
        .trial("a bind mount by a symbolic link, a tmpfs and a masked file are as they were", |host| {
            let criu = Criu::new(host)?;
            let shared = host.new_dir("shared")?;
            std::fs::write(shared.join("from-outside"), "hello")?;
            let alias = host.dir().join(host.unique("alias"));
            std::os::unix::fs::symlink(&shared, &alias)?;
            let bundle = host
                .bundle()?
                .payload(&["count", "/scratch/count"])
                .mount("/shared", "bind", text(&alias), &["rbind", "ro"])
                .mount("/scratch", "tmpfs", "tmpfs", &["nosuid"])
                .set("/linux/maskedPaths", serde_json::json!(["/proc/keys", "/proc/acpi"]))
                .set("/linux/readonlyPaths", serde_json::json!(["/proc/sys"]));
            let container = criu.start(&bundle)?;
            let look = || -> Result<Vec<String>, Stop> {
                let text = std::fs::read_to_string(format!("/proc/{}/mountinfo", container.pid()?))?;
                let mut lines: Vec<String> = text.lines().map(place).collect();
                lines.sort();
                Ok(lines)
            };
            let before = look()?;
            let images = host.new_dir("images")?;
            criu.checkpoint(&container, &images, &[])?;
            criu.restore(&bundle, &images, &[])?;
            ensure_eq!(look()?, before);
            let ran = container.exec(&[], &["/bin/payload", "read", "/shared/from-outside"])?;
            ensure!(ran.finished.stdout.contains("hello"), "{}", ran.finished);
            let first = tmpfs_count(&container)?;
            std::thread::sleep(Duration::from_millis(200));
            ensure!(tmpfs_count(&container)? > first, "it does not count");
            container.delete_force()
        })
        .trial("limits of the cgroup are set anew", |host| {
            let criu = Criu::new(host)?;
            host.needs_controller("pids")?;
            let bundle = host
                .bundle()?
                .payload(&["count", "/tmp/count"])
                .set("/linux/resources", serde_json::json!({"pids": {"limit": 77}}));
            let container = criu.start(&bundle)?;
            let images = host.new_dir("images")?;
            criu.checkpoint(&container, &images, &[])?;
            criu.restore(&bundle, &images, &[])?;
            let dir = host.controller_dir("pids").ok_or_else(|| Stop::failed("no controller pids"))?;
            let path = std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid()?))?;
            let line = path.lines().find(|line| line.contains(":pids:") || line.starts_with("0::/") && host.is_v2());
            let path = line.and_then(|line| line.rsplit(':').next()).unwrap_or_default().to_owned();
            let limit = std::fs::read_to_string(dir.join(path.trim_start_matches('/')).join("pids.max"))?;
            ensure_eq!(limit.trim(), "77");
            container.delete_force()
        })
        .trial("a terminal is handed to --console-socket again, and works", |host| {
            let criu = Criu::new(host)?;
            let bundle = host.bundle()?.set("/process/terminal", true.into()).set(
                "/process/args",
                serde_json::json!(["/bin/payload", "spawn", "/bin/payload", "count", "/tmp/count"]),
            );
            let socket = ConsoleSocket::new(host)?;
            let container = Container::create(host, &bundle, &["--console-socket", socket.path()])?;
            let screen = socket.receive()?;
            container.start()?;
            goes_on(&bundle)?;
            let images = host.new_dir("images")?;
            criu.checkpoint(&container, &images, &[])?;
            drop(screen);
            let socket = ConsoleSocket::new(host)?;
            criu.restore(&bundle, &images, &["--console-socket", socket.path()])?;
            let screen = socket.receive()?;
            goes_on(&bundle)?;
            screen.resize(33, 44)?;
            let pid = container.pid()?;
            let link = std::fs::read_link(format!("/proc/{pid}/fd/0"))?;
            ensure!(link.starts_with("/dev/pts"), "its standard input is {}", link.display());
            let size = Command::new("stty").args(["-F", &format!("/proc/{pid}/fd/0"), "size"]).output()?;
            ensure_eq!(String::from_utf8_lossy(&size.stdout).trim(), "33 44");
            container.delete_force()
        })
        .trial("restore waits for the payload without --detach, and its code is the payload's", |host| {
            let criu = Criu::new(host)?;
            let bundle = host.bundle()?.payload(&["wait-file", "/tmp/end", ";", "exit", "7"]);
            let container = criu.start(&bundle)?;
            let images = host.new_dir("images")?;
            criu.checkpoint(&container, &images, &[])?;
            let words =
                criu.words(&["restore", "--bundle", bundle.dir_text(), "--image-path", text(&images), bundle.id()]);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let running = host.runtime.spawn(&words)?;
            let until = Instant::now() + limit(10);
            while !host.runtime.call(&["state", bundle.id()])?.stdout.contains("running") && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(20));
            }
            std::fs::write(bundle.rootfs().join("tmp/end"), "")?;
            ensure_eq!(running.finish()?.code(), Some(7));
            ensure_eq!(host.runtime.call(&["state", bundle.id()])?.code(), Some(1), "after its end");
            Ok(())
        })
        .trial("another name: a second container beside the first, each with its own cgroup", |host| {
            let criu = Criu::new(host)?;
            let bundle = host.bundle()?.payload(&["count", "/run/count"]).mount("/run", "tmpfs", "tmpfs", &[]);
            let container = criu.start(&bundle)?;
            let images = host.new_dir("images")?;
            criu.checkpoint(&container, &images, &["--leave-running"])?;
            let twin = host.unique("twin");
            criu.restore(&bundle, &images, &["--as", &twin, "--count", "2"])?;
            for number in [1, 2] {
                let state: Value = serde_json::from_str(&host.runtime.must(&["state", &format!("{twin}-{number}")])?)?;
                ensure_eq!(state["status"], "running");
                let cgroups = std::fs::read_to_string(format!("/proc/{}/cgroup", state["pid"]))?;
                ensure!(cgroups.contains(&format!("{twin}-{number}")), "its cgroups are {cgroups}");
                host.runtime.must(&["delete", "--force", &format!("{twin}-{number}")])?;
            }
            ensure_eq!(container.status()?, "running");
            container.delete_force()
        })
        .trial("a checkpoint without a criu that works leaves the container running, and nothing behind", |host| {
            let criu = Criu::new(host)?;
            let bundle = host.bundle()?.payload(&["count", "/tmp/count"]);
            let container = criu.start(&bundle)?;
            goes_on(&bundle)?;
            let images = host.new_dir("images")?;
            let said = host.runtime.call(&[
                "--criu",
                "/nowhere/criu",
                "checkpoint",
                "--image-path",
                text(&images),
                bundle.id(),
            ])?;
            ensure!(said.code() == Some(1) && said.stderr.contains("--criu /nowhere/criu: is no program"), "{said}");
            let said = host.runtime.call(&[
                "--criu",
                "/bin/true",
                "checkpoint",
                "--image-path",
                text(&images),
                bundle.id(),
            ])?;
            ensure!(said.code() == Some(1), "{said}");
            goes_on(&bundle)?;
            ensure_eq!(std::fs::read_dir(&images)?.count(), 0, "what is left");
            container.delete_force()
        })
        .trial("a manifest that does not fit is refused before anything is touched", |host| {
            let criu = Criu::new(host)?;
            let bundle = host.bundle()?.payload(&["count", "/tmp/count"]);
            let container = criu.start(&bundle)?;
            goes_on(&bundle)?;
            let images = host.new_dir("images")?;
            criu.checkpoint(&container, &images, &[])?;
            let manifest = std::fs::read_to_string(images.join("manifest.json"))?;
            let refused = |expected: &str| -> Outcome {
                let said = criu.call(
                    "restore",
                    &["-d", "--bundle", bundle.dir_text(), "--image-path", text(&images), bundle.id()],
                )?;
                ensure!(said.code() == Some(1) && said.stderr.contains(expected), "{expected:?} was expected: {said}");
                ensure_eq!(host.runtime.call(&["state", bundle.id()])?.code(), Some(1), "a refused container");
                Ok(())
            };
            std::fs::write(images.join("manifest.json"), manifest.replace("\"console\": false", "\"console\": true"))?;
            refused("was changed after it had been written")?;
            std::fs::write(images.join("manifest.json"), manifest.replacen("\"version\": 1", "\"version\": 2", 1))?;
            refused("it has version 2, this wharf reads up to version 1")?;
            std::fs::remove_file(images.join("manifest.json"))?;
            refused("it has no manifest.json")?;
            std::fs::write(images.join("manifest.json"), &manifest)?;
            let pages = std::fs::read(images.join("pages-1.img"))?;
            std::fs::write(images.join("pages-1.img"), &pages[..pages.len() - 1])?;
            refused("its image pages-1.img has")?;
            std::fs::write(images.join("pages-1.img"), &pages)?;
            let core = std::fs::read(images.join("core-1.img"))?;
            let mut other = core.clone();
            if let Some(byte) = other.last_mut() {
                *byte ^= 1;
            }
            std::fs::write(images.join("core-1.img"), &other)?;
            refused("its image core-1.img was changed")?;
            std::fs::write(images.join("core-1.img"), &core)?;
            let config = std::fs::read(images.join("config.json"))?;
            std::fs::write(images.join("config.json"), "{}")?;
            refused("its config.json was changed")?;
            std::fs::write(images.join("config.json"), config)?;
            criu.restore(&bundle, &images, &[])?;
            goes_on(&bundle)?;
            criu.host.runtime.must(&["delete", "--force", bundle.id()]).map(drop)
        })
        .trial(
            "a kill of wharf at any moment of a checkpoint leaves it running within a second, or ended and whole",
            |host| {
                let criu = Criu::new(host)?;
                let rounds = if std::env::var_os("WHARF_E2E_FULL").is_some() { 40 } else { 6 };
                let bundle = host.bundle()?.payload(&["count", "/tmp/count"]);
                let container = criu.start(&bundle)?;
                goes_on(&bundle)?;
                let (mut running, mut ended) = (0, 0);
                for round in 0..rounds {
                    let images = host.new_dir("images")?;
                    let words = criu.words(&["checkpoint", "--image-path", text(&images), bundle.id()]);
                    let mut wharf = criu.plain(&words).spawn()?;
                    // A checkpoint takes about 400 ms here.
                    std::thread::sleep(Duration::from_millis(20 + 400 * round / rounds));
                    wharf.kill()?;
                    wharf.wait()?;
                    std::thread::sleep(Duration::from_secs(1));
                    let state = host.runtime.call(&["state", bundle.id()])?;
                    if state.stdout.contains("running") {
                        // Nothing of it stands still.
                        goes_on(&bundle)?;
                        running += 1;
                        continue;
                    }
                    ensure!(
                        images.join("manifest.json").exists(),
                        "round {round}: it has ended without a manifest: {state}"
                    );
                    host.runtime.call(&["delete", "--force", bundle.id()])?;
                    criu.restore(&bundle, &images, &[])?;
                    goes_on(&bundle)?;
                    ended += 1;
                }
                println!("killed {rounds} times: {running} ran on, {ended} had ended and were restored");
                container.delete_force()
            },
        )
        .trial("a kill of wharf at any moment of a restore leaves a container that runs, or none that does", |host| {
            let criu = Criu::new(host)?;
            let rounds = if std::env::var_os("WHARF_E2E_FULL").is_some() { 40 } else { 6 };
            let bundle = host.bundle()?.payload(&["count", "/tmp/count"]);
            let container = criu.start(&bundle)?;
            goes_on(&bundle)?;
            let images = host.new_dir("images")?;
            criu.checkpoint(&container, &images, &[])?;
            for round in 0..rounds {
                let words =
                    ["restore", "-d", "--bundle", bundle.dir_text(), "--image-path", text(&images), bundle.id()];
                let mut wharf = criu.plain(&criu.words(&words)).spawn()?;
                std::thread::sleep(Duration::from_millis(20 + 400 * round / rounds));
                wharf.kill()?;
                wharf.wait()?;
                std::thread::sleep(Duration::from_secs(1));
                let state = host.runtime.call(&["state", bundle.id()])?;
                let first = counted(&bundle)?;
                std::thread::sleep(Duration::from_millis(100));
                let counts = counted(&bundle)? > first;
                ensure_eq!(counts, state.stdout.contains("running"), "round {round}: {state}");
                host.runtime.must(&["delete", "--force", bundle.id()])?;
                let first = counted(&bundle)?;
                std::thread::sleep(Duration::from_millis(50));
                ensure_eq!(counted(&bundle)?, first, "round {round}: what delete has left");
            }
            Ok(())
        })
        .trial("what is not running is not checkpointed", |host| {
            let criu = Criu::new(host)?;
            let container = host.create(&host.bundle()?.payload(&["nothing"]))?;
            let images = host.new_dir("images")?;
            let said = criu.call("checkpoint", &["--image-path", text(&images), container.id()])?;
            ensure!(said.code() == Some(1) && said.stderr.contains("it has not been started"), "{said}");
            container.delete_force()
        })
}

/// A criu that works on this kernel, where there is one.
pub(crate) fn criu() -> Result<Option<PathBuf>, Stop> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("criu");
    // The guest has no checkout, and a criu of its own.
    let own = Path::new("/usr/sbin/criu");
    if !script.exists() {
        return Ok(own.exists().then(|| own.to_owned()));
    }
    let found = Command::new(script).arg("--have").output()?.stdout;
    let found = String::from_utf8_lossy(&found).trim().to_owned();
    Ok((!found.is_empty()).then(|| found.into()))
}

/// wharf with a criu that works on this kernel.
pub(crate) struct Criu<'h> {
    host: &'h Host,
    path: String,
}

impl<'h> Criu<'h> {
    pub(crate) fn new(host: &'h Host) -> Result<Self, Stop> {
        host.only_wharf("the words are compared by the trials of engines")?;
        match criu()? {
            None => Err(Stop::skipped("criu 4 or newer is not installed (e2e/criu gets it)")),
            Some(path) => Ok(Criu { host, path: path.display().to_string() }),
        }
    }

    pub(crate) fn words(&self, words: &[&str]) -> Vec<String> {
        ["--criu", &self.path].iter().chain(words).map(|word| (*word).to_owned()).collect()
    }

    pub(crate) fn call(&self, verb: &str, words: &[&str]) -> Result<Finished, Stop> {
        let words = self.words(&[&[verb], words].concat());
        self.host.runtime.call(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    pub(crate) fn command(&self, words: &[String]) -> Command {
        let plain = self.host.runtime.command();
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$@\" >/dev/null 2>&1 </dev/null", "sh"]).arg(plain.get_program());
        command.args(plain.get_args()).args(words);
        command
    }

    /// The same without a shell in between.
    pub(crate) fn plain(&self, words: &[String]) -> Command {
        let null = std::process::Stdio::null;
        let mut command = self.host.runtime.command();
        command.args(words).stdin(null()).stdout(null()).stderr(null());
        command
    }

    /// With nothing but /dev/null as standard descriptors, which are the payload's too: criu takes no file of the host's.
    pub(crate) fn quietly(&self, words: &[&str]) -> Outcome {
        let log = self.host.dir().join(self.host.unique("log"));
        let words: Vec<String> = ["--log", text(&log)].iter().chain(words).map(|word| (*word).to_owned()).collect();
        let command = self.command(&words);
        let finished = self.host.runtime.spawn_command(command)?.finish()?;
        match (finished.code(), std::fs::read_to_string(&log).unwrap_or_default()) {
            (Some(0), log) if log.is_empty() => Ok(()),
            (_, log) => Err(Stop::failed(format!("{finished}: {log}"))),
        }
    }

    /// A container that runs.
    pub(crate) fn start(&self, bundle: &Bundle) -> Result<Container<'h>, Stop> {
        let container = Container::create_by(self.host, bundle, |words| {
            self.command(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
        })?;
        container.start()?;
        Ok(container)
    }

    fn must(&self, verb: &str, words: &[&str]) -> Outcome {
        let words = self.words(&[&[verb], words].concat());
        self.quietly(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    pub(crate) fn checkpoint(&self, container: &Container<'_>, images: &Path, options: &[&str]) -> Outcome {
        self.must("checkpoint", &[&["--image-path", text(images)], options, &[container.id()]].concat())
    }

    pub(crate) fn restore(&self, bundle: &Bundle, images: &Path, options: &[&str]) -> Outcome {
        let words = ["--detach", "--bundle", bundle.dir_text(), "--image-path", text(images)];
        self.must("restore", &[&words, options, &[bundle.id()]].concat())
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

/// What a mount is, without its numbers: place, part of the file system, options, type.
fn place(line: &str) -> String {
    let fields: Vec<&str> = line.split(' ').collect();
    let kind = fields.iter().position(|field| *field == "-").and_then(|at| fields.get(at + 1)).unwrap_or(&"");
    format!("{} {} {} {kind}", fields[4], fields[3], fields[5])
}

pub(crate) fn counted(bundle: &Bundle) -> Result<u64, Stop> {
    let text = std::fs::read_to_string(bundle.rootfs().join("tmp/count")).unwrap_or_default();
    Ok(text.trim().parse().unwrap_or(0))
}

/// Waits until it has counted on; what it has come to.
pub(crate) fn goes_on(bundle: &Bundle) -> Result<u64, Stop> {
    let (begun, first) = (Instant::now(), counted(bundle)?);
    loop {
        let now = counted(bundle)?;
        if now > first {
            return Ok(now);
        }
        if begun.elapsed() > limit(10) {
            return Err(Stop::failed(format!("it counts no further than {first}")));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn tmpfs_count(container: &Container<'_>) -> Result<u64, Stop> {
    let path = PathBuf::from(format!("/proc/{}/root/scratch/count", container.pid()?));
    Ok(std::fs::read_to_string(path)?.trim().parse().unwrap_or(0))
}
