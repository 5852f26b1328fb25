//! Writes limits in their order, and can put back what was there before.

use crate::blockio::NO_WEIGHT;
use crate::handle::system;
use crate::layout::Layout;
use crate::wanted::{Missing, Write};
use wharf_core::{Error, Result};
use wharf_sys::Errno;
use wharf_sys::cgroup_fs::Dir;

/// The control files of one container, in every hierarchy.
#[derive(Clone, Copy)]
pub(crate) struct Files<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) base: &'a Dir,
    /// One a hierarchy, below its mount point.
    pub(crate) paths: &'a [String],
    /// Levels made just now, one number a hierarchy: in a new cgroup nothing is used.
    pub(crate) made: &'a [u32],
}

/// What was in a file before it was written.
#[derive(Debug)]
pub(crate) struct Before {
    hierarchy: usize,
    file: String,
    value: String,
}

/// Where the values of before are kept, if they are.
pub(crate) type Journal<'a> = Option<&'a mut Vec<Before>>;

impl Files<'_> {
    pub(crate) fn at(&self, hierarchy: usize, file: &str) -> String {
        self.layout.below_base(hierarchy, &self.paths[hierarchy], file)
    }

    pub(crate) fn failed(&self, doing: &str, hierarchy: usize, errno: Errno) -> Error {
        system(doing, self.layout, hierarchy, &self.paths[hierarchy], errno)
    }

    pub(crate) fn write_all(&self, writes: &[Write], mut journal: Journal<'_>) -> Result<()> {
        let mut again: Option<&Write> = None;
        for write in writes {
            match self.write(write, journal.as_deref_mut()) {
                // EBUSY: memory.memsw, where memory.limit_in_bytes would be above it.
                Err((Errno::EINVAL | Errno::EBUSY, _)) if write.or_after_next => again = Some(write),
                Err((_, error)) => return Err(error),
                Ok(()) => {
                    if let Some(earlier) = again.take() {
                        self.write(earlier, journal.as_deref_mut()).map_err(|(_, error)| error)?;
                    }
                }
            }
        }
        match again {
            Some(write) => self.write(write, journal).map_err(|(_, error)| error),
            None => Ok(()),
        }
    }

    fn write(&self, write: &Write, mut journal: Journal<'_>) -> std::result::Result<(), (Errno, Error)> {
        let hierarchy = write.hierarchy;
        let failed = |file: &str, value: &str, errno: Errno| {
            let error = self.failed(&format!("write {value:?} to {file} of"), hierarchy, errno);
            let error = error.at(write.at.clone());
            (
                errno,
                match (errno, &write.missing) {
                    (Errno::ENOENT, Missing::Refuse(why)) => error.because(why),
                    (Errno::ENOENT, Missing::Instead { .. }) => error.because(NO_WEIGHT),
                    // The kernel has tried to take back what is above the limit.
                    (Errno::EBUSY, _) if file == "memory.limit_in_bytes" => match self.used(hierarchy, file) {
                        Some(used) => error.because(format!("it uses {used} bytes, which cannot be taken back")),
                        None => error,
                    },
                    _ => error,
                },
            )
        };
        if write.above_usage && self.made[hierarchy] == 0 {
            let used = self.used(hierarchy, &write.file).unwrap_or_default();
            if write.value.parse::<u64>().is_ok_and(|limit| limit < used) {
                let error = self.failed("limit memory of", hierarchy, Errno::EBUSY);
                let error = error.because(format!("it uses {used} bytes, more than {}", write.value));
                return Err((Errno::ENOMEM, error.at(write.at.clone())));
            }
        }
        match (self.put(hierarchy, &write.file, &write.value, journal.as_deref_mut()), &write.missing) {
            (Ok(()), _) | (Err(Errno::ENOENT), Missing::Skip) => Ok(()),
            (Err(Errno::ENOENT), Missing::Instead { file, value }) => {
                self.put(hierarchy, file, value, journal).map_err(|errno| failed(file, value, errno))
            }
            (Err(errno), _) => Err(failed(&write.file, &write.value, errno)),
        }
    }

    /// Bytes that are used of what a file of the memory controller limits.
    fn used(&self, hierarchy: usize, file: &str) -> Option<u64> {
        let counter = if file == "memory.max" { "memory.current" } else { "memory.usage_in_bytes" };
        self.base.read_value(&self.at(hierarchy, counter)).ok()?.parse().ok()
    }

    fn put(&self, hierarchy: usize, file: &str, value: &str, journal: Journal<'_>) -> std::result::Result<(), Errno> {
        let full = self.at(hierarchy, file);
        let Some(journal) = journal else { return self.base.write(&full, value) };
        // A file that cannot be read is a command (memory.reclaim): there is nothing to put back.
        let old = self.base.read_value(&full).ok();
        if old.as_deref() == Some(value) {
            return Ok(());
        }
        self.base.write(&full, value)?;
        if let Some(value) = old.and_then(|old| command_of(file, value, &old)) {
            journal.push(Before { hierarchy, file: file.to_owned(), value });
        }
        Ok(())
    }

    /// Puts everything back, the last written first: every state on the way is one that was already. What fails is
    /// added to the error.
    pub(crate) fn put_back(&self, journal: Vec<Before>, error: Error) -> Error {
        let mut failures = Vec::new();
        for Before { hierarchy, file, value } in journal.into_iter().rev() {
            if let Err(errno) = self.base.write(&self.at(hierarchy, &file), &value) {
                failures.push(self.failed(&format!("put {value:?} back into {file} of"), hierarchy, errno).to_string());
            }
        }
        if failures.is_empty() { error } else { error.hint(format!("and then: {}", failures.join("; "))) }
    }
}

/// What must be written to a file that shows `old`, to undo the writing of `value`.
fn command_of(file: &str, value: &str, old: &str) -> Option<String> {
    let key = value.split(' ').next().unwrap_or_default();
    let is_device = key.split_once(':').is_some_and(|(major, minor)| {
        [major, minor].iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    });
    if is_device || matches!(file, "rdma.max" | "net_prio.ifpriomap") {
        if let Some(line) = old.lines().find(|line| line.split_whitespace().next() == Some(key)) {
            return Some(line.to_owned());
        }
        let none = match file {
            "io.max" => "rbps=max wbps=max riops=max wiops=max",
            "io.latency" => "target=0",
            "rdma.max" => "hca_handle=max hca_object=max",
            "net_prio.ifpriomap" => "0",
            _ if file.starts_with("blkio.throttle.") => "0",
            _ if file.contains("weight") => "default",
            _ => return None,
        };
        return Some(format!("{key} {none}"));
    }
    if file == "memory.oom_control" {
        return old.lines().find_map(|line| line.strip_prefix("oom_kill_disable ")).map(str::to_owned);
    }
    // The first line is the whole, or the default beside those of single devices.
    Some(old.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::command_of;

    #[test]
    fn what_was_there_is_put_back_in_the_words_that_the_file_takes() {
        for (file, value, old, expected) in [
            ("pids.max", "5", "max", Some("max")),
            ("cpu.max", "5000 10000", "max 100000", Some("max 100000")),
            ("cpuset.cpus", "0", "", Some("")),
            ("io.weight", "50", "default 100\n8:0 30", Some("default 100")),
            ("io.weight", "8:0 50", "default 100\n8:0 30", Some("8:0 30")),
            ("io.weight", "8:16 50", "default 100\n8:0 30", Some("8:16 default")),
            ("io.max", "8:0 rbps=1", "8:0 rbps=7 wbps=max", Some("8:0 rbps=7 wbps=max")),
            ("io.max", "8:0 rbps=1", "", Some("8:0 rbps=max wbps=max riops=max wiops=max")),
            ("blkio.throttle.read_bps_device", "8:0 1", "", Some("8:0 0")),
            (
                "rdma.max",
                "mlx hca_handle=1",
                "mlx hca_handle=max hca_object=9",
                Some("mlx hca_handle=max hca_object=9"),
            ),
            ("net_prio.ifpriomap", "lo 3", "lo 1\neth0 2", Some("lo 1")),
            ("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0", Some("0")),
            ("io.unheard_of", "8:0 1", "", None),
        ] {
            assert_eq!(command_of(file, value, old).as_deref(), expected, "{file} {value}");
        }
    }
}
