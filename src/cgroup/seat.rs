//! A place inside a container's cgroup for a process that serves the container and is not of it.

use crate::handle::{Handle, system};
use crate::wanted::below;
use wharf_core::Result;
use wharf_sys::Errno;
use wharf_sys::cgroup_fs::Dir;

impl Handle {
    /// Puts a process, as its pid is here, into the cgroup `name` inside this one, in every hierarchy in which the
    /// container has one; it is made where it is missing.
    pub fn seat(&self, name: &str, pid: i32) -> Result<()> {
        let Some(base) = &self.base else { return Ok(()) };
        let pid = pid.to_string();
        for place in self.places.iter().filter(|place| place.made > 0) {
            let (index, path) = (place.hierarchy, below(&place.path, name));
            let at = |path: &str, file: &str| self.layout.below_base(index, path, file);
            let failed = |doing: &str, errno| system(doing, &self.layout, index, &path, errno);
            match base.mkdir(&at(&path, "")) {
                Ok(()) | Err(Errno::EEXIST) => {}
                // Whoever has made the container's leaves this hierarchy out.
                Err(Errno::ENOENT) => continue,
                Err(errno) => return Err(failed("make", errno)),
            }
            let write = || base.write(&at(&path, "cgroup.procs"), &pid);
            let written = match write() {
                // A new cpuset of v1 is empty.
                Err(Errno::ENOSPC) => {
                    for file in ["cpuset.cpus", "cpuset.mems"] {
                        let value = base.read_value(&at(&place.path, file)).map_err(|errno| failed("read", errno))?;
                        base.write(&at(&path, file), &value).map_err(|errno| failed("fill", errno))?;
                    }
                    write()
                }
                other => other,
            };
            match written {
                // It has ended.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => return Err(failed(&format!("put process {pid} into"), errno)),
            }
        }
        Ok(())
    }

    /// Cgroups that somebody else makes inside this one may take processes at once: a new cpuset of v1 is empty else.
    pub fn let_inherit(&self) -> Result<()> {
        let Some(base) = &self.base else { return Ok(()) };
        for place in self.places.iter().filter(|place| place.made > 0) {
            let hierarchy = &self.layout.hierarchies[place.hierarchy];
            if hierarchy.v2 || !hierarchy.has("cpuset") {
                continue;
            }
            let failed = |errno| system("prepare", &self.layout, place.hierarchy, &place.path, errno);
            for file in ["cpuset.cpus", "cpuset.mems"] {
                self.fill(base, place.hierarchy, &place.path, file).map_err(failed)?;
            }
            let file = self.layout.below_base(place.hierarchy, &place.path, "cgroup.clone_children");
            base.write(&file, "1").map_err(failed)?;
        }
        Ok(())
    }

    /// An empty cpuset gets what the nearest level above has, and so do those between.
    fn fill(&self, base: &Dir, hierarchy: usize, path: &str, file: &str) -> std::result::Result<String, Errno> {
        let at = self.layout.below_base(hierarchy, path, file);
        let value = base.read_value(&at)?;
        let Some((above, _)) = path.rsplit_once('/').filter(|_| value.is_empty()) else { return Ok(value) };
        let value = self.fill(base, hierarchy, above, file)?;
        base.write(&at, &value)?;
        Ok(value)
    }

    /// The path that this cgroup has in every hierarchy; none where they differ.
    pub fn one_path(&self) -> Option<&str> {
        let mut paths = self.places.iter().filter(|place| place.made > 0).map(|place| place.path.as_str());
        let first = paths.next()?;
        paths.all(|path| path == first).then_some(first)
    }

    /// Whether nobody is in the whole of it: what serves the container included.
    pub fn is_empty(&self) -> Result<bool> {
        let Some(base) = &self.base else { return Ok(true) };
        for place in self.places.iter().filter(|place| place.made > 0) {
            let index = place.hierarchy;
            let found = crate::handle::processes(base, &self.layout.below_base(index, &place.path, ""));
            if !found
                .map_err(|errno| system("list the processes of", &self.layout, index, &place.path, errno))?
                .is_empty()
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
