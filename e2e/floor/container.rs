//! From a fresh process in new namespaces to the payload: the two configurations, written out.

use crate::{Job, cgroup, filter, text};
use std::ffi::CStr;
use wharf_sys::libc::{
    MNT_DETACH, MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_PRIVATE, MS_RDONLY, MS_REC, MS_RELATIME, MS_REMOUNT,
    MS_SLAVE, MS_STRICTATIME, O_RDONLY, O_WRONLY, RLIMIT_NOFILE, RLIMIT_NPROC, S_IFCHR, makedev,
};
use wharf_sys::mount::{self, mount};
use wharf_sys::process::{self, ExecStrings};
use wharf_sys::{CWD, Errno, Result, credentials, fd, namespace};

const SAFE: u64 = MS_NOSUID | MS_NOEXEC | MS_NODEV;

const NODES: [(&CStr, u32, u32); 6] = [
    (c"dev/null", 1, 3),
    (c"dev/zero", 1, 5),
    (c"dev/full", 1, 7),
    (c"dev/random", 1, 8),
    (c"dev/urandom", 1, 9),
    (c"dev/tty", 5, 0),
];
const LINKS: [(&CStr, &CStr); 6] = [
    (c"/proc/self/fd", c"dev/fd"),
    (c"/proc/self/fd/0", c"dev/stdin"),
    (c"/proc/self/fd/1", c"dev/stdout"),
    (c"/proc/self/fd/2", c"dev/stderr"),
    (c"/proc/kcore", c"dev/core"),
    (c"pts/ptmx", c"dev/ptmx"),
];
const MASKED_FILES: [&CStr; 6] =
    [c"proc/kcore", c"proc/keys", c"proc/latency_stats", c"proc/timer_list", c"proc/timer_stats", c"proc/sched_debug"];
const MASKED_DIRECTORIES: [&CStr; 4] = [c"proc/acpi", c"proc/asound", c"proc/scsi", c"sys/firmware"];
const MASKED_BY_ENGINES: [&CStr; 3] = [c"sys/dev/block", c"sys/devices/virtual/powercap", c"sys/fs/selinux"];
const READ_ONLY: [&CStr; 5] = [c"proc/bus", c"proc/fs", c"proc/irq", c"proc/sys", c"proc/sysrq-trigger"];
const ENGINE_FILES: [(&CStr, &CStr); 4] = [
    (c"/run/wharf-bench/engine/resolv.conf", c"etc/resolv.conf"),
    (c"/run/wharf-bench/engine/hosts", c"etc/hosts"),
    (c"/run/wharf-bench/engine/containerenv", c"run/.containerenv"),
    (c"/run/wharf-bench/engine/hostname", c"etc/hostname"),
];

const LAST_CAPABILITY: u32 = 40;
/// chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, sys_chroot, setfcap.
const ENGINE_CAPABILITIES: u64 =
    1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 18 | 1 << 31;
/// kill, net_bind_service, audit_write.
const DEFAULT_CAPABILITIES: u64 = 1 << 5 | 1 << 10 | 1 << 29;

/// Returns only the reason why not. `wait` is called when all is ready but the last.
pub(crate) fn become_payload(job: &Job, wait: impl FnOnce() -> Result<()>) -> Errno {
    match prepare(job).and_then(|()| wait()).and_then(|()| restrict(job)) {
        Err(errno) => errno,
        Ok(()) => {
            let environment: &[&CStr] = if job.engine {
                &[
                    c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    c"TERM=xterm",
                    c"container=podman",
                    c"HOSTNAME=4f1d2c3b5a69",
                    c"HOME=/root",
                ]
            } else {
                &[c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", c"TERM=xterm"]
            };
            let arguments = ExecStrings::new([c"/still", job.payload]);
            process::exec(c"/still", &arguments, &ExecStrings::new(environment.iter().copied()))
        }
    }
}

fn prepare(job: &Job) -> Result<()> {
    cgroup::join(job)?;
    process::set_session()?;
    credentials::join_session_keyring(&text(job.id))?;
    if job.engine {
        namespace::enter(fd::openat(CWD, c"/run/wharf-bench/netns", O_RDONLY, 0)?, namespace::flag::NEWNET)?;
        write(c"/proc/sys/net/ipv4/ping_group_range", b"0 0")?;
        write(c"/proc/self/oom_score_adj", b"0")?;
    } else {
        namespace::loopback_up()?;
    }
    namespace::set_hostname(if job.engine { b"4f1d2c3b5a69" } else { b"container" })?;

    mount(None, c"/", None, MS_REC | MS_SLAVE, None)?;
    mount(Some(c"/run/wharf-bench/rootfs"), c"/run/wharf-bench/rootfs", None, MS_BIND | MS_REC, None)?;
    process::chdir(c"/run/wharf-bench/rootfs")?;
    process::set_umask(0);
    mounts(job)?;
    for (name, major, minor) in NODES {
        fd::mknodat(CWD, name, S_IFCHR | 0o666, makedev(major, minor))?;
    }
    for (target, name) in LINKS {
        fd::symlinkat(target, CWD, name)?;
    }
    mount::pivot_here()?;
    mount::umount(c".", MNT_DETACH)?;
    process::chdir(c"/")?;
    masks(job)?;
    if !job.engine {
        mount(None, c"/", None, MS_BIND | MS_REMOUNT | MS_RDONLY, None)?;
    }
    process::set_umask(0o22);
    Ok(())
}

fn mounts(job: &Job) -> Result<()> {
    let dev_flags = MS_NOSUID | MS_STRICTATIME | if job.engine { MS_NOEXEC } else { 0 };
    let proc_flags = if job.engine { SAFE } else { 0 };
    mount(Some(c"proc"), c"proc", Some(c"proc"), proc_flags, None)?;
    mount(Some(c"tmpfs"), c"dev", Some(c"tmpfs"), dev_flags, Some(c"mode=755,size=65536k"))?;
    mount(Some(c"sysfs"), c"sys", Some(c"sysfs"), SAFE | MS_RDONLY, None)?;
    for name in [c"dev/pts", c"dev/mqueue", c"dev/shm"] {
        fd::mkdirat(CWD, name, 0o755)?;
    }
    let pts = c"newinstance,ptmxmode=0666,mode=0620,gid=5";
    mount(Some(c"devpts"), c"dev/pts", Some(c"devpts"), MS_NOSUID | MS_NOEXEC, Some(pts))?;
    mount(Some(c"mqueue"), c"dev/mqueue", Some(c"mqueue"), SAFE, None)?;
    if job.engine {
        bind(c"/run/wharf-bench/engine/shm", c"dev/shm", SAFE)?;
        for (source, target) in ENGINE_FILES {
            bind(source, target, 0)?;
        }
        for target in [c"dev/shm"].into_iter().chain(ENGINE_FILES.map(|(_, target)| target)) {
            mount(None, target, None, MS_PRIVATE, None)?;
        }
    } else {
        mount(Some(c"shm"), c"dev/shm", Some(c"tmpfs"), SAFE, Some(c"mode=1777,size=65536k"))?;
    }
    cgroups(job)
}

/// `attributes` of a bind mount take a second call.
fn bind(source: &CStr, target: &CStr, attributes: u64) -> Result<()> {
    mount(Some(source), target, None, MS_BIND, None)?;
    if attributes == 0 {
        return Ok(());
    }
    mount(None, target, None, MS_BIND | MS_REMOUNT | attributes, None)
}

fn cgroups(job: &Job) -> Result<()> {
    let flags = SAFE | MS_RELATIME;
    mount(Some(c"cgroup"), c"sys/fs/cgroup", Some(c"tmpfs"), flags, Some(c"mode=755"))?;
    for hierarchy in &job.hierarchies {
        let target = text(&["sys/fs/cgroup/", hierarchy].concat());
        fd::mkdirat(CWD, &target, 0o755)?;
        bind(&cgroup::path(job, hierarchy, ""), &target, flags | MS_RDONLY)?;
    }
    mount(None, c"sys/fs/cgroup", None, MS_REMOUNT | flags | MS_RDONLY, Some(c"mode=755"))?;
    if job.engine {
        mount(None, c"sys/fs/cgroup", None, MS_REC | MS_PRIVATE, None)?;
    }
    Ok(())
}

/// What the kernel does not have needs no mask.
fn present(result: Result<()>) -> Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn masks(job: &Job) -> Result<()> {
    let interrupts = [c"proc/interrupts"];
    let (more_files, more_directories): (&[&CStr], &[&CStr]) =
        if job.engine { (&interrupts, &MASKED_BY_ENGINES) } else { (&[], &[]) };
    for name in MASKED_FILES.iter().chain(more_files) {
        present(mount(Some(c"dev/null"), name, None, MS_BIND, None))?;
    }
    for name in MASKED_DIRECTORIES.iter().chain(more_directories) {
        present(mount(Some(c"tmpfs"), name, Some(c"tmpfs"), MS_RDONLY | SAFE, Some(c"nr_inodes=1")))?;
    }
    for name in READ_ONLY {
        if present(mount(Some(name), name, None, MS_BIND | MS_REC, None))? {
            mount(None, name, None, MS_BIND | MS_REMOUNT | MS_RDONLY | SAFE, None)?;
        }
    }
    Ok(())
}

fn restrict(job: &Job) -> Result<()> {
    let capabilities = if job.engine { ENGINE_CAPABILITIES } else { DEFAULT_CAPABILITIES };
    if job.engine {
        process::set_rlimit(0, RLIMIT_NOFILE as _, 1024, 20000)?;
        process::set_rlimit(0, RLIMIT_NPROC as _, 1000, 1000)?;
        // Without no_new_privs a filter needs the privileges that go next.
        credentials::load_seccomp(filter::program(), 0)?;
    } else {
        process::set_rlimit(0, RLIMIT_NOFILE as _, 1024, 1024)?;
    }
    for capability in 0..=LAST_CAPABILITY {
        if capabilities & 1 << capability == 0 {
            credentials::drop_bounding(capability)?;
        }
    }
    credentials::set_groups(if job.engine { &[0] } else { &[] })?;
    credentials::set_gid(0)?;
    credentials::set_uid(0)?;
    credentials::set_capabilities(capabilities, capabilities, 0)?;
    if !job.engine {
        credentials::no_new_privileges()?;
    }
    fd::close_by_exec(3)
}

fn write(path: &CStr, value: &[u8]) -> Result<()> {
    fd::write_all(fd::openat(CWD, path, O_WRONLY, 0)?, value)
}
