//! Judges a job and makes the machine.

use crate::host::{self, Launch};
use crate::machine::{Accelerator, Disk, Kernel, Machine, Parts, find_qemu};
use crate::pty::Pty;
use crate::reduce::{Reduced, reduce, rootfs};
use crate::{NAME, Processor, Vm, sweep};
use serde_json::json;
use std::ffi::CString;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;
use wharf_cgroup::{Cgroup, Layout, Wanted};
use wharf_core::{
    CgroupPaths, Created, Draft, Error, Hold, Job, Kind, Opaque, Record, Remark, Result, Supervisor, Terminal,
    WitnessKind, phases,
};
use wharf_monitor::identity;
use wharf_sys::procfs::Procfs;
use wharf_sys::terminal::Size;
use wharf_sys::{CWD, Errno, fd, libc, namespace, signal};

pub(crate) struct Judged<'a> {
    vm: &'a Vm,
    job: Job<'a>,
    reduced: Reduced,
    rootfs: PathBuf,
    disk: Option<Disk>,
    qemu: PathBuf,
    kernel: Kernel,
    cgroup: Wanted,
    expected: CgroupPaths,
    terminal: Terminal<'a>,
}

impl<'a> Judged<'a> {
    pub(crate) fn new(vm: &'a Vm, job: Job<'a>) -> Result<Self> {
        if !wharf_sys::dir::is_all_root() {
            return Err(Error::unsupported("a virtual machine for an ordinary user")
                .because("its files are given owners, which only root may do"));
        }
        let refuse =
            |option: &str, why: &str| Err(Error::unsupported(format!("{option} for a virtual machine")).because(why));
        if job.preserve_fds > 0 || std::env::var_os("LISTEN_FDS").is_some() {
            return refuse("--preserve-fds or LISTEN_FDS", "descriptors of the host do not reach into it");
        }
        if job.pidfd_socket.is_some() {
            return refuse("--pidfd-socket", "its first process is not one of this host");
        }
        let terminal = job.terminal()?;
        let settings = &vm.settings;
        let rootfs = rootfs(job.bundle)?;
        let mut reduced = reduce(job.bundle, &rootfs, settings.memory, settings.has_disk)?;
        if std::env::var_os("NOTIFY_SOCKET").is_some() {
            let text =
                "NOTIFY_SOCKET of the caller has no effect: the payload's word that it is ready is not passed on";
            reduced.remarks.push(Remark::without_effect("process/env", text));
        }
        let disk = settings.has_disk.then(|| Disk::of(&settings.disks, job.state_dir, settings.disk_size));
        if disk.is_some() {
            Disk::judge()?;
        }
        let linux = job.bundle.spec.linux().as_ref();
        let path = linux.and_then(|linux| linux.cgroups_path().as_ref()).map(|path| {
            path.to_str().ok_or_else(|| Error::invalid("a cgroup path that is not UTF-8").at("linux/cgroupsPath"))
        });
        let path = path.transpose()?;
        let mut cgroup = if job.systemd_cgroup {
            let annotations =
                job.bundle.spec.annotations().iter().flatten().map(|(key, value)| (key.as_str(), value.as_str()));
            Wanted::in_scope(Layout::detect(path)?, path, job.id, Some(&reduced.resources), annotations)?
        } else {
            Wanted::new(Layout::detect(path)?, path, job.id, Some(&reduced.resources), false)?
        };
        // The payload's rules are the guest's; QEMU opens /dev/kvm, and has its sandbox.
        cgroup.leave_out_device_rules(false);
        let expected = cgroup.expected()?;
        Ok(Judged {
            qemu: find_qemu(settings.qemu.as_deref())?,
            kernel: Kernel::find(settings.kernel.as_deref(), settings.modules.as_deref())?,
            vm,
            reduced,
            rootfs,
            disk,
            cgroup,
            expected,
            terminal,
            job,
        })
    }

    fn cache(&self) -> &Path {
        &self.vm.settings.cache
    }

    /// In the order in which they are tried. What has failed since the host's boot is not tried again.
    fn accelerators(&self, boot: &str) -> Result<Vec<Accelerator>> {
        let usable = fd::openat(CWD, c"/dev/kvm", libc::O_RDWR, 0);
        match (self.vm.settings.processor, usable) {
            (Processor::Emulation, _) | (Processor::Auto, Err(_)) => Ok(vec![Accelerator::Tcg]),
            (Processor::Auto, Ok(_)) if self.kernel.has_failed_with_kvm(self.cache(), boot) => {
                Ok(vec![Accelerator::Tcg])
            }
            (Processor::Auto, Ok(_)) => Ok(vec![Accelerator::Kvm, Accelerator::Tcg]),
            (Processor::Kvm, Ok(_)) => Ok(vec![Accelerator::Kvm]),
            (Processor::Kvm, Err(errno)) => Err(Error::system("use /dev/kvm", errno as i32)
                .hint("the key vm.processor of the configuration asks for it; auto falls back to emulation")),
        }
    }
}

impl Draft for Judged<'_> {
    fn remarks(&self) -> Vec<Remark> {
        self.reduced.remarks.iter().cloned().chain(self.cgroup.remarks()).collect()
    }

    fn describe(&self, record: &mut Record) {
        record.rootfs = self.rootfs.to_string_lossy().into_owned();
        record.cgroup.clone_from(&self.expected);
        record.private = Opaque::of(&json!({"disk": self.disk.as_ref().map(|disk| &disk.path)}));
        record.witness = Some(WitnessKind::StandIn);
    }

    fn create(
        self: Box<Self>,
        dir: BorrowedFd<'_>,
        record: &Record,
        tell: &dyn Fn(CgroupPaths) -> Result<()>,
    ) -> Result<Created> {
        let network = self.reduced.network.as_ref().map(|(path, at)| open_network(path, at)).transpose()?;
        phases::enter("image");
        let image = self.kernel.image(
            self.cache(),
            Parts { share: !self.reduced.bindings.is_empty(), network: network.is_some(), disk: self.disk.is_some() },
        )?;
        let proc = Procfs::open().map_err(|errno| Error::system("open /proc", errno as i32))?;
        let boot = proc.boot_id().map_err(|errno| Error::system("read the boot's name", errno as i32))?;
        let accelerators = self.accelerators(&boot)?;
        let tries = accelerators.len() as u32;
        if self.job.then_start {
            // From here on signals are for the payload, and wait until there is one.
            signal::block_all().map_err(|errno| Error::system("block signals", errno as i32))?;
        }
        let process = self.job.bundle.spec.process().as_ref();
        let size = process
            .and_then(|process| process.console_size())
            .map(|size| Size { rows: size.height() as u16, columns: size.width() as u16 });
        let pty = Pty::open(self.terminal, size)?;
        if let Some(disk) = &self.disk {
            phases::enter("disk");
            disk.make(&self.rootfs)?;
        }
        let made = MadeDisk(self.disk.clone());
        phases::enter("cgroup");
        let mut cgroup = Cgroup::create(&self.cgroup, tell)?;
        let words = [(self.job.no_pivot, "--no-pivot"), (self.job.no_new_keyring, "--no-new-keyring")];
        let (memory, cpus) = (self.reduced.memory, self.reduced.cpus);
        let job = host::Job {
            id: self.job.id.to_string(),
            state_dir: self.job.state_dir.to_owned(),
            machine: Machine { qemu: self.qemu, kernel: image.kernel, initrd: image.initrd, memory, cpus },
            accelerators,
            patience: self.vm.settings.patience,
            bindings: self.reduced.bindings,
            disk: self.disk.map(|disk| disk.path),
            config: self.reduced.config,
            words: words.iter().filter(|(asked, _)| *asked).map(|(_, word)| (*word).to_owned()).collect(),
            terminal: pty.is_some(),
            cgroup: cgroup.paths(),
            network: self.reduced.network.map(|(_, at)| at),
        };
        phases::enter("boot");
        let slave = pty.as_ref().map(|pty| &pty.slave);
        let mut launched = Launch::start(dir, &job, cgroup.birth_fd(), slave, network.as_ref());
        if matches!(launched, Err(Errno::E2BIG)) && cgroup.birth_fd().is_some() {
            cgroup.forgo_birth();
            launched = Launch::start(dir, &job, None, slave, network.as_ref());
        }
        let launch = match launched {
            Ok(launch) => launch,
            Err(errno) => {
                let error = cgroup.explain(Error::system("start the machine's stand-in", errno as i32), errno);
                cgroup.undo();
                return Err(error);
            }
        };
        let record = Record { cgroup: cgroup.paths(), ..record.clone() };
        let undoing = Undo { launch: Some(launch), record, disk: made };
        let Some(launch) = &undoing.launch else {
            return Err(Error::new(Kind::System, "start the machine's stand-in"));
        };
        if cgroup.birth_fd().is_none() {
            cgroup.place(launch.pid)?;
        }
        launch.go()?;
        // Each boot has its time, and so has what follows.
        let patience = self.vm.settings.patience * (tries + 1) + Duration::from_secs(10);
        let accelerator = launch.settle(patience)?;
        if accelerator == Accelerator::Tcg && tries > 1 {
            self.kernel.note_failure_with_kvm(&self.vm.settings.cache, &boot);
        }
        let init = identity::of(&proc, launch.pid, &launch.pidfd)?;
        let (paths, warnings) = (cgroup.paths(), cgroup.warnings());
        cgroup.leave();
        if let Some(foreground) = pty.and_then(|pty| pty.foreground) {
            self.vm.foreground.replace(Some(foreground));
        }
        Ok(Created {
            engine_pid: init.pid,
            supervisor: Supervisor::Process(init.clone()),
            init,
            cgroup: paths,
            private: Opaque::of(
                &json!({"driver": "qemu", "accelerator": accelerator.word(), "memory": memory, "cpus": cpus, "disk": job.disk, "name": NAME}),
            ),
            warnings,
            hold: Box::new(undoing),
        })
    }
}

/// The network namespace that a machine is to have the interfaces of: one that is not ours, whose traffic would all go there.
fn open_network(path: &Path, at: &str) -> Result<OwnedFd> {
    let doing = format!("open network namespace {}", path.display());
    let failed = |errno: Errno| Error::system(doing.as_str(), errno as i32).at(at);
    let text = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| failed(Errno::EINVAL))?;
    let file = fd::openat(CWD, &text, libc::O_RDONLY | libc::O_NONBLOCK, 0).map_err(failed)?;
    let wrong = |why: &str| Error::invalid(format!("network namespace {}", path.display())).because(why).at(at);
    match namespace::kind(&file) {
        Ok(kind) if kind == libc::CLONE_NEWNET as u64 => {}
        Ok(_) => return Err(wrong("is of another type")),
        Err(_) => return Err(wrong("is not a namespace")),
    }
    let own = fd::statat(CWD, c"/proc/self/ns/net", 0).map_err(failed)?;
    let about = fd::stat(&file).map_err(failed)?;
    if (about.st_dev, about.st_ino) == (own.st_dev, own.st_ino) {
        return Err(Error::unsupported("the host's network in a virtual machine")
            .because("all its traffic would go there")
            .at(at)
            .hint("a namespace of its own, which an engine's network makes"));
    }
    Ok(file)
}

/// Dropped before its release, it ends the machine and takes the cgroup away.
struct Undo {
    launch: Option<Launch>,
    record: Record,
    disk: MadeDisk,
}

/// Dropped, the disk goes.
struct MadeDisk(Option<Disk>);

impl Drop for MadeDisk {
    fn drop(&mut self) {
        if let Some(disk) = &self.0 {
            disk.remove();
        }
    }
}

impl Hold for Undo {
    fn release(mut self: Box<Self>) -> Result<()> {
        self.disk.0 = None;
        match self.launch.take() {
            Some(launch) => launch.release(),
            None => Ok(()),
        }
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if let Some(launch) = self.launch.take() {
            drop(launch);
            let _ = sweep(&self.record);
        }
    }
}
