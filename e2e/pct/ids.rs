//! Which ids root may map (§3, unprivileged): the node's own /etc/subuid and /etc/subgid, which newuidmap(1) reads for LXC.

use crate::config::Section;
use crate::lxc::{COUNT, FIRST};
use crate::world::World;
use std::fs;

/// A range of ids inside, where it begins outside, and its length.
type Range = (u64, u64, u64);

/// What newuidmap or newgidmap says of the first range that is not root's to map.
pub(crate) fn refusal(world: &World, section: &Section) -> Option<String> {
    for (kind, program) in [("u", "newuidmap"), ("g", "newgidmap")] {
        let text = fs::read_to_string(world.path(&format!("etc/sub{kind}id"))).unwrap_or_default();
        let given: Vec<(u64, u64)> = text.lines().filter_map(of_root).collect();
        let is_given = |(_, outside, count): &Range| {
            given.iter().any(|(first, length)| first <= outside && outside + count <= first + length)
        };
        if let Some((inside, outside, count)) = maps(section, kind).into_iter().find(|range| !is_given(range)) {
            let (last, outer) = (inside + count, outside + count);
            return Some(format!("{program}: {kind}id range [{inside}-{last}) -> [{outside}-{outer}) not allowed"));
        }
    }
    None
}

/// `root:FIRST:COUNT`.
fn of_root(line: &str) -> Option<(u64, u64)> {
    let mut parts = line.trim().split(':');
    let is_root = parts.next() == Some("root");
    let range = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    is_root.then_some(range)
}

/// The raw lines, or else the usual map of an unprivileged container.
fn maps(section: &Section, kind: &str) -> Vec<Range> {
    let raw: Vec<&str> =
        section.raw.iter().filter(|(key, _)| key == "lxc.idmap").map(|(_, value)| value.as_str()).collect();
    if raw.is_empty() {
        let usual = section.is("unprivileged").then_some((0, u64::from(FIRST), u64::from(COUNT)));
        return usual.into_iter().collect();
    }
    let parse = |line: &str| {
        let parts: Vec<&str> = line.split_whitespace().collect();
        let [of, inside, outside, count] = parts.as_slice() else { return None };
        (*of == kind).then_some((inside.parse().ok()?, outside.parse().ok()?, count.parse().ok()?))
    };
    raw.into_iter().filter_map(parse).collect()
}
