//! containerd of the trial's own, and its client ctr: `ctr run --runc-binary` with the runtime under test.

mod checkpoint;
mod compared;
mod cri;
mod exits;
mod grpc;
mod limits;
mod options;
mod restart;
mod setup;
mod tasks;
mod terminal;

use super::case::Choice;
use super::common::{Daemon, callable, code, installed, names, remove_parent_cgroups, said};
use super::image;
use super::{Case, Seen, feature};
use harness::{Feature, Finished, Host, Mounted, Outcome, Running, Stop, ensure, wait_until};
use nix::sys::signal::Signal;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where shims have their sockets, and runtimes their state, whatever containerd's configuration says.
const RUN: &str = "/run/containerd";

pub(crate) fn trials() -> Feature {
    let feature = Feature::new("containerd");
    let feature = options::trials(feature);
    let feature = limits::trials(feature);
    let feature = tasks::trials(feature);
    let feature = terminal::trials(feature);
    let feature = setup::trials(feature);
    let feature = exits::trials(feature);
    let feature = cri::trials(feature);
    restart::trials(feature)
}

/// What is compared with the peers.
pub(crate) fn compared() -> Feature {
    let cases = compared::cases().into_iter().chain(checkpoint::cases()).collect();
    let feature = feature("containerd", cases);
    feature.trial("the payload sees of itself what it sees with runc", compared::inside)
}

fn case<S: Into<Seen> + 'static>(
    name: &'static str,
    expected: &'static str,
    look: fn(&Containerd<'_>) -> Result<S, Stop>,
) -> Case {
    Case::new(name, expected, move |host, choice| {
        let engine = Containerd::start(host, choice)?;
        let seen = look(&engine);
        if matches!(seen, Ok(_) | Err(Stop::Skipped(_))) {
            engine.stop()?;
        }
        seen.map(Into::into)
    })
}

/// A daemon with the image imported.
pub(crate) struct Containerd<'h> {
    pub(crate) host: &'h Host,
    dir: PathBuf,
    ctr: PathBuf,
    daemon: RefCell<Option<Daemon>>,
    runtime: PathBuf,
    /// containerd's own: the trial's tag, as it stands in each path, cgroups' among them; or that of its CRI plugin.
    namespace: String,
    _run: Mounted,
}

/// A trial with a daemon, which must end with nothing left of any task.
pub(crate) fn with(body: impl Fn(&Containerd<'_>) -> Outcome + Send + 'static) -> impl FnOnce(&Host) -> Outcome + Send {
    move |host| {
        let own = Choice { name: host.runtime.name(), program: host.runtime.program(), peer: false };
        let engine = Containerd::start(host, &own)?;
        let seen = body(&engine);
        if matches!(seen, Ok(()) | Err(Stop::Skipped(_))) {
            engine.stop()?;
        }
        seen
    }
}

impl<'h> Containerd<'h> {
    fn start(host: &'h Host, choice: &Choice<'_>) -> Result<Self, Stop> {
        // CRI has no part in these trials.
        Self::start_with(host, choice, host.tag(), &["grpc.v1.cri"], |_| String::new())
    }

    /// `more` is what its configuration says besides, of the program that it is to call.
    fn start_with(
        host: &'h Host,
        choice: &Choice<'_>,
        namespace: &str,
        off: &[&str],
        more: impl Fn(&Path) -> String,
    ) -> Result<Self, Stop> {
        installed("containerd")?;
        installed("containerd-shim-runc-v2")?;
        let ctr = installed("ctr")?;
        let dir = host.new_dir("containerd")?;
        std::fs::create_dir(dir.join("tmp"))?;
        let engine = Containerd {
            host,
            ctr,
            daemon: RefCell::new(None),
            runtime: callable(choice, &dir)?,
            namespace: namespace.to_owned(),
            _run: Mounted::tmpfs(Path::new(RUN))?,
            dir,
        };
        engine.configure(off, &more(&engine.runtime))?;
        engine.launch()?;
        let archive = image::archive(host)?;
        engine.must(&["image", "import", &archive.to_string_lossy()])?;
        Ok(engine)
    }

    fn configure(&self, off: &[&str], more: &str) -> Outcome {
        let dir = self.dir.display();
        // Snapshotters that want a disk of their own have no part in any.
        let off = [off, &["snapshotter.v1.btrfs", "snapshotter.v1.zfs", "snapshotter.v1.devmapper"]].concat();
        let off: Vec<String> = off.iter().map(|name| format!("\"io.containerd.{name}\"")).collect();
        let text = format!(
            "version = 2\nroot = \"{dir}/root\"\nstate = \"{dir}/state\"\ndisabled_plugins = [{}]\n\
             [grpc]\naddress = \"{dir}/sock\"\n[plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{dir}/opt\"\n{more}",
            off.join(", ")
        );
        Ok(std::fs::write(self.dir.join("config.toml"), text)?)
    }

    /// Starts the daemon and waits for its answer.
    pub(crate) fn launch(&self) -> Outcome {
        let mut command = Command::new(installed("containerd")?);
        command.arg("--config").arg(self.dir.join("config.toml")).env("TMPDIR", self.dir.join("tmp"));
        command.current_dir(&self.dir);
        let daemon = Daemon::start(self.host, command)?;
        daemon.wait_for("containerd", || Ok(self.ctr(&["version"])?.code() == Some(0)))?;
        *self.daemon.borrow_mut() = Some(daemon);
        Ok(())
    }

    /// Ends the daemon by this signal and waits for its end; shims and containers go on.
    pub(crate) fn end(&self, by: Signal) -> Outcome {
        if let Some(daemon) = self.daemon.borrow_mut().take() {
            daemon.end(by)?;
        }
        Ok(())
    }

    fn stop(self) -> Outcome {
        for task in self.must(&["task", "ls", "--quiet"])?.lines() {
            self.must(&["task", "rm", "--force", task])?;
        }
        for container in self.must(&["container", "ls", "--quiet"])?.lines() {
            self.must(&["container", "rm", container])?;
        }
        self.nothing_left()?;
        self.end(Signal::SIGTERM)?;
        remove_parent_cgroups(self.host.tag());
        Ok(())
    }

    /// Of no container that was deleted may anything be left.
    pub(crate) fn nothing_left(&self) -> Outcome {
        let places = [
            self.dir.join("tmp"),
            Path::new(RUN).join("runc").join(&self.namespace),
            self.dir.join("state/io.containerd.runtime.v2.task").join(&self.namespace),
            Path::new(RUN).join("s"),
        ];
        wait_until("shims to end", || Ok(names(&places[3]).is_empty()))?;
        for place in places {
            ensure!(names(&place).is_empty(), "left in {}: {:?}", place.display(), names(&place));
        }
        Ok(())
    }

    pub(crate) fn ctr_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.ctr);
        command.arg("--address").arg(self.dir.join("sock")).arg("--namespace").arg(&self.namespace);
        command.args(args).stdin(std::process::Stdio::null());
        command
    }

    pub(crate) fn ctr(&self, args: &[&str]) -> Result<Finished, Stop> {
        self.host.program(self.ctr_command(args))?.finish()
    }

    pub(crate) fn spawn(&self, args: &[&str]) -> Result<Running, Stop> {
        self.host.program(self.ctr_command(args))
    }

    /// ctr, which must succeed: its stdout.
    pub(crate) fn must(&self, args: &[&str]) -> Result<String, Stop> {
        said(self.ctr(args)?)
    }

    /// The words of `ctr run` with the runtime under test.
    pub(crate) fn run_words<'a>(&'a self, options: &[&'a str], id: &'a str, words: &[&'a str]) -> Vec<&'a str> {
        let mut args = vec!["run", "--runc-binary", self.runtime.to_str().unwrap_or_default()];
        args.extend(options);
        args.extend([image::NAME, id]);
        args.extend(words);
        args
    }

    /// `ctr run`, to its end.
    pub(crate) fn run(&self, options: &[&str], id: &str, words: &[&str]) -> Result<Finished, Stop> {
        self.ctr(&self.run_words(options, id, words))
    }

    /// `ctr run --rm` that must succeed: what it printed.
    pub(crate) fn prints(&self, options: &[&str], words: &[&str]) -> Result<String, Stop> {
        let id = self.host.unique("p");
        said(self.run(&[&["--rm"], options].concat(), &id, words)?)
    }

    /// A detached container: its id and its pid.
    pub(crate) fn detached(&self, options: &[&str], words: &[&str]) -> Result<(String, i32), Stop> {
        let id = self.host.unique("d");
        code(self.run(&[&["--detach"], options].concat(), &id, words)?, 0)?;
        let pid = self.task(&id)?.0;
        Ok((id, pid))
    }

    /// Pid and status of a task, as `ctr task ls` has them.
    pub(crate) fn task(&self, id: &str) -> Result<(i32, String), Stop> {
        let table = self.must(&["task", "ls"])?;
        let line = table.lines().find(|line| line.split_whitespace().next() == Some(id));
        let mut words = line.unwrap_or_default().split_whitespace().skip(1);
        match (words.next().and_then(|pid| pid.parse().ok()), words.next()) {
            (Some(pid), Some(status)) => Ok((pid, status.to_owned())),
            _ => Err(Stop::failed(format!("no task {id} in {table:?}"))),
        }
    }

    pub(crate) fn wait_for(&self, id: &str, status: &str) -> Outcome {
        wait_until(&format!("task {id} to become {status}"), || Ok(self.task(id)?.1 == status))
    }

    /// `ctr task delete` of a stopped task: the exit code that containerd kept.
    pub(crate) fn exit_code(&self, id: &str) -> Result<i32, Stop> {
        self.wait_for(id, "STOPPED")?;
        let finished = code(self.ctr(&["task", "delete", id])?, 0)?;
        self.must(&["container", "rm", id])?;
        let Some((_, number)) = finished.stderr.rsplit_once("exit code ") else { return Ok(0) };
        let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().map_err(|_| Stop::failed(finished.to_string()))
    }

    /// `ctr task exec` of a running task, to its end.
    pub(crate) fn exec(&self, id: &str, options: &[&str], words: &[&str]) -> Result<Finished, Stop> {
        let name = self.host.unique("x");
        let mut args = vec!["task", "exec", "--exec-id", &name];
        args.extend(options);
        args.push(id);
        args.extend(words);
        self.ctr(&args)
    }
}
