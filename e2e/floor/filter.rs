//! The engine configuration's seccomp profile, compiled while this program is compiled: a balanced tree over the
//! system call numbers of x86_64.

#[derive(Clone, Copy)]
enum Verdict {
    Allow,
    Errno(u16),
    /// Everything but audit sockets.
    Socket,
    /// Everything but new namespaces.
    NewProcess,
    /// Five harmless values.
    Personality,
}

use Verdict::{Allow, NewProcess, Personality, Socket};
const EPERM: Verdict = Verdict::Errno(1);
const ENOSYS: Verdict = Verdict::Errno(38);

/// Each number has the verdict of the last entry that is not above it.
#[rustfmt::skip]
const VERDICTS: &[(u32, Verdict)] = &[
    (0, Allow), (41, Socket), (42, Allow), (56, NewProcess), (57, Allow), (103, EPERM), (104, Allow), (134, EPERM), (135,
    Personality), (136, EPERM), (137, Allow), (139, EPERM), (140, Allow), (153, EPERM), (157, Allow), (163, EPERM),
    (165, Allow), (167, EPERM), (186, Allow), (212, EPERM), (213, Allow), (214, EPERM), (216, Allow), (227, EPERM),
    (228, Allow), (236, EPERM), (240, Allow), (246, EPERM), (247, Allow), (248, EPERM), (251, Allow), (256, EPERM),
    (257, Allow), (279, EPERM), (280, Allow), (298, EPERM), (299, Allow), (300, EPERM), (301, Allow), (304, EPERM),
    (306, Allow), (308, EPERM), (309, Allow), (312, EPERM), (314, Allow), (320, EPERM), (322, Allow), (323, EPERM),
    (324, Allow), (335, ENOSYS), (424, Allow), (425, EPERM), (428, Allow), (435, ENOSYS), (436, Allow), (443,
    EPERM), (444, Allow), (450, EPERM), (451, ENOSYS),
];

const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];
const NAMESPACES: u32 = 0x7e02_0000;

const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

const RETURN_ALLOW: u32 = 0x7fff_0000;
const RETURN_ERRNO: u32 = 0x0005_0000;
const RETURN_KILL: u32 = 0x8000_0000;
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;

struct Program {
    bytes: [u8; 4096],
    length: usize,
}

impl Program {
    const fn put(mut self, code: u16, if_true: u8, if_false: u8, operand: u32) -> Program {
        let at = self.length;
        let (code, operand) = (code.to_ne_bytes(), operand.to_ne_bytes());
        self.bytes[at] = code[0];
        self.bytes[at + 1] = code[1];
        self.bytes[at + 2] = if_true;
        self.bytes[at + 3] = if_false;
        let mut index = 0;
        while index < 4 {
            self.bytes[at + 4 + index] = operand[index];
            index += 1;
        }
        self.length += 8;
        self
    }

    const fn verdict(self, verdict: Verdict) -> Program {
        match verdict {
            Allow => self.put(RETURN, 0, 0, RETURN_ALLOW),
            Verdict::Errno(errno) => self.put(RETURN, 0, 0, RETURN_ERRNO | errno as u32),
            Socket => self
                .put(LOAD, 0, 0, OFFSET_ARGUMENTS)
                .put(JUMP_EQUAL, 0, 3, 16)
                .put(LOAD, 0, 0, OFFSET_ARGUMENTS + 16)
                .put(JUMP_EQUAL, 0, 1, 9)
                .put(RETURN, 0, 0, RETURN_ERRNO | 22)
                .put(RETURN, 0, 0, RETURN_ALLOW),
            NewProcess => self
                .put(LOAD, 0, 0, OFFSET_ARGUMENTS)
                .put(JUMP_ANY_BIT, 0, 1, NAMESPACES)
                .put(RETURN, 0, 0, RETURN_ERRNO | 38)
                .put(RETURN, 0, 0, RETURN_ALLOW),
            Personality => {
                let mut program = self.put(LOAD, 0, 0, OFFSET_ARGUMENTS);
                let mut index = 0;
                while index < PERSONALITIES.len() {
                    let rest = (PERSONALITIES.len() - index) as u8;
                    program = program.put(JUMP_EQUAL, rest, 0, PERSONALITIES[index]);
                    index += 1;
                }
                program.put(RETURN, 0, 0, RETURN_ERRNO | 38).put(RETURN, 0, 0, RETURN_ALLOW)
            }
        }
    }

    /// The verdicts `from..to` of the table as a tree: the halves behind one comparison.
    const fn tree(self, from: usize, to: usize) -> Program {
        if to - from == 1 {
            return self.verdict(VERDICTS[from].1);
        }
        let middle = from + (to - from) / 2;
        let jump = self.length;
        let mut program = self.put(JUMP_GREATER_EQUAL, 0, 0, VERDICTS[middle].0).tree(from, middle);
        let skipped = (program.length - jump) / 8 - 1;
        assert!(skipped < 256);
        program.bytes[jump + 2] = skipped as u8;
        program.tree(middle, to)
    }
}

const PROGRAM: Program = Program { bytes: [0; 4096], length: 0 }
    .put(LOAD, 0, 0, OFFSET_ARCH)
    .put(JUMP_EQUAL, 1, 0, AUDIT_ARCH_X86_64)
    .put(RETURN, 0, 0, RETURN_KILL)
    .put(LOAD, 0, 0, OFFSET_NUMBER)
    .tree(0, VERDICTS.len());

static BYTES: [u8; PROGRAM.length] = {
    let mut bytes = [0; PROGRAM.length];
    let mut index = 0;
    while index < bytes.len() {
        bytes[index] = PROGRAM.bytes[index];
        index += 1;
    }
    bytes
};

pub(crate) fn program() -> &'static [u8] {
    &BYTES
}
