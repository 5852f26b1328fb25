//! One more process in a container.
//!
//! ```text
//! wharf (this file)                    child, then the init (a sealed copy)
//! the container's init identified
//! clone3 ----------------------------> born in the container's cgroup (v2), executes the sealed copy
//! v1: placed in the cgroup ----------> joins all namespaces of the container's init at once, closes what is the host's
//!                                      bears the process that stays, where there is a pid namespace, and ends
//! <----------------------- its pid
//!                                      groups, working directory, executable found
//! <------------------------ "ready"
//! oom score, rlimits; pid file
//! released --------------------------> privileges dropped, seccomp
//! <---------- end of the socket ------ exec of the command
//! ```
//!
//! Until it is released the process ends when wharf does: its socket tells it.

pub(crate) mod kept;
mod member;

use crate::draft::{open_proc, preserved};
use crate::handover::Handover;
use crate::launch::birth::Birth;
use crate::launch::console::{self, Console};
use crate::launch::stamps::Stamps;
use crate::launch::{Slots, seal, written};
use crate::listener::Agent;
use crate::{activation, freeze, limits, listener, status};
use kept::Kept;
use member::Member;
use oci_spec::runtime::Process;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use wharf_cgroup::{Handle, Joint};
use wharf_core::phases;
use wharf_core::{
    ContainerId, Error, Exec, Joined, Record, Result, Status, Terminal, Verb, allowed, annotations, read_process,
};
use wharf_foreground::HostTerminal;
use wharf_monitor::identity;
use wharf_plan::{Affinity, Facts, Listen, Plan, Rlimit};
use wharf_steps::Slot;
use wharf_sys::lot::{Lot, served};
use wharf_sys::procfs::Procfs;
use wharf_sys::{CWD, Errno, credentials, fd, libc, namespace, process, signal, socket};

/// How often a frozen container is looked at before it is taken for a paused one, and the milliseconds in between.
const FREEZE_LOOKS: u32 = 5;
const FREEZE_PAUSE: i32 = 20;

/// Makes a process join the container; it waits for its release.
pub(crate) fn exec(record: &Record, dir: BorrowedFd<'_>, asked: &Exec) -> Result<Box<dyn Joined>> {
    match join(record, dir, asked) {
        Ok(member) => Ok(Box::new(member)),
        Err(error) => Err(explained(record, asked, error)),
    }
}

/// Whatever has failed: that the container ended in the meantime is the reason, and engines know the words for it.
fn explained(record: &Record, asked: &Exec, error: Error) -> Error {
    if let Some(gone) = freeze::gone(record, None, "exec in") {
        return gone;
    }
    match &asked.process {
        // There the process object is not a part of something bigger.
        Some(_) => error.below("process/"),
        None => error,
    }
}

fn join(record: &Record, dir: BorrowedFd<'_>, asked: &Exec) -> Result<Member> {
    let container = Joinable::find(record, dir, asked)?;
    phases::enter("plan");
    let joint = container.cgroup.join(&asked.cgroups)?;
    let judged = Judged::new(&container, &joint, asked)?;
    let member = bear(&container, joint, judged, asked)?;
    container.leave();
    Ok(member)
}

/// A container that a process can join now.
struct Joinable<'a> {
    record: &'a Record,
    dir: BorrowedFd<'a>,
    id: ContainerId,
    proc: Procfs,
    init: i32,
    pidfd: OwnedFd,
    cgroup: Handle,
}

impl<'a> Joinable<'a> {
    fn find(record: &'a Record, dir: BorrowedFd<'a>, asked: &Exec) -> Result<Self> {
        let id = ContainerId::new(&record.id)?;
        let proc = open_proc()?;
        let init = match &record.init {
            Some(init) => identity::alive(dir, init)?.map(|pidfd| (init.pid, pidfd)),
            None => None,
        };
        let Some((init, pidfd)) = init else {
            return Err(freeze::not_running(record, "exec in"));
        };
        let cgroup = status::cgroup(record)?;
        if !asked.ignore_paused && stays_frozen(record, &pidfd)? {
            allowed(&id, Status::Paused, Verb::Exec)?;
        }
        Ok(Joinable { record, dir, id, proc, init, pidfd, cgroup })
    }

    /// The cgroups that the container's first process is in.
    fn own_cgroup(&self) -> Result<String> {
        let path = CString::new(format!("{}/cgroup", self.init)).unwrap_or_default();
        let text = self.proc.read(&path);
        let text = text.map_err(|errno| Error::system("look for the cgroup of the container's init", errno as i32))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The process is about to end: so do its descriptors.
    fn leave(self) {
        self.cgroup.leave();
        self.proc.leave();
        served(self.pidfd);
    }
}

/// All that is decided before the process is born.
struct Judged<'a> {
    process: Process,
    kept: Kept,
    facts: Facts,
    plan: Plan,
    rlimits: Vec<Rlimit>,
    affinity: Affinity,
    terminal: Terminal<'a>,
    host_terminal: Option<HostTerminal>,
    /// How many of the caller's descriptors, from 3 on, are the process's.
    preserved: u32,
    agent: Option<Agent>,
    pidfd_socket: Option<Handover>,
}

impl<'a> Judged<'a> {
    fn new(container: &Joinable<'_>, joint: &Joint<'_>, asked: &'a Exec) -> Result<Self> {
        let record = container.record;
        let listen = activation::listen()?;
        let preserved = preserved(asked.preserve_fds, listen.as_ref())?;
        let kept = Kept::read(container.dir, container.id.as_str())?;
        let own = match &asked.process {
            Some(path) => read_process(path)?,
            None => kept.process()?,
        };
        let process = asked.change(own)?;
        let wanted = process.terminal().unwrap_or(false);
        let terminal = Terminal::judge(wanted, asked.console_socket.as_deref(), !asked.detach)
            .map_err(|error| error.at("process/terminal"))?;
        let host_terminal = (terminal == Terminal::Foreground).then(HostTerminal::find).transpose()?;
        let mut facts = facts(&container.id, record, &kept, listen)?;
        facts.apparmor = crate::draft::confined(&process);
        facts.selinux = process.selinux_label().is_some() && wharf_sys::lsm::has_selinux();
        let plan = wharf_plan::exec(&process, &facts, &kept.joining(joint.places()))?;
        let rlimits = wharf_plan::rlimits(&process)?;
        let agent = match kept.notifies() {
            true => Agent::connect(listener::Kept::of(record))?,
            false => None,
        };
        let pidfd_socket = asked
            .pidfd_socket
            .as_ref()
            .map(|path| Handover::connect(path, "send the process's pidfd to"))
            .transpose()?;
        let affinity = wharf_plan::affinity(&process)?;
        Ok(Judged {
            process,
            kept,
            facts,
            plan,
            rlimits,
            affinity,
            terminal,
            host_terminal,
            preserved,
            agent,
            pidfd_socket,
        })
    }
}

/// The process, waiting for its release.
fn bear(container: &Joinable<'_>, mut joint: Joint<'_>, mut judged: Judged<'_>, asked: &Exec) -> Result<Member> {
    if !asked.detach {
        // From here on signals are for the process, and wait until there is one.
        signal::block_all().map_err(|errno| Error::system("block signals", errno as i32))?;
    }
    phases::enter("preparation");
    let (record, kept) = (container.record, &judged.kept);
    let mut slots = Slots::new();
    slots.put(Slot::PROC, container.proc.as_fd().as_raw_fd());
    slots.put(Slot::INIT, container.pidfd.as_raw_fd());
    let root = if kept.namespaces() & namespace::flag::NEWNS == 0 { Some(open_root(record)?) } else { None };
    if let Some(root) = &root {
        slots.put(Slot::ROOT, root.as_raw_fd());
    }
    let console = Console::open(judged.terminal)?;
    if let Some(console) = &console {
        slots.put(Slot::CONSOLE, console.as_fd().as_raw_fd());
    }
    let sealed = seal::copy_of_init()?;
    let (ours, theirs) = socket::pair().map_err(|errno| Error::system("make a socket pair", errno as i32))?;
    slots.put(Slot::PARENT, theirs.as_raw_fd());
    let stamps = Stamps::wanted(&mut slots)?;
    let wire = written(&judged.plan, &slots)?;
    phases::enter("birth");
    let preserved = judged.preserved;
    let birth = |plan| Birth { new: 0, sealed: &sealed, plan, parent: &theirs, kept: &slots.numbers, preserved };
    // The process is born with ours.
    limits::affinity(0, judged.affinity.initial.as_ref())?;
    let own_cgroup = || container.own_cgroup();
    let pid = match give(&birth(&wire), &mut joint, own_cgroup)? {
        Some(pid) => pid,
        None => {
            joint.forgo_birth();
            judged.plan = wharf_plan::exec(&judged.process, &judged.facts, &kept.joining(true))?;
            let waiting = written(&judged.plan, &slots)?;
            give(&birth(&waiting), &mut joint, own_cgroup)?.ok_or_else(|| unborn(Errno::E2BIG))?
        }
    };
    let console = console.and_then(Console::into_ours);
    let of_init = Lot::new();
    for descriptor in [theirs, wire, sealed].into_iter().chain(root) {
        of_init.put(descriptor);
    }
    of_init.close();
    let mut member = Member::new(pid, ours, judged.plan, judged.agent, record, asked);
    member.notes = wharf_plan::exec_notes(&judged.process);
    if joint.places() {
        joint.place(pid, own_cgroup)?;
        member.go()?;
    }
    phases::enter("set-up");
    member.settle(kept.namespaces() & namespace::flag::NEWPID != 0)?;
    if let Some(stamps) = stamps {
        stamps.hand_in("process that joins", member.pid(), member.plan());
    }
    phases::enter("last limits");
    if let Some(adjustment) = judged.process.oom_score_adj() {
        limits::oom_score_adj(&container.proc, member.pid(), adjustment)?;
    }
    limits::affinity(member.pid(), judged.affinity.last.as_ref())?;
    limits::rlimits(member.pid(), &judged.rlimits)?;
    if let Some(socket) = judged.pidfd_socket {
        // runc's word for a process that joined.
        socket.send(b"setns", &member.pidfd()?)?;
    }
    let master = console.as_ref().map(console::receive).transpose()?;
    member.terminal = judged.host_terminal.zip(master);
    Ok(member)
}

/// Whether the container is paused. Signalling all of its processes freezes it too, for a moment, with another end.
fn stays_frozen(record: &Record, init: &OwnedFd) -> Result<bool> {
    for _ in 0..FREEZE_LOOKS {
        // What has ended is told as such by what fails next.
        if !wharf_cgroup::is_frozen(&record.cgroup)? || process::readable(init, FREEZE_PAUSE).unwrap_or(true) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `None` where the kernel bears no process in a cgroup.
fn give(birth: &Birth<'_>, joint: &mut Joint<'_>, own_cgroup: impl Fn() -> Result<String>) -> Result<Option<i32>> {
    loop {
        match birth.give(joint.birth_fd()) {
            Ok((pid, pidfd)) => {
                served(pidfd);
                return Ok(Some(pid));
            }
            Err(Errno::EBUSY) if joint.fall_back(&own_cgroup()?)? => {}
            Err(Errno::E2BIG) if joint.birth_fd().is_some() => return Ok(None),
            Err(errno) => return Err(unborn(errno)),
        }
    }
}

fn unborn(errno: Errno) -> Error {
    Error::system("make a process for the container", errno as i32)
}

fn facts(id: &ContainerId, record: &Record, kept: &Kept, listen: Option<Listen>) -> Result<Facts> {
    let uid = wharf_sys::dir::effective_uid();
    let (_, permitted, inheritable) =
        credentials::capabilities().map_err(|errno| Error::system("read our capabilities", errno as i32))?;
    Ok(Facts {
        id: id.to_string(),
        uid,
        all_root: wharf_sys::dir::is_all_root(),
        permitted: if uid == 0 { permitted } else { u64::MAX },
        inheritable,
        last_capability: kept.last_capability(),
        no_new_keyring: kept.no_new_keyring(),
        keep_groups: annotations::is_on(record.annotations.get(annotations::KEEP_ORIGINAL_GROUPS)),
        listen,
        ..Facts::default()
    })
}

/// The root of a container that has no mount namespace, by the host's own name for it: what its processes call their
/// root may be something else by now.
fn open_root(record: &Record) -> Result<OwnedFd> {
    let failed = |errno: Errno| Error::system(format!("open root file system {}", record.rootfs), errno as i32);
    let path = CString::new(record.rootfs.as_str()).map_err(|_| failed(Errno::EINVAL))?;
    fd::openat(CWD, &path, libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0).map_err(failed)
}
