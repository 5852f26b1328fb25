//! Turns a seccomp profile into the classic BPF program that the kernel is given.
//!
//! The meaning is libseccomp's as runc uses it, which is what profiles are written against:
//!
//! - A rule whose action is the default action is left out, and of a system call's rules without conditions the
//!   first one decides alone. Among rules with conditions and different actions the order is libseccomp's: higher
//!   argument first, then equality before less before greater. Rules that ask the same and answer differently are
//!   refused.
//! - Conditions of one rule must all hold; if two of them test the same argument, each is a rule of its own.
//! - x86, x32 and arm compare the low 32 bits of arguments and values.
//! - On x86 a rule for a socket or System V IPC call also covers the same call made through `socketcall(2)` or
//!   `ipc(2)`.
//! - The native architecture is always included. Calls of architectures that are not included kill the thread.
//! - A default action that denies answers ENOSYS to system calls that are newer than all that the profile names, so
//!   that programs fall back to older calls instead of failing (runc's rule).
//! - Without `flags` the filter is loaded with SPEC_ALLOW, as runc does.

mod bpf;
mod rules;
mod syscalls;
mod table;

use std::fmt;

use oci_spec::runtime::{
    Arch as Listed, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
    LinuxSyscall,
};
use wharf_core::{Error, Result};
use wharf_steps::facts::FILTER_FLAG_NEW_LISTENER;

pub use bpf::Instruction;
use bpf::{Assembler, Label, Rules};
use rules::{Condition, Contradiction, Decisions, Leaf, Operator};
use syscalls::Lookup;

/// `BPF_MAXINSNS`: the kernel takes no longer program.
const LONGEST: usize = 4096;

const RET_KILL_PROCESS: u32 = 0x8000_0000;
const RET_KILL_THREAD: u32 = 0;
const RET_TRAP: u32 = 0x0003_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_USER_NOTIF: u32 = 0x7fc0_0000;
const RET_TRACE: u32 = 0x7ff0_0000;
const RET_LOG: u32 = 0x7ffc_0000;
const RET_ALLOW: u32 = 0x7fff_0000;
const RET_DATA: u32 = 0xffff;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// `MAX_ERRNO`: the kernel lowers a larger one to this without a word.
const MAX_ERRNO: u32 = 4095;

/// `SECCOMP_FILTER_FLAG_*` for `seccomp(2)`.
pub const FILTER_FLAG_LOG: u32 = 1 << 1;
pub const FILTER_FLAG_SPEC_ALLOW: u32 = 1 << 2;
const FILTER_FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// Set in the number of every x32 system call.
const X32_BIT: u32 = 0x4000_0000;
/// A tracer writes -1 to have a call skipped: a number, but no system call.
const SKIPPED: u32 = u32::MAX;

/// An architecture with system calls of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
enum Arch {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
}

impl Arch {
    /// `AUDIT_ARCH_*`, as in `struct seccomp_data`.
    fn audit(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::X86 => 0x4000_0003,
            Arch::Aarch64 => 0xc000_00b7,
            Arch::Arm => 0x4000_0028,
        }
    }

    fn wide(self) -> bool {
        matches!(self, Arch::X86_64 | Arch::Aarch64)
    }
}

/// The machine whose kernel runs the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    X86_64,
    Aarch64,
}

impl Machine {
    /// The machine this was built for; None where there are no tables for it.
    pub const fn here() -> Option<Machine> {
        if cfg!(target_arch = "x86_64") {
            Some(Machine::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Machine::Aarch64)
        } else {
            None
        }
    }

    fn native(self) -> Arch {
        match self {
            Machine::X86_64 => Arch::X86_64,
            Machine::Aarch64 => Arch::Aarch64,
        }
    }

    /// The architecture meant, if a process of it can run on this machine.
    fn runs(self, listed: Listed) -> Option<Arch> {
        match (self, listed) {
            (_, Listed::ScmpArchNative) => Some(self.native()),
            (Machine::X86_64, Listed::ScmpArchX86_64) => Some(Arch::X86_64),
            (Machine::X86_64, Listed::ScmpArchX86) => Some(Arch::X86),
            (Machine::X86_64, Listed::ScmpArchX32) => Some(Arch::X32),
            (Machine::Aarch64, Listed::ScmpArchAarch64) => Some(Arch::Aarch64),
            (Machine::Aarch64, Listed::ScmpArchArm) => Some(Arch::Arm),
            _ => None,
        }
    }
}

/// What in the profile has no effect, or not quite the effect it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// `architectures/N`: this machine runs no process of it.
    ForeignArchitecture { index: usize, name: String },
    /// `syscalls/RULE/names/N`: a call of another machine, or of a later kernel. It gets the default action.
    UnknownSyscall { rule: usize, index: usize, name: String },
    /// `syscalls/RULE`: a 32-bit program can make the call through `socketcall` or `ipc`, whose arguments cannot be seen.
    Multiplexed { rule: usize, name: String },
    /// `syscalls/RULE/args/N/valueTwo`: only SCMP_CMP_MASKED_EQ looks at it.
    ValueTwoUnused { rule: usize, index: usize },
    /// `listenerPath` has a use with SCMP_ACT_NOTIFY only.
    ListenerUnused,
}

impl Note {
    /// Where in config.json.
    pub fn pointer(&self) -> String {
        match self {
            Note::ForeignArchitecture { index, .. } => format!("linux/seccomp/architectures/{index}"),
            Note::UnknownSyscall { rule, index, .. } => format!("linux/seccomp/syscalls/{rule}/names/{index}"),
            Note::Multiplexed { rule, .. } => format!("linux/seccomp/syscalls/{rule}/args"),
            Note::ValueTwoUnused { rule, index } => format!("linux/seccomp/syscalls/{rule}/args/{index}/valueTwo"),
            Note::ListenerUnused => "linux/seccomp/listenerPath".to_owned(),
        }
    }

    /// What has no effect, or not quite.
    pub fn text(&self) -> String {
        match self {
            Note::ForeignArchitecture { name, .. } => format!("this machine runs no {name} process"),
            Note::UnknownSyscall { name, .. } => format!("no system call {name} here"),
            Note::Multiplexed { name, .. } => format!(
                "conditions of {name} are not checked for 32-bit programs that call it through socketcall or ipc"
            ),
            Note::ValueTwoUnused { .. } => "only SCMP_CMP_MASKED_EQ looks at the second value".to_owned(),
            Note::ListenerUnused => "no action notifies".to_owned(),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.text(), self.pointer())
    }
}

/// A filter for `seccomp(SECCOMP_SET_MODE_FILTER, flags, …)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Laid out as the kernel's `struct sock_filter`.
    pub filter: Vec<Instruction>,
    /// `SECCOMP_FILTER_FLAG_*`
    pub flags: u32,
    pub notes: Vec<Note>,
}

/// Compiles the profile for `machine`.
///
/// Errors carry a pointer below `linux/seccomp`: an action, flag or value that cannot be honoured, and a program
/// that is longer than the kernel takes.
pub fn compile(profile: &LinuxSeccomp, machine: Machine) -> Result<Program> {
    let mut notes = Vec::new();
    let notifies = notifies(profile);
    let flags = flags(profile, notifies)?;
    listener(profile, notifies, &mut notes)?;
    let default =
        action(profile.default_action(), profile.default_errno_ret(), || "linux/seccomp/defaultErrnoRet".to_owned())?;
    let included = architectures(profile, machine, &mut notes);
    let mut decisions = decide(profile, &included, default, &mut notes)?;
    for (_, decisions) in &mut decisions {
        decisions.settle();
    }
    let filter = assemble(&decisions, default);
    if filter.len() > LONGEST {
        return Err(Error::unsupported("compile the seccomp profile")
            .because(format!("it takes {} instructions, and the kernel takes at most {LONGEST}", filter.len()))
            .at("linux/seccomp/syscalls"));
    }
    Ok(Program { filter, flags, notes })
}

/// Who answers for the system calls that a profile notifies of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Absolute path of the agent's socket.
    pub path: String,
    /// Opaque to everyone but the agent.
    pub metadata: String,
}

/// The agent of a profile that has been compiled; none where no action notifies.
pub fn agent(profile: &LinuxSeccomp) -> Option<Listener> {
    let path = profile.listener_path().as_ref().filter(|_| notifies(profile))?;
    let metadata = profile.listener_metadata().clone().unwrap_or_default();
    Some(Listener { path: path.to_string_lossy().into_owned(), metadata })
}

/// Whether any system call is to be told to the agent behind `listenerPath`.
fn notifies(profile: &LinuxSeccomp) -> bool {
    let notify = LinuxSeccompAction::ScmpActNotify;
    profile.default_action() == notify || profile.syscalls().iter().flatten().any(|rule| rule.action() == notify)
}

fn flags(profile: &LinuxSeccomp, notifies: bool) -> Result<u32> {
    let listening = if notifies { FILTER_FLAG_NEW_LISTENER } else { 0 };
    let Some(flags) = profile.flags() else {
        return Ok(FILTER_FLAG_SPEC_ALLOW | listening);
    };
    let mut bits = listening;
    for (index, flag) in flags.iter().enumerate() {
        bits |= match flag {
            // One thread loads the filter, before exec.
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => FILTER_FLAG_LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => FILTER_FLAG_SPEC_ALLOW,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv if notifies => FILTER_FLAG_WAIT_KILLABLE_RECV,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
                return Err(Error::invalid("seccomp flag SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")
                    .because("it is for SCMP_ACT_NOTIFY, and no action of the profile is that")
                    .at(format!("linux/seccomp/flags/{index}")));
            }
        };
    }
    Ok(bits)
}

fn listener(profile: &LinuxSeccomp, notifies: bool, notes: &mut Vec<Note>) -> Result<()> {
    let path = profile.listener_path().as_ref().filter(|path| !path.as_os_str().is_empty());
    if let Some(path) = path {
        if !notifies {
            notes.push(Note::ListenerUnused);
        } else if !path.is_absolute() {
            return Err(Error::invalid(format!("seccomp listener {}", path.display()))
                .because("the path must be absolute")
                .at("linux/seccomp/listenerPath"));
        }
    } else if notifies {
        return Err(Error::invalid("seccomp action SCMP_ACT_NOTIFY")
            .because("listenerPath is missing: nobody would answer")
            .at("linux/seccomp/listenerPath"));
    } else if profile.listener_metadata().as_ref().is_some_and(|metadata| !metadata.is_empty()) {
        return Err(Error::invalid("compile the seccomp profile")
            .because("listenerMetadata is set without listenerPath")
            .at("linux/seccomp/listenerMetadata"));
    }
    Ok(())
}

/// The value a filter returns for the action.
fn action(action: LinuxSeccompAction, errno: Option<u32>, errno_at: impl Fn() -> String) -> Result<u32> {
    let (value, most) = match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => (RET_KILL_THREAD, None),
        LinuxSeccompAction::ScmpActKillProcess => (RET_KILL_PROCESS, None),
        LinuxSeccompAction::ScmpActTrap => (RET_TRAP, None),
        LinuxSeccompAction::ScmpActErrno => (RET_ERRNO, Some(MAX_ERRNO)),
        LinuxSeccompAction::ScmpActTrace => (RET_TRACE, Some(RET_DATA)),
        LinuxSeccompAction::ScmpActAllow => (RET_ALLOW, None),
        LinuxSeccompAction::ScmpActLog => (RET_LOG, None),
        LinuxSeccompAction::ScmpActNotify => (RET_USER_NOTIF, None),
    };
    match (most, errno) {
        (None, None) => Ok(value),
        (None, Some(_)) => Err(Error::invalid(format!("seccomp action {action}"))
            .because("it takes no errno; only SCMP_ACT_ERRNO and SCMP_ACT_TRACE do")
            .at(errno_at())),
        (Some(most), errno) => {
            let errno = errno.unwrap_or(EPERM);
            if errno > most {
                return Err(Error::invalid(format!("seccomp action {action}"))
                    .because(format!("errno {errno} is beyond {most}"))
                    .at(errno_at()));
            }
            Ok(value | errno)
        }
    }
}

/// The native architecture first, then the others listed.
fn architectures(profile: &LinuxSeccomp, machine: Machine, notes: &mut Vec<Note>) -> Vec<Arch> {
    let mut included = vec![machine.native()];
    for (index, listed) in profile.architectures().iter().flatten().enumerate() {
        match machine.runs(*listed) {
            Some(arch) if included.contains(&arch) => {}
            Some(arch) => included.push(arch),
            None => notes.push(Note::ForeignArchitecture { index, name: listed.to_string() }),
        }
    }
    included
}

/// Reads all rules into one set of decisions per architecture.
fn decide(
    profile: &LinuxSeccomp,
    included: &[Arch],
    default: u32,
    notes: &mut Vec<Note>,
) -> Result<Vec<(Arch, Decisions)>> {
    let mut decisions: Vec<_> = included.iter().map(|arch| (*arch, Decisions::new(arch.wide()))).collect();
    let mut lookup = Lookup::default();
    for (rule, syscall) in profile.syscalls().iter().flatten().enumerate() {
        let action =
            action(syscall.action(), syscall.errno_ret(), || format!("linux/seccomp/syscalls/{rule}/errnoRet"))?;
        let alternatives = conditions(syscall, rule, notes)?;
        for (index, name) in syscall.names().iter().enumerate() {
            if name.is_empty() {
                return Err(Error::invalid("seccomp rule")
                    .because("a system call's name is empty")
                    .at(format!("linux/seccomp/syscalls/{rule}/names/{index}")));
            }
            let Some(entry) = lookup.find(name) else {
                notes.push(Note::UnknownSyscall { rule, index, name: name.clone() });
                continue;
            };
            for (arch, decisions) in &mut decisions {
                let Some(number) = entry.number(*arch) else {
                    if *arch == Arch::X86 && action != default {
                        multiplexed(decisions, name, action, &alternatives, rule, notes)?;
                    }
                    continue;
                };
                decisions.name(number);
                if action == default {
                    continue;
                }
                if *arch == Arch::X86 {
                    multiplexed(decisions, name, action, &alternatives, rule, notes)?;
                }
                for conditions in &alternatives {
                    decisions.add(number, action, conditions).map_err(|error| contradiction(error, name, rule))?;
                }
            }
        }
    }
    Ok(decisions)
}

/// Adds the rule for the way through `socketcall` or `ipc`, where `name` has one.
fn multiplexed(
    decisions: &mut Decisions,
    name: &str,
    action: u32,
    alternatives: &[Vec<Condition>],
    rule: usize,
    notes: &mut Vec<Note>,
) -> Result<()> {
    let Some(way) = syscalls::multiplexed(name) else {
        return Ok(());
    };
    let call = Condition { argument: 0, operator: Operator::MaskedEqual, value: way.call, mask: way.mask };
    for conditions in alternatives {
        let mut through = vec![call];
        through.extend(conditions.iter().filter(|condition| condition.argument != 0));
        decisions.add(way.through, action, &through).map_err(|error| {
            contradiction(error, name, rule)
                .hint("on x86 they differ in arguments alone that socketcall and ipc hide; leave SCMP_ARCH_X86 out")
        })?;
    }
    if alternatives.iter().any(|conditions| !conditions.is_empty()) {
        notes.push(Note::Multiplexed { rule, name: name.to_owned() });
    }
    Ok(())
}

fn contradiction(_: Contradiction, name: &str, rule: usize) -> Error {
    Error::invalid(format!("seccomp rule for {name}"))
        .because("an earlier rule has the same conditions and another action")
        .at(format!("linux/seccomp/syscalls/{rule}"))
}

/// The rule's conditions as alternatives, each a list of conditions that must all hold.
fn conditions(syscall: &LinuxSyscall, rule: usize, notes: &mut Vec<Note>) -> Result<Vec<Vec<Condition>>> {
    let mut conditions = Vec::new();
    let (mut seen, mut repeated) = (0_u8, false);
    for (index, arg) in syscall.args().iter().flatten().enumerate() {
        let condition = condition(arg).ok_or_else(|| {
            Error::invalid("seccomp rule")
                .because(format!("system calls have six arguments, 0 to 5, not an argument {}", arg.index()))
                .at(format!("linux/seccomp/syscalls/{rule}/args/{index}/index"))
        })?;
        if condition.operator != Operator::MaskedEqual && arg.value_two().unwrap_or_default() != 0 {
            notes.push(Note::ValueTwoUnused { rule, index });
        }
        let bit = 1 << condition.argument;
        repeated |= seen & bit != 0;
        seen |= bit;
        conditions.push(condition);
    }
    if repeated {
        return Ok(conditions.into_iter().map(|condition| vec![condition]).collect());
    }
    conditions.sort_by_key(|condition| condition.argument);
    Ok(vec![conditions])
}

fn condition(arg: &LinuxSeccompArg) -> Option<Condition> {
    let argument = u8::try_from(arg.index()).ok().filter(|index| *index < 6)?;
    let (operator, value, mask) = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => (Operator::NotEqual, arg.value(), u64::MAX),
        LinuxSeccompOperator::ScmpCmpLt => (Operator::Less, arg.value(), u64::MAX),
        LinuxSeccompOperator::ScmpCmpLe => (Operator::LessEqual, arg.value(), u64::MAX),
        LinuxSeccompOperator::ScmpCmpEq => (Operator::Equal, arg.value(), u64::MAX),
        LinuxSeccompOperator::ScmpCmpGe => (Operator::GreaterEqual, arg.value(), u64::MAX),
        LinuxSeccompOperator::ScmpCmpGt => (Operator::Greater, arg.value(), u64::MAX),
        // The first value is the mask, as in libseccomp.
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            (Operator::MaskedEqual, arg.value_two().unwrap_or_default(), arg.value())
        }
    };
    Some(Condition { argument, operator, value, mask })
}

/// What a number that is newer than the profile gets, if not the default action.
fn unknown(default: u32) -> Option<u32> {
    // A tracer or an agent is expected to answer for calls it does not know.
    let permits = matches!(default, RET_ALLOW | RET_LOG | RET_USER_NOTIF) || default & !RET_DATA == RET_TRACE;
    (!permits).then_some(RET_ERRNO | ENOSYS)
}

/// Writes the program: dispatch on the architecture, then a tree per architecture. The native one comes first.
fn assemble(decisions: &[(Arch, Decisions)], default: u32) -> Vec<Instruction> {
    let x32 = decisions.iter().find(|(arch, _)| *arch == Arch::X32).map(|(_, decisions)| decisions);
    let mut program = Assembler::default();
    let mut next = program.ret(RET_KILL_THREAD);
    let sections: Vec<(u32, Label)> = decisions[1..]
        .iter()
        .filter(|(arch, _)| *arch != Arch::X32)
        .map(|(arch, decisions)| (arch.audit(), section(&mut program, *arch, decisions, None, default)))
        .collect();
    for (audit, label) in sections {
        next = program.branch(bpf::JUMP_EQUAL, audit, label, next);
    }
    let (arch, native) = &decisions[0];
    let first = section(&mut program, *arch, native, x32, default);
    let start = program.branch(bpf::JUMP_EQUAL, arch.audit(), first, next);
    program.load(bpf::ARCH, start);
    program.finish()
}

fn section(program: &mut Assembler, arch: Arch, decisions: &Decisions, x32: Option<&Decisions>, default: u32) -> Label {
    let mut ranges = Vec::with_capacity(256);
    decisions.ranges(0, default, unknown(default), &mut ranges);
    let rules = Rules { branches: decisions.branches(), default, wide: arch.wide() };
    let start = match x32 {
        Some(x32) => {
            let mut high = Vec::with_capacity(256);
            x32.ranges(X32_BIT, default, unknown(default), &mut high);
            rules::append(&mut high, SKIPPED, Leaf::Always(default));
            let high = program.tree(&high, &Rules { branches: x32.branches(), default, wide: Arch::X32.wide() });
            let low = program.tree(&ranges, &rules);
            program.branch(bpf::JUMP_GREATER_EQUAL, X32_BIT, high, low)
        }
        None => {
            if arch == Arch::X86_64 {
                rules::append(&mut ranges, X32_BIT, Leaf::Always(RET_KILL_THREAD));
            }
            rules::append(&mut ranges, SKIPPED, Leaf::Always(default));
            program.tree(&ranges, &rules)
        }
    };
    program.load(bpf::NUMBER, start)
}
