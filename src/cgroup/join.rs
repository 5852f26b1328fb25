//! The way into a container's cgroup for one more process.

use crate::handle::{Handle, system};
use crate::layout::Version;
use crate::systemd;
use crate::wanted;
use std::os::fd::OwnedFd;
use wharf_core::{Error, Manager, Result};
use wharf_sys::Errno;
use wharf_sys::cgroup_fs::Dir;

/// Where a joining process goes, in each hierarchy in which the container has a cgroup.
#[derive(Debug)]
pub struct Joint<'a> {
    handle: &'a Handle,
    /// Index of the hierarchy, and the path in it.
    paths: Vec<(usize, String)>,
    /// The cgroup to be born in, where v2 is alone.
    birth: Option<Dir>,
    /// Nothing else was asked for: v2 may refuse a cgroup that has others below it, and then the one of the container's
    /// first process does.
    flexible: bool,
}

impl Handle {
    /// Chooses the cgroups of a joining process. `asked` are `--cgroup`'s values, `[CONTROLLER[,CONTROLLER]:]PATH` with a
    /// path below the container's cgroup.
    pub fn join(&self, asked: &[String]) -> Result<Joint<'_>> {
        let mut paths: Vec<(usize, String)> = self
            .places
            .iter()
            .filter(|place| place.made > 0)
            .map(|place| (place.hierarchy, wanted::below(&place.path, &self.inner)))
            .collect();
        let wrong = |text: &str, why: &str| Error::invalid(format!("--cgroup {text}")).because(why);
        for text in asked {
            let (names, below) = match text.split_once(':') {
                Some((names, below)) if !names.contains('/') => (Some(names), below),
                _ => (None, text.as_str()),
            };
            if below.split('/').any(|part| part == "..") {
                return Err(wrong(text, "leads out of the container's cgroup"));
            }
            if paths.is_empty() {
                return Err(wrong(text, "the container has no cgroup"));
            }
            let below = below.trim_matches('/');
            let mut found = false;
            for (hierarchy, path) in &mut paths {
                let own = &self.layout.hierarchies[*hierarchy];
                let meant = names.is_none_or(|names| {
                    names.split(',').any(|name| match name.strip_prefix("name=") {
                        Some(name) => own.name.as_deref() == Some(name),
                        None => own.controllers.iter().any(|controller| controller == name),
                    })
                });
                if meant {
                    found = true;
                    *path = wanted::below(self.path_of(*hierarchy), &self.inner);
                    if !below.is_empty() {
                        *path = format!("{path}/{below}");
                    }
                }
            }
            if !found {
                return Err(wrong(text, "the container has no cgroup of that controller"));
            }
        }
        let mut joint = Joint { handle: self, paths, birth: None, flexible: asked.is_empty() };
        joint.open()?;
        Ok(joint)
    }

    fn path_of(&self, hierarchy: usize) -> &str {
        self.places.iter().find(|place| place.hierarchy == hierarchy).map_or("", |place| &place.path)
    }
}

impl Joint<'_> {
    fn open(&mut self) -> Result<()> {
        let (Some(base), [(hierarchy, path)]) = (&self.handle.base, self.paths.as_slice()) else { return Ok(()) };
        // A user who is not in the part that systemd has given them may not move into it: that is found out by placing.
        let asked_for = self.handle.unit.as_ref().is_some_and(|unit| unit.manager == Manager::User);
        if self.handle.layout.version() != Version::V2 || asked_for {
            return Ok(());
        }
        let dir = base.open_dir(&self.handle.layout.below_base(*hierarchy, path, ""));
        self.birth = Some(dir.map_err(|errno| self.failed("open", *hierarchy, path, errno))?);
        Ok(())
    }

    fn failed(&self, doing: &str, hierarchy: usize, path: &str, errno: Errno) -> Error {
        system(doing, &self.handle.layout, hierarchy, path, errno)
    }

    /// For `CLONE_INTO_CGROUP`; none where the process is to be put there with [`Joint::place`].
    pub fn birth_fd(&self) -> Option<&OwnedFd> {
        self.birth.as_ref().map(AsRef::as_ref)
    }

    /// From now on there is no [`Joint::birth_fd`]: the kernel does not know `CLONE_INTO_CGROUP`.
    pub fn forgo_birth(&mut self) {
        self.birth = None;
    }

    /// Whether [`Joint::place`] has anything to do.
    pub fn places(&self) -> bool {
        self.birth.is_none() && !self.paths.is_empty()
    }

    /// The cgroup that the container's first process has made for itself below its own, after v2 has refused that one
    /// with `EBUSY`: a cgroup that passes controllers on has no processes. `own` is the text of its /proc/PID/cgroup.
    /// False where there is none.
    pub fn fall_back(&mut self, own: &str) -> Result<bool> {
        let Some(unified) = self.handle.layout.unified().filter(|_| self.flexible) else { return Ok(false) };
        self.flexible = false;
        let Some(index) = self.paths.iter().position(|(hierarchy, _)| *hierarchy == unified) else { return Ok(false) };
        let line = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
        let path = &self.paths[index].1;
        // What is above the container's own is told as the kernel sees it, not as it is mounted.
        let below = line.rfind(&format!("{path}/")).map(|at| line[at..].to_owned());
        let Some(below) = below.filter(|below| !below.split('/').any(|part| part == "..")) else { return Ok(false) };
        self.paths[index].1 = below;
        self.open()?;
        Ok(true)
    }

    /// Has systemd put a process into the unit, or into a cgroup inside of it.
    fn attach(&self, index: usize, pid: &str) -> Result<()> {
        let (Some(unit), Ok(pid)) = (&self.handle.unit, pid.parse()) else { return Ok(()) };
        let path = &self.paths[index].1;
        let top = format!("/{}", unit.name);
        let below = path.find(&top).map_or("", |at| &path[at + top.len()..]);
        systemd::attach(unit, below, pid)
    }

    /// Puts a process, as its pid is here, into the cgroup in every hierarchy. `own` reads the /proc/PID/cgroup of the
    /// container's first process.
    pub fn place(&mut self, pid: i32, own: impl Fn() -> Result<String>) -> Result<()> {
        let Some(base) = &self.handle.base else { return Ok(()) };
        let pid = pid.to_string();
        for index in 0..self.paths.len() {
            let (hierarchy, path) = &self.paths[index];
            let hierarchy = *hierarchy;
            let write = |path: &str| base.write(&self.handle.layout.below_base(hierarchy, path, "cgroup.procs"), &pid);
            let written = match write(path) {
                Err(Errno::EBUSY) if self.fall_back(&own()?)? => write(&self.paths[index].1),
                Err(Errno::EACCES | Errno::EPERM) if self.handle.unit.is_some() => {
                    self.attach(index, &pid)?;
                    Ok(())
                }
                other => other,
            };
            let path = &self.paths[index].1;
            written.map_err(|errno| self.failed(&format!("put process {pid} into"), hierarchy, path, errno))?;
        }
        Ok(())
    }
}
