//! CPUs for a process that joins a container (config.md, "execCPUAffinity").

use oci_spec::runtime::Process;
use wharf_core::{Error, Result};

/// More than any kernel is built for (`CONFIG_NR_CPUS` is at most 8192).
const MOST: usize = 8192;

/// Where it runs, as masks for sched_setaffinity(2): bit n is CPU n, little endian.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affinity {
    /// From before it is in the container's cgroup.
    pub initial: Option<Cpus>,
    /// Once it is there.
    pub last: Option<Cpus>,
}

/// A list of CPUs with its text and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus {
    pub mask: Vec<u8>,
    pub text: String,
    pub pointer: &'static str,
}

pub fn judge(process: &Process) -> Result<Affinity> {
    let Some(affinity) = process.exec_cpu_affinity() else { return Ok(Affinity::default()) };
    let read = |text: &Option<String>, pointer| match text.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => cpus(text, pointer).map(Some),
    };
    Ok(Affinity {
        initial: read(affinity.initial(), "process/execCPUAffinity/initial")?,
        last: read(affinity.cpu_affinity_final(), "process/execCPUAffinity/final")?,
    })
}

/// `0-3,7`
fn cpus(text: &str, pointer: &'static str) -> Result<Cpus> {
    let wrong = |why: &str| Error::invalid(format!("CPUs {text:?}")).because(why).at(pointer);
    let mut mask = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |word: &str| word.parse::<usize>().map_err(|_| wrong("is no list of numbers and ranges"));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(wrong("a range begins above its end"));
        }
        if last >= MOST {
            return Err(wrong("there is no such CPU"));
        }
        mask.resize(mask.len().max(last / 64 * 8 + 8), 0);
        for cpu in first..=last {
            mask[cpu / 8] |= 1 << (cpu % 8);
        }
    }
    Ok(Cpus { mask, text: text.to_owned(), pointer })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_becomes_a_mask_of_whole_words() {
        assert_eq!(cpus("0", "").unwrap().mask, [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(cpus("1-3,9", "").unwrap().mask, [0b1110, 2, 0, 0, 0, 0, 0, 0]);
        let mask = cpus("64,0-1", "").unwrap().mask;
        assert_eq!((mask.len(), mask[0], mask[8]), (16, 3, 1));
        for text in ["3-1", "8192", "a", "1-", "99999999999999999999"] {
            assert!(cpus(text, "").is_err(), "{text}");
        }
    }
}
