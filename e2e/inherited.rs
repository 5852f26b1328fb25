//! What a payload inherits from its runtime, read from /proc/self: nothing that was not asked for.

use harness::{Feature, Stop, ensure, ensure_eq, json};
use std::os::fd::AsRawFd;

pub(crate) fn trials() -> Feature {
    Feature::new("inherited")
        .trial("descriptors 0 to 2 are open and no other", |host| {
            let report = host.report(&host.bundle()?)?;
            let open: Vec<_> = report["fds"].as_object().into_iter().flatten().map(|(fd, _)| fd.as_str()).collect();
            ensure_eq!(open, ["0", "1", "2"]);
            Ok(())
        })
        .trial("a descriptor that the caller left open is closed", |host| {
            let bundle = host.bundle()?;
            bundle.save()?;
            let leak = std::fs::File::open("/etc/passwd")?;
            nix::fcntl::fcntl(&leak, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))?;
            let report = host.report(&bundle);
            drop(leak);
            let report = report?;
            let open: Vec<_> = report["fds"].as_object().into_iter().flatten().map(|(fd, _)| fd.as_str()).collect();
            ensure_eq!(open, ["0", "1", "2"]);
            Ok(())
        })
        .trial("--preserve-fds keeps exactly that many, from 3 on", |host| {
            let bundle = host.bundle()?.payload(&["report"]);
            bundle.save()?;
            // Descriptors 3, 4 and 5 of the runtime, made by the shell; the payload is to have 3 and 4.
            let script = "exec 3</etc/hostname 4</etc/passwd 5</etc/group; exec \"$@\"";
            let mut command = std::process::Command::new("/bin/sh");
            command.args(["-c", script, "sh"]).arg(host.runtime.program()).arg("--root").arg(host.root());
            command.args(["run", "--preserve-fds", "2", "--bundle", bundle.dir_text(), bundle.id()]);
            let finished = host.runtime.spawn_command(command)?.finish()?;
            let report: harness::Value = serde_json::from_str(finished.stdout.lines().next().unwrap_or_default())
                .map_err(|_| Stop::failed(finished.to_string()))?;
            let open: Vec<_> = report["fds"].as_object().into_iter().flatten().map(|(fd, _)| fd.as_str()).collect();
            ensure_eq!(open, ["0", "1", "2", "3", "4"]);
            ensure!(report["fds"]["4"].as_str().is_some_and(|path| path.ends_with("passwd")), "{}", report["fds"]);
            Ok(())
        })
        .trial("no signal is blocked, ignored, caught or pending", |host| {
            host.except("runc", "hands on what the caller ignores")?;
            let report = host.report(&host.bundle()?)?;
            ensure_eq!(report.mask("/signals/blocked"), 0, "blocked");
            ensure_eq!(report.mask("/signals/pending"), 0, "pending");
            // The payload's own standard library ignores SIGPIPE and catches SIGSEGV and SIGBUS before main.
            ensure_eq!(report.mask("/signals/ignored") & !(1 << 12), 0, "ignored");
            ensure_eq!(report.mask("/signals/caught") & !(1 << 10 | 1 << 6), 0, "caught");
            Ok(())
        })
        .trial("signals that the caller ignores or blocks are the payload's again", |host| {
            host.except("runc", "hands on what the caller ignores and blocks")?;
            let bundle = host.bundle()?;
            bundle.save()?;
            let mut blocked = nix::sys::signal::SigSet::empty();
            blocked.add(nix::sys::signal::Signal::SIGUSR1);
            blocked.add(nix::sys::signal::Signal::SIGCHLD);
            // The shell's trap '' ignores and hands that on; the mask is handed on by fork and exec.
            let script = "trap '' HUP INT TERM USR2; exec \"$@\"";
            let mut command = std::process::Command::new("/bin/sh");
            command.args(["-c", script, "sh"]).arg(host.runtime.program()).arg("--root").arg(host.root());
            command.args(["run", "--bundle", bundle.dir_text(), bundle.id()]);
            blocked.thread_block()?;
            let running = host.runtime.spawn_command(command);
            blocked.thread_unblock()?;
            let finished = running?.finish()?;
            let report: harness::Value = serde_json::from_str(finished.stdout.lines().next().unwrap_or_default())
                .map_err(|_| Stop::failed(finished.to_string()))?;
            let report = harness::Report(report);
            ensure_eq!(report.mask("/signals/blocked"), 0, "blocked");
            ensure_eq!(report.mask("/signals/ignored") & !(1 << 12), 0, "ignored");
            Ok(())
        })
        .trial("standard streams are the caller's own", |host| {
            host.except("runc", "copies them through pipes")?;
            let bundle = host.bundle()?.payload(&["report", ";", "complain", "to", "stderr"]);
            let ran = host.run_well(&bundle)?;
            ensure!(ran.finished.stderr.contains("to stderr"), "{}", ran.finished);
            let report = &ran.lines()?[0];
            ensure!(report["fds"]["0"].as_str().is_some_and(|path| path.ends_with("null")), "{}", report["fds"]);
            ensure!(report["fds"]["1"].as_str().is_some_and(|path| path.contains("stdout")), "{}", report["fds"]);
            Ok(())
        })
        .trial("a closed stdin stays no surprise", |host| {
            let bundle = host.bundle()?;
            bundle.save()?;
            let mut command = std::process::Command::new("/bin/sh");
            command.args(["-c", "exec \"$@\" <&-", "sh"]).arg(host.runtime.program()).arg("--root").arg(host.root());
            command.args(["run", "--bundle", bundle.dir_text(), bundle.id()]);
            let finished = host.runtime.spawn_command(command)?.finish()?;
            ensure_eq!(finished.code(), Some(0));
            let report: harness::Value = serde_json::from_str(finished.stdout.lines().next().unwrap_or_default())
                .map_err(|_| Stop::failed(finished.to_string()))?;
            let extra =
                report["fds"].as_object().into_iter().flatten().filter(|(fd, _)| fd.len() > 1 || fd.as_str() > "2");
            ensure_eq!(extra.count(), 0);
            Ok(())
        })
        .trial("the payload is the only thread, with the default personality, scheduler and dumpable", |host| {
            let report = host.report(&host.bundle()?)?;
            ensure_eq!((report.text("/threads"), report.text("/personality")), ("1", "00000000"));
            ensure_eq!(report.text("/scheduler"), "0");
            Ok(())
        })
        .trial("the session keyring is a new one, and the caller's with --no-new-keyring", |host| {
            let first = host.report(&host.bundle()?)?;
            let second = host.report(&host.bundle()?)?;
            if first["session_keyring"].is_null() {
                return Err(Stop::skipped("this kernel has no session keyrings"));
            }
            ensure!(first["session_keyring"] != second["session_keyring"], "both have {}", first["session_keyring"]);
            let kept = || -> Result<harness::Value, Stop> {
                let bundle = host.bundle()?;
                bundle.save()?;
                let run = ["run", "--no-new-keyring", "--bundle", bundle.dir_text(), bundle.id()];
                let report: harness::Value = host.runtime.must(&run)?.parse()?;
                Ok(report["session_keyring"].clone())
            };
            // The caller is the same both times.
            let callers = kept()?;
            ensure_eq!(kept()?, callers);
            ensure!(callers != first["session_keyring"], "a new one with --no-new-keyring");
            Ok(())
        })
        .trial("the session keyring is named after the container, for what joins it too", |host| {
            let bundle = host.bundle()?.payload(&["sleep"]);
            let container = host.start(&bundle)?;
            let [keys] = container.exec_lines(&[], &["read", "/proc/keys"])?;
            if !keys.errno().is_empty() {
                return Err(Stop::skipped("this kernel has no key rings"));
            }
            let name = format!("_ses.{}:", container.id());
            let named =
                keys.text("/text").lines().filter(|line| line.contains("keyring") && line.contains(&name)).count();
            ensure_eq!(named, 1, "key rings called {name} in {}", keys.text("/text"));
            container.delete_force()
        })
        .trial("the caller's working directory is not reachable", |host| {
            let report = host.report(&host.bundle()?.set("/process/cwd", json!("/tmp")))?;
            ensure_eq!(report["cwd"], "/tmp");
            ensure!(std::io::stdin().as_raw_fd() == 0, "the harness lost its own stdin");
            Ok(())
        })
}
