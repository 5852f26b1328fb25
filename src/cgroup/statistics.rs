//! What a container uses: every counter of its cgroup, from files that are opened once and read again and again.

use crate::handle::Handle;
use crate::layout::Layout;
use crate::parse::{self, Table};
use wharf_core::{CgroupPaths, Error, Hugetlb, Result, Statistics};
use wharf_sys::Errno;
use wharf_sys::cgroup_fs::{Dir, Source, list_names};

/// Which part of the answer a file is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// v1
    CpuUsage,
    CpuPerCpu,
    CpuAll,
    CpuUser,
    CpuSystem,
    CpuThrottling,
    MemoryStat,
    /// Of usage, swap, kernel, kernelTCP.
    Amount(usize, AmountPart),
    BlockIo(Table),
    CpusetFlag(usize),
    /// v2
    CpuStat,
    MemoryStat2,
    SwapUsage,
    SwapLimit,
    IoStat,
    /// Both
    Cpus,
    Mems,
    PidsCurrent,
    PidsLimit,
    HugetlbUsage(usize),
    HugetlbMax(usize),
    HugetlbFailures(usize),
    HugetlbEvents(usize),
    CpuPressure,
    MemoryPressure,
    IoPressure,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum AmountPart {
    Usage,
    Max,
    Limit,
    Failures,
}

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Every counter.
    All,
    /// Those of a scrape: CPU time and throttling, memory, processes, bytes of block devices. Of many containers, each
    /// file counts.
    Main,
}

impl Detail {
    fn has(self, part: Part) -> bool {
        use AmountPart::{Limit, Max, Usage};
        let main = match part {
            Part::CpuUsage | Part::CpuUser | Part::CpuSystem | Part::CpuThrottling | Part::CpuStat => true,
            Part::MemoryStat | Part::MemoryStat2 => true,
            Part::Amount(which, part) => which == 0 && matches!(part, Usage | Max | Limit),
            Part::PidsCurrent | Part::PidsLimit | Part::IoStat | Part::BlockIo(Table::ServiceBytes) => true,
            _ => false,
        };
        self == Detail::All || main
    }
}

/// The open files of one container.
pub struct Meter {
    sources: Vec<(Part, Source)>,
    /// As `2MB`.
    pages: Vec<String>,
    buffer: Vec<u8>,
    detail: Detail,
}

const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages";

impl Meter {
    /// Opens what there is: a controller that the host lacks counts nothing.
    pub fn open(paths: &CgroupPaths, detail: Detail) -> Result<Meter> {
        let layout = Layout::mounted()?;
        let handle = Handle::open(layout.clone(), paths)?;
        let Some(base) = handle.base() else {
            return Err(Error::unsupported("count what the container uses")
                .because("it has no cgroup")
                .hint(crate::handle::NO_CGROUP));
        };
        let pages = match detail {
            Detail::All => parse::page_sizes(&list_names(HUGE_PAGES).unwrap_or_default()),
            Detail::Main => Vec::new(),
        };
        let mut meter = Meter { sources: Vec::new(), pages, buffer: Vec::with_capacity(8192), detail };
        let paths = handle.payload_paths();
        for (index, path) in paths.iter().enumerate() {
            let opener = Opener { base, layout: &layout, index, path };
            if layout.hierarchies[index].v2 {
                meter.open_v2(&opener)?;
            } else {
                meter.open_v1(&opener)?;
            }
        }
        Ok(meter)
    }

    /// Whether nothing else has to be looked for.
    fn add(&mut self, opener: &Opener<'_>, part: Part, file: &str) -> Result<bool> {
        if !self.detail.has(part) {
            return Ok(true);
        }
        let found = opener.open(file)?;
        let is_there = found.is_some();
        self.sources.extend(found.map(|source| (part, source)));
        Ok(is_there)
    }

    fn open_v1(&mut self, opener: &Opener<'_>) -> Result<()> {
        use AmountPart::*;
        if opener.has("cpuacct") {
            self.add(opener, Part::CpuUsage, "cpuacct.usage")?;
            self.add(opener, Part::CpuPerCpu, "cpuacct.usage_percpu")?;
            self.add(opener, Part::CpuAll, "cpuacct.usage_all")?;
            self.add(opener, Part::CpuUser, "cpuacct.usage_user")?;
            self.add(opener, Part::CpuSystem, "cpuacct.usage_sys")?;
        }
        if opener.has("cpu") {
            self.add(opener, Part::CpuThrottling, "cpu.stat")?;
        }
        if opener.has("memory") {
            self.add(opener, Part::MemoryStat, "memory.stat")?;
            for (which, name) in ["", "memsw.", "kmem.", "kmem.tcp."].iter().enumerate() {
                for (part, file) in [
                    (Usage, "usage_in_bytes"),
                    (Max, "max_usage_in_bytes"),
                    (Limit, "limit_in_bytes"),
                    (Failures, "failcnt"),
                ] {
                    self.add(opener, Part::Amount(which, part), &format!("memory.{name}{file}"))?;
                }
            }
        }
        if opener.has("pids") {
            self.pids(opener)?;
        }
        if opener.has("cpuset") {
            self.add(opener, Part::Cpus, "cpuset.cpus")?;
            self.add(opener, Part::Mems, "cpuset.mems")?;
            for (flag, file) in parse::CPUSET_FLAGS.iter().enumerate() {
                self.add(opener, Part::CpusetFlag(flag), file)?;
            }
        }
        if opener.has("blkio") {
            for (table, names) in parse::BLOCK_IO {
                for name in names {
                    let there = self.add(opener, Part::BlockIo(table), name)?;
                    if there && parse::counts_always(name) {
                        break;
                    }
                }
            }
        }
        if opener.has("hugetlb") {
            for page in 0..self.pages.len() {
                let name = |word: &str| format!("hugetlb.{}.{word}", self.pages[page]);
                let [usage, max, failures] = [name("usage_in_bytes"), name("max_usage_in_bytes"), name("failcnt")];
                self.add(opener, Part::HugetlbUsage(page), &usage)?;
                self.add(opener, Part::HugetlbMax(page), &max)?;
                self.add(opener, Part::HugetlbFailures(page), &failures)?;
            }
        }
        Ok(())
    }

    /// Files that are not there are left out: whether a controller is enabled here, only they tell.
    fn open_v2(&mut self, opener: &Opener<'_>) -> Result<()> {
        use AmountPart::*;
        if !opener.beside("cpuacct") {
            self.add(opener, Part::CpuStat, "cpu.stat")?;
        }
        if !opener.beside("memory") {
            self.add(opener, Part::MemoryStat2, "memory.stat")?;
            self.add(opener, Part::Amount(0, Usage), "memory.current")?;
            self.add(opener, Part::Amount(0, Max), "memory.peak")?;
            self.add(opener, Part::Amount(0, Limit), "memory.max")?;
            // After those of the memory, which are added to them.
            self.add(opener, Part::SwapUsage, "memory.swap.current")?;
            self.add(opener, Part::SwapLimit, "memory.swap.max")?;
        }
        if !opener.beside("pids") {
            self.pids(opener)?;
        }
        if !opener.beside("cpuset") {
            self.add(opener, Part::Cpus, "cpuset.cpus.effective")?;
            self.add(opener, Part::Mems, "cpuset.mems.effective")?;
        }
        if !opener.beside("blkio") {
            self.add(opener, Part::IoStat, "io.stat")?;
        }
        for page in 0..self.pages.len() {
            let name = |word: &str| format!("hugetlb.{}.{word}", self.pages[page]);
            let [usage, events] = [name("current"), name("events")];
            self.add(opener, Part::HugetlbUsage(page), &usage)?;
            self.add(opener, Part::HugetlbEvents(page), &events)?;
        }
        self.add(opener, Part::CpuPressure, "cpu.pressure")?;
        self.add(opener, Part::MemoryPressure, "memory.pressure")?;
        self.add(opener, Part::IoPressure, "io.pressure")?;
        Ok(())
    }

    fn pids(&mut self, opener: &Opener<'_>) -> Result<()> {
        self.add(opener, Part::PidsCurrent, "pids.current")?;
        self.add(opener, Part::PidsLimit, "pids.max").map(drop)
    }

    /// Reads every counter. None when the cgroup has been removed.
    pub fn read(&mut self) -> Result<Option<Statistics>> {
        let mut found = Statistics::default();
        for (part, source) in &self.sources {
            match source.read_again(&mut self.buffer) {
                Ok(()) => {}
                Err(Errno::ENODEV) => return Ok(None),
                // Pressure that is switched off, counters that the kernel has no more.
                Err(Errno::EOPNOTSUPP) => continue,
                Err(errno) => {
                    return Err(Error::system(format!("read the counters of the cgroup ({part:?})"), errno as i32));
                }
            }
            let text = String::from_utf8_lossy(&self.buffer);
            match part {
                Part::HugetlbUsage(page) => self.page(&mut found, *page).usage = parse::number(&text),
                Part::HugetlbMax(page) => self.page(&mut found, *page).max = parse::number(&text),
                Part::HugetlbFailures(page) => self.page(&mut found, *page).failcnt = parse::number(&text),
                Part::HugetlbEvents(page) => self.page(&mut found, *page).failcnt = parse::field(&text, "max"),
                other => parse::fill(&mut found, *other, &text),
            }
        }
        Ok(Some(found))
    }

    fn page<'a>(&self, found: &'a mut Statistics, page: usize) -> &'a mut Hugetlb {
        found.hugetlb.entry(self.pages[page].clone()).or_default()
    }
}

struct Opener<'a> {
    base: &'a Dir,
    layout: &'a Layout,
    index: usize,
    path: &'a str,
}

impl Opener<'_> {
    fn has(&self, controller: &str) -> bool {
        self.layout.hierarchies[self.index].controllers.iter().any(|name| name == controller)
    }

    /// Whether a v1 hierarchy counts this.
    fn beside(&self, controller: &str) -> bool {
        let v1 = self.layout.hierarchies.iter().filter(|hierarchy| !hierarchy.v2);
        v1.into_iter().any(|hierarchy| hierarchy.controllers.iter().any(|name| name == controller))
    }

    fn open(&self, file: &str) -> Result<Option<Source>> {
        match self.base.open_source(&self.layout.below_base(self.index, self.path, file)) {
            Ok(source) => Ok(Some(source)),
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(None),
            Err(errno) => {
                Err(crate::handle::system(&format!("open {file} of"), self.layout, self.index, self.path, errno))
            }
        }
    }
}
