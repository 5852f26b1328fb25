//! process.rlimits.

use harness::{Feature, ensure, ensure_eq, json};

/// Type in the config, name in /proc/self/limits, a soft and a hard value that root may set anywhere.
const LIMITS: [(&str, &str, u64, u64); 16] = [
    ("RLIMIT_AS", "Max address space", 1 << 36, 1 << 37),
    ("RLIMIT_CORE", "Max core file size", 0, 4096),
    ("RLIMIT_CPU", "Max cpu time", 600, 1200),
    ("RLIMIT_DATA", "Max data size", 1 << 36, 1 << 37),
    ("RLIMIT_FSIZE", "Max file size", 1 << 30, 1 << 31),
    ("RLIMIT_LOCKS", "Max file locks", 100, 200),
    ("RLIMIT_MEMLOCK", "Max locked memory", 4096, 8192),
    ("RLIMIT_MSGQUEUE", "Max msgqueue size", 4096, 8192),
    ("RLIMIT_NICE", "Max nice priority", 0, 0),
    ("RLIMIT_NOFILE", "Max open files", 77, 99),
    ("RLIMIT_NPROC", "Max processes", 300, 400),
    ("RLIMIT_RSS", "Max resident set", 1 << 30, 1 << 31),
    ("RLIMIT_RTPRIO", "Max realtime priority", 0, 0),
    ("RLIMIT_RTTIME", "Max realtime timeout", 1000, 2000),
    ("RLIMIT_SIGPENDING", "Max pending signals", 50, 60),
    ("RLIMIT_STACK", "Max stack size", 1 << 20, 1 << 23),
];

pub(crate) fn trials() -> Feature {
    Feature::new("rlimits")
        .trial("every limit that Linux has gets its soft and hard value", |host| {
            let list: Vec<_> = LIMITS
                .iter()
                .map(|(kind, _, soft, hard)| json!({"type": kind, "soft": soft, "hard": hard}))
                .collect();
            let report = host.report(&host.bundle()?.set("/process/rlimits", json!(list)))?;
            for (kind, name, soft, hard) in LIMITS {
                let expected = json!([soft.to_string(), hard.to_string()]);
                ensure_eq!(report["rlimits"][name], expected, "{kind}");
            }
            Ok(())
        })
        .trial("a limit of 2^64-1 is unlimited", |host| {
            let all = u64::MAX;
            let list = json!([{"type": "RLIMIT_CORE", "soft": 5, "hard": all}, {"type": "RLIMIT_FSIZE", "soft": all, "hard": all}]);
            let report = host.report(&host.bundle()?.set("/process/rlimits", list))?;
            ensure_eq!(report["rlimits"]["Max core file size"], json!(["5", "unlimited"]));
            ensure_eq!(report["rlimits"]["Max file size"], json!(["unlimited", "unlimited"]));
            Ok(())
        })
        .trial("limits that the config does not name stay the caller's", |host| {
            let own = std::fs::read_to_string("/proc/self/limits")?;
            let line = own.lines().find(|line| line.starts_with("Max processes")).unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            let report = host.report(&host.bundle()?)?;
            ensure_eq!(report["rlimits"]["Max processes"], json!([words[2], words[3]]));
            Ok(())
        })
        .trial("a lowered limit binds", |host| {
            let list = json!([{"type": "RLIMIT_NOFILE", "soft": 32, "hard": 32}]);
            let bundle = host.bundle()?.set("/process/rlimits", list).payload(&["setrlimit", "nofile", "64", "64"]);
            let [raised] = host.lines(&bundle)?;
            ensure_eq!(raised.errno(), "EPERM");
            Ok(())
        })
        .trial("the same limit twice is refused", |host| {
            host.except("runc", "takes the last one")?;
            let one = json!({"type": "RLIMIT_CORE", "soft": 1, "hard": 1});
            let said = host.create_fails(&host.bundle()?.set("/process/rlimits", json!([one, one])))?;
            ensure!(said.stderr.contains("RLIMIT_CORE"), "{said}");
            Ok(())
        })
        .trial("a soft limit above the hard one is refused by name", |host| {
            let list = json!([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]);
            let ran = host.run(&host.bundle()?.set("/process/rlimits", list))?;
            ensure!(ran.code() != Some(0), "it ran");
            Ok(())
        })
        .trial("an unknown limit is refused by name", |host| {
            let list = json!([{"type": "RLIMIT_ANCHOR", "soft": 1, "hard": 1}]);
            let said = host.create_fails(&host.bundle()?.set("/process/rlimits", list))?;
            ensure!(said.stderr.contains("RLIMIT_ANCHOR"), "{said}");
            Ok(())
        })
}
