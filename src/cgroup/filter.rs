//! Device rules as an eBPF program for cgroup v2.

use crate::devices::Rule;
use wharf_sys::bpf::Instruction;

// Opcodes (the kernel's instruction set document).
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbf;
const MOVE_VALUE: u8 = 0xb7;
const AND_VALUE: u8 = 0x57;
const SHIFT_RIGHT_VALUE: u8 = 0x77;
const JUMP_IF_EQUAL: u8 = 0x15;
const JUMP_IF_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

// Registers.
const RESULT: u8 = 0;
const SCRATCH: u8 = 1;
const NODE: u8 = 2;
/// The bits of access that no rule has granted yet.
const OPEN: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

fn value(code: u8, register: u8, immediate: i32) -> Instruction {
    Instruction { code, registers: register, offset: 0, immediate }
}

/// Jumps over the next `over` instructions.
fn jump(code: u8, register: u8, immediate: i32, over: usize) -> Instruction {
    Instruction { code, registers: register, offset: over as i16, immediate }
}

fn answer(allow: bool) -> [Instruction; 2] {
    [value(MOVE_VALUE, RESULT, i32::from(allow)), value(EXIT, 0, 0)]
}

/// Compiles rules to a program that returns 1 for access that is allowed and 0 otherwise. The last rule comes first and
/// ends what it decides; the context is struct bpf_cgroup_dev_ctx: access and kind in one word, major, minor.
pub(crate) fn compile(rules: &[Rule]) -> Vec<Instruction> {
    let load =
        |to: u8, offset: i16| Instruction { code: LOAD_WORD, registers: SCRATCH << 4 | to, offset, immediate: 0 };
    let mut program = vec![
        load(NODE, 0),
        Instruction { code: MOVE, registers: NODE << 4 | OPEN, offset: 0, immediate: 0 },
        value(SHIFT_RIGHT_VALUE, OPEN, 16),
        value(AND_VALUE, NODE, 0xffff),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    for rule in rules.iter().rev() {
        let decision = decide(rule);
        let conditions = [
            (NODE, rule.node.map(|node| node as i32)),
            (MAJOR, rule.major.map(|major| major as i32)),
            (MINOR, rule.minor.map(|minor| minor as i32)),
        ];
        let conditions: Vec<(u8, i32)> =
            conditions.into_iter().filter_map(|(register, number)| Some((register, number?))).collect();
        for (index, (register, number)) in conditions.iter().enumerate() {
            let over = conditions.len() - index - 1 + decision.len();
            program.push(jump(JUMP_IF_NOT_EQUAL, *register, *number, over));
        }
        let ends = conditions.is_empty() && rule.access == 7;
        program.extend(decision);
        if ends {
            // The verifier refuses instructions that nothing leads to.
            return program;
        }
    }
    program.extend(answer(false));
    program
}

fn decide(rule: &Rule) -> Vec<Instruction> {
    let access = i32::from(rule.access);
    let mut code = Vec::with_capacity(5);
    match (rule.allow, access) {
        (_, 7) => {}
        (true, _) => code.extend([value(AND_VALUE, OPEN, !access & 7), jump(JUMP_IF_NOT_EQUAL, OPEN, 0, 2)]),
        (false, _) => code.extend([
            Instruction { code: MOVE, registers: OPEN << 4 | SCRATCH, offset: 0, immediate: 0 },
            value(AND_VALUE, SCRATCH, access),
            jump(JUMP_IF_EQUAL, SCRATCH, 0, 2),
        ]),
    }
    code.extend(answer(rule.allow));
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::tests::{every_request, some_rules};
    use crate::devices::{Node, defaults, judge};
    use proptest::prelude::*;

    /// What the kernel's interpreter does with these opcodes; panics on any other.
    fn run(program: &[Instruction], context: [u32; 3]) -> u64 {
        let mut registers = [0u64; 6];
        let mut next = 0;
        loop {
            let Instruction { code, registers: names, offset, immediate } = program[next];
            let (to, from) = (usize::from(names & 15), usize::from(names >> 4));
            let immediate = i64::from(immediate) as u64;
            next += 1;
            match code {
                LOAD_WORD => registers[to] = u64::from(context[offset as usize / 4]),
                MOVE => registers[to] = registers[from],
                MOVE_VALUE => registers[to] = immediate,
                AND_VALUE => registers[to] &= immediate,
                SHIFT_RIGHT_VALUE => registers[to] >>= immediate,
                JUMP_IF_EQUAL if registers[to] == immediate => next += offset as usize,
                JUMP_IF_NOT_EQUAL if registers[to] != immediate => next += offset as usize,
                JUMP_IF_EQUAL | JUMP_IF_NOT_EQUAL => {}
                EXIT => return registers[0],
                _ => panic!("opcode {code:#x}"),
            }
        }
    }

    fn asks(program: &[Instruction], (node, major, minor, access): (Node, u32, u32, u8)) -> bool {
        run(program, [u32::from(access) << 16 | node as u32, major, minor]) == 1
    }

    proptest! {
        #[test]
        fn the_program_means_what_the_rules_say(rules in some_rules()) {
            let program = compile(&rules);
            for request in every_request() {
                let (node, major, minor, access) = request;
                prop_assert_eq!(asks(&program, request), judge(&rules, node, major, minor, access), "{:?}", request);
            }
        }

        #[test]
        fn every_instruction_can_be_reached(rules in some_rules()) {
            let program = compile(&rules);
            let mut reached = vec![false; program.len()];
            let mut ways = vec![0];
            while let Some(at) = ways.pop() {
                if std::mem::replace(&mut reached[at], true) {
                    continue;
                }
                match program[at].code {
                    EXIT => {}
                    JUMP_IF_EQUAL | JUMP_IF_NOT_EQUAL => ways.extend([at + 1, at + 1 + program[at].offset as usize]),
                    _ => ways.push(at + 1),
                }
            }
            prop_assert!(reached.iter().all(|reached| *reached));
        }
    }

    #[test]
    fn the_defaults_allow_null_and_making_nodes_and_nothing_else() {
        let program = compile(&defaults());
        assert!(asks(&program, (Node::Char, 1, 3, 6)));
        assert!(asks(&program, (Node::Block, 8, 0, 1)));
        assert!(asks(&program, (Node::Char, 136, 77, 6)));
        assert!(!asks(&program, (Node::Block, 8, 0, 2)));
        assert!(!asks(&program, (Node::Char, 1, 1, 2)));
        assert!(!asks(&program, (Node::Char, 5, 1, 2)));
    }
}
