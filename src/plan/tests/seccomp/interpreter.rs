//! Runs classic BPF as the kernel runs it for seccomp.

use wharf_plan::seccomp::Instruction;

/// `struct seccomp_data`
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) arch: u32,
    pub(crate) number: u32,
    pub(crate) arguments: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.arch,
            8 | 12 => 0x5555_5555,
            16..64 if offset.is_multiple_of(4) => {
                let argument = self.arguments[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) { argument as u32 } else { (argument >> 32) as u32 }
            }
            _ => panic!("load from offset {offset}: outside of seccomp_data"),
        }
    }
}

/// What the filter returns, and how many instructions that took.
pub(crate) fn run(filter: &[Instruction], call: &Call) -> (u32, usize) {
    let (mut accumulator, mut index) = (0_u32, None);
    let mut scratch = [0_u32; 16];
    let (mut at, mut steps) = (0, 0);
    loop {
        let Instruction { code, jt, jf, k } = filter[at];
        steps += 1;
        at += 1;
        let mut jump = |holds: bool| at += usize::from(if holds { jt } else { jf });
        match code {
            0x20 => accumulator = call.word(k),
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => jump(accumulator == k),
            0x25 => jump(accumulator > k),
            0x35 => jump(accumulator >= k),
            0x45 => jump(accumulator & k != 0),
            0x06 => return (k, steps),
            // The rest is for programs that other compilers wrote.
            0x02 => scratch[k as usize] = accumulator,
            0x60 => accumulator = scratch[k as usize],
            0x07 => index = Some(accumulator),
            0x87 => accumulator = index.expect("index register read before it was set"),
            _ => panic!("instruction {code:#x} is none that seccomp filters use"),
        }
    }
}

/// What the kernel's checker asks: known instructions, aligned loads, jumps that stay inside, a return at the end.
pub(crate) fn check(filter: &[Instruction]) {
    assert!(!filter.is_empty() && filter.len() <= 4096, "{} instructions", filter.len());
    for (at, instruction) in filter.iter().enumerate() {
        let left = filter.len() - at - 1;
        match instruction.code {
            0x20 => assert!(instruction.k < 64 && instruction.k.is_multiple_of(4), "load from {}", instruction.k),
            0x54 | 0x06 => {}
            0x05 => assert!((instruction.k as usize) < left, "jump out of the program at {at}"),
            0x15 | 0x25 | 0x35 => {
                assert!(usize::from(instruction.jt.max(instruction.jf)) < left, "jump out of the program at {at}");
            }
            code => panic!("instruction {code:#x} at {at}"),
        }
    }
    assert_eq!(filter[filter.len() - 1].code, 0x06, "the program does not end with a return");
}
