//! libseccomp as the judge: the same profiles through its Python module, both programs over the same calls.

use std::io::Write;
use std::process::{Command, Stdio};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::Value;
use wharf_plan::seccomp::{Instruction, Machine};

use crate::compiled;
use crate::interpreter::{Call, run};
use crate::profile::{Profile, X32_BIT, X86, X86_64, overlapping, profiles};

/// Reads profiles, one JSON text a line; writes each program in hex, or a line that starts with "refused".
/// Rules are handed over as runc hands them.
const SCRIPT: &str = r#"
import json, sys, tempfile
import seccomp as s
def action(name, errno):
    name = name[len("SCMP_ACT_"):]
    if name in ("ERRNO", "TRACE"):
        return getattr(s, name)(1 if errno is None else errno)
    # KILL_THREAD is KILL; the module has no name for it.
    return {"KILL": s.KILL, "KILL_THREAD": s.KILL, "KILL_PROCESS": s.KILL_PROCESS, "TRAP": s.TRAP,
            "LOG": s.LOG, "ALLOW": s.ALLOW}[name]
def export(p):
    default = action(p["defaultAction"], p.get("defaultErrnoRet"))
    f = s.SyscallFilter(default)
    for arch in p["architectures"]:
        arch = getattr(s.Arch, arch[len("SCMP_ARCH_"):])
        if not f.exist_arch(arch):
            f.add_arch(arch)
    for rule in p["syscalls"]:
        act = action(rule["action"], rule.get("errnoRet"))
        if act == default:
            continue
        for name in rule["names"]:
            args = [s.Arg(a["index"], getattr(s, a["op"][len("SCMP_CMP_"):]), a["value"], a["valueTwo"])
                    for a in rule["args"]]
            seen = [a["index"] for a in rule["args"]]
            if len(seen) != len(set(seen)):
                for arg in args:
                    f.add_rule(act, name, arg)
            else:
                f.add_rule(act, name, *args)
    with tempfile.TemporaryFile() as out:
        f.export_bpf(out)
        out.seek(0)
        return out.read().hex()
for line in sys.stdin:
    try:
        print(export(json.loads(line)))
    except Exception as error:
        print("refused", type(error).__name__, error)
"#;

/// The programs that libseccomp makes; None where it is not there. Python is isolated (-I): a directory of that name where
/// the tests run would pass for the module.
pub(crate) fn programs(profiles: &[Value]) -> Option<Vec<Option<Vec<Instruction>>>> {
    let python = "/usr/bin/python3";
    let there = Command::new(python).args(["-I", "-c", "import seccomp"]).stderr(Stdio::null()).status();
    if !there.is_ok_and(|status| status.success()) {
        println!("skipped: {python} has no seccomp module (Debian: python3-seccomp)");
        return None;
    }
    let mut child = Command::new(python)
        .args(["-I", "-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start python3");
    let mut stdin = child.stdin.take().unwrap();
    let text: String = profiles.iter().map(|profile| format!("{profile}\n")).collect();
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    let lines = String::from_utf8(output.stdout).unwrap();
    let programs: Vec<_> = lines.lines().map(|line| (!line.starts_with("refused")).then(|| program(line))).collect();
    assert_eq!(programs.len(), profiles.len());
    Some(programs)
}

fn program(hex: &str) -> Vec<Instruction> {
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    bytes
        .chunks(8)
        .map(|raw| Instruction {
            code: u16::from_le_bytes([raw[0], raw[1]]),
            jt: raw[2],
            jf: raw[3],
            k: u32::from_le_bytes([raw[4], raw[5], raw[6], raw[7]]),
        })
        .collect()
}

fn random(strategy: impl Strategy<Value = Profile>, count: usize) -> Vec<Profile> {
    let mut runner = TestRunner::deterministic();
    let made = std::iter::repeat_with(|| strategy.new_tree(&mut runner).unwrap().current());
    made.take(count)
        .map(|mut profile| {
            profile.architectures.retain(|arch| arch.contains("_X"));
            for rule in &mut profile.rules {
                // libseccomp has it on ARM alone, under a number that stands for nothing here.
                rule.names.retain(|name| *name != "set_tls");
            }
            profile
        })
        .collect()
}

/// Where libseccomp has nothing to say: the answer to calls newer than the profile is runc's, and a version in ipc's
/// first argument gets past libseccomp.
fn beyond(profile: &Profile, call: &Call) -> bool {
    let (column, number) = match call.arch {
        X86 => (1, call.number),
        X86_64 if call.number < X32_BIT => (0, call.number),
        X86_64 => (2, call.number & !X32_BIT),
        _ => return false,
    };
    let newest = profile.newest(column, false);
    newest != 0 && number > newest || call.arch == X86 && number == 117 && call.arguments[0] > 0xffff
}

#[test]
fn a_program_decides_as_libseccomps_does() {
    if cfg!(not(target_arch = "x86_64")) {
        return println!("skipped: libseccomp's native architecture is taken to be x86_64");
    }
    let mut random_profiles = random(profiles(), 80);
    random_profiles.extend(random(overlapping(), 80));
    let json: Vec<Value> = random_profiles.iter().map(Profile::json).collect();
    let Some(theirs) = programs(&json) else { return };
    let (mut several, mut differently, mut astray) = (0, 0, 0);
    for ((profile, json), theirs) in random_profiles.iter().zip(&json).zip(&theirs) {
        let ours = compiled(json, Machine::X86_64);
        // It refuses more: rules whose conditions are a part of another's.
        let Some(theirs) = theirs else { continue };
        let ours = ours.unwrap();
        let mut sane = true;
        for call in profile.calls().iter().filter(|call| !beyond(profile, call)) {
            let (is, should) = (run(&ours.filter, call).0, run(theirs, call).0);
            let candidates = profile.candidates(X86_64, call);
            several += usize::from(candidates.len() > 1);
            if candidates.contains(&should) {
                differently += usize::from(is != should);
            } else {
                sane = false;
            }
        }
        astray += usize::from(!sane);
    }
    println!("{several} choices, {differently} made differently, {astray} programs that leave the profile");
    assert!(several > 500, "only {several} calls had rules of different actions to choose from");
    // Its order also depends on which rules share the upper half of a value; ours does not.
    assert!(differently * 20 < several, "{differently} of {several} choices made differently");
    // Several bounds for one 64-bit argument go wrong in libseccomp 2.5.4: no rule says what it answers.
    assert!(astray * 10 < random_profiles.len(), "libseccomp left the profile {astray} times");
}
