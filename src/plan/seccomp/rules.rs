//! Holds, for one architecture, what is decided for each system call number.

use super::syscalls::ARM_PRIVATE;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    NotEqual,
    Less,
    LessEqual,
    Equal,
    GreaterEqual,
    Greater,
    MaskedEqual,
}

/// A test of one argument. `mask` is all ones unless the operator is `MaskedEqual`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) argument: u8,
    pub(super) operator: Operator,
    pub(super) value: u64,
    pub(super) mask: u64,
}

impl Condition {
    /// The condition as an architecture sees it: 32-bit ones compare the low halves alone. None: it always holds.
    fn seen(mut self, wide: bool) -> Option<Condition> {
        if !wide {
            self.value &= u64::from(u32::MAX);
            self.mask &= u64::from(u32::MAX);
        }
        if self.operator == Operator::MaskedEqual {
            self.value &= self.mask;
            if self.mask == 0 {
                return None;
            }
        }
        Some(self)
    }

    /// Where it stands among conditions of other rules: the first one is asked first.
    fn rank(&self) -> (u8, u8, u64) {
        let (class, value) = match self.operator {
            Operator::Equal | Operator::NotEqual | Operator::MaskedEqual => (0, !self.value),
            Operator::Less | Operator::LessEqual => (1, self.value),
            Operator::Greater | Operator::GreaterEqual => (2, !self.value),
        };
        (!self.argument, class, value)
    }
}

/// An action taken when all of its conditions hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Branch {
    pub(super) conditions: Vec<Condition>,
    pub(super) action: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaf {
    Always(u32),
    /// Index into the branches.
    When(u16),
}

/// Numbers from `start` to the next range's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: u32,
    pub(super) leaf: Leaf,
}

/// Two rules of one system call ask the same and answer differently.
pub(super) struct Contradiction;

/// Common numbers end below; ARM's own calls take the slots from here.
const COMMON: usize = 576;
const SLOTS: usize = COMMON + 16;

pub(super) struct Decisions {
    slots: Vec<Option<Leaf>>,
    branches: Vec<Vec<Branch>>,
    wide: bool,
    /// The largest number named, of the common ones.
    newest: u32,
    /// The same among ARM's own.
    newest_private: Option<u32>,
}

impl Decisions {
    pub(super) fn new(wide: bool) -> Decisions {
        Decisions { slots: vec![None; SLOTS], branches: Vec::new(), wide, newest: 0, newest_private: None }
    }

    pub(super) fn branches(&self) -> &[Vec<Branch>] {
        &self.branches
    }

    /// Notes that the profile knows `number`.
    pub(super) fn name(&mut self, number: u32) {
        if number >= ARM_PRIVATE {
            self.newest_private = self.newest_private.max(Some(number));
        } else {
            self.newest = self.newest.max(number);
        }
    }

    /// Adds a rule. As libseccomp does: the first rule without conditions decides alone, whatever came or comes.
    pub(super) fn add(&mut self, number: u32, action: u32, conditions: &[Condition]) -> Result<(), Contradiction> {
        let slot = &mut self.slots[slot(number)];
        if let Some(Leaf::Always(_)) = slot {
            return Ok(());
        }
        if conditions.is_empty() {
            *slot = Some(Leaf::Always(action));
            return Ok(());
        }
        let conditions: Vec<Condition> = conditions.iter().filter_map(|condition| condition.seen(self.wide)).collect();
        if conditions.is_empty() {
            *slot = Some(Leaf::Always(action));
            return Ok(());
        }
        let branches = match slot {
            Some(Leaf::When(index)) => &mut self.branches[usize::from(*index)],
            _ => {
                let index = self.branches.len();
                *slot = Some(Leaf::When(index as u16));
                self.branches.push(Vec::new());
                &mut self.branches[index]
            }
        };
        match branches.iter().find(|branch| branch.conditions == conditions) {
            Some(same) if same.action == action => {}
            Some(_) => return Err(Contradiction),
            None => branches.push(Branch { conditions, action }),
        }
        Ok(())
    }

    /// Puts the rules of each system call in the order in which they are asked.
    pub(super) fn settle(&mut self) {
        for branches in &mut self.branches {
            if branches.iter().any(|branch| branch.action != branches[0].action) {
                branches.sort_by_cached_key(|branch| branch.conditions.iter().map(Condition::rank).collect::<Vec<_>>());
            }
        }
    }

    /// Appends the ranges of all numbers, each with `bit` added. `unknown`: what numbers newer than the profile get.
    pub(super) fn ranges(&self, bit: u32, default: u32, unknown: Option<u32>, ranges: &mut Vec<Range>) {
        let newer = if self.newest == 0 { None } else { unknown }.unwrap_or(default);
        for (number, slot) in (0..).zip(&self.slots[..COMMON]) {
            let unnamed = if number > self.newest { newer } else { default };
            append(ranges, bit + number, slot.unwrap_or(Leaf::Always(unnamed)));
        }
        if let Some(newest) = self.newest_private {
            for number in ARM_PRIVATE..=newest {
                append(ranges, number, self.slots[slot(number)].unwrap_or(Leaf::Always(default)));
            }
            append(ranges, newest + 1, Leaf::Always(newer));
        }
    }
}

/// Appends a range, or lengthens the last one.
pub(super) fn append(ranges: &mut Vec<Range>, start: u32, leaf: Leaf) {
    if ranges.last().is_none_or(|last| last.leaf != leaf) {
        ranges.push(Range { start, leaf });
    }
}

fn slot(number: u32) -> usize {
    if number >= ARM_PRIVATE { COMMON + (number - ARM_PRIVATE) as usize } else { number as usize }
}
