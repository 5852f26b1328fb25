//! `exec`: one more process in a container, as the container's own process or as a process object says.

use harness::{Container, Feature, Host, Stop, Value, ensure, ensure_eq, json};
use std::fs;

pub(crate) fn trials() -> Feature {
    Feature::new("exec")
        .trial("a failure does not wait for children that the process had before it was wharf", |host| {
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            let mut command = std::process::Command::new("/bin/sh");
            command.args(["-c", "sleep 61.7331 >/dev/null 2>&1 & exec \"$@\"", "sh"]).arg(host.runtime.program());
            command.arg("--root").arg(host.root()).args(["exec", container.id(), "/bin/missing"]);
            let begun = std::time::Instant::now();
            let said = host.runtime.spawn_command(command)?.finish()?;
            let took = begun.elapsed();
            std::process::Command::new("pkill").args(["-f", "^sleep 61[.]7331$"]).status()?;
            ensure!(said.code() == Some(255), "{said}");
            ensure!(took.as_secs() < 50, "it took {took:?}");
            container.delete_force()
        })
        .trial("the process is in the container's namespaces, cgroup, root and directory", same_place)
        .trial("the process has the user, limits and rights of the container's own", same_process)
        .trial("flags change user, groups, directory, environment and rights", flags)
        .trial("a process object stands for the container's own", process_object)
        .trial("a command that is missing or cannot be executed is told as create tells it", bad_commands)
        .trial("the exit code is the command's, and 255 for a failure", exit_codes)
        .trial(
            "with --detach it returns at once, and the process in the pid file is the caller's to wait for",
            detached,
        )
        .trial("a container that is not running, does not exist or is paused is told apart", wrong_status)
        .trial("a container that waits to be started can be joined", in_a_created_container)
        .trial("the bundle is not needed any more", without_the_bundle)
        .trial("an older container, of which nothing was kept, is refused by name", older_container)
}

/// A container whose own process sleeps.
fn sleeping(host: &Host) -> Result<Container<'_>, Stop> {
    host.start(&host.bundle()?.payload(&["report", ";", "sleep"]))
}

fn same_place(host: &Host) -> Result<(), Stop> {
    let container = sleeping(host)?;
    let own = container.lines(1)?.remove(0);
    let [joined] = container.exec_lines(&[], &["report"])?;
    for key in ["namespaces", "cgroup", "cwd", "hostname", "root", "mounts"] {
        ensure_eq!(joined[key], own[key], "{key}");
    }
    ensure!(joined["pid"].as_i64() > Some(1), "pid {}", joined["pid"]);
    ensure_eq!(joined["ppid"], json!(0));
    ensure_eq!(joined["fds"].as_object().map(|fds| fds.len()), Some(3), "{}", joined["fds"]);
    container.delete_force()
}

fn same_process(host: &Host) -> Result<(), Stop> {
    let bundle = host
        .bundle()?
        .payload(&["report", ";", "sleep"])
        .set("/process/user", json!({"uid": 1000, "gid": 1001, "umask": 0o27, "additionalGids": [5, 6]}))
        .set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]))
        .set("/process/oomScoreAdj", json!(321))
        .set("/process/cwd", json!("/tmp"))
        .set("/linux/personality", json!({"domain": "LINUX32"}))
        .set("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0"}))
        .push("/process/env", json!("COLOUR=green"));
    let container = host.start(&bundle)?;
    let own = container.lines(1)?.remove(0);
    let [joined] = container.exec_lines(&[], &["report"])?;
    for key in [
        "uid",
        "gid",
        "groups",
        "umask",
        "rlimits",
        "oom_score_adj",
        "cwd",
        "env",
        "capabilities",
        "no_new_privileges",
        "personality",
        "memory_policy",
        "signals",
        "session_keyring",
    ] {
        ensure_eq!(joined[key], own[key], "{key}");
    }
    ensure_eq!(joined["rlimits"]["Max open files"], json!(["100", "200"]));
    container.delete_force()
}

pub(crate) fn flags(host: &Host) -> Result<(), Stop> {
    let bundle = host.bundle()?.payload(&["sleep"]).set("/process/noNewPrivileges", json!(false));
    let container = host.start(&bundle)?;
    let [plain] = container.exec_lines(&[], &["report"])?;
    ensure_eq!(plain["no_new_privileges"], json!("0"));
    let options = [
        "--user",
        "7:8",
        "-g",
        "9",
        "--additional-gids",
        "10",
        "--cwd",
        "/var",
        "-e",
        "A=1",
        "--env",
        "A=2",
        "-e",
        "PATH=/bin",
        "--no-new-privs",
        "--cap",
        "CAP_CHOWN",
    ];
    let [joined] = container.exec_lines(&options, &["report"])?;
    ensure_eq!(joined["uid"], json!([7, 7, 7, 7]));
    ensure_eq!(joined["gid"], json!([8, 8, 8, 8]));
    ensure_eq!(joined["groups"], json!([9, 10]));
    ensure_eq!(joined["cwd"], json!("/var"));
    ensure_eq!(joined["no_new_privileges"], json!("1"));
    ensure_eq!(joined.mask("/capabilities/bounding"), plain.mask("/capabilities/bounding") | 1);
    ensure_eq!(joined.mask("/capabilities/inheritable"), 0);
    let mut env = joined.list("/env");
    env.sort();
    // crun adds no HOME.
    let has_home = host.runtime.name() != "crun";
    env.retain(|variable| has_home || !variable.starts_with("HOME="));
    ensure_eq!(env, if has_home { vec!["A=2", "HOME=/", "PATH=/bin"] } else { vec!["A=2", "PATH=/bin"] });
    let [root] = container.exec_lines(&["-c", "chown"], &["report"])?;
    ensure_eq!(root.mask("/capabilities/effective"), plain.mask("/capabilities/effective") | 1);
    // The group stays where only the user is given.
    let [user] = container.exec_lines(&["-u", "1000"], &["report"])?;
    ensure_eq!((&user["uid"], &user["gid"]), (&json!([1000, 1000, 1000, 1000]), &json!([0, 0, 0, 0])));
    ensure!(!has_home || user.list("/env").contains(&"HOME=/home"), "{}", user["env"]);
    container.delete_force()?;
    let container = host.start(&host.bundle()?.payload(&["sleep"]).set("/process/noNewPrivileges", json!(true)))?;
    for (options, expected) in [(&[][..], "1"), (&["--no-new-privs=false"], "0"), (&["--no-new-privs=true"], "1")] {
        let [joined] = container.exec_lines(options, &["report"])?;
        ensure_eq!(joined["no_new_privileges"], json!(expected), "{options:?}");
    }
    container.delete_force()
}

/// Writes a process object: the container's own with these changes.
pub(crate) fn process_file(host: &Host, own: &Value, change: impl FnOnce(&mut Value)) -> Result<String, Stop> {
    let mut process = own["process"].clone();
    change(&mut process);
    let path = host.dir().join(host.unique("process"));
    fs::write(&path, process.to_string())?;
    Ok(path.to_string_lossy().into_owned())
}

fn process_object(host: &Host) -> Result<(), Stop> {
    let bundle = host.bundle()?.payload(&["sleep"]);
    let container = host.start(&bundle)?;
    let file = process_file(host, &bundle.config, |process| {
        process["args"] = json!(["payload", "report"]);
        process["cwd"] = json!("/etc");
        process["env"] = json!(["PATH=/nowhere:/bin", "HOME=/h"]);
        process["user"] = json!({"uid": 3, "gid": 4, "additionalGids": [5], "umask": 0o77});
        process["noNewPrivileges"] = json!(false);
        process["oomScoreAdj"] = json!(77);
        process["rlimits"] = json!([{"type": "RLIMIT_CORE", "soft": 1, "hard": 2}]);
        let both = json!(["CAP_KILL", "CAP_NET_BIND_SERVICE"]);
        process["capabilities"] = json!({
            "bounding": both, "effective": ["CAP_KILL"], "permitted": both, "inheritable": ["CAP_KILL"],
            "ambient": ["CAP_KILL"],
        });
        process["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 3});
    })?;
    let ran = container.exec(&["--process", &file], &[])?;
    ensure_eq!(ran.code(), Some(0), "{}", ran.finished);
    let joined = ran.report()?;
    ensure_eq!(joined["uid"], json!([3, 3, 3, 3]));
    ensure_eq!(joined["gid"], json!([4, 4, 4, 4]));
    ensure_eq!(joined["groups"], json!([5]));
    ensure_eq!(joined["umask"], json!("0077"));
    ensure_eq!(joined["cwd"], json!("/etc"));
    ensure_eq!(joined["env"], json!(["PATH=/nowhere:/bin", "HOME=/h"]));
    ensure_eq!(joined["no_new_privileges"], json!("0"));
    ensure_eq!(joined["oom_score_adj"], json!("77"));
    ensure_eq!(joined["rlimits"]["Max core file size"], json!(["1", "2"]));
    // KILL is 5, NET_BIND_SERVICE 10; an ordinary user keeps the ambient ones over the exec (capabilities(7)).
    let masks = ["bounding", "effective", "permitted", "inheritable", "ambient"]
        .map(|set| joined.mask(&format!("/capabilities/{set}")));
    ensure_eq!(masks, [1 << 5 | 1 << 10, 1 << 5, 1 << 5, 1 << 5, 1 << 5]);
    ensure_eq!(joined["scheduler"], json!("3"));
    // What is typed besides is honoured too.
    let ran = container.exec(&["-p", &file, "--cwd", "/tmp", "-e", "X=y"], &[])?;
    let joined = ran.report()?;
    ensure_eq!((joined.text("/cwd"), joined.list("/env").last()), ("/tmp", Some(&"X=y")));
    let file = process_file(host, &bundle.config, |process| {
        process["args"] = json!(["payload", "report"]);
        process["capabilities"] = json!({"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "ambient": ["CAP_KILL"]});
    })?;
    let said = host.runtime.call(&["--log-level", "warn", "exec", "--process", &file, bundle.id()])?;
    ensure_eq!(said.code(), Some(0), "{said}");
    if host.runtime.name() == "wharf" {
        ensure!(said.stderr.contains("[process/capabilities/ambient]"), "left out in silence: {said}");
    }
    for (change, words) in [
        (json!({"cwd": "/", "user": {"uid": "root", "gid": 0}}), "[user/uid]"),
        (json!({"cwd": "etc", "args": ["x"], "user": {"uid": 0, "gid": 0}}), "must be absolute [cwd]"),
        (json!({"cwd": "/", "user": {"uid": 0, "gid": 0}}), "[args]"),
        (json!({"cwd": "/", "args": ["x"], "user": {"uid": u32::MAX, "gid": 0}}), "[user/uid]"),
    ] {
        let file = process_file(host, &bundle.config, |process| *process = change)?;
        let ran = container.exec(&["--process", &file], &[])?;
        ensure_eq!(ran.code(), Some(255), "{}", ran.finished);
        if host.runtime.name() == "wharf" {
            ensure!(ran.finished.last_line().contains(words), "{}", ran.finished);
        }
    }
    let ran = container.exec(&["--process", "/nonexistent"], &[])?;
    ensure!(ran.finished.last_line().to_lowercase().contains("no such file or directory"), "{}", ran.finished);
    container.delete_force()
}

fn bad_commands(host: &Host) -> Result<(), Stop> {
    let container = sleeping(host)?;
    for (command, words) in [
        ("nope", "executable file not found in $PATH"),
        ("/bin/nope", "no such file or directory"),
        ("/bin", "permission denied"),
        ("/etc/passwd", "permission denied"),
    ] {
        let ran = container.exec(&[], &[command])?;
        ensure_eq!(ran.code(), Some(255), "{}", ran.finished);
        ensure!(ran.finished.last_line().to_lowercase().contains(&words.to_lowercase()), "{}", ran.finished);
    }
    let ran = container.exec(&["--cwd", "/nowhere"], &["/bin/payload", "nothing"])?;
    ensure!(ran.finished.last_line().to_lowercase().contains("no such file or directory"), "{}", ran.finished);
    ensure_eq!(ran.code(), Some(255));
    let ran = container.exec(&["--cgroup", "/nowhere"], &["/bin/payload", "nothing"])?;
    ensure_eq!(ran.code(), Some(255));
    container.delete_force()
}

pub(crate) fn exit_codes(host: &Host) -> Result<(), Stop> {
    let container = sleeping(host)?;
    for code in [0, 1, 42, 255] {
        ensure_eq!(container.exec(&[], &["/bin/payload", "exit", &code.to_string()])?.code(), Some(code));
    }
    ensure_eq!(container.exec(&[], &["/bin/payload", "kill-self", "TERM"])?.code(), Some(143));
    ensure_eq!(container.exec(&[], &["/bin/payload", "kill-self", "KILL"])?.code(), Some(137));
    container.delete_force()
}

pub(crate) fn detached(host: &Host) -> Result<(), Stop> {
    let container = sleeping(host)?;
    let file = host.dir().join("pid");
    let file = file.to_string_lossy();
    for (words, code) in
        [(&["exit", "9"][..], 9), (&["sleep", "50", ";", "exit", "7"], 7), (&["kill-self", "KILL"], 137)]
    {
        let ran = container.exec(&["--detach", "--pid-file", &file], &[&["/bin/payload"], words].concat())?;
        ensure_eq!(ran.code(), Some(0), "{}", ran.finished);
        let pid = fs::read_to_string(&*file)?.parse()?;
        ensure_eq!(container.reap(pid)?, code, "{words:?}");
    }
    fs::remove_file(&*file)?;
    let ran = container.exec(&["--detach", "--pid-file", &file], &["/bin/nope"])?;
    ensure_eq!(ran.code(), Some(255));
    ensure!(!std::path::Path::new(&*file).exists(), "a pid file without a process");
    container.delete_force()
}

fn wrong_status(host: &Host) -> Result<(), Stop> {
    let container = sleeping(host)?;
    let command = ["/bin/payload", "nothing"];
    let fails = |words: &str| {
        let ran = container.exec(&[], &command)?;
        ensure_eq!(ran.code(), Some(255), "{}", ran.finished);
        if host.runtime.name() == "wharf" {
            ensure!(ran.finished.last_line().contains(words), "{}", ran.finished);
        }
        Ok(())
    };
    host.runtime.must(&["pause", container.id()])?;
    fails("it is paused")?;
    let waiting = host.spawn(&["exec", "--ignore-paused", container.id(), "/bin/payload", "nothing"])?;
    std::thread::sleep(std::time::Duration::from_millis(50));
    ensure_eq!(waiting.stdout_so_far(), "", "it runs in a paused container");
    host.runtime.must(&["resume", container.id()])?;
    let ended = waiting.finish()?;
    ensure_eq!(ended.code(), Some(0), "{ended}");
    container.kill("KILL")?;
    container.wait_for_status("stopped")?;
    fails("container not running")?;
    container.delete()?;
    fails("does not exist")
}

fn in_a_created_container(host: &Host) -> Result<(), Stop> {
    let container = host.create(&host.bundle()?.payload(&["say", "started"]))?;
    let [joined] = container.exec_lines(&[], &["report"])?;
    ensure_eq!(joined["hostname"], json!("e2e"));
    ensure_eq!(container.status()?, "created");
    let pid = container.pid()?;
    container.start()?;
    ensure_eq!(container.reap(pid)?, 0);
    container.delete()
}

fn without_the_bundle(host: &Host) -> Result<(), Stop> {
    let bundle = host.bundle()?.payload(&["sleep"]).push("/process/env", json!("KEPT=yes"));
    let container = host.start(&bundle)?;
    fs::write(bundle.dir().join("config.json"), "{}")?;
    if host.runtime.name() == "wharf" {
        fs::remove_file(bundle.dir().join("config.json"))?;
    }
    let [joined] = container.exec_lines(&[], &["report"])?;
    if host.runtime.name() == "wharf" {
        ensure!(joined.list("/env").contains(&"KEPT=yes"), "{}", joined["env"]);
    }
    container.delete_force()
}

fn older_container(host: &Host) -> Result<(), Stop> {
    host.only_wharf("its state has another form")?;
    let container = sleeping(host)?;
    let kept = host.root().join(container.id()).join("exec");
    let bytes = fs::read(&kept)?;
    let refused = |words: &str| {
        let ran = container.exec(&[], &["/bin/payload", "nothing"])?;
        ensure_eq!(ran.code(), Some(255));
        ensure!(ran.finished.last_line().contains(words), "{}", ran.finished);
        Ok(())
    };
    fs::remove_file(&kept)?;
    refused("it was made by an older wharf")?;
    let text = String::from_utf8_lossy(&bytes).replace("\"version\":1", "\"version\":9");
    fs::write(&kept, text)?;
    refused("its state has version 9")?;
    for cut in [0, 3, 20, bytes.len() / 2] {
        fs::write(&kept, &bytes[..cut])?;
        let ran = container.exec(&[], &["/bin/payload", "nothing"])?;
        ensure_eq!(ran.code(), Some(255), "cut at {cut}");
    }
    container.delete_force()
}
