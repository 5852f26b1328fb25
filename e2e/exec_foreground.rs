//! `exec` in the foreground: what passes between the caller and the command.

use harness::{Feature, Host, Outcome, ensure, ensure_eq, json};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

pub(crate) fn trials() -> Feature {
    Feature::new("exec_foreground")
        .trial("signals are passed on to the command", signals)
        .trial("input, output and errors are the caller's", streams)
        .trial("--preserve-fds hands descriptors on, and nothing else is open", preserved)
        .trial("a descriptor that the caller has not got is refused", |host| {
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            let ran = container.exec(&["--preserve-fds", "5"], &["/bin/payload", "nothing"])?;
            ensure!(ran.code() != Some(0), "{}", ran.finished);
            container.delete_force()
        })
        .trial("no signal is blocked or ignored, whatever the caller's are", |host| {
            let container = host.start(&host.bundle()?.payload(&["report", ";", "sleep"]))?;
            let mut command = std::process::Command::new("sh");
            command.args(["-c", "trap '' PIPE INT TERM USR1; exec \"$@\"", "sh"]).arg(host.runtime.program());
            command.arg("--root").arg(host.root()).args(["exec", container.id(), "/bin/payload", "report"]);
            let ended = host.runtime.spawn_command(command)?.finish()?;
            let report: harness::Value = ended.stdout.trim().parse()?;
            // The payload's own runtime ignores one.
            ensure_eq!(report["signals"], container.lines(1)?[0]["signals"]);
            container.delete_force()
        })
        .trial("the container's filter of system calls holds for the command", |host| {
            let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 91}
            ]});
            for no_new_privileges in [true, false] {
                let bundle = host
                    .bundle()?
                    .payload(&["sleep"])
                    .set("/linux/seccomp", profile.clone())
                    .set("/process/noNewPrivileges", json!(no_new_privileges));
                let container = host.start(&bundle)?;
                let words = ["syscall", "personality", "0xffffffff", ";", "report"];
                let [refused, report] = container.exec_lines(&[], &words)?;
                ensure_eq!((refused.errno(), &report["seccomp"]), ("EPROTOTYPE", &json!("2")));
                container.delete_force()?;
            }
            Ok(())
        })
        .trial("execCPUAffinity chooses the CPUs", affinity)
}

fn signals(host: &Host) -> Outcome {
    let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGWINCH] {
        let running = host.spawn(&["exec", container.id(), "/bin/payload", "wait-signal"])?;
        let begun = Instant::now();
        while !running.stdout_so_far().contains("ready") {
            ensure!(begun.elapsed() < Duration::from_secs(10), "the command does not run");
            std::thread::sleep(Duration::from_millis(2));
        }
        kill(Pid::from_raw(running.pid()), signal)?;
        let ended = running.finish()?;
        ensure!(ended.stdout.contains(signal.as_str()), "{ended}");
    }
    // One that the command does not catch.
    let running = host.spawn(&["exec", container.id(), "/bin/payload", "say", "here", ";", "sleep"])?;
    while !running.stdout_so_far().contains("here") {
        std::thread::sleep(Duration::from_millis(2));
    }
    kill(Pid::from_raw(running.pid()), Signal::SIGTERM)?;
    ensure_eq!(running.finish()?.code(), Some(143));
    container.delete_force()
}

fn streams(host: &Host) -> Outcome {
    let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
    let mut command = host.runtime.command();
    command.args(["exec", container.id(), "/bin/payload", "read", "/proc/self/fd/0", ";", "complain", "aloud"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().expect("a pipe").write_all(b"words")?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(said.contains("\"words\""), "{said}");
    ensure_eq!(String::from_utf8_lossy(&output.stderr), "aloud\n");
    container.delete_force()
}

fn preserved(host: &Host) -> Outcome {
    let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "exec 3</etc/hostname 4</etc/passwd 5</etc/group; exec \"$@\"", "sh"]);
    command.arg(host.runtime.program()).arg("--root").arg(host.root());
    command.args(["exec", "--preserve-fds", "2", container.id(), "/bin/payload", "report"]);
    let ended = host.runtime.spawn_command(command)?.finish()?;
    let report: harness::Value = ended.stdout.trim().parse()?;
    let open: Vec<&String> = report["fds"].as_object().map(|fds| fds.keys().collect()).unwrap_or_default();
    ensure_eq!(open, ["0", "1", "2", "3", "4"]);
    ensure!(report["fds"]["4"].as_str().is_some_and(|path| path.ends_with("passwd")), "{}", report["fds"]);
    container.delete_force()
}

fn affinity(host: &Host) -> Outcome {
    host.except("runc", "1.1 does not know it")?;
    let container = host.start(&host.bundle()?.payload(&["report", ";", "sleep"]))?;
    let all = container.lines(1)?[0].text("/affinity").to_owned();
    let cpus: Vec<u32> = all.split(',').flat_map(|part| part.split('-')).filter_map(|word| word.parse().ok()).collect();
    let (Some(first), Some(last)) = (cpus.first(), cpus.last()) else {
        return Err(harness::Stop::failed(format!("no CPUs: {all:?}")));
    };
    if first == last {
        return Err(harness::Stop::skipped("this host has one CPU"));
    }
    let bundle = host.bundle()?.payload(&["report", ";", "sleep"]);
    for (value, expected) in [
        (json!({"initial": first.to_string()}), first),
        (json!({"initial": first.to_string(), "final": last.to_string()}), last),
        (json!({"final": format!("{last},{last}-{last}")}), last),
    ] {
        let bundle = host.bundle()?.payload(&["report", ";", "sleep"]).set("/process/execCPUAffinity", value.clone());
        let own = host.start(&bundle)?;
        // It is not for the container's own process.
        ensure_eq!(own.lines(1)?[0].text("/affinity"), all);
        let [joined] = own.exec_lines(&[], &["report"])?;
        ensure_eq!(joined.text("/affinity"), expected.to_string(), "{value}");
        own.delete_force()?;
    }
    for wrong in [json!({"final": "3-1"}), json!({"initial": "8191"}), json!({"final": "x"})] {
        let file =
            crate::exec::process_file(host, &bundle.config, |process| process["execCPUAffinity"] = wrong.clone())?;
        let ran = container.exec(&["--process", &file], &[])?;
        ensure_eq!(ran.code(), Some(255), "{wrong}: {}", ran.finished);
        ensure!(ran.finished.last_line().contains("[execCPUAffinity/"), "{}", ran.finished);
    }
    container.delete_force()
}
