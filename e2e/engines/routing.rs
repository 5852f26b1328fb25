//! One engine with wharf as its only runtime: its containers land on native, crun and runc, and every command reaches
//! them there.

use super::case::Choice;
use super::docker::engine::Docker;
use super::podman::engine::{IMAGE, Podman, well, without_hybrid};
use harness::{
    Bundle, Feature, Finished, Host, Outcome, Running, Stop, Value, ensure, ensure_eq, json, limit, wait_until,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) fn trials() -> Feature {
    Feature::new("routing by engines")
        .trial("Podman's containers land by annotation, by the runtime's link and by hostname", by_podman)
        .trial("labels and annotations of an image that ask for another backend do not get it", hostile_image)
        .trial("containerd's containers land by id and by annotation", by_containerd)
        .trial("Docker's containers land by the runtime's link, hostname and cgroup parent, and by no label", by_docker)
}

/// With the runtimes of this host; crun where it accepts the cgroups.
pub(super) fn configuration(host: &Host, rules: &Value) -> Result<PathBuf, Stop> {
    host.only_wharf("only wharf has rules")?;
    let runtime = |name: &str| {
        let found = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"].map(|dir| Path::new(dir).join(name));
        found.into_iter().find(|path| path.exists()).ok_or_else(|| Stop::skipped(format!("{name} is not installed")))
    };
    let crun = without_hybrid(host.dir(), &runtime("crun")?)?;
    let text = json!({
        "runtimes": {"crun": crun.to_string_lossy(), "runc": runtime("runc")?.to_string_lossy()},
        "trusted_annotations": ["org.example.berth", "io.kubernetes.cri.image-name"],
        "routing": rules,
    });
    let path = host.dir().join("routing.json");
    fs::write(&path, text.to_string())?;
    Ok(path)
}

/// The backend of a container, by both forms of `list`.
pub(super) fn backend(host: &Host, root: &Path, id: &str) -> Result<String, Stop> {
    let list = |words: &[&str]| {
        let mut command = Command::new(host.runtime.program());
        command.arg("--root").arg(root).arg("list").args(words);
        well(host.program(command)?.finish()?)
    };
    let all: Value = serde_json::from_str(&list(&["--format", "json"])?)?;
    let entry = all.as_array().into_iter().flatten().find(|entry| entry["id"] == id).cloned().unwrap_or_default();
    ensure_eq!(entry["status"], "running", "{id} in {all}");
    let backend = entry["backend"].as_str().unwrap_or_default().to_owned();
    let table = list(&[])?;
    let line = table.lines().find(|line| line.starts_with(id)).unwrap_or_default();
    ensure!(line.ends_with(&backend), "{table}");
    Ok(backend)
}

fn by_podman(host: &Host) -> Outcome {
    let rules = json!([
        {"match": {"annotations": {"org.example.berth": "crun"}}, "backend": "crun"},
        {"match": {"argv0": "wharf-runc"}, "backend": "runc"},
        {"match": {"hostname": "*.crun.example"}, "backend": "crun"},
    ]);
    let flag = format!("config={}", configuration(host, &rules)?.display());
    let podman = Podman::new(host, &Choice { name: "wharf", program: host.runtime.program(), peer: false })?;
    let link = host.dir().join("wharf-runc");
    symlink(host.runtime.program(), &link)?;
    let link = link.to_string_lossy().into_owned();
    for (name, options, expected) in [
        ("plain", &[][..], "native"),
        ("noted", &["--annotation", "org.example.berth=crun"], "crun"),
        ("linked", &["--runtime", &link], "runc"),
        ("hosted", &["--hostname", "a.crun.example"], "crun"),
    ] {
        let options = [&["--runtime-flag", &flag], options].concat();
        let command = ["sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"];
        podman.start(name, &options, &command)?;
        podman.wait_for_log(name, "ready")?;
        let id = podman.inspect(name, "{{.Id}}")?;
        ensure_eq!(backend(host, Path::new("/run/wharf"), &id)?, expected, "{name}");
        ensure!(podman.must(&["ps", "--format", "{{.Names}}"])?.lines().any(|line| line == name), "ps has no {name}");
        ensure_eq!(podman.must(&["exec", name, "sh", "-c", "echo inside"])?, "inside", "{name}");
        let hidden = podman.must(&["exec", name, "sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '"])?;
        ensure!(hidden.contains("trap"), "process 1 of {name} is {hidden}");
        podman.must(&["stop", "--time", "10", name])?;
        ensure_eq!(podman.inspect(name, "{{.State.ExitCode}}")?, "7", "{name}");
        podman.must(&["rm", name])?;
    }
    ensure!(!podman.known()?, "wharf still knows a container");
    Ok(())
}

fn hostile_image(host: &Host) -> Outcome {
    let rules = json!([{"match": {"annotations": {"org.example.berth": "runc"}}, "backend": "runc"}]);
    let flag = format!("config={}", configuration(host, &rules)?.display());
    let podman = Podman::new(host, &Choice { name: "wharf", program: host.runtime.program(), peer: false })?;
    let file = host.dir().join("Containerfile");
    let labels = "LABEL org.example.berth=runc wharf.backend=runc run.oci.handler=runc";
    fs::write(&file, format!("FROM {IMAGE}\n{labels}\n"))?;
    podman.must(&[
        "build",
        "--quiet",
        "--format",
        "oci",
        "--annotation",
        "wharf.backend=runc",
        "--annotation",
        "run.oci.runtime=runc",
        "--tag",
        "hostile",
        "--file",
        &file.to_string_lossy(),
        &host.dir().to_string_lossy(),
    ])?;
    let parent = format!("/{}", host.tag());
    for (name, more, expected) in
        [("image", None, "native"), ("user", Some(["--annotation", "org.example.berth=runc"]), "runc")]
    {
        let mut words = vec!["run", "--detach", "--name", name, "--network", "none", "--cgroup-parent", &parent];
        words.extend(["--runtime-flag", &flag]);
        words.extend(more.iter().flatten());
        words.extend(["hostile", "sleep", "60"]);
        podman.must(&words)?;
        let id = podman.inspect(name, "{{.Id}}")?;
        ensure_eq!(backend(host, Path::new("/run/wharf"), &id)?, expected, "{name}");
        podman.must(&["rm", "--force", "--time", "0", name])?;
    }
    Ok(())
}

/// A daemon of this trial's own. Dropped, it ends.
pub(super) struct Containerd<'h> {
    host: &'h Host,
    dir: PathBuf,
    configuration: PathBuf,
    daemon: RefCell<Option<Running>>,
}

impl<'h> Containerd<'h> {
    pub(super) fn start(host: &'h Host, configuration: &Path) -> Result<Self, Stop> {
        for program in ["containerd", "containerd-shim-runc-v2", "ctr"] {
            if !Path::new("/usr/bin").join(program).exists() {
                return Err(Stop::skipped(format!("{program} is not installed")));
            }
        }
        let dir = host.new_dir("containerd")?;
        let place = dir.display();
        let off = ["grpc.v1.cri", "snapshotter.v1.btrfs", "snapshotter.v1.zfs", "snapshotter.v1.devmapper"];
        let off = off.map(|name| format!("\"io.containerd.{name}\"")).join(", ");
        let text = format!(
            "version = 2\nroot = \"{place}/root\"\nstate = \"{place}/state\"\ndisabled_plugins = [{off}]\n\
             [grpc]\naddress = \"{place}/sock\"\n[plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{place}/opt\"\n"
        );
        fs::write(dir.join("config.toml"), text)?;
        let engine = Containerd { host, dir, configuration: configuration.to_owned(), daemon: RefCell::new(None) };
        engine.launch()?;
        Ok(engine)
    }

    /// Starts the daemon and waits for its answer.
    pub(super) fn launch(&self) -> Outcome {
        let mut command = Command::new("/usr/bin/containerd");
        // What the daemon has in its environment, its shims and their runtimes have too.
        command.arg("--config").arg(self.dir.join("config.toml")).env("WHARF_CONFIG", &self.configuration);
        *self.daemon.borrow_mut() = Some(self.host.program(command)?);
        wait_until("containerd to answer", || Ok(self.ctr(&["version"])?.code() == Some(0)))
    }

    /// Ends the daemon; shims and containers go on.
    pub(super) fn end(&self, by: Signal) -> Outcome {
        if let Some(daemon) = self.daemon.borrow_mut().take() {
            kill(Pid::from_raw(daemon.pid()), by)?;
            daemon.finish()?;
        }
        Ok(())
    }

    pub(super) fn ctr(&self, words: &[&str]) -> Result<Finished, Stop> {
        let mut command = Command::new("/usr/bin/ctr");
        command.arg("--address").arg(self.dir.join("sock")).args(["--namespace", self.host.tag()]).args(words);
        self.host.program(command)?.finish()
    }

    pub(super) fn must(&self, words: &[&str]) -> Result<String, Stop> {
        well(self.ctr(words)?)
    }

    /// Where its shims tell runtimes to keep their state.
    pub(super) fn root(&self) -> PathBuf {
        Path::new("/run/containerd/runc").join(self.host.tag())
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        let _ = self.end(Signal::SIGTERM);
        let _ = fs::remove_dir(self.root());
    }
}

fn by_containerd(host: &Host) -> Outcome {
    let rules = json!([
        {"match": {"id": "*-legacy-*"}, "backend": "runc"},
        {"match": {"annotations": {"org.example.berth": "crun"}}, "backend": "crun"},
    ]);
    let engine = Containerd::start(host, &configuration(host, &rules)?)?;
    let bundle: Bundle = host.bundle()?;
    let program = host.runtime.program().to_string_lossy().into_owned();
    let rootfs = bundle.rootfs().to_string_lossy().into_owned();
    for (id, options, expected) in [
        (host.unique("plain-"), &[][..], "native"),
        (host.unique("legacy-"), &[], "runc"),
        (host.unique("noted-"), &["--annotation", "org.example.berth=crun"], "crun"),
    ] {
        let cgroup = format!("/{}/{id}", host.tag());
        let mut words = vec!["run", "--detach", "--rootfs", "--runc-binary", &program, "--cgroup", &cgroup];
        words.extend(options);
        words.extend([&*rootfs, &*id, "/bin/payload", "sleep"]);
        engine.must(&words)?;
        ensure_eq!(backend(host, &engine.root(), &id)?, expected, "{id}");
        ensure!(engine.must(&["task", "list"])?.lines().any(|line| line.starts_with(&id)), "task list has no {id}");
        let inside = engine.must(&["task", "exec", "--exec-id", "e", &id, "/bin/payload", "exit", "0"]);
        ensure!(inside.is_ok(), "exec in {id}: {inside:?}");
        ensure!(engine.must(&["task", "ps", &id])?.lines().count() >= 2, "task ps of {id} shows no process");
        engine.must(&["task", "kill", "--signal", "SIGKILL", &id])?;
        let begun = Instant::now();
        while !engine.must(&["task", "list"])?.lines().any(|line| line.starts_with(&id) && line.contains("STOPPED")) {
            ensure!(begun.elapsed() < limit(20), "{id} does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
        engine.must(&["task", "delete", &id])?;
        engine.must(&["container", "delete", &id])?;
        ensure!(!engine.root().join(&id).exists(), "the record of {id} is left");
    }
    for hierarchy in fs::read_dir("/sys/fs/cgroup")?.flatten() {
        let _ = fs::remove_dir(hierarchy.path().join(host.tag()));
    }
    Ok(())
}

fn by_docker(host: &Host) -> Outcome {
    let parent = format!("/{}/old", host.tag());
    let rules = json!([
        {"match": {"argv0": "wharf-runc"}, "backend": "runc"},
        {"match": {"hostname": "*.crun.example"}, "backend": "crun"},
        {"match": {"cgroup_parent": parent}, "backend": "runc"},
        {"match": {"annotations": {"org.example.berth": "crun"}}, "backend": "crun"},
    ]);
    let configuration = configuration(host, &rules)?;
    let link = host.dir().join("wharf-runc");
    symlink(host.runtime.program(), &link)?;
    let choice = Choice { name: "wharf", program: host.runtime.program(), peer: false };
    let engine = Docker::routed(host, &choice, &[("wharf-runc", &link)], Some(&configuration))?;
    for (options, expected) in [
        (&[][..], "native"),
        (&["--label", "org.example.berth=crun"], "native"),
        (&["--runtime", "wharf-runc"], "runc"),
        (&["--hostname", "a.crun.example"], "crun"),
        (&["--cgroup-parent", &parent], "runc"),
    ] {
        let command = ["sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"];
        let id = engine.detached(&[&["--network", "none"], options].concat(), &command)?;
        let begun = Instant::now();
        while !engine.log_of(&id)?.stdout.contains("ready") {
            ensure!(begun.elapsed() < limit(20), "{options:?} is not ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        let root = engine.root_of(&id)?;
        ensure_eq!(backend(host, &root, &id)?, expected, "{options:?}");
        let listed = engine.must(&["ps", "--no-trunc", "--quiet"])?;
        ensure!(listed.lines().any(|line| line == id), "docker ps has no {id}: {listed}");
        let inside = engine.exec(&[], &id, &["sh", "-c", "echo inside"])?;
        ensure!(inside.code() == Some(0) && inside.stdout == "inside\n", "{inside}");
        engine.must(&["stop", "--time", "10", &id])?;
        ensure_eq!(engine.exit_code(&id)?, "7", "{options:?}");
        ensure!(!root.join(&id).exists(), "the record of {id} is left");
    }
    for hierarchy in fs::read_dir("/sys/fs/cgroup")?.flatten() {
        let _ = fs::remove_dir(hierarchy.path().join(host.tag()).join("old"));
    }
    engine.stop()
}
