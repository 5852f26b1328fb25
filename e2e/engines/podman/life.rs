//! From `run` to `rm`: what a container prints, how it ends, and what Podman knows of it.

use super::engine::{IMAGE, well};
use super::{Case, case};
use harness::{ensure, ensure_eq};
use std::fs;
use std::path::Path;

/// Ends with 7 on SIGTERM, and says so.
const ON_TERM: &str = "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("run --rm: output and exit code", "42, out \"one\", err \"two\", 0 containers left", |podman| {
            let ran = podman.run(&[], &["sh", "-c", "echo one; echo two >&2; exit 42"])?;
            let left = podman.must(&["ps", "--all", "--quiet"])?.lines().count();
            let (code, out, err) = (ran.code().unwrap_or(-1), ran.stdout.trim(), ran.stderr.trim());
            Ok(format!("{code}, out {out:?}, err {err:?}, {left} containers left"))
        }),
        case("run --interactive: stdin arrives", "HELLO", |podman| {
            let text = podman.dir().join("text");
            fs::write(&text, "hello\n")?;
            let words = podman.words(&["run", "--rm"], &["--interactive"], &["tr", "a-z", "A-Z"]);
            let mut command = podman.command(&words.iter().map(String::as_str).collect::<Vec<_>>());
            command.stdin(fs::File::open(&text)?);
            well(podman.host.program(command)?.finish()?)
        }),
        case("run --detach, logs, wait", "wait 3; log \"one two\"; exited 3", |podman| {
            podman.start("c", &[], &["sh", "-c", "echo one; echo two >&2; exit 3"])?;
            let waited = podman.must(&["wait", "c"])?;
            let log = podman.wait_for_log("c", "two")?;
            let log = log.split_whitespace().collect::<Vec<_>>().join(" ");
            Ok(format!("wait {waited}; log {log:?}; {}", podman.inspect("c", "{{.State.Status}} {{.State.ExitCode}}")?))
        }),
        case("200 exit codes of run --rm: none is lost", "200 right", |podman| {
            let all: Vec<i32> = (0..if full() { 200 } else { 20 }).collect();
            let mut right = 0;
            for batch in all.chunks(10) {
                let running: Vec<_> = batch
                    .iter()
                    .map(|code| {
                        let script = format!("exit {code}");
                        let words = podman.words(&["run", "--rm"], &[], &["sh", "-c", &script]);
                        podman.spawn(&words.iter().map(String::as_str).collect::<Vec<_>>())
                    })
                    .collect();
                for (code, run) in batch.iter().zip(running) {
                    let ran = run?.finish()?;
                    ensure_eq!(ran.code(), Some(*code), "{ran}");
                    right += 1;
                }
            }
            Ok(format!("{} right", if right == all.len() { 200 } else { right }))
        }),
        case("create, then start --attach: output and exit code", "5 \"here\"", |podman| {
            let words = podman.words(&["create", "--name", "c"], &[], &["sh", "-c", "echo here; exit 5"]);
            podman.must(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
            let started = podman.call(&["start", "--attach", "c"])?;
            Ok(format!("{} {:?}", started.code().unwrap_or(-1), started.stdout.trim()))
        }),
        case("start once more after the end", "one line, then two", |podman| {
            podman.start("c", &[], &["sh", "-c", "echo line >>/lines; cat /lines"])?;
            podman.must(&["wait", "c"])?;
            let second = podman.must(&["start", "--attach", "c"])?;
            ensure_eq!(second, "line\nline");
            Ok("one line, then two".to_owned())
        }),
        case(
            "stop: SIGTERM, and the exit code that it led to",
            "7; log \"ready bye\"; the process is gone",
            |podman| {
                podman.start("c", &[], &["sh", "-c", ON_TERM])?;
                podman.wait_for_log("c", "ready")?;
                let pid = podman.pid("c")?;
                podman.must(&["stop", "--time", "20", "c"])?;
                let log = podman.wait_for_log("c", "bye")?.split_whitespace().collect::<Vec<_>>().join(" ");
                Ok(format!(
                    "{}; log {log:?}; the process is {}",
                    podman.inspect("c", "{{.State.ExitCode}}")?,
                    alive(pid)
                ))
            },
        ),
        case("stop: SIGKILL after the time is up", "137; the process is gone", |podman| {
            podman.start("c", &[], &["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"])?;
            podman.wait_for_log("c", "ready")?;
            let pid = podman.pid("c")?;
            podman.must(&["stop", "--time", "1", "c"])?;
            Ok(format!("{}; the process is {}", podman.inspect("c", "{{.State.ExitCode}}")?, alive(pid)))
        }),
        case("--stop-signal", "9", |podman| {
            let script = "trap 'exit 9' USR2; echo ready; while :; do sleep 0.05; done";
            podman.start("c", &["--stop-signal", "USR2"], &["sh", "-c", script])?;
            podman.wait_for_log("c", "ready")?;
            podman.must(&["stop", "--time", "20", "c"])?;
            podman.inspect("c", "{{.State.ExitCode}}")
        }),
        case("kill --signal USR1: it arrives, and the container goes on", "usr1 seen, running", |podman| {
            let script = "trap 'echo usr1 seen' USR1; echo ready; while :; do sleep 0.05; done";
            podman.start("c", &[], &["sh", "-c", script])?;
            podman.wait_for_log("c", "ready")?;
            podman.must(&["kill", "--signal", "USR1", "c"])?;
            podman.wait_for_log("c", "usr1 seen")?;
            Ok(format!("usr1 seen, {}", podman.inspect("c", "{{.State.Status}}")?))
        }),
        case("kill: exit code 137", "137", |podman| {
            podman.start("c", &[], &["sleep", "1000"])?;
            podman.must(&["kill", "c"])?;
            podman.must(&["wait", "c"])
        }),
        case("kill --signal TERM of a process that is no init: exit code 143", "143", |podman| {
            podman.start("c", &["--pid", "host"], &["sleep", "1000"])?;
            podman.must(&["kill", "--signal", "TERM", "c"])?;
            podman.must(&["wait", "c"])
        }),
        case("kill of a stopped container is an error", "not 0", |podman| {
            podman.start("c", &[], &["true"])?;
            podman.must(&["wait", "c"])?;
            let killed = podman.call(&["kill", "c"])?;
            Ok(if killed.code() == Some(0) { "0" } else { "not 0" }.to_owned())
        }),
        case("rm --force of a running container", "the process is gone, 0 containers left", |podman| {
            podman.start("c", &[], &["sh", "-c", "sleep 1000 & sleep 1000"])?;
            let pid = podman.pid("c")?;
            podman.must(&["rm", "--force", "--time", "0", "c"])?;
            let left = podman.must(&["ps", "--all", "--quiet"])?.lines().count();
            Ok(format!("the process is {}, {left} containers left", alive(pid)))
        }),
        case("restart: another process, the same files", "another process, 2 starts", |podman| {
            podman.start("c", &[], &["sh", "-c", "echo start >>/starts; echo ready; sleep 1000"])?;
            podman.wait_for_log("c", "ready")?;
            let first = podman.pid("c")?;
            podman.must(&["restart", "--time", "0", "c"])?;
            let second = podman.pid("c")?;
            let starts = podman.wait_for("the second start", || {
                let text = fs::read_to_string(format!("/proc/{second}/root/starts"))?;
                Ok((text.lines().count() > 1).then(|| text.lines().count()))
            })?;
            Ok(format!("{} process, {starts} starts", if first == second { "the same" } else { "another" }))
        }),
        case("--restart on-failure:2", "3 starts; 2 restarts, exit code 1", |podman| {
            let volume = podman.dir().join("v");
            fs::create_dir(&volume)?;
            let mount = format!("{}:/v", volume.display());
            let script = "echo start >>/v/starts; exit 1";
            podman.start("c", &["--restart", "on-failure:2", "--volume", &mount], &["sh", "-c", script])?;
            podman.wait_for("the last restart", || {
                let state = podman.inspect("c", "{{.RestartCount}} {{.State.Status}}")?;
                Ok((state == "2 exited").then_some(()))
            })?;
            let starts = fs::read_to_string(volume.join("starts"))?.lines().count();
            let seen = podman.inspect("c", "{{.RestartCount}} restarts, exit code {{.State.ExitCode}}")?;
            Ok(format!("{starts} starts; {seen}"))
        }),
        case("wait for two containers", "3 4", |podman| {
            podman.start("a", &[], &["sh", "-c", "sleep 0.2; exit 3"])?;
            podman.start("b", &[], &["sh", "-c", "exit 4"])?;
            Ok(podman.must(&["wait", "a", "b"])?.split_whitespace().collect::<Vec<_>>().join(" "))
        }),
        case("children left behind end with the container", "0 left", |podman| {
            let script = "sleep 1000 & sleep 1000 & echo ready; sleep 1000";
            podman.start("c", &[], &["sh", "-c", script])?;
            podman.wait_for_log("c", "ready")?;
            let pid = podman.pid("c")?;
            let namespace = fs::read_link(format!("/proc/{pid}/ns/pid"))?;
            ensure!(members(&namespace) >= 3, "the children should be there first");
            podman.must(&["stop", "--time", "0", "c"])?;
            // They die at once, and are reaped a moment later.
            podman.wait_for("the children to go", || Ok((members(&namespace) == 0).then_some(())))?;
            Ok("0 left".to_owned())
        }),
        case("--rootfs: a directory instead of an image", "from the image", |podman| {
            let tree = podman.host.shared_dir("podman-images")?.join("tree");
            let copy = podman.dir().join("rootfs");
            let mut cp = std::process::Command::new("cp");
            cp.arg("-a").arg(&tree).arg(&copy);
            well(podman.host.program(cp)?.finish()?)?;
            let words = ["--rootfs", &copy.display().to_string()];
            podman.sh(&words, "cat /var/data/kept")
        }),
        case("--env, --workdir, --entrypoint", "a b|yes|/tmp", |podman| {
            podman.sh(&["--env", "A=a b", "--workdir", "/tmp", "--entrypoint", ""], "echo \"$A|$FROM_IMAGE|$PWD\"")
        }),
        case("--preserve-fds", "handed on", |podman| {
            let file = podman.dir().join("fd");
            fs::write(&file, "handed on\n")?;
            let words = podman.words(&["run", "--rm"], &["--preserve-fds", "1"], &["sh", "-c", "cat <&3"]);
            let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
            let shell = podman.script(&[], &format!("exec $PODMAN {} 3<{}", quoted.join(" "), file.display()));
            well(podman.host.program(shell)?.finish()?)
        }),
        case(
            "container inspect: state of a running container",
            "running true false, runs sleep, same cgroup",
            |podman| {
                podman.start("c", &[], &["sleep", "1000"])?;
                let state = podman.inspect("c", "{{.State.Status}} {{.State.Running}} {{.State.Paused}}")?;
                let pid = podman.pid("c")?;
                let line = fs::read_to_string(format!("/proc/{pid}/cmdline"))?;
                let id = podman.inspect("c", "{{.Id}}")?;
                let inside = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
                let cgroup = if inside.contains(&format!("/libpod-{id}")) { "same cgroup" } else { "another cgroup" };
                ensure_eq!(podman.inspect("c", "{{.OCIRuntime}}")?, podman.runtime());
                Ok(format!("{state}, runs {}, {cgroup}", line.split('\0').next().unwrap_or_default()))
            },
        ),
        case(
            "a removed container leaves no state with the runtime",
            "known while it runs: true, removed: false",
            |podman| {
                podman.start("c", &[], &["true"])?;
                podman.must(&["wait", "c"])?;
                podman.must(&["rm", "c"])?;
                podman.start("d", &[], &["sleep", "1000"])?;
                let running = podman.known()?;
                podman.must(&["rm", "--force", "--time", "0", "d"])?;
                Ok(format!("known while it runs: {running}, removed: {}", podman.known()?))
            },
        ),
        case("the set-up lines of docs/engines.md", "0, with the runtime of these lines", |podman| {
            let text = include_str!("../../../docs/engines.md");
            let lines = text.split("```toml").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_default();
            // Locks in memory are shared with whoever else uses Podman on this machine.
            let lines = lines.replacen("[engine]", "[engine]\nlock_type = \"file\"\nevents_logger = \"file\"", 1);
            let lines = lines.replace("/usr/local/bin/wharf", &podman.program().display().to_string());
            // A peer is named as wharf is.
            let conf = podman.dir().join("documented.conf");
            fs::write(&conf, lines)?;
            let parent = format!("/{}", podman.host.tag());
            let limits = ["--ulimit", "nofile=1024:20000", "--ulimit", "nproc=1000:1000"];
            let flags = ["--cgroup-parent", &parent, "--network", "none"];
            let mut command = podman.plain(&[&["run", "--name", "c"], &flags[..], &limits[..], &[IMAGE]].concat());
            command.env("CONTAINERS_CONF", &conf);
            let ran = podman.host.program(command)?.finish()?;
            ensure_eq!(ran.code(), Some(0), "{ran}");
            let mut inspect = podman.plain(&["container", "inspect", "--format", "{{.OCIRuntime}}", "c"]);
            inspect.env("CONTAINERS_CONF", &conf);
            let runtime = well(podman.host.program(inspect)?.finish()?)?;
            let mut remove = podman.plain(&["rm", "c"]);
            remove.env("CONTAINERS_CONF", &conf);
            well(podman.host.program(remove)?.finish()?)?;
            Ok(if runtime == "wharf" { "0, with the runtime of these lines".to_owned() } else { runtime })
        }),
        case("--runtime by its path", "0", |podman| {
            let path = podman.program().display().to_string();
            let words = podman.words(&["--runtime", &path, "run", "--rm"], &[], &["true"]);
            let ran =
                podman.host.program(podman.plain(&words.iter().map(String::as_str).collect::<Vec<_>>()))?.finish()?;
            Ok(format!("{}{}", ran.code().unwrap_or(-1), ran.stderr))
        }),
    ]
}

fn full() -> bool {
    std::env::var_os("WHARF_E2E_FULL").is_some()
}

fn alive(pid: i32) -> &'static str {
    if Path::new(&format!("/proc/{pid}")).exists() { "there" } else { "gone" }
}

/// How many processes are in this pid namespace.
fn members(namespace: &Path) -> usize {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter(|entry| fs::read_link(entry.path().join("ns/pid")).is_ok_and(|link| link == namespace)).count()
}
