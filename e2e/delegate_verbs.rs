//! Verbs and options on containers of the real crun and runc: the same meaning as natively, or a refusal by name.

use crate::delegate::{done, ready, with};
use crate::{exec, exec_terminal};
use harness::{Container, Desk, Feature, Host, Outcome, Stop, Value, ensure, ensure_eq, json};
use std::fs;
use std::process::Command;

type Trial = fn(&Host, &str) -> Outcome;

const TRIALS: &[(&str, Trial)] = &[
    ("exec changes user, groups, directory, environment and rights as natively", |host, _| exec::flags(host)),
    ("exec ends with its command's code", |host, _| exec::exit_codes(host)),
    ("exec with --detach leaves the process in the pid file to the caller", |host, _| exec::detached(host)),
    ("exec takes a process object, and what is typed beside it", object),
    ("exec gives a process a terminal", terminal),
    ("descriptors that are asked for are inherited, and no other", descriptors),
    ("kill --all reaches a process that joined", killed),
    ("update changes limits, typed and from a file", updated),
    ("what the runtime lacks is refused by name", refused),
    ("run --detach leaves the payload to the caller", detached),
    ("--debug reaches the runtime's log", debugged),
    ("state, list and features answer for it", answers),
];

pub(crate) fn trials() -> Feature {
    let mut feature = Feature::new("delegate verbs");
    for peer in ["crun", "runc"] {
        for (sentence, trial) in TRIALS {
            feature = feature.trial(&format!("{peer}: {sentence}"), move |host| trial(&ready(host, peer)?, peer));
        }
    }
    feature
}

fn sleeping(host: &Host) -> Result<Container<'_>, Stop> {
    host.start(&host.bundle()?.payload(&["sleep"]))
}

fn object(host: &Host, _: &str) -> Outcome {
    let bundle = host.bundle()?.payload(&["sleep"]);
    let container = host.start(&bundle)?;
    let file = exec::process_file(host, &bundle.config, |process| {
        process["args"] = json!(["payload", "report"]);
        process["user"] = json!({"uid": 3, "gid": 4, "additionalGids": [5]});
        process["rlimits"] = json!([{"type": "RLIMIT_CORE", "soft": 1, "hard": 2}]);
    })?;
    for (options, cwd, groups) in [(&[][..], "/", json!([5])), (&["--cwd", "/tmp", "-g", "9"], "/tmp", json!([5, 9]))] {
        let ran = container.exec(&[&["--process", &*file], options].concat(), &[])?;
        ensure_eq!(ran.code(), Some(0), "{}", ran.finished);
        let seen = ran.report()?;
        ensure_eq!((&seen["uid"], &seen["gid"]), (&json!([3, 3, 3, 3]), &json!([4, 4, 4, 4])));
        ensure_eq!((seen.text("/cwd"), &seen["groups"]), (cwd, &groups), "{options:?}");
        ensure_eq!(seen["rlimits"]["Max core file size"], json!(["1", "2"]));
    }
    container.delete_force()
}

fn terminal(host: &Host, _: &str) -> Outcome {
    let container = sleeping(host)?;
    let [report] = exec_terminal::detached(host, &container, &["--tty"], &["terminal"])?;
    ensure_eq!((&report["controlling"], &report["leads"]), (&json!(true), &json!(true)));
    let [report] = exec_terminal::detached(host, &container, &["--tty", "--user", "1000:1000"], &["terminal"])?;
    ensure_eq!(report["controlling"], true);
    let mut desk = Desk::new(31, 97)?;
    let before = desk.settings()?;
    let words = ["exec", "--tty", container.id(), "/bin/payload", "say", "shown", ";", "wait-signal", ";", "exit", "8"];
    let exec = desk.call(host, &words, |_| {})?;
    desk.screen.wait_for("shown")?;
    desk.screen.wait_for("ready")?;
    desk.screen.write("\x03")?;
    // crun passes a change of size on first.
    ensure_eq!(exec.end(&mut desk.screen)?, 8);
    ensure!(desk.settings()? == before, "our terminal is not as before");
    container.delete_force()
}

/// The runtime with descriptors 3 and 4.
fn with_files(host: &Host, words: &[&str]) -> Result<Value, Stop> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "exec 3</etc/passwd 4</etc/group; exec \"$@\"", "sh"]);
    command.arg(host.runtime.program()).arg("--root").arg(host.root()).args(words);
    let finished = host.runtime.spawn_command(command)?.finish()?;
    let line = finished.stdout.lines().next().unwrap_or_default();
    serde_json::from_str(line).map_err(|_| Stop::failed(finished.to_string()))
}

fn descriptors(host: &Host, _: &str) -> Outcome {
    let open = |report: &Value| -> Vec<String> {
        report["fds"].as_object().into_iter().flatten().map(|(number, _)| number.clone()).collect()
    };
    let bundle = host.bundle()?.payload(&["report"]);
    bundle.save()?;
    for (options, expected) in [(&[][..], &["0", "1", "2"][..]), (&["--preserve-fds", "1"], &["0", "1", "2", "3"])] {
        let words = [&["run"], options, &["--bundle", bundle.dir_text(), bundle.id()]].concat();
        ensure_eq!(open(&with_files(host, &words)?), expected, "run {options:?}");
    }
    let container = sleeping(host)?;
    for (options, expected) in [
        (&[][..], &["0", "1", "2"][..]),
        // With an object of ours for the runtime to read.
        (&["--cwd", "/"], &["0", "1", "2"]),
        (&["--preserve-fds", "1"], &["0", "1", "2", "3"]),
        (&["--preserve-fds", "1", "--cwd", "/"], &["0", "1", "2", "3"]),
    ] {
        let words = [&["exec"], options, &[container.id(), "/bin/payload", "report"]].concat();
        let report = with_files(host, &words)?;
        ensure_eq!(open(&report), expected, "exec {options:?}");
        if expected.len() > 3 {
            ensure!(report["fds"]["3"].as_str().is_some_and(|path| path.ends_with("passwd")), "{}", report["fds"]);
        }
    }
    container.delete_force()
}

fn killed(host: &Host, _: &str) -> Outcome {
    let container = sleeping(host)?;
    let joined = host.spawn(&["exec", container.id(), "/bin/payload", "say", "here", ";", "sleep"])?;
    let begun = std::time::Instant::now();
    while joined.stdout_so_far().is_empty() {
        ensure!(begun.elapsed() < harness::limit(20), "nothing joined: {}", joined.stderr_so_far());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    if lacks(host, "kill", "all")? {
        let finished = host.runtime.call(&["kill", "--all", container.id(), "TERM"])?;
        ensure!(finished.code() == Some(1) && finished.last_line().contains("kill --all on the"), "{finished}");
        host.runtime.must(&["kill", "--all", container.id(), "KILL"])?;
        ensure_eq!(joined.finish()?.code(), Some(137));
        return container.delete_force();
    }
    host.runtime.must(&["kill", "--all", container.id(), "TERM"])?;
    ensure_eq!(joined.finish()?.code(), Some(143));
    container.delete_force()
}

fn updated(host: &Host, peer: &str) -> Outcome {
    host.needs_controller("memory")?;
    let container = sleeping(host)?;
    let pid = container.pid()?;
    let limit = || crate::engines::cgroup_value(pid, "memory", "memory.limit_in_bytes", "memory.max");
    host.runtime.must(&["update", "--memory", "64m", container.id()])?;
    ensure_eq!(limit()?, (64 << 20).to_string());
    let file = host.dir().join("limits");
    fs::write(&file, json!({"memory": {"limit": 96 << 20}}).to_string())?;
    host.runtime.must(&["update", "--resources", &file.to_string_lossy(), container.id()])?;
    ensure_eq!(limit()?, (96 << 20).to_string());
    if peer == "runc" {
        fs::write(&file, json!({"memory": {"limit": 32 << 20, "swappiness": 7}}).to_string())?;
        let refused = host.runtime.call(&["update", "--resources", &file.to_string_lossy(), container.id()])?;
        let words = "update of memory/swappiness on the runc backend: is not supported [memory/swappiness]";
        ensure!(refused.code() == Some(1) && refused.last_line().contains(words), "{refused}");
        ensure_eq!(limit()?, (96 << 20).to_string(), "changed all the same");
    }
    container.delete_force()
}

/// Whether the runtime's own help does not have the option.
fn lacks(host: &Host, verb: &str, option: &str) -> Result<bool, Stop> {
    let peer = host.runtime.name().to_owned();
    let mut command = Command::new(&peer);
    command.args([verb, "--help"]);
    let finished = host.program(command)?.finish()?;
    Ok(finished.code() != Some(0) || !(finished.stdout + &finished.stderr).contains(&format!("--{option}")))
}

fn refused(host: &Host, _: &str) -> Outcome {
    let bundle = host.bundle()?.payload(&["sleep"]);
    bundle.save()?;
    let mut refusals = 0;
    let mut refused = |verb: &str, option: &str, words: &[&str]| -> Outcome {
        if !lacks(host, verb, option)? {
            return Ok(());
        }
        let said = host.runtime.call(words)?;
        let named = said.last_line().contains(&format!("{verb} --{option} on the"))
            || said.last_line().contains(&format!("{verb} on the"));
        ensure!(said.code() != Some(0) && named && said.last_line().contains("is not supported"), "{said}");
        refusals += 1;
        Ok(())
    };
    refused("create", "pidfd-socket", &["create", "--pidfd-socket", "/s", "--bundle", bundle.dir_text(), bundle.id()])?;
    ensure_eq!(fs::read_dir(host.root())?.count(), 0, "entries left below --root");
    let container = sleeping(host)?;
    let id = container.id();
    refused("exec", "pidfd-socket", &["exec", "--pidfd-socket", "/s", id, "/bin/payload", "nothing"])?;
    refused("exec", "ignore-paused", &["exec", "--ignore-paused", id, "/bin/payload", "nothing"])?;
    refused("events", "stats", &["events", "--stats", id])?;
    refused("update", "cpu-burst", &["update", "--cpu-burst", "1000", id])?;
    refused("update", "kernel-memory", &["update", "--kernel-memory", "64m", id])?;
    ensure!(refusals > 0, "this runtime has everything");
    let foreground = host.runtime.call(&["run", "--no-subreaper", "--bundle", bundle.dir_text(), bundle.id()])?;
    ensure!(foreground.last_line().contains("run --no-subreaper on the"), "{foreground}");
    container.delete_force()
}

fn detached(host: &Host, _: &str) -> Outcome {
    let bundle = host.bundle()?.payload(&["sleep"]);
    bundle.save()?;
    let file = host.dir().join("pid");
    let file = file.to_string_lossy();
    let words = ["run", "--detach", "--no-subreaper", "--pid-file", &file, "--bundle", bundle.dir_text(), bundle.id()];
    host.runtime.must(&words)?;
    let pid: i32 = fs::read_to_string(&*file)?.trim().parse()?;
    let state: Value = serde_json::from_str(&host.runtime.must(&["state", bundle.id()])?)?;
    ensure_eq!((&state["status"], &state["pid"]), (&json!("running"), &json!(pid)));
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let parent = stat.rsplit(')').next().and_then(|rest| rest.split_ascii_whitespace().nth(1));
    ensure_eq!(parent, Some(std::process::id().to_string().as_str()), "the payload's parent");
    host.runtime.must(&["delete", "--force", bundle.id()]).map(drop)
}

fn debugged(host: &Host, peer: &str) -> Outcome {
    let bundle = host.bundle()?.payload(&["sleep"]);
    bundle.save()?;
    let log = host.dir().join("log");
    let create = ["create", "--bundle", bundle.dir_text(), bundle.id()];
    done(with(host, peer, &[&["--debug", "--log", &log.to_string_lossy()], &create[..]].concat())?)?;
    let text = fs::read_to_string(&log)?;
    // crun 1.8 has nothing to say at that level.
    ensure!(peer != "runc" || text.contains("level=debug"), "{text:?}");
    host.runtime.must(&["delete", "--force", bundle.id()]).map(drop)
}

fn answers(host: &Host, peer: &str) -> Outcome {
    let container = sleeping(host)?;
    let state: Value = serde_json::from_str(&host.runtime.must(&["state", container.id()])?)?;
    ensure_eq!((&state["status"], &state["backend"]), (&json!("running"), &json!(peer)));
    let record: Value = serde_json::from_slice(&fs::read(host.root().join(container.id()).join("record.json"))?)?;
    ensure_eq!(record["state"], "delegated");
    ensure_eq!(host.runtime.must(&["list", "--quiet"])?, format!("{}\n", container.id()));
    let features: Value = serde_json::from_str(&host.runtime.must(&["features"])?)?;
    ensure!(features["ociVersionMax"].is_string(), "{features}");
    container.delete_force()
}
