//! The NUMA policy by which every process of the container gets its memory.

use crate::Builder;
use oci_spec::runtime::{MemoryPolicyFlagType, MemoryPolicyModeType, Spec};
use wharf_core::{Error, Result};
use wharf_steps::Step;

/// Nodes of the largest kernel (CONFIG_NODES_SHIFT is at most 10).
const MOST_NODES: u32 = 1024;

/// The arguments of set_mempolicy(2): the mode with its flags, and one bit a node in whole words, empty for none.
pub(crate) fn judge(spec: &Spec) -> Result<Option<(u32, Vec<u8>)>> {
    let Some(policy) = spec.linux().as_ref().and_then(|linux| linux.memory_policy().as_ref()) else { return Ok(None) };
    let mode = match policy.mode() {
        MemoryPolicyModeType::MpolDefault => 0,
        MemoryPolicyModeType::MpolPreferred => 1,
        MemoryPolicyModeType::MpolBind => 2,
        MemoryPolicyModeType::MpolInterleave => 3,
        MemoryPolicyModeType::MpolLocal => 4,
        MemoryPolicyModeType::MpolPreferredMany => 5,
        MemoryPolicyModeType::MpolWeightedInterleave => 6,
    };
    let flags = policy.flags().iter().flatten().fold(0, |all, flag| {
        all | match flag {
            MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
            MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
            MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
        }
    });
    let nodes = mask(policy.nodes().as_deref().unwrap_or_default())?;
    Ok(Some((mode | flags, nodes)))
}

pub(crate) fn step((mode, nodes): (u32, &[u8]), plan: &mut Builder) {
    let nodes = plan.bytes(nodes);
    plan.step(Step::MemoryPolicy { mode, nodes }, "linux/memoryPolicy");
}

/// `0-3,7` as a mask.
fn mask(list: &str) -> Result<Vec<u8>> {
    let mut mask = Vec::new();
    if list.trim().is_empty() {
        return Ok(mask);
    }
    for range in list.split(',') {
        let wrong = |why: &str| {
            Error::invalid(format!("memory nodes {:?}", range.trim())).because(why).at("linux/memoryPolicy/nodes")
        };
        let node =
            |text: &str| text.trim().parse::<u32>().map_err(|_| wrong("must be a number, or two with a dash between"));
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (node(first)?, node(last)?),
            None => (node(range)?, node(range)?),
        };
        if first > last {
            return Err(wrong("begin after their end"));
        }
        if last >= MOST_NODES {
            return Err(wrong("no kernel has as many"));
        }
        for node in first..=last {
            let byte = node as usize / 8;
            if mask.len() <= byte {
                mask.resize((byte / 8 + 1) * 8, 0);
            }
            mask[byte] |= 1 << (node % 8);
        }
    }
    Ok(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_becomes_a_mask_in_whole_words() {
        assert!(mask("").unwrap().is_empty());
        assert_eq!(mask("0").unwrap(), [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(mask("0-2, 9").unwrap(), [7, 2, 0, 0, 0, 0, 0, 0]);
        assert_eq!(mask("64").unwrap()[8], 1);
        assert_eq!(mask("1023").unwrap().len(), 128);
        for bad in ["a", "2-1", "1-", "0-9876543210", "1024", ",", "-1"] {
            assert!(mask(bad).is_err(), "{bad:?}");
        }
    }
}
