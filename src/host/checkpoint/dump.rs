//! The dump: everything is judged and opened before CRIU is told to begin, and taken back when it fails.

use super::criu::{Born, Criu, Program, Version, request};
use super::descriptors::{self, Standard};
use super::guard::{Guard, Task};
use super::view::View;
use super::wire::Message;
use super::{explain, mounts, options};
use crate::draft::open_proc;
use crate::freeze;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use wharf_core::mountinfo::{self, Mount};
use wharf_core::{Bundle, Captured, Checkpoint, Error, ExternalMount, Record, Result, phases};
use wharf_monitor::identity;
use wharf_plan::options as mount_options;
use wharf_sys::namespace::flag;
use wharf_sys::procfs::Procfs;
use wharf_sys::{CWD, Errno, Fd, dir, fd, libc};

pub(crate) const LOG: &str = "dump.log";
/// The first CRIU that has all that is asked of it.
const OLDEST: Version = Version(3, 17, 0);
/// The first whose network can be left alone.
const LOCK_BY_CHOICE: Version = Version(3, 18, 0);
/// What runc and crun read of the standard descriptors.
const DESCRIPTORS: &str = "descriptors.json";

/// What is known of a container before it is dumped.
pub(crate) struct Source {
    pub(crate) proc: Procfs,
    pub(crate) pid: i32,
    pub(crate) inside: Vec<Mount>,
    pub(crate) external: Vec<ExternalMount>,
    pub(crate) standard: Vec<Standard>,
}

impl Source {
    pub(crate) fn of(record: &Record, state: BorrowedFd<'_>, bundle: &Bundle) -> Result<Self> {
        let proc = open_proc()?;
        let gone = || freeze::not_running(record, "checkpoint");
        let init = record.init.as_ref().ok_or_else(gone)?;
        // As long as it is held, the number is no other's.
        let _pidfd = identity::alive(state, init)?.ok_or_else(gone)?;
        let read = |path: String| {
            let read = CString::new(path.as_str()).map_err(|_| Errno::EINVAL);
            let read = read.and_then(|path| proc.open_file(&path, libc::O_RDONLY));
            let read = read.and_then(|file| fd::read_to_end(file, 1 << 24));
            read.map_err(|errno| Error::system(format!("read /proc/{path}"), errno as i32))
        };
        let inside = mountinfo::parse(&String::from_utf8_lossy(&read(format!("{}/mountinfo", init.pid))?));
        let host = mountinfo::parse(&String::from_utf8_lossy(&read("self/mountinfo".to_owned())?));
        let external = mounts::external(&inside, &host, &bound(bundle)?, own_cgroups(bundle));
        let standard = descriptors::standard(&proc, init.pid, &inside)?;
        Ok(Source { pid: init.pid, proc, inside, external, standard })
    }

    pub(crate) fn has_terminal(&self) -> bool {
        self.standard.iter().any(|one| one.terminal)
    }

    fn captured(&self, version: Version) -> Captured {
        Captured {
            criu: version.to_string(),
            mounts: self.external.clone(),
            descriptors: self.standard.iter().map(|one| one.key().to_owned()).collect(),
            console: self.has_terminal(),
        }
    }
}

/// The bind mounts of config.json: where, and from where.
pub(crate) fn bound(bundle: &Bundle) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for (index, mount) in bundle.spec.mounts().iter().flatten().enumerate() {
        let parsed =
            mount_options::parse(mount.options().as_deref().unwrap_or_default(), &format!("mounts/{index}/options"))?;
        let is_bind = parsed.bind || matches!(mount.typ().as_deref(), Some("bind" | "rbind"));
        let (Some(source), true) = (mount.source(), is_bind) else { continue };
        let destination = Path::new("/").join(mount.destination());
        let destination = destination.components().collect::<PathBuf>();
        all.insert(destination.to_string_lossy().into_owned(), bundle.dir.join(source).to_string_lossy().into_owned());
    }
    Ok(all)
}

/// Whether the container's cgroup namespace is not the host's, so that its cgroup mounts are its own.
pub(crate) fn own_cgroups(bundle: &Bundle) -> bool {
    let namespaces = bundle.spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces.is_some_and(|all| all.iter().any(|one| wharf_plan::kind_of(one.typ()).0 == flag::NEWCGROUP))
}

/// Paths of namespaces that the container has joined, by their kinds.
pub(crate) fn joined(bundle: &Bundle) -> Vec<(u64, &'static str, String)> {
    let namespaces = bundle.spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let one = |namespace: &oci_spec::runtime::LinuxNamespace| {
        let path = namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty())?;
        let (kind, name) = wharf_plan::kind_of(namespace.typ());
        Some((kind, name, path.to_string_lossy().into_owned()))
    };
    namespaces.into_iter().flatten().filter_map(one).collect()
}

/// Opens a directory that must be there.
pub(crate) fn open_dir(path: &Path, what: &str) -> Result<OwnedFd> {
    let text = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| Errno::EINVAL);
    let opened = text.and_then(|text| fd::openat(CWD, &text, libc::O_RDONLY | libc::O_DIRECTORY, 0));
    opened.map_err(|errno| Error::system(format!("open {what} {}", path.display()), errno as i32))
}

/// Finds CRIU and refuses one that is too old.
pub(crate) fn program(named: Option<&Path>) -> Result<(Program, Version)> {
    let program = Program::find(named)?;
    let version = program.version()?;
    if version < OLDEST {
        return Err(Error::unsupported(format!("criu {version}")).because(format!("is older than {OLDEST}")));
    }
    Ok((program, version))
}

/// Writes the memory down. `frozen` is called while every process stands still and all is written; when it fails, or
/// anything before, the container runs on as if nothing had been.
pub(crate) fn checkpoint(
    record: &Record,
    state: BorrowedFd<'_>,
    bundle: &Bundle,
    asked: &Checkpoint,
    frozen: &mut dyn FnMut(&Captured) -> Result<()>,
) -> Result<()> {
    let doing = format!("checkpoint container {}", record.id);
    if dir::effective_uid() != 0 {
        return Err(Error::unsupported(&doing).because("criu writes processes down only for root"));
    }
    let (program, version) = program(asked.images.criu.as_deref())?;
    let source = Source::of(record, state, bundle)?;
    if let Some(unknown) = source.external.iter().find(|mount| mount.source.is_empty()) {
        return Err(Error::unsupported(&doing)
            .because(format!("nothing on the host shows what is mounted on {}", unknown.destination)));
    }
    needs(&program, asked)?;
    let images = open_dir(&asked.images.path, "the images' directory")?;
    // CRIU has it too, and may write on for a moment when we are no more.
    dir::lock(images.as_fd(), dir::Lock::Shared)
        .map_err(|errno| Error::system("lock the images' directory", errno as i32))?;
    let place = asked.images.work.as_deref().unwrap_or(&asked.images.path);
    let work = open_dir(place, "the work directory")?;
    let frozen_before = wharf_cgroup::is_frozen(&record.cgroup)?;
    let options = options_of(record, bundle, asked, &source, version)?;
    let mut message = Message::default();
    let kind = if asked.pre_dump { request::SINGLE_PRE_DUMP } else { request::DUMP };
    message.number(1, kind).message(2, &options);
    if !asked.pre_dump {
        let links: Vec<&str> = source.standard.iter().map(|one| one.link.as_str()).collect();
        let links = serde_json::json!(links).to_string();
        dir::replace_at(images.as_fd(), DESCRIPTORS, ".descriptors.json", links.as_bytes())
            .map_err(|errno| Error::system(format!("write {DESCRIPTORS}"), errno as i32))?;
    }
    let view = View::open(bundle)?;
    let mut criu = program.start(&Born {
        ours: false,
        apart: true,
        root: None,
        view: view.as_ref(),
        dirs: Some([(&images, &asked.images.path), (&work, place)]),
        kept: &[],
    })?;
    let freezer = (!frozen_before && !record.cgroup.freezer_file.is_empty())
        .then(|| (record.cgroup.freezer_file.as_str(), thaw_word(&record.cgroup.freezer_file)));
    let guard = Guard::stand(&criu.pidfd, Task::Dump(freezer), view.as_ref())?;
    criu.send(&message)?;
    let outcome = converse(&criu, asked, &source.captured(version), frozen);
    if outcome.is_err() {
        // It takes back what it has done, while the guard still watches over us.
        criu.end();
    }
    drop(guard);
    match outcome {
        Ok(None) => Ok(()),
        Ok(Some(failure)) => {
            criu.end();
            let error = explain::failed(&doing, &criu, failure.as_ref(), (work.as_fd(), place), LOG);
            Err(freeze::gone(record, state, "checkpoint").unwrap_or(error))
        }
        Err(error) => Err(error),
    }
}

type Failure = Option<super::criu::Response>;

/// Speaks with CRIU until it has done its work. None is success.
fn converse(
    criu: &Criu,
    asked: &Checkpoint,
    captured: &Captured,
    frozen: &mut dyn FnMut(&Captured) -> Result<()>,
) -> Result<Option<Failure>> {
    loop {
        let Some(response) = criu.receive()? else { return Ok(Some(None)) };
        if response.kind != request::NOTIFY {
            return Ok((!response.success).then_some(Some(response)));
        }
        match response.script.as_str() {
            "post-dump" if !asked.pre_dump => {
                if let Err(error) = frozen(captured) {
                    criu.answer(false)?;
                    // Until it has let all run on.
                    while criu.receive()?.is_some_and(|response| response.kind == request::NOTIFY) {
                        criu.answer(true)?;
                    }
                    return Err(error);
                }
            }
            "pre-dump" => phases::enter("freeze"),
            // CRIU asks so of a network namespace alone; without one the dump is counted to the freeze.
            "network-lock" => phases::enter("dump"),
            "status-ready" => {
                if let Some(number) = asked.status_fd {
                    // Whoever waits there has gone: that is his affair.
                    let _ = fd::write(Fd(number), &[0]);
                    fd::close(Fd(number));
                }
            }
            _ => {}
        }
        criu.answer(true)?;
    }
}

/// Refuses what this CRIU cannot do on this kernel.
fn needs(program: &Program, asked: &Checkpoint) -> Result<()> {
    if !asked.pre_dump && asked.parent.is_none() && !asked.images.lazy_pages {
        return Ok(());
    }
    let (tracks, lazy) = program.features()?;
    let refused = |flag: &str, why: &str| Err(Error::unsupported(flag).because(why));
    match (asked.pre_dump, asked.parent.is_some(), asked.images.lazy_pages) {
        (true, ..) if !tracks => refused("--pre-dump", "this kernel does not track which memory has changed"),
        (_, true, _) if !tracks => refused("--parent-path", "this kernel does not track which memory has changed"),
        (.., true) if !lazy => refused("--lazy-pages", "this kernel has no userfaultfd that criu can use"),
        _ => Ok(()),
    }
}

fn options_of(
    record: &Record,
    bundle: &Bundle,
    asked: &Checkpoint,
    source: &Source,
    version: Version,
) -> Result<Message> {
    let mut options = options::common(&asked.images, LOG);
    options
        .number(options::PID, source.pid.into())
        .text(options::ROOT, &record.rootfs)
        .flag(options::LEAVE_RUNNING, asked.leave_running || asked.pre_dump)
        .flag(options::SKIP_IN_FLIGHT, asked.tcp_skip_in_flight)
        .flag(options::LINK_REMAP, asked.link_remap);
    if let Some((directory, _)) = record.cgroup.freezer_file.rsplit_once('/') {
        options.text(options::FREEZER, directory);
    }
    if let Some(parent) = &asked.parent {
        options.text(options::PARENT, parent);
    }
    options.flag(options::TRACK_MEMORY, asked.parent.is_some() || asked.pre_dump);
    if let Some((address, port)) = &asked.page_server {
        options.page_server(address, *port);
    }
    if version >= LOCK_BY_CHOICE {
        options.network_lock(asked.images.tcp_established, has_iptables());
    }
    configure(&mut options, record.annotations.get(wharf_core::annotations::CRIU_CONFIG).map(String::as_str));
    for mount in &source.external {
        options.external_mount(&mount.destination, &mount.destination);
    }
    for outside in source.standard.iter().filter_map(|one| one.outside.as_deref()) {
        options.external(outside);
    }
    for (kind, name, path) in joined(bundle) {
        let key = match kind {
            flag::NEWNET => ("net", options::NETWORK_KEY),
            flag::NEWPID => ("pid", options::PIDS_KEY),
            _ => continue,
        };
        let link = CString::new(format!("{}/ns/{}", source.pid, key.0)).unwrap_or_default();
        let stat = source.proc.open_link(&link, libc::O_RDONLY).and_then(fd::stat);
        let stat = stat.map_err(|errno| Error::system(format!("look at the {name} namespace {path}"), errno as i32))?;
        options.external(&format!("{}[{}]:{}", key.0, stat.st_ino, key.1));
    }
    Ok(options)
}

/// An administrator's file with more options: the annotation's, where there is one that is not empty.
pub(crate) fn configure(options: &mut Message, annotation: Option<&str>) {
    match annotation {
        None => options.configuration("/etc/criu/wharf.conf"),
        Some("") => options,
        Some(path) => options.configuration(path),
    };
}

fn thaw_word(freezer_file: &str) -> &'static str {
    if freezer_file.ends_with("/cgroup.freeze") { "0" } else { "THAWED" }
}

fn has_iptables() -> bool {
    ["/usr/sbin/iptables-restore", "/sbin/iptables-restore", "/usr/bin/iptables-restore"]
        .iter()
        .any(|path| Path::new(path).exists())
}
