//! Judges a job: the plan, the cgroup, the hooks. Touches nothing.

use crate::host_mounts::HostMounts;
use crate::{Host, activation, hooks::Hooks, launch, notify};
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use wharf_cgroup::{Layout, Version, Wanted};
use wharf_core::{CgroupPaths, Created, Draft, Error, Job, Kind, Record, Remark, Result, Terminal, annotations};
use wharf_foreground::HostTerminal;
use wharf_plan::{CgroupMount, Container, Facts, Listen, Note, Rlimit};
use wharf_sys::lot::served;
use wharf_sys::{CWD, Errno, credentials, fd, libc, procfs::Procfs};

/// A job of which everything is decided.
pub(crate) struct Judged<'a> {
    pub(crate) host: &'a Host,
    pub(crate) job: Job<'a>,
    pub(crate) proc: Procfs,
    pub(crate) container: Container,
    /// What its carrier honours only nearly.
    carried: Vec<Remark>,
    pub(crate) cgroup: Wanted,
    /// Where it will be; one that holds processes of others is refused here, before any record names it.
    pub(crate) expected: CgroupPaths,
    /// Where the container has no mount namespace.
    pub(crate) host_mounts: Option<HostMounts>,
    /// How many of the caller's descriptors, from 3 on, are the payload's.
    pub(crate) preserved: u32,
    /// The payload gets a socket for sd_notify(3).
    pub(crate) notify: bool,
    pub(crate) rlimits: Vec<Rlimit>,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) hooks: Hooks,
    pub(crate) terminal: Terminal<'a>,
    /// Where the payload's is shown, in the foreground.
    pub(crate) host_terminal: Option<HostTerminal>,
    pub(crate) rootfs: String,
    pub(crate) last_capability: u32,
}

impl<'a> Judged<'a> {
    pub(crate) fn new(host: &'a Host, job: Job<'a>) -> Result<Self> {
        let listen = activation::listen()?;
        let preserved = preserved(job.preserve_fds, listen.as_ref())?;
        let terminal = job.terminal()?;
        let host_terminal = (terminal == Terminal::Foreground).then(HostTerminal::find).transpose()?;
        let spec = &job.bundle.spec;
        let proc = open_proc()?;
        let (uid, gid) = wharf_sys::dir::effective_ids();
        let linux = spec.linux().as_ref();
        let cgroups_path = match linux.and_then(|linux| linux.cgroups_path().as_ref()) {
            Some(path) => Some(
                path.to_str()
                    .ok_or_else(|| Error::invalid("a cgroup path that is not UTF-8").at("linux/cgroupsPath"))?,
            ),
            None => None,
        };
        let resources = linux.and_then(|linux| linux.resources().as_ref());
        let finds_cgroup = host.finds_cgroup();
        let mut cgroup = if finds_cgroup {
            Wanted::new(Layout::detect(None)?, None, job.id, resources, false)?
        } else if job.systemd_cgroup {
            let annotations = spec.annotations().iter().flatten().map(|(key, value)| (key.as_str(), value.as_str()));
            Wanted::in_scope(Layout::detect(cgroups_path)?, cgroups_path, job.id, resources, annotations)?
        } else {
            Wanted::new(Layout::detect(cgroups_path)?, cgroups_path, job.id, resources, uid != 0)?
        };
        if uid != 0 {
            let rules = resources.and_then(|resources| resources.devices().as_ref());
            cgroup.leave_out_device_rules(rules.is_some_and(|rules| !rules.is_empty()));
        }
        if let Some(carrier) = &host.carrier {
            cgroup.set_inner(carrier.inner_cgroup());
        }
        let mut facts = facts(&job, &proc, &cgroup, (uid, gid))?;
        facts.listen = listen;
        facts.carried = host.carrier.is_some();
        let mut rootfs = facts.rootfs.clone();
        if let Some(place) = host.carrier.as_ref().map(|carrier| carrier.root_place(&job)).transpose()?.flatten() {
            rootfs = std::mem::replace(&mut facts.rootfs, place);
        }
        let container = wharf_plan::container(spec, &facts)?;
        let carried = match &host.carrier {
            Some(carrier) => carrier.judge(&job, &container.namespaces)?,
            None => Vec::new(),
        };
        let process = spec.process().as_ref();
        let on_host = !container.namespaces.has_mounts();
        let host_mounts = on_host.then(|| HostMounts::expected(&rootfs)).transpose()?;
        Ok(Judged {
            host,
            job,
            proc,
            container,
            carried,
            expected: if finds_cgroup { CgroupPaths::default() } else { cgroup.expected()? },
            host_mounts,
            cgroup,
            preserved,
            notify: facts.notify.is_some(),
            rlimits: process.map(wharf_plan::rlimits).transpose()?.unwrap_or_default(),
            oom_score_adj: process.and_then(|process| process.oom_score_adj()),
            hooks: Hooks::new(spec)?,
            terminal,
            last_capability: facts.last_capability,
            host_terminal,
            rootfs,
        })
    }
}

pub(crate) fn open_proc() -> Result<Procfs> {
    Procfs::open().map_err(|errno| {
        Error::system("open /proc", errno as i32).hint("a real procfs must be mounted there, and nothing over it")
    })
}

/// Those of `LISTEN_FDS` come first, then those of `--preserve-fds`, as with runc.
pub(crate) fn preserved(asked: u32, listen: Option<&Listen>) -> Result<u32> {
    let listened = listen.map_or(0, |listen| listen.fds);
    let all = listened.saturating_add(asked);
    match (3..all.saturating_add(3)).find(|number| !fd::is_inherited(*number)) {
        None => Ok(all),
        Some(number) => {
            let which = match number - 3 < listened {
                true => format!("LISTEN_FDS={listened}"),
                false => format!("--preserve-fds {asked}"),
            };
            Err(Error::new(Kind::Usage, which).because(format!("the caller has not handed on descriptor {number}")))
        }
    }
}

fn facts(job: &Job<'_>, proc: &Procfs, cgroup: &Wanted, (uid, gid): (u32, u32)) -> Result<Facts> {
    let spec = &job.bundle.spec;
    let text = |path: std::path::PathBuf| {
        path.into_os_string()
            .into_string()
            .map_err(|path| Error::invalid(format!("path {}", path.display())).because("is not UTF-8"))
    };
    let rootfs = match spec.root() {
        Some(root) if !root.path().as_os_str().is_empty() => rootfs(proc, &job.bundle.dir.join(root.path()))?,
        Some(_) => return Err(Error::invalid("root/path is empty").at("root/path")),
        None => String::new(),
    };
    let labels_mounts = spec.linux().as_ref().is_some_and(|linux| linux.mount_label().is_some());
    let labelled = labels_mounts || spec.process().as_ref().is_some_and(|process| process.selinux_label().is_some());
    let (_, permitted, inheritable) =
        credentials::capabilities().map_err(|errno| Error::system("read our capabilities", errno as i32))?;
    Ok(Facts {
        id: job.id.to_string(),
        bundle: text(job.bundle.dir.clone())?,
        rootfs,
        uid,
        gid,
        permitted: if uid == 0 { permitted } else { u64::MAX },
        inheritable,
        last_capability: last_capability(proc)?,
        freebsd: job.bundle.has_section("freebsd"),
        selinux: labelled && wharf_sys::lsm::has_selinux(),
        apparmor: spec.process().as_ref().is_some_and(confined),
        all_root: wharf_sys::dir::is_all_root(),
        then_start: job.then_start,
        carried: false,
        no_pivot: job.no_pivot,
        no_new_keyring: job.no_new_keyring,
        systemd_cgroup: job.systemd_cgroup,
        keep_groups: annotations::is_on(
            spec.annotations().as_ref().and_then(|all| all.get(annotations::KEEP_ORIGINAL_GROUPS)),
        ),
        listen: None,
        notify: match notify::is_wanted(spec) {
            true => Some(text(job.state_dir.join(notify::DIRECTORY_NAME))?),
            false => None,
        },
        cgroup: cgroup_mounts(cgroup),
    })
}

/// The container's cgroup in each hierarchy.
pub(crate) fn cgroup_mounts(cgroup: &Wanted) -> Vec<CgroupMount> {
    let mounts = cgroup.layout().hierarchies.iter().zip(cgroup.payload_paths()).map(|(hierarchy, path)| CgroupMount {
        name: if hierarchy.mount_point == cgroup.layout().base {
            String::new()
        } else {
            hierarchy.mount_point.rsplit('/').next().unwrap_or_default().to_owned()
        },
        data: match &hierarchy.name {
            _ if hierarchy.v2 => String::new(),
            Some(name) => format!("none,name={name}"),
            None => hierarchy.label(),
        },
        v2: hierarchy.v2,
        path: format!("{}{path}", hierarchy.mount_point),
    });
    mounts.collect()
}

/// True where the process asks for an AppArmor profile and the kernel has AppArmor.
pub(crate) fn confined(process: &oci_spec::runtime::Process) -> bool {
    process.apparmor_profile().is_some() && wharf_sys::apparmor::is_enabled()
}

/// The root file system's place without symbolic links. It is not one itself: what it stands for would be filled with
/// mount points.
fn rootfs(proc: &Procfs, path: &Path) -> Result<String> {
    let doing = || format!("open root file system {}", path.display());
    let wrong = |why: &str| Error::invalid(doing()).because(why).at("root/path");
    let failed = |errno: Errno| Error::system(doing(), errno as i32).at("root/path");
    let text = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| wrong("it holds a NUL byte"))?;
    let dir = match fd::openat(CWD, &text, libc::O_PATH | libc::O_NOFOLLOW | libc::O_DIRECTORY, 0) {
        Err(Errno::ENOTDIR) => {
            let stat = fd::statat(CWD, &text, libc::AT_SYMLINK_NOFOLLOW).map_err(failed)?;
            return Err(wrong(match stat.st_mode & libc::S_IFMT {
                libc::S_IFLNK => "it is a symbolic link",
                _ => "it is not a directory",
            }));
        }
        other => served(other.map_err(failed)?),
    };
    let mut buffer = [0; libc::PATH_MAX as usize];
    let link = CString::new(format!("self/fd/{}", dir.as_raw_fd())).unwrap_or_default();
    let length = fd::readlinkat(proc, &link, &mut buffer).map_err(failed)?;
    String::from_utf8(buffer[..length].to_vec()).map_err(|_| wrong("it is not UTF-8"))
}

fn last_capability(proc: &Procfs) -> Result<u32> {
    /// CAP_CHECKPOINT_RESTORE: the last one since kernel 5.9.
    const NEWEST: u32 = 40;
    if credentials::is_known(NEWEST) && !credentials::is_known(NEWEST + 1) {
        return Ok(NEWEST);
    }
    let text = proc
        .read(c"sys/kernel/cap_last_cap")
        .map_err(|errno| Error::system("read /proc/sys/kernel/cap_last_cap", errno as i32))?;
    Ok(String::from_utf8_lossy(&text).trim().parse().unwrap_or(40))
}

impl Draft for Judged<'_> {
    fn remarks(&self) -> Vec<Remark> {
        let none = self.expected == CgroupPaths::default()
            && self.cgroup.layout().version() != Version::None
            && !self.host.finds_cgroup();
        let none = none.then(|| {
            Remark::nearly(
                "linux",
                "the container gets no cgroup, as its caller may make none: it cannot be limited, counted or paused",
            )
        });
        self.container
            .notes
            .iter()
            .map(Note::remark)
            .chain(self.cgroup.remarks())
            .chain(none)
            .chain(self.carried.iter().cloned())
            .collect()
    }

    fn describe(&self, record: &mut Record) {
        record.rootfs.clone_from(&self.rootfs);
        record.poststart.clone_from(&self.hooks.poststart);
        record.poststop.clone_from(&self.hooks.poststop);
        record.cgroup.clone_from(&self.expected);
        let carried = self.host.carrier.as_ref().map(|carrier| carrier.memory()).unwrap_or_default();
        if self.host_mounts.is_some() || !carried.is_null() {
            record.private = launch::Private { host_mounts: self.host_mounts, carried, ..Default::default() }.opaque();
        }
    }

    fn create(
        self: Box<Self>,
        dir: BorrowedFd<'_>,
        record: &Record,
        tell: &dyn Fn(CgroupPaths) -> Result<()>,
    ) -> Result<Created> {
        launch::create(*self, dir, record, tell)
    }
}
