//! The texts of the kernel's counters, and where in the answer each belongs.

use crate::statistics::{AmountPart, Part};
use std::collections::BTreeMap;
use wharf_core::{BlockIoEntry, Pressure, Stall, Statistics};

/// One table of block I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    ServiceBytes,
    Serviced,
    Queued,
    ServiceTime,
    WaitTime,
    Merged,
    Time,
    Sectors,
}

/// On v1, the best first. A scheduler that weighs has the first ones, and they are empty where it is not in use; the throttle
/// counts without one. So the first that shows a device is the one, and [`counts_always`] the last to be looked at.
pub(crate) const SERVICE_BYTES: &[&str] = &[
    "blkio.bfq.io_service_bytes_recursive",
    "blkio.io_service_bytes_recursive",
    "blkio.throttle.io_service_bytes_recursive",
    "blkio.throttle.io_service_bytes",
];

pub(crate) fn counts_always(file: &str) -> bool {
    file.starts_with("blkio.throttle.")
}

/// Each table by the files that may hold it on v1, the best first.
pub(crate) const BLOCK_IO: [(Table, &[&str]); 8] = [
    (Table::ServiceBytes, SERVICE_BYTES),
    (
        Table::Serviced,
        &[
            "blkio.bfq.io_serviced_recursive",
            "blkio.io_serviced_recursive",
            "blkio.throttle.io_serviced_recursive",
            "blkio.throttle.io_serviced",
        ],
    ),
    (Table::Queued, &["blkio.bfq.io_queued_recursive", "blkio.io_queued_recursive"]),
    (Table::ServiceTime, &["blkio.bfq.io_service_time_recursive", "blkio.io_service_time_recursive"]),
    (Table::WaitTime, &["blkio.bfq.io_wait_time_recursive", "blkio.io_wait_time_recursive"]),
    (Table::Merged, &["blkio.bfq.io_merged_recursive", "blkio.io_merged_recursive"]),
    (Table::Time, &["blkio.bfq.time_recursive", "blkio.time_recursive"]),
    (Table::Sectors, &["blkio.bfq.sectors_recursive", "blkio.sectors_recursive"]),
];

/// v1 files of the cpuset, in the order of [`set_flag`].
pub(crate) const CPUSET_FLAGS: [&str; 9] = [
    "cpuset.cpu_exclusive",
    "cpuset.mem_hardwall",
    "cpuset.mem_exclusive",
    "cpuset.memory_migrate",
    "cpuset.memory_spread_page",
    "cpuset.memory_spread_slab",
    "cpuset.memory_pressure",
    "cpuset.sched_load_balance",
    "cpuset.sched_relax_domain_level",
];

/// A whole file that is one number; `max` is the highest, and anything else 0.
pub(crate) fn number(text: &str) -> u64 {
    match text.trim() {
        "max" => u64::MAX,
        digits => digits.parse().unwrap_or(0),
    }
}

/// The number behind a word at the beginning of a line; 0 where there is none.
pub(crate) fn field(text: &str, name: &str) -> u64 {
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found.map_or(0, number)
}

/// Puts the text of one file where it belongs.
pub(crate) fn fill(found: &mut Statistics, part: Part, text: &str) {
    let usage = &mut found.cpu.usage;
    match part {
        Part::CpuUsage => usage.total = number(text),
        Part::CpuUser => usage.user = number(text),
        Part::CpuSystem => usage.kernel = number(text),
        Part::CpuPerCpu => usage.percpu = text.split_ascii_whitespace().map(number).collect(),
        // A head, then: number of the processor, user, system.
        Part::CpuAll => {
            for line in text.lines().skip(1) {
                let mut fields = line.split_ascii_whitespace().skip(1).map(number);
                usage.percpu_user.push(fields.next().unwrap_or(0));
                usage.percpu_kernel.push(fields.next().unwrap_or(0));
            }
        }
        Part::CpuThrottling => throttling(found, text, "throttled_time", 1),
        Part::CpuStat => {
            usage.total = field(text, "usage_usec") * 1000;
            usage.user = field(text, "user_usec") * 1000;
            usage.kernel = field(text, "system_usec") * 1000;
            throttling(found, text, "throttled_usec", 1000);
        }
        Part::MemoryStat => {
            found.memory.raw = fields(text);
            found.memory.cache = field(text, "cache");
        }
        Part::MemoryStat2 => {
            found.memory.raw = fields(text);
            found.memory.cache = field(text, "file");
        }
        Part::Amount(which, part) => {
            let memory = &mut found.memory;
            let amount = [&mut memory.usage, &mut memory.swap, &mut memory.kernel, &mut memory.kernel_tcp]
                .into_iter()
                .nth(which);
            let Some(amount) = amount else { return };
            match part {
                AmountPart::Usage => amount.usage = number(text),
                AmountPart::Max => amount.max = number(text),
                AmountPart::Limit => amount.limit = number(text),
                AmountPart::Failures => amount.failcnt = number(text),
            }
        }
        // v1 counts swap with memory, and so does the answer.
        Part::SwapUsage => found.memory.swap.usage = number(text).saturating_add(found.memory.usage.usage),
        Part::SwapLimit => found.memory.swap.limit = number(text).saturating_add(found.memory.usage.limit),
        Part::PidsCurrent => found.pids.current = number(text),
        Part::PidsLimit => found.pids.limit = if text.trim() == "max" { 0 } else { number(text) },
        Part::Cpus => found.cpuset.cpus = list(text),
        Part::Mems => found.cpuset.mems = list(text),
        Part::CpusetFlag(flag) => set_flag(found, flag, text),
        Part::BlockIo(table) if !entries(found, table).is_empty() => {}
        Part::BlockIo(table) => *entries(found, table) = block_io(text),
        Part::IoStat => io_stat(found, text),
        Part::CpuPressure => found.cpu.psi = pressure(text),
        Part::MemoryPressure => found.memory.psi = pressure(text),
        Part::IoPressure => found.blkio.psi = pressure(text),
        Part::HugetlbUsage(_) | Part::HugetlbMax(_) | Part::HugetlbFailures(_) | Part::HugetlbEvents(_) => {}
    }
}

fn throttling(found: &mut Statistics, text: &str, time: &str, nanoseconds: u64) {
    let throttling = &mut found.cpu.throttling;
    throttling.periods = field(text, "nr_periods");
    throttling.throttled_periods = field(text, "nr_throttled");
    throttling.throttled_time = field(text, time) * nanoseconds;
}

fn set_flag(found: &mut Statistics, flag: usize, text: &str) {
    let set = &mut found.cpuset;
    let slot = match flag {
        0 => &mut set.cpu_exclusive,
        1 => &mut set.mem_hardwall,
        2 => &mut set.mem_exclusive,
        3 => &mut set.memory_migrate,
        4 => &mut set.memory_spread_page,
        5 => &mut set.memory_spread_slab,
        6 => &mut set.memory_pressure,
        7 => &mut set.sched_load_balance,
        _ => {
            set.sched_relax_domain_level = text.trim().parse().unwrap_or(0);
            return;
        }
    };
    *slot = number(text);
}

/// `NAME NUMBER`, a line each.
fn fields(text: &str) -> BTreeMap<String, u64> {
    let split = text.lines().filter_map(|line| line.split_once(' '));
    split.map(|(name, value)| (name.to_owned(), number(value))).collect()
}

/// `0-3,7`
fn list(text: &str) -> Vec<u16> {
    let mut all = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) {
            all.extend(first..=last);
        }
    }
    all
}

fn entries(found: &mut Statistics, table: Table) -> &mut Vec<BlockIoEntry> {
    let blkio = &mut found.blkio;
    match table {
        Table::ServiceBytes => &mut blkio.io_service_bytes_recursive,
        Table::Serviced => &mut blkio.io_serviced_recursive,
        Table::Queued => &mut blkio.io_queued_recursive,
        Table::ServiceTime => &mut blkio.io_service_time_recursive,
        Table::WaitTime => &mut blkio.io_wait_time_recursive,
        Table::Merged => &mut blkio.io_merged_recursive,
        Table::Time => &mut blkio.io_time_recursive,
        Table::Sectors => &mut blkio.sectors_recursive,
    }
}

fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// v1: `8:0 Read 512` or `8:0 512` a line; the sum in the last line is of no device.
fn block_io(text: &str) -> Vec<BlockIoEntry> {
    let entry = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (major, minor) = device(fields.first()?)?;
        let (op, value) = match fields.as_slice() {
            [_, value] => ("", value),
            [_, op, value] => (*op, value),
            _ => return None,
        };
        Some(BlockIoEntry { major, minor, op: op.to_owned(), value: value.parse().ok()? })
    };
    text.lines().filter_map(entry).collect()
}

/// v2: `8:0 rbytes=512 wbytes=0 rios=1 wios=0 dbytes=0 dios=0` a line.
fn io_stat(found: &mut Statistics, text: &str) {
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some((major, minor)) = words.next().and_then(device) else { continue };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let (table, op) = match name {
                "rbytes" => (Table::ServiceBytes, "Read"),
                "wbytes" => (Table::ServiceBytes, "Write"),
                "rios" => (Table::Serviced, "Read"),
                "wios" => (Table::Serviced, "Write"),
                _ => continue,
            };
            let entry = BlockIoEntry { major, minor, op: op.to_owned(), value: number(value) };
            entries(found, table).push(entry);
        }
    }
}

/// Bytes read and written, of all devices: io.stat, or a table of v1.
pub(crate) fn transferred(text: &str) -> [u64; 2] {
    let mut found = Statistics::default();
    let part = if text.contains('=') { Part::IoStat } else { Part::BlockIo(Table::ServiceBytes) };
    fill(&mut found, part, text);
    ["Read", "Write"].map(|op| {
        let all = found.blkio.io_service_bytes_recursive.iter().filter(|entry| entry.op == op);
        all.map(|entry| entry.value).sum()
    })
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same for `full`.
fn pressure(text: &str) -> Option<Pressure> {
    let mut found = Pressure::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let slot = match words.next() {
            Some("some") => &mut found.some,
            Some("full") => &mut found.full,
            _ => return None,
        };
        let mut stall = Stall::default();
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            match name {
                "avg10" => stall.avg10 = value.parse().ok()?,
                "avg60" => stall.avg60 = value.parse().ok()?,
                "avg300" => stall.avg300 = value.parse().ok()?,
                "total" => stall.total = value.parse().ok()?,
                _ => {}
            }
        }
        *slot = stall;
    }
    (!text.is_empty()).then_some(found)
}

/// The kernel's directories `hugepages-2048kB` as its control files are called: `2MB`.
pub(crate) fn page_sizes(directories: &[String]) -> Vec<String> {
    let size = |name: &String| {
        let kilobytes: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let (number, unit) = match kilobytes {
            large if large >= 1 << 20 => (large >> 20, "GB"),
            middle if middle >= 1 << 10 => (middle >> 10, "MB"),
            small => (small, "KB"),
        };
        Some(format!("{number}{unit}"))
    };
    let mut sizes: Vec<String> = directories.iter().filter_map(size).collect();
    sizes.sort_unstable();
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(parts: &[(Part, &str)]) -> Statistics {
        let mut found = Statistics::default();
        parts.iter().for_each(|(part, text)| fill(&mut found, *part, text));
        found
    }

    #[test]
    fn processor_time_of_both_versions_is_in_nanoseconds() {
        let v1 = filled(&[
            (Part::CpuUsage, "3000\n"),
            (Part::CpuPerCpu, "1000 2000 \n"),
            (Part::CpuAll, "cpu user system\n0 600 400\n1 1500 500\n"),
            (Part::CpuUser, "2100\n"),
            (Part::CpuSystem, "900\n"),
            (Part::CpuThrottling, "nr_periods 7\nnr_throttled 3\nthrottled_time 55\n"),
        ]);
        let usage = &v1.cpu.usage;
        assert_eq!((usage.total, usage.user, usage.kernel), (3000, 2100, 900));
        assert_eq!(usage.percpu, [1000, 2000]);
        assert_eq!((&usage.percpu_user[..], &usage.percpu_kernel[..]), (&[600, 1500][..], &[400, 500][..]));
        assert_eq!(v1.cpu.throttling.throttled_time, 55);
        let text = "usage_usec 3\nuser_usec 2\nsystem_usec 1\nnr_periods 7\nnr_throttled 3\nthrottled_usec 5\n";
        let v2 = filled(&[(Part::CpuStat, text)]);
        assert_eq!((v2.cpu.usage.total, v2.cpu.usage.user, v2.cpu.usage.kernel), (3000, 2000, 1000));
        assert_eq!((v2.cpu.throttling.periods, v2.cpu.throttling.throttled_time), (7, 5000));
    }

    #[test]
    fn swap_is_told_with_memory_and_no_limit_stays_none() {
        let parts = [
            (Part::Amount(0, AmountPart::Usage), "100\n"),
            (Part::Amount(0, AmountPart::Limit), "1000\n"),
            (Part::SwapUsage, "10\n"),
            (Part::SwapLimit, "max\n"),
            (Part::MemoryStat2, "anon 60\nfile 40\n"),
            (Part::PidsLimit, "max\n"),
        ];
        let found = filled(&parts);
        assert_eq!((found.memory.swap.usage, found.memory.swap.limit), (110, u64::MAX));
        assert_eq!((found.memory.cache, found.memory.raw["anon"], found.pids.limit), (40, 60, 0));
    }

    #[test]
    fn block_io_of_both_versions_has_one_form() {
        let entry = |op: &str, value| BlockIoEntry { major: 8, minor: 16, op: op.to_owned(), value };
        let v1 = filled(&[
            (Part::BlockIo(Table::ServiceBytes), "Total 0\n"),
            (Part::BlockIo(Table::ServiceBytes), "8:16 Read 512\n8:16 Write 7\nTotal 519\n"),
            (Part::BlockIo(Table::ServiceBytes), "8:16 Read 1\nTotal 1\n"),
            (Part::BlockIo(Table::Sectors), "8:16 9\n"),
        ]);
        assert_eq!(v1.blkio.io_service_bytes_recursive, [entry("Read", 512), entry("Write", 7)]);
        assert_eq!(v1.blkio.sectors_recursive, [entry("", 9)]);
        let v2 = filled(&[(Part::IoStat, "8:16 rbytes=512 wbytes=7 rios=2 wios=1 dbytes=4 dios=4\n")]);
        assert_eq!(v2.blkio.io_service_bytes_recursive, [entry("Read", 512), entry("Write", 7)]);
        assert_eq!(v2.blkio.io_serviced_recursive, [entry("Read", 2), entry("Write", 1)]);
        assert_eq!(transferred("8:16 Read 512\n8:16 Write 7\n8:0 Read 1\nTotal 520\n"), [513, 7]);
        assert_eq!(transferred("8:16 rbytes=512 wbytes=7 rios=2 wios=1\n8:0 rbytes=1 wbytes=0\n"), [513, 7]);
        assert_eq!(transferred(""), [0, 0]);
    }

    #[test]
    fn pressure_is_read_where_the_kernel_tells_it() {
        let text = "some avg10=1.50 avg60=0.00 avg300=0.25 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n";
        let found = pressure(text).unwrap();
        assert_eq!((found.some.avg10, found.some.avg300, found.some.total, found.full.total), (1.5, 0.25, 77, 5));
        assert_eq!(pressure(""), None);
    }

    #[test]
    fn lists_and_page_sizes_are_spelled_out() {
        assert_eq!(list("0-2,7\n"), [0, 1, 2, 7]);
        assert!(list("\n").is_empty());
        let names = ["hugepages-2048kB", "hugepages-1048576kB", "hugepages-64kB", "other"].map(str::to_owned);
        assert_eq!(page_sizes(&names), ["1GB", "2MB", "64KB"]);
    }

    #[test]
    fn the_answer_has_the_names_that_engines_parse() {
        let value = serde_json::to_value(filled(&[(Part::PidsCurrent, "3\n")])).unwrap();
        let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
        let expected = ["blkio", "cpu", "cpuset", "hugetlb", "intel_rdt", "memory", "network_interfaces", "pids"];
        assert_eq!(keys, expected);
        assert_eq!(value["pids"], serde_json::json!({ "current": 3 }));
        assert_eq!(value["cpu"], serde_json::json!({ "usage": { "kernel": 0, "user": 0 }, "throttling": {} }));
        let memory = &value["memory"];
        assert_eq!(memory["kernelTCP"], serde_json::json!({ "limit": 0, "failcnt": 0 }));
        assert!(value["network_interfaces"].is_null() && value["intel_rdt"].is_object());
    }
}
