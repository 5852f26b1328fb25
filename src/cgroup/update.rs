//! Changes the limits of a cgroup in use: all that is asked, or nothing.

use crate::apply::Files;
use crate::create::{enable, outer};
use crate::handle::Handle;
use crate::layout::{Layout, Version};
use crate::scope;
use crate::systemd;
use crate::wanted::{Write, limits};
use crate::{device_rules, devices};
use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};
use wharf_core::{CgroupPaths, Error, Result, UnitRecord};

/// A change that was judged and is ready to be made.
pub struct Update {
    handle: Handle,
    layout: Layout,
    paths: Vec<String>,
    resources: LinuxResources,
}

/// v1 shows no limit as the largest multiple of a page.
const NO_LIMIT: i64 = 1 << 60;

impl Update {
    /// Finds the cgroup of a record. What `resources` does not speak of stays as it is.
    pub fn new(paths: &CgroupPaths, resources: LinuxResources) -> Result<Update> {
        let layout = Layout::detect(None)?;
        let handle = Handle::open(layout.clone(), paths)?;
        if handle.base().is_none() {
            return Err(Error::unsupported("change the limits of the container")
                .because("it has no cgroup")
                .hint(crate::handle::NO_CGROUP));
        }
        Ok(Update { paths: handle.payload_paths(), handle, layout, resources })
    }

    /// Makes the change. `rules` is the fingerprint of the device rules that were put in force last: the same rules
    /// again are no change, because hooks may have added to them. Returns the fingerprint of those in force now.
    ///
    /// A value that is refused takes everything back that was written before it.
    pub fn apply(mut self, rules: u64) -> Result<u64> {
        let made = vec![0; self.paths.len()];
        let base = self.handle.base().expect("judged before");
        let files = Files { layout: &self.layout, base, paths: &self.paths, made: &made };
        complete(&files, &mut self.resources);
        let writes = limits(&self.layout, &self.resources)?;
        let asked = self.resources.devices().as_deref().unwrap_or_default();
        let wanted = devices::read(asked)?;
        let fingerprint = devices::fingerprint(&wanted);
        let devices = !asked.is_empty() && fingerprint != rules;
        if devices && self.layout.find("devices").is_some() {
            devices::lines(&wanted)?;
        }
        // Beside v1 the controllers of v2 are enabled only where something was asked of them.
        if let Some(index) = self.layout.unified().filter(|_| self.layout.version() == Version::Hybrid) {
            let asks = writes.iter().any(|write| write.hierarchy == index);
            enable(&files, index, &writes, asks)?;
        }
        let mut journal = Vec::new();
        let done = files.write_all(&writes, Some(&mut journal));
        let around = self.handle.paths();
        let around = (!self.handle.inner.is_empty()).then_some(Files { paths: &around, ..files });
        let done = done.and_then(|()| match &around {
            Some(around) => around.write_all(&outer(&writes), None),
            None => Ok(()),
        });
        // After the kernel, which judges: what systemd is told of it writes itself, when it likes, and says nothing where
        // that fails.
        let done = done.and_then(|()| match &self.handle.unit {
            Some(unit) => tell(unit, &files, &writes),
            None => Ok(()),
        });
        // Last, because they cannot always be taken back on v1.
        let done = done.and_then(|()| match &around {
            _ if !devices => Ok(()),
            None => device_rules::replace(&files, &wanted),
            // A program of v2 is for all that is inside; with v1 nothing inside has more than what is around it.
            Some(around) => device_rules::replace(around, &wanted).and_then(|()| match self.layout.find("devices") {
                Some(_) => device_rules::replace(&files, &wanted),
                None => Ok(()),
            }),
        });
        match done {
            Ok(()) => Ok(if devices { fingerprint } else { rules }),
            Err(error) => Err(files.put_back(journal, error)),
        }
    }
}

/// Tells systemd of the new limits, or it would put the old ones back.
fn tell(unit: &UnitRecord, files: &Files<'_>, writes: &[Write]) -> Result<()> {
    let properties = scope::properties(unit.manager, writes)?;
    if properties.is_empty() {
        return Ok(());
    }
    systemd::set(unit, &properties)?;
    // Some of its units are coarser than the kernel's.
    files.write_all(writes, None)
}

/// Some values mean something only beside another: where that one is not asked for, the one in force is.
fn complete(files: &Files<'_>, resources: &mut LinuxResources) {
    if let Some(cpu) = resources.cpu_mut() {
        complete_cpu(files, cpu);
    }
    if let Some(memory) = resources.memory_mut() {
        complete_memory(files, memory);
    }
}

/// v2 has quota and period in one file.
fn complete_cpu(files: &Files<'_>, cpu: &mut LinuxCpu) {
    let quota = cpu.quota().filter(|quota| *quota != 0);
    let period = cpu.period().filter(|period| *period != 0);
    if quota.is_some() == period.is_some() {
        return;
    }
    let Some(index) = files.layout.find("cpu").filter(|index| files.layout.hierarchies[*index].v2) else { return };
    let Ok(now) = files.base.read_value(&files.at(index, "cpu.max")) else { return };
    let Some((limit, length)) = now.split_once(' ') else { return };
    if quota.is_none() {
        cpu.set_quota(Some(limit.parse().unwrap_or(-1)));
    } else {
        cpu.set_period(length.parse().ok());
    }
}

/// Swap is asked for as memory and swap together. As with runc the sum stays where only the memory is changed.
fn complete_memory(files: &Files<'_>, memory: &mut LinuxMemory) {
    let limit = memory.limit().filter(|limit| *limit != 0);
    let both = memory.swap().filter(|both| *both != 0);
    let Some(index) = files.layout.find("memory") else { return };
    let read = |file: &str| -> Option<i64> {
        let value = files.base.read_value(&files.at(index, file)).ok()?.parse().ok()?;
        Some(value).filter(|value| *value < NO_LIMIT)
    };
    let v2 = files.layout.hierarchies[index].v2;
    match (limit, both) {
        (None, Some(both)) if both >= 0 => {
            let now = read(if v2 { "memory.max" } else { "memory.limit_in_bytes" });
            if now.is_some() {
                memory.set_limit(now);
            }
        }
        (Some(limit), None) if limit >= 0 => {
            let sum = if v2 {
                read("memory.max").and_then(|now| Some(now + read("memory.swap.max")?))
            } else {
                read("memory.memsw.limit_in_bytes")
            };
            if sum.is_some() {
                memory.set_swap(sum);
            }
        }
        _ => {}
    }
}
