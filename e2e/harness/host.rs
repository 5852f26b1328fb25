//! The host of one trial: its directory, its runtime, its unique names.

use crate::runtime::{Running, Runtime};
use crate::{Bundle, Container, Finished, Node, Outcome, Ran, Report, Stop};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Makes the directory `dir` with a program in it that runs `program` without some system calls, under the same name.
/// Beside `program` lies the one that takes them away.
pub(crate) fn taking_away(program: &Path, missing: &str, dir: &Path) -> Result<PathBuf, Stop> {
    let name = program.file_name().unwrap_or_default();
    let real = dir.join("real");
    std::fs::create_dir_all(&real)?;
    std::os::unix::fs::symlink(program, real.join(name))?;
    std::fs::write(real.join("without"), missing)?;
    std::fs::copy(program.with_file_name("without"), dir.join(name))?;
    Ok(dir.join(name))
}

/// What a trial is given. Directory, `--root` and ids belong to this trial alone.
pub struct Host {
    pub runtime: Runtime,
    dir: PathBuf,
    tag: String,
    payload: PathBuf,
    next: AtomicU32,
    /// The Proxmox node that it plays.
    node: Option<Node>,
}

impl Host {
    pub(crate) fn new(runtime: Runtime, payload: PathBuf, dir: PathBuf, tag: String) -> Result<Self, Stop> {
        std::fs::create_dir_all(dir.join("root"))?;
        Ok(Host {
            runtime: runtime.with_root(dir.join("root")),
            dir,
            tag,
            payload,
            next: AtomicU32::new(0),
            node: None,
        })
    }

    /// The same host with the runtime under test told to hand containers on to another one. crun refuses a hybrid cgroup
    /// layout: the v2 part is hidden from it.
    pub fn handing_on_to(&self, backend: &str) -> Result<Self, Stop> {
        let script = self.new_dir("handing-on")?.join(backend);
        let program = self.runtime.program().display();
        let hide = match backend {
            "crun" if !self.is_v2() => "umount /sys/fs/cgroup/unified 2>/dev/null; ",
            _ => "",
        };
        let text =
            format!("#!/bin/sh\nexec unshare -m sh -c '{hide}exec {program} --backend {backend} \"$@\"' sh \"$@\"\n");
        std::fs::write(&script, text)?;
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(Host {
            runtime: Runtime::new(script).with_root(self.root()),
            dir: self.dir.clone(),
            tag: format!("{}-{backend}", self.tag),
            payload: self.payload.clone(),
            next: AtomicU32::new(0),
            node: None,
        })
    }

    /// The same host with the runtime under test given these options in every call.
    pub fn with_options(&self, options: &[&str]) -> Result<Self, Stop> {
        let script = self.new_dir("options")?.join(self.runtime.name());
        let options: Vec<String> = options.iter().map(|option| format!("'{option}'")).collect();
        let program = self.runtime.program().display();
        std::fs::write(&script, format!("#!/bin/sh\nexec {program} {} \"$@\"\n", options.join(" ")))?;
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(Host {
            runtime: Runtime::new(script).with_root(self.root()),
            dir: self.dir.clone(),
            tag: format!("{}-o", self.tag),
            payload: self.payload.clone(),
            next: AtomicU32::new(0),
            node: None,
        })
    }

    /// The same host as that node, which ends with it.
    pub fn as_node(mut self, node: Node) -> Self {
        self.node = Some(node);
        self
    }

    pub fn node(&self) -> Result<&Node, Stop> {
        self.node.as_ref().ok_or_else(|| Stop::failed("this host is no node"))
    }

    /// The same host with the runtime under test called by an ordinary user: his uid and gid, no other group, and no
    /// environment but a runtime directory of his own, where the containers' records are. `before` is shell, run as root
    /// by the process that becomes the runtime.
    pub fn for_user(&self, uid: u32, before: &str) -> Result<Self, Stop> {
        let dir = self.new_dir("user")?;
        let script = dir.join(self.runtime.name());
        let program = self.runtime.program().display();
        let runtime_dir = dir.join("run");
        std::fs::create_dir(&runtime_dir)?;
        std::os::unix::fs::chown(&runtime_dir, Some(uid), Some(uid))?;
        let text = format!(
            "#!/bin/sh\n{before}\nexec setpriv --reuid {uid} --regid {uid} --clear-groups env -i PATH=\"$PATH\" \
             XDG_RUNTIME_DIR={} {program} \"$@\"\n",
            runtime_dir.display()
        );
        std::fs::write(&script, text)?;
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(Host {
            runtime: Runtime::new(script).with_root(runtime_dir.join("wharf")),
            dir: self.dir.clone(),
            tag: format!("{}-u", self.tag),
            payload: self.payload.clone(),
            next: AtomicU32::new(0),
            node: None,
        })
    }

    /// The same host with the runtime under test deprived of system calls: words of e2e/payload/without.rs.
    pub fn without(&self, missing: &str) -> Result<Self, Stop> {
        if std::env::var_os("WHARF_E2E_WITHOUT").is_some() {
            return Err(Stop::skipped("the runtime lacks system calls already"));
        }
        let dir = self.new_dir("without")?;
        Ok(Host {
            runtime: Runtime::new(taking_away(self.runtime.program(), missing, &dir.join("programs"))?)
                .with_root(self.root()),
            dir: self.dir.clone(),
            tag: format!("{}-without-{missing}", self.tag),
            payload: self.payload.clone(),
            next: AtomicU32::new(0),
            node: None,
        })
    }

    /// Ends and removes whatever is left of this host's containers, as after a trial.
    pub fn sweep(&self) -> Outcome {
        crate::leaks::sweep(&self.tag, &self.dir);
        for entry in std::fs::read_dir(self.root())?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&self.tag) {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    /// A directory for whatever the trial needs, on a tmpfs that allows devices and programs.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The `--root` of this trial.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// Stands in every id, and so in every cgroup and state directory of this trial.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The static payload program, on the host.
    pub fn payload(&self) -> &Path {
        &self.payload
    }

    /// An id nobody has used.
    pub fn unique(&self, word: &str) -> String {
        format!("{}-{word}{}", self.tag, self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// A new directory of this trial.
    pub fn new_dir(&self, word: &str) -> Result<PathBuf, Stop> {
        let dir = self.dir.join(self.unique(word));
        std::fs::create_dir(&dir)?;
        Ok(dir)
    }

    /// A new bundle with its own id and root file system.
    pub fn bundle(&self) -> Result<Bundle, Stop> {
        Bundle::new(self)
    }

    /// `run`: create, start, wait, delete. The payload's code is the runtime's.
    pub fn run(&self, bundle: &Bundle) -> Result<Ran, Stop> {
        bundle.save()?;
        let finished = self.runtime.call(&["run", "--bundle", bundle.dir_text(), bundle.id()])?;
        Ok(Ran::new(finished))
    }

    /// `run` of a payload that must end with 0.
    pub fn run_well(&self, bundle: &Bundle) -> Result<Ran, Stop> {
        let ran = self.run(bundle)?;
        match ran.finished.code() {
            Some(0) => Ok(ran),
            _ => Err(Stop::failed(format!("run of {}: {}", bundle.id(), ran.finished))),
        }
    }

    /// The payload's report, of a run that ended with 0.
    pub fn report(&self, bundle: &Bundle) -> Result<Report, Stop> {
        self.run_well(bundle)?.report()
    }

    /// What the payload's commands printed, one line each, of a run that ended with 0.
    pub fn lines<const N: usize>(&self, bundle: &Bundle) -> Result<[Report; N], Stop> {
        self.run_well(bundle)?.all()
    }

    /// `create`, which must succeed.
    pub fn create(&self, bundle: &Bundle) -> Result<Container<'_>, Stop> {
        Container::create(self, bundle, &[])
    }

    /// `create` and `start`.
    pub fn start(&self, bundle: &Bundle) -> Result<Container<'_>, Stop> {
        let container = self.create(bundle)?;
        container.start()?;
        Ok(container)
    }

    /// `create`, which must fail: what it said. The container must not exist afterwards.
    pub fn create_fails(&self, bundle: &Bundle) -> Result<Finished, Stop> {
        bundle.save()?;
        let finished = self.runtime.call(&["create", "--bundle", bundle.dir_text(), bundle.id()])?;
        if finished.code() == Some(0) {
            let _ = self.runtime.call(&["delete", "--force", bundle.id()]);
            return Err(Stop::failed(format!("create of {} succeeded, it should have been refused", bundle.id())));
        }
        Ok(finished)
    }

    /// A verb without waiting for its end.
    pub fn spawn(&self, args: &[&str]) -> Result<Running, Stop> {
        self.runtime.spawn(args)
    }

    /// Starts any program, an engine for one. Its output goes to files of this trial, so that what it leaves running
    /// holds no pipe of ours.
    pub fn program(&self, command: Command) -> Result<Running, Stop> {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let call = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        Running::start(command, &self.dir, call)
    }

    /// A directory that the trials of this run share, made where it is missing: what is dear to make is made once.
    pub fn shared_dir(&self, name: &str) -> Result<PathBuf, Stop> {
        let dir = self.dir.with_file_name(name);
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// Skips where the runtime under test is another one and is known to differ.
    pub fn except(&self, peer: &str, reason: &str) -> Outcome {
        match self.runtime.name() == peer {
            true => Err(Stop::skipped(format!("{peer}: {reason}"))),
            false => Ok(()),
        }
    }

    /// Skips where the runtime under test is not wharf.
    pub fn only_wharf(&self, reason: &str) -> Outcome {
        match self.runtime.name() == "wharf" {
            true => Ok(()),
            false => Err(Stop::skipped(format!("{}: {reason}", self.runtime.name()))),
        }
    }

    /// Skips unless this host has cgroup v2 with this controller in use.
    pub fn needs_v2(&self, controller: &str) -> Outcome {
        let list = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
        match list.split_whitespace().any(|name| name == controller) {
            true => Ok(()),
            false => Err(Stop::skipped(format!("needs cgroup v2 with the {controller} controller"))),
        }
    }

    /// Skips unless this host has this controller, v1 or v2.
    pub fn needs_controller(&self, controller: &str) -> Outcome {
        match self.controller_dir(controller) {
            Some(_) => Ok(()),
            None => Err(Stop::skipped(format!("this host has no {controller} controller in use"))),
        }
    }

    /// True where one unified v2 hierarchy stands at /sys/fs/cgroup.
    pub fn is_v2(&self) -> bool {
        Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
    }

    /// The root of the hierarchy that has this controller.
    pub fn controller_dir(&self, controller: &str) -> Option<PathBuf> {
        if self.is_v2() {
            return self.needs_v2(controller).is_ok().then(|| PathBuf::from("/sys/fs/cgroup"));
        }
        let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        table.lines().find_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mut right = right.split(' ');
            let (kind, options) = (right.next()?, right.nth(1)?);
            let place = PathBuf::from(left.split(' ').nth(4)?);
            // A v2 hierarchy beside those of v1 may hold a controller too.
            let held = match kind {
                "cgroup" => options.split(',').any(|option| option == controller),
                "cgroup2" => std::fs::read_to_string(place.join("cgroup.controllers"))
                    .is_ok_and(|list| list.split_whitespace().any(|name| name == controller)),
                _ => false,
            };
            held.then_some(place)
        })
    }
}
