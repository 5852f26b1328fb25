//! Whose memory was at its end when the kernel killed, as the exit record tells it.

use crate::exit_record::{MIB, kept, told, without_core};
use harness::{Bundle, Feature, Host, Outcome, Stop, Value, ensure, ensure_eq, json, wait_until};
use std::path::PathBuf;
use std::time::Duration;

pub(crate) fn trials() -> Feature {
    Feature::new("out_of_memory")
        .trial("a kill for want of memory is told by whose limit it was", |host| {
            host.needs_controller("memory")?;
            let memory = json!({"limit": 32 * MIB, "swap": 32 * MIB});
            let bundle = host.bundle()?.set("/linux/resources/memory", memory);
            let (_, exit) = kept(host, bundle.payload(&["alloc", "100"]))?;
            ensure_eq!((&exit["signal"], &exit["oom"]["verdict"]), (&json!(9), &json!("limit")), "{exit}");
            ensure_eq!(exit["reason"], "out of memory: its own limit");
            let peak = exit["memory_peak"].as_u64().unwrap_or(0);
            ensure!((31 * MIB..=33 * MIB).contains(&peak), "{exit}");
            let above = host.unique("above");
            let parent = Parent::make(host, &above, 32 * MIB)?;
            let bundle = host.bundle()?.set("/linux/cgroupsPath", json!(format!("/{above}/below")));
            let ended = kept(host, bundle.payload(&["alloc", "100"]));
            parent.remove()?;
            let (_, exit) = ended?;
            ensure_eq!(exit["oom"]["verdict"], "ancestor", "{exit}");
            ensure_eq!(exit["oom"]["ancestor"], format!("/{above}"));
            Ok(())
        })
        .trial("one that is killed beside the payload is told, and is not the reason", |host| {
            host.needs_controller("memory")?;
            let bundle = host.bundle()?.set("/linux/resources/memory", json!({"limit": 32 * MIB, "swap": 32 * MIB}));
            let (ran, exit) = kept(host, bundle.payload(&["spawn", "/bin/payload", "alloc", "100", ";", "exit", "3"]))?;
            ensure_eq!((ran.code(), &exit["code"]), (Some(3), &json!(3)), "{exit}");
            ensure_eq!((&exit["oom"]["killed"], &exit["oom"]["verdict"]), (&json!(1), &json!("limit")), "{exit}");
            ensure!(exit.get("reason").is_none(), "{exit}");
            Ok(())
        })
        .trial("a group that the kernel kills together is told", |host| {
            host.needs_v2("memory")?;
            let bundle = host
                .bundle()?
                .set("/linux/resources/memory", json!({"limit": 32 * MIB, "swap": 32 * MIB}))
                .set("/linux/resources/unified", json!({"memory.oom.group": "1"}));
            // The first process does not want memory: alone it would live.
            let words = ["spawn", "/bin/payload", "alloc", "100", ";", "sleep"];
            let (ran, exit) = kept(host, bundle.payload(&words))?;
            ensure_eq!(ran.code(), Some(137));
            ensure_eq!((&exit["oom"]["verdict"], &exit["oom"]["group"]), (&json!("limit"), &json!(true)), "{exit}");
            Ok(())
        })
        .trial("a crash with no want of memory has no verdict", |host| {
            let (_, exit) = kept(host, without_core(host)?.payload(&["kill-self", "KILL"]))?;
            ensure!(exit.get("oom").is_none() && exit.get("reason").is_none(), "{exit}");
            Ok(())
        })
        .trial("who was killed in the same cgroup before is not told of", |host| {
            host.needs_controller("memory")?;
            let name = host.unique("shared");
            let parent = Parent::make(host, &name, 32 * MIB)?;
            let procs = parent.0.join("cgroup.procs");
            let join = format!("echo $$ >{} && exec {} alloc 100", procs.display(), host.payload().display());
            let mut hog = std::process::Command::new("sh");
            hog.args(["-c", &join]);
            let killed = host.program(hog)?.finish();
            let bundle = host.bundle()?.set("/linux/cgroupsPath", json!(format!("/{name}")));
            let ended = kept(host, bundle.payload(&["exit", "0"]));
            parent.remove()?;
            ensure_eq!(killed?.code(), None, "the hog was not killed");
            let (_, exit) = ended?;
            ensure!(exit["code"] == 0 && exit.get("oom").is_none(), "{exit}");
            Ok(())
        })
        .trial(
            "one who fills a tmpfs is told apart by what stopped him: its size, or the memory that it is of",
            |host| {
                host.needs_controller("memory")?;
                let memory = json!({"limit": 48 * MIB, "swap": 48 * MIB});
                let filler = |size: &str| -> Result<Bundle, Stop> {
                    let bundle = host.bundle()?.set("/linux/resources/memory", memory.clone());
                    let bundle = bundle.mount("/fill", "tmpfs", "tmpfs", &[size, "mode=777"]);
                    Ok(bundle.payload(&["fill", "/fill/file", ";", "exit", "28"]))
                };
                let neighbour = host.start(&host.bundle()?.payload(&["sleep"]))?;
                let (ran, exit) = kept(host, filler("size=8m")?)?;
                ensure!(ran.stdout.contains("ENOSPC"), "{ran}");
                ensure_eq!((&exit["code"], exit.get("oom"), exit.get("reason")), (&json!(28), None, None), "{exit}");
                let (_, exit) = kept(host, filler("size=256m")?)?;
                ensure_eq!((&exit["signal"], &exit["oom"]["verdict"]), (&json!(9), &json!("limit")), "{exit}");
                ensure_eq!(neighbour.status()?, "running");
                Ok(())
            },
        )
        .trial("a host at its end is told as that, and not as a limit", |host| {
            host.needs_controller("memory")?;
            // The kernel's own way to choose whom it kills for the host's want of memory; this one volunteers.
            let trigger = std::path::Path::new("/proc/sysrq-trigger");
            if !trigger.exists() {
                return Err(Stop::skipped("a kernel without sysrq"));
            }
            let bundle = host.bundle()?.set("/process/oomScoreAdj", json!(1000)).payload(&["hold", "64"]);
            bundle.save()?;
            let running = host.spawn(&["run", "--keep", "--bundle", bundle.dir_text(), bundle.id()])?;
            wait_until("it to have its memory", || Ok(running.stdout_so_far().contains("ready")))?;
            std::fs::write(trigger, "f")?;
            ensure_eq!(running.finish()?.code(), Some(137));
            let exit = told(host, &bundle)?;
            ensure_eq!((&exit["signal"], &exit["oom"]["verdict"]), (&json!(9), &json!("host")), "{exit}");
            ensure_eq!(exit["reason"], "out of memory: the host's");
            host.runtime.must(&["delete", bundle.id()]).map(drop)
        })
        .trial("a limit above the cgroup namespace is one that is not seen", |host| {
            let above = host.unique("above");
            let parent = Parent::make(host, &above, 32 * MIB)?;
            let ended = in_cgroup_namespace(host, &parent);
            let removed = parent.remove();
            let exit = ended?;
            ensure_eq!((&exit["signal"], &exit["oom"]["verdict"]), (&json!(9), &json!("unseen")), "{exit}");
            ensure!(exit["oom"].get("ancestor").is_none(), "{exit}");
            removed
        })
}

/// How a container ended that was run in a cgroup namespace below the parent, with a mount of its own of the hierarchy.
fn in_cgroup_namespace(host: &Host, parent: &Parent) -> Result<Value, Stop> {
    let bundle = host.bundle()?.payload(&["alloc", "100"]);
    bundle.save()?;
    let inner = parent.0.join("inner");
    std::fs::create_dir(&inner)?;
    if host.is_v2() {
        std::fs::write(parent.0.join("cgroup.subtree_control"), "+memory")?;
    }
    let mount = match host.is_v2() {
        // Limits are for the parts of a cgroup without processes of its own.
        true => {
            "mount -t cgroup2 cgroup2 /sys/fs/cgroup; mkdir /sys/fs/cgroup/shell; echo $$ >/sys/fs/cgroup/shell/cgroup.procs"
        }
        false => "umount /sys/fs/cgroup/memory; mount -t cgroup -o memory cgroup /sys/fs/cgroup/memory",
    };
    let inside = format!(
        "{mount}; \"$@\" run --keep --bundle {dir} {id} || :; \"$@\" wait --format json {id}; exec \"$@\" delete {id}",
        dir = bundle.dir_text(),
        id = bundle.id()
    );
    let outside = "echo $$ >\"$1\"/cgroup.procs; shift; exec unshare --cgroup --mount sh -ec \"$@\"";
    let mut command = std::process::Command::new("sh");
    command.args(["-ec", outside, "sh"]).arg(&inner).args([&inside, "sh"]);
    command.arg(host.runtime.program()).arg("--root").arg(host.root());
    let ended = host.program(command)?.finish()?;
    wait_until("the cgroups to be empty", || {
        let _ = std::fs::remove_dir(inner.join("shell"));
        Ok(std::fs::remove_dir(&inner).is_ok())
    })?;
    serde_json::from_str(&ended.stdout).map_err(|_| Stop::failed(ended.to_string()))
}

/// A cgroup of the memory hierarchy with a limit, for a container below it.
struct Parent(PathBuf);

impl Parent {
    fn make(host: &Host, name: &str, limit: u64) -> Result<Self, Stop> {
        let dir = host.controller_dir("memory").ok_or_else(|| Stop::skipped("no memory controller"))?.join(name);
        std::fs::create_dir(&dir)?;
        let files: &[&str] =
            if host.is_v2() { &["memory.max"] } else { &["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"] };
        for file in files {
            // The one for swap is not there on every kernel.
            let _ = std::fs::write(dir.join(file), limit.to_string());
        }
        if host.is_v2() {
            let _ = std::fs::write(dir.join("memory.swap.max"), "0");
        }
        Ok(Parent(dir))
    }

    fn remove(self) -> Outcome {
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() || !self.0.exists() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(Stop::failed(format!("{} stays", self.0.display())))
    }
}
