//! Many `exec`s at once, as health checks make them, while the container stops.

use harness::{Feature, Finished, Host, Outcome, Stop, ensure, ensure_eq};

const MANY: usize = 100;

pub(crate) fn trials() -> Feature {
    Feature::new("exec_parallel")
        .trial("a hundred at once all run", |host| {
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            let running: Result<Vec<_>, Stop> = (0..MANY)
                .map(|index| host.spawn(&["exec", container.id(), "/bin/payload", "exit", &(index % 100).to_string()]))
                .collect();
            for (index, one) in running?.into_iter().enumerate() {
                let ended = one.finish()?;
                ensure_eq!(ended.code(), Some((index % 100) as i32), "{ended}");
            }
            container.delete_force()
        })
        .trial("while the container is killed each has run or is told that it is not running", |host| {
            stopping(host, true, &["kill", "ID", "KILL"])
        })
        .trial("without a pid namespace too", |host| stopping(host, false, &["kill", "--all", "ID", "KILL"]))
        .trial("while the container is deleted by force each has run or is told so", |host| {
            stopping(host, true, &["delete", "--force", "ID"])
        })
        .trial("while the container without a pid namespace is deleted by force too", |host| {
            stopping(host, false, &["delete", "--force", "ID"])
        })
}

/// Stops the container when half of them have been begun.
fn stopping(host: &Host, own_pids: bool, stop: &[&str]) -> Outcome {
    host.only_wharf("others have words of their own")?;
    let bundle = host.bundle()?.payload(&["sleep"]);
    let bundle = if own_pids { bundle } else { bundle.without_namespace("pid") };
    let container = host.start(&bundle)?;
    let pid = container.pid()?;
    let stop: Vec<&str> = stop.iter().map(|word| if *word == "ID" { container.id() } else { word }).collect();
    let (mut running, mut stopping) = (Vec::new(), None);
    for index in 0..MANY {
        running.push(host.spawn(&["exec", container.id(), "/bin/payload", "say", "well"])?);
        if index == MANY / 2 {
            stopping = Some(host.spawn(&stop)?);
        }
    }
    let (mut ran, mut refused) = (0, 0);
    for one in running {
        let ended: Finished = one.finish()?;
        match ended.code() {
            Some(0) => {
                ensure!(ended.stdout.contains("well"), "it did not run: {ended}");
                ran += 1;
            }
            // It ran, or was about to, when everything was killed.
            Some(137) => ran += 1,
            Some(255) => {
                let words = ended.last_line();
                let known = words.contains("container not running") || words.contains("does not exist");
                ensure!(known, "other words: {ended}");
                refused += 1;
            }
            _ => return Err(Stop::failed(format!("neither: {ended}"))),
        }
    }
    if let Some(stopped) = stopping {
        let stopped = stopped.finish()?;
        ensure_eq!(stopped.code(), Some(0), "{stopped}");
    }
    ensure_eq!(container.reap(pid)?, 137);
    println!("exec_parallel: {ran} ran, {refused} were refused");
    ensure!(refused > 0, "all have run: nothing was stopped in time");
    container.delete_force()
}
