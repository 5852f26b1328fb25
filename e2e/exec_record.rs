//! `exec --exit-record`: how the command ended, and what it used.

use crate::exit_record::{MIB, counted_by_hand, seconds_between};
use harness::{Container, Feature, Finished, Host, Stop, Value, ensure, ensure_eq};

pub(crate) fn trials() -> Feature {
    Feature::new("exec_record")
        .trial("what it used is what the container's cgroup has counted meanwhile", |host| {
            host.needs_controller("memory")?;
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            let (before, _) = counted_by_hand(host, container.pid()?)?;
            let (ran, exit) = recorded(host, &container, &["spin", "600", ";", "alloc", "40", ";", "exit", "3"])?;
            let (after, peak) = counted_by_hand(host, container.pid()?)?;
            ensure_eq!((ran.code(), &exit["ended"], &exit["code"]), (Some(3), &"exited".into(), &3.into()), "{exit}");
            ensure_eq!(exit["witness"], "exec");
            let (counted, told) = (after - before, number(&exit, "cpu_user") + number(&exit, "cpu_system"));
            ensure!(told.abs_diff(counted) <= counted / 20 + 2_000, "{told} µs, by hand {counted}: {exit}");
            let most = number(&exit, "memory_peak");
            ensure!(most >= 40 * MIB && most.abs_diff(peak) <= peak / 20 + 2 * MIB, "{most}, by hand {peak}: {exit}");
            let wall = seconds_between(&exit["started"], &exit["finished"])?;
            ensure!((0.6..30.0).contains(&wall), "{wall} s: {exit}");
            container.delete_force()
        })
        .trial("an end by a signal, and what a child of it used", |host| {
            host.needs_controller("memory")?;
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            let words = ["spawn", "/bin/payload", "spin", "300", ";", "kill-self", "TERM"];
            let (before, _) = counted_by_hand(host, container.pid()?)?;
            let (ran, exit) = recorded(host, &container, &words)?;
            let (after, _) = counted_by_hand(host, container.pid()?)?;
            ensure_eq!((ran.code(), &exit["ended"], &exit["signal"]), (Some(143), &"signaled".into(), &15.into()));
            let (counted, told) = (after - before, number(&exit, "cpu_user") + number(&exit, "cpu_system"));
            ensure!(told.abs_diff(counted) <= counted / 20 + 2_000, "{told} µs, by hand {counted}: {exit}");
            container.delete_force()
        })
        .trial("where nobody waits, or another kernel counts, it is refused by name", |host| {
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            let file = host.dir().join("record");
            let words = ["exec", "--detach", "--exit-record", &file.to_string_lossy(), container.id(), "/bin/payload"];
            let refused = host.runtime.call(&words)?;
            ensure!(refused.code() == Some(2) && refused.stderr.contains("--exit-record with --detach"), "{refused}");
            let nowhere = host.dir().join("missing").join("record");
            let words = ["/bin/payload", "report"];
            let ran = container.exec(&["--exit-record", &nowhere.to_string_lossy()], &words)?.finished;
            ensure!(ran.stderr.contains("write exit record") && ran.stdout.is_empty(), "{ran}");
            ensure!(!file.exists(), "a record of nothing");
            container.delete_force()
        })
}

fn recorded(host: &Host, container: &Container<'_>, words: &[&str]) -> Result<(Finished, Value), Stop> {
    let file = host.dir().join("record");
    let options = ["--exit-record", &file.to_string_lossy()];
    let ran = container.exec(&options, &[&["/bin/payload"], words].concat())?;
    let text = std::fs::read_to_string(&file)?;
    Ok((ran.finished, serde_json::from_str(&text)?))
}

fn number(exit: &Value, name: &str) -> u64 {
    exit[name].as_u64().unwrap_or(0)
}
