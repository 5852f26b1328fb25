//! A cgroup found again by its record: its processes, freezing, killing, and its end.

use crate::layout::Layout;
use crate::systemd;
use crate::wanted;
use std::cell::Cell;
use std::time::{Duration, Instant};
use wharf_core::{CgroupPaths, Error, Kind, Result, UnitRecord};
use wharf_sys::Errno;
use wharf_sys::cgroup_fs::{self, Dir, kill};

const SIGKILL: i32 = 9;
/// What to do about a container of an ordinary user who may make no cgroups.
pub(crate) const NO_CGROUP: &str = "make it where cgroups are delegated: systemd-run --user --scope wharf create ...";

/// How long processes may take to freeze.
const FREEZE: Duration = Duration::from_secs(2);
/// How long killed processes may take to end.
const END: Duration = Duration::from_secs(10);
/// How long an emptied cgroup may stay busy.
const BUSY: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) hierarchy: usize,
    pub(crate) path: String,
    pub(crate) made: u32,
}

/// The cgroup of a container in every hierarchy. A cgroup that is gone has no processes and is not frozen.
#[derive(Debug)]
pub struct Handle {
    pub(crate) layout: Layout,
    pub(crate) base: Option<Dir>,
    pub(crate) places: Vec<Place>,
    /// Which hierarchy freezes and lists processes, and the path there.
    main: Option<(usize, String)>,
    /// Of systemd, which it is.
    pub(crate) unit: Option<UnitRecord>,
    /// Name of the one inside that the processes are in; empty where they are in this one itself.
    pub(crate) inner: String,
    /// The container's own cgroup there is removed.
    vacated: Cell<bool>,
}

/// The error of a call on a cgroup.
pub(crate) fn system(doing: &str, layout: &Layout, index: usize, path: &str, errno: Errno) -> Error {
    let error = Error::system(format!("{doing} {}", layout.describe(index, path)), errno as i32);
    match errno {
        // The kernel's own words would read to an engine as a command that was not found.
        Errno::ENOENT | Errno::ENODEV => error.because("it is not there; was it removed by somebody else?"),
        _ => error,
    }
}

impl Layout {
    /// `cgroup /a/b (memory)`; on a host with one hierarchy just `cgroup /a/b`.
    pub(crate) fn describe(&self, index: usize, path: &str) -> String {
        if self.hierarchies.len() == 1 {
            return format!("cgroup {path}");
        }
        let hierarchy = &self.hierarchies[index];
        let label = if hierarchy.v2 { "v2".to_owned() } else { hierarchy.label() };
        format!("cgroup {path} ({label})")
    }
}

/// Every process of a cgroup and of those below it. Processes of other pid namespaces, which have no number here, are
/// not among them.
pub(crate) fn processes(base: &Dir, path: &str) -> std::result::Result<Vec<i32>, Errno> {
    let mut found = Vec::new();
    let mut waiting = vec![path.to_owned()];
    while let Some(path) = waiting.pop() {
        let dir = match base.open_dir(&path) {
            Ok(dir) => dir,
            Err(Errno::ENOENT) => continue,
            Err(errno) => return Err(errno),
        };
        match dir.read_all("cgroup.procs") {
            Ok(text) => found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0)),
            // ENODEV: removed since it was opened. EOPNOTSUPP: threaded; its processes are listed at its domain.
            Err(Errno::ENOENT | Errno::ENODEV | Errno::EOPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
        if dir.count_dirs()? > 0 {
            waiting.extend(dir.list_dirs()?.into_iter().map(|name| format!("{path}/{name}")));
        }
    }
    Ok(found)
}

/// Waits between looks, longer each time, until `until`.
struct Patience {
    until: Instant,
    pause: Duration,
}

impl Patience {
    fn new(most: Duration) -> Self {
        Patience { until: Instant::now() + most, pause: Duration::from_micros(100) }
    }

    /// False when the time is over.
    fn wait(&mut self) -> bool {
        if Instant::now() >= self.until {
            return false;
        }
        std::thread::sleep(self.pause);
        self.pause = (self.pause * 2).min(Duration::from_millis(20));
        true
    }
}

impl Handle {
    /// Finds the cgroup of a record. An empty record has none, and every call does nothing.
    pub fn open(layout: Layout, paths: &CgroupPaths) -> Result<Handle> {
        let all = [&paths.payload, &paths.freezer].into_iter().chain(paths.apart.iter().map(|apart| &apart.path));
        for path in all {
            if path.split('/').any(|part| part == "..") || path == "/" {
                return Err(Error::invalid(format!("recorded cgroup {path:?}")).because("is not a container's"));
            }
        }
        if paths.payload.is_empty() || layout.hierarchies.is_empty() {
            return Ok(Handle {
                layout,
                base: None,
                places: Vec::new(),
                main: None,
                unit: None,
                inner: String::new(),
                vacated: Cell::new(false),
            });
        }
        let base = Dir::open(&layout.base);
        let base = base.map_err(|errno| Error::system(format!("open {}", layout.base), errno as i32))?;
        let places: Vec<Place> = layout
            .hierarchies
            .iter()
            .enumerate()
            .map(|(hierarchy, own)| match paths.apart.iter().find(|apart| apart.mount_point == own.mount_point) {
                Some(apart) => Place { hierarchy, path: apart.path.clone(), made: apart.made },
                None => Place { hierarchy, path: paths.payload.clone(), made: paths.made },
            })
            .collect();
        let freezer = layout.freezer().filter(|_| !paths.freezer.is_empty());
        let main = freezer.map(|hierarchy| (hierarchy, paths.freezer.clone()));
        let (unit, inner) = (paths.unit.clone(), paths.inner.clone());
        Ok(Handle { layout, base: Some(base), places, main, unit, inner, vacated: Cell::new(false) })
    }

    /// Nothing more is done with it.
    pub fn leave(self) {
        self.base.into_iter().for_each(Dir::leave);
    }

    /// None where the container has no cgroup.
    pub(crate) fn base(&self) -> Option<&Dir> {
        self.base.as_ref()
    }

    /// One path a hierarchy of the layout.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.places.iter().map(|place| place.path.clone()).collect()
    }

    /// The same of where the container's processes are.
    pub(crate) fn payload_paths(&self) -> Vec<String> {
        self.places.iter().map(|place| wanted::below(&place.path, &self.inner)).collect()
    }

    fn main(&self) -> Option<(&Dir, usize, &str)> {
        let (hierarchy, path) = self.main.as_ref()?;
        Some((self.base.as_ref()?, *hierarchy, path))
    }

    /// The cgroups that were made for the container and are still there, for people.
    pub fn existing(&self) -> Result<Vec<String>> {
        let Some(base) = &self.base else { return Ok(Vec::new()) };
        let mut all: Vec<String> = self.unit.iter().map(|unit| format!("unit {}", unit.name)).collect();
        for Place { hierarchy, path, .. } in self.places.iter().filter(|place| place.made > 0) {
            let failed = |errno| system("look for", &self.layout, *hierarchy, path, errno);
            if base.exists(&self.layout.below_base(*hierarchy, path, "")).map_err(failed)? {
                all.push(self.layout.describe(*hierarchy, path));
            }
        }
        Ok(all)
    }

    /// Every process, of nested cgroups too, by its pid here.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let Some((base, hierarchy, path)) = self.main() else { return Ok(Vec::new()) };
        processes(base, &self.layout.below_base(hierarchy, path, ""))
            .map_err(|errno| system("list the processes of", &self.layout, hierarchy, path, errno))
    }

    pub fn is_frozen(&self) -> Result<bool> {
        let Some((base, hierarchy, path)) = self.main() else { return Ok(false) };
        if !self.layout.hierarchies[hierarchy].freezes() {
            return Ok(false);
        }
        let file = self.layout.hierarchies[hierarchy].freezer_file();
        match base.read_value(&self.layout.below_base(hierarchy, path, file)) {
            Ok(state) => Ok(is_frozen_state(&state)),
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(false),
            Err(errno) => Err(system(&format!("read {file} of"), &self.layout, hierarchy, path, errno)),
        }
    }

    /// Stops every process; waits up to two seconds until the kernel says that all stand still, or thaws them again.
    pub fn freeze(&self) -> Result<()> {
        let Some((base, hierarchy, path)) = self.main() else {
            return Err(Error::unsupported("pause the container").because("it has no cgroup").hint(NO_CGROUP));
        };
        if !self.layout.hierarchies[hierarchy].freezes() {
            return Err(crate::wanted::unavailable(&self.layout, "freezer", "linux/cgroupsPath"));
        }
        let failed = |doing: &str, errno: Errno| system(doing, &self.layout, hierarchy, path, errno);
        let at = |file: &str| self.layout.below_base(hierarchy, path, file);
        let v2 = self.layout.hierarchies[hierarchy].v2;
        let (file, value) = if v2 { ("cgroup.freeze", "1") } else { ("freezer.state", "FROZEN") };
        let mut patience = Patience::new(FREEZE);
        let mut turn = 0;
        base.write(&at(file), value).map_err(|errno| failed("freeze", errno))?;
        loop {
            let state = base.read_value(&at(if v2 { "cgroup.events" } else { file }));
            let state = state.map_err(|errno| failed("freeze", errno))?;
            if state == "FROZEN" || state.lines().any(|line| line == "frozen 1") {
                return Ok(());
            }
            if !patience.wait() {
                let error = failed("freeze", Errno::ETIMEDOUT);
                return match self.thaw() {
                    Ok(()) => Err(error.hint("its processes run again")),
                    Err(_) => Err(error),
                };
            }
            if !v2 {
                turn += 1;
                // A process that waits for one that stands still already (vfork(2)) stops only if all go on for a while.
                if turn % 16 == 0 {
                    base.write(&at(file), "THAWED").map_err(|errno| failed("freeze", errno))?;
                }
                // A process born while the others froze is seen by writing again.
                base.write(&at(file), value).map_err(|errno| failed("freeze", errno))?;
            }
        }
    }

    /// [`Handle::thaw`], and fails where the processes do not go on: one that is inside a frozen cgroup stands still
    /// with that one.
    pub fn resume(&self) -> Result<()> {
        self.thaw()?;
        let Some((base, hierarchy, path)) = self.main() else { return Ok(()) };
        if self.layout.hierarchies[hierarchy].v2 {
            return Ok(());
        }
        match base.read_value(&self.layout.below_base(hierarchy, path, "freezer.parent_freezing")) {
            Ok(above) if above == "1" => {
                let error = Error::new(Kind::System, format!("resume {}", self.layout.describe(hierarchy, path)));
                Err(error.because("a cgroup above it is frozen"))
            }
            _ => Ok(()),
        }
    }

    /// Lets every process go on. A cgroup that is gone is no error.
    pub fn thaw(&self) -> Result<()> {
        let Some((base, hierarchy, path)) = self.main() else { return Ok(()) };
        if !self.layout.hierarchies[hierarchy].freezes() {
            return Ok(());
        }
        let v2 = self.layout.hierarchies[hierarchy].v2;
        let (file, value) = if v2 { ("cgroup.freeze", "0") } else { ("freezer.state", "THAWED") };
        match base.write(&self.layout.below_base(hierarchy, path, file), value) {
            Ok(()) | Err(Errno::ENOENT | Errno::ENODEV) => Ok(()),
            Err(errno) => Err(system("thaw", &self.layout, hierarchy, path, errno)),
        }
    }

    /// Signals every process once. With SIGKILL, goes on until none is left, ten seconds at most; frozen ones are thawed,
    /// because on v1 they cannot die before.
    pub fn kill_all(&self, signal: i32) -> Result<()> {
        let Some((base, hierarchy, path)) = self.main() else { return Ok(()) };
        if signal != SIGKILL {
            return self.signal_frozen(signal);
        }
        let mut patience = Patience::new(END);
        for turn in 0u32.. {
            let at_once = self.layout.hierarchies[hierarchy].v2 && self.kill_at_once(base, hierarchy, path)?;
            let left = self.processes()?;
            if left.is_empty() {
                return Ok(());
            }
            // Signalled processes need a moment to end; standing still in between would only keep them from it.
            if !at_once && turn.is_multiple_of(8) {
                self.signal_frozen(signal)?;
            }
            if !patience.wait() {
                return Err(Error::new(Kind::System, format!("kill {}", self.layout.describe(hierarchy, path)))
                    .because(format!("{} processes did not end within {} seconds", left.len(), END.as_secs())));
            }
        }
        Ok(())
    }

    /// SIGKILL to a whole v2 cgroup, by the kernel. False where it cannot: before Linux 5.14, and for threaded ones.
    fn kill_at_once(&self, base: &Dir, hierarchy: usize, path: &str) -> Result<bool> {
        match base.write(&self.layout.below_base(hierarchy, path, "cgroup.kill"), "1") {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT | Errno::ENODEV | Errno::EOPNOTSUPP) => Ok(false),
            Err(errno) => Err(system("kill", &self.layout, hierarchy, path, errno)),
        }
    }

    /// One pass over the processes while they stand still: none is born unseen, and no pid is taken over by a stranger.
    fn signal_frozen(&self, signal: i32) -> Result<()> {
        let paused = self.is_frozen()?;
        // What cannot be frozen, or not in time, is signalled running.
        let frozen = paused || self.freeze().is_ok();
        let mut result = Ok(());
        match self.processes() {
            Ok(pids) => {
                for pid in pids {
                    match kill(pid, signal) {
                        Ok(()) | Err(Errno::ESRCH) => {}
                        Err(errno) if result.is_ok() => {
                            result = Err(Error::system(format!("send signal {signal} to process {pid}"), errno as i32));
                        }
                        Err(_) => {}
                    }
                }
            }
            Err(error) => result = Err(error),
        }
        if (frozen && !paused) || signal == SIGKILL {
            let thawed = self.thaw();
            return result.and(thawed);
        }
        result
    }

    /// Removes the cgroup that lists the processes if there are none, nor other cgroups in it: then nobody is left, and
    /// nobody will be.
    pub fn vacate(&self) -> bool {
        // systemd's is systemd's to remove, and one inside another is not all there is.
        if self.unit.is_some() || !self.inner.is_empty() {
            return false;
        }
        let own = self.main().and_then(|(base, hierarchy, path)| {
            let made = self.places.iter().any(|place| place.hierarchy == hierarchy && place.made > 0);
            made.then(|| base.rmdir(&self.layout.below_base(hierarchy, path, "")))
        });
        self.vacated.set(matches!(own, Some(Ok(()) | Err(Errno::ENOENT))));
        self.vacated.get()
    }

    /// Removes the cgroup, what the payload made below it, and the levels above it that were made by us and are empty.
    /// Goes on after a failure and tells all of them.
    pub fn remove(&self) -> Result<()> {
        let Some(base) = &self.base else { return Ok(()) };
        let mut patience = Patience::new(BUSY);
        let mut failures: Vec<Error> = Vec::new();
        if let Some(unit) = &self.unit {
            // systemd would end what is in it, and that is not ours: all that is has been killed before.
            match self.processes() {
                Ok(left) if left.is_empty() => failures.extend(systemd::stop(unit).err()),
                Ok(_) => {}
                Err(error) => failures.push(error),
            }
        }
        for Place { hierarchy, path, made } in &self.places {
            if *made == 0 {
                continue;
            }
            let vacated = self.vacated.get() && self.main.as_ref().is_some_and(|(main, _)| main == hierarchy);
            let tree = self.layout.below_base(*hierarchy, path, "");
            let removed = if vacated { Ok(()) } else { remove_tree(base, &tree, &mut patience) };
            if let Err(errno) = removed {
                failures.push(system("remove", &self.layout, *hierarchy, path, errno));
                continue;
            }
            let mut level = path.as_str();
            for _ in 1..*made {
                level = level.rsplit_once('/').map_or("", |(parent, _)| parent);
                // EBUSY: somebody else uses it by now.
                if level.is_empty() || base.rmdir(&self.layout.below_base(*hierarchy, level, "")).is_err() {
                    break;
                }
            }
        }
        let mut failures = failures.into_iter();
        match failures.next() {
            None => Ok(()),
            Some(first) => Err(match failures.map(|error| error.to_string()).collect::<Vec<_>>() {
                more if more.is_empty() => first,
                more => first.hint(format!("also: {}", more.join("; "))),
            }),
        }
    }
}

/// What the file that freezes says, in either version.
fn is_frozen_state(state: &str) -> bool {
    state != "0" && state != "THAWED"
}

/// The same as [`Handle::is_frozen`], by the one file that the record names: no other is looked for.
pub fn is_frozen(paths: &CgroupPaths) -> Result<bool> {
    if paths.freezer_file.is_empty() {
        return if paths.payload.is_empty() { Ok(false) } else { Handle::open(Layout::mounted()?, paths)?.is_frozen() };
    }
    match cgroup_fs::read_host_value(&paths.freezer_file) {
        Ok(state) => Ok(is_frozen_state(&state)),
        Err(Errno::ENOENT | Errno::ENODEV) => Ok(false),
        Err(errno) => Err(Error::system(format!("read {}", paths.freezer_file), errno as i32)),
    }
}

/// Whether a frozen process of this container must be thawed to die: cgroup v1 alone wants it.
pub fn must_thaw_to_kill(paths: &CgroupPaths) -> Result<bool> {
    if paths.freezer_file.ends_with("/cgroup.freeze") { Ok(false) } else { is_frozen(paths) }
}

/// rmdir of a cgroup and of all below it, repeated while the last of its processes is on its way out.
fn remove_tree(base: &Dir, path: &str, patience: &mut Patience) -> std::result::Result<(), Errno> {
    loop {
        match base.rmdir(path) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            Err(Errno::EBUSY | Errno::ENOTEMPTY) => {}
            Err(errno) => return Err(errno),
        }
        let children = match base.open_dir(path) {
            Ok(dir) => dir.list_dirs()?,
            Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        let leaf = children.is_empty();
        for child in children {
            remove_tree(base, &format!("{path}/{child}"), patience)?;
        }
        if leaf && !patience.wait() {
            return Err(Errno::EBUSY);
        }
    }
}
