//! linux.seccomp: every action, argument conditions, architectures, flags.

use harness::{Bundle, Feature, Host, Stop, Value, ensure, ensure_eq, json};

/// personality(2) takes a number and, asked for 0xffffffff, only answers: good to be judged by.
const ASK: &str = "0xffffffff";

/// What the payload and its C library need, generously; not sethostname, not personality.
pub(crate) const NEEDED: &[&str] = &[
    "read",
    "write",
    "open",
    "openat",
    "close",
    "fstat",
    "stat",
    "lstat",
    "newfstatat",
    "statx",
    "mmap",
    "munmap",
    "mprotect",
    "brk",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "ioctl",
    "execve",
    "exit",
    "exit_group",
    "arch_prctl",
    "set_tid_address",
    "set_robust_list",
    "sigaltstack",
    "getrandom",
    "poll",
    "ppoll",
    "futex",
    "getppid",
    "getpid",
    "gettid",
    "readlink",
    "readlinkat",
    "getdents64",
    "writev",
    "readv",
    "madvise",
    "prlimit64",
    "rseq",
    "sched_getaffinity",
    "fcntl",
    "lseek",
    "getcwd",
    "uname",
    "clock_gettime",
    "tgkill",
    "capget",
    "capset",
    "prctl",
    "setuid",
    "setgid",
    "setgroups",
    "setresuid",
    "setresgid",
    "chdir",
    "fchdir",
    "close_range",
    "dup",
    "dup2",
    "dup3",
    "faccessat",
    "faccessat2",
    "access",
    "getuid",
    "getgid",
    "geteuid",
    "getegid",
    "recvmsg",
    "sendmsg",
    "sendto",
    "recvfrom",
    "umask",
    "nanosleep",
    "clock_nanosleep",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_create1",
    "fstatfs",
    "statfs",
    "pread64",
    "seccomp",
    "kill",
    "sched_yield",
    "clone",
    "wait4",
    "setsid",
    "keyctl",
    "socket",
    "connect",
    "pipe2",
    "eventfd2",
    "execveat",
    "getsockopt",
    "mount",
    "pidfd_open",
];

/// A profile that allows everything but what the rule says.
fn profile(host: &Host, rule: Value) -> Result<Bundle, Stop> {
    Ok(host.bundle()?.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})))
}

fn rule(action: &str) -> Value {
    json!({"names": ["personality"], "action": action})
}

/// A rule with one condition on argument 0.
fn condition(op: &str, value: u64, two: u64) -> Value {
    json!({
        "names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 91,
        "args": [{"index": 0, "value": value, "valueTwo": two, "op": op}]
    })
}

/// Which of these arguments of personality(2) are refused.
fn refused(host: &Host, rule: Value, arguments: &[&str]) -> Result<Vec<bool>, Stop> {
    let mut words = Vec::new();
    for argument in arguments {
        words.extend([";", "syscall", "personality", argument]);
    }
    let ran = host.run_well(&profile(host, rule)?.payload(&words[1..]))?;
    Ok(ran.lines()?.iter().map(|line| line.errno() == "EPROTOTYPE").collect())
}

pub(crate) fn trials() -> Feature {
    Feature::new("seccomp")
        .trial("without a profile there is no filter, with one there is", |host| {
            ensure_eq!(host.report(&host.bundle()?)?["seccomp"], "0");
            ensure_eq!(host.report(&profile(host, rule("SCMP_ACT_ERRNO"))?)?["seccomp"], "2");
            Ok(())
        })
        .trial("a refused call answers with EPERM, or with the errno asked for", |host| {
            let words = ["syscall", "personality", ASK, ";", "syscall", "getppid"];
            let [personality, getppid] = host.lines(&profile(host, rule("SCMP_ACT_ERRNO"))?.payload(&words))?;
            ensure_eq!((personality.errno(), getppid.errno()), ("EPERM", ""));
            let mut asked = rule("SCMP_ACT_ERRNO");
            asked["errnoRet"] = json!(38);
            let [personality, _] = host.lines(&profile(host, asked)?.payload(&words))?;
            ensure_eq!(personality.errno(), "ENOSYS");
            Ok(())
        })
        .trial("a default of errno lets only the named calls through", |host| {
            let config = json!({
                "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13,
                "syscalls": [{"names": NEEDED, "action": "SCMP_ACT_ALLOW"}]
            });
            let bundle = host.bundle()?.set("/linux/seccomp", config).payload(&[
                "syscall", "getppid", ";", "syscall", "personality", ASK, ";", "syscall", "setpriority", "0", "0", "5",
            ]);
            let [getppid, personality, priority] = host.lines(&bundle)?;
            ensure_eq!((getppid.errno(), personality.errno(), priority.errno()), ("", "EACCES", "EACCES"));
            Ok(())
        })
        .trial("killing actions end the payload with SIGSYS", |host| {
            for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS"] {
                let ran = host.run(&profile(host, rule(action))?.payload(&["say", "a", ";", "syscall", "personality", ASK, ";", "say", "b"]))?;
                ensure_eq!(ran.code(), Some(128 + 31), "{action}: {}", ran.finished);
                ensure!(!ran.finished.stdout.contains('b'), "{action}: it lived on");
            }
            Ok(())
        })
        .trial("a trap is a SIGSYS too", |host| {
            let ran = host.run(&profile(host, rule("SCMP_ACT_TRAP"))?.payload(&["syscall", "personality", ASK]))?;
            ensure_eq!(ran.code(), Some(128 + 31), "{}", ran.finished);
            Ok(())
        })
        .trial("logging lets the call through", |host| {
            let [line] = host.lines(&profile(host, rule("SCMP_ACT_LOG"))?.payload(&["syscall", "personality", ASK]))?;
            ensure_eq!((line.errno(), line["result"].as_i64()), ("", Some(0)));
            Ok(())
        })
        .trial("tracing without a tracer answers ENOSYS", |host| {
            let [line] = host.lines(&profile(host, rule("SCMP_ACT_TRACE"))?.payload(&["syscall", "personality", ASK]))?;
            ensure_eq!(line.errno(), "ENOSYS");
            Ok(())
        })
        .trial("each operator judges the argument as a 64-bit number", |host| {
            let arguments = ["0", "7", "8", "9", "0x100000008"];
            for (op, value, two, expected) in [
                ("SCMP_CMP_EQ", 8, 0, [false, false, true, false, false]),
                ("SCMP_CMP_NE", 8, 0, [true, true, false, true, true]),
                ("SCMP_CMP_LT", 8, 0, [true, true, false, false, false]),
                ("SCMP_CMP_LE", 8, 0, [true, true, true, false, false]),
                ("SCMP_CMP_GT", 8, 0, [false, false, false, true, true]),
                ("SCMP_CMP_GE", 8, 0, [false, false, true, true, true]),
                ("SCMP_CMP_MASKED_EQ", 0xf, 8, [false, false, true, false, true]),
                ("SCMP_CMP_EQ", 0x1_0000_0008, 0, [false, false, false, false, true]),
            ] {
                let seen = refused(host, condition(op, value, two), &arguments)?;
                ensure_eq!(seen, expected, "{op} {value:#x} {two:#x}");
            }
            Ok(())
        })
        .trial("conditions on different arguments must all hold", |host| {
            let both = json!({
                "names": ["setpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 91,
                "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}, {"index": 2, "value": 7, "op": "SCMP_CMP_EQ"}]
            });
            let bundle = profile(host, both)?.payload(&[
                "syscall", "setpriority", "0", "0", "7", ";", "syscall", "setpriority", "0", "0", "8", ";", "syscall", "setpriority", "1", "0", "7",
            ]);
            let seen = host.lines::<3>(&bundle)?.map(|line| line.errno() == "EPROTOTYPE");
            ensure_eq!(seen, [true, false, false]);
            Ok(())
        })
        .trial("two rules for one call are alternatives", |host| {
            let config = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [condition("SCMP_CMP_EQ", 1, 0), condition("SCMP_CMP_EQ", 4, 0)]});
            let bundle = host.bundle()?.set("/linux/seccomp", config).payload(&[
                "syscall", "personality", "1", ";", "syscall", "personality", "4", ";", "syscall", "personality", ASK,
            ]);
            let seen = host.lines::<3>(&bundle)?.map(|line| line.errno() == "EPROTOTYPE");
            ensure_eq!(seen, [true, true, false]);
            Ok(())
        })
        .trial("architectures of the config are accepted, unknown ones refused by name", |host| {
            let with = |list: Value| {
                let bundle = profile(host, rule("SCMP_ACT_ERRNO"))?.payload(&["syscall", "personality", ASK]);
                Ok::<_, Stop>(bundle.set("/linux/seccomp/architectures", list))
            };
            let list = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]);
            let [line] = host.lines(&with(list)?)?;
            ensure_eq!(line.errno(), "EPERM");
            let said = host.create_fails(&with(json!(["SCMP_ARCH_PDP11"]))?)?;
            ensure!(said.stderr.contains("PDP11"), "{said}");
            Ok(())
        })
        .trial("flags of the config are accepted, unknown ones refused by name", |host| {
            host.except("runc", "1.1 has no flags")?;
            let with = |list: Value| {
                let bundle = profile(host, rule("SCMP_ACT_ERRNO"))?.payload(&["syscall", "personality", ASK]);
                Ok::<_, Stop>(bundle.set("/linux/seccomp/flags", list))
            };
            for flag in ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"] {
                let [line] = host.lines(&with(json!([flag]))?)?;
                ensure_eq!(line.errno(), "EPERM", "{flag}");
            }
            host.create_fails(&with(json!(["SECCOMP_FILTER_FLAG_STORM"]))?)?;
            Ok(())
        })
        .trial("an unknown action and an unknown operator are refused by name", |host| {
            let said = host.create_fails(&profile(host, rule("SCMP_ACT_SCOLD"))?)?;
            ensure!(said.stderr.contains("SCMP_ACT_SCOLD"), "{said}");
            host.create_fails(&profile(host, condition("SCMP_CMP_LIKE", 1, 0))?)?;
            Ok(())
        })
        .trial("a call that this kernel's table does not know is passed over", |host| {
            let config = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["no_such_call_ever", "personality"], "action": "SCMP_ACT_ERRNO"}]});
            let bundle = host.bundle()?.set("/linux/seccomp", config).payload(&["syscall", "personality", ASK]);
            let [line] = host.lines(&bundle)?;
            ensure_eq!(line.errno(), "EPERM");
            Ok(())
        })
        .trial("the filter holds without noNewPrivileges and for an ordinary user", |host| {
            for (bit, uid) in [(false, 0), (false, 1000), (true, 1000)] {
                let bundle = profile(host, rule("SCMP_ACT_ERRNO"))?
                    .set("/process/noNewPrivileges", json!(bit))
                    .set("/process/user/uid", json!(uid))
                    .payload(&["syscall", "personality", ASK, ";", "report"]);
                let [line, report] = host.lines(&bundle)?;
                ensure_eq!(line.errno(), "EPERM", "noNewPrivileges {bit}, uid {uid}");
                ensure_eq!(report["no_new_privileges"], if bit { "1" } else { "0" });
            }
            Ok(())
        })
        .trial("with noNewPrivileges the filter needs to allow the exec alone, and what the payload makes itself", |host| {
            host.only_wharf("others make calls of their own after the load")?;
            // What the payload's own start takes is beyond us, so a call that kills is one that a runtime would make.
            let names = ["mmap", "brk", "close", "sendmsg", "recvmsg", "read", "getpid", "prctl", "capset", "setresuid"];
            let profile = json!({"defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": names, "action": "SCMP_ACT_KILL_PROCESS"}]});
            // No loader and no start-up: it ends at once.
            let bundle = host.bundle()?.set("/linux/seccomp", profile).args(&["/bin/end"]);
            std::fs::write(bundle.rootfs().join("bin/end"), tiny())?;
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(bundle.rootfs().join("bin/end"), PermissionsExt::from_mode(0o755))?;
            ensure_eq!(host.run(&bundle)?.finished.code(), Some(42));
            Ok(())
        })
        .trial("children inherit the filter", |host| {
            let bundle = profile(host, rule("SCMP_ACT_ERRNO"))?.payload(&["spawn", "/bin/payload", "syscall", "personality", ASK]);
            let [spawned] = host.lines(&bundle)?;
            ensure!(spawned.text("/stdout").contains("EPERM"), "{spawned:?}");
            Ok(())
        })
}

/// A program of one system call: exit_group(42).
fn tiny() -> Vec<u8> {
    #[cfg(target_arch = "x86_64")]
    let (machine, code): (u16, &[u8]) = (62, &[0xb8, 231, 0, 0, 0, 0xbf, 42, 0, 0, 0, 0x0f, 0x05]);
    #[cfg(target_arch = "aarch64")]
    let (machine, code): (u16, &[u8]) = (183, &[0x40, 0x05, 0x80, 0xd2, 0xc8, 0x0b, 0x80, 0xd2, 0x01, 0, 0, 0xd4]);
    const BASE: u64 = 0x40_0000;
    let size = (120 + code.len()) as u64;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    for half in [2, machine] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1u32.to_le_bytes());
    for word in [BASE + 120, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    // One segment to be loaded, readable and executable.
    file.extend(1u32.to_le_bytes());
    file.extend(5u32.to_le_bytes());
    for word in [0, BASE, BASE, size, size, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}
