//! What a container's cgroup shall be, judged without touching any: its path, and every write in order.

use crate::devices::{self, Line};
use crate::layout::Layout;
use crate::scope::Unit;
use crate::{blockio, cpu, filter, memory, others, path};
use oci_spec::runtime::LinuxResources;
use std::borrow::Cow;
use wharf_core::{CgroupPaths, ContainerId, Error, HierarchyPath, Remark, Result};
use wharf_sys::bpf::Instruction;

/// One write to a control file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Index into [`Layout::hierarchies`].
    pub hierarchy: usize,
    pub file: Cow<'static, str>,
    pub value: String,
    /// Where it was asked for in config.json.
    pub at: String,
    /// What it means when the kernel has no such file.
    pub missing: Missing,
    /// The kernel checks some values against each other: refused as invalid, this one is written again after the next.
    pub or_after_next: bool,
    /// Refuse if the cgroup already uses more bytes (`checkBeforeUpdate`).
    pub above_usage: bool,
    /// What differs from what was asked, where the file is not quite it.
    pub nearly: Option<&'static str>,
}

/// What the absence of a control file means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The limit cannot be honoured, for this reason.
    Refuse(&'static str),
    /// The limit is one that only newer kernels know beside another that was written.
    Skip,
    /// Another file does the same.
    Instead { file: &'static str, value: String },
}

/// A judged request for a cgroup: plain data.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub(crate) layout: Layout,
    /// One path a hierarchy, below its mount point.
    pub(crate) paths: Vec<String>,
    pub(crate) writes: Vec<Write>,
    /// v1 device rules and the hierarchy they are for.
    pub(crate) lines: Option<(usize, Vec<Line>)>,
    /// v2 device rules.
    pub(crate) program: Option<Vec<Instruction>>,
    /// Of the device rules.
    fingerprint: u64,
    /// Hierarchies that ask nothing may be left out where we have no permission.
    pub(crate) optional: bool,
    /// What systemd makes it as.
    pub(crate) unit: Option<Unit>,
    /// Device rules were asked for, and there will be none.
    without_rules: bool,
    /// Name of the cgroup inside that the container's processes will be in; empty where they are in this one itself.
    inner: String,
}

impl Wanted {
    /// Judges everything that `resources` asks against what this host has; what cannot be honoured is refused by name.
    /// The paths follow the rules of [`path`].
    ///
    /// With `optional`, a caller without permission for cgroups gets none where neither a path nor a limit was asked
    /// for, as runc does for ordinary users.
    pub fn new(
        layout: Layout,
        cgroups_path: Option<&str>,
        id: &ContainerId,
        resources: Option<&LinuxResources>,
        optional: bool,
    ) -> Result<Wanted> {
        let paths = path::resolve(&layout, cgroups_path, id)?;
        Wanted::judge(layout, paths, resources, optional && cgroups_path.is_none_or(str::is_empty))
    }

    pub(crate) fn judge(
        layout: Layout,
        paths: Vec<String>,
        resources: Option<&LinuxResources>,
        optional: bool,
    ) -> Result<Wanted> {
        let writes = match resources {
            Some(resources) => limits(&layout, resources)?,
            None => Vec::new(),
        };
        let asked = resources.and_then(|resources| resources.devices().as_deref()).unwrap_or_default();
        let rules = devices::read(asked)?;
        let fingerprint = devices::fingerprint(&rules);
        let (lines, program, unit) = (None, None, None);
        let mut wanted = Wanted {
            layout,
            paths,
            writes,
            lines,
            program,
            fingerprint,
            optional,
            unit,
            without_rules: false,
            inner: String::new(),
        };
        let leave_out = optional && asked.is_empty();
        if let Some(hierarchy) = wanted.layout.find("devices") {
            if !leave_out {
                wanted.lines = Some((hierarchy, devices::lines(&rules)?));
            }
        } else if wanted.layout.unified().is_some() {
            if !leave_out && !devices::allow_everything(&rules) {
                wanted.program = Some(filter::compile(&rules));
            }
        } else if !asked.is_empty() {
            return Err(unavailable(&wanted.layout, "devices", "linux/resources/devices"));
        }
        Ok(wanted)
    }

    /// For a caller whom the kernel lets set no device rules: an ordinary user, who can neither write those of v1 nor
    /// load a program for v2. His containers are in user namespaces, in which nobody can make a device node. `asked` where
    /// config.json has any.
    pub fn leave_out_device_rules(&mut self, asked: bool) {
        (self.lines, self.program, self.without_rules) = (None, None, asked);
    }

    /// The container's processes will be in a cgroup of that name inside this one, which somebody else makes.
    pub fn set_inner(&mut self, name: &str) {
        name.clone_into(&mut self.inner);
    }

    /// Another makes it, below the root of every hierarchy at this absolute path.
    pub fn set_path(&mut self, path: &str) {
        self.paths.iter_mut().for_each(|one| path.clone_into(one));
    }

    pub(crate) fn has_inner(&self) -> bool {
        !self.inner.is_empty()
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Where the container's processes will be, in each hierarchy, as a path below its mount point.
    pub fn payload_paths(&self) -> impl Iterator<Item = String> + '_ {
        self.paths.iter().map(|path| below(path, &self.inner))
    }

    /// One number for the device rules, for the record: [`crate::Update`] tells a change by it.
    pub fn device_rules(&self) -> u64 {
        self.fingerprint
    }

    /// The container's cgroup in each hierarchy of the layout, as a path below its mount point.
    pub fn paths(&self) -> &[String] {
        &self.paths
    }

    /// Every write in order, device rules of v1 not among them.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// The limits that are honoured only nearly.
    pub fn remarks(&self) -> impl Iterator<Item = Remark> + '_ {
        let writes = self.writes.iter().filter_map(|write| {
            let nearly = write.nearly?;
            Some(Remark::nearly(&write.at, format!("{} is set to {}: {nearly}", write.file, write.value)))
        });
        writes.chain(self.without_rules.then(|| {
            let why = "an ordinary user can set no device rules; no device can be made in his user namespace, and those \
                       that are bound into it can be used";
            Remark::nearly("linux/resources/devices", why)
        }))
    }

    /// The same paths for the record, with the number of levels made in each hierarchy.
    pub(crate) fn record(&self, made: &[u32]) -> CgroupPaths {
        let Some(main) = self.layout.freezer() else { return CgroupPaths::default() };
        let (path, levels) = (&self.paths[main], made[main]);
        let apart = (0..self.paths.len())
            .filter(|index| self.paths[*index] != *path || made[*index] != levels)
            .map(|index| HierarchyPath {
                mount_point: self.layout.hierarchies[index].mount_point.clone(),
                path: self.paths[index].clone(),
                made: made[index],
            })
            .collect();
        let hierarchy = &self.layout.hierarchies[main];
        let [seen, payload, freezer] = [path.clone(), path.clone(), below(path, &self.inner)];
        let freezer_file = if hierarchy.freezes() {
            format!("{}{freezer}/{}", hierarchy.mount_point, hierarchy.freezer_file())
        } else {
            String::new()
        };
        let unit = self.unit.as_ref().map(|unit| unit.record.clone());
        CgroupPaths { seen, payload, freezer, freezer_file, inner: self.inner.clone(), made: levels, apart, unit }
    }

    /// Whether anything was asked of a hierarchy.
    pub(crate) fn asks(&self, hierarchy: usize) -> bool {
        self.writes.iter().any(|write| write.hierarchy == hierarchy)
            || self.lines.as_ref().is_some_and(|(own, _)| *own == hierarchy)
            || (self.program.is_some() && self.layout.hierarchies[hierarchy].v2)
    }
}

/// The path of a cgroup inside another; that one itself where the name is empty.
pub(crate) fn below(path: &str, name: &str) -> String {
    if name.is_empty() { path.to_owned() } else { format!("{path}/{name}") }
}

/// The writes for `resources` on a host of this layout. They serve a new cgroup and one in use alike.
pub(crate) fn limits(layout: &Layout, resources: &LinuxResources) -> Result<Vec<Write>> {
    let mut sheet = Sheet { layout, writes: Vec::new() };
    if let Some(memory) = resources.memory() {
        memory::write(&mut sheet, memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        cpu::write(&mut sheet, cpu)?;
    }
    if let Some(pids) = resources.pids() {
        others::pids(&mut sheet, pids)?;
    }
    if let Some(block_io) = resources.block_io() {
        blockio::write(&mut sheet, block_io)?;
    }
    if let Some(limits) = resources.hugepage_limits() {
        others::hugepages(&mut sheet, limits)?;
    }
    if let Some(network) = resources.network() {
        others::network(&mut sheet, network)?;
    }
    if let Some(rdma) = resources.rdma() {
        others::rdma(&mut sheet, rdma)?;
    }
    // Last: what is said in the kernel's own words wins over what was converted.
    if let Some(unified) = resources.unified() {
        others::unified(&mut sheet, unified)?;
    }
    Ok(sheet.writes)
}

/// The list under construction.
pub(crate) struct Sheet<'a> {
    layout: &'a Layout,
    writes: Vec<Write>,
}

/// A hierarchy that has the controller that was asked for.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) hierarchy: usize,
    pub(crate) v2: bool,
}

const OLD_KERNEL: &str = "this kernel has no such control file";

impl Sheet<'_> {
    pub(crate) fn layout(&self) -> &Layout {
        self.layout
    }

    /// Finds a controller by its name on v1 and on v2, or says that a limit asks for one that is not there.
    pub(crate) fn target(&self, v1: &str, v2: &str, at: &str) -> Result<Target> {
        let of = |v2: bool, name: &str| {
            let found = self.layout.hierarchies.iter().position(|hierarchy| {
                hierarchy.v2 == v2 && hierarchy.controllers.iter().any(|controller| controller == name)
            });
            found.map(|hierarchy| Target { hierarchy, v2 })
        };
        of(false, v1).or_else(|| of(true, v2)).ok_or_else(|| unavailable(self.layout, v1, at))
    }

    /// Adds a write, to be changed further.
    pub(crate) fn add(
        &mut self,
        target: Target,
        file: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
        at: impl Into<String>,
    ) -> &mut Write {
        self.writes.push(Write {
            hierarchy: target.hierarchy,
            file: file.into(),
            value: value.into(),
            at: at.into(),
            missing: Missing::Refuse(OLD_KERNEL),
            or_after_next: false,
            above_usage: false,
            nearly: None,
        });
        self.writes.last_mut().expect("just pushed")
    }
}

pub(crate) fn unavailable(layout: &Layout, controller: &str, at: &str) -> Error {
    let mut known: Vec<&str> =
        layout.hierarchies.iter().flat_map(|hierarchy| hierarchy.controllers.iter().map(String::as_str)).collect();
    known.sort_unstable();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(" ") };
    Error::unsupported(format!("cgroup controller {controller}"))
        .because(format!("is not available: this host has {known}"))
        .at(at)
}

/// -1 is no limit; `None` where the property asks nothing (0, as in runc).
pub(crate) fn or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}
