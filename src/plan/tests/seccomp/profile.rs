//! Profiles of the tests: written down, made at random, and decided by reading them rule by rule.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

use crate::interpreter::Call;

pub(crate) const X86_64: u32 = 0xc000_003e;
pub(crate) const X86: u32 = 0x4000_0003;
pub(crate) const AARCH64: u32 = 0xc000_00b7;
pub(crate) const ARM: u32 = 0x4000_0028;
pub(crate) const X32_BIT: u32 = 0x4000_0000;

pub(crate) const ALLOW: u32 = 0x7fff_0000;
pub(crate) const LOG: u32 = 0x7ffc_0000;
pub(crate) const TRACE: u32 = 0x7ff0_0000;
pub(crate) const ERRNO: u32 = 0x0005_0000;
pub(crate) const TRAP: u32 = 0x0003_0000;
pub(crate) const KILL_THREAD: u32 = 0;
pub(crate) const KILL_PROCESS: u32 = 0x8000_0000;

/// Numbers by name on x86_64, x86, x32, aarch64 and arm, read from the kernel's headers by hand.
pub(crate) const CALLS: &[(&str, [Option<u32>; 5])] = &[
    ("read", [Some(0), Some(3), Some(0), Some(63), Some(3)]),
    ("write", [Some(1), Some(4), Some(1), Some(64), Some(4)]),
    ("open", [Some(2), Some(5), Some(2), None, Some(5)]),
    ("close", [Some(3), Some(6), Some(3), Some(57), Some(6)]),
    ("ioctl", [Some(16), Some(54), Some(514), Some(29), Some(54)]),
    ("socket", [Some(41), Some(359), Some(41), Some(198), Some(281)]),
    ("connect", [Some(42), Some(362), Some(42), Some(203), Some(283)]),
    ("accept", [Some(43), None, Some(43), Some(202), Some(285)]),
    ("clone", [Some(56), Some(120), Some(56), Some(220), Some(120)]),
    ("semop", [Some(65), None, Some(65), Some(193), Some(298)]),
    ("shmget", [Some(29), Some(395), Some(29), Some(194), Some(307)]),
    ("socketcall", [None, Some(102), None, None, None]),
    ("ipc", [None, Some(117), None, None, None]),
    ("personality", [Some(135), Some(136), Some(135), Some(92), Some(136)]),
    ("mount", [Some(165), Some(21), Some(165), Some(40), Some(21)]),
    ("waitpid", [None, Some(7), None, None, None]),
    ("rt_sigaction", [Some(13), Some(174), Some(512), Some(134), Some(174)]),
    ("writev", [Some(20), Some(146), Some(516), Some(66), Some(146)]),
    ("unshare", [Some(272), Some(310), Some(272), Some(97), Some(337)]),
    ("bpf", [Some(321), Some(357), Some(321), Some(280), Some(386)]),
    ("clock_gettime64", [None, Some(403), None, None, Some(403)]),
    ("clone3", [Some(435), Some(435), Some(435), Some(435), Some(435)]),
    ("openat2", [Some(437), Some(437), Some(437), Some(437), Some(437)]),
    ("set_tls", [None, None, None, None, Some(0xf0005)]),
];

/// The number with which x86's socketcall or ipc makes the call.
pub(crate) fn multiplexed(name: &str) -> Option<(u32, u64)> {
    match name {
        "socket" => Some((102, 1)),
        "connect" => Some((102, 3)),
        "accept" => Some((102, 5)),
        "semop" => Some((117, 1)),
        "shmget" => Some((117, 23)),
        _ => None,
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Arg {
    pub(crate) index: usize,
    pub(crate) op: &'static str,
    pub(crate) value: u64,
    pub(crate) two: u64,
}

impl Arg {
    /// Whether it holds, read as the specification words it; `bits` is all ones of the word compared.
    fn holds(&self, arguments: &[u64; 6], bits: u64) -> bool {
        let (argument, value, two) = (arguments[self.index] & bits, self.value & bits, self.two & bits);
        match self.op {
            "SCMP_CMP_NE" => argument != value,
            "SCMP_CMP_LT" => argument < value,
            "SCMP_CMP_LE" => argument <= value,
            "SCMP_CMP_EQ" => argument == value,
            "SCMP_CMP_GE" => argument >= value,
            "SCMP_CMP_GT" => argument > value,
            "SCMP_CMP_MASKED_EQ" => argument & value == two & value,
            other => panic!("operator {other}"),
        }
    }

    fn always(&self, bits: u64) -> bool {
        self.op == "SCMP_CMP_MASKED_EQ" && self.value & bits == 0
    }

    /// Position among conditions of several rules, smallest first.
    fn order(&self, bits: u64) -> (usize, u8, u64) {
        let value = self.value & bits;
        match self.op {
            "SCMP_CMP_LT" | "SCMP_CMP_LE" => (5 - self.index, 1, value),
            "SCMP_CMP_GT" | "SCMP_CMP_GE" => (5 - self.index, 2, u64::MAX - value),
            "SCMP_CMP_MASKED_EQ" => (5 - self.index, 0, u64::MAX - (value & self.two)),
            _ => (5 - self.index, 0, u64::MAX - value),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) names: Vec<&'static str>,
    pub(crate) action: &'static str,
    pub(crate) errno: Option<u32>,
    pub(crate) args: Vec<Arg>,
}

#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) default: &'static str,
    pub(crate) errno: Option<u32>,
    pub(crate) architectures: Vec<&'static str>,
    pub(crate) rules: Vec<Rule>,
}

pub(crate) fn value(action: &str, errno: Option<u32>) -> u32 {
    match action {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => KILL_PROCESS,
        "SCMP_ACT_TRAP" => TRAP,
        "SCMP_ACT_ERRNO" => ERRNO | errno.unwrap_or(1),
        "SCMP_ACT_TRACE" => TRACE | errno.unwrap_or(1),
        "SCMP_ACT_LOG" => LOG,
        "SCMP_ACT_ALLOW" => ALLOW,
        other => panic!("action {other}"),
    }
}

impl Profile {
    pub(crate) fn json(&self) -> Value {
        let rules: Vec<Value> = self
            .rules
            .iter()
            .map(|rule| {
                let args: Vec<Value> = rule
                    .args
                    .iter()
                    .map(|arg| json!({"index": arg.index, "op": arg.op, "value": arg.value, "valueTwo": arg.two}))
                    .collect();
                let mut json = json!({"names": rule.names, "action": rule.action, "args": args});
                if let Some(errno) = rule.errno {
                    json["errnoRet"] = errno.into();
                }
                json
            })
            .collect();
        let mut json = json!({"defaultAction": self.default, "architectures": self.architectures, "syscalls": rules});
        if let Some(errno) = self.errno {
            json["defaultErrnoRet"] = errno.into();
        }
        json
    }

    fn column(&self, native: u32, call: &Call) -> Option<usize> {
        let listed = |name: &str| self.architectures.contains(&name);
        match (native, call.arch) {
            (X86_64, X86_64) if call.number < X32_BIT || call.number == u32::MAX => Some(0),
            (X86_64, X86_64) => listed("SCMP_ARCH_X32").then_some(2),
            (X86_64, X86) => listed("SCMP_ARCH_X86").then_some(1),
            (AARCH64, AARCH64) => Some(3),
            (AARCH64, ARM) => listed("SCMP_ARCH_ARM").then_some(4),
            _ => None,
        }
    }

    /// The largest number named on an architecture, ARM's own apart.
    pub(crate) fn newest(&self, column: usize, private: bool) -> u32 {
        let names = self.rules.iter().flat_map(|rule| &rule.names);
        let numbers = names.filter_map(|name| CALLS.iter().find(|(known, _)| known == name)?.1[column]);
        numbers.filter(|number| (*number >= 0xf0000) == private).max().unwrap_or(0)
    }

    /// What the profile asks for, found by reading it.
    pub(crate) fn decide(&self, native: u32, call: &Call) -> u32 {
        self.candidates(native, call)[0]
    }

    /// The same, and after it the actions of further rules that match.
    pub(crate) fn candidates(&self, native: u32, call: &Call) -> Vec<u32> {
        let default = value(self.default, self.errno);
        let Some(column) = self.column(native, call) else { return vec![KILL_THREAD] };
        if call.number == u32::MAX {
            return vec![default];
        }
        let number = if column == 2 { call.number & !X32_BIT } else { call.number };
        let bits = if column == 0 || column == 3 { u64::MAX } else { u64::from(u32::MAX) };

        let mut branches: Vec<(Vec<Arg>, u32)> = Vec::new();
        for rule in &self.rules {
            let action = value(rule.action, rule.errno);
            if action == default {
                continue;
            }
            let repeated = (0..6).any(|index| rule.args.iter().filter(|arg| arg.index == index).count() > 1);
            let mut alternatives = if repeated {
                rule.args.iter().map(|arg| vec![arg.clone()]).collect()
            } else {
                vec![rule.args.clone()]
            };
            for args in &mut alternatives {
                args.sort_by_key(|arg| arg.index);
            }
            for name in &rule.names {
                let numbers = CALLS.iter().find(|(known, _)| known == name).unwrap().1;
                for args in &alternatives {
                    if column == 1
                        && let Some((through, call)) = multiplexed(name)
                        && through == number
                    {
                        let mask = if through == 117 { 0xffff } else { u64::MAX };
                        let mut args: Vec<Arg> = args.iter().filter(|arg| arg.index != 0).cloned().collect();
                        args.insert(0, Arg { index: 0, op: "SCMP_CMP_MASKED_EQ", value: mask, two: call });
                        branches.push((args, action));
                    }
                    if numbers[column] == Some(number) {
                        branches.push((args.clone(), action));
                    }
                }
            }
        }
        if branches.is_empty() {
            let private = number >= 0xf0000;
            let denies = ![ALLOW, LOG].contains(&default) && default & 0x7fff_0000 != TRACE;
            let limit = if private { self.newest(column, true).max(0xeffff) } else { self.newest(column, false) };
            let newer = self.newest(column, false) != 0 && number > limit;
            return vec![if newer && denies { ERRNO | 38 } else { default }];
        }
        for (args, _) in &mut branches {
            args.retain(|arg| !arg.always(bits));
        }
        if let Some((_, action)) = branches.iter().find(|(args, _)| args.is_empty()) {
            return vec![*action];
        }
        branches.sort_by_key(|(args, _)| args.iter().map(|arg| arg.order(bits)).collect::<Vec<_>>());
        branches.retain(|(args, _)| args.iter().all(|arg| arg.holds(&call.arguments, bits)));
        let mut actions: Vec<u32> = branches.iter().map(|(_, action)| *action).collect();
        actions.dedup();
        if actions.is_empty() { vec![default] } else { actions }
    }

    /// Calls that the profile could treat specially: each number, with arguments around the values it names.
    pub(crate) fn calls(&self) -> Vec<Call> {
        let mut values = vec![0, 1, u64::MAX, 1 << 32];
        for arg in self.rules.iter().flat_map(|rule| &rule.args) {
            for value in [arg.value, arg.two, arg.value & arg.two] {
                values.extend([value, value.wrapping_add(1), value.wrapping_sub(1), value ^ (1 << 32)]);
            }
        }
        values.sort_unstable();
        values.dedup();
        let names: Vec<&str> = self.rules.iter().flat_map(|rule| &rule.names).copied().collect();
        let mut named: Vec<u32> = names.iter().filter_map(|name| Some(multiplexed(name)?.0)).collect();
        let known = CALLS.iter().filter(|(name, _)| names.contains(name));
        named.extend(known.flat_map(|(_, numbers)| numbers.iter().flatten()));
        let mut calls = Vec::new();
        for arch in [X86_64, X86, AARCH64, ARM, 8] {
            let numbers = (0..480)
                .filter(|number| number % 9 == 0 || named.iter().any(|named| named.abs_diff(*number) < 2))
                .chain([511, 512, 514, 516, 547, 548, 600, 0xeffff])
                .chain(0xf0000..0xf0008);
            let numbers = numbers.flat_map(|number| [number, number | X32_BIT]);
            for number in numbers.chain([0x7fff_ffff, 0x8000_0000, u32::MAX]) {
                if !named.contains(&(number & !X32_BIT)) {
                    calls.push(Call { arch, number, arguments: [0; 6] });
                    continue;
                }
                for (turn, value) in values.iter().enumerate() {
                    let mut arguments = [0; 6];
                    for (index, argument) in arguments.iter_mut().enumerate() {
                        *argument = values[(turn * (index + 1) + index) % values.len()];
                    }
                    arguments[turn % 3] = *value;
                    calls.push(Call { arch, number, arguments });
                }
                for call in [1, 3, 5, 23, 0x1_0017] {
                    calls.push(Call { arch, number, arguments: [call, values[0], values[values.len() / 2], 0, 0, 0] });
                }
            }
        }
        calls
    }
}

const OPERATORS: [&str; 7] =
    ["SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"];

fn arg() -> impl Strategy<Value = Arg> {
    let value = || {
        prop_oneof![
            4 => 0_u64..6,
            2 => select(vec![0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, 0x7_0000_0003, u64::MAX, 1 << 63]),
            1 => any::<u64>(),
        ]
    };
    (0_usize..3, select(OPERATORS.to_vec()), value(), value()).prop_map(|(index, op, value, two)| Arg {
        index,
        op,
        value,
        two,
    })
}

fn action() -> impl Strategy<Value = (&'static str, Option<u32>)> {
    prop_oneof![
        select(vec![
            "SCMP_ACT_KILL",
            "SCMP_ACT_KILL_THREAD",
            "SCMP_ACT_KILL_PROCESS",
            "SCMP_ACT_TRAP",
            "SCMP_ACT_LOG",
            "SCMP_ACT_ALLOW",
        ])
        .prop_map(|action| (action, None)),
        (select(vec!["SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"]), prop_oneof![Just(None), (0_u32..40).prop_map(Some)]),
    ]
}

/// Profiles over `CALLS`.
pub(crate) fn profiles() -> impl Strategy<Value = Profile> {
    profiles_of(CALLS.iter().map(|(name, _)| *name).collect(), 12)
}

/// Profiles whose rules are nearly all for the same system call, so that many of them match at once.
pub(crate) fn overlapping() -> impl Strategy<Value = Profile> {
    profiles_of(vec!["personality", "read"], 5)
}

fn profiles_of(names: Vec<&'static str>, most: usize) -> impl Strategy<Value = Profile> {
    let args = prop_oneof![1 => Just(vec![]), most as u32 / 2 => vec(arg(), 1..=2)];
    let rule = (vec(select(names), 1..5), action(), args).prop_map(|(names, (action, errno), args)| Rule {
        names,
        action,
        errno,
        args,
    });
    let architectures = vec![
        "SCMP_ARCH_X86_64",
        "SCMP_ARCH_X86",
        "SCMP_ARCH_X32",
        "SCMP_ARCH_AARCH64",
        "SCMP_ARCH_ARM",
        "SCMP_ARCH_MIPS64",
    ];
    (action(), subsequence(architectures, 0..=6).prop_shuffle(), vec(rule, 0..most))
        .prop_map(|((default, errno), architectures, rules)| Profile { default, errno, architectures, rules })
}
