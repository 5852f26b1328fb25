//! `doctor`: what is wrong on a host is told with what to do about it, and that helps.
//!
//! The faults are made in namespaces and directories of a trial's own; the advice is taken word for word.

use crate::stale_state::persistent;
use harness::{Feature, Host, Outcome, Stop, Value, ensure, ensure_eq, json};
use std::fs;
use std::process::Command;

pub(crate) fn trials() -> Feature {
    Feature::new("doctor")
        .trial("each line has what it is about, and cause and fix where it is not good", |host| {
            let seen = examine(host, &[], "", &[])?;
            ensure!(seen.lines.len() > 8, "{:?}", seen.lines);
            for line in &seen.lines {
                ensure!(line["area"].is_string() && line["what"].is_string(), "{line}");
                let explained = line["cause"].is_string() && line["fix"].is_string();
                ensure_eq!(explained, line["state"] != "good", "{line}");
            }
            let release = nix::sys::utsname::uname()?.release().to_string_lossy().into_owned();
            ensure_eq!(seen.of(&format!("Linux {release}"))?["state"], "good");
            // Both forms say the same.
            let text = host.runtime.call(&["doctor"])?;
            let counts = text.last_line().to_owned() + text.stdout.lines().last().unwrap_or_default();
            ensure!(counts.contains(&format!("{} good", seen.count("good"))), "{text}");
            ensure_eq!(text.code(), Some(seen.code));
            Ok(())
        })
        .trial("the exit code is that of the worst line", |host| {
            let seen = examine(host, &[], "", &[])?;
            let expected = if seen.count("missing") > 0 {
                2
            } else if seen.count("limited") > 0 {
                1
            } else {
                0
            };
            ensure_eq!(seen.code, expected);
            Ok(())
        })
        .trial("system calls that are taken away are named, with what comes instead", |host| {
            let seen = examine(&host.without("openat2")?, &[], "", &[])?;
            let line = seen.of("openat2")?;
            ensure_eq!(line["state"], "limited");
            ensure!(line["cause"].as_str().is_some_and(|cause| cause.contains("instead")), "{line}");
            let seen = examine(&host.without("open_tree")?, &[], "", &[])?;
            ensure_eq!((&seen.of("open_tree")?["state"], seen.code), (&json!("missing"), 2));
            Ok(())
        })
        .trial("advice: a cgroup hierarchy that is mounted read-only", |host| {
            let place = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"];
            let place = place.into_iter().find(|place| fs::metadata(format!("{place}/cgroup.procs")).is_ok());
            let place = place.ok_or_else(|| Stop::skipped("no cgroup hierarchy is mounted"))?;
            let spoil = format!("mount -o remount,bind,ro {place}");
            helps(host, &["unshare", "--mount"], &spoil, "cannot be written to", "missing", "cgroups can be made")
        })
        .trial("advice: user namespaces that are used up", |host| {
            let around = ["unshare", "--user", "--map-root-user"];
            let spoil = "echo 0 >/proc/sys/user/max_user_namespaces";
            if examine(host, &around, spoil, &[]).is_err() {
                return Err(Stop::skipped("no user namespace can be made here"));
            }
            helps(host, &around, spoil, "user namespaces", "limited", "user namespaces")
        })
        .trial("advice: a user without subordinate ids", |host| {
            // A copy of /etc with a user of the trial's own.
            let etc = host.new_dir("etc")?;
            let spoil = format!(
                "cp -a /etc/. {0}; mount --bind {0} /etc; echo tenant:x:4711:4711::/:/bin/sh >>/etc/passwd; \
                 echo tenant:x:4711: >>/etc/group; : >/etc/subuid; : >/etc/subgid",
                etc.display()
            );
            let user = ["setpriv", "--reuid=4711", "--regid=4711", "--clear-groups"];
            helps_as(
                host,
                &["unshare", "--mount"],
                &spoil,
                &user,
                ("/etc/subuid", "limited", "ids for tenant in /etc/subuid"),
            )
        })
        .trial("advice: a helper for id maps without its rights", |host| {
            if !std::path::Path::new("/usr/bin/newuidmap").exists() {
                return Err(Stop::skipped("newuidmap is not installed"));
            }
            let copy = host.new_dir("helper")?.join("newuidmap");
            let spoil = format!(
                "cp /usr/bin/newuidmap {0}; chmod 755 {0}; mount --bind {0} /usr/bin/newuidmap",
                copy.display()
            );
            let user = ["setpriv", "--reuid=4711", "--regid=4711", "--clear-groups"];
            helps_as(host, &["unshare", "--mount"], &spoil, &user, ("newuidmap", "limited", "newuidmap"))
        })
        .trial("advice: a state directory that others may write to", |host| {
            let root = persistent(host)?;
            let spoil = format!("chmod 777 {}", root.path);
            let words = ["--root", &*root.path];
            let before = examine(host, &[], &spoil, &words)?;
            let line = before.of(&root.path)?;
            ensure_eq!((&line["state"], before.code), (&json!("missing"), 2));
            ensure_eq!(examine(host, &[], &advice(&line)?, &words)?.of(&root.path)?["state"], "good");
            Ok(())
        })
        .trial("advice: a configuration with a wrong word in it", |host| {
            let file = host.dir().join("doctor.json");
            fs::write(&file, r#"{"routnig": []}"#)?;
            let path = file.display().to_string();
            let seen = examine(host, &[], "", &["--config", &path])?;
            let line = seen.of("no container can be made")?;
            ensure_eq!((&line["state"], seen.code), (&json!("missing"), 2));
            ensure!(line["cause"].as_str().is_some_and(|cause| cause.contains("did you mean \"routing\"")), "{line}");
            fs::write(&file, r#"{"routing": []}"#)?;
            let seen = examine(host, &[], "", &["--config", &path])?;
            ensure_eq!(seen.of(&path)?["state"], "good");
            Ok(())
        })
        .trial("advice: a runtime of the configuration that is not where it should be", |host| {
            let (file, runtime) = (host.dir().join("doctor.json"), host.dir().join("runtime"));
            fs::write(&file, json!({"runtimes": {"own": runtime.to_string_lossy()}}).to_string())?;
            let words = ["--config", &*file.display().to_string()].map(str::to_owned);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let seen = examine(host, &[], "", &words)?;
            let line = seen.of("backend own")?;
            ensure_eq!((&line["state"], seen.code.max(1)), (&json!("limited"), seen.code));
            fs::write(&runtime, "#!/bin/sh\necho own version 1.2\n")?;
            fs::set_permissions(&runtime, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
            let line = examine(host, &[], "", &words)?.of("backend own")?;
            ensure_eq!(line["state"], "good");
            ensure!(line["what"].as_str().is_some_and(|what| what.contains("own version 1.2")), "{line}");
            Ok(())
        })
        .trial("a runtime that hangs when it is asked for its version is given up", |host| {
            let (file, runtime) = (host.dir().join("doctor.json"), host.dir().join("runtime"));
            fs::write(&file, json!({"runtimes": {"own": runtime.to_string_lossy()}}).to_string())?;
            fs::write(&runtime, "#!/bin/sh\nexec sleep 1000\n")?;
            fs::set_permissions(&runtime, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
            let path = file.display().to_string();
            let line = examine(host, &[], "", &["--config", &path])?.of("backend own")?;
            ensure!(line["cause"].as_str().is_some_and(|cause| cause.contains("within 5 s")), "{line}");
            Ok(())
        })
}

/// What one call has said.
struct Seen {
    lines: Vec<Value>,
    code: i32,
}

impl Seen {
    /// The first line that is about this.
    fn of(&self, what: &str) -> Result<Value, Stop> {
        let about = |line: &&Value| line["what"].as_str().is_some_and(|text| text.contains(what));
        let found = self.lines.iter().find(about).cloned();
        found.ok_or_else(|| Stop::failed(format!("no line about {what}: {:?}", self.lines)))
    }

    fn count(&self, state: &str) -> usize {
        self.lines.iter().filter(|line| line["state"] == state).count()
    }
}

/// `doctor` after these commands of a shell, run by `around`.
fn examine(host: &Host, around: &[&str], before: &str, words: &[&str]) -> Result<Seen, Stop> {
    examine_as(host, around, before, &[], words)
}

fn examine_as(host: &Host, around: &[&str], before: &str, user: &[&str], words: &[&str]) -> Result<Seen, Stop> {
    host.only_wharf("only wharf has doctor")?;
    // Before another user takes over, so that what he is told is not what he may see of a directory of the trial's.
    let root = if user.is_empty() { host.root().display().to_string() } else { "/tmp".to_owned() };
    let script = format!("set -e\n{before}\nexec \"$@\"");
    let call = [around, &["sh", "-c", &script, "sh"], user].concat();
    let mut command = Command::new(call[0]);
    command
        .args(&call[1..])
        .arg(host.runtime.program())
        .args(["--root", &*root])
        .args(words)
        .args(["doctor", "--format", "json"]);
    let finished = host.runtime.spawn_command(command)?.finish()?;
    let lines: Vec<Value> = serde_json::from_str(&finished.stdout)
        .map_err(|error| Stop::failed(format!("doctor printed no JSON: {error}: {finished}")))?;
    Ok(Seen { lines, code: finished.code().unwrap_or(-1) })
}

fn advice(line: &Value) -> Result<String, Stop> {
    let fix = line["fix"].as_str().ok_or_else(|| Stop::failed(format!("no advice: {line}")))?;
    Ok(fix.trim_start_matches("as root: ").to_owned())
}

fn helps(host: &Host, around: &[&str], spoil: &str, about: &str, state: &str, after: &str) -> Outcome {
    helps_as(host, around, spoil, &[], (about, state, after))
}

/// The line `about` the fault is in this state; when its advice is taken the line `after` is good.
fn helps_as(host: &Host, around: &[&str], spoil: &str, user: &[&str], lines: (&str, &str, &str)) -> Outcome {
    let (about, state, after) = lines;
    let line = examine_as(host, around, spoil, user, &[])?.of(about)?;
    ensure_eq!(line["state"], state, "{line}");
    let healed = format!("{spoil}\n{} >&2", advice(&line)?);
    let line = examine_as(host, around, &healed, user, &[])?.of(after)?;
    ensure_eq!(line["state"], "good", "{line}");
    Ok(())
}
