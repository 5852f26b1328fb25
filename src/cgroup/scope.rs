//! A container's cgroup that systemd makes: judged, made around the first process, and then limited as any other.
//!
//! A scope is born with a process in it. That is the container's first one, which waits: a process to stand in for it
//! would cost a birth and a death more. systemd sets the limits that it knows before it puts the process there, and the
//! rest follows before that one goes on.

use crate::create::{Cgroup, enable, open_base};
use crate::handle::{processes, system};
use crate::layout::{Layout, Version};
use crate::systemd::{self, Property, Scope};
use crate::wanted::{Wanted, Write};
use oci_spec::runtime::LinuxResources;
use wharf_core::{CgroupPaths, ContainerId, Error, Kind, Manager, Result, UnitRecord, annotations};
use wharf_sys::Errno;

/// The unit that a cgroup shall be.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    pub(crate) record: UnitRecord,
    slice: String,
    description: String,
    /// By annotations.
    asked: Vec<Property>,
    /// The scope's own cgroup; the container's is that one, or one inside of it.
    path: String,
}

impl Wanted {
    /// As [`Wanted::new`], for a cgroup that systemd makes: `cgroups_path` is `SLICE:PREFIX:NAME`. Of `annotations` those
    /// are read that are for systemd.
    pub fn in_scope<'a>(
        layout: Layout,
        cgroups_path: Option<&str>,
        id: &ContainerId,
        resources: Option<&LinuxResources>,
        annotations: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> Result<Wanted> {
        if layout.version() != Version::V2 {
            return Err(Error::unsupported("--systemd-cgroup")
                .because("needs a host with cgroup v2 alone")
                .hint("boot it with systemd.unified_cgroup_hierarchy=1, or leave cgroups to wharf"));
        }
        let asked = systemd::of_annotations(annotations.clone())?;
        let below = subgroup(annotations)?;
        let manager = systemd::manager()?;
        let name = systemd::resolve(cgroups_path, id, manager)?;
        let path = format!("{}{}", systemd::own_cgroup(manager)?, name.path);
        let leaf = if below.is_empty() { path.clone() } else { format!("{path}/{below}") };
        let mut wanted = Wanted::judge(layout, vec![leaf], resources, false)?;
        if manager == Manager::User {
            let rules = resources.and_then(|resources| resources.devices().as_ref());
            wanted.leave_out_device_rules(rules.is_some_and(|rules| !rules.is_empty()));
        }
        let description = format!("wharf container {id}");
        let record = UnitRecord { name: name.scope, manager };
        wanted.unit = Some(Unit { record, slice: name.slice, description, asked, path });
        Ok(wanted)
    }

    /// [`Wanted::expected`] of a scope: one that holds processes is somebody else's.
    pub(crate) fn expected_scope(&self, unit: &Unit) -> Result<CgroupPaths> {
        let index = 0;
        let base = open_base(&self.layout)?;
        let found = processes(&base, &self.layout.below_base(index, &unit.path, ""));
        match found.map_err(|errno| system("read", &self.layout, index, &unit.path, errno))?.len() {
            0 => Ok(self.record(&[unit.levels(&self.paths[index])])),
            count => Err(Error::new(Kind::System, format!("use unit {}", unit.record.name))
                .because(format!("it exists and holds {count} process{}", if count == 1 { "" } else { "es" }))
                .at("linux/cgroupsPath")),
        }
    }
}

impl Unit {
    /// How many levels are the container's: systemd makes and removes those above.
    fn levels(&self, leaf: &str) -> u32 {
        if leaf == self.path { 1 } else { 2 }
    }
}

/// What crun appends to the scope's own cgroup.
fn subgroup<'a>(annotations: impl Iterator<Item = (&'a str, &'a str)>) -> Result<&'a str> {
    let mut all = annotations;
    let name = all.find(|(key, _)| *key == annotations::SYSTEMD_SUBGROUP).map_or("", |(_, name)| name);
    if name.contains(['/', '\0', '\n']) || name == "." || name == ".." || name.len() > 255 {
        return Err(Error::invalid(format!("annotation {}", annotations::SYSTEMD_SUBGROUP))
            .because("is not the name of one cgroup")
            .at(annotations::pointer(annotations::SYSTEMD_SUBGROUP)));
    }
    Ok(name)
}

/// The limits as systemd is told of them.
pub(crate) fn properties(manager: Manager, writes: &[Write]) -> Result<Vec<Property>> {
    let mut all = systemd::of_writes(writes);
    // Older ones leave cpu.idle alone, and take no weight of 0.
    if writes.iter().any(|write| write.file == "cpu.idle" && write.value == "1") && !systemd::knows_idle(manager)? {
        all.retain(|property| property.name != "CPUWeight");
    }
    Ok(all)
}

impl Cgroup<'_> {
    /// Puts the first process in, which waits: into a cgroup that is there, or by making the one that is a scope. Of a
    /// failure [`Cgroup::paths`] has what is there all the same.
    pub fn take(&mut self, pid: i32) -> Result<()> {
        let Some(unit) = &self.wanted.unit else { return self.place(pid) };
        let limits = properties(unit.record.manager, &self.wanted.writes)?;
        let scope = Scope {
            unit: &unit.record,
            slice: &unit.slice,
            description: unit.description.clone(),
            pid,
            properties: &[&unit.asked, &limits],
        };
        scope.start()?;
        self.settle(unit, pid)
    }

    /// True where [`Cgroup::take`] is what makes it.
    pub fn is_scope(&self) -> bool {
        self.wanted.unit.is_some()
    }

    fn settle(&mut self, unit: &Unit, pid: i32) -> Result<()> {
        let (layout, path) = (&self.wanted.layout, &unit.path);
        let leaf = &self.wanted.paths[0];
        let failed = |doing: &str, path: &str, errno: Errno| system(doing, layout, 0, path, errno);
        self.made[0] = unit.levels(leaf);
        let base = self.base.insert(open_base(layout)?);
        let inside = base.read_all(&layout.below_base(0, path, "cgroup.procs"));
        let inside = inside.map_err(|errno| failed("read", path, errno))?;
        if !inside.lines().any(|line| line.parse() == Ok(pid)) {
            return Err(Error::new(Kind::System, format!("start unit {}", unit.record.name))
                .because(format!("systemd has not put process {pid} into cgroup {path}")));
        }
        if leaf != path {
            base.mkdir(&layout.below_base(0, leaf, "")).map_err(|errno| failed("make", leaf, errno))?;
            base.write(&layout.below_base(0, leaf, "cgroup.procs"), &pid.to_string())
                .map_err(|errno| failed(&format!("put process {pid} into"), leaf, errno))?;
        }
        enable(&self.files(), 0, &self.wanted.writes, self.wanted.asks(0))?;
        self.open_leaf(0)?;
        self.limit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{hybrid, v2};

    fn judge(layout: Layout, path: &str, annotation: (&str, &str)) -> Result<Wanted> {
        Wanted::in_scope(layout, Some(path), &ContainerId::new("c1").unwrap(), None, [annotation].into_iter())
    }

    #[test]
    fn what_cannot_be_is_refused_before_systemd_is_looked_for() {
        let hybrid = judge(hybrid(), "a.slice:p:n", ("", "")).unwrap_err();
        assert!(hybrid.to_string().starts_with("--systemd-cgroup: needs a host with cgroup v2 alone"), "{hybrid}");
        for (key, value) in [
            ("run.oci.systemd.subgroup", "a/b"),
            ("run.oci.systemd.subgroup", ".."),
            ("org.systemd.property.TasksMax", "many"),
        ] {
            let error = judge(v2(), "a.slice:p:n", (key, value)).unwrap_err();
            assert_eq!(error.pointer(), Some(format!("annotations/{key}").as_str()));
        }
    }
}
