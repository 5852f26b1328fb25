//! seccompiler as the judge, for what it can say: one action for matches, one for the rest, on one architecture.

use std::collections::BTreeMap;

use ::seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use proptest::prelude::*;
use wharf_plan::seccomp::{Instruction, Machine};

use crate::compiled;
use crate::interpreter::{Call, run};
use crate::profile::{AARCH64, Arg, CALLS, Profile, X86_64, overlapping, profiles};

fn condition(arg: &Arg) -> SeccompCondition {
    let (operator, value) = match arg.op {
        "SCMP_CMP_NE" => (SeccompCmpOp::Ne, arg.value),
        "SCMP_CMP_LT" => (SeccompCmpOp::Lt, arg.value),
        "SCMP_CMP_LE" => (SeccompCmpOp::Le, arg.value),
        "SCMP_CMP_EQ" => (SeccompCmpOp::Eq, arg.value),
        "SCMP_CMP_GE" => (SeccompCmpOp::Ge, arg.value),
        "SCMP_CMP_GT" => (SeccompCmpOp::Gt, arg.value),
        _ => (SeccompCmpOp::MaskedEq(arg.value), arg.two & arg.value),
    };
    SeccompCondition::new(arg.index as u8, SeccompCmpArgLen::Qword, operator, value).unwrap()
}

/// seccompiler's program for a profile whose rules all allow and whose default traps.
fn program(profile: &Profile, column: usize, arch: TargetArch) -> Vec<Instruction> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut whole = Vec::new();
    for rule in &profile.rules {
        let repeated = (0..6).any(|index| rule.args.iter().filter(|arg| arg.index == index).count() > 1);
        for name in &rule.names {
            let numbers = CALLS.iter().find(|(known, _)| known == name).unwrap().1;
            let Some(number) = numbers[column].map(i64::from) else { continue };
            let chain = rules.entry(number).or_default();
            let conditions: Vec<SeccompCondition> = rule.args.iter().map(condition).collect();
            if conditions.is_empty() {
                whole.push(number);
            } else if repeated {
                chain.extend(conditions.into_iter().map(|condition| SeccompRule::new(vec![condition]).unwrap()));
            } else {
                chain.push(SeccompRule::new(conditions).unwrap());
            }
        }
    }
    for number in whole {
        // A chain without rules is its way to say: whatever the arguments.
        rules.insert(number, Vec::new());
    }
    let filter = SeccompFilter::new(rules, SeccompAction::Trap, SeccompAction::Allow, arch).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    program.iter().map(|raw| Instruction { code: raw.code, jt: raw.jt, jf: raw.jf, k: raw.k }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_program_decides_as_seccompilers_does(mut profile in prop_oneof![profiles(), overlapping()]) {
        profile.default = "SCMP_ACT_TRAP";
        profile.errno = None;
        profile.architectures.clear();
        for rule in &mut profile.rules {
            rule.action = "SCMP_ACT_ALLOW";
            rule.errno = None;
        }
        let machines =
            [(Machine::X86_64, X86_64, 0, TargetArch::x86_64), (Machine::Aarch64, AARCH64, 3, TargetArch::aarch64)];
        for (machine, audit, column, arch) in machines {
            let ours = compiled(&profile.json(), machine).unwrap();
            let theirs = program(&profile, column, arch);
            let newest = profile.newest(column, false);
            for call in profile.calls() {
                // Answers to newer calls, x32 and other architectures are not in its model.
                if call.arch != audit || call.number > newest {
                    continue;
                }
                let Call { number, arguments, .. } = call;
                let (is, should) = (run(&ours.filter, &call).0, run(&theirs, &call).0);
                prop_assert_eq!(is, should, "{:#x} instead of {:#x} for {} {:x?}", is, should, number, arguments);
            }
        }
    }
}
