//! The same stage for everyone: a private mount namespace, a root file system in memory, bundles and cgroups.

use crate::Result;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::path::{Path, PathBuf};

/// Fixed, because the floor program has it written in.
pub(crate) const DIR: &str = "/run/wharf-bench";
/// The parent of every cgroup made here, in each hierarchy.
pub(crate) const CGROUP: &str = "/wharf-bench";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Configuration {
    /// What `spec` writes.
    Default,
    /// What Podman sends: more mounts, a joined network namespace, limits, seccomp.
    Engine,
}

impl Configuration {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Configuration::Default => "default",
            Configuration::Engine => "engine",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Configuration::Default => "The default configuration (what `spec` writes)",
            Configuration::Engine => "An engine's configuration (as Podman sends it)",
        }
    }

    fn template(self) -> &'static str {
        match self {
            Configuration::Default => include_str!("default.json"),
            Configuration::Engine => include_str!("engine.json"),
        }
    }

    /// The configuration as an engine writes it, without white space.
    pub(crate) fn json(self, id: &str, payload: &str) -> Result<String> {
        let text = self.template().replace("@STAGE@", DIR).replace("@CGROUP@", &format!("{CGROUP}/{id}"));
        let mut spec: serde_json::Value = serde_json::from_str(&text)?;
        spec["process"]["args"][1] = payload.into();
        Ok(spec.to_string())
    }
}

pub(crate) struct Stage {
    /// Directories named `wharf-bench`, one in each cgroup hierarchy.
    pub(crate) cgroups: Vec<PathBuf>,
    /// Directory names of the cgroup v1 hierarchies.
    pub(crate) hierarchies: Vec<String>,
    /// Where the v2 hierarchy is not. runc and crun make plain directories there, in what lies under the mount.
    pub(crate) hidden_unified: Option<PathBuf>,
}

impl Stage {
    /// Needs root. Everything but the cgroups goes with the mount namespace.
    pub(crate) fn raise(tools: &Path) -> Result<Stage> {
        fs::create_dir_all(DIR)?;
        unshare(CloneFlags::CLONE_NEWNS)
            .map_err(|errno| format!("a private mount namespace: {errno} (run as root)"))?;
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        mount(Some("tmpfs"), DIR, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
        nix::sys::prctl::set_child_subreaper(true)?;

        let hierarchies = hierarchies()?;
        let has_v1 = hierarchies.iter().any(|(kind, _)| kind == "cgroup");
        let mut stage = Stage { cgroups: Vec::new(), hierarchies: Vec::new(), hidden_unified: None };
        for (kind, path) in hierarchies {
            if has_v1 && kind == "cgroup2" {
                // crun refuses a host with both versions; nobody sees the second one here.
                umount2(&path, MntFlags::MNT_DETACH)?;
                stage.hidden_unified = Some(path.join(CGROUP.trim_start_matches('/')));
                continue;
            }
            stage.cgroups.push(cgroup_parent(&path, &kind)?);
            if kind == "cgroup" {
                stage.hierarchies.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
            }
        }
        stage.clear_cgroups();

        let dir = Path::new(DIR);
        for name in ["rootfs/proc", "rootfs/dev", "rootfs/sys", "rootfs/etc", "rootfs/run", "engine/shm", "bundles"] {
            fs::create_dir_all(dir.join(name))?;
        }
        for name in ["etc/resolv.conf", "etc/hosts", "etc/hostname", "run/.containerenv"] {
            fs::write(dir.join("rootfs").join(name), "")?;
            fs::write(
                dir.join("engine").join(name.rsplit(['/', '.']).next().unwrap_or(name)),
                "127.0.0.1 localhost\n",
            )?;
        }
        fs::write(dir.join("engine/resolv.conf"), "nameserver 127.0.0.1\n")?;
        fs::copy(tools.join("still"), dir.join("rootfs/still"))?;
        fs::copy(tools.join("meter"), dir.join("meter"))?;
        fs::write(dir.join("netns"), "")?;
        std::thread::spawn(move || -> nix::Result<()> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            let path = Path::new(DIR).join("netns");
            mount(Some("/proc/thread-self/ns/net"), &path, none, MsFlags::MS_BIND, none)
        })
        .join()
        .map_err(|_| "the thread that makes a network namespace panicked")??;
        Ok(stage)
    }

    /// Ends what is left in our cgroups, of this run or of an interrupted one, and removes them.
    fn clear_cgroups(&self) {
        for parent in &self.cgroups {
            let children = fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path());
            for cgroup in children.filter(|path| path.is_dir()) {
                for pid in fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default().lines() {
                    if let Ok(pid) = pid.parse() {
                        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
                    }
                }
                for _ in 0..100 {
                    crate::life::reap();
                    if fs::remove_dir(&cgroup).is_ok() {
                        break;
                    }
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
            }
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.clear_cgroups();
        for parent in &self.cgroups {
            let _ = fs::remove_dir(parent);
        }
        if let Some(path) = &self.hidden_unified {
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// Type and mount point of each cgroup hierarchy.
fn hierarchies() -> Result<Vec<(String, PathBuf)>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let entry = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let kind = right.split(' ').next()?;
        let path = left.split(' ').nth(4)?;
        kind.starts_with("cgroup").then(|| (kind.to_owned(), path.into()))
    };
    Ok(table.lines().filter_map(entry).collect())
}

fn cgroup_parent(hierarchy: &Path, kind: &str) -> Result<PathBuf> {
    let parent = hierarchy.join(CGROUP.trim_start_matches('/'));
    fs::create_dir_all(&parent)?;
    if kind == "cgroup2" {
        for controller in ["cpu", "memory", "pids", "cpuset"] {
            let _ = fs::write(hierarchy.join("cgroup.subtree_control"), format!("+{controller}"));
            let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
    if parent.join("cpuset.cpus").exists() {
        for name in ["cpuset.cpus", "cpuset.mems"] {
            fs::write(parent.join(name), fs::read(hierarchy.join(name))?)?;
        }
        // Children take the parent's sets, so that no runtime has to fill them.
        let _ = fs::write(parent.join("cgroup.clone_children"), "1");
    }
    Ok(parent)
}
