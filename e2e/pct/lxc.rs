//! LXC underneath: the configuration that is written at every start, in the manner of pve-container, and LXC's own tools.

use crate::answer::Death;
use crate::config::Section;
use crate::property::{DEVICE, FEATURES, NET, Properties};
use crate::world::World;
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use wharf_sys::namespace::{Side, clone};
use wharf_sys::process::{self, ExecStrings};
use wharf_sys::{CWD, apparmor, fd, libc, signal};

const START: &str = "/usr/bin/lxc-start";
const SHARE: &str = "/usr/share/lxc/config";
/// §3, unprivileged.
pub(crate) const FIRST: u32 = 100_000;
pub(crate) const COUNT: u32 = 65_536;

pub(crate) fn dir(world: &World, id: u32) -> PathBuf {
    world.lxc_path().join(id.to_string())
}

/// What LXC wrote about the last attempt (§2, start).
pub(crate) fn log(world: &World, id: u32) -> PathBuf {
    world.path(&format!("run/pve/ct-{id}.stderr"))
}

fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// `FAMILY.KEY = VALUE`, for the cgroups that there are. Proxmox VE 9 knows v2 alone; a host of v1 gets the old key where there
/// is one that means the same.
struct Limits(String);

impl Limits {
    fn put(&mut self, v2: &str, v1: Option<(&str, String)>, value: &str) {
        match (is_v2(), v1) {
            (true, _) => self.0.push_str(&format!("lxc.cgroup2.{v2} = {value}\n")),
            (false, Some((key, value))) => self.0.push_str(&format!("lxc.cgroup.{key} = {value}\n")),
            (false, None) => {}
        }
    }
}

/// §3, memory, cpulimit and cpuunits.
fn limits(section: &Section) -> String {
    let mut limits = Limits(String::new());
    const MIB: u64 = 1 << 20;
    let number = |key: &str, usual: u64| section.get(key).and_then(|text| text.parse::<u64>().ok()).unwrap_or(usual);
    let memory = number("memory", 512).saturating_mul(MIB);
    let swap = number("swap", 512).saturating_mul(MIB);
    limits.put("memory.max", Some(("memory.limit_in_bytes", memory.to_string())), &memory.to_string());
    limits.put("memory.swap.max", None, &swap.to_string());
    // About 99.2 %, or 128 MiB less from 16 GiB on.
    let high = memory - (128 * MIB).min(memory / 128);
    limits.put("memory.high", None, &high.to_string());
    if let Some(cpus) = section.get("cpulimit").and_then(|text| text.parse::<f64>().ok()).filter(|cpus| *cpus > 0.0) {
        let quota = (cpus * 100_000.0) as u64;
        limits.put("cpu.max", Some(("cpu.cfs_quota_us", quota.to_string())), &format!("{quota} 100000"));
    }
    if let Some(units) = section.get("cpuunits").and_then(|text| text.parse::<u64>().ok()) {
        let weight = units.clamp(1, 10_000);
        limits.put("cpu.weight", Some(("cpu.shares", (weight * 1024 / 100).max(2).to_string())), &weight.to_string());
    }
    if let Some(cores) = section.get("cores").and_then(|text| text.parse::<usize>().ok()) {
        // The real one picks any.
        let last = std::thread::available_parallelism().map_or(1, usize::from).min(cores) - 1;
        limits.put("cpuset.cpus", Some(("cpuset.cpus", format!("0-{last}"))), &format!("0-{last}"));
    }
    limits.0
}

fn has_custom_map(section: &Section) -> bool {
    section.raw.iter().any(|(key, _)| key == "lxc.idmap")
}

/// Whether the container has a user namespace of its own.
pub(crate) fn is_mapped(section: &Section) -> bool {
    section.is("unprivileged") || has_custom_map(section)
}

fn nets(section: &Section, id: u32) -> Result<String, Death> {
    let mut text = String::new();
    let all = section.numbered("net");
    if all.is_empty() {
        // §3, netN: a network namespace whose lo is down.
        text.push_str("lxc.net.0.type = empty\n");
    }
    for (number, value) in all {
        let net = NET.parse(&value).unwrap_or_default();
        if let Some(bridge) = net.get("bridge") {
            if !Path::new("/sys/class/net").join(bridge).join("bridge").exists() {
                return Err(Death::worker(format!("bridge '{bridge}' does not exist")));
            }
            text.push_str(&format!("lxc.net.{number}.type = veth\nlxc.net.{number}.link = {bridge}\n"));
        } else {
            text.push_str(&format!("lxc.net.{number}.type = veth\n"));
        }
        text.push_str(&format!("lxc.net.{number}.veth.pair = veth{id}i{number}\n"));
        for (key, lxc) in [("name", "name"), ("hwaddr", "hwaddr"), ("mtu", "mtu")] {
            if let Some(value) = net.get(key) {
                text.push_str(&format!("lxc.net.{number}.{lxc} = {value}\n"));
            }
        }
        text.push_str(&managed(&net, number));
    }
    Ok(text)
}

/// §3, `host-managed`: without it nothing but software in the image configures the address.
fn managed(net: &Properties, number: u32) -> String {
    let mut text = String::new();
    if !net.is("host-managed") || net.is("link_down") {
        return text;
    }
    text.push_str(&format!("lxc.net.{number}.flags = up\n"));
    for (key, lxc) in [("ip", "ipv4.address"), ("gw", "ipv4.gateway"), ("ip6", "ipv6.address"), ("gw6", "ipv6.gateway")]
    {
        if let Some(value) = net.get(key).filter(|value| value.contains(['.', ':'])) {
            text.push_str(&format!("lxc.net.{number}.{lxc} = {value}\n"));
        }
    }
    text
}

/// §3, devN: nodes that the hook makes, bound to their places.
fn devices(world: &World, id: u32, section: &Section) -> Result<String, Death> {
    let mut text = String::new();
    for (_, value) in section.numbered("dev") {
        let found = DEVICE.parse(&value).map_err(Death::worker)?;
        let path = found.get("path").unwrap_or_default();
        let about = fs::metadata(path).map_err(|_| Death::worker(format!("Device {path} does not exist")))?;
        let kind = about.file_type();
        let kind = match (kind.is_block_device(), kind.is_char_device()) {
            (true, _) => 'b',
            (_, true) => 'c',
            _ => return Err(Death::worker(format!("{path} is not a device"))),
        };
        let inside = path.trim_start_matches('/');
        let node = dir(world, id).join("passthrough").join(inside);
        text.push_str(&format!("lxc.mount.entry = {} {inside} none bind,create=file 0 0\n", node.display()));
        let (major, minor) = (nix::sys::stat::major(about.rdev()), nix::sys::stat::minor(about.rdev()));
        let rights = if found.is("deny-write") { "r" } else { "rw" };
        let family = if is_v2() { "cgroup2" } else { "cgroup" };
        text.push_str(&format!("lxc.{family}.devices.allow = {kind} {major}:{minor} {rights}\n"));
    }
    Ok(text)
}

/// LXC's name for an architecture.
fn architecture(arch: &str) -> &str {
    match arch {
        "amd64" => "x86_64",
        "i386" => "x86",
        "arm64" => "aarch64",
        "armhf" => "armv7l",
        other => other,
    }
}

/// Writes `ID/config`.
pub(crate) fn write_config(world: &World, id: u32, section: &Section) -> Result<(), Death> {
    let own = dir(world, id);
    let mut text = format!(
        "lxc.cgroup.relative = 0\nlxc.cgroup.dir.monitor = lxc.monitor/{id}\nlxc.cgroup.dir.container = lxc/{id}\n\
         lxc.cgroup.dir.container.inner = ns\n"
    );
    let Some(arch) = section.get("arch") else { return Err(Death::worker("missing 'arch' - internal error")) };
    let Some(ostype) = section.get("ostype") else { return Err(Death::worker("missing 'ostype' - internal error")) };
    text.push_str(&format!("lxc.arch = {}\n", architecture(arch)));
    let mapped = is_mapped(section);
    for kind in ["common", "userns"].into_iter().filter(|kind| *kind == "common" || mapped) {
        let special = format!("{SHARE}/{ostype}.{kind}.conf");
        let file = if Path::new(&special).exists() { special } else { format!("{SHARE}/{kind}.conf") };
        text.push_str(&format!("lxc.include = {file}\n"));
    }
    let features = section.get("features").and_then(|text| FEATURES.parse(text).ok()).unwrap_or_default();
    text.push_str("lxc.apparmor.profile = generated\n");
    if features.is("nesting") {
        text.push_str("lxc.apparmor.allow_nesting = 1\n");
    }
    if features.is("fuse") {
        text.push_str(
            "lxc.apparmor.raw = mount fstype=fuse,\nlxc.mount.entry = /dev/fuse dev/fuse none bind,create=file 0 0\n",
        );
    }
    if section.is("unprivileged") && !features.is("force_rw_sys") {
        text.push_str("lxc.mount.auto = sys:mixed\n");
    }
    text.push_str("lxc.monitor.unshare = 1\n");
    if section.is("unprivileged") && !has_custom_map(section) {
        text.push_str(&format!("lxc.idmap = u 0 {FIRST} {COUNT}\nlxc.idmap = g 0 {FIRST} {COUNT}\n"));
    }
    if section.get("console") == Some("0") {
        text.push_str("lxc.console.path = none\n");
    }
    text.push_str(&format!("lxc.tty.max = {}\nlxc.environment = TERM=linux\n", section.get("tty").unwrap_or("2")));
    let name = section.get("hostname").map_or_else(|| format!("CT{id}"), str::to_owned);
    text.push_str(&format!("lxc.uts.name = {name}\n"));
    text.push_str(&limits(section));
    text.push_str(&format!("lxc.rootfs.path = dir:{}\n", own.join("rootfs").display()));
    for hook in ["pre-start", "autodev", "post-stop"] {
        text.push_str(&format!("lxc.hook.{hook} = {}\n", world.path("bin").join(crate::hook::NAME).display()));
    }
    text.push_str(&nets(section, id)?);
    if let Some(command) = section.get("entrypoint") {
        text.push_str(&format!("lxc.init.cmd = {command}\n"));
    }
    for variable in &section.env {
        // Stock LXC has no lxc.environment.runtime (§4, OCI image archive).
        text.push_str(&format!("lxc.environment = {variable}\n"));
    }
    text.push_str(&devices(world, id, section)?);
    // Last: they win over all of it.
    for (key, value) in &section.raw {
        text.push_str(&format!("{key} = {value}\n"));
    }
    let make = || {
        fs::create_dir_all(own.join("rootfs"))?;
        fs::write(own.join("config"), &text)
    };
    make().map_err(|error| Death::system(format!("write LXC's configuration of {id}"), error))
}

/// A tool of LXC's about a container.
pub(crate) fn tool(world: &World, name: &str, id: u32) -> Command {
    let mut command = Command::new(Path::new("/usr/bin").join(name));
    command.arg("-P").arg(world.lxc_path()).arg("-n").arg(id.to_string()).stdin(Stdio::null());
    command
}

/// The first process, as the host numbers it.
pub(crate) fn pid(world: &World, id: u32) -> Option<i32> {
    let said = tool(world, "lxc-info", id).args(["-p", "-H"]).stderr(Stdio::null()).output().ok()?;
    String::from_utf8_lossy(&said.stdout).trim().parse().ok()
}

pub(crate) fn state(world: &World, id: u32) -> String {
    let said = tool(world, "lxc-info", id).args(["-s", "-H"]).stderr(Stdio::null()).output();
    said.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned()).unwrap_or_default()
}

/// `lxc-start -F`, which a service runs on a node: nobody's child here. Returns when the container runs, or has not come.
pub(crate) fn start(world: &World, id: u32) -> Result<(), Death> {
    let failed = |errno: wharf_sys::Errno| Death::system("start lxc-start", errno);
    let (child, pidfd) = match clone(0, None).map_err(failed)? {
        Side::Child => {
            let _ = become_lxc(world, id);
            process::exit_now(1)
        }
        Side::Parent { pid, pidfd } => (pid, pidfd),
    };
    let end = Instant::now() + world.seconds("start-seconds", 60.0);
    loop {
        let ended = process::readable(&pidfd, 10).map_err(failed)?;
        let running = !ended && crate::ct::is_running(world, id) && state(world, id) == "RUNNING";
        // The real one takes longer than this to look for the pid after it has been told of the state.
        let grace = world.seconds("grace-seconds", 0.05).as_millis() as i32;
        let ended = ended || running && process::readable(&pidfd, grace).map_err(failed)?;
        if running && !ended {
            return Ok(());
        }
        if ended {
            let status = process::wait(child, 0).map_err(failed)?;
            return match status {
                // §2, start: it ran, and it is over.
                Some((_, ended)) if ended.code() == 0 => {
                    Err(Death::worker(format!("unable to get PID for CT {id} (not running?)")))
                }
                _ => Err(not_started(world, id)),
            };
        }
        if Instant::now() > end {
            kill(world, id);
            return Err(not_started(world, id));
        }
    }
}

/// §2, start: the tail of LXC's own words on stdout.
fn not_started(world: &World, id: u32) -> Death {
    let text = fs::read(log(world, id)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    for line in &lines[lines.len().saturating_sub(20)..] {
        // `lxc-start: ID: ../src/lxc/FILE.c: FUNCTION: LINE words`.
        println!("{}", line.splitn(4, ": ").nth(3).unwrap_or(line));
    }
    Death::worker(format!("startup for container '{id}' failed"))
}

fn become_lxc(world: &World, id: u32) -> Result<(), wharf_sys::Errno> {
    signal::reset_all()?;
    let _ = process::set_session();
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(|_| wharf_sys::Errno::EINVAL);
    let null = fd::openat(CWD, c"/dev/null", libc::O_RDWR, 0)?;
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC;
    let log = fd::openat(CWD, &text(&log(world, id))?, flags, 0o640)?;
    for (stream, file) in [&null, &null, &log].into_iter().enumerate() {
        fd::dup_to(file, stream as i32)?;
    }
    fd::close_by_exec(3)?;
    process::chdir(c"/")?;
    if apparmor::is_enabled() {
        // Debian's profile of lxc-start allows it mounts in /var/lib/lxc alone.
        let _ = apparmor::change_on_exec(c"unconfined");
    }
    let name = CString::new(id.to_string()).map_err(|_| wharf_sys::Errno::EINVAL)?;
    let (path, program) = (text(&world.lxc_path())?, text(Path::new(START))?);
    // Without /usr/bin LXC finds no newuidmap(1): the host's /etc/subuid has no say, but this world's.
    let environment = ExecStrings::new([c"PATH=/usr/sbin:/sbin"]);
    let words = ExecStrings::new([c"lxc-start", c"-F", c"-P", &path, c"-n", &name]);
    Err(process::exec(&program, &words, &environment))
}

/// SIGKILL for the first process, and LXC's monitor gone.
pub(crate) fn kill(world: &World, id: u32) {
    if !crate::ct::is_running(world, id) {
        return;
    }
    let _ = tool(world, "lxc-stop", id).arg("--kill").stdout(Stdio::null()).stderr(Stdio::null()).status();
    wait_gone(world, id, Duration::from_secs(10));
}

/// Whether the monitor has gone.
pub(crate) fn wait_gone(world: &World, id: u32, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    while crate::ct::is_running(world, id) {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}
