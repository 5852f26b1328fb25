//! From a kernel with an initramfs to a machine in which containers can be made.

use std::ffi::CString;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wharf_core::{Error, Kind, Result};
use wharf_sys::{CWD, Errno, fd, libc, machine, mount};

use crate::wire::PORT;

/// Where the host's directories are.
pub(crate) const SHARE: &str = "/run/share";
/// Where the root file system is that is on a disk.
pub(crate) const DISK: &str = "/run/root";
const DISK_DEVICE: &str = "/dev/vda";
/// The network namespace of a container that the host has given one.
pub(crate) const NETWORK: &str = "/run/network";
/// Where this program is, in the initramfs and behind it.
pub const PROGRAM: &str = "/wharf-guest";
/// Drivers, in the order of their names.
const MODULES: &str = "/modules";
const NEW_ROOT: &str = "/new";
/// How long the kernel may take to find the channel.
const PATIENCE: Duration = Duration::from_secs(5);

/// The file systems of the kernel's, and a root that a container can be moved out of: the initramfs itself cannot
/// be left by pivot_root(2).
pub(super) fn mounts() -> Result<()> {
    kernel_mounts("")?;
    drivers()?;
    make(NEW_ROOT)?;
    mount("tmpfs", NEW_ROOT, "tmpfs", 0, "mode=755,size=25%")?;
    let program = format!("{NEW_ROOT}{PROGRAM}");
    fs::copy(PROGRAM, &program).map_err(|error| failed("copy the program", error))?;
    for dir in ["proc", "sys", "dev", "run", "tmp", "etc"] {
        make(&format!("{NEW_ROOT}/{dir}"))?;
    }
    for dir in ["/proc", "/sys", "/dev"] {
        mount(dir, &format!("{NEW_ROOT}{dir}"), "", libc::MS_MOVE, "")?;
    }
    // What was in the initramfs is memory.
    let _ = fs::remove_dir_all(MODULES).and_then(|()| fs::remove_file(PROGRAM));
    std::env::set_current_dir(NEW_ROOT).map_err(|error| failed("enter the new root", error))?;
    mount(".", "/", "", libc::MS_MOVE, "")?;
    mount::chroot_here().map_err(|errno| Error::system("enter the new root", errno as i32))?;
    std::env::set_current_dir("/").map_err(|error| failed("enter the new root", error))?;
    mount("tmpfs", "/run", "tmpfs", libc::MS_NOSUID | libc::MS_NODEV, "mode=755,size=25%")?;
    mount("tmpfs", "/tmp", "tmpfs", libc::MS_NOSUID | libc::MS_NODEV, "mode=1777,size=25%")?;
    mount("cgroup2", "/sys/fs/cgroup", "cgroup2", libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC, "")
}

fn kernel_mounts(root: &str) -> Result<()> {
    let closed = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    mount("proc", &format!("{root}/proc"), "proc", closed, "")?;
    mount("sysfs", &format!("{root}/sys"), "sysfs", closed, "")?;
    mount("devtmpfs", &format!("{root}/dev"), "devtmpfs", libc::MS_NOSUID, "mode=755")?;
    make(&format!("{root}/dev/pts"))?;
    mount("devpts", &format!("{root}/dev/pts"), "devpts", libc::MS_NOSUID | libc::MS_NOEXEC, "ptmxmode=666,mode=620")
}

fn drivers() -> Result<()> {
    let Ok(entries) = fs::read_dir(MODULES) else { return Ok(()) };
    let mut names: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    names.sort();
    for name in names {
        let image = fs::read(&name).map_err(|error| failed("read a driver", error))?;
        match machine::insert_module(&image, c"") {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => {
                let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
                return Err(Error::system(format!("insert driver {name} into the guest's kernel"), errno as i32));
            }
        }
    }
    Ok(())
}

/// The host's directories.
pub(super) fn share() -> Result<()> {
    make(SHARE)?;
    let options = "trans=virtio,version=9p2000.L,msize=512000,cache=mmap";
    mount("wharf", SHARE, "9p", 0, options)
        .map_err(|error| error.hint("the guest's kernel needs 9p over virtio (Debian's cloud kernel has none)"))
}

/// The machine's disk.
pub(super) fn disk() -> Result<()> {
    make(DISK)?;
    let begun = Instant::now();
    while !Path::new(DISK_DEVICE).exists() {
        if begun.elapsed() > PATIENCE {
            return Err(Error::new(Kind::System, "find the disk")
                .because(format!("the guest's kernel shows no {DISK_DEVICE}"))
                .hint("it needs virtio_blk"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    mount(DISK_DEVICE, DISK, "ext4", 0, "").map_err(|error| error.hint("the guest's kernel needs ext4"))
}

/// The directory of the cgroup that the process is in.
pub(super) fn cgroup_of(pid: i32) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    Some(PathBuf::from(format!("/sys/fs/cgroup{}", text.trim_end().strip_prefix("0::")?)))
}

/// The channel's end, which does not wait.
pub(super) fn port() -> Result<OwnedFd> {
    let begun = Instant::now();
    loop {
        if let Some(device) = find_port() {
            let path = CString::new(format!("/dev/{device}")).unwrap_or_default();
            let flags = libc::O_RDWR | libc::O_NONBLOCK;
            return fd::openat(CWD, &path, flags, 0).map_err(|errno| Error::system("open the channel", errno as i32));
        }
        if begun.elapsed() > PATIENCE {
            return Err(Error::new(Kind::System, "find the channel")
                .because("the guest's kernel shows no virtio-serial port")
                .hint("it needs virtio_pci and virtio_console"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn find_port() -> Option<String> {
    let ports = fs::read_dir("/sys/class/virtio-ports").ok()?;
    ports.filter_map(|entry| Some(entry.ok()?.path())).find_map(|dir| {
        let name = fs::read_to_string(dir.join("name")).ok()?;
        (name.trim_end() == PORT).then(|| dir.file_name()?.to_str().map(str::to_owned)).flatten()
    })
}

pub(super) fn make(path: &str) -> Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(failed(&format!("make {path}"), error)),
        _ => Ok(()),
    }
}

fn mount(source: &str, target: &str, kind: &str, flags: u64, data: &str) -> Result<()> {
    let text = |text: &str| CString::new(text).unwrap_or_default();
    let (source, kind, data) = (text(source), text(kind), text(data));
    let some = |text| (!CString::as_bytes(text).is_empty()).then_some(text.as_c_str());
    mount::mount(some(&source), &text(target), some(&kind), flags, some(&data)).map_err(|errno| {
        Error::system(format!("mount {} on {target} in the guest", source.to_string_lossy()), errno as i32)
    })
}

pub(super) fn failed(doing: &str, error: std::io::Error) -> Error {
    match error.raw_os_error() {
        Some(errno) => Error::system(doing, errno),
        None => Error::new(Kind::System, doing).because(error),
    }
}
