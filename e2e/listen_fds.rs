//! LISTEN_FDS: descriptors handed on as systemd does to a service with sockets (sd_listen_fds(3)).

use harness::{Bundle, Feature, Finished, Host, Report, Stop, ensure, ensure_eq, json};
use std::process::Command;

pub(crate) fn trials() -> Feature {
    Feature::new("listen_fds")
        .trial("they are the payload's from 3 on, and its environment says so", |host| {
            let report = report(&run(host, &host.bundle()?, "LISTEN_PID=$$ LISTEN_FDS=2", &[])?)?;
            ensure_eq!(open(&report), ["0", "1", "2", "3", "4"]);
            ensure!(report["fds"]["4"].as_str().is_some_and(|path| path.ends_with("passwd")), "{}", report["fds"]);
            ensure_eq!(listen(&report), ["LISTEN_FDS=2", "LISTEN_PID=1"]);
            Ok(())
        })
        .trial("their names are handed on", |host| {
            host.except("runc", "drops them")?;
            let environment = "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=http:https";
            let report = report(&run(host, &host.bundle()?, environment, &[])?)?;
            ensure_eq!(listen(&report), ["LISTEN_FDNAMES=http:https", "LISTEN_FDS=2", "LISTEN_PID=1"]);
            Ok(())
        })
        .trial("those of --preserve-fds come after them", |host| {
            let environment = "LISTEN_PID=$$ LISTEN_FDS=1";
            let report = report(&run(host, &host.bundle()?, environment, &["--preserve-fds", "2"])?)?;
            ensure_eq!(open(&report), ["0", "1", "2", "3", "4", "5"]);
            ensure_eq!(listen(&report), ["LISTEN_FDS=1", "LISTEN_PID=1"]);
            Ok(())
        })
        .trial("what is meant for another process is not touched", |host| {
            for environment in ["LISTEN_PID=1 LISTEN_FDS=2", "LISTEN_FDS=2", "LISTEN_PID=$$ LISTEN_FDS=0"] {
                let report = report(&run(host, &host.bundle()?, environment, &[])?)?;
                ensure_eq!(open(&report), ["0", "1", "2"], "{environment}");
                ensure!(listen(&report).is_empty(), "{environment}: {:?}", listen(&report));
            }
            Ok(())
        })
        .trial("what config.json says of them is replaced", |host| {
            host.except("runc", "leaves both in the environment")?;
            let bundle =
                host.bundle()?.push("/process/env", json!("LISTEN_FDS=7")).push("/process/env", json!("LISTEN_PID=9"));
            let told = report(&run(host, &bundle, "LISTEN_PID=$$ LISTEN_FDS=1", &[])?)?;
            ensure_eq!(listen(&told), ["LISTEN_FDS=1", "LISTEN_PID=1"]);
            let bundle = host.bundle()?.push("/process/env", json!("LISTEN_FDS=7"));
            ensure_eq!(listen(&report(&run(host, &bundle, "A=b", &[])?)?), ["LISTEN_FDS=7"]);
            Ok(())
        })
        .trial("LISTEN_PID is the payload's own pid, also without a pid namespace", |host| {
            host.except("runc", "says 1")?;
            let bundle = host.bundle()?.without_namespace("pid");
            let report = report(&run(host, &bundle, "LISTEN_PID=$$ LISTEN_FDS=1", &[])?)?;
            ensure_eq!(listen(&report), ["LISTEN_FDS=1".to_owned(), format!("LISTEN_PID={}", report["pid"])]);
            Ok(())
        })
        .trial("a filter that forbids getpid changes nothing of it", |host| {
            host.except("runc", "needs getpid itself")?;
            let profile = json!({"defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["getpid"], "action": "SCMP_ACT_KILL_PROCESS"}]});
            let bundle =
                host.bundle()?.set("/linux/seccomp", profile).args(&["/bin/payload", "read", "/proc/1/environ"]);
            let finished = run(host, &bundle, "LISTEN_PID=$$ LISTEN_FDS=1", &[])?;
            ensure!(finished.stdout.contains("LISTEN_PID=1"), "{finished}");
            Ok(())
        })
        .trial("exec hands them on too", |host| {
            host.only_wharf("runc hands on none, and crun does not say how many")?;
            let bundle = host.bundle()?.payload(&["sleep"]);
            let container = host.start(&bundle)?;
            let script = "exec 3</etc/hostname 4</etc/passwd; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script, "sh"]).arg(host.runtime.program()).arg("--root").arg(host.root());
            command.args(["exec", "--preserve-fds", "1", bundle.id(), "/bin/payload", "report"]);
            let told = report(&host.runtime.spawn_command(command)?.finish()?)?;
            ensure_eq!(open(&told), ["0", "1", "2", "3", "4"]);
            ensure_eq!(listen(&told)[0], "LISTEN_FDS=1");
            ensure_eq!(listen(&told)[1], format!("LISTEN_PID={}", told["pid"]));
            container.delete_force()
        })
        .trial("a descriptor that is not there is told by its number and leaves nothing", |host| {
            host.except("runc", "takes what is not there")?;
            for (environment, options, named) in [
                ("LISTEN_PID=$$ LISTEN_FDS=7", &[][..], "LISTEN_FDS=7: the caller has not handed on descriptor 6"),
                ("LISTEN_PID=$$ LISTEN_FDS=1", &["--preserve-fds", "3"], "--preserve-fds 3: the caller has not"),
                ("LISTEN_PID=$$ LISTEN_FDS=many", &[], "LISTEN_FDS=many: it is no number"),
            ] {
                let finished = run(host, &host.bundle()?, environment, options)?;
                ensure!(finished.code() != Some(0) && finished.stderr.contains(named), "{finished}");
            }
            Ok(())
        })
}

/// `run` by a shell that has descriptors 3, 4 and 5 open.
fn run(host: &Host, bundle: &Bundle, environment: &str, options: &[&str]) -> Result<Finished, Stop> {
    bundle.save()?;
    let script = format!("exec 3</etc/hostname 4</etc/passwd 5</etc/group; {environment} exec \"$@\"");
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &script, "sh"]).arg(host.runtime.program()).arg("--root").arg(host.root());
    command.arg("run").args(options).args(["--bundle", bundle.dir_text(), bundle.id()]);
    host.runtime.spawn_command(command)?.finish()
}

fn report(finished: &Finished) -> Result<Report, Stop> {
    let line = finished.stdout.lines().next().unwrap_or_default();
    line.parse().map(Report).map_err(|_| Stop::failed(finished.to_string()))
}

fn open(report: &Report) -> Vec<&str> {
    report["fds"].as_object().into_iter().flatten().map(|(fd, _)| fd.as_str()).collect()
}

/// The variables of the protocol, sorted.
fn listen(report: &Report) -> Vec<String> {
    let env = report["env"].as_array().into_iter().flatten().filter_map(|variable| variable.as_str());
    let mut found: Vec<String> = env.filter(|variable| variable.starts_with("LISTEN_")).map(str::to_owned).collect();
    found.sort();
    found
}
