//! What the node shows of a container's limits and ids in its own terms. What holds is what the cgroup and the plan say.

use crate::config;
use wharf_core::Bundle;
use wharf_plan::{Mapping, Namespaces};

const MIB: u64 = 1 << 20;
/// Least that the node takes.
const LEAST: u64 = 16;
/// What every unprivileged container of a node has by itself.
const USUAL: Mapping = Mapping { inside: 0, outside: 100_000, size: 65536 };

/// Memory and swap in MiB: the limits rounded up, or what the host has.
pub(crate) fn memory(bundle: &Bundle) -> (u64, u64) {
    let resources = bundle.spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let memory = resources.and_then(|resources| resources.memory().as_ref());
    let positive = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0);
    let limit = positive(memory.and_then(|memory| memory.limit()));
    let both = positive(memory.and_then(|memory| memory.swap()));
    let (all, all_swap) = host();
    let swap = match (limit, both) {
        (Some(limit), Some(both)) => both.saturating_sub(limit),
        _ => all_swap,
    };
    (limit.unwrap_or(all).div_ceil(MIB).max(LEAST), swap.div_ceil(MIB))
}

/// Bytes of memory and swap of the host.
fn host() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key))?;
        value.trim().split(' ').next()?.parse::<u64>().ok()
    };
    (1024 * kib("MemTotal:").unwrap_or_default(), 1024 * kib("SwapTotal:").unwrap_or_default())
}

/// The lines for other ids than the usual ones: by these the node knows who is root in it.
pub(crate) fn maps(namespaces: &Namespaces) -> Vec<String> {
    let usual = [&namespaces.uid_map, &namespaces.gid_map].iter().all(|map| map.as_slice() == [USUAL]);
    match namespaces.new_user() && !usual {
        true => config::id_maps(namespaces).map(|map| format!("lxc.idmap: {map}")).collect(),
        false => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_sys::namespace::flag;

    #[test]
    fn other_ids_are_told_and_the_usual_ones_are_not() {
        let with = |map: Mapping| Namespaces {
            new: flag::NEWUSER,
            uid_map: vec![map],
            gid_map: vec![USUAL],
            ..Namespaces::default()
        };
        assert_eq!(maps(&with(USUAL)), Vec::<String>::new());
        let other = Mapping { outside: 200_000, ..USUAL };
        assert_eq!(maps(&with(other)), ["lxc.idmap: u 0 200000 65536", "lxc.idmap: g 0 100000 65536"]);
    }
}
