//! The verbs of `ctr task` on running containers.

use super::{Containerd, code, with};
use harness::{Feature, Outcome, ensure, ensure_eq, wait_until};

pub(super) fn trials(feature: Feature) -> Feature {
    feature
        .trial("a detached container is listed as running, then stopped, and its deletion leaves nothing", with(life))
        .trial("kill sends the signal that is named, to the payload", with(kill))
        .trial("kill --all reaches every process of the container", with(kill_all))
        .trial(
            "rm --force ends a running task",
            with(|engine| {
                let (id, pid) = engine.detached(&[], &["sleep", "1000"])?;
                engine.must(&["task", "rm", "--force", &id])?;
                ensure!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "{pid} is alive");
                engine.must(&["container", "rm", &id])?;
                engine.nothing_left()
            }),
        )
        .trial("pause stops every process and resume lets them go on", with(pause))
        .trial("exec runs in the container, with input, output and code of its own", with(exec))
        .trial("exec has the user and the directory that it asks for", with(exec_options))
        .trial("exec of a command that is missing is told, and the container goes on", with(exec_missing))
        .trial("a detached exec is listed by ps, killed by its id, and its code is kept", with(exec_detached))
        .trial("events tell create, start, exec and exit", with(events))
}

fn life(engine: &Containerd<'_>) -> Outcome {
    let (id, pid) = engine.detached(&[], &["sh", "-c", "trap 'exit 9' TERM; while true; do sleep 0.01; done"])?;
    ensure_eq!(engine.task(&id)?, (pid, "RUNNING".to_owned()));
    let line = std::fs::read(format!("/proc/{pid}/cmdline"))?;
    ensure!(line.starts_with(b"sh\0-c\0"), "the pid is not the payload's");
    engine.must(&["task", "kill", &id])?;
    engine.wait_for(&id, "STOPPED")?;
    ensure_eq!(engine.exit_code(&id)?, 9);
    let tasks = engine.must(&["task", "ls", "--quiet"])?;
    ensure_eq!(tasks, "");
    engine.nothing_left()
}

fn kill(engine: &Containerd<'_>) -> Outcome {
    let file = engine.host.new_dir("seen")?;
    let mount = format!("type=bind,src={},dst=/seen,options=rbind:rw", file.display());
    let script = "trap 'echo usr1 >/seen/signal' USR1; touch /seen/ready; while true; do sleep 0.01; done";
    let (id, _) = engine.detached(&["--mount", &mount], &["sh", "-c", script])?;
    wait_until("the trap", || Ok(file.join("ready").exists()))?;
    engine.must(&["task", "kill", "--signal", "USR1", &id])?;
    wait_until("the signal", || Ok(std::fs::read_to_string(file.join("signal")).is_ok_and(|text| text == "usr1\n")))?;
    engine.must(&["task", "kill", "--signal", "KILL", &id])?;
    ensure_eq!(engine.exit_code(&id)?, 137);
    Ok(())
}

fn kill_all(engine: &Containerd<'_>) -> Outcome {
    let path = format!("/{}/all", engine.host.tag());
    // In a pid namespace of another's, nobody is killed by the end of the payload.
    let (_, other) = engine.detached(&[], &["sleep", "1000"])?;
    let join = format!("pid:/proc/{other}/ns/pid");
    let script = "sleep 1001 & sleep 1002 & wait";
    let (id, _) = engine.detached(&["--cgroup", &path, "--with-ns", &join], &["sh", "-c", script])?;
    let members = || crate::engines::common::members(&path);
    wait_until("three processes", || Ok(members().len() == 3))?;
    let pids = members();
    engine.must(&["task", "kill", "--all", "--signal", "KILL", &id])?;
    ensure_eq!(engine.exit_code(&id)?, 137);
    wait_until("their end", || Ok(members().is_empty()))?;
    for pid in pids {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        ensure!(line.is_empty(), "{pid} is alive");
    }
    Ok(())
}

fn pause(engine: &Containerd<'_>) -> Outcome {
    let dir = engine.host.new_dir("count")?;
    let mount = format!("type=bind,src={},dst=/count,options=rbind:rw", dir.display());
    let script = "n=0; while true; do n=$((n+1)); echo $n >/count/n; sleep 0.01; done";
    let (id, _) = engine.detached(&["--mount", &mount], &["sh", "-c", script])?;
    let count = || std::fs::read_to_string(dir.join("n")).unwrap_or_default();
    wait_until("the count to begin", || Ok(!count().is_empty()))?;
    engine.must(&["task", "pause", &id])?;
    ensure_eq!(engine.task(&id)?.1, "PAUSED");
    let before = count();
    std::thread::sleep(std::time::Duration::from_millis(100));
    ensure_eq!(count(), before, "the count of a paused container");
    engine.must(&["task", "resume", &id])?;
    ensure_eq!(engine.task(&id)?.1, "RUNNING");
    wait_until("the count to go on", || Ok(count() != before))
}

fn exec(engine: &Containerd<'_>) -> Outcome {
    let (id, _) = engine.detached(&["--env", "SHIP=tall"], &["sleep", "1000"])?;
    let seen = code(
        engine.exec(&id, &[], &["sh", "-c", "hostname >/dev/null; echo $SHIP; echo aside >&2; sleep 0.3; exit 42"])?,
        42,
    )?;
    ensure_eq!(seen.stdout, "tall\n");
    ensure!(seen.stderr.contains("aside"), "{seen}");
    // The same namespaces as the payload.
    let links = "readlink /proc/1/ns/net; readlink /proc/self/ns/net";
    let seen = code(engine.exec(&id, &[], &["sh", "-c", links])?, 0)?;
    let lines: Vec<_> = seen.stdout.lines().collect();
    ensure!(lines.len() == 2 && lines[0] == lines[1], "{seen}");
    let mut command = engine.ctr_command(&["task", "exec", "--exec-id", "input", &id, "cat"]);
    let file = engine.host.dir().join("input");
    std::fs::write(&file, "through")?;
    command.stdin(std::fs::File::open(&file)?);
    let seen = code(engine.host.program(command)?.finish()?, 0)?;
    ensure_eq!(seen.stdout, "through");
    Ok(())
}

fn exec_options(engine: &Containerd<'_>) -> Outcome {
    let (id, _) = engine.detached(&[], &["sleep", "1000"])?;
    let seen =
        code(engine.exec(&id, &["--user", "1000:1000", "--cwd", "/tmp"], &["sh", "-c", "id -u; id -g; pwd"])?, 0)?;
    ensure_eq!(seen.stdout, "1000\n1000\n/tmp\n");
    Ok(())
}

fn exec_missing(engine: &Containerd<'_>) -> Outcome {
    let (id, _) = engine.detached(&[], &["sleep", "1000"])?;
    let seen = code(engine.exec(&id, &[], &["nothing"])?, 1)?;
    ensure!(seen.stderr.contains("executable file not found in $PATH"), "{seen}");
    code(engine.exec(&id, &[], &["true"])?, 0)?;
    ensure_eq!(engine.task(&id)?.1, "RUNNING");
    Ok(())
}

fn exec_detached(engine: &Containerd<'_>) -> Outcome {
    let (id, pid) = engine.detached(&[], &["sleep", "1000"])?;
    engine.must(&["task", "exec", "--detach", "--exec-id", "side", &id, "sleep", "1001"])?;
    let table = engine.must(&["task", "ps", &id])?;
    let pids: Vec<&str> = table.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    ensure_eq!(pids.len(), 2, "{table}");
    ensure!(pids.contains(&pid.to_string().as_str()) && table.contains("side"), "{table}");
    engine.must(&["task", "kill", "--exec-id", "side", "--signal", "KILL", &id])?;
    wait_until("the exec's end", || Ok(engine.must(&["task", "ps", &id])?.lines().count() == 2))?;
    engine.ctr(&["task", "rm", "--exec-id", "side", &id])?;
    ensure_eq!(engine.task(&id)?.1, "RUNNING");
    Ok(())
}

fn events(engine: &Containerd<'_>) -> Outcome {
    let listener = engine.spawn(&["events"])?;
    // The listener says nothing when it is ready: a first container tells.
    wait_until("the first event", || {
        engine.prints(&[], &["true"])?;
        Ok(!listener.stdout_so_far().is_empty())
    })?;
    let (id, _) = engine.detached(&[], &["sleep", "1000"])?;
    code(engine.exec(&id, &[], &["true"])?, 0)?;
    engine.must(&["task", "kill", "--signal", "KILL", &id])?;
    ensure_eq!(engine.exit_code(&id)?, 137);
    let wanted =
        ["/tasks/create", "/tasks/start", "/tasks/exec-added", "/tasks/exec-started", "/tasks/exit", "/tasks/delete"];
    let seen = || {
        let text = listener.stdout_so_far();
        let of = |topic: &str| text.lines().any(|line| line.contains(topic) && line.contains(&id));
        wanted.into_iter().filter(|topic| !of(topic)).collect::<Vec<_>>()
    };
    wait_until("all events", || Ok(seen().is_empty()))?;
    crate::engines::common::signal(listener.pid(), nix::sys::signal::Signal::SIGTERM)?;
    listener.finish().map(drop)
}
