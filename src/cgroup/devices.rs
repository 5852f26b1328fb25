//! The device rules of a container: read, completed with the defaults, and written for cgroup v1.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use wharf_core::{Error, Result};

/// Bits of an access, as BPF_DEVCG_ACC_* has them.
pub(crate) const MKNOD: u8 = 1;
pub(crate) const READ: u8 = 2;
pub(crate) const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;

/// Kinds of devices, as BPF_DEVCG_DEV_* has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Block = 1,
    Char = 2,
}

/// One rule. The last rule that speaks of a device and of one bit of access decides that bit; what no rule speaks of is
/// denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) allow: bool,
    /// None: both kinds.
    pub(crate) node: Option<Node>,
    /// None: every number.
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
    pub(crate) access: u8,
    /// Where it was asked for; empty for a default.
    pub(crate) at: String,
}

impl Rule {
    fn everything(&self) -> bool {
        self.node.is_none() && self.major.is_none() && self.minor.is_none() && self.access == ALL
    }

    fn of(&self, node: Node) -> bool {
        self.node.is_none_or(|own| own == node)
    }

    /// As devices.allow reads it: `c 1:3 rwm`.
    fn line(&self) -> String {
        let node = match self.node {
            None => 'a',
            Some(Node::Block) => 'b',
            Some(Node::Char) => 'c',
        };
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        let mut access = String::new();
        for (bit, letter) in [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')] {
            if self.access & bit != 0 {
                access.push(letter);
            }
        }
        format!("{node} {}:{} {access}", number(self.major), number(self.minor))
    }
}

/// What every container may use whatever its rules say, as in runc: making any node, and the devices that runtime-spec
/// puts into every container (null zero full random urandom tty ptmx and the slaves of pts). A container's /dev/console
/// is such a slave; the host's own, 5:1, is not among them.
pub(crate) fn defaults() -> Vec<Rule> {
    let any = |node| rule(Some(node), None, None, MKNOD);
    let char = |major, minor| rule(Some(Node::Char), Some(major), minor, ALL);
    let mut rules = vec![any(Node::Char), any(Node::Block)];
    rules.extend([3, 5, 7, 8, 9].map(|minor| char(1, Some(minor))));
    rules.extend([0, 2].map(|minor| char(5, Some(minor))));
    rules.push(char(136, None));
    rules
}

fn rule(node: Option<Node>, major: Option<u32>, minor: Option<u32>, access: u8) -> Rule {
    Rule { allow: true, node, major, minor, access, at: String::new() }
}

/// The rules of config.json in their order, then the defaults. As in runc, a container without rules has the defaults.
pub(crate) fn read(asked: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>> {
    let mut rules = Vec::with_capacity(asked.len() + 12);
    for (index, one) in asked.iter().enumerate() {
        rules.push(read_one(one, &format!("linux/resources/devices/{index}"))?);
    }
    rules.extend(defaults());
    Ok(rules)
}

/// One number for a list of rules, kept to tell the same list from another (FNV-1a).
pub(crate) fn fingerprint(rules: &[Rule]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for rule in rules {
        for byte in [u8::from(rule.allow)].into_iter().chain(rule.line().bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
    hash
}

fn read_one(one: &LinuxDeviceCgroup, at: &str) -> Result<Rule> {
    let node = match one.typ() {
        None | Some(LinuxDeviceType::A) => None,
        Some(LinuxDeviceType::B) => Some(Node::Block),
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(Node::Char),
        Some(LinuxDeviceType::P) => {
            return Err(Error::invalid("device rule of type p")
                .because("a fifo is not a device that a cgroup judges")
                .at(format!("{at}/type")));
        }
    };
    // The kernel's dev_t has 12 bits of major and 20 of minor.
    let number = |value: Option<i64>, most: i64, name: &str| match value {
        None | Some(-1) => Ok(None),
        Some(value) if (0..=most).contains(&value) => Ok(Some(value as u32)),
        Some(value) => Err(Error::invalid(format!("device rule with {name} {value}"))
            .because(format!("a {name} number is 0 to {most}, or -1 for every one"))
            .at(format!("{at}/{name}"))),
    };
    let mut access = 0;
    for letter in one.access().as_deref().unwrap_or_default().chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => {
                return Err(Error::invalid(format!("device rule with access {letter:?}"))
                    .because("access is made of r, w and m")
                    .at(format!("{at}/access")));
            }
        };
    }
    if access == 0 {
        return Err(Error::invalid("device rule without access")
            .because("access is made of r, w and m")
            .at(format!("{at}/access")));
    }
    Ok(Rule {
        allow: one.allow(),
        node,
        major: number(one.major(), 4095, "major")?,
        minor: number(one.minor(), 1_048_575, "minor")?,
        access,
        at: at.to_owned(),
    })
}

/// One command for a v1 hierarchy: the file and the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) allow: bool,
    pub(crate) line: String,
    pub(crate) at: String,
}

/// What the kernel keeps on v1: one default and a list of exceptions to it, all of them equal.
#[derive(Debug)]
struct Folded {
    allow: bool,
    exceptions: Vec<Rule>,
}

/// Whether every rule is the same as no rule.
pub(crate) fn allow_everything(rules: &[Rule]) -> bool {
    fold(rules).is_ok_and(|folded| folded.allow && folded.exceptions.is_empty())
}

/// The commands that give a v1 cgroup these rules. Order means nothing to the kernel there, and removing a part of a
/// wider exception is silently no change, so rules that need it are refused.
pub(crate) fn lines(rules: &[Rule]) -> Result<Vec<Line>> {
    let folded = fold(rules)?;
    let mut exceptions = folded.exceptions;
    if !folded.allow {
        join_readers_with_writers(&mut exceptions);
    }
    let whole = Line { allow: folded.allow, line: "a".to_owned(), at: String::new() };
    let exceptions = exceptions.into_iter().map(|rule| Line { allow: !folded.allow, line: rule.line(), at: rule.at });
    Ok(std::iter::once(whole).chain(exceptions).collect())
}

fn fold(rules: &[Rule]) -> Result<Folded> {
    let mut folded = Folded { allow: false, exceptions: Vec::new() };
    for rule in rules {
        if rule.everything() {
            folded = Folded { allow: rule.allow, exceptions: Vec::new() };
            continue;
        }
        for node in [Node::Block, Node::Char] {
            if rule.of(node) {
                apply(&mut folded, &Rule { node: Some(node), ..rule.clone() })?;
            }
        }
    }
    Ok(folded)
}

fn apply(folded: &mut Folded, rule: &Rule) -> Result<()> {
    if rule.allow != folded.allow {
        match folded.exceptions.iter_mut().find(|other| same_devices(other, rule)) {
            Some(other) => other.access |= rule.access,
            None => folded.exceptions.push(rule.clone()),
        }
        return Ok(());
    }
    for exception in &mut folded.exceptions {
        if exception.access & rule.access == 0 || intersect(exception, rule).is_none() {
            continue;
        }
        if !covers(rule, exception) {
            let verb = if rule.allow { "allow" } else { "deny" };
            let at = if rule.at.is_empty() { &exception.at } else { &rule.at };
            return Err(Error::unsupported(format!("device rule {verb} {}", rule.line()))
                .because(format!("cgroup v1 cannot make an exception to the wider rule {}", exception.line()))
                .at(at));
        }
        exception.access &= !rule.access;
    }
    folded.exceptions.retain(|exception| exception.access != 0);
    Ok(())
}

fn same_devices(one: &Rule, other: &Rule) -> bool {
    (one.node, one.major, one.minor) == (other.node, other.major, other.minor)
}

fn covers(wide: &Rule, narrow: &Rule) -> bool {
    intersect(wide, narrow).is_some_and(|both| both == (narrow.node, narrow.major, narrow.minor))
}

type Devices = (Option<Node>, Option<u32>, Option<u32>);

fn intersect(one: &Rule, other: &Rule) -> Option<Devices> {
    fn meet<T: PartialEq + Copy>(one: Option<T>, other: Option<T>) -> Option<Option<T>> {
        match (one, other) {
            (Some(a), Some(b)) if a != b => None,
            (a, b) => Some(a.or(b)),
        }
    }
    Some((meet(one.node, other.node)?, meet(one.major, other.major)?, meet(one.minor, other.minor)?))
}

/// The kernel wants one exception that holds all bits of a request, and opening for both asks for two: where one
/// exception gives reading and another writing, their common devices get an exception of both.
fn join_readers_with_writers(exceptions: &mut Vec<Rule>) {
    const BOTH: u8 = READ | WRITE;
    for first in 0..exceptions.len() {
        for second in 0..first {
            let (a, b) = (&exceptions[first], &exceptions[second]);
            if (a.access | b.access) & BOTH != BOTH || a.access & BOTH == BOTH || b.access & BOTH == BOTH {
                continue;
            }
            let Some((node, major, minor)) = intersect(a, b) else { continue };
            let joined = Rule { node, major, minor, access: a.access | b.access, ..a.clone() };
            match exceptions.iter_mut().find(|other| same_devices(other, &joined)) {
                Some(other) => other.access |= joined.access,
                None => exceptions.push(joined),
            }
        }
    }
}

/// The meaning of rules, as the tests of both compilers take it.
#[cfg(test)]
pub(crate) fn judge(rules: &[Rule], node: Node, major: u32, minor: u32, access: u8) -> bool {
    let speaks = |rule: &&Rule, bit: u8| {
        rule.of(node)
            && rule.major.is_none_or(|own| own == major)
            && rule.minor.is_none_or(|own| own == minor)
            && rule.access & bit != 0
    };
    [MKNOD, READ, WRITE]
        .into_iter()
        .filter(|bit| access & bit != 0)
        .all(|bit| rules.iter().rev().find(|rule| speaks(rule, bit)).is_some_and(|rule| rule.allow))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn some_rules() -> impl Strategy<Value = Vec<Rule>> {
        let node = prop_oneof![Just(None), Just(Some(Node::Block)), Just(Some(Node::Char))];
        let number = || prop_oneof![Just(None), (0u32..4).prop_map(Some)];
        let one = (any::<bool>(), node, number(), number(), 1u8..8);
        let one = one.prop_map(|(allow, node, major, minor, access)| Rule {
            allow,
            node,
            major,
            minor,
            access,
            at: "x".to_owned(),
        });
        proptest::collection::vec(one, 0..8)
    }

    pub(crate) fn every_request() -> impl Iterator<Item = (Node, u32, u32, u8)> {
        let nodes = [Node::Block, Node::Char].into_iter();
        nodes.flat_map(|node| {
            (0..5u32).flat_map(move |major| {
                (0..5u32).flat_map(move |minor| [1u8, 2, 4, 6].map(move |access| (node, major, minor, access)))
            })
        })
    }

    /// devcgroup_legacy_check_permission of the kernel, over the lines we would write.
    fn kernel_v1(lines: &[Line], node: Node, major: u32, minor: u32, access: u8) -> bool {
        let default = lines[0].allow;
        assert_eq!(lines[0].line, "a");
        let exceptions: Vec<(bool, u8)> = lines[1..]
            .iter()
            .map(|line| {
                assert_eq!(line.allow, !default);
                let words: Vec<&str> = line.line.split([' ', ':']).collect();
                let number = |word: &str, own: u32| word == "*" || word == own.to_string();
                let letter = if node == Node::Block { "b" } else { "c" };
                let mut bits = 0;
                for (letter, bit) in [("r", READ), ("w", WRITE), ("m", MKNOD)] {
                    if words[3].contains(letter) {
                        bits |= bit;
                    }
                }
                (words[0] == letter && number(words[1], major) && number(words[2], minor), bits)
            })
            .collect();
        if default {
            !exceptions.iter().any(|(speaks, bits)| *speaks && bits & access != 0)
        } else {
            exceptions.iter().any(|(speaks, bits)| *speaks && access & !bits == 0)
        }
    }

    proptest! {
        #[test]
        fn v1_lines_mean_what_the_rules_say_or_are_refused(rules in some_rules()) {
            if let Ok(lines) = lines(&rules) {
                for (node, major, minor, access) in every_request() {
                    let expected = judge(&rules, node, major, minor, access);
                    let got = kernel_v1(&lines, node, major, minor, access);
                    prop_assert_eq!(got, expected, "{:?} {}:{} {} {:?}", node, major, minor, access, &lines);
                }
            }
        }
    }

    fn parse(text: &str) -> Result<Vec<Rule>> {
        read(&serde_json::from_str::<Vec<LinuxDeviceCgroup>>(text).unwrap())
    }

    #[test]
    fn without_rules_only_the_defaults_are_allowed() {
        let lines = lines(&parse("[]").unwrap()).unwrap();
        let text: Vec<&str> = lines.iter().map(|line| line.line.as_str()).collect();
        let expected = [
            "a",
            "c *:* m",
            "b *:* m",
            "c 1:3 rwm",
            "c 1:5 rwm",
            "c 1:7 rwm",
            "c 1:8 rwm",
            "c 1:9 rwm",
            "c 5:0 rwm",
            "c 5:2 rwm",
            "c 136:* rwm",
        ];
        assert_eq!(text, expected);
        assert!(!lines[0].allow && lines[1..].iter().all(|line| line.allow));
    }

    #[test]
    fn a_privileged_container_is_allowed_everything() {
        let rules = parse(r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"a","access":"rwm"}]"#).unwrap();
        assert!(allow_everything(&rules));
        assert_eq!(lines(&rules).unwrap(), [Line { allow: true, line: "a".to_owned(), at: String::new() }]);
        assert!(!allow_everything(&parse("[]").unwrap()));
    }

    #[test]
    fn what_v1_cannot_say_is_refused_with_its_pointer() {
        let text = r#"[{"allow":true,"type":"c","access":"rw"},{"allow":false,"type":"c","major":4,"access":"w"}]"#;
        let error = lines(&parse(text).unwrap()).unwrap_err();
        assert_eq!(error.pointer(), Some("linux/resources/devices/1"));
        assert!(error.to_string().contains("deny c 4:* w"), "{error}");
    }

    #[test]
    fn malformed_rules_are_refused_with_their_pointer() {
        for (text, at) in [
            (r#"[{"allow":true}]"#, "0/access"),
            (r#"[{"allow":true,"access":"rx"}]"#, "0/access"),
            (r#"[{"allow":true,"access":"r","type":"p"}]"#, "0/type"),
            (r#"[{"allow":true,"access":"r"},{"allow":true,"access":"r","major":4096}]"#, "1/major"),
            (r#"[{"allow":true,"access":"r","minor":-2}]"#, "0/minor"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.pointer(), Some(format!("linux/resources/devices/{at}").as_str()));
        }
    }
}
