//! The loop over the steps, and the words with the parent.

use crate::become_payload::{self, Payload};
use crate::{carried, mount, target, terminal};
use std::ffi::{CStr, CString};
use std::os::fd::{IntoRawFd, OwnedFd};
use std::time::{SystemTime, UNIX_EPOCH};
use wharf_steps::facts::{FILTER_FLAG_NEW_LISTENER, hook_end, listener_page, stamps};
use wharf_steps::{BORN, CARRIED, Failure, LISTENING, List, Phase, Slot, Step, View};
use wharf_sys::fd::{self, resolve};
use wharf_sys::lot::Lot;
use wharf_sys::lsm::{self, Attribute, Module};
use wharf_sys::namespace::Side;
use wharf_sys::process::{self, Ended, ExecStrings, exit_now};
use wharf_sys::procfs::Procfs;
use wharf_sys::shared::Page;
use wharf_sys::spawn::{self, Outcome};
use wharf_sys::{Errno, Fd, apparmor, credentials, kernel, libc, namespace, signal, socket};

/// Why a step failed: the errno, facts of the step's own, and the head of the file it was about.
pub(crate) struct Failed {
    pub(crate) errno: Errno,
    pub(crate) facts: u32,
    pub(crate) head: Vec<u8>,
}

impl From<Errno> for Failed {
    fn from(errno: Errno) -> Self {
        let facts = if errno == Errno::ENOSYS { kernel::missing() } else { 0 };
        Failed { errno, facts, head: Vec::new() }
    }
}

pub(crate) type Done = Result<(), Failed>;

/// The state of an init: its descriptors, and what one step leaves for a later one.
pub(crate) struct Init<'a> {
    pub(crate) plan: View<'a>,
    slots: [i32; Slot::COUNT],
    /// What steps have opened for themselves alone.
    pub(crate) lot: Lot,
    /// Where it works.
    in_proc: bool,
    /// Who is told of a failure.
    listener: Fd,
    pub(crate) payload: Payload<'a>,
    pub(crate) masks: mount::Masks,
    pub(crate) terminal: Option<terminal::Pair>,
}

/// The arguments are the plan's descriptor, and how many descriptors from 3 on are the payload's; or one word, where both
/// are to be received. Never returns.
pub(crate) fn main(arguments: &[&CStr]) -> ! {
    let argument = |index: usize| arguments.get(index).and_then(|text| text.to_str().ok()?.parse::<u32>().ok());
    let (number, preserved) = match (argument(1), argument(2)) {
        (Some(number), Some(preserved)) => (number as i32, preserved),
        _ if arguments.get(1).is_some_and(|word| word.to_bytes() == CARRIED) => {
            let borne = carried::Borne::of(arguments.get(2).copied());
            carried::unpack(&borne).unwrap_or_else(|errno| exit_now(errno as i32))
        }
        _ => exit_now(2),
    };
    // Everything that was left open for us ends with the payload's exec.
    if fd::close_by_exec(preserved.saturating_add(3)).is_err() {
        exit_now(2);
    }
    let Some(wire) = read_plan(Fd(number)) else { exit_now(2) };
    let Some(plan) = View::read(&wire) else { exit_now(2) };
    let slots = plan.slots();
    let lot = Lot::new();
    lot.put_number(Fd(number));
    let listener = Fd(slots[Slot::PARENT.0 as usize]);
    let (payload, masks) = (Payload::default(), mount::Masks::default());
    let mut init = Init { plan, slots, lot, in_proc: false, listener, payload, masks, terminal: None };
    init.run()
}

/// It lies in memory, so a short read is its end.
fn read_plan(plan: Fd) -> Option<Vec<u8>> {
    let mut wire = vec![0; 32 * 1024];
    let mut length = 0;
    loop {
        length += fd::read_at(plan, &mut wire[length..], length as u64).ok()?;
        if length < wire.len() {
            wire.truncate(length);
            return Some(wire);
        }
        wire.resize(4 * length, 0);
    }
}

/// The operands of the exec that these steps end with.
fn exec_of(mut steps: &[u8]) -> Option<(List, List)> {
    loop {
        if let Step::Exec { arguments, environment } = Step::take(&mut steps)? {
            return Some((arguments, environment));
        }
    }
}

impl<'a> Init<'a> {
    fn run(&mut self) -> ! {
        let mut steps = self.plan.steps();
        let mut index = 0;
        self.stamp(0);
        if let Err(failed) = self.begin() {
            self.fail(u32::MAX, &failed);
        }
        while let Some(step) = Step::take(&mut steps) {
            if matches!(step, Step::Seccomp { .. }) {
                if let Some((arguments, environment)) = exec_of(steps) {
                    become_payload::lay_out(self, arguments, environment);
                }
                // From then on the profile may forbid any system call.
                self.slots[usize::from(Slot::STAMPS.0)] = -1;
            }
            if let Err(failed) = self.perform(step) {
                self.fail(index, &failed);
            }
            index += 1;
            self.stamp(index);
            self.lot.trim();
        }
        // A plan ends with an exec; anything else is one this build cannot read.
        self.fail(index, &Errno::ENOSYS.into())
    }

    /// Says when the steps before `step` were done, where somebody wants to hear of it.
    fn stamp(&self, step: u32) {
        let stamps = self.slot(Slot::STAMPS);
        if stamps.0 == -1 {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        let _ = fd::write_at(stamps, &now.to_le_bytes(), stamps::offset(step));
    }

    /// Nobody in the container may look into us, and what we make has the mode that we say.
    fn begin(&self) -> Done {
        credentials::set_dumpable(false)?;
        process::set_umask(0);
        let status = fd::openat2(self.slot(Slot::PROC), c"self/status", libc::O_RDONLY, 0, resolve::BENEATH)?;
        let mut text = [0; 4096];
        let length = fd::read(self.lot.put(status), &mut text)?;
        let ignored = signal::ignored(&text[..length]).ok_or(Errno::EIO)?;
        for number in (1..=64).filter(|number| ignored & 1 << (number - 1) != 0) {
            signal::set_default(number)?;
        }
        Ok(signal::set_mask(0)?)
    }

    fn fail(&self, step: u32, failed: &Failed) -> ! {
        let mut message = Failure::header(step, failed.errno as i32, failed.facts).to_vec();
        message.extend_from_slice(&failed.head);
        let _ = socket::send(self.listener, &message, None);
        exit_now(1)
    }

    pub(crate) fn slot(&self, slot: Slot) -> Fd {
        Fd(self.slots.get(usize::from(slot.0)).copied().unwrap_or(-1))
    }

    pub(crate) fn fill(&mut self, slot: Slot, fd: OwnedFd) -> Fd {
        let number = fd.into_raw_fd();
        self.slots[usize::from(slot.0)] = number;
        Fd(number)
    }

    /// Makes the host's procfs the working directory, until the root is entered.
    fn go_to_proc(&mut self) -> Result<(), Errno> {
        if !std::mem::replace(&mut self.in_proc, true) {
            wharf_sys::mount::fchdir(self.slot(Slot::PROC))?;
        }
        Ok(())
    }

    /// A file of the host's procfs, for writing. In a container of LXC its parts are covered by mounts of their own, mostly
    /// read-only; the container's procfs, which we have just mounted, has nothing on it yet.
    fn open_proc(&self, path: &CStr) -> Result<OwnedFd, Errno> {
        let how = resolve::BENEATH | resolve::NO_XDEV | resolve::NO_MAGICLINKS;
        let open = |root: Fd| fd::openat2(root, path, libc::O_WRONLY, 0, how);
        match open(self.slot(Slot::PROC)) {
            Err(Errno::EXDEV) => {
                let own = target::existing(&self.lot, self.slot(Slot::ROOT), c"proc").map_err(|_| Errno::EXDEV)?;
                // What the image has there is no procfs, and a bind of the host's is covered again.
                let own = Procfs::of(own)?;
                fd::openat2(&own, path, libc::O_WRONLY, 0, how)
            }
            other => other,
        }
    }

    pub(crate) fn close(&mut self, slot: Slot) {
        let number = std::mem::replace(&mut self.slots[usize::from(slot.0)], -1);
        if number != -1 {
            self.lot.put_number(Fd(number));
        }
    }

    /// Closes what shows the host: nothing in the container may be reached by way of it (CVE-2024-21626).
    pub(crate) fn close_host(&mut self, kept: &[Slot]) {
        for index in 0..Slot::COUNT {
            let slot = Slot(index as u8);
            if !kept.contains(&slot) {
                self.close(slot);
            }
        }
        self.lot.close();
    }

    /// Tells that a phase is reached. What is for the steps alone is not there when others act.
    fn report(&mut self, phase: u8) -> Result<(), Errno> {
        if phase == Phase::Ready as u8 {
            self.masks.leave(&self.lot);
        }
        self.lot.close();
        socket::send(self.slot(Slot::PARENT), &[phase], None)
    }

    fn perform(&mut self, step: Step) -> Done {
        let plan = self.plan;
        match step {
            Step::EnterNamespace { slot: Slot::INIT, kind } => {
                namespace::enter_all(self.slot(Slot::INIT), kind, self.slot(Slot::PROC))?;
            }
            Step::EnterNamespace { slot, kind } => namespace::enter(self.slot(slot), kind)?,
            Step::Unshare { flags } => namespace::unshare(flags)?,
            Step::BecomeRoot {} => {
                credentials::set_gid(0)?;
                credentials::set_uid(0)?;
            }
            Step::Bear { flags } => self.bear(flags)?,
            Step::Report { phase } => self.report(phase)?,
            Step::Await {} => self.wait_for(Slot::PARENT)?,
            Step::Hook { path, arguments, environment, milliseconds } => {
                self.hook(plan.text(path), arguments, environment, milliseconds)?;
            }
            Step::PropagateAll { flags } | Step::RootPropagation { flags } => mount::propagate(flags)?,
            Step::OpenTree { slot, source, recursive } => {
                let tree = mount::open_host(plan.text(source), recursive)?;
                self.fill(slot, tree);
            }
            Step::OpenRoot { path, private } => mount::open_root(self, plan.text(path), private)?,
            Step::MountFilesystem { target, kind, source, flags, data, plain } => {
                let target = target::directory(&self.lot, self.slot(Slot::ROOT), plan.text(target), plain)?;
                self.go_to_proc()?;
                let (source, kind) = (Some(plan.text(source)), Some(plan.text(kind)));
                wharf_sys::mount::mount_on(target, source, kind, flags, plan.text(data))?;
            }
            Step::MountDetached { .. } => mount::detached(self, step)?,
            Step::Bind { .. } => mount::bind(self, step)?,
            Step::Remount { target, flags, data } => {
                let target = target::existing(&self.lot, self.slot(Slot::ROOT), plan.text(target))?;
                self.go_to_proc()?;
                wharf_sys::mount::mount_on(target, None, None, flags, plan.text(data))?;
            }
            Step::OpenDirectory { slot, path } => {
                let root = self.slot(Slot::ROOT);
                let dir = target::open_directory(&self.lot, root, plan.text(path), false)?;
                self.fill(slot, dir);
            }
            Step::Device { slot, path, mode, device, uid, gid } => {
                mount::device(self, slot, plan.text(path), mode, device, (uid, gid))?;
            }
            Step::Symlink { slot, name, target } => {
                match fd::symlinkat(plan.text(target), self.slot(slot), plan.text(name)) {
                    Err(Errno::EEXIST) => {}
                    other => other?,
                }
            }
            Step::BindIn { directory, name, source } => {
                mount::bind_in(self, self.slot(directory), plan.text(name), plan.text(source))?;
            }
            Step::ChangeMounts { slot, set, clear, propagation } => {
                mount::change_below(self, self.slot(slot), set, clear, propagation)?;
            }
            Step::Hostname { name } => namespace::set_hostname(plan.bytes(name))?,
            Step::Domainname { name } => namespace::set_domainname(plan.bytes(name))?,
            Step::WriteProc { path, value } => {
                let file = self.open_proc(plan.text(path))?;
                fd::write_all(self.lot.put(file), plan.bytes(value))?;
            }
            Step::LoopbackUp {} => namespace::loopback_up()?,
            Step::Pivot {} | Step::MoveRoot {} | Step::ChangeRoot {} => {
                self.in_proc = false;
                mount::enter_root(self, step)?;
                let to_parent = [Slot::PARENT, Slot::START, Slot::CONSOLE];
                let for_hooks = [Slot::STATE, Slot::HOOK_STDOUT, Slot::HOOK_STDERR];
                self.close_host(&[&to_parent[..], &for_hooks, &[Slot::ROOT, Slot::DEV, Slot::STAMPS]].concat());
            }
            Step::RootReadonly {} => mount::readonly_root(self)?,
            Step::MountReadonly { path } => mount::readonly_mount(self, plan.text(path))?,
            Step::OpenNull {} => mount::open_null(self)?,
            Step::Mask { path, label } => mount::mask(self, plan.text(path), plan.text(label))?,
            Step::ReadonlyPath { path, alone } => mount::readonly(self, plan.text(path), alone)?,
            Step::NewSession {} => match process::set_session() {
                // Already the leader of one, where the caller made it so.
                Err(Errno::EPERM) => {}
                other => other?,
            },
            Step::SessionKeyring { name } => match credentials::join_session_keyring(plan.text(name)) {
                // A kernel without keys has nothing to leak.
                Err(Errno::ENOSYS) => {}
                other => other?,
            },
            Step::Personality { persona } => process::set_personality(persona)?,
            Step::MemoryPolicy { mode, nodes } => process::set_memory_policy(mode, plan.bytes(nodes))?,
            Step::IoPriority { value } => process::set_io_priority(value)?,
            Step::Schedule { policy, flags, nice, priority, runtime, deadline, period } => {
                let size = 0;
                process::set_schedule(process::Schedule {
                    size,
                    policy,
                    flags,
                    nice,
                    priority,
                    runtime,
                    deadline,
                    period,
                })?;
            }
            Step::Umask { mask } => drop(process::set_umask(mask)),
            Step::Groups { gids } => {
                let gids: Vec<u32> = plan
                    .bytes(gids)
                    .chunks_exact(4)
                    .map(|gid| u32::from_le_bytes([gid[0], gid[1], gid[2], gid[3]]))
                    .collect();
                credentials::set_groups(&gids)?;
            }
            Step::DropGroups {} => match credentials::set_groups(&[]) {
                // We are root in there, so nothing but `deny` can be the cause (user_namespaces(7)).
                Err(Errno::EPERM) => {}
                other => other?,
            },
            Step::WorkingDirectory { path, uid, gid, make } => {
                become_payload::directory(plan.text(path), uid, gid, make)?;
            }
            Step::FindExecutable { name, candidates, uid, gid } => {
                become_payload::find(self, plan.text(name), candidates, uid, gid)?;
            }
            Step::Home { uid } => self.payload.home = Some(become_payload::home(uid)),
            Step::ListenPid {} => {
                self.payload.listen_pid = CString::new(format!("LISTEN_PID={}", process::pid())).ok();
            }
            Step::WaitStart {} => self.wait_start()?,
            Step::NoNewPrivileges {} => credentials::no_new_privileges()?,
            Step::Seccomp { program, flags } if flags & FILTER_FLAG_NEW_LISTENER != 0 => {
                self.load_listening(plan.bytes(program), flags)?;
            }
            Step::Seccomp { program, flags } => credentials::load_seccomp(plan.bytes(program), flags.into())?,
            Step::Bounding { keep } => become_payload::bounding(keep)?,
            Step::Gid { gid } => credentials::set_gid(gid)?,
            Step::Uid { uid } => {
                credentials::keep_capabilities(true)?;
                credentials::set_uid(uid)?;
            }
            Step::Capabilities { effective, permitted, inheritable } => {
                credentials::set_capabilities(effective, permitted, inheritable)?;
            }
            Step::Ambient { set } => {
                for capability in (0..64).filter(|bit| set & 1 << bit != 0) {
                    credentials::raise_ambient(capability)?;
                }
            }
            Step::OpenTerminal { slot, path, rows, columns } => {
                terminal::open(self, slot, plan.text(path), (rows, columns))?;
            }
            Step::BindTerminal { directory, name } => terminal::bind(self, plan.text(directory), plan.text(name))?,
            Step::SendTerminal {} => terminal::send(self)?,
            Step::OwnStreams { uid } => become_payload::own_streams(uid)?,
            Step::TakeTerminal { uid } => terminal::take(self, uid)?,
            Step::KeyLabel { label } => {
                lsm::set(Module::Selinux, Attribute::KeyCreate, plan.text(label).to_bytes())?;
            }
            Step::ExecLabel { label } => {
                lsm::set(Module::Selinux, Attribute::Exec, plan.text(label).to_bytes())?;
            }
            Step::LabelFile { target, label } => {
                let place = target::existing(&self.lot, self.slot(Slot::ROOT), plan.text(target))?;
                let place = fd::openat(place, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
                fd::set_label(&place, plan.text(label))?;
            }
            Step::ChangeProfile { profile } => match apparmor::change_on_exec(plan.text(profile)) {
                // A profile that is not loaded. Engines take the words of ENOENT for a missing command.
                Err(Errno::ENOENT) => return Err(Errno::EINVAL.into()),
                other => other?,
            },
            Step::CloseHost {} => self.close_host(&[Slot::PARENT, Slot::CONSOLE, Slot::STAMPS]),
            Step::Exec { arguments, environment } => become_payload::exec(self, arguments, environment)?,
        }
        Ok(())
    }

    /// The child goes on with the plan; this process was only needed to be its elder.
    fn bear(&self, flags: u64) -> Result<(), Errno> {
        match namespace::clone(flags | namespace::flag::PARENT, None)? {
            Side::Child => Ok(()),
            Side::Parent { pid, .. } => {
                let mut message = [BORN; 5];
                message[1..].copy_from_slice(&pid.to_le_bytes());
                let sent = socket::send(self.slot(Slot::PARENT), &message, None);
                exit_now(i32::from(sent.is_err()))
            }
        }
    }

    /// The end of the other side is the end of us: the container was given up.
    fn wait_for(&self, slot: Slot) -> Result<(), Errno> {
        match socket::receive(self.slot(slot), &mut [0; 8])? {
            (0, _) => exit_now(1),
            _ => Ok(()),
        }
    }

    /// The word comes from our parent where it also starts us, else from whoever calls `start`, with a socket for the
    /// answer: its end, at the exec, is the good news.
    fn wait_start(&mut self) -> Done {
        if self.slot(Slot::START).0 == -1 {
            return Ok(self.wait_for(Slot::PARENT)?);
        }
        let (_, passed) = socket::receive(self.slot(Slot::START), &mut [0; 8])?;
        let Some(reply) = passed else { return Err(Errno::EPROTO.into()) };
        self.listener = Fd(reply.into_raw_fd());
        Ok(())
    }

    /// Loads a filter with a listener, which whoever starts us takes from us and gives to the agent. Any system call
    /// after the load may be one that the agent has to answer, and it cannot yet, so there is none until then.
    fn load_listening(&self, program: &[u8], flags: u32) -> Result<(), Errno> {
        let (page, file) = Page::new()?;
        socket::send(self.listener, &[LISTENING], Some(&file))?;
        drop(file);
        let number = credentials::load_seccomp_listening(program, flags.into())?;
        page.set(listener_page::NUMBER, number.0 as u32 + 1);
        page.wait(listener_page::TAKEN);
        Ok(())
    }

    fn hook(&self, path: &CStr, arguments: List, environment: List, milliseconds: i32) -> Done {
        let state = self.slot(Slot::STATE);
        fd::seek_start(state)?;
        let arguments = ExecStrings::new(self.plan.list(arguments));
        let environment = ExecStrings::new(self.plan.list(environment));
        let outputs = [Slot::HOOK_STDOUT, Slot::HOOK_STDERR].map(|slot| Some(self.slot(slot)).filter(|fd| fd.0 != -1));
        let facts = match spawn::run(path, &arguments, &environment, state, outputs, milliseconds)? {
            Outcome::Ended(Ended::Exited(0)) => return Ok(()),
            Outcome::Ended(Ended::Exited(code)) => hook_end::EXITED | code as u32 & 0xff,
            Outcome::Ended(Ended::Signaled(signal)) => hook_end::SIGNALED | signal as u32,
            Outcome::TimedOut => hook_end::TIMED_OUT,
            Outcome::NotExecuted(errno) => return Err(errno.into()),
        };
        Err(Failed { errno: Errno::UnknownErrno, facts, head: Vec::new() })
    }
}
