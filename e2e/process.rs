//! process: arguments, environment, working directory and the search for the program.

use harness::{Feature, ensure, ensure_eq, json};

pub(crate) fn trials() -> Feature {
    Feature::new("process")
        .trial("arguments arrive as they are", |host| {
            let long = "x".repeat(100 * 1024);
            let args =
                ["/bin/payload", "report", ";", "say", "", "two words", "ä\u{1F6A2}", "tab\tnewline\n", "$HOME", &long];
            let [report, said] = host.lines(&host.bundle()?.args(&args))?;
            ensure_eq!(report["args"], json!(args));
            ensure_eq!(said["said"], json!(&args[4..]));
            Ok(())
        })
        .trial("argument zero is as written and need not be the program's path", |host| {
            let bundle = host.bundle()?.args(&["payload", "report"]);
            ensure_eq!(host.report(&bundle)?["args"][0], "payload");
            Ok(())
        })
        .trial("the environment is that of the config and nothing of the caller's", |host| {
            let env = json!(["PATH=/bin", "EMPTY=", "EQUALS=a=b=c", "HOME=/elsewhere", "SPACES= a b ", "ä=ö"]);
            let report = host.report(&host.bundle()?.set("/process/env", env.clone()))?;
            let mut seen: Vec<_> = report.list("/env");
            let mut expected: Vec<_> = env.as_array().unwrap().iter().filter_map(|value| value.as_str()).collect();
            seen.sort();
            expected.sort();
            ensure_eq!(seen, expected);
            Ok(())
        })
        .trial("HOME is taken from the container's passwd where the config has none", |host| {
            for (uid, home) in [(0, "HOME=/root"), (1000, "HOME=/home"), (4242, "HOME=/")] {
                let report = host.report(&host.bundle()?.set("/process/user/uid", json!(uid)))?;
                ensure!(report.list("/env").contains(&home), "uid {uid}: no {home} in {}", report["env"]);
            }
            Ok(())
        })
        .trial("the working directory is that of the config", |host| {
            let bundle = host.bundle()?.directory("/var/work here")?.set("/process/cwd", json!("/var/work here"));
            ensure_eq!(host.report(&bundle)?["cwd"], "/var/work here");
            Ok(())
        })
        .trial("a missing working directory is made", |host| {
            let bundle = host.bundle()?.set("/process/cwd", json!("/var/made/for/this"));
            ensure_eq!(host.report(&bundle)?["cwd"], "/var/made/for/this");
            Ok(())
        })
        .trial("a relative working directory is refused", |host| {
            host.create_fails(&host.bundle()?.set("/process/cwd", json!("var")))?;
            Ok(())
        })
        .trial("a working directory that is a file is refused by name", |host| {
            let bundle = host.bundle()?.file("/var/file", "")?.set("/process/cwd", json!("/var/file"));
            let ran = host.run(&bundle)?;
            ensure!(ran.code() != Some(0), "it ran");
            ensure!(ran.finished.stderr.contains("/var/file"), "the message names no path: {}", ran.finished);
            Ok(())
        })
        .trial("a program without a slash is looked up in the container's PATH", |host| {
            let bundle = host.bundle()?.directory("/opt/tools")?;
            std::fs::rename(bundle.rootfs().join("bin/payload"), bundle.rootfs().join("opt/tools/ship"))?;
            let bundle = bundle.args(&["ship", "report"]).set("/process/env", json!(["PATH=/nowhere:/bin:/opt/tools"]));
            ensure_eq!(host.report(&bundle)?["dumpable_exe"], "/opt/tools/ship");
            Ok(())
        })
        .trial("a file that cannot be executed does not end the search in PATH", |host| {
            let bundle = host.bundle()?.file("/opt/first/payload", "not a program")?;
            let bundle = bundle.args(&["payload", "report"]).set("/process/env", json!(["PATH=/opt/first:/bin"]));
            ensure_eq!(host.report(&bundle)?["dumpable_exe"], "/bin/payload");
            Ok(())
        })
        .trial("a relative path of the program starts at the working directory", |host| {
            let bundle = host.bundle()?.set("/process/cwd", json!("/var")).args(&["../bin/payload", "report"]);
            ensure_eq!(host.report(&bundle)?["dumpable_exe"], "/bin/payload");
            Ok(())
        })
        .trial("the program may be a script", |host| {
            let bundle = host.bundle()?.file("/bin/script", "#!/bin/payload say\n")?;
            std::fs::set_permissions(
                bundle.rootfs().join("bin/script"),
                std::os::unix::fs::PermissionsExt::from_mode(0o755),
            )?;
            let [said] = host.lines(&bundle.args(&["/bin/script"]))?;
            ensure_eq!(said["said"], json!(["/bin/script"]));
            Ok(())
        })
        .trial("the payload is process 1, leads a session, and sees no other process", |host| {
            let [report, listed] = host.lines(&host.bundle()?.payload(&["report", ";", "list", "/proc"]))?;
            ensure_eq!((&report["pid"], &report["ppid"]), (&json!(1), &json!(0)));
            ensure_eq!((&report["sid"], &report["pgid"]), (&json!(1), &json!(1)));
            let pids: Vec<_> =
                listed.list("/names").into_iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit())).collect();
            ensure_eq!(pids, ["1"]);
            Ok(())
        })
        .trial("empty arguments are refused", |host| {
            host.create_fails(&host.bundle()?.set("/process/args", json!([])))?;
            Ok(())
        })
}
