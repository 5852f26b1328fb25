//! wharf within a container of LXC, as Proxmox makes them with nesting: AppArmor confines it, and parts of its /proc are
//! covered by mounts of their own.

use harness::{Bundle, Feature, Host, Outcome, Stop, ensure, ensure_eq, json};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn trials() -> Feature {
    Feature::new("nested_lxc")
        .trial("in a privileged one, containers run with values of sysctl, masks and exec", |host| {
            whole_life(host, None)
        })
        .trial("in one with a user namespace too", |host| {
            let ids = ["/etc/subuid", "/etc/subgid"].map(|file| first_of_root(Path::new(file)));
            let [Some(uid), Some(gid)] = ids else {
                return Err(Stop::skipped("root has no range of ids in /etc/subuid"));
            };
            whole_life(host, Some((uid, gid)))
        })
}

/// Where 65536 ids begin that LXC may map as root: it calls newuidmap.
fn first_of_root(file: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("root:"))?;
    let (first, count) = line.split_once(':')?;
    (count.parse::<u32>().ok()? >= 65536).then(|| first.parse().ok())?
}

fn whole_life(host: &Host, mapped: Option<(u32, u32)>) -> Outcome {
    let values = json!({
        "net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 0", "kernel.msgmax": "8193",
    });
    // On v2 LXC leaves its processes in the topmost cgroup of the container, below which none can then be limited.
    let limits = if host.is_v2() { json!({}) } else { json!({"pids": {"limit": 20}}) };
    let bundle = host
        .bundle()?
        .set("/linux/sysctl", values)
        .set("/linux/maskedPaths", json!(["/proc/kcore", "/proc/keys"]))
        .set("/linux/readonlyPaths", json!(["/proc/sys", "/proc/sysrq-trigger"]))
        .set("/linux/resources", limits)
        .payload(&["sleep"]);
    let lxc = Lxc::start(host, &bundle, mapped)?;
    let said = |words: &[&str]| -> Result<String, Stop> {
        let ran = lxc.call(words)?.finish()?;
        ensure!(ran.code() == Some(0), "{words:?}: {ran}");
        Ok(ran.stdout)
    };
    said(&["run", "--detach", "--bundle", "/bundle", "c"])?;
    let read = |path: &str| -> Result<String, Stop> {
        let line = said(&["exec", "c", "/bin/payload", "read", path])?;
        Ok(line.parse::<harness::Value>()?["text"].as_str().unwrap_or_default().trim().to_owned())
    };
    ensure_eq!(read("/proc/sys/net/ipv4/ip_unprivileged_port_start")?, "0");
    ensure_eq!(read("/proc/sys/kernel/msgmax")?, "8193");
    ensure_eq!(read("/proc/keys")?, "");
    let state = said(&["state", "c"])?;
    ensure!(state.contains("\"running\""), "{state}");
    let forked = said(&["exec", "c", "/bin/payload", "fork", "40"])?;
    ensure_eq!(forked.contains("EAGAIN"), !host.is_v2(), "{forked}");
    let code = lxc.call(&["exec", "c", "/bin/payload", "exit", "42"])?.finish()?.code();
    ensure_eq!(code, Some(42));
    said(&["kill", "c", "KILL"])?;
    said(&["delete", "--force", "c"])?;
    ensure_eq!(said(&["list", "--quiet"])?, "");
    // Without a procfs of its own it has no place where the value could be written, and says so.
    let mut config: harness::Value = std::fs::read_to_string(bundle.dir().join("config.json"))?.parse()?;
    if let Some(mounts) = config["mounts"].as_array_mut() {
        mounts.retain(|mount| mount["type"] != "proc");
    }
    std::fs::write(bundle.dir().join("config.json"), config.to_string())?;
    let refused = lxc.call(&["run", "--bundle", "/bundle", "c"])?.finish()?;
    ensure!(refused.code() != Some(0) && refused.stderr.contains("[linux/sysctl/kernel.msgmax]"), "{refused}");
    ensure!(refused.stderr.contains("procfs of its own"), "{refused}");
    ensure_eq!(said(&["list", "--quiet"])?, "");
    lxc.stop()
}

/// A running container of LXC with wharf and a bundle in it.
struct Lxc<'a> {
    host: &'a Host,
    dir: PathBuf,
    name: String,
    /// Cgroups of another's monitors.
    pivots: Vec<PathBuf>,
}

fn pivots() -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let below = std::fs::read_dir(top).into_iter().flatten().flatten().map(|entry| entry.path());
    let all = below.chain([top.to_owned()]).map(|path| path.join("lxc.pivot"));
    all.filter(|path| path.is_dir() && !path.parent().is_some_and(Path::is_symlink)).collect()
}

impl<'a> Lxc<'a> {
    fn start(host: &'a Host, bundle: &Bundle, mapped: Option<(u32, u32)>) -> Result<Self, Stop> {
        if !Path::new("/usr/bin/lxc-start").exists() {
            return Err(Stop::skipped("lxc is not installed"));
        }
        host.only_wharf("the runtime is copied into the container")?;
        bundle.save()?;
        let dir = host.new_dir("lxc")?;
        let name = host.unique("lxc");
        let root = dir.join(&name).join("rootfs");
        for place in ["bundle", "dev", "etc", "proc", "run", "sys", "tmp"] {
            std::fs::create_dir_all(root.join(place))?;
        }
        std::fs::copy(host.runtime.program(), root.join("wharf"))?;
        std::fs::copy(host.payload(), root.join("payload"))?;
        let mut config = format!(
            "lxc.rootfs.path = dir:{root}\n\
             lxc.uts.name = outer\n\
             lxc.init.cmd = /payload sleep\n\
             lxc.mount.auto = proc:mixed sys:mixed cgroup:rw:force\n\
             lxc.mount.entry = {bundle} bundle none bind 0 0\n\
             lxc.net.0.type = empty\n\
             lxc.net.0.flags = up\n",
            root = root.display(),
            bundle = bundle.dir_text(),
        );
        if Path::new("/sys/kernel/security/apparmor/profiles").exists() {
            config += "lxc.apparmor.profile = generated\nlxc.apparmor.allow_nesting = 1\n";
        }
        if let Some((uid, gid)) = mapped {
            config += &format!("lxc.idmap = u 0 {uid} 65536\nlxc.idmap = g 0 {gid} 65536\n");
            for place in [&root, &bundle.dir().to_owned()] {
                let chown = Command::new("chown").arg("-R").arg(format!("{uid}:{gid}")).arg(place).status()?;
                ensure!(chown.success(), "chown {}", place.display());
            }
        }
        std::fs::write(dir.join(&name).join("config"), config)?;
        let lxc = Lxc { host, dir, name, pivots: pivots() };
        let started = host.program(lxc.tool("lxc-start"))?.finish()?;
        ensure!(started.code() == Some(0), "{started}");
        Ok(lxc)
    }

    fn tool(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-P").arg(&self.dir).args(["-n", &self.name]);
        command
    }

    /// wharf within it.
    fn call(&self, words: &[&str]) -> Result<harness::Running, Stop> {
        let mut command = self.tool("lxc-attach");
        command.args(["--clear-env", "--", "/wharf", "--root", "/run/wharf"]).args(words);
        self.host.program(command)
    }

    fn stop(self) -> Outcome {
        let stopped = self.host.program(self.end())?.finish()?;
        ensure!(stopped.code() == Some(0), "{stopped}");
        // LXC's monitor leaves the cgroup in which it ends.
        pivots().iter().filter(|path| !self.pivots.contains(path)).try_for_each(std::fs::remove_dir)?;
        Ok(())
    }

    fn end(&self) -> Command {
        let mut command = self.tool("lxc-stop");
        command.arg("--kill");
        command
    }
}

impl Drop for Lxc<'_> {
    /// After a failure; else it has been stopped.
    fn drop(&mut self) {
        let _ = self.end().output();
    }
}
