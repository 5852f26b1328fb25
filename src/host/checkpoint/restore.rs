//! A container that is made of images: judged as any other, and made by CRIU.
//!
//! ```text
//! cgroup made, limits set; places for mounts made in the root file system
//! criu in the cgroup, in a mount namespace of its own with the root file system on itself
//! request ------------------------------> namespaces
//! <---------------- "setup-namespaces" -- loopback up; hooks prestart, createRuntime
//! <--------------- "orphan-pts-master" -- the terminal's master end
//! <-------------------- "post-restore" -- all processes are there, and stand still
//! record saved by the verb
//! released: success --------------------> they run
//! ```
//!
//! Until it is released CRIU ends what it has restored when wharf ends.

use super::criu::{Born, KEPT_FROM, request};
use super::dump::{bound, configure, joined, open_dir, program};
use super::guard::{Guard, Task};
use super::options;
use super::restored::{Restored, Speaker};
use super::view::View;
use super::wire::Message;
use crate::draft::{Judged, cgroup_mounts};
use crate::launch::Private;
use crate::launch::console::Console;
use crate::{hooks, join, notify};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use wharf_cgroup::Cgroup;
use wharf_core::{
    CgroupPaths, Created, Draft, Error, ExternalMount, Record, Remark, Restore, Result, Supervisor, Terminal,
};
use wharf_monitor::identity;
use wharf_plan::CgroupMount;
use wharf_sys::namespace::{self, Side, clone, flag};
use wharf_sys::place;
use wharf_sys::process::{self, Ended};
use wharf_sys::{CWD, Errno, Fd, dir, fd, libc, signal};

pub(crate) const LOG: &str = "restore.log";

/// A judged restore.
pub(crate) struct Restoring<'a> {
    pub(crate) judged: Judged<'a>,
    pub(crate) asked: &'a Restore,
}

impl<'a> Restoring<'a> {
    pub(crate) fn new(judged: Judged<'a>, asked: &'a Restore) -> Result<Self> {
        let wrong = |what: &str, why: &str, at: &str| Err(Error::unsupported(what).because(why).at(at));
        if dir::effective_uid() != 0 {
            return Err(Error::unsupported("restore").because("criu brings processes back only for root"));
        }
        if judged.host_mounts.is_some() {
            return wrong("restore", "needs a mount namespace", "linux/namespaces");
        }
        if judged.job.no_pivot {
            return wrong("--no-pivot", "criu enters the root file system by pivot_root(2)", "root/path");
        }
        for join in &judged.container.namespaces.joins {
            if join.kind & (flag::NEWCGROUP | flag::NEWNS) != 0 {
                return wrong("restore", "criu cannot join a mount or cgroup namespace by path", &join.pointer);
            }
        }
        match (asked.console, judged.terminal) {
            (true, Terminal::None) if !asked.images.shell_job => {
                wrong("restore", "the images have a terminal and config.json has none", "process/terminal")
            }
            _ => Ok(Restoring { judged, asked }),
        }
    }
}

impl Draft for Restoring<'_> {
    fn remarks(&self) -> Vec<Remark> {
        self.judged.remarks()
    }

    fn describe(&self, record: &mut Record) {
        self.judged.describe(record);
        // Its start was long ago.
        record.poststart.clear();
    }

    fn create(
        self: Box<Self>,
        dir: BorrowedFd<'_>,
        record: &Record,
        tell: &dyn Fn(CgroupPaths) -> Result<()>,
    ) -> Result<Created> {
        create(*self, dir, record, tell)
    }
}

fn create(
    Restoring { mut judged, asked }: Restoring<'_>,
    dir: BorrowedFd<'_>,
    record: &Record,
    tell: &dyn Fn(CgroupPaths) -> Result<()>,
) -> Result<Created> {
    if judged.job.foreground {
        signal::block_all().map_err(|errno| Error::system("block signals", errno as i32))?;
    }
    let (program, _) = program(asked.images.criu.as_deref())?;
    let images = open_dir(&asked.images.path, "the images' directory")?;
    let place = asked.images.work.as_deref().unwrap_or(&asked.images.path).to_owned();
    let work = open_dir(&place, "the work directory")?;
    let console = Console::open(judged.terminal)?;
    let mounts = sources(&judged, asked, dir)?;
    make_places(&judged, &mounts)?;
    let kept = Kept::open(&judged)?;
    let mut options = options::common(&asked.images, LOG);
    options.flag(options::EVASIVE_DEVICES, true).flag(options::SIBLING, true).text(options::ROOT, &judged.rootfs);
    if let Some(profile) = &asked.lsm_profile {
        options.text(options::LSM_PROFILE, profile);
    }
    if let Some(context) = &asked.lsm_mount_context {
        options.text(options::LSM_MOUNT_CONTEXT, context);
    }
    configure(&mut options, record.annotations.get(wharf_core::annotations::CRIU_CONFIG).map(String::as_str));
    for mount in &mounts {
        options.external_mount(&mount.destination, &mount.source);
    }
    kept.tell(&judged, asked, &mut options);
    let view = View::open(judged.job.bundle)?;
    let mut cgroup = Cgroup::create(&judged.cgroup, tell)?;
    let born = Born {
        ours: asked.images.shell_job,
        apart: !asked.images.shell_job,
        root: Some(Path::new(&judged.rootfs)),
        view: view.as_ref(),
        dirs: Some([(&images, &asked.images.path), (&work, &place)]),
        kept: &kept.all,
    };
    let criu = match program.start(&born) {
        Ok(criu) => criu,
        Err(error) => {
            cgroup.undo();
            return Err(error);
        }
    };
    let mut restored = Restored::new(criu, cgroup.paths(), record, work, place);
    let guard = view.as_ref().filter(|view| view.needs_mending());
    let guard = guard.map(|view| Guard::stand(&restored.criu.pidfd, Task::Restore, Some(view))).transpose()?;
    // Its children are born where it is.
    let placed = cgroup.take(restored.criu.pid);
    if cgroup.is_scope() {
        restored.record.cgroup = cgroup.paths();
    }
    placed?;
    cgroup_roots(&judged, restored.criu.pid, &mut options)?;
    let mut message = Message::default();
    message.number(1, request::RESTORE).message(2, &options);
    restored.criu.send(&message)?;
    let mut speaker = Speaker { judged: &judged, record, console: console.as_ref(), master: None };
    restored.until_restored(&mut speaker)?;
    drop(guard);
    let master = speaker.master.take();
    let pidfd = process::pidfd(restored.pid);
    let pidfd = pidfd.map_err(|errno| Error::system("find the restored process", errno as i32))?;
    let init = identity::of(&judged.proc, restored.pid, &pidfd)?;
    // CRIU gives it clocks that go on from where they were.
    if in_other_clocks(&judged, restored.pid)? {
        judged.container.namespaces.new |= flag::NEWTIME;
    }
    join::kept::write(dir, &judged)?;
    let private = Private::new(&judged.container, None, judged.cgroup.device_rules());
    restored.terminal = judged.host_terminal.zip(master).map(|terminal| (judged.host.attached.clone(), terminal));
    let (paths, warnings) = (cgroup.paths(), cgroup.warnings());
    cgroup.leave();
    Ok(Created {
        warnings,
        engine_pid: restored.pid,
        init,
        cgroup: paths,
        supervisor: Supervisor::Engine,
        private: private.opaque(),
        hold: Box::new(restored),
    })
}

/// Where each mount from outside comes from now: config.json decides, then the host's cgroups, then what the manifest says.
fn sources(judged: &Judged<'_>, asked: &Restore, dir: BorrowedFd<'_>) -> Result<Vec<ExternalMount>> {
    let bound = bound(judged.job.bundle)?;
    let cgroups = cgroups(judged);
    let mut all = Vec::new();
    for mount in &asked.mounts {
        let at = mount.destination.as_str();
        let source = match (bound.get(at), cgroups.get(at.trim_end_matches('/'))) {
            (Some(source), _) => source.clone(),
            (None, Some(path)) => path.clone(),
            (None, None) if at == wharf_plan::NOTIFY_DIRECTORY => {
                drop(notify::directory(dir)?);
                judged.job.state_dir.join(notify::DIRECTORY_NAME).to_string_lossy().into_owned()
            }
            (None, None) => mount.source.clone(),
        };
        if cgroups.contains_key(at) {
            all.push(ExternalMount { destination: at.to_owned(), source });
            continue;
        }
        // CRIU does not follow a symbolic link at the end of a path, as mount(2) does.
        let found = std::fs::canonicalize(&source).map_err(|error| {
            let why = match error.kind() {
                std::io::ErrorKind::NotFound => format!("its source {source} does not exist"),
                _ => format!("its source {source}: {error}"),
            };
            Error::invalid(format!("mount {at}")).because(why).at("mounts")
        })?;
        let source = found.to_string_lossy().into_owned();
        all.push(ExternalMount { destination: at.to_owned(), source });
    }
    Ok(all)
}

/// Where the host's cgroups are shown in the container, and where each of them is.
fn cgroups(judged: &Judged<'_>) -> BTreeMap<String, String> {
    let mounts = judged.job.bundle.spec.mounts().iter().flatten();
    let shown = mounts.filter(|mount| mount.typ().as_deref() == Some("cgroup"));
    let each = |mount: &oci_spec::runtime::Mount| {
        let at = mount.destination().to_string_lossy().trim_end_matches('/').to_owned();
        let one = move |one: CgroupMount| (format!("{at}/{}", one.name).trim_end_matches('/').to_owned(), one.path);
        cgroup_mounts(&judged.cgroup).into_iter().map(one)
    };
    shown.flat_map(each).collect()
}

/// Places of those mounts that are on the root file system itself.
fn make_places(judged: &Judged<'_>, external: &[ExternalMount]) -> Result<()> {
    let mounts = judged.job.bundle.spec.mounts().iter().flatten();
    let mut places: Vec<(String, bool)> =
        mounts.map(|mount| (mount.destination().to_string_lossy().trim_end_matches('/').to_owned(), true)).collect();
    for mount in external {
        let directory = std::fs::metadata(&mount.source).map_or(true, |found| found.is_dir());
        match places.iter_mut().find(|(place, _)| *place == mount.destination) {
            Some((_, is_directory)) => *is_directory = directory,
            None => places.push((mount.destination.clone(), directory)),
        }
    }
    let below = |place: &str| {
        places.iter().any(|(other, _)| place.strip_prefix(other.as_str()).is_some_and(|rest| rest.starts_with('/')))
    };
    let on_root = places.iter().filter(|(place, _)| !place.is_empty() && !below(place));
    let rootfs = &judged.rootfs;
    let root = open_dir(Path::new(rootfs), "the root file system")?;
    for (at, directory) in on_root {
        place::make(&root, at, *directory)
            .map_err(|errno| Error::system(format!("make {at} in root file system {rootfs}"), errno as i32))?;
    }
    Ok(())
}

/// Descriptors of ours that CRIU holds for the container: its standard ones, and namespaces that it joins.
struct Kept {
    all: Vec<OwnedFd>,
    /// Position of the first namespace, and the key of each.
    namespaces: Vec<&'static str>,
}

impl Kept {
    fn open(judged: &Judged<'_>) -> Result<Self> {
        let failed = |errno: Errno| Error::system("hand the standard descriptors on", errno as i32);
        let mut kept = Kept { all: Vec::new(), namespaces: Vec::new() };
        for number in 0..3 {
            kept.all.push(fd::duplicate_from(Fd(number), KEPT_FROM).map_err(failed)?);
        }
        for (kind, name, path) in joined(judged.job.bundle) {
            let key = match kind {
                flag::NEWNET => options::NETWORK_KEY,
                flag::NEWPID => options::PIDS_KEY,
                _ => continue,
            };
            let failed = |errno: Errno| {
                Error::system(format!("open {name} namespace {path}"), errno as i32).at("linux/namespaces")
            };
            let text = CString::new(path.as_str()).map_err(|_| failed(Errno::EINVAL))?;
            let opened = fd::openat(CWD, &text, libc::O_RDONLY, 0).map_err(failed)?;
            kept.all.push(fd::duplicate_from(&opened, KEPT_FROM).map_err(failed)?);
            kept.namespaces.push(key);
        }
        Ok(kept)
    }

    fn tell(&self, judged: &Judged<'_>, asked: &Restore, options: &mut Message) {
        let mut told: Vec<&str> = Vec::new();
        for (key, kept) in asked.descriptors.iter().zip(&self.all) {
            let outside = key.starts_with("pipe:") || key.starts_with("file[");
            if outside && !told.contains(&key.as_str()) {
                options.inherit(key, kept.as_raw_fd());
                told.push(key);
            }
        }
        for (key, kept) in self.namespaces.iter().zip(&self.all[3..]) {
            options.inherit(key, kept.as_raw_fd());
        }
        for (kind, name, path) in joined(judged.job.bundle) {
            if kind & (flag::NEWNET | flag::NEWPID) == 0 {
                options.join(name, &path);
            }
        }
    }
}

/// The images' cgroups become those that CRIU is in.
fn cgroup_roots(judged: &Judged<'_>, pid: i32, options: &mut Message) -> Result<()> {
    let path = CString::new(format!("{pid}/cgroup")).unwrap_or_default();
    let text = judged.proc.read(&path).map_err(|errno| Error::system("read the cgroups of criu", errno as i32))?;
    for line in String::from_utf8_lossy(&text).lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(controllers), Some(path)) = (fields.nth(1), fields.next()) else { continue };
        for controller in controllers.split(',') {
            options.cgroup_root(controller, path);
        }
    }
    Ok(())
}

fn in_other_clocks(judged: &Judged<'_>, pid: i32) -> Result<bool> {
    let inode = |pid: &str| {
        let path = CString::new(format!("{pid}/ns/time")).map_err(|_| Errno::EINVAL)?;
        match judged.proc.open_link(&path, libc::O_PATH) {
            Err(Errno::ENOENT) => Ok(0),
            other => Ok(fd::stat(other?)?.st_ino),
        }
    };
    let differ = || Ok(inode(&pid.to_string())? != inode("self")?);
    differ().map_err(|errno: Errno| Error::system("look at the restored process's clocks", errno as i32))
}

/// What the container's first process would have done in a network namespace of its own: whoever listens on the loopback
/// interface must find it.
pub(crate) fn loopback_up(judged: &Judged<'_>, pid: i32) -> Result<()> {
    let failed = |errno: Errno| Error::system("bring the loopback interface up", errno as i32);
    let link = CString::new(format!("{pid}/ns/net")).unwrap_or_default();
    let namespace = judged.proc.open_link(&link, libc::O_RDONLY).map_err(failed)?;
    match clone(0, None).map_err(failed)? {
        Side::Child => {
            let up = namespace::enter(&namespace, flag::NEWNET).and_then(|()| namespace::loopback_up());
            process::exit_now(up.map_or_else(|errno| errno as i32, |()| 0))
        }
        Side::Parent { pid, .. } => match process::wait(pid, 0).map_err(failed)? {
            Some((_, Ended::Exited(0))) => Ok(()),
            Some((_, Ended::Exited(errno))) => Err(failed(Errno::from_raw(errno))),
            _ => Err(failed(Errno::ECHILD)),
        },
    }
}

/// Hooks that run when there are namespaces and nothing in them.
pub(crate) fn run_hooks(judged: &Judged<'_>, record: &Record, pid: i32) -> Result<()> {
    let state = hooks::state(record, wharf_core::Status::Creating, pid);
    hooks::run(&judged.hooks.prestart, "prestart", &state, record)?;
    hooks::run(&judged.hooks.create_runtime, "createRuntime", &state, record)
}

/// For errors.
pub(crate) fn doing(record: &Record) -> String {
    format!("restore container {}", record.id)
}
