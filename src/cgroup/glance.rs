//! What many containers have used, one after the other: of each the two numbers that are had at once.

use crate::layout::Layout;
use crate::parse::{field, number};
use wharf_core::{CgroupPaths, Error, Result, Used};
use wharf_sys::cgroup_fs::Dir;

/// The hierarchies that count, found once.
#[derive(Debug)]
pub struct Glance {
    layout: Layout,
    base: Dir,
    cpu: Option<usize>,
    memory: Option<usize>,
}

impl Glance {
    pub fn open() -> Result<Glance> {
        let layout = Layout::mounted()?;
        let base = Dir::open(&layout.base);
        let base = base.map_err(|errno| Error::system(format!("open {}", layout.base), errno as i32))?;
        let find = |controller: &str| layout.find(controller).or(layout.unified());
        Ok(Glance { cpu: find("cpuacct"), memory: find("memory"), base, layout })
    }

    /// A cgroup that is gone, and one that lacks the controller, has nothing.
    pub fn of(&self, paths: &CgroupPaths) -> Used {
        if paths.payload.is_empty() {
            return Used::default();
        }
        let read = |index: usize, v1: &str, v2: &str| {
            let hierarchy = &self.layout.hierarchies[index];
            let apart = paths.apart.iter().find(|apart| apart.mount_point == hierarchy.mount_point);
            let path = apart.map_or(paths.payload.as_str(), |apart| apart.path.as_str());
            if path.split('/').any(|part| part == "..") {
                return None;
            }
            let file = if hierarchy.v2 { v2 } else { v1 };
            Some((self.base.read_value(&self.layout.below_base(index, path, file)).ok()?, hierarchy.v2))
        };
        Used {
            cpu: self.cpu.and_then(|index| read(index, "cpuacct.usage", "cpu.stat")).map(|(text, v2)| match v2 {
                true => field(&text, "usage_usec"),
                false => number(&text) / 1000,
            }),
            memory: self
                .memory
                .and_then(|index| read(index, "memory.usage_in_bytes", "memory.current"))
                .map(|(text, _)| number(&text)),
        }
    }
}
