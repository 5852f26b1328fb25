//! dockerd of the case's own, in a network namespace of its own, with the image imported and one default runtime.

use crate::engines::case::Choice;
use crate::engines::common::{Daemon, callable, code, installed, names, remove_parent_cgroups, said};
use crate::engines::image;
use harness::{Finished, Host, Mounted, Outcome, Running, Stop, ensure, json, wait_until};
use nix::sys::signal::Signal;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) const IMAGE: &str = "busybox";

pub(crate) struct Docker<'h> {
    pub(crate) host: &'h Host,
    dir: PathBuf,
    docker: PathBuf,
    runtime: String,
    /// wharf's, for all runtimes.
    configuration: Option<PathBuf>,
    daemon: RefCell<Option<Daemon>>,
    /// Places of the host's that no option moves.
    _own: [Mounted; 2],
}

impl<'h> Docker<'h> {
    pub(crate) fn start(host: &'h Host, choice: &Choice<'_>) -> Result<Self, Stop> {
        Self::routed(host, choice, &[], None)
    }

    /// With more runtimes by their names, and a configuration of wharf's in the daemon's environment.
    pub(crate) fn routed(
        host: &'h Host,
        choice: &Choice<'_>,
        more: &[(&str, &Path)],
        configuration: Option<&Path>,
    ) -> Result<Self, Stop> {
        installed("dockerd")?;
        let docker = installed("docker")?;
        let dir = host.new_dir("docker")?;
        std::fs::create_dir(dir.join("tmp"))?;
        let program = callable(choice, &dir)?;
        // Docker has runc built in, and keeps its name to itself.
        let mut runtimes = if choice.name == "runc" { json!({}) } else { json!({ choice.name: { "path": program } }) };
        for (name, program) in more {
            runtimes[name] = json!({ "path": program });
        }
        let config = json!({
            "runtimes": runtimes,
            "default-runtime": choice.name,
            "data-root": dir.join("data"),
            "exec-root": dir.join("exec"),
            "pidfile": dir.join("pid"),
            "hosts": [format!("unix://{}", dir.join("sock").display())],
            "iptables": false,
            "ip6tables": false,
            "live-restore": true,
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "cgroup-parent": format!("/{}", host.tag()),
            // Not above what a container that is itself without CAP_SYS_RESOURCE may have.
            "default-ulimits": { "nofile": { "Name": "nofile", "Soft": 1024, "Hard": 4096 } },
        });
        std::fs::write(dir.join("daemon.json"), config.to_string())?;
        let own = [Mounted::tmpfs(Path::new("/run/containerd"))?, Mounted::tmpfs(Path::new("/etc/docker"))?];
        let runtime = choice.name.to_owned();
        let configuration = configuration.map(Path::to_owned);
        let engine = Docker { host, dir, docker, runtime, configuration, daemon: RefCell::new(None), _own: own };
        engine.launch()?;
        let tree = image::tree(host)?;
        let archive = host.shared_dir("image")?.join("tree.tar");
        if !archive.exists() {
            said(host.program(tar(&tree, &archive))?.finish()?)?;
        }
        engine.must(&["import", "--change", "ENV PATH=/usr/bin:/bin", &archive.to_string_lossy(), IMAGE])?;
        Ok(engine)
    }

    /// Starts the daemon and waits for its answer.
    pub(crate) fn launch(&self) -> Outcome {
        let mut command = Command::new("unshare");
        command.arg("--net").arg(installed("dockerd")?).arg("--config-file").arg(self.dir.join("daemon.json"));
        command.env("TMPDIR", self.dir.join("tmp")).stdin(Stdio::null());
        // What the daemon has in its environment, its shims and their runtimes have too.
        command.envs(self.configuration.iter().map(|path| ("WHARF_CONFIG", path)));
        let daemon = Daemon::start(self.host, command)?;
        let sock = self.dir.join("sock");
        daemon.wait_for("dockerd", || Ok(sock.exists() && self.docker(&["version"])?.code() == Some(0)))?;
        *self.daemon.borrow_mut() = Some(daemon);
        Ok(())
    }

    /// Ends the daemon by this signal and waits for its end; shims and containers go on.
    pub(crate) fn end(&self, by: Signal) -> Outcome {
        let file = self.dir.join("exec/containerd/containerd.pid");
        let pid = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
        if let Some(daemon) = self.daemon.borrow_mut().take() {
            daemon.end(by)?;
        }
        // Its containerd ends with it. Left to us as the subreaper, it would seem to be alive until it is reaped.
        if let (Some(pid), Signal::SIGKILL) = (pid, by) {
            let pid = nix::unistd::Pid::from_raw(pid);
            let flag = nix::sys::wait::WaitPidFlag::WNOHANG;
            let gone = || Ok(nix::sys::wait::waitpid(pid, Some(flag)) != Ok(nix::sys::wait::WaitStatus::StillAlive));
            wait_until("dockerd's containerd to end", gone)?;
        }
        Ok(())
    }

    pub(crate) fn stop(self) -> Outcome {
        let all = self.must(&["ps", "--all", "--quiet"])?;
        let mut words = vec!["rm", "--force", "--volumes"];
        words.extend(all.lines());
        if words.len() > 3 {
            self.must(&words)?;
        }
        self.nothing_left()?;
        self.end(Signal::SIGTERM)?;
        // The daemon's own network namespace stays mounted.
        let _ = nix::mount::umount(&self.dir.join("exec/netns/default"));
        remove_parent_cgroups(self.host.tag());
        Ok(())
    }

    /// Of no container that was removed may anything be left.
    pub(crate) fn nothing_left(&self) -> Outcome {
        let exec = self.dir.join("exec");
        let places = [
            exec.join("containerd/daemon/io.containerd.runtime.v2.task/moby"),
            exec.join("runtime-runc/moby"),
            exec.join(format!("runtime-{}/moby", self.runtime)),
            self.dir.join("data/containers"),
            PathBuf::from("/run/containerd/s"),
        ];
        wait_until("shims to end", || Ok(names(&places[4]).is_empty()))?;
        for place in places {
            ensure!(names(&place).is_empty(), "left in {}: {:?}", place.display(), names(&place));
        }
        Ok(())
    }

    /// Where its shims told the runtime of this container to keep its state: some versions have one place for each name.
    pub(crate) fn root_of(&self, id: &str) -> Result<PathBuf, Stop> {
        let exec = self.dir.join("exec");
        let roots = names(&exec).into_iter().map(|name| exec.join(name).join("moby"));
        roots.into_iter().find(|root| root.join(id).exists()).ok_or_else(|| Stop::failed(format!("no record of {id}")))
    }

    /// The name of the runtime in use.
    pub(crate) fn runtime(&self) -> &str {
        &self.runtime
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.docker);
        command.arg("--host").arg(format!("unix://{}", self.dir.join("sock").display()));
        command.args(words).env("DOCKER_CONFIG", self.dir.join("client")).stdin(Stdio::null());
        command
    }

    pub(crate) fn spawn(&self, words: &[&str]) -> Result<Running, Stop> {
        self.host.program(self.command(words))
    }

    /// Any command, its end as it is.
    pub(crate) fn docker(&self, words: &[&str]) -> Result<Finished, Stop> {
        self.spawn(words)?.finish()
    }

    /// A command that must succeed: its stdout.
    pub(crate) fn must(&self, words: &[&str]) -> Result<String, Stop> {
        said(self.docker(words)?)
    }

    /// `docker run --rm`, to its end.
    pub(crate) fn run(&self, options: &[&str], words: &[&str]) -> Result<Finished, Stop> {
        self.docker(&[&["run", "--rm"], options, &[IMAGE], words].concat())
    }

    /// `docker run --rm` that must succeed: what it printed.
    pub(crate) fn prints(&self, options: &[&str], words: &[&str]) -> Result<String, Stop> {
        said(self.run(options, words)?)
    }

    /// A container in the background: its id.
    pub(crate) fn detached(&self, options: &[&str], words: &[&str]) -> Result<String, Stop> {
        self.must(&[&["run", "--detach"], options, &[IMAGE], words].concat())
    }

    /// `docker exec`, to its end.
    pub(crate) fn exec(&self, options: &[&str], id: &str, words: &[&str]) -> Result<Finished, Stop> {
        self.docker(&[&["exec"], options, &[id], words].concat())
    }

    /// What `docker inspect` has of a container, by a template.
    pub(crate) fn inspect(&self, id: &str, template: &str) -> Result<String, Stop> {
        self.must(&["inspect", "--format", template, id])
    }

    pub(crate) fn pid(&self, id: &str) -> Result<i32, Stop> {
        let text = self.inspect(id, "{{.State.Pid}}")?;
        text.parse().map_err(|_| Stop::failed(format!("the pid of {id} is {text:?}")))
    }

    pub(crate) fn wait_for(&self, id: &str, template: &str, wanted: &str) -> Outcome {
        wait_until(&format!("{template} to be {wanted}"), || Ok(self.inspect(id, template)? == wanted))
    }

    /// `docker wait`, then `docker rm`: the exit code.
    pub(crate) fn exit_code(&self, id: &str) -> Result<String, Stop> {
        let code = self.must(&["wait", id])?;
        self.must(&["rm", id])?;
        Ok(code)
    }

    /// A new directory of the host's, as a volume option.
    pub(crate) fn volume(&self, target: &str) -> Result<(PathBuf, String), Stop> {
        let dir = self.host.new_dir("volume")?;
        let option = format!("{}:{target}", dir.display());
        Ok((dir, option))
    }

    pub(crate) fn log_of(&self, id: &str) -> Result<Finished, Stop> {
        code(self.docker(&["logs", id])?, 0)
    }
}

fn tar(tree: &Path, archive: &Path) -> Command {
    let mut command = Command::new("tar");
    command.args(["--owner=0", "--group=0", "-cf"]).arg(archive).arg("-C").arg(tree).arg(".");
    command
}
