//! What a container has used when it is over, and whose memory was at its end when the kernel killed in it.

use crate::handle::{Handle, system};
use crate::layout::Layout;
use crate::parse::{SERVICE_BYTES, counts_always, field, number, transferred};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use wharf_core::{CgroupPaths, Oom, OomVerdict, Result, Usage};
use wharf_sys::Errno;
use wharf_sys::cgroup_fs::{Dir, Source};
use wharf_sys::event;

/// Opened while the container lives: its cgroup may be gone a moment after its last process.
pub struct Account {
    own: Vec<(Part, Source)>,
    /// What a cgroup that was there before the container had counted already: processes killed, and groups of them.
    before: (u64, u64),
    levels: Vec<Level>,
    /// Every cgroup up to the host's root is among the levels.
    whole: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    cpu_user: Option<u64>,
    cpu_system: Option<u64>,
    peak: Option<u64>,
    read: Option<u64>,
    written: Option<u64>,
    killed: u64,
    groups: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// v2: microseconds.
    CpuStat,
    /// v1: nanoseconds. The sum is exact, its parts are guessed by the clock's tick.
    Cpu,
    CpuUser,
    CpuSystem,
    Peak,
    Io,
    /// How many were killed in it, by whichever limit.
    Killed,
}

/// One level, from the container's own upwards.
struct Level {
    path: String,
    counter: Counter,
}

/// Tells how often the kernel killed because a cgroup was at its limit.
enum Counter {
    /// v2: `oom` of memory.events.local, which counts for this level alone, and what it was in the beginning; of
    /// memory.events for the container's own level, so that a limit it has set to a part of itself is its own too.
    Local { events: Source, before: u64 },
    /// v1: a level is told when it or one above it is at its limit. The control file stays open, as the registration is
    /// its.
    Told { eventfd: OwnedFd, _control: Source },
}

impl Account {
    /// None where the container has no cgroup. What the kernel does not count is left out.
    pub fn open(paths: &CgroupPaths) -> Result<Option<Account>> {
        let layout = Layout::detect(Some("/"))?;
        let handle = Handle::open(layout.clone(), paths)?;
        let Some(base) = handle.base() else { return Ok(None) };
        let paths = handle.paths();
        let open = |index: usize, path: &str, file: &str| match base.open_source(&layout.below_base(index, path, file))
        {
            Ok(source) => Ok(Some(source)),
            Err(Errno::ENOENT | Errno::ENODEV | Errno::EACCES) => Ok(None),
            Err(errno) => Err(system(&format!("open {file} of"), &layout, index, path, errno)),
        };
        let mut account = Account { own: Vec::new(), before: (0, 0), levels: Vec::new(), whole: false };
        let mut add = |controller: &str, v1: &[(Part, &str)], v2: &[(Part, &str)]| -> Result<()> {
            let Some(index) = layout.find(controller).or(layout.unified()) else { return Ok(()) };
            for (part, file) in if layout.hierarchies[index].v2 { v2 } else { v1 } {
                account.own.extend(open(index, &paths[index], file)?.map(|source| (*part, source)));
            }
            Ok(())
        };
        let cpu_v1 = [
            (Part::Cpu, "cpuacct.usage"),
            (Part::CpuUser, "cpuacct.usage_user"),
            (Part::CpuSystem, "cpuacct.usage_sys"),
        ];
        add("cpuacct", &cpu_v1, &[(Part::CpuStat, "cpu.stat")])?;
        let memory_v1 = [(Part::Killed, "memory.oom_control"), (Part::Peak, "memory.max_usage_in_bytes")];
        add("memory", &memory_v1, &[(Part::Killed, "memory.events"), (Part::Peak, "memory.peak")])?;
        if let Some(index) = layout.find("blkio").or(layout.unified()) {
            let files = if layout.hierarchies[index].v2 { &["io.stat"] } else { SERVICE_BYTES };
            for file in files {
                if let Some(source) = open(index, &paths[index], file)? {
                    account.own.push((Part::Io, source));
                    if counts_always(file) {
                        break;
                    }
                }
            }
        }
        let counted = account.count();
        account.before = (counted.killed, counted.groups);
        if let Some(index) = layout.find("memory") {
            let top = top_of_the_host(base, &layout, index)?;
            account.whole = top;
            // The root of a cgroup namespace can have a limit, the host's has none.
            let mut next = Some(paths[index].as_str()).filter(|path| !path.is_empty() || !top);
            while let Some(path) = next {
                let counter = if layout.hierarchies[index].v2 {
                    let events = if account.levels.is_empty() { "memory.events" } else { "memory.events.local" };
                    open(index, path, events)?.map(Counter::local)
                } else if let Some(control) = open(index, path, "memory.oom_control")? {
                    match Counter::told(base, &layout.below_base(index, path, "cgroup.event_control"), control) {
                        Ok(counter) => Some(counter),
                        // One that was given to us from its parts on.
                        Err(Errno::EACCES | Errno::EPERM) => None,
                        Err(errno) => return Err(system("watch the memory of", &layout, index, path, errno)),
                    }
                } else {
                    None
                };
                let Some(counter) = counter else {
                    account.whole = false;
                    break;
                };
                account.levels.push(Level { path: path.to_owned(), counter });
                let above = path.rsplit_once('/').map(|(above, _)| above);
                next = above.filter(|above| !above.is_empty() || !top);
            }
        }
        Ok(Some(account))
    }

    /// What there is to say now. A cgroup that is gone says nothing.
    pub fn close(self) -> Usage {
        let now = self.count();
        let killed = now.killed.saturating_sub(self.before.0);
        Usage {
            cpu_user: now.cpu_user,
            cpu_system: now.cpu_system,
            memory_peak: now.peak,
            io_read: now.read,
            io_written: now.written,
            oom: (killed > 0).then(|| self.verdict(killed, now.groups > self.before.1)),
        }
    }

    fn count(&self) -> Counted {
        let mut counted = Counted::default();
        let (mut cpu, mut user, mut system) = (None, 0, 0);
        let mut buffer = Vec::new();
        for (part, source) in &self.own {
            if source.read_again(&mut buffer).is_err() {
                continue;
            }
            let text = String::from_utf8_lossy(&buffer);
            match part {
                Part::CpuStat => {
                    counted.cpu_user = Some(field(&text, "user_usec"));
                    counted.cpu_system = Some(field(&text, "system_usec"));
                }
                Part::Cpu => cpu = Some(number(&text) / 1000),
                Part::CpuUser => user = number(&text),
                Part::CpuSystem => system = number(&text),
                Part::Io => {
                    let [read, written] = transferred(&text);
                    counted.read = Some(counted.read.unwrap_or(0).max(read));
                    counted.written = Some(counted.written.unwrap_or(0).max(written));
                }
                Part::Peak => counted.peak = Some(number(&text)),
                Part::Killed => {
                    (counted.killed, counted.groups) = (field(&text, "oom_kill"), field(&text, "oom_group_kill"));
                }
            }
        }
        if let Some(cpu) = cpu {
            let (user, system) = shared(cpu, user, system);
            (counted.cpu_user, counted.cpu_system) = (Some(user), Some(system));
        }
        counted
    }

    /// The nearest cgroup that came to its limit since the account was opened; the host where none did of all there are.
    fn verdict(&self, killed: u64, group: bool) -> Oom {
        let times: Vec<u64> = self.levels.iter().map(|level| level.counter.times()).collect();
        let alone = self.levels.first().is_some_and(|own| own.counter.is_local());
        let (verdict, ancestor) = match at_limit(&times, alone) {
            // On v1 the highest one is told of what happens above it too.
            Some(at) if !alone && !self.whole && at + 1 == times.len() => (OomVerdict::Unseen, None),
            Some(0) => (OomVerdict::Limit, None),
            Some(above) => (OomVerdict::Ancestor, Some(named(&self.levels[above].path))),
            None if self.whole => (OomVerdict::Host, None),
            None => (OomVerdict::Unseen, None),
        };
        Oom { killed, verdict, ancestor, group }
    }
}

fn named(path: &str) -> String {
    if path.is_empty() { "/".to_owned() } else { path.to_owned() }
}

/// A sum in two parts that are to each other as those two are; all of it the first where nothing is known.
fn shared(sum: u64, first: u64, second: u64) -> (u64, u64) {
    let second = match u128::from(first) + u128::from(second) {
        0 => 0,
        whole => (u128::from(sum) * u128::from(second) / whole) as u64,
    };
    (sum - second, second)
}

/// Whether the top of a mounted hierarchy is the host's: in a cgroup namespace there may be more above. Only there v2 has no
/// cgroup.events, and only there v1 has a release_agent.
fn top_of_the_host(base: &Dir, layout: &Layout, index: usize) -> Result<bool> {
    let v2 = layout.hierarchies[index].v2;
    let file = if v2 { "cgroup.events" } else { "release_agent" };
    let there = base.exists(&layout.below_base(index, "", file));
    Ok(there.map_err(|errno| system("look at", layout, index, "/", errno))? != v2)
}

/// Which level was at its limit, by what each level counted. Where levels do not count for themselves alone, one counts
/// whatever those above it do.
fn at_limit(times: &[u64], alone: bool) -> Option<usize> {
    let above = times.iter().skip(1).chain([&0]);
    times.iter().zip(above).position(|(own, above)| if alone { *own > 0 } else { own > above })
}

impl Counter {
    fn local(events: Source) -> Self {
        let before = ooms(&events);
        Counter::Local { events, before }
    }

    fn told(base: &Dir, event_control: &str, control: Source) -> std::result::Result<Self, Errno> {
        let eventfd = event::eventfd()?;
        let line = format!("{} {}", eventfd.as_raw_fd(), control.as_fd().as_raw_fd());
        base.write(event_control, &line)?;
        Ok(Counter::Told { eventfd, _control: control })
    }

    fn is_local(&self) -> bool {
        matches!(self, Counter::Local { .. })
    }

    /// Since the beginning, or the last time that it was asked.
    fn times(&self) -> u64 {
        match self {
            Counter::Local { events, before } => ooms(events).saturating_sub(*before),
            Counter::Told { eventfd, .. } => event::take_count(eventfd).unwrap_or(0),
        }
    }
}

fn ooms(events: &Source) -> u64 {
    let mut buffer = Vec::new();
    events.read_again(&mut buffer).map_or(0, |()| field(&String::from_utf8_lossy(&buffer), "oom"))
}

#[cfg(test)]
mod tests {
    use super::{at_limit, shared};

    #[test]
    fn a_sum_is_shared_out_whole() {
        assert_eq!(shared(1000, 3, 1), (750, 250));
        assert_eq!(shared(1000, 0, 0), (1000, 0));
        assert_eq!(shared(1000, 0, 5), (0, 1000));
        assert_eq!(shared(7, u64::MAX, u64::MAX), (4, 3));
    }

    #[test]
    fn the_level_that_was_at_its_limit_is_told_from_those_that_hear_of_it() {
        assert_eq!(at_limit(&[1, 0, 0], true), Some(0));
        assert_eq!(at_limit(&[0, 2, 0], true), Some(1));
        assert_eq!(at_limit(&[0, 0, 0], true), None);
        assert_eq!(at_limit(&[1, 0, 0], false), Some(0));
        assert_eq!(at_limit(&[3, 3, 0], false), Some(1), "the parent's limit is heard of below");
        assert_eq!(at_limit(&[2, 2, 2], false), Some(2));
        assert_eq!(at_limit(&[0, 0], false), None);
        assert_eq!(at_limit(&[], true), None);
    }
}
