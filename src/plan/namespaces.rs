//! Namespaces: new ones, joined ones, id maps, and what is configured in them.

use crate::process::SetGroups;
use crate::{Builder, Facts};
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Spec, User};
use wharf_core::{Error, Result};
use wharf_steps::{Slot, Step};

pub(crate) const NEWTIME: u64 = 0x80;
pub(crate) const NEWNS: u64 = 0x0002_0000;
pub(crate) const NEWCGROUP: u64 = 0x0200_0000;
pub(crate) const NEWUTS: u64 = 0x0400_0000;
pub(crate) const NEWIPC: u64 = 0x0800_0000;
pub(crate) const NEWUSER: u64 = 0x1000_0000;
pub(crate) const NEWPID: u64 = 0x2000_0000;
pub(crate) const NEWNET: u64 = 0x4000_0000;

/// The namespaces of a container.
#[derive(Clone, Debug, Default)]
pub struct Namespaces {
    /// `CLONE_NEW*` flags of the birth. A cgroup namespace is not among them: it must be made inside the cgroup.
    pub new: u64,
    pub new_cgroup: bool,
    pub joins: Vec<Join>,
    pub uid_map: Vec<Mapping>,
    pub gid_map: Vec<Mapping>,
    /// Lines for `timens_offsets`, written before the first process enters the new time namespace.
    pub time_offsets: Vec<String>,
    pub born: Born,
}

/// Who gives birth to the init.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Born {
    /// wharf itself.
    #[default]
    Directly,
    /// An init in between, which joins first. The kernel requires one for pid and time namespaces by path, whose
    /// members are born in them; for namespaces to be owned by a joined user namespace; for namespaces of the host's to
    /// be joined before a new user namespace takes that right away; and for the offsets of a new time namespace.
    ByMiddle,
}

/// A namespace to join.
#[derive(Clone, Debug)]
pub struct Join {
    /// `CLONE_NEW*`
    pub kind: u64,
    pub path: String,
    pub pointer: String,
    pub slot: Slot,
}

/// One line of an id map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub inside: u32,
    pub outside: u32,
    pub size: u32,
}

impl Namespaces {
    pub fn joins(&self, kind: u64) -> bool {
        self.joins.iter().any(|join| join.kind == kind)
    }

    /// A namespace of its own, or a joined one: not simply the caller's.
    pub fn apart(&self, kind: u64) -> bool {
        self.new & kind != 0 || kind == NEWCGROUP && self.new_cgroup || self.joins(kind)
    }

    /// Every type of which the container's is not simply the caller's.
    pub fn all_apart(&self) -> u64 {
        [NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET]
            .into_iter()
            .filter(|kind| self.apart(*kind))
            .fold(0, |all, kind| all | kind)
    }

    pub fn has_mounts(&self) -> bool {
        self.apart(NEWNS)
    }

    pub fn new_user(&self) -> bool {
        self.new & NEWUSER != 0
    }

    /// Whether the container's user namespace is not the caller's: its own, or a joined one.
    pub(crate) fn other_user(&self) -> bool {
        self.new_user() || self.joins(NEWUSER)
    }

    pub(crate) fn set_groups(&self, facts: &Facts) -> SetGroups {
        let alone = |map: &[Mapping], id: u32| matches!(map, [one] if one.outside == id && one.size == 1);
        match (self.new_user(), self.joins(NEWUSER)) {
            (false, false) => SetGroups::Allowed,
            (true, _) if facts.uid == 0 => SetGroups::Allowed,
            (true, _) if alone(&self.uid_map, facts.uid) && alone(&self.gid_map, facts.gid) => SetGroups::Denied,
            _ => SetGroups::Unknown,
        }
    }
}

/// The flag and the name of a namespace type.
pub fn kind_of(kind: LinuxNamespaceType) -> (u64, &'static str) {
    match kind {
        LinuxNamespaceType::Mount => (NEWNS, "mount"),
        LinuxNamespaceType::Cgroup => (NEWCGROUP, "cgroup"),
        LinuxNamespaceType::Uts => (NEWUTS, "uts"),
        LinuxNamespaceType::Ipc => (NEWIPC, "ipc"),
        LinuxNamespaceType::User => (NEWUSER, "user"),
        LinuxNamespaceType::Pid => (NEWPID, "pid"),
        LinuxNamespaceType::Network => (NEWNET, "network"),
        LinuxNamespaceType::Time => (NEWTIME, "time"),
    }
}

pub(crate) fn judge(spec: &Spec) -> Result<Namespaces> {
    let mut all = Namespaces::default();
    let Some(linux) = spec.linux() else { return Ok(all) };
    let mut seen = 0;
    for (index, namespace) in linux.namespaces().iter().flatten().enumerate() {
        let pointer = format!("linux/namespaces/{index}");
        let (kind, name) = kind_of(namespace.typ());
        if seen & kind != 0 {
            return Err(Error::invalid(format!("namespace {name}")).because("is listed twice").at(pointer));
        }
        seen |= kind;
        match namespace.path() {
            Some(path) if !path.as_os_str().is_empty() => {
                let pointer = format!("{pointer}/path");
                if !path.is_absolute() {
                    return Err(Error::invalid(format!("namespace path {}", path.display()))
                        .because("must be absolute")
                        .at(pointer));
                }
                // Slots are given when the plan is begun.
                all.joins.push(Join { kind, path: path.to_string_lossy().into_owned(), pointer, slot: Slot::NONE });
            }
            _ if kind == NEWCGROUP => all.new_cgroup = true,
            _ => all.new |= kind,
        }
    }
    for (index, join) in all.joins.iter_mut().enumerate() {
        join.slot = Slot(Slot::COUNT as u8 - 1 - index as u8);
    }
    maps(linux.uid_mappings(), linux.gid_mappings(), &mut all)?;
    offsets(spec, &mut all)?;
    let joins_early = all.joins.iter().any(|join| join.kind & (NEWPID | NEWTIME | NEWUSER) != 0);
    if joins_early || all.new_user() && !all.joins.is_empty() || !all.time_offsets.is_empty() {
        all.born = Born::ByMiddle;
    }
    Ok(all)
}

fn maps(uids: &Option<Vec<LinuxIdMapping>>, gids: &Option<Vec<LinuxIdMapping>>, all: &mut Namespaces) -> Result<()> {
    let (mut uid_map, mut gid_map) = (Vec::new(), Vec::new());
    for (mappings, name, map) in [(uids, "uidMappings", &mut uid_map), (gids, "gidMappings", &mut gid_map)] {
        let pointer = format!("linux/{name}");
        let mappings = mappings.as_deref().unwrap_or_default();
        if all.new & NEWUSER == 0 {
            // Engines repeat the maps of a user namespace that they let us join; they hold there already.
            if !mappings.is_empty() && !all.joins.iter().any(|join| join.kind == NEWUSER) {
                return Err(Error::invalid(name).because("needs a user namespace").at(pointer));
            }
            continue;
        }
        if mappings.is_empty() {
            return Err(Error::invalid(format!("a new user namespace without {name}"))
                .because("nobody would be root in it")
                .at(pointer));
        }
        *map = self::mappings(mappings, &pointer)?;
        if !map.iter().any(|one: &Mapping| one.inside == 0) {
            return Err(Error::invalid(name).because("does not map id 0").at(pointer));
        }
    }
    (all.uid_map, all.gid_map) = (uid_map, gid_map);
    Ok(())
}

/// The lines of an id map; `pointer` is the list's.
pub(crate) fn mappings(list: &[LinuxIdMapping], pointer: &str) -> Result<Vec<Mapping>> {
    let one = |(index, mapping): (usize, &LinuxIdMapping)| {
        let one = Mapping { inside: mapping.container_id(), outside: mapping.host_id(), size: mapping.size() };
        let wrong = |why: &str| Err(one.wrong(why).at(format!("{pointer}/{index}")));
        if one.size == 0 {
            return wrong("its size is 0");
        }
        let (inside, outside) = (one.inside.checked_add(one.size - 1), one.outside.checked_add(one.size - 1));
        if inside.is_none() || outside.is_none() {
            return wrong("it goes beyond the largest id");
        }
        Ok(one)
    };
    list.iter().enumerate().map(one).collect()
}

impl Mapping {
    fn wrong(&self, why: &str) -> Error {
        Error::invalid(format!("id mapping {} {} {}", self.inside, self.outside, self.size)).because(why)
    }
}

fn offsets(spec: &Spec, all: &mut Namespaces) -> Result<()> {
    let Some(offsets) = spec.linux().as_ref().and_then(|linux| linux.time_offsets().as_ref()) else { return Ok(()) };
    if !offsets.is_empty() && all.new & NEWTIME == 0 {
        return Err(Error::invalid("timeOffsets").because("needs a new time namespace").at("linux/timeOffsets"));
    }
    for (clock, offset) in offsets {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(Error::invalid(format!("clock {clock:?}"))
                .because("only monotonic and boottime have offsets")
                .at("linux/timeOffsets"));
        }
        all.time_offsets.push(format!("{clock} {} {}", offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0)));
    }
    all.time_offsets.sort();
    Ok(())
}

/// The first steps of the init: into what it joins, and, where the kernel requires it, by way of a birth.
pub(crate) fn enter(all: &Namespaces, facts: &Facts, plan: &mut Builder) -> Result<()> {
    if facts.carried {
        plan.step(Step::Await {}, "");
        new_cgroup(all, plan);
        return Ok(());
    }
    if all.born == Born::ByMiddle || !all.new_user() {
        // Until the parent has put it into its cgroup. Where it waits for its id maps anyway, that was before.
        plan.step(Step::Await {}, "");
    }
    let (user, others): (Vec<&Join>, Vec<&Join>) = all.joins.iter().partition(|join| join.kind == NEWUSER);
    // The user namespace last: it takes the rights away that joining the host's others needs.
    for join in others.into_iter().chain(user) {
        plan.step(Step::EnterNamespace { slot: join.slot, kind: join.kind }, join.pointer.as_str());
        if join.kind == NEWUSER {
            plan.step(Step::BecomeRoot {}, join.pointer.as_str());
        }
    }
    if all.born == Born::ByMiddle {
        let mut flags = all.new;
        if !all.time_offsets.is_empty() {
            // The offsets of a time namespace can be set only while nobody is in it; our children will be.
            flags &= !NEWTIME;
            plan.step(Step::Unshare { flags: NEWTIME }, "linux/namespaces");
            let path = plan.text("self/timens_offsets", "")?;
            let value = plan.bytes(all.time_offsets.join("\n").as_bytes());
            plan.step(Step::WriteProc { path, value }, "linux/timeOffsets");
        }
        plan.step(Step::Bear { flags }, "linux/namespaces");
        // Its elder tells of the birth; until then the parent must hear nothing of what comes after.
        plan.step(Step::Await {}, "");
        if all.new_user() {
            plan.step(Step::BecomeRoot {}, "linux/uidMappings");
        }
    }
    new_cgroup(all, plan);
    Ok(())
}

/// Its root is the cgroup that the process is in when it is made, so not at birth.
fn new_cgroup(all: &Namespaces, plan: &mut Builder) {
    if all.new_cgroup {
        plan.step(Step::Unshare { flags: NEWCGROUP }, "linux/namespaces");
    }
}

/// Whether an id is one that a new user namespace has; nothing is known of a joined one.
pub(crate) fn has_id(all: &Namespaces, map: &[Mapping], id: u32) -> bool {
    !all.new_user() || map.iter().any(|one| id.checked_sub(one.inside).is_some_and(|offset| offset < one.size))
}

/// Refuses a user, or a group, that nobody is inside.
pub(crate) fn has_user(user: &User, all: &Namespaces) -> Result<()> {
    let refuse = |what: &str, id: u32, map: &str, at: &str| {
        Err(Error::invalid(format!("{what} {id}"))
            .because("has no id in the container's user namespace")
            .hint(format!("linux/{map} must map it"))
            .at(format!("process/user/{at}")))
    };
    if !has_id(all, &all.uid_map, user.uid()) {
        return refuse("user", user.uid(), "uidMappings", "uid");
    }
    if !has_id(all, &all.gid_map, user.gid()) {
        return refuse("group", user.gid(), "gidMappings", "gid");
    }
    match user.additional_gids().iter().flatten().position(|gid| !has_id(all, &all.gid_map, *gid)) {
        Some(index) => {
            let gid = user.additional_gids().iter().flatten().nth(index).copied().unwrap_or_default();
            refuse("group", gid, "gidMappings", &format!("additionalGids/{index}"))
        }
        None => Ok(()),
    }
}

/// Names and interfaces of the namespaces that are the container's.
pub(crate) fn configure(spec: &Spec, all: &Namespaces, plan: &mut Builder) -> Result<()> {
    const LONGEST: usize = 64;
    for (name, pointer) in [(spec.hostname(), "hostname"), (spec.domainname(), "domainname")] {
        let Some(name) = name.as_deref().filter(|name| !name.is_empty()) else { continue };
        if !all.apart(NEWUTS) {
            return Err(Error::invalid(format!("{pointer} {name:?}")).because("needs a UTS namespace").at(pointer));
        }
        if name.contains('\0') {
            return Err(Error::invalid(format!("{pointer} {name:?}")).because("it holds a NUL byte").at(pointer));
        }
        if name.len() > LONGEST {
            return Err(Error::invalid(pointer)
                .because(format!("is {} bytes long, the kernel takes {LONGEST}", name.len()))
                .at(pointer));
        }
        let bytes = plan.bytes(name.as_bytes());
        let step =
            if pointer == "hostname" { Step::Hostname { name: bytes } } else { Step::Domainname { name: bytes } };
        plan.step(step, pointer);
    }
    if all.new & NEWNET != 0 {
        plan.step(Step::LoopbackUp {}, "linux/namespaces");
    }
    Ok(())
}
