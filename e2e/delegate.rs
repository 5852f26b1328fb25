//! Another runtime as the backend: `--backend crun` and `--backend runc`, the installed ones.

use crate::notify_socket::Manager;
use harness::{
    Bundle, ConsoleSocket, Desk, Feature, Finished, Host, Outcome, Running, Stop, Value, ensure, ensure_eq, json,
};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use std::fs;
use std::path::Path;
use std::process::Command;

pub(crate) fn trials() -> Feature {
    let mut feature = Feature::new("delegate");
    for peer in ["crun", "runc"] {
        feature = feature
            .trial(&format!("{peer} runs a container, and its payload's code is ours"), move |host| runs(host, peer))
            .trial(&format!("a container of {peer} lives from create to delete"), move |host| lives(host, peer))
            .trial(&format!("a terminal of {peer} is ours in the foreground"), move |host| shown(host, peer))
            .trial(&format!("a terminal of {peer} goes to --console-socket"), move |host| handed(host, peer))
            .trial(&format!("{peer} tells its failure in our log, once"), move |host| fails(host, peer))
            .trial(&format!("a container of {peer} is deleted by force while it runs"), move |host| forced(host, peer))
            .trial(&format!("sd_notify: start with {peer} waits until the payload is ready"), move |host| {
                notifies(host, peer)
            })
            .trial(&format!("descriptors of LISTEN_FDS reach a payload of {peer}"), move |host| listens(host, peer));
    }
    feature
        .trial("a backend that is not installed is named, and nothing is made", |host| {
            only_wharf(host)?;
            let bundle = host.bundle()?;
            bundle.save()?;
            let call = ["--backend", "/nowhere/runtime", "create", "--bundle", bundle.dir_text(), bundle.id()];
            let finished = host.runtime.call(&call)?;
            ensure_eq!(finished.code(), Some(1), "{finished}");
            ensure!(finished.last_line().contains("/nowhere/runtime: No such file or directory"), "{finished}");
            Ok(())
        })
        .trial("a delegate that knows nothing of its container leaves a record that can be deleted", |host| {
            only_wharf(host)?;
            let bundle = host.bundle()?;
            bundle.save()?;
            let args = ["--backend", "/bin/false", "create", "--bundle", bundle.dir_text(), bundle.id()];
            ensure_eq!(host.runtime.call(&args)?.code(), Some(1), "the delegate's own exit code");
            let state = host.runtime.call(&["state", bundle.id()])?;
            ensure!(state.code() == Some(1) && state.last_line().contains("does not exist"), "{state}");
            ensure_eq!(host.runtime.must(&["list", "--quiet"])?, "");
            let again = host.runtime.call(&args)?;
            ensure!(again.code() == Some(1) && !again.stderr.contains("exists"), "the id is not taken: {again}");
            host.runtime.must(&["delete", "--force", bundle.id()])?;
            Ok(())
        })
        .trial("what the other runtime says is told while it works at a start", while_starting)
        .trial("delegates that hang are given up in time, together, and hide nobody", hanging)
        .trial("a delegate that prints garbage is quoted, listed as unknown, and can be deleted by force", |host| {
            only_wharf(host)?;
            let bundle = made_by(host, "garbage", "echo hello")?;
            let state = host.runtime.call(&["state", bundle.id()])?;
            ensure!(state.code() == Some(1) && state.last_line().contains("its answer is no state"), "{state}");
            ensure!(state.last_line().contains("\"hello"), "{state}");
            ensure_eq!(statuses(host)?, [(bundle.id().to_owned(), "unknown".to_owned())]);
            host.runtime.must(&["delete", "--force", bundle.id()])?;
            ensure_eq!(fs::read_dir(host.root())?.count(), 0, "entries left below --root");
            Ok(())
        })
        .trial("runc killed at any moment of its create leaves nothing after a delete by force", killed)
}

/// A container of a program that makes them well, and answers to `state` with this script.
fn made_by(host: &Host, name: &str, state: &str) -> Result<Bundle, Stop> {
    let script = format!(
        "#!/bin/sh\nroot=$2; for id; do :; done\ncase $7 in create) mkdir \"$root/$id\" ;; state) {state} ;; \
         delete) rm -r \"$root/$id\" ;; esac\n"
    );
    let path = host.dir().join(name);
    // Renamed into place: a fork elsewhere may hold a file open for writing, and its exec would fail.
    let new = path.with_extension("new");
    fs::write(&new, script)?;
    fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    fs::rename(&new, &path)?;
    let bundle = host.bundle()?;
    bundle.save()?;
    done(with(host, &path.to_string_lossy(), &["create", "--bundle", bundle.dir_text(), bundle.id()])?)?;
    Ok(bundle)
}

/// Id and status of every container that `list` tells of.
fn statuses(host: &Host) -> Result<Vec<(String, String)>, Stop> {
    let listed = serde_json_from(&host.runtime.must(&["list", "--format", "json"])?)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(listed.as_array().into_iter().flatten().map(|entry| (text(&entry["id"]), text(&entry["status"]))).collect())
}

/// A verb holds the container's lock while the other runtime works, as the maker of a container does.
fn while_starting(host: &Host) -> Outcome {
    only_wharf(host)?;
    let sign = host.new_dir("sign")?;
    let answer = r#"echo "{\"ociVersion\":\"1.0.2\",\"id\":\"$id\",\"status\":\"created\",\"pid\":$$}""#;
    let dir = sign.display();
    let start = format!("start) touch {dir}/here; until [ -e {dir}/go ]; do sleep 0.01; done");
    let bundle = made_by(host, "slow", &format!("{answer} ;; {start}"))?;
    let starting = host.spawn(&["start", bundle.id()])?;
    let begun = std::time::Instant::now();
    while !sign.join("here").exists() {
        ensure!(begun.elapsed() < harness::limit(20), "it is not started: {}", starting.stderr_so_far());
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let (state, listed) = (state(host, &bundle), statuses(host));
    fs::write(sign.join("go"), "")?;
    let started = starting.finish()?;
    ensure!(started.code() == Some(0), "{started}");
    ensure_eq!(state?["status"], "created");
    ensure_eq!(listed?, [(bundle.id().to_owned(), "created".to_owned())]);
    host.runtime.must(&["delete", "--force", bundle.id()]).map(drop)
}

fn hanging(host: &Host) -> Outcome {
    only_wharf(host)?;
    let own = host.bundle()?.payload(&["sleep"]);
    let container = host.create(&own)?;
    let stuck: Vec<Bundle> = (0..4).map(|_| made_by(host, "stuck", "exec sleep 1000")).collect::<Result<_, Stop>>()?;
    let state = host.spawn(&["state", stuck[0].id()])?;
    // One after the other they would take longer than the harness allows.
    let listed = host.spawn(&["list", "--format", "json"])?;
    let state = state.finish()?;
    ensure!(state.code() == Some(1) && state.last_line().contains("it did not answer within 10s"), "{state}");
    let listed = serde_json_from(&listed.finish()?.stdout)?;
    let status = |id: &str| {
        let entry = listed.as_array().into_iter().flatten().find(|entry| entry["id"] == id);
        entry.map(|entry| entry["status"].clone()).unwrap_or_default()
    };
    ensure_eq!(status(own.id()), "created");
    let removals = stuck.iter().map(|bundle| host.spawn(&["delete", "--force", bundle.id()]));
    for (bundle, removal) in stuck.iter().zip(removals.collect::<Vec<_>>()) {
        ensure_eq!(status(bundle.id()), "unknown");
        let removal = removal?.finish()?;
        ensure_eq!(removal.code(), Some(0), "{removal}");
    }
    container.delete_force()?;
    ensure_eq!(fs::read_dir(host.root())?.count(), 0, "entries left below --root");
    Ok(())
}

/// The harness looks for processes, cgroups and mounts that are left.
fn killed(host: &Host) -> Outcome {
    installed(host, "runc")?;
    let bundle = host.bundle()?.payload(&["sleep"]);
    bundle.save()?;
    let words = ["--backend", "runc", "create", "--bundle", bundle.dir_text(), bundle.id()];
    let whole = host.runtime.call(&words)?;
    ensure_eq!(whole.code(), Some(0), "{whole}");
    host.runtime.must(&["delete", "--force", bundle.id()])?;
    reap();
    let before = harness::Inventory::take(host.tag(), &host.root());
    for part in 1..=15 {
        let create = host.spawn(&words)?;
        std::thread::sleep(whole.took * part / 15);
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(create.pid()), nix::sys::signal::Signal::SIGKILL);
        create.finish()?;
        host.runtime.must(&["delete", "--force", bundle.id()])?;
        let begun = std::time::Instant::now();
        loop {
            reap();
            let left = harness::Inventory::take(host.tag(), &host.root()).difference(&before);
            if left.is_empty() {
                break;
            }
            ensure!(begun.elapsed().as_secs() < 5, "killed after {part} of 15 parts of create: {left:?}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
    Ok(())
}

fn only_wharf(host: &Host) -> Outcome {
    if host.runtime.name() == "wharf" { Ok(()) } else { Err(Stop::skipped("only wharf has --backend")) }
}

/// The same host with wharf told to hand on to this peer, which sees cgroups that it accepts. Skips where it is missing.
pub(crate) fn ready(host: &Host, peer: &str) -> Result<Host, Stop> {
    installed(host, peer)?;
    host.handing_on_to(peer)
}

fn installed(host: &Host, peer: &str) -> Outcome {
    only_wharf(host)?;
    let places = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
    match places.iter().any(|dir| Path::new(dir).join(peer).exists()) {
        true => Ok(()),
        false => Err(Stop::skipped(format!("{peer} is not installed"))),
    }
}

pub(crate) fn with(host: &Host, peer: &str, words: &[&str]) -> Result<Finished, Stop> {
    host.runtime.call(&[&["--backend", peer], words].concat())
}

pub(crate) fn done(finished: Finished) -> Result<String, Stop> {
    if finished.code() == Some(0) { Ok(finished.stdout) } else { Err(Stop::failed(finished.to_string())) }
}

fn state(host: &Host, bundle: &Bundle) -> Result<Value, Stop> {
    let text = host.runtime.must(&["state", bundle.id()])?;
    serde_json_from(&text)
}

fn serde_json_from(text: &str) -> Result<Value, Stop> {
    text.parse::<Value>().map_err(|error| Stop::failed(format!("{error}: {text:?}")))
}

fn shown(host: &Host, peer: &str) -> Outcome {
    let host = &ready(host, peer)?;
    let bundle = host.bundle()?.payload(&["terminal", ";", "wait-signal", ";", "exit", "7"]);
    let bundle = bundle.set("/process/terminal", json!(true));
    bundle.save()?;
    let mut desk = Desk::new(31, 97)?;
    let before = desk.settings()?;
    let run = ["--backend", peer, "run", "--bundle", bundle.dir_text(), bundle.id()];
    let run = desk.call(host, &run, |_| {})?;
    let report = desk.screen.line()?;
    ensure_eq!((&report["controlling"], &report["window"]), (&json!(true), &json!([31, 97])));
    desk.screen.wait_for("ready")?;
    desk.screen.write("\x03")?;
    desk.screen.wait_for("SIGINT")?;
    ensure_eq!(run.end(&mut desk.screen)?, 7);
    ensure!(desk.settings()? == before, "our terminal is not as before");
    Ok(())
}

fn handed(host: &Host, peer: &str) -> Outcome {
    let host = &ready(host, peer)?;
    let bundle = host.bundle()?.payload(&["terminal", ";", "sleep"]).set("/process/terminal", json!(true));
    bundle.save()?;
    let socket = ConsoleSocket::new(host)?;
    let to = ["--console-socket", socket.path(), "--bundle", bundle.dir_text(), bundle.id()];
    done(with(host, peer, &[&["create"], &to[..]].concat())?)?;
    let mut screen = socket.receive()?;
    host.runtime.must(&["start", bundle.id()])?;
    ensure_eq!(screen.line()?["controlling"], true);
    host.runtime.must(&["delete", "--force", bundle.id()]).map(drop)
}

fn notifies(host: &Host, peer: &str) -> Outcome {
    let host = &ready(host, peer)?;
    let manager = Manager::new(host)?;
    let call = |words: &[&str]| host.runtime.spawn_command(manager.command(words));
    // As long as an engine's: the other runtime's own socket lies below a directory of that name.
    let id = format!("{:0<64}", host.unique("n"));
    let bundle = host.bundle()?.with_id(&id);
    let bundle = bundle.payload(&["wait-file", "/tmp/go", ";", "notify", "READY=1", ";", "sleep"]);
    bundle.save()?;
    done(call(&["create", "--bundle", bundle.dir_text(), bundle.id()])?.finish()?)?;
    let starting = call(&["start", bundle.id()])?;
    wait_until_running(host, &bundle, &starting)?;
    // Nobody's lock is held: it is paused, and goes on.
    host.runtime.must(&["pause", bundle.id()])?;
    host.runtime.must(&["resume", bundle.id()])?;
    ensure!(manager.heard(300)?.is_empty(), "something was said before the payload did");
    fs::write(bundle.rootfs().join("tmp/go"), "")?;
    done(starting.finish()?)?;
    let said = manager.until(|said| said.contains("READY=1"))?;
    ensure!(!said.contains("MAINPID=1\n"), "{said:?}");
    host.runtime.must(&["delete", "--force", bundle.id()])?;
    // One that is made without a socket is not waited for.
    let bundle = host.bundle()?.payload(&["sleep"]);
    bundle.save()?;
    done(with(host, peer, &["create", "--bundle", bundle.dir_text(), bundle.id()])?)?;
    done(call(&["start", bundle.id()])?.finish()?)?;
    host.runtime.must(&["delete", "--force", bundle.id()])?;
    // As a child of ours it would not be heard.
    let refused = call(&["run", "--bundle", bundle.dir_text(), bundle.id()])?.finish()?;
    ensure!(refused.code() == Some(125) && refused.last_line().contains("NOTIFY_SOCKET for run with"), "{refused}");
    Ok(())
}

fn wait_until_running(host: &Host, bundle: &Bundle, starting: &Running) -> Outcome {
    let begun = std::time::Instant::now();
    while state(host, bundle)?["status"] != "running" {
        ensure!(begun.elapsed().as_secs() < 20, "it does not start: {}", starting.stderr_so_far());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Ok(())
}

fn listens(host: &Host, peer: &str) -> Outcome {
    let host = &ready(host, peer)?;
    let bundle = host.bundle()?.payload(&["sleep"]);
    bundle.save()?;
    let called = |words: &[&str]| -> Result<Finished, Stop> {
        let script = "exec 3</etc/hostname 4</etc/passwd 5</etc/group; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, "sh"]).arg(host.runtime.program()).arg("--root").arg(host.root()).args(words);
        host.runtime.spawn_command(command)?.finish()
    };
    let words = ["create", "--preserve-fds", "1", "--bundle", bundle.dir_text(), bundle.id()];
    done(called(&words)?)?;
    host.runtime.must(&["start", bundle.id()])?;
    let place = format!("/proc/{}", state(host, &bundle)?["pid"]);
    wait_for_payload(&place)?;
    let environment = String::from_utf8_lossy(&fs::read(format!("{place}/environ"))?).into_owned();
    // crun 1.8 says for whom they are, and not how many.
    let told = if peer == "crun" { "LISTEN_PID=1" } else { "LISTEN_FDS=1" };
    ensure!(environment.split('\0').any(|variable| variable == told), "{environment:?}");
    let kept = |number: u32| fs::read_link(format!("{place}/fd/{number}")).map_err(Stop::from);
    ensure!(kept(3)?.ends_with("hostname") && kept(4)?.ends_with("passwd"), "{:?} {:?}", kept(3), kept(4));
    ensure!(kept(5).is_err(), "one more than asked for: {:?}", kept(5));
    let refused = called(&["exec", bundle.id(), "/bin/payload", "report"])?;
    ensure!(refused.code() == Some(255) && refused.last_line().contains("LISTEN_FDS for exec with"), "{refused}");
    host.runtime.must(&["delete", "--force", bundle.id()])?;
    let refused = called(&["run", "--bundle", bundle.dir_text(), bundle.id()])?;
    ensure!(refused.code() == Some(125) && refused.last_line().contains("LISTEN_FDS for run with"), "{refused}");
    Ok(())
}

/// Until the first process is no longer the other runtime's own.
fn wait_for_payload(place: &str) -> Outcome {
    let begun = std::time::Instant::now();
    while !fs::read_to_string(format!("{place}/cmdline"))?.starts_with("/bin/payload") {
        ensure!(begun.elapsed().as_secs() < 20, "the payload does not begin");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Ok(())
}

fn runs(host: &Host, peer: &str) -> Outcome {
    let host = &ready(host, peer)?;
    let bundle = host.bundle()?.set("/hostname", json!("elsewhere")).payload(&["report", ";", "exit", "7"]);
    bundle.save()?;
    let finished = with(host, peer, &["run", "--bundle", bundle.dir_text(), bundle.id()])?;
    ensure_eq!(finished.code(), Some(7), "{finished}");
    let report = serde_json_from(finished.stdout.lines().next().unwrap_or_default())?;
    ensure_eq!(report["hostname"], "elsewhere");
    ensure_eq!(report["pid"], 1);
    Ok(())
}

fn lives(host: &Host, peer: &str) -> Outcome {
    let host = &ready(host, peer)?;
    let bundle = host.bundle()?.payload(&["sleep"]);
    bundle.save()?;
    let pid_file = host.dir().join("pid");
    let pid_text = pid_file.to_string_lossy().into_owned();
    let words = ["create", "--bundle", bundle.dir_text(), "--pid-file", &pid_text, bundle.id()];
    done(with(host, peer, &words)?)?;
    let pid: i64 = std::fs::read_to_string(&pid_file)?.trim().parse()?;
    let created = state(host, &bundle)?;
    ensure_eq!(created["status"], "created");
    ensure_eq!(created["pid"], pid);
    ensure_eq!(created["id"], bundle.id());
    // Left behind by the exec: the engine's own child, here the harness as the subreaper.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let parent = stat.rsplit(')').next().and_then(|rest| rest.split_ascii_whitespace().nth(1));
    ensure_eq!(parent, Some(std::process::id().to_string().as_str()), "the payload's parent");
    host.runtime.must(&["start", bundle.id()])?;
    ensure_eq!(state(host, &bundle)?["status"], "running");
    ensure_eq!(host.runtime.must(&["ps", "--format", "json", bundle.id()])?, format!("[{pid}]\n"));
    ensure!(host.runtime.must(&["ps", bundle.id()])?.contains(&format!(" {pid} ")), "ps does not show it");
    if let Some(pids) = host.controller_dir("pids") {
        host.runtime.must(&["update", "--pids-limit", "77", bundle.id()])?;
        ensure_eq!(std::fs::read_to_string(pids.join(bundle.id()).join("pids.max"))?, "77\n");
    }
    let told = host.runtime.call(&["events", "--stats", bundle.id()])?;
    if peer == "crun" {
        ensure!(
            told.code() == Some(1) && told.stderr.contains("events on the crun backend: is not supported"),
            "{told}"
        );
    } else {
        let told = serde_json_from(&done(told)?)?;
        ensure_eq!((&told["type"], &told["id"]), (&json!("stats"), &json!(bundle.id())));
    }
    host.runtime.must(&["pause", bundle.id()])?;
    ensure_eq!(state(host, &bundle)?["status"], "paused");
    host.runtime.must(&["resume", bundle.id()])?;
    ensure_eq!(state(host, &bundle)?["status"], "running");
    ensure!(host.runtime.must(&["list"])?.contains(bundle.id()), "list does not show it");
    let refused = host.runtime.call(&["delete", bundle.id()])?;
    ensure!(refused.code() == Some(1), "{refused}");
    host.runtime.must(&["kill", bundle.id(), "KILL"])?;
    let begun = std::time::Instant::now();
    while state(host, &bundle)?["status"] != "stopped" {
        ensure!(begun.elapsed().as_secs() < 20, "it does not stop");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let again = host.runtime.call(&["kill", bundle.id(), "TERM"])?;
    ensure!(again.code() == Some(1) && again.last_line().contains("container not running"), "{again}");
    host.runtime.must(&["delete", bundle.id()])?;
    let gone = host.runtime.call(&["state", bundle.id()])?;
    ensure!(gone.code() == Some(1) && gone.last_line().contains("does not exist"), "{gone}");
    Ok(())
}

fn fails(host: &Host, peer: &str) -> Outcome {
    let host = &ready(host, peer)?;
    let bundle = host.bundle()?.set("/root/path", json!("nowhere"));
    bundle.save()?;
    let log = host.dir().join("log");
    let log_text = log.to_string_lossy().into_owned();
    let words = ["--log", &log_text, "--log-format", "json", "create", "--bundle", bundle.dir_text(), bundle.id()];
    let finished = with(host, peer, &words)?;
    ensure_eq!(finished.code(), Some(1), "{finished}");
    let text = std::fs::read_to_string(&log)?;
    let errors: Vec<Value> = text
        .lines()
        .map(serde_json_from)
        .collect::<Result<Vec<Value>, Stop>>()?
        .into_iter()
        .filter(|line| line["level"] == "error")
        .collect();
    ensure_eq!(errors.len(), 1, "errors in {text:?}");
    ensure!(errors[0]["msg"].as_str().is_some_and(|msg| msg.contains("nowhere")), "{text}");
    // The record remains, as the one that could have removed it became the other program.
    host.runtime.must(&["delete", "--force", bundle.id()])?;
    Ok(())
}

fn forced(host: &Host, peer: &str) -> Outcome {
    let host = &ready(host, peer)?;
    let bundle = host.bundle()?.payload(&["sleep"]);
    bundle.save()?;
    done(with(host, peer, &["run", "--detach", "--bundle", bundle.dir_text(), bundle.id()])?)?;
    ensure_eq!(state(host, &bundle)?["status"], "running");
    host.runtime.must(&["delete", "--force", bundle.id()])?;
    ensure_eq!(std::fs::read_dir(host.root())?.count(), 0, "entries left below --root");
    Ok(())
}

/// What a dead runtime leaves behind is our child.
fn reap() {
    while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status != WaitStatus::StillAlive) {}
}
