//! Makes a container's cgroup and sets its limits, before any process is in it.

use crate::apply::Files;
use crate::device_rules::{attach, write_lines};
use crate::handle::{processes, system};
use crate::layout::{Layout, Version};
use crate::wanted::{Wanted, Write};
use std::cell::Cell;
use std::os::fd::OwnedFd;
use wharf_core::{CgroupPaths, Error, Kind, Result, Warnings};
use wharf_sys::Errno;
use wharf_sys::cgroup_fs::{Dir, read_piece};
use wharf_sys::dir::effective_uid;

/// A cgroup that exists, with its limits, in every hierarchy.
#[derive(Debug)]
pub struct Cgroup<'a> {
    pub(crate) wanted: &'a Wanted,
    /// None where no hierarchy is mounted, and before a scope is there.
    pub(crate) base: Option<Dir>,
    /// Levels made by us, counted from the leaf, in each hierarchy.
    pub(crate) made: Vec<u32>,
    /// Hierarchies left out for want of permission.
    left_out: Vec<bool>,
    /// The container's own directory on v2.
    leaf: Option<Dir>,
    /// The kernel bears no process in a cgroup.
    places: bool,
    /// The kernel lets us set no device rules.
    without_rules: Cell<bool>,
}

impl Wanted {
    /// What [`Cgroup::create`] is about to make, for a record that is written first: as long as it tells of nothing else,
    /// one level a hierarchy.
    ///
    /// Refuses a cgroup that holds processes already: whoever finds such a record after a crash would take them for the
    /// container's, and kill them.
    pub fn expected(&self) -> Result<CgroupPaths> {
        if let Some(unit) = &self.unit {
            return self.expected_scope(unit);
        }
        let Some(main) = self.layout.freezer() else { return Ok(CgroupPaths::default()) };
        let base = open_base(&self.layout)?;
        let exists = |index: usize, level: &str| {
            let found = base.exists(&self.layout.below_base(index, level, ""));
            found.map_err(|errno| system("look for", &self.layout, index, level, errno))
        };
        if self.may_leave_out(main) {
            let parent = levels(&self.paths[main]).rev().nth(1).unwrap_or("/");
            let parent = self.layout.below_base(main, parent, "");
            if exists(main, &self.paths[main])? || base.is_writable(&parent) != Ok(true) {
                return Ok(CgroupPaths::default());
            }
        } else if exists(main, &self.paths[main])? {
            self.check_unused(&base, main)?;
        }
        base.leave();
        Ok(self.record(&vec![1; self.paths.len()]))
    }

    /// How many levels are missing in each hierarchy, at least one.
    fn missing(&self, base: &Dir) -> Result<Vec<u32>> {
        let mut missing = vec![1; self.paths.len()];
        for (index, path) in self.paths.iter().enumerate() {
            for level in levels(path).rev().skip(1) {
                let found = base.exists(&self.layout.below_base(index, level, ""));
                if found.map_err(|errno| system("look for", &self.layout, index, level, errno))? {
                    break;
                }
                missing[index] += 1;
            }
        }
        Ok(missing)
    }

    /// An ordinary user, who asked nothing of this hierarchy.
    fn may_leave_out(&self, index: usize) -> bool {
        self.optional && !self.asks(index) && effective_uid() != 0
    }

    /// An existing cgroup may be used if it is empty and not frozen.
    fn check_unused(&self, base: &Dir, index: usize) -> Result<()> {
        let (layout, path) = (&self.layout, &self.paths[index]);
        let refuse = |why: String| {
            let doing = format!("use {}", layout.describe(index, path));
            Err(Error::new(Kind::System, doing).because(why).at("linux/cgroupsPath"))
        };
        let found = processes(base, &layout.below_base(index, path, ""));
        match found.map_err(|errno| system("read", layout, index, path, errno))?.len() {
            0 => {}
            1 => return refuse("it exists and holds a process".to_owned()),
            count => return refuse(format!("it exists and holds {count} processes")),
        }
        let hierarchy = &layout.hierarchies[index];
        if !hierarchy.freezes() {
            return Ok(());
        }
        let file = hierarchy.freezer_file();
        match base.read_value(&layout.below_base(index, path, file)).as_deref() {
            Ok("0" | "THAWED") | Err(_) => Ok(()),
            Ok(state) => refuse(format!("it exists and is frozen ({file} is {state})")),
        }
    }
}

/// Whether this process is in another user namespace than the first, whose map is the whole range (user_namespaces(7)).
fn in_user_namespace() -> bool {
    let map = read_piece("/proc/self/uid_map").unwrap_or_default();
    !map.split_whitespace().eq(["0", "0", "4294967295"])
}

pub(crate) fn open_base(layout: &Layout) -> Result<Dir> {
    Dir::open(&layout.base).map_err(|errno| Error::system(format!("open {}", layout.base), errno as i32))
}

/// `/a`, `/a/b`, `/a/b/c` for the last of them.
fn levels(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    let ends: Vec<usize> = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]).collect();
    ends.into_iter().map(move |end| &path[..end])
}

impl<'a> Cgroup<'a> {
    /// Makes the levels that are missing, enables controllers on the way down (v2), and writes every limit and device
    /// rule. A leaf that exists already is used if no process is in it, as runc does. A failure removes what was made.
    /// One that systemd makes is there with [`Cgroup::take`] only.
    ///
    /// Where more is missing than the container's own level, `tell` hears of it before that is made.
    pub fn create(wanted: &'a Wanted, tell: &dyn Fn(CgroupPaths) -> Result<()>) -> Result<Cgroup<'a>> {
        let count = wanted.paths.len();
        let later = count == 0 || wanted.unit.is_some();
        let base = if later { None } else { Some(open_base(&wanted.layout)?) };
        let (made, left_out) = (vec![0; count], vec![false; count]);
        let mut cgroup =
            Cgroup { wanted, base, made, left_out, leaf: None, places: false, without_rules: Cell::new(false) };
        if wanted.unit.is_some() {
            return Ok(cgroup);
        }
        match cgroup.fill(tell) {
            Ok(()) => Ok(cgroup),
            Err(error) => {
                cgroup.undo();
                Err(error)
            }
        }
    }

    /// One that another is about to make, with all that is in it: nothing is made here, and [`Cgroup::limit_found`] sets the
    /// limits when it is there.
    pub fn of_another(wanted: &'a Wanted) -> Result<Cgroup<'a>> {
        let count = wanted.paths.len();
        let base = if count == 0 { None } else { Some(open_base(&wanted.layout)?) };
        let (made, left_out) = (vec![1; count], vec![false; count]);
        Ok(Cgroup { wanted, base, made, left_out, leaf: None, places: false, without_rules: Cell::new(false) })
    }

    /// Sets every limit of one that another has made.
    pub fn limit_found(&mut self) -> Result<()> {
        let unified = self.wanted.layout.unified();
        if let Some(index) = unified.filter(|_| self.wanted.program.is_some()) {
            self.open_leaf(index)?;
        }
        self.files().write_all(&outer(&self.wanted.writes), None)?;
        let inner: Vec<String> = self.wanted.payload_paths().collect();
        let files = Files { layout: &self.wanted.layout, base: self.base(), paths: &inner, made: &self.made };
        // Version 1 takes no rule for all devices where there are cgroups inside.
        self.set_device_rules(&files)?;
        self.limit_inner()
    }

    fn fill(&mut self, tell: &dyn Fn(CgroupPaths) -> Result<()>) -> Result<()> {
        let layout = &self.wanted.layout;
        let mut told = false;
        for index in 0..self.wanted.paths.len() {
            if !self.make_leaf(index)? {
                if !std::mem::replace(&mut told, true) {
                    tell(self.wanted.record(&self.wanted.missing(self.base())?))?;
                }
                self.make_levels(index)?;
            }
            let hierarchy = &layout.hierarchies[index];
            if self.left_out[index] {
                continue;
            }
            if hierarchy.v2 {
                enable(&self.files(), index, &self.wanted.writes, self.wanted.asks(index))?;
                if self.wanted.program.is_some() || layout.version() == Version::V2 {
                    self.open_leaf(index)?;
                }
            } else if hierarchy.has("cpuset") && (self.made[index] > 1 || self.wanted.asks(index)) {
                self.inherit_cpuset(index)?;
            }
        }
        self.limit()
    }

    pub(crate) fn open_leaf(&mut self, index: usize) -> Result<()> {
        let leaf = self.base().open_dir(&self.at(index, ""));
        self.leaf = Some(leaf.map_err(|errno| self.failed("open", index, errno))?);
        Ok(())
    }

    /// Every limit and device rule.
    pub(crate) fn limit(&self) -> Result<()> {
        match self.wanted.has_inner() {
            true => self.files().write_all(&outer(&self.wanted.writes), None)?,
            false => self.files().write_all(&self.wanted.writes, None)?,
        }
        self.set_device_rules(&self.files())
    }

    fn set_device_rules(&self, files: &Files<'_>) -> Result<()> {
        if let Some((index, lines)) = &self.wanted.lines {
            let written = write_lines(files, *index, lines);
            self.or_without_rules(written)?;
        }
        if let (Some(program), Some(leaf)) = (&self.wanted.program, &self.leaf) {
            let attached = attach(leaf, program);
            self.or_without_rules(attached)?;
        }
        Ok(())
    }

    /// The same limits for the cgroup inside, when somebody else has made it: a payload reads them there.
    pub fn limit_inner(&self) -> Result<()> {
        let paths: Vec<String> = self.wanted.payload_paths().collect();
        let layout = &self.wanted.layout;
        let files = Files { layout, base: self.base(), paths: &paths, made: &self.made };
        if let Some(index) = layout.unified() {
            enable(&files, index, &self.wanted.writes, self.wanted.asks(index))?;
        }
        files.write_all(&self.wanted.writes, None)
    }

    /// In a user namespace the kernel refuses device rules even to root. Nobody can make a device node there either, and
    /// what nodes there are obeys the rules of the cgroup around.
    fn or_without_rules(&self, set: Result<()>) -> Result<()> {
        match set {
            Err(error) if error.raw_errno() == Some(Errno::EPERM as i32) && in_user_namespace() => {
                self.without_rules.set(true);
                Ok(())
            }
            other => other,
        }
    }

    /// What was asked for and could not be had.
    pub fn warnings(&self) -> Warnings {
        let why = "the kernel takes none from inside a user namespace; no device can be made there, and the rules around it \
                   hold";
        let told = || Error::unsupported("device rules").because(why).at("linux/resources/devices");
        self.without_rules.get().then(told).into_iter().collect()
    }

    fn base(&self) -> &Dir {
        self.base.as_ref().expect("a hierarchy is mounted")
    }

    pub(crate) fn files(&self) -> Files<'_> {
        Files { layout: &self.wanted.layout, base: self.base(), paths: &self.wanted.paths, made: &self.made }
    }

    fn at(&self, index: usize, file: &str) -> String {
        self.wanted.layout.below_base(index, &self.wanted.paths[index], file)
    }

    fn failed(&self, doing: &str, index: usize, errno: Errno) -> Error {
        system(doing, &self.wanted.layout, index, &self.wanted.paths[index], errno)
    }

    /// False where levels above it are missing.
    fn make_leaf(&mut self, index: usize) -> Result<bool> {
        match self.base().mkdir(&self.at(index, "")) {
            Ok(()) => self.made[index] = 1,
            // What is there already may be another user's.
            Err(Errno::EEXIST | Errno::EACCES | Errno::EPERM | Errno::EROFS) if self.wanted.may_leave_out(index) => {
                self.left_out[index] = true;
            }
            Err(Errno::EEXIST) => self.wanted.check_unused(self.base(), index)?,
            Err(Errno::ENOENT) => return Ok(false),
            Err(errno) => return Err(self.denied(self.failed("make", index, errno), index)),
        }
        Ok(true)
    }

    fn make_levels(&mut self, index: usize) -> Result<()> {
        let layout = &self.wanted.layout;
        for level in levels(&self.wanted.paths[index]) {
            match self.base().mkdir(&layout.below_base(index, level, "")) {
                Ok(()) => self.made[index] += 1,
                Err(Errno::EEXIST) => self.made[index] = 0,
                Err(errno) => return Err(self.denied(system("make", layout, index, level, errno), index)),
            }
        }
        Ok(())
    }

    /// What asks for a cgroup, and what an ordinary user can do about one that he may not make.
    fn denied(&self, error: Error, index: usize) -> Error {
        let asked = self.wanted.writes.iter().find(|write| write.hierarchy == index);
        let error = error.at(asked.map_or("linux/cgroupsPath", |write| write.at.as_str()));
        if effective_uid() == 0 {
            return error;
        }
        error.hint(
            "an ordinary user makes cgroups only below one of cgroup v2 that is delegated to him: call wharf by \
             systemd-run --user --scope, or leave cgroupsPath and limits out",
        )
    }

    /// A new v1 cpuset is empty and takes no process, but where the kernel was told to fill it
    /// (`cgroup.clone_children`): every level gets what the nearest level above has.
    fn inherit_cpuset(&self, index: usize) -> Result<()> {
        let layout = &self.wanted.layout;
        let all: Vec<&str> = std::iter::once("/").chain(levels(&self.wanted.paths[index])).collect();
        let leaf = all.len() - 1;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let asked = self.wanted.writes.iter().any(|write| write.hierarchy == index && write.file == file);
            let mut level = leaf - self.made[index] as usize;
            let value = loop {
                let full = layout.below_base(index, all[level], file);
                let value = self.base().read_value(&full);
                let value =
                    value.map_err(|errno| system(&format!("read {file} of"), layout, index, all[level], errno))?;
                if !value.is_empty() || level == 0 {
                    break value;
                }
                level -= 1;
            };
            let below = &all[level + 1..];
            for one in if asked { &below[..below.len().saturating_sub(1)] } else { below } {
                self.base()
                    .write(&layout.below_base(index, one, file), &value)
                    .map_err(|errno| system(&format!("write {value} to {file} of"), layout, index, one, errno))?;
            }
        }
        Ok(())
    }

    /// For `CLONE_INTO_CGROUP`, where v2 is alone: a process born there needs no [`Cgroup::place`].
    pub fn birth_fd(&self) -> Option<&OwnedFd> {
        let alone = self.wanted.layout.version() == Version::V2 && self.wanted.unit.is_none();
        // An ordinary user may be allowed to make a cgroup and yet not to move into it: that is found out by placing.
        let sure = alone && !self.wanted.may_leave_out(self.wanted.layout.unified()?);
        self.leaf.as_ref().filter(|_| sure && !self.places).map(AsRef::as_ref)
    }

    /// From now on there is no [`Cgroup::birth_fd`]: the kernel does not know `CLONE_INTO_CGROUP`.
    pub fn forgo_birth(&mut self) {
        self.places = true;
    }

    /// An error of a process that was to be born in the cgroup, or put into it, with the reason that the cgroup gives.
    pub fn explain(&self, error: Error, errno: Errno) -> Error {
        let index = self.wanted.layout.unified().filter(|_| errno == Errno::EOPNOTSUPP && self.base.is_some());
        let Some(index) = index else { return error };
        let Ok(kind) = self.base().read_value(&self.at(index, "cgroup.type")) else { return error };
        let place = self.wanted.layout.describe(index, &self.wanted.paths[index]);
        error
            .because(format!("{place} is {kind:?} (cgroup.type), which takes no process"))
            .at("linux/cgroupsPath")
            .hint("name one below a cgroup that is not threaded, and that holds no processes where it passes cpu or pids on")
    }

    /// Puts a process, as its pid is here, into the cgroup in every hierarchy.
    pub fn place(&self, pid: i32) -> Result<()> {
        let pid = pid.to_string();
        for index in (0..self.wanted.paths.len()).filter(|index| !self.left_out[*index]) {
            let write = || self.base().write(&self.at(index, "cgroup.procs"), &pid);
            let written = match write() {
                // An empty cpuset.
                Err(Errno::ENOSPC) if self.wanted.layout.hierarchies[index].has("cpuset") => {
                    self.inherit_cpuset(index)?;
                    write()
                }
                other => other,
            };
            match written {
                Err(Errno::EACCES | Errno::EPERM) if self.wanted.may_leave_out(index) => {}
                Err(errno) => {
                    let error = self.failed(&format!("put process {pid} into"), index, errno);
                    return Err(self.explain(error, errno));
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Where it is, for the record. The leaf counts as made by us even if it was there, empty: as with runc, it is the
    /// container's own and goes with it. What was left out is not recorded: something of that name may be another's.
    pub fn paths(&self) -> CgroupPaths {
        if self.wanted.unit.is_some() && self.made == [0] {
            return CgroupPaths::default();
        }
        let made = self.made.iter().zip(&self.left_out);
        let made: Vec<u32> = made.map(|(levels, out)| if *out { 0 } else { (*levels).max(1) }).collect();
        let mut paths = self.wanted.record(&made);
        if self.wanted.layout.freezer().is_some_and(|main| self.left_out[main]) {
            paths.freezer.clear();
            paths.freezer_file.clear();
        }
        if self.left_out.iter().all(|out| *out) { CgroupPaths::default() } else { paths }
    }

    /// Hierarchies that were left out for want of permission, by their labels.
    pub fn left_out(&self) -> Vec<String> {
        let hierarchies = self.wanted.layout.hierarchies.iter();
        hierarchies.zip(&self.left_out).filter(|(_, out)| **out).map(|(hierarchy, _)| hierarchy.label()).collect()
    }

    /// Nothing more is done with it.
    pub fn leave(self) {
        self.base.into_iter().chain(self.leaf).for_each(Dir::leave);
    }

    /// Removes the levels that were made here; for a failure before any process is in.
    pub fn undo(self) {
        if self.wanted.unit.is_some() {
            return;
        }
        for (index, path) in self.wanted.paths.iter().enumerate() {
            for level in levels(path).rev().take(self.made[index] as usize) {
                // Whatever stays because somebody else uses it by now is theirs.
                let _ = self.base().rmdir(&self.wanted.layout.below_base(index, level, ""));
            }
        }
    }
}

/// What a cgroup is told that has the container's one inside, which has all limits: its memory, because engines look for that
/// there. The processes that serve the container are not limited in anything else.
pub(crate) fn outer(writes: &[Write]) -> Vec<Write> {
    writes.iter().filter(|write| write.file.starts_with("memory.")).cloned().collect()
}

/// Gives the container's cgroup its controllers, by enabling them in the one above: all that the host has, because
/// engines read the counters even of what is not limited. A level that lacks them itself gets them first.
pub(crate) fn enable(files: &Files<'_>, index: usize, writes: &[Write], asked: bool) -> Result<()> {
    let layout = files.layout;
    let hybrid = layout.version() == Version::Hybrid;
    let controllers = &layout.hierarchies[index].controllers;
    if controllers.is_empty() || (hybrid && !asked) {
        return Ok(());
    }
    let all: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
    let all = all.join(" ");
    let parents: Vec<&str> = std::iter::once("/").chain(levels(&files.paths[index])).collect();
    let parents = &parents[..parents.len() - 1];
    let write =
        |level: &str, value: &str| files.base.write(&layout.below_base(index, level, "cgroup.subtree_control"), value);
    // Most often the level above has been prepared by an earlier container: one write says so.
    let last = parents.last().copied().unwrap_or("/");
    if write(last, &all).is_ok() {
        return Ok(());
    }
    for level in parents {
        let Err(errno) = write(level, &all) else { continue };
        for name in controllers {
            let needed = writes
                .iter()
                .find(|asked| asked.hierarchy == index && asked.file.split('.').next() == Some(name.as_str()));
            // A cgroup with processes could pass on cpu and pids. Then those below would be threaded or take no process.
            let busy = errno == Errno::EBUSY;
            let written = if busy { Err(errno) } else { write(level, &format!("+{name}")) };
            let (Err(errno), Some(asked)) = (written, needed) else { continue };
            // Whoever may not write there need not, where somebody else has.
            let passed_on = files.base.read_value(&layout.below_base(index, level, "cgroup.subtree_control"));
            if passed_on.is_ok_and(|list| list.split_ascii_whitespace().any(|other| other == name)) {
                continue;
            }
            let error = system(&format!("enable controller {name} below"), layout, index, level, errno);
            let dir = format!("{}{}", layout.hierarchies[index].mount_point, level.trim_end_matches('/'));
            return Err(match errno {
                Errno::EBUSY => error.because("it holds processes itself").hint(format!(
                    "move them to a cgroup below it: mkdir {dir}/own, and write each line of {dir}/cgroup.procs to \
                     {dir}/own/cgroup.procs"
                )),
                Errno::ENOENT => error.because("it has not got that controller itself"),
                // Where systemd runs for a user it passes on what it was given, and enables that in all cgroups above.
                _ if files.paths[index].starts_with("/user.slice/") => {
                    let known = ["cpu", "cpuset", "io", "memory", "pids"];
                    let all: Vec<_> =
                        known.into_iter().filter(|name| controllers.iter().any(|one| one == name)).collect();
                    error.hint(format!(
                        "[Service] Delegate={} in /etc/systemd/system/user@.service.d/delegate.conf, systemctl \
                         daemon-reload, and a new login",
                        all.join(" ")
                    ))
                }
                _ => error.hint(format!("as root: echo +{name} > {dir}/cgroup.subtree_control")),
            }
            .at(asked.at.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::levels;

    #[test]
    fn levels_lead_down_to_the_leaf() {
        assert_eq!(levels("/a").collect::<Vec<_>>(), ["/a"]);
        assert_eq!(levels("/a/b/c").collect::<Vec<_>>(), ["/a", "/a/b", "/a/b/c"]);
    }
}
