//! Writes classic BPF for seccomp: returns, compares of arguments, and a tree over system call numbers.

use super::rules::{Branch, Condition, Leaf, Operator, Range};

/// One instruction, laid out as the kernel's `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// `BPF_LD | BPF_W | BPF_ABS`: loads a word of `struct seccomp_data`.
pub(super) const LOAD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`
pub(super) const AND: u16 = 0x54;
/// `BPF_JMP | BPF_JA`
pub(super) const JUMP: u16 = 0x05;
/// `BPF_JMP | BPF_JEQ | BPF_K`
pub(super) const JUMP_EQUAL: u16 = 0x15;
/// `BPF_JMP | BPF_JGT | BPF_K`
pub(super) const JUMP_GREATER: u16 = 0x25;
/// `BPF_JMP | BPF_JGE | BPF_K`
pub(super) const JUMP_GREATER_EQUAL: u16 = 0x35;
/// `BPF_RET | BPF_K`
pub(super) const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// A conditional jump reaches 255 instructions; the slack is for the jumps put in between.
const REACH: usize = 250;

/// A place in the program: instructions counted from its end.
pub(super) type Label = usize;

/// Writes a program from its end to its start, so that every target is known when a jump is written.
#[derive(Default)]
pub(super) struct Assembler {
    reversed: Vec<Instruction>,
    returns: Vec<(u32, Label)>,
}

impl Assembler {
    pub(super) fn finish(mut self) -> Vec<Instruction> {
        self.reversed.reverse();
        self.reversed
    }

    fn push(&mut self, code: u16, k: u32) -> Label {
        self.reversed.push(Instruction { code, jt: 0, jf: 0, k });
        self.reversed.len() - 1
    }

    /// What an instruction written next skips to get to `target`.
    fn distance(&self, target: Label) -> usize {
        self.reversed.len() - 1 - target
    }

    fn near(&mut self, target: Label) -> Label {
        if self.distance(target) <= REACH { target } else { self.push(JUMP, self.distance(target) as u32) }
    }

    /// Loads the word at `offset`, then goes on at `then`.
    pub(super) fn load(&mut self, offset: u32, then: Label) -> Label {
        if then + 1 != self.reversed.len() {
            self.push(JUMP, self.distance(then) as u32);
        }
        self.push(LOAD, offset)
    }

    /// A return of `action`: one within reach is used again.
    pub(super) fn ret(&mut self, action: u32) -> Label {
        let known = self.returns.iter().position(|(known, _)| *known == action);
        if let Some(at) = known {
            let label = self.returns[at].1;
            if self.distance(label) <= REACH {
                return label;
            }
        }
        let label = self.push(RETURN, action);
        match known {
            Some(at) => self.returns[at].1 = label,
            None => self.returns.push((action, label)),
        }
        label
    }

    /// A jump on the accumulator.
    pub(super) fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        let yes = self.near(yes);
        let no = self.near(no);
        let (jt, jf) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.reversed.push(Instruction { code, jt, jf, k });
        self.reversed.len() - 1
    }

    /// Decides by the system call number, which is in the accumulator.
    ///
    /// The kernel runs a filter once for each number when it is installed, so the tree is balanced by how many
    /// numbers lie in a range.
    pub(super) fn tree(&mut self, ranges: &[Range], rules: &Rules<'_>) -> Label {
        let mut sums = Vec::with_capacity(ranges.len() + 1);
        let mut sum = 0;
        sums.push(sum);
        for (index, range) in ranges.iter().enumerate() {
            let end = ranges.get(index + 1).map_or(u32::MAX, |next| next.start);
            sum += end.min(512).saturating_sub(range.start).max(1);
            sums.push(sum);
        }
        self.subtree(ranges, &sums, rules)
    }

    /// `sums` has one entry more than `ranges`: the weight of all before each, and of all.
    fn subtree(&mut self, ranges: &[Range], sums: &[u32], rules: &Rules<'_>) -> Label {
        if let [range] = ranges {
            return match range.leaf {
                Leaf::Always(action) => self.ret(action),
                Leaf::When(index) => self.block(&rules.branches[usize::from(index)], rules),
            };
        }
        let half = sums[0] + (sums[ranges.len()] - sums[0]) / 2;
        let mut split = sums.partition_point(|sum| *sum < half).clamp(1, ranges.len() - 1);
        if split > 1 && half - sums[split - 1] < sums[split].saturating_sub(half) {
            split -= 1;
        }
        let high = self.subtree(&ranges[split..], &sums[split..], rules);
        let low = self.subtree(&ranges[..split], &sums[..=split], rules);
        self.branch(JUMP_GREATER_EQUAL, ranges[split].start, high, low)
    }

    /// The first branch whose conditions all hold decides; none: the default action.
    fn block(&mut self, branches: &[Branch], rules: &Rules<'_>) -> Label {
        let mut next = self.ret(rules.default);
        for branch in branches.iter().rev() {
            let mut yes = self.ret(branch.action);
            for condition in branch.conditions.iter().rev() {
                yes = self.condition(condition, rules.wide, yes, next);
            }
            next = yes;
        }
        next
    }

    /// Compares an argument; both halves where the architecture is 64 bits wide.
    fn condition(&mut self, condition: &Condition, wide: bool, yes: Label, no: Label) -> Label {
        let low_word = ARGUMENTS + 8 * u32::from(condition.argument);
        let high_word = low_word + 4;
        let (value, mask) = (condition.value, condition.mask);
        let (low, high) = (value as u32, (value >> 32) as u32);
        match condition.operator {
            Operator::MaskedEqual => {
                let (low_mask, high_mask) = (mask as u32, (mask >> 32) as u32);
                let mut label = yes;
                if low_mask != 0 {
                    label = self.word(low_word, low_mask, JUMP_EQUAL, low, label, no);
                }
                if wide && high_mask != 0 {
                    label = self.word(high_word, high_mask, JUMP_EQUAL, high, label, no);
                }
                label
            }
            Operator::Equal | Operator::NotEqual => {
                let (yes, no) = if condition.operator == Operator::Equal { (yes, no) } else { (no, yes) };
                let label = self.word(low_word, u32::MAX, JUMP_EQUAL, low, yes, no);
                if wide { self.word(high_word, u32::MAX, JUMP_EQUAL, high, label, no) } else { label }
            }
            Operator::Greater | Operator::GreaterEqual | Operator::Less | Operator::LessEqual => {
                let (code, yes, no) = match condition.operator {
                    Operator::Greater => (JUMP_GREATER, yes, no),
                    Operator::GreaterEqual => (JUMP_GREATER_EQUAL, yes, no),
                    Operator::Less => (JUMP_GREATER_EQUAL, no, yes),
                    _ => (JUMP_GREATER, no, yes),
                };
                let label = self.word(low_word, u32::MAX, code, low, yes, no);
                if !wide {
                    return label;
                }
                let equal = self.branch(JUMP_EQUAL, high, label, no);
                self.word(high_word, u32::MAX, JUMP_GREATER, high, yes, equal)
            }
        }
    }

    fn word(&mut self, offset: u32, mask: u32, code: u16, k: u32, yes: Label, no: Label) -> Label {
        let mut label = self.branch(code, k, yes, no);
        if mask != u32::MAX {
            label = self.push(AND, mask);
        }
        self.load(offset, label)
    }
}

/// What the leaves of a tree refer to.
pub(super) struct Rules<'a> {
    pub(super) branches: &'a [Vec<Branch>],
    pub(super) default: u32,
    /// Arguments are 64 bits wide.
    pub(super) wide: bool,
}
