//! `exec`, and health checks, which are execs.

use super::engine::Podman;
use super::{Case, Seen, case};
use harness::{Stop, ensure_eq};
use std::fs;

const LATE: &str = "says that it started, and the process ends with 1";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("exec: output, error and exit code", "0 \"out\" \"err\"; 42", |podman| {
            sleeper(podman, &[])?;
            let first = podman.call(&["exec", "c", "sh", "-c", "echo out; echo err >&2"])?;
            let second = podman.call(&["exec", "c", "sh", "-c", "exit 42"])?;
            let codes = [first.code().unwrap_or(-1), second.code().unwrap_or(-1)];
            Ok(format!("{} {:?} {:?}; {}", codes[0], first.stdout.trim(), first.stderr.trim(), codes[1]))
        }),
        case("exec: the same namespaces, the same cgroup", "ipc mnt net pid uts cgroup", |podman| {
            sleeper(podman, &[])?;
            podman.must(&["exec", "--detach", "c", "sleep", "4321"])?;
            let first = podman.pid("c")?;
            let second = podman.wait_for("the process of exec", || Ok(running("sleep\x004321")))?;
            let mut same = Vec::new();
            for kind in ["ipc", "mnt", "net", "pid", "uts"] {
                let link = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/{kind}"));
                if link(first)? == link(second)? {
                    same.push(kind);
                }
            }
            let table = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cgroup"));
            let (init, exec) = (table(first)?, table(second)?);
            // An exec of v2 may be put beside the container's first process, in its cgroup all the same.
            if init == exec {
                same.push("cgroup");
            }
            Ok(if init == exec { same.join(" ") } else { format!("{}: {init} {exec}", same.join(" ")) })
        }),
        case("exec --interactive: stdin arrives", "HELLO", |podman| {
            sleeper(podman, &[])?;
            let text = podman.dir().join("text");
            fs::write(&text, "hello\n")?;
            let mut command = podman.command(&["exec", "--interactive", "c", "tr", "a-z", "A-Z"]);
            command.stdin(fs::File::open(&text)?);
            super::engine::well(podman.host.program(command)?.finish()?)
        }),
        case(
            "exec --user, by name: ids, groups, home, no capabilities",
            "1000 1000 2000 /home 0000000000000000",
            |podman| {
                sleeper(podman, &[])?;
                let script = "echo $(id -u) $(id -g) $(id -G | tr ' ' '\\n' | grep -v 1000) $HOME $(awk '/CapEff/ {print $2}' /proc/self/status)";
                podman.must(&["exec", "--user", "sailor", "c", "sh", "-c", script])
            },
        ),
        case("exec --user by numbers", "5 7", |podman| {
            sleeper(podman, &[])?;
            podman.must(&["exec", "--user", "5:7", "c", "sh", "-c", "echo $(id -u) $(id -g)"])
        }),
        case("exec --env and --workdir", "x y|yes|/tmp", |podman| {
            sleeper(podman, &[])?;
            podman.must(&[
                "exec",
                "--env",
                "A=x y",
                "--workdir",
                "/tmp",
                "c",
                "sh",
                "-c",
                "echo \"$A|$FROM_IMAGE|$PWD\"",
            ])
        }),
        case("exec has the container's capabilities, seccomp and no_new_privs", "equal: 2000 1 2", |podman| {
            sleeper(podman, &["--cap-drop", "ALL", "--cap-add", "NET_RAW", "--security-opt", "no-new-privileges"])?;
            let script =
                "awk '/^(CapEff|CapBnd|CapPrm|NoNewPrivs|Seccomp):/ {print $2}' /proc/$1/status | tr '\\n' ' '";
            let first = podman.must(&["exec", "c", "sh", "-c", script, "sh", "1"])?;
            let second = podman.must(&["exec", "c", "sh", "-c", script, "sh", "self"])?;
            ensure_eq!(first, second);
            let words: Vec<&str> = first.split(' ').map(|word| word.trim_start_matches('0')).collect();
            Ok(format!("equal: {} {} {}", words[0], words[3], words[4]))
        }),
        case("exec --privileged: all capabilities", "more than the container", |podman| {
            sleeper(podman, &["--cap-drop", "ALL"])?;
            let seen =
                podman.must(&["exec", "--privileged", "c", "awk", "/CapEff/ {print $2}", "/proc/self/status"])?;
            let own = fs::read_to_string("/proc/self/status")?;
            let own = own.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap_or_default().to_owned();
            Ok(if seen == own { "more than the container".to_owned() } else { format!("{seen}, not {own}") })
        }),
        case("exec into a container with a user namespace", "0 0 100000", |podman| {
            sleeper(podman, &["--uidmap", "0:100000:1000", "--gidmap", "0:100000:1000"])?;
            let script = "echo $(id -u) $(awk '{print $1, $2}' /proc/self/uid_map)";
            podman.must(&["exec", "c", "sh", "-c", script])
        }),
        case("exec obeys the limit of processes", "can't fork", |podman| {
            sleeper(podman, &["--pids-limit", "5"])?;
            let ran = podman.call(&["exec", "c", "sh", "-c", "for i in $(seq 9); do sleep 1000 & done; wait"])?;
            let told = format!("{}{}", ran.stdout, ran.stderr);
            Ok(if told.contains("can't fork") { "can't fork".to_owned() } else { ran.to_string() })
        })
        .unlike("runc", "its own threads are too many for the limit before the command runs"),
        case("exec obeys the rules of devices", "Operation not permitted", |podman| {
            sleeper(podman, &["--cap-add", "MKNOD"])?;
            let script = "mknod /tmp/k c 1 2; sh -c ': </tmp/k' 2>&1 | grep -o 'Operation not permitted'";
            podman.exec("c", script)
        }),
        case("exec --preserve-fds", "handed on", |podman| {
            sleeper(podman, &[])?;
            let file = podman.dir().join("fd");
            fs::write(&file, "handed on\n")?;
            let line = format!("exec $PODMAN exec --preserve-fds 1 c sh -c 'cat <&3' 3<{}", file.display());
            super::engine::well(podman.host.program(podman.script(&[], &line))?.finish()?)
        }),
        case("exec --detach: the effect", "done", |podman| {
            sleeper(podman, &[])?;
            podman.must(&["exec", "--detach", "c", "sh", "-c", "echo done >/tmp/done"])?;
            let pid = podman.pid("c")?;
            podman.wait_for("the file", || {
                let text = fs::read_to_string(format!("/proc/{pid}/root/tmp/done")).unwrap_or_default();
                Ok((!text.is_empty()).then(|| text.trim().to_owned()))
            })
        }),
        case("exec, killed by a signal", "137", |podman| {
            sleeper(podman, &[])?;
            let ran = podman.call(&["exec", "c", "sh", "-c", "kill -9 $$"])?;
            Ok(ran.code().unwrap_or(-1).to_string())
        }),
        case("exec fails: a missing command", "127: not found", |podman| fails(podman, &["nothing"])),
        case("exec fails: a missing command, by its path", "127: not found", |podman| fails(podman, &["/bin/nothing"])),
        case("exec fails: a directory", "126: denied", |podman| fails(podman, &["/etc"])),
        case("exec fails: a file without x permission", "126: denied", |podman| fails(podman, &["/bin/no-x"])),
        case("exec fails: a missing interpreter", "127: not found", |podman| fails(podman, &["/bin/no-interpreter"]))
            .unlike("crun", LATE)
            .unlike("runc", LATE),
        case("exec fails: no program", "255: an error", |podman| fails(podman, &["/bin/no-format"]))
            .unlike("crun", LATE)
            .unlike("runc", LATE),
        case("exec fails: a missing working directory", "127: not found", |podman| {
            fails(podman, &["--workdir", "/nowhere", "true"])
        }),
        case("exec fails: a user that is not in the image", "255: an error", |podman| {
            fails(podman, &["--user", "nobody-here", "true"])
        }),
        case("exec in a container that has ended", "255", |podman| {
            podman.start("c", &[], &["true"])?;
            podman.must(&["wait", "c"])?;
            let ran = podman.call(&["exec", "c", "true"])?;
            Ok(Seen { facts: ran.code().unwrap_or(-1).to_string(), words: ran.last_line().to_owned() })
        }),
        case("twenty execs at once: each code is right", "20 right", |podman| {
            sleeper(podman, &[])?;
            let spawn = |code: i32| podman.spawn(&["exec", "c", "sh", "-c", &format!("exit {code}")]);
            let running: Vec<_> = (0..20).map(|code| (code, spawn(code))).collect();
            let mut right = 0;
            for (code, run) in running {
                let ran = run?.finish()?;
                ensure_eq!(ran.code(), Some(code), "{ran}");
                right += 1;
            }
            Ok(format!("{right} right"))
        }),
        case("top with options of ps(1): an exec in the container", "1 sleep", |podman| {
            sleeper(podman, &[])?;
            let table = podman.must(&["exec", "c", "ps", "-o", "pid,comm"])?;
            let line = table.lines().find(|line| line.contains("sleep")).unwrap_or_default();
            Ok(line.split_whitespace().collect::<Vec<_>>().join(" "))
        }),
        case("health checks: healthy, then unhealthy", "0 healthy, 1 unhealthy", |podman| {
            let options =
                ["--health-cmd", "test -e /tmp/well", "--health-interval", "disable", "--health-retries", "1"];
            podman.start("c", &options, &["sh", "-c", "touch /tmp/well; echo ready; sleep 1000"])?;
            podman.wait_for_log("c", "ready")?;
            let mut seen = Vec::new();
            for script in ["true", "rm /tmp/well"] {
                podman.exec("c", script)?;
                let code = podman.call(&["healthcheck", "run", "c"])?.code().unwrap_or(-1);
                seen.push(format!("{code} {}", podman.inspect("c", "{{.State.Health.Status}}")?));
            }
            Ok(seen.join(", "))
        }),
        case("stop while execs run: they end with it", "137 or 255, none left", |podman| {
            sleeper(podman, &[])?;
            let run = podman.spawn(&["exec", "c", "sleep", "8765"])?;
            podman.wait_for("the process of exec", || Ok(running("sleep\x008765")))?;
            podman.must(&["stop", "--time", "0", "c"])?;
            let ran = run.finish()?;
            let code = ran.code().unwrap_or(-1);
            let left = if running("sleep\x008765").is_none() { "none left" } else { "left" };
            Ok(if code == 137 || code == 255 { format!("137 or 255, {left}") } else { format!("{code}, {left}") })
        }),
    ]
}

fn sleeper(podman: &Podman, options: &[&str]) -> Result<(), Stop> {
    podman.start("c", options, &["sleep", "1000"])
}

/// The process with this command line.
fn running(line: &str) -> Option<i32> {
    let wanted = format!("{line}\0");
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_string_lossy().parse::<i32>().ok())
        .find(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|bytes| bytes == wanted.as_bytes()))
}

/// An exec that must fail, and leave the container as it is.
fn fails(podman: &Podman, words: &[&str]) -> Result<Seen, Stop> {
    sleeper(podman, &[])?;
    let split =
        words.iter().position(|word| !word.starts_with("--") && !word.starts_with("nobody") && *word != "/nowhere");
    let (options, command) = words.split_at(split.unwrap_or(0));
    let ran = podman.call(&[&["exec"], options, &["c"], command].concat())?;
    ensure_eq!(podman.inspect("c", "{{.State.Status}}")?, "running");
    let said = ran.stderr.trim();
    let class = match () {
        () if said.contains("command that was not found") => "not found",
        () if said.contains("OCI permission denied") => "denied",
        () => "an error",
    };
    Ok(Seen { facts: format!("{}: {class}", ran.code().unwrap_or(-1)), words: said.replace('\n', " / ") })
}
