//! What Docker tells of containers: info, top, stats, events, cp.

use super::case;
use super::engine::IMAGE;
use crate::engines::Case;
use crate::engines::common::said;
use harness::{ensure, wait_until};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("info names the default runtime", "it does", |docker| {
            let seen = docker.must(&["info", "--format", "{{.DefaultRuntime}} {{json .Runtimes}}"])?;
            let name = docker.runtime();
            ensure!(seen.starts_with(&format!("{name} ")) && seen.contains(&format!("\"{name}\":")), "{seen}");
            Ok("it does".to_owned())
        }),
        case("top lists the container's processes, and no other", "sh, sleep", |docker| {
            let id = docker.detached(&[], &["sh", "-c", "sleep 1001; true"])?;
            wait_until("two processes", || Ok(docker.must(&["top", &id])?.lines().count() == 3))?;
            let table = docker.must(&["top", &id, "-o", "pid,comm"])?;
            let mut names: Vec<_> = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
            names.sort_unstable();
            Ok(names.join(", "))
        }),
        case("stats tells memory, processes and the limit", "2 processes of 32MiB", |docker| {
            let id = docker.detached(&["--memory", "32m"], &["sh", "-c", "sleep 1001; true"])?;
            wait_until("two processes", || Ok(docker.must(&["top", &id])?.lines().count() == 3))?;
            let line = docker.must(&["stats", "--no-stream", "--format", "{{.PIDs}} {{.MemUsage}}", &id])?;
            let words: Vec<_> = line.split_whitespace().collect();
            ensure!(words.len() == 4 && words[1] != "0B", "{line:?}");
            Ok(format!("{} processes of {}", words[0], words[3]))
        }),
        case("events tell create, start, exec and die", "create, start, die 5, destroy", |docker| {
            let since = said(docker.host.program(date())?.finish()?)?;
            let id = docker.detached(&[], &["sh", "-c", "exit 5"])?;
            docker.exit_code(&id)?;
            let until = said(docker.host.program(date())?.finish()?)?;
            let filter = format!("container={id}");
            let format = "{{.Action}} {{index .Actor.Attributes \"exitCode\"}}";
            let text = docker
                .must(&["events", "--since", &since, "--until", &until, "--filter", &filter, "--format", format])?;
            let seen: Vec<_> = text.lines().map(|line| line.replace("<no value>", "").trim().to_owned()).collect();
            Ok(seen.join(", "))
        }),
        case("cp copies into a running container and out of it", "cargo", |docker| {
            let id = docker.detached(&[], &["sleep", "1000"])?;
            let (one, two) = (docker.host.dir().join("one"), docker.host.dir().join("two"));
            std::fs::write(&one, "cargo")?;
            docker.must(&["cp", &one.to_string_lossy(), &format!("{id}:/hold")])?;
            ensure!(said(docker.exec(&[], &id, &["cat", "/hold"])?)? == "cargo", "not seen inside");
            docker.must(&["cp", &format!("{id}:/hold"), &two.to_string_lossy()])?;
            Ok(std::fs::read_to_string(two)?)
        }),
        case("commit and diff see what the container wrote", "A /mark; mark", |docker| {
            let id = docker.must(&["create", IMAGE, "touch", "/mark"])?;
            docker.must(&["start", "--attach", &id])?;
            let diff = docker.must(&["diff", &id])?;
            docker.must(&["commit", &id, "marked"])?;
            let seen = docker.must(&["run", "--rm", "marked", "ls", "/"])?;
            let seen = seen.lines().find(|name| *name == "mark").unwrap_or_default().to_owned();
            Ok(format!("{}; {seen}", diff.lines().find(|line| line.contains("mark")).unwrap_or_default()))
        }),
    ]
}

fn date() -> std::process::Command {
    let mut date = std::process::Command::new("date");
    date.arg("+%s.%N");
    date
}
