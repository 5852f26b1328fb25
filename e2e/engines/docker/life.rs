//! From run to rm: output, signals, exit codes, exec, pause, restart policies, health.

use super::case;
use super::engine::{Docker, IMAGE};
use crate::engines::Case;
use crate::engines::common::{code, holds_all_capabilities, said, share};
use harness::{Stop, ensure, ensure_eq, wait_until};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("run prints what the payload prints", "out [err]", |docker| {
            let seen = code(docker.run(&[], &["sh", "-c", "echo out; echo err >&2"])?, 0)?;
            Ok(format!("{} [{}]", seen.stdout.trim(), seen.stderr.trim()))
        }),
        case("run -i passes its input on", "one two", |docker| {
            let file = docker.host.dir().join("input");
            std::fs::write(&file, "one\ntwo\n")?;
            let mut command = docker.command(&["run", "--rm", "-i", IMAGE, "cat"]);
            command.stdin(std::fs::File::open(&file)?);
            Ok(said(docker.host.program(command)?.finish()?)?.replace('\n', " "))
        }),
        case("exit codes are the payload's", "0 1 42 125 126 127 137 143", |docker| {
            let mut seen = Vec::new();
            for wanted in
                ["exit 0", "exit 1", "exit 42", "exit 125", "exit 126", "exit 127", "kill -KILL $$", "kill -TERM $$"]
            {
                // Signals end a shell that is not the first process of its pid namespace.
                let finished = docker.run(&["--init"], &["sh", "-c", wanted])?;
                seen.push(finished.code().map_or("?".into(), |code| code.to_string()));
            }
            Ok(seen.join(" "))
        }),
        case("logs, wait and rm of a detached container", "42 out err", |docker| {
            let id = docker.detached(&[], &["sh", "-c", "echo out; echo err >&2; exit 42"])?;
            let ended = docker.must(&["wait", &id])?;
            let logs = docker.log_of(&id)?;
            docker.must(&["rm", &id])?;
            docker.nothing_left()?;
            Ok(format!("{ended} {} {}", logs.stdout.trim(), logs.stderr.trim()))
        }),
        case("stop lets the payload end by itself", "9", |docker| {
            let id =
                docker.detached(&[], &["sh", "-c", "trap 'exit 9' TERM; echo up; while true; do sleep 0.01; done"])?;
            up(docker, &id)?;
            docker.must(&["stop", &id])?;
            docker.exit_code(&id)
        }),
        case("stop kills what does not end in time", "137", |docker| {
            let id = docker.detached(&[], &["sh", "-c", "trap '' TERM; echo up; while true; do sleep 0.01; done"])?;
            up(docker, &id)?;
            docker.must(&["stop", "--time", "1", &id])?;
            docker.exit_code(&id)
        }),
        case("kill sends the signal that is named", "12", |docker| {
            let id =
                docker.detached(&[], &["sh", "-c", "trap 'exit 12' USR2; echo up; while true; do sleep 0.01; done"])?;
            up(docker, &id)?;
            docker.must(&["kill", "--signal", "USR2", &id])?;
            docker.exit_code(&id)
        }),
        case("rm --force ends a running container", "gone", |docker| {
            let id = docker.detached(&[], &["sleep", "1000"])?;
            let pid = docker.pid(&id)?;
            docker.must(&["rm", "--force", &id])?;
            ensure!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "{pid} is alive");
            docker.nothing_left()?;
            Ok("gone".to_owned())
        }),
        case("a restarted container has a new process and the old files", "kept", |docker| {
            let id = docker.detached(&[], &["sh", "-c", "[ -e /mark ] && echo kept; touch /mark; sleep 1000"])?;
            let pid = docker.pid(&id)?;
            wait_until("the mark", || Ok(docker.exec(&[], &id, &["ls", "/mark"])?.code() == Some(0)))?;
            docker.must(&["restart", "--time", "0", &id])?;
            ensure!(docker.pid(&id)? != pid, "the same process");
            wait_until("its words", || Ok(!docker.log_of(&id)?.stdout.is_empty()))?;
            Ok(docker.log_of(&id)?.stdout.trim().to_owned())
        }),
        case("a restart policy starts it again, as often as it says", "exited 3 after 2 restarts", |docker| {
            let id = docker.detached(&["--restart", "on-failure:2"], &["sh", "-c", "exit 3"])?;
            docker.wait_for(&id, "{{.State.Status}} {{.RestartCount}}", "exited 2")?;
            docker.inspect(&id, "{{.State.Status}} {{.State.ExitCode}} after {{.RestartCount}} restarts")
        }),
        case("a container that is always restarted comes back when its payload is killed", "running", |docker| {
            let id = docker.detached(&["--restart", "always"], &["sleep", "1000"])?;
            let pid = docker.pid(&id)?;
            crate::engines::common::signal(pid, nix::sys::signal::Signal::SIGKILL)?;
            wait_until("another process", || Ok(![0, pid].contains(&docker.pid(&id)?)))?;
            docker.inspect(&id, "{{.State.Status}}")
        }),
        case("pause stops every process and unpause lets them go on", "paused, still, running, goes on", |docker| {
            let (dir, volume) = docker.volume("/count")?;
            let script = "n=0; while true; do n=$((n+1)); echo $n >/count/n; sleep 0.01; done";
            let id = docker.detached(&["--volume", &volume], &["sh", "-c", script])?;
            let count = || std::fs::read_to_string(dir.join("n")).unwrap_or_default();
            wait_until("the count to begin", || Ok(!count().is_empty()))?;
            docker.must(&["pause", &id])?;
            let paused = docker.inspect(&id, "{{.State.Status}}")?;
            let before = count();
            std::thread::sleep(std::time::Duration::from_millis(100));
            ensure_eq!(count(), before, "the count of a paused container");
            let refused = docker.exec(&[], &id, &["true"])?;
            ensure!(
                refused.code() != Some(0) && refused.stderr.contains("paused"),
                "exec in a paused container: {refused}"
            );
            docker.must(&["unpause", &id])?;
            wait_until("the count to go on", || Ok(count() != before))?;
            Ok(format!("{paused}, still, {}, goes on", docker.inspect(&id, "{{.State.Status}}")?))
        }),
        case("exec runs beside the payload, with options of its own", "1000 /tmp tall 7", |docker| {
            let id = docker.detached(&[], &["sleep", "1000"])?;
            let script = "echo $(id -u) $PWD $SHIP; exit 7";
            let options = ["--user", "1000", "--workdir", "/tmp", "--env", "SHIP=tall"];
            let seen = docker.exec(&options, &id, &["sh", "-c", script])?;
            Ok(format!("{} {}", seen.stdout.trim(), seen.code().unwrap_or(-1)))
        }),
        case("exec --privileged has all capabilities, exec without has the container's", "fewer, all", |docker| {
            holds_all_capabilities()?;
            let id = docker.detached(&[], &["sleep", "1000"])?;
            let effective = |options: &[&str]| {
                said(docker.exec(options, &id, &["sed", "-n", "s/^CapEff:\t//p", "/proc/self/status"])?)
            };
            let own = std::fs::read_to_string("/proc/self/status")?;
            let own = own.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap_or_default().to_owned();
            let word = |seen: String| if seen == own { "all" } else { "fewer" };
            Ok(format!("{}, {}", word(effective(&[])?), word(effective(&["--privileged"])?)))
        }),
        case("a health check that succeeds, then fails, is told", "healthy, unhealthy", |docker| {
            let options = ["--health-cmd", "test -e /well", "--health-interval", "100ms", "--health-retries", "1"];
            let id = docker.detached(&options, &["sh", "-c", "touch /well; sleep 1000"])?;
            docker.wait_for(&id, "{{.State.Health.Status}}", "healthy")?;
            code(docker.exec(&[], &id, &["rm", "/well"])?, 0)?;
            docker.wait_for(&id, "{{.State.Health.Status}}", "unhealthy")?;
            Ok("healthy, unhealthy".to_owned())
        }),
        case("many short containers at once, and not one exit is lost", "all", |docker| {
            let total = share(120);
            for first in (0..total).step_by(4) {
                let started: Result<Vec<_>, Stop> = (first..(first + 4).min(total))
                    .map(|number| {
                        let script = format!("exit {}", number % 256);
                        Ok((number as i32 % 256, docker.spawn(&["run", "--rm", IMAGE, "sh", "-c", &script])?))
                    })
                    .collect();
                for (wanted, one) in started? {
                    code(one.finish()?, wanted)?;
                }
            }
            docker.nothing_left()?;
            Ok("all".to_owned())
        }),
        case("many short execs at once, and not one exit is lost", "all", |docker| {
            let id = docker.detached(&[], &["sleep", "1000"])?;
            let total = share(120);
            for first in (0..total).step_by(4) {
                let started: Result<Vec<_>, Stop> = (first..(first + 4).min(total))
                    .map(|number| {
                        let script = format!("exit {}", number % 256);
                        Ok((number as i32 % 256, docker.spawn(&["exec", &id, "sh", "-c", &script])?))
                    })
                    .collect();
                for (wanted, one) in started? {
                    code(one.finish()?, wanted)?;
                }
            }
            Ok("all".to_owned())
        }),
    ]
}

/// Waits until the payload has said that its trap is set.
pub(super) fn up(docker: &Docker<'_>, id: &str) -> Result<(), Stop> {
    wait_until("the payload's first words", || Ok(docker.log_of(id)?.stdout.starts_with("up")))
}
