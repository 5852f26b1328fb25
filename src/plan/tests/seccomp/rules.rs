//! What profiles mean and what is refused, sentence by sentence.

use serde_json::{Value, json};
use wharf_core::Kind;
use wharf_plan::seccomp::{FILTER_FLAG_LOG, FILTER_FLAG_SPEC_ALLOW, Machine, Program, compile};

use crate::compiled;
use crate::interpreter::{Call, check, run};
use crate::profile::{AARCH64, ALLOW, ARM, ERRNO, KILL_THREAD, TRACE, TRAP, X32_BIT, X86, X86_64};

const ENOSYS: u32 = ERRNO | 38;
const EPERM: u32 = ERRNO | 1;

fn program(profile: Value) -> Program {
    let program = compiled(&profile, Machine::X86_64).unwrap();
    check(&program.filter);
    program
}

fn decided(program: &Program, arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
    run(&program.filter, &Call { arch, number, arguments }).0
}

/// The error's kind, pointer and text.
fn refused(profile: Value) -> (Kind, String, String) {
    let error = compiled(&profile, Machine::X86_64).unwrap_err();
    (error.kind(), error.pointer().unwrap_or_default().to_owned(), error.to_string())
}

#[test]
fn a_call_newer_than_all_that_a_denying_profile_names_answers_enosys() {
    let allow = json!([{"names": ["read", "clone3"], "action": "SCMP_ACT_ALLOW"}]);
    let denying = program(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": allow}));
    assert_eq!(decided(&denying, X86_64, 435, [0; 6]), ALLOW);
    assert_eq!(decided(&denying, X86_64, 434, [0; 6]), EPERM);
    assert_eq!(decided(&denying, X86_64, 436, [0; 6]), ENOSYS);
    assert_eq!(decided(&denying, X86_64, 0x3fff_ffff, [0; 6]), ENOSYS);
    // What a tracer writes to skip a call is no new call.
    assert_eq!(decided(&denying, X86_64, u32::MAX, [0; 6]), EPERM);

    for (action, answer) in
        [("SCMP_ACT_KILL_PROCESS", ENOSYS), ("SCMP_ACT_TRACE", TRACE | 1), ("SCMP_ACT_LOG", 0x7ffc_0000)]
    {
        let program = program(json!({"defaultAction": action, "syscalls": allow}));
        assert_eq!(decided(&program, X86_64, 436, [0; 6]), answer, "{action}");
    }
}

#[test]
fn the_newest_call_is_that_of_each_architecture_and_rules_left_out_count() {
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86"],
        "syscalls": [
            {"names": ["read", "clock_gettime64"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
        ],
    });
    let program = program(profile);
    assert_eq!(decided(&program, X86_64, 135, [0; 6]), EPERM);
    assert_eq!(decided(&program, X86_64, 136, [0; 6]), ENOSYS);
    assert_eq!(decided(&program, X86, 402, [0; 6]), EPERM);
    assert_eq!(decided(&program, X86, 404, [0; 6]), ENOSYS);
}

#[test]
fn calls_of_architectures_that_are_not_listed_kill_the_thread() {
    let none = program(json!({"defaultAction": "SCMP_ACT_ALLOW"}));
    assert_eq!(decided(&none, X86_64, 0, [0; 6]), ALLOW);
    assert_eq!(decided(&none, X86, 3, [0; 6]), KILL_THREAD);
    assert_eq!(decided(&none, AARCH64, 63, [0; 6]), KILL_THREAD);
    assert_eq!(decided(&none, X86_64, X32_BIT, [0; 6]), KILL_THREAD);

    let both = program(json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X32", "SCMP_ARCH_X86"]}));
    assert_eq!(decided(&both, X86_64, 0, [0; 6]), ALLOW);
    assert_eq!(decided(&both, X86, 3, [0; 6]), ALLOW);
    assert_eq!(decided(&both, X86_64, X32_BIT, [0; 6]), ALLOW);
}

#[test]
fn x32_calls_have_numbers_and_a_table_of_their_own() {
    let program = program(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"],
        "syscalls": [{"names": ["ioctl", "clone3"], "action": "SCMP_ACT_ALLOW"}],
    }));
    assert_eq!(decided(&program, X86_64, 16, [0; 6]), ALLOW);
    assert_eq!(decided(&program, X86_64, X32_BIT | 514, [0; 6]), ALLOW);
    assert_eq!(decided(&program, X86_64, X32_BIT | 16, [0; 6]), EPERM);
}

#[test]
fn arms_own_calls_are_no_reason_to_take_new_ones_for_known() {
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_ARM"],
        "syscalls": [{"names": ["read", "clone3", "set_tls"], "action": "SCMP_ACT_ALLOW"}],
    });
    let program = compiled(&profile, Machine::Aarch64).unwrap();
    assert_eq!(decided(&program, ARM, 0xf0005, [0; 6]), ALLOW);
    assert_eq!(decided(&program, ARM, 0xf0004, [0; 6]), EPERM);
    assert_eq!(decided(&program, ARM, 436, [0; 6]), ENOSYS);
    assert_eq!(decided(&program, ARM, 0xf0006, [0; 6]), ENOSYS);
}

#[test]
fn of_rules_without_conditions_the_first_decides_and_conditions_give_way() {
    let program = program(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_TRAP", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
            {"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5},
            {"names": ["read"], "action": "SCMP_ACT_KILL"},
        ],
    }));
    assert_eq!(decided(&program, X86_64, 0, [1, 0, 0, 0, 0, 0]), ERRNO | 5);
}

#[test]
fn a_rule_with_the_default_action_changes_nothing() {
    let program = program(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
        ],
    }));
    assert_eq!(decided(&program, X86_64, 0, [1, 0, 0, 0, 0, 0]), ALLOW);
}

#[test]
fn conditions_on_one_argument_twice_are_rules_of_their_own() {
    let program = program(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": ["read", "mount"], "action": "SCMP_ACT_ALLOW", "args": [
            {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"},
            {"index": 0, "value": 7, "op": "SCMP_CMP_EQ"},
            {"index": 1, "value": 9, "op": "SCMP_CMP_EQ"},
        ]}],
    }));
    for (arguments, answer) in [([1, 0], ALLOW), ([7, 0], ALLOW), ([2, 9], ALLOW), ([2, 0], EPERM)] {
        assert_eq!(decided(&program, X86_64, 0, [arguments[0], arguments[1], 0, 0, 0, 0]), answer, "{arguments:?}");
    }
}

#[test]
fn sixty_four_bit_programs_compare_whole_arguments_and_32_bit_ones_the_low_half() {
    let program = program(json!({
        "defaultAction": "SCMP_ACT_TRAP",
        "architectures": ["SCMP_ARCH_X86"],
        "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 5, "value": 0xffff_ffff_ffff_ff9c_u64, "op": "SCMP_CMP_EQ"}]}],
    }));
    assert_eq!(decided(&program, X86_64, 0, [0, 0, 0, 0, 0, 0xffff_ffff_ffff_ff9c]), ALLOW);
    assert_eq!(decided(&program, X86_64, 0, [0, 0, 0, 0, 0, 0xffff_ff9c]), TRAP);
    assert_eq!(decided(&program, X86, 3, [0, 0, 0, 0, 0, 0xffff_ff9c]), ALLOW);
}

#[test]
fn a_rule_for_a_socket_call_holds_through_socketcall_and_says_what_it_cannot_see() {
    let program = program(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86"],
        "syscalls": [
            {"names": ["connect"], "action": "SCMP_ACT_ERRNO"},
            {"names": ["socket"], "action": "SCMP_ACT_TRAP", "args": [{"index": 0, "value": 16, "op": "SCMP_CMP_EQ"}]},
            {"names": ["shmget"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7},
        ],
    }));
    assert_eq!(decided(&program, X86, 362, [0; 6]), EPERM);
    assert_eq!(decided(&program, X86, 102, [3, 0, 0, 0, 0, 0]), EPERM);
    assert_eq!(decided(&program, X86, 102, [2, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(decided(&program, X86, 102, [1, 0, 0, 0, 0, 0]), TRAP);
    // ipc's version does not hide the call.
    assert_eq!(decided(&program, X86, 117, [0x1_0017, 0, 0, 0, 0, 0]), ERRNO | 7);
    let notes: Vec<String> = program.notes.iter().map(ToString::to_string).collect();
    assert_eq!(notes.len(), 1);
    assert!(notes[0].contains("socket") && notes[0].ends_with("[linux/seccomp/syscalls/1/args]"), "{}", notes[0]);
}

#[test]
fn what_has_no_effect_is_noted_by_pointer() {
    let program = program(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_S390X"],
        "listenerPath": "/run/agent.sock",
        "syscalls": [{"names": ["read", "not_a_call"], "action": "SCMP_ACT_LOG",
            "args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_EQ"}]}],
    }));
    let notes: Vec<String> = program.notes.iter().map(ToString::to_string).collect();
    for pointer in ["architectures/1", "listenerPath", "syscalls/0/names/1", "syscalls/0/args/0/valueTwo"] {
        let end = format!("[linux/seccomp/{pointer}]");
        assert!(notes.iter().any(|note| note.ends_with(&end)), "{pointer} in {notes:?}");
    }
    assert_eq!(notes.len(), 4, "{notes:?}");
}

#[test]
fn flags_are_spec_allow_unless_the_profile_lists_its_own() {
    let flags = |flags: Value| program(json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": flags})).flags;
    assert_eq!(program(json!({"defaultAction": "SCMP_ACT_ALLOW"})).flags, FILTER_FLAG_SPEC_ALLOW);
    assert_eq!(flags(json!([])), 0);
    assert_eq!(flags(json!(["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"])), FILTER_FLAG_LOG);
}

#[test]
fn a_profile_that_notifies_has_a_listener_and_may_wait_killable() {
    let profile = |flags: Value| {
        program(json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/agent.sock", "flags": flags,
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}))
    };
    assert_eq!(profile(json!([])).flags, 1 << 3);
    assert_eq!(profile(json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])).flags, 1 << 3 | 1 << 5);
    assert!(profile(json!([])).notes.is_empty());
    assert!(profile(json!([])).filter.iter().any(|instruction| instruction.k == 0x7fc0_0000));
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name_and_pointer() {
    let rule = |rule: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_LOG"}, rule]});
    let cases = [
        (json!({"defaultAction": "SCMP_ACT_NOTIFY"}), Kind::Invalid, "listenerPath", "listenerPath is missing"),
        (
            json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "agent.sock"}),
            Kind::Invalid,
            "listenerPath",
            "absolute",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_KILL", "defaultErrnoRet": 1}),
            Kind::Invalid,
            "defaultErrnoRet",
            "SCMP_ACT_KILL",
        ),
        (
            rule(json!({"names": ["read"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1})),
            Kind::Invalid,
            "syscalls/1/errnoRet",
            "no errno",
        ),
        (
            rule(json!({"names": ["read"], "action": "SCMP_ACT_TRACE", "errnoRet": 65536})),
            Kind::Invalid,
            "syscalls/1/errnoRet",
            "65536",
        ),
        (
            rule(json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096})),
            Kind::Invalid,
            "syscalls/1/errnoRet",
            "4096",
        ),
        (rule(json!({"names": ["read", ""], "action": "SCMP_ACT_TRAP"})), Kind::Invalid, "syscalls/1/names/1", "empty"),
        (
            rule(
                json!({"names": ["read"], "action": "SCMP_ACT_TRAP", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}),
            ),
            Kind::Invalid,
            "syscalls/1/args/0/index",
            "argument 6",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}),
            Kind::Invalid,
            "flags/0",
            "SCMP_ACT_NOTIFY",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}),
            Kind::Invalid,
            "listenerMetadata",
            "without listenerPath",
        ),
    ];
    for (profile, kind, pointer, words) in cases {
        let (is_kind, is_pointer, text) = refused(profile);
        assert_eq!((is_kind, is_pointer), (kind, format!("linux/seccomp/{pointer}")), "{text}");
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn rules_that_ask_the_same_and_answer_differently_are_refused() {
    let rule = |action: &str| {
        json!({"names": ["personality"], "action": action,
        "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]})
    };
    let (kind, pointer, text) = refused(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [rule("SCMP_ACT_ALLOW"), rule("SCMP_ACT_ALLOW"), rule("SCMP_ACT_TRAP")],
    }));
    assert_eq!((kind, pointer.as_str()), (Kind::Invalid, "linux/seccomp/syscalls/2"));
    assert!(text.contains("personality"), "{text}");
}

#[test]
fn rules_that_differ_only_in_what_socketcall_hides_are_refused_for_x86_alone() {
    let rule = |family: u64, action: &str| {
        json!({"names": ["socket"], "action": action,
        "args": [{"index": 0, "value": family, "op": "SCMP_CMP_EQ"}]})
    };
    let rules = [rule(16, "SCMP_ACT_ERRNO"), rule(40, "SCMP_ACT_TRAP")];
    let program = program(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}));
    assert_eq!(decided(&program, X86_64, 41, [16, 0, 0, 0, 0, 0]), EPERM);
    assert_eq!(decided(&program, X86_64, 41, [40, 0, 0, 0, 0, 0]), TRAP);

    let with_x86 = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "syscalls": rules});
    let (kind, pointer, text) = refused(with_x86);
    assert_eq!((kind, pointer.as_str()), (Kind::Invalid, "linux/seccomp/syscalls/1"));
    assert!(text.contains("leave SCMP_ARCH_X86 out"), "{text}");
}

#[test]
fn long_jumps_reach_and_a_program_longer_than_the_kernel_takes_is_refused() {
    let rules = |count: u64| {
        let rules: Vec<Value> = (0..count)
            .map(|value| {
                let args = json!([{"index": 0, "value": value << 20, "op": "SCMP_CMP_EQ"}]);
                json!({"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": value % 4000, "args": args})
            })
            .collect();
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
    };
    let long = program(rules(600));
    assert!(long.filter.len() > 2400);
    for value in [0_u64, 1, 299, 598, 599] {
        assert_eq!(decided(&long, X86_64, 135, [value << 20, 0, 0, 0, 0, 0]), ERRNO | value as u32);
    }
    assert_eq!(decided(&long, X86_64, 135, [600 << 20, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(decided(&long, X86_64, 0, [0; 6]), ALLOW);

    let (kind, pointer, text) = refused(rules(1200));
    assert_eq!((kind, pointer.as_str()), (Kind::Unsupported, "linux/seccomp/syscalls"));
    assert!(text.contains("at most 4096"), "{text}");
}

/// An allow list as engines hand it over: most calls allowed, some by argument, the rest denied.
fn engine_profile() -> Value {
    serde_json::from_str(include_str!("engine.json")).unwrap()
}

#[test]
fn an_engines_profile_is_decided_in_a_dozen_compares() {
    let program = program(engine_profile());
    assert!(program.filter.len() < 400, "{} instructions", program.filter.len());
    for number in 0..480 {
        let (_, steps) = run(&program.filter, &Call { arch: X86_64, number, arguments: [0; 6] });
        // personality, clone and socket look at arguments.
        let most = if [41, 56, 135].contains(&number) { 60 } else { 16 };
        assert!(steps <= most, "{steps} instructions for {number}");
    }
    for (number, arguments, answer) in [
        (0, [0; 6], ALLOW),
        (165, [0; 6], EPERM),
        (435, [0; 6], ENOSYS),
        (1000, [0; 6], ENOSYS),
        (135, [8, 0, 0, 0, 0, 0], ALLOW),
        (135, [9, 0, 0, 0, 0, 0], EPERM),
        (56, [0x1_0000, 0, 0, 0, 0, 0], ALLOW),
        (56, [0x1000_0000, 0, 0, 0, 0, 0], EPERM),
        (41, [16, 3, 9, 0, 0, 0], ERRNO | 22),
        (41, [16, 3, 0, 0, 0, 0], ALLOW),
    ] {
        assert_eq!(decided(&program, X86_64, number, arguments), answer, "{number} {arguments:?}");
    }
}

#[test]
fn the_profile_that_podman_ships_compiles_where_it_is_installed() {
    let path = "/usr/share/containers/seccomp.json";
    let Ok(text) = std::fs::read_to_string(path) else {
        return println!("skipped: no {path} here (Debian: golang-github-containers-common)");
    };
    let mut profile: Value = serde_json::from_str(&text).unwrap();
    let rules = profile["syscalls"].as_array_mut().unwrap();
    rules.retain(|rule| rule["includes"].as_object().is_none_or(serde_json::Map::is_empty));
    profile["architectures"] = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
    let profile = serde_json::from_value(profile).unwrap();
    let program = compile(&profile, Machine::X86_64).unwrap();
    check(&program.filter);
    assert_eq!(decided(&program, X86_64, 0, [0; 6]), ALLOW);
}
