//! From one process to a waiting init.
//!
//! ```text
//! wharf (this file)                    child (birth.rs), then init (the crate)
//! open namespaces, seal a copy of the init
//! cgroup made, limits set
//! clone3 ----------------------------> becomes root in a new user namespace, execs the sealed copy
//! placed in cgroup, id maps ---------> joins what it must, by way of another birth where the kernel requires one
//!                                      steps: names, mounts, devices, beside the new root
//! <----------------------- "mounted"   (where there are hooks)
//! prestart, createRuntime hooks -----> createContainer hooks, pivot_root, masks, read-only
//! <------------------------- "ready"
//! rlimits; record saved by the verb
//! released --------------------------> waits for start
//! exit
//! ```
//!
//! Until it is released the init ends when wharf does: its socket tells it.

pub(crate) mod birth;
pub(crate) mod console;
pub(crate) mod helpers;
mod hold;
mod private;
pub(crate) mod seal;
pub(crate) mod stamps;
mod trees;

pub(crate) use hold::{Attached, Left, Terminal};
pub(crate) use private::{Late, Private};

use crate::carrier::{Carrier, Labour};
use crate::draft::Judged;
use crate::handover::Handover;
use crate::hooks::Outputs;
use crate::notify::{self, Relay};
use crate::{hooks, join, limits, remove, start};
use birth::Birth;
use console::Console;
use hold::{Attach, FirstProcess, Newborn};
use stamps::Stamps;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use wharf_cgroup::{Cgroup, Killed};
use wharf_core::phases;
use wharf_core::{CgroupPaths, Created, Error, Kind, Record, Result, Status, Supervisor, annotations};
use wharf_monitor::identity;
use wharf_plan::{Born, Plan};
use wharf_steps::{Failure, Phase, Slot};
use wharf_sys::lot::Lot;
use wharf_sys::process::Ended;
use wharf_sys::{CWD, Errno, fd, libc, namespace, signal, socket};

/// Makes the container; a failure takes everything back.
pub(crate) fn create(
    judged: Judged<'_>,
    dir: BorrowedFd<'_>,
    record: &Record,
    tell: &dyn Fn(CgroupPaths) -> Result<()>,
) -> Result<Created> {
    phases::enter("preparation");
    if judged.job.then_start {
        // From here on signals are for the payload, and wait until there is one.
        signal::block_all().map_err(|errno| Error::system("block signals", errno as i32))?;
    }
    let pidfd_sockets = pidfd_sockets(&judged, record)?;
    let mut slots = Slots::new();
    slots.put(Slot::PROC, judged.proc.as_fd().as_raw_fd());
    let (ours, theirs) = socket::pair().map_err(|errno| Error::system("make a socket pair", errno as i32))?;
    slots.put(Slot::PARENT, theirs.as_raw_fd());
    let joined = open_namespaces(&judged, &mut slots)?;
    let trees = trees::open(&judged, &mut slots)?;
    let sealed = seal::copy_of_init()?;
    let listener = if judged.job.then_start { None } else { Some(start_socket(dir)?) };
    if let Some(listener) = &listener {
        slots.put(Slot::START, listener.as_raw_fd());
    }
    let console = Console::open(judged.terminal)?;
    if let Some(console) = &console {
        slots.put(Slot::CONSOLE, console.as_fd().as_raw_fd());
    }
    let state = judged.hooks.inside.then(|| hooks::state_file(b"")).transpose()?;
    let outputs = if judged.hooks.inside { Outputs::open(record)? } else { Outputs::default() };
    let of_hooks = [(Slot::STATE, &state), (Slot::HOOK_STDOUT, &outputs.stdout), (Slot::HOOK_STDERR, &outputs.stderr)];
    for (slot, file) in of_hooks {
        if let Some(file) = file {
            slots.put(slot, file.as_raw_fd());
        }
    }
    let notify = judged.notify.then(|| notify::directory(dir)).transpose()?;
    if let Some(notify) = &notify {
        slots.put(Slot::NOTIFY, notify.as_raw_fd());
        if judged.job.then_start {
            judged.host.relay.replace(Relay::open(dir)?);
        }
    }
    let stamps = Stamps::wanted(&mut slots)?;
    let plan = written(&judged.container.plan, &slots)?;
    let labour = |cgroup: &CgroupPaths, carrier: &dyn Carrier| {
        let found = |path: &str| {
            let mut wanted = judged.cgroup.clone();
            wanted.set_path(path);
            let paths = Cgroup::of_another(&wanted)?.paths();
            tell(paths.clone()).map(|()| paths)
        };
        carrier.bear(&Labour {
            id: judged.job.id.as_str(),
            dir,
            state_dir: judged.job.state_dir,
            bundle: judged.job.bundle,
            namespaces: &judged.container.namespaces,
            joined: &joined,
            cgroup,
            found: &found,
            program: &sealed,
            plan: &plan,
            kept: &slots.numbers,
            preserved: judged.preserved,
        })
    };
    let early = match judged.host.carrier.as_deref().filter(|_| judged.host.finds_cgroup()) {
        None => None,
        Some(carrier) => {
            phases::enter("birth");
            Some(labour(&CgroupPaths::default(), carrier)?)
        }
    };
    phases::enter("cgroup");
    let elsewhere = early.as_ref().and_then(|born| born.cgroup()).map(|path| {
        let mut wanted = judged.cgroup.clone();
        wanted.set_path(path);
        wanted
    });
    let mut cgroup = match &elsewhere {
        None => Cgroup::create(&judged.cgroup, tell)?,
        Some(wanted) => Cgroup::of_another(wanted)?,
    };
    phases::enter("birth");
    let born = match (&judged.host.carrier, early) {
        (_, Some(born)) => Ok(FirstProcess::Carried(born)),
        (None, _) => {
            let directly = judged.container.namespaces.born == Born::Directly;
            let birth = Birth {
                new: if directly { judged.container.namespaces.new } else { 0 },
                sealed: &sealed,
                plan: &plan,
                parent: &theirs,
                kept: &slots.numbers,
                preserved: judged.preserved,
            };
            give(&birth, &mut cgroup)
        }
        (Some(carrier), None) => labour(&cgroup.paths(), carrier.as_ref()).map(FirstProcess::Carried),
    };
    let console = console.and_then(Console::into_ours);
    let of_init = Lot::new();
    for descriptor in [theirs, plan, sealed].into_iter().chain(joined).chain(trees).chain(listener).chain(notify) {
        of_init.put(descriptor);
    }
    of_init.close();
    let mut newborn = match born {
        Ok(first) => Newborn::new(first, ours, cgroup.paths(), record),
        Err(error) => {
            match &judged.host.carrier {
                // It has made cgroups inside.
                Some(_) => remove::undo(&Record { cgroup: cgroup.paths(), ..record.clone() }, false),
                None => cgroup.undo(),
            }
            return Err(error);
        }
    };
    if let Some(stamps) = stamps {
        stamps.hand_in("init", newborn.pid, &judged.container.plan);
    }
    settle(&judged, &mut cgroup, &mut newborn, state.as_ref(), record, dir)?;
    let init = identity::of(&judged.proc, newborn.pid, newborn.pidfd())?;
    let stand_in = newborn.stand_in(&init)?;
    for (socket, words) in &pidfd_sockets {
        socket.send(words, stand_in.as_ref().map_or(newborn.pidfd(), |one| &one.pidfd))?;
    }
    let host_mounts = judged.host_mounts.map(|mounts| mounts.made(&judged.rootfs)).transpose()?;
    let mut private = Private::new(&judged.container, host_mounts, judged.cgroup.device_rules());
    let (engine_pid, supervisor) = match stand_in {
        None => (newborn.pid, Supervisor::Engine),
        Some(stand_in) => {
            private.carried = stand_in.memory;
            (stand_in.process.pid, Supervisor::Process(stand_in.process))
        }
    };
    let master = console.as_ref().map(console::receive).transpose()?;
    let terminal = judged.host_terminal.zip(master);
    let attach = Attach { to: judged.host.attached.clone(), container: judged.container, terminal };
    newborn.attach = judged.job.then_start.then_some(attach);
    let (paths, warnings) = (cgroup.paths(), cgroup.warnings());
    cgroup.leave();
    judged.proc.leave();
    Ok(Created {
        warnings,
        engine_pid,
        init,
        cgroup: paths,
        supervisor,
        private: private.opaque(),
        hold: Box::new(newborn),
    })
}

/// In the cgroup, where the kernel can do that.
fn give(birth: &Birth<'_>, cgroup: &mut Cgroup<'_>) -> Result<FirstProcess> {
    let born = match birth.give(cgroup.birth_fd()) {
        Err(Errno::E2BIG) if cgroup.birth_fd().is_some() => {
            cgroup.forgo_birth();
            birth.give(None)
        }
        other => other,
    };
    let unborn = |errno: Errno| {
        let error = Error::system("create the container's first process", errno as i32);
        cgroup.explain(error, errno)
    };
    born.map(|(pid, pidfd)| FirstProcess::Own { pid, pidfd }).map_err(unborn)
}

/// Descriptor numbers by slot.
pub(crate) struct Slots {
    pub(crate) numbers: [i32; Slot::COUNT],
}

impl Slots {
    pub(crate) fn new() -> Self {
        Slots { numbers: [-1; Slot::COUNT] }
    }

    pub(crate) fn put(&mut self, slot: Slot, number: i32) {
        self.numbers[usize::from(slot.0)] = number;
    }
}

/// Who gets a pidfd of the init, and with what words: runc's for a first process, and crun's, which has none.
fn pidfd_sockets(judged: &Judged<'_>, record: &Record) -> Result<Vec<(Handover, &'static [u8])>> {
    let mut sockets: Vec<(Handover, &[u8])> = Vec::new();
    if let Some(path) = judged.job.pidfd_socket {
        sockets.push((Handover::connect(path, "send the init's pidfd to --pidfd-socket")?, b"standard"));
    }
    if let Some(path) = record.annotations.get(annotations::PIDFD_RECEIVER) {
        let socket = Handover::connect(Path::new(path), "send the init's pidfd to");
        sockets.push((socket.map_err(|error| error.at(annotations::pointer(annotations::PIDFD_RECEIVER)))?, b" "));
    }
    Ok(sockets)
}

/// Opens every namespace that is joined by path, and proves that it is of its kind.
fn open_namespaces(judged: &Judged<'_>, slots: &mut Slots) -> Result<Vec<OwnedFd>> {
    let namespaces = &judged.container.namespaces;
    let open = |join: &wharf_plan::Join| {
        let failed = |errno: Errno| {
            Error::system(format!("open namespace {}", join.path), errno as i32).at(join.pointer.as_str())
        };
        let path = std::ffi::CString::new(join.path.as_str()).map_err(|_| failed(Errno::EINVAL))?;
        let file = fd::openat(CWD, &path, libc::O_RDONLY | libc::O_NONBLOCK, 0).map_err(failed)?;
        let wrong =
            |why: &str| Err(Error::invalid(format!("namespace {}", join.path)).because(why).at(join.pointer.as_str()));
        match namespace::kind(&file) {
            Ok(kind) if kind == join.kind => Ok(file),
            Ok(_) => wrong("is of another type"),
            Err(_) => wrong("is not a namespace"),
        }
    };
    let opened = namespaces.joins.iter().map(open).collect::<Result<Vec<_>>>()?;
    for (join, file) in namespaces.joins.iter().zip(&opened) {
        slots.put(join.slot, file.as_raw_fd());
    }
    Ok(opened)
}

fn start_socket(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    let make = || {
        let socket = socket::datagram()?;
        wharf_sys::mount::inside(dir, || socket::bind(&socket, start::SOCKET))?;
        Ok(socket)
    };
    make().map_err(|errno: Errno| Error::system("make the start socket", errno as i32))
}

pub(crate) fn written(plan: &Plan, slots: &Slots) -> Result<OwnedFd> {
    let wire = plan.write(&slots.numbers);
    let write = || {
        let file = fd::memfd(c"plan", false)?;
        fd::write_all(&file, &wire)?;
        Ok(file)
    };
    write().map_err(|errno: Errno| Error::system("write the plan down", errno as i32))
}

/// Everything between birth and readiness.
fn settle(
    judged: &Judged<'_>,
    cgroup: &mut Cgroup<'_>,
    newborn: &mut Newborn,
    state: Option<&OwnedFd>,
    record: &Record,
    dir: BorrowedFd<'_>,
) -> Result<()> {
    let pid = newborn.pid;
    let namespaces = &judged.container.namespaces;
    if judged.host.carrier.is_some() {
        match judged.host.finds_cgroup() {
            true => cgroup.limit_found()?,
            false => cgroup.limit_inner()?,
        }
        newborn.go()?;
    } else if namespaces.born == Born::Directly {
        if cgroup.birth_fd().is_none() {
            newborn.enter(cgroup)?;
        }
        if namespaces.new_user() {
            birth::map_ids(&judged.proc, pid, &namespaces.uid_map, &namespaces.gid_map, "linux")?;
        }
        newborn.go()?;
    } else {
        newborn.adopt(judged, cgroup)?;
    }
    if let Some(adjustment) = judged.oom_score_adj {
        limits::oom_score_adj(&judged.proc, newborn.pid, adjustment)?;
    }
    // While the init is busy.
    join::kept::write(dir, judged)?;
    phases::enter("set-up");
    if judged.container.has_hooks {
        run_hooks(judged, newborn, state, record)?;
    }
    expect(judged, newborn, Phase::Ready)?;
    if let Some(state) = state {
        rewrite(state, &hooks::state(record, Status::Created, newborn.pid))?;
    }
    phases::enter("last limits");
    limits::rlimits(newborn.pid, &judged.rlimits)?;
    Ok(())
}

/// Those that run while the root is complete and not yet entered.
fn run_hooks(judged: &Judged<'_>, newborn: &mut Newborn, state: Option<&OwnedFd>, record: &Record) -> Result<()> {
    expect(judged, newborn, Phase::Mounted)?;
    newborn.reached_hooks = true;
    phases::enter("hooks");
    let before = hooks::state(record, Status::Creating, newborn.pid);
    // The specification's words for when prestart hooks run are those of `created` (runtime.md, "State").
    let created = hooks::state(record, Status::Created, newborn.pid);
    hooks::run(&judged.hooks.prestart, "prestart", &created, record)?;
    hooks::run(&judged.hooks.create_runtime, "createRuntime", &before, record)?;
    if let Some(state) = state {
        rewrite(state, &before)?;
    }
    phases::enter("set-up behind the hooks");
    newborn.go()
}

fn rewrite(file: &OwnedFd, state: &[u8]) -> Result<()> {
    let write = || {
        fd::truncate(file)?;
        fd::seek_start(file)?;
        fd::write_all(file, state)
    };
    write().map_err(|errno| Error::system("write the state for hooks", errno as i32))
}

/// Waits for a phase; a failed step becomes its error.
fn expect(judged: &Judged<'_>, newborn: &Newborn, phase: Phase) -> Result<()> {
    let mut message = [0; Failure::MAX];
    let (length, _) = newborn.receive(&mut message)?;
    let message = &message[..length];
    if message == [phase as u8] { Ok(()) } else { Err(expect_failure(judged, newborn, message)) }
}

const TOO_LITTLE: &str = "is below what the set-up needs now";

/// The error that an unexpected message is.
fn expect_failure(judged: &Judged<'_>, newborn: &Newborn, message: &[u8]) -> Error {
    if let Some(failure) = Failure::read(message) {
        let error = birth::explain(&failure).unwrap_or_else(|| judged.container.plan.explain(&failure));
        return match judged.cgroup.memory_limit() {
            Some((limit, _)) if failure.errno == Errno::ENOMEM as i32 => error.hint(format!("{limit} {TOO_LITTLE}")),
            _ => birth::named(error, &failure),
        };
    }
    let failed = || Error::new(Kind::System, "set the container up");
    let why = match newborn.ended() {
        Some(Ended::Signaled(libc::SIGKILL)) => {
            match (judged.cgroup.has_killed(newborn.cgroup()), judged.cgroup.memory_limit()) {
                (Killed::Yes, Some((limit, at))) => return failed().because(format!("{limit} {TOO_LITTLE}")).at(at),
                (Killed::Yes, None) => {
                    return failed().because(format!("the memory limit of a cgroup above {TOO_LITTLE}"));
                }
                (Killed::Unknown, Some((limit, at))) => {
                    return failed()
                        .because(format!("its first process was killed, as when {limit} {TOO_LITTLE}"))
                        .at(at);
                }
                _ => "it was killed by signal 9".to_owned(),
            }
        }
        Some(Ended::Signaled(signal)) => format!("it was killed by signal {signal}"),
        Some(Ended::Exited(code)) => format!("it exited with {code}"),
        None => match newborn.last_words() {
            Some(words) => words,
            None => "it sent something unknown".to_owned(),
        },
    };
    failed().because(format!("its first process ended: {why}"))
}
