//! `gc`: what dead containers have left is told, and removed with `--apply`; nobody who lives is touched.
//!
//! What interrupted calls leave is tried in crash.

use crate::stale_state::{Persistent, edit, persistent};
use harness::{Feature, Host, Outcome, Stop, Value, ensure, ensure_eq, json};
use nix::fcntl::{Flock, FlockArg};
use std::fs;
use std::path::Path;

pub(crate) fn trials() -> Feature {
    Feature::new("gc")
        .trial("a state directory without a record is told, and removed only with --apply", |host| {
            host.only_wharf("only wharf has gc")?;
            let id = host.unique("crashed");
            let dir = host.root().join(&id);
            fs::create_dir(&dir)?;
            fs::write(dir.join("record.json.new"), "{")?;
            let told = row(&gc(host, &[])?, &id)?;
            ensure_eq!((&told["why"], &told["removed"]), (&json!("create or delete was interrupted"), &json!(false)));
            ensure!(dir.exists(), "it was removed without --apply");
            let table = host.runtime.must(&["gc"])?;
            ensure!(table.starts_with("ID ") && table.lines().any(|line| line.starts_with(&id)), "{table}");
            ensure_eq!(row(&gc(host, &["--apply"])?, &id)?["removed"], true);
            ensure!(!dir.exists(), "it is still there");
            ensure_eq!(gc(host, &[])?, json!([]));
            Ok(())
        })
        .trial(
            "A2.11: what a container of an earlier boot holds is told and goes, and its process id is nobody's",
            earlier_boot,
        )
        .trial("living containers are left alone, whatever is asked", |host| {
            host.only_wharf("only wharf has gc")?;
            let created = host.create(&host.bundle()?.payload(&["sleep"]))?;
            let running = host.start(&host.bundle()?.payload(&["sleep"]))?;
            let paused = host.start(&host.bundle()?.payload(&["sleep"]))?;
            host.runtime.must(&["pause", paused.id()])?;
            ensure_eq!(gc(host, &["--stopped", "--apply"])?, json!([]));
            for (container, status) in [(&created, "created"), (&running, "running"), (&paused, "paused")] {
                ensure_eq!(container.status()?, status);
                container.delete_force()?;
            }
            Ok(())
        })
        .trial("a stopped container is its maker's, and goes with --stopped and its poststop hooks", |host| {
            host.only_wharf("only wharf has gc")?;
            let sign = host.new_dir("sign")?.join("poststop");
            let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("cat >{}", sign.display())]}]);
            let container = host.start(&host.bundle()?.payload(&["nothing"]).set("/hooks/poststop", hook))?;
            container.wait_for_status("stopped")?;
            ensure_eq!(gc(host, &["--apply"])?, json!([]));
            ensure_eq!(container.status()?, "stopped");
            let told = row(&gc(host, &["--stopped", "--apply"])?, container.id())?;
            ensure_eq!((&told["why"], &told["backend"]), (&json!("stopped"), &json!("native")));
            ensure!(told["holds"].as_array().is_some_and(|holds| !holds.is_empty()), "it holds a cgroup: {told}");
            let state: Value = serde_json::from_slice(&fs::read(&sign)?)?;
            ensure_eq!(state["id"], container.id());
            ensure!(!host.root().join(container.id()).exists(), "its state directory is left");
            container.delete_force()
        })
        .trial("a container that is being created is left alone", |host| {
            host.only_wharf("only wharf has gc")?;
            let dir = host.new_dir("sign")?;
            let script = format!("touch {0}/here; until [ -e {0}/go ]; do sleep 0.01; done", dir.display());
            let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
            let bundle = host.bundle()?.payload(&["sleep"]).set("/hooks/createRuntime", hook);
            bundle.save()?;
            let creating = host.runtime.spawn(&["create", "--bundle", bundle.dir_text(), bundle.id()])?;
            let begun = std::time::Instant::now();
            while !dir.join("here").exists() {
                ensure!(begun.elapsed() < harness::limit(20), "the hook does not run: {}", creating.stderr_so_far());
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            let told = gc(host, &["--stopped", "--apply"]);
            fs::write(dir.join("go"), "")?;
            let created = creating.finish()?;
            ensure!(created.code() == Some(0), "{created}");
            ensure_eq!(told?, json!([]));
            host.runtime.must(&["delete", "--force", bundle.id()]).map(drop)
        })
        .trial("gc and list beside creates make none of them fail", beside_creates)
        .trial("a process id that another process has now is not ended", |host| {
            host.only_wharf("only wharf has gc")?;
            let container = host.start(&host.bundle()?.payload(&["nothing"]))?;
            container.wait_for_status("stopped")?;
            let mut stranger = std::process::Command::new("/bin/sleep").arg("60").spawn()?;
            edit(host, &container, |record| record["init"]["pid"] = json!(stranger.id()))?;
            let told = gc(host, &["--stopped", "--apply"]).and_then(|told| row(&told, container.id()));
            let alive = stranger.try_wait()?.is_none();
            stranger.kill()?;
            stranger.wait()?;
            ensure!(alive, "a stranger was killed");
            ensure_eq!(told?["removed"], true);
            container.delete_force()
        })
        .trial("what cannot be judged is left alone and named, and the others go", |host| {
            host.only_wharf("only wharf has gc")?;
            let container = host.create(&host.bundle()?.payload(&["sleep"]))?;
            let (path, dir) = (host.root().join(container.id()).join("record.json"), host.unique("crashed"));
            let before = fs::read(&path)?;
            edit(host, &container, |record| record["version"] = json!(4711))?;
            fs::create_dir(host.root().join(&dir))?;
            let said = host.runtime.call(&["gc", "--stopped", "--apply"])?;
            ensure!(said.code() == Some(0) && said.stderr.contains("4711"), "{said}");
            ensure!(said.stderr.contains(container.id()) && said.stdout.contains(&dir), "{said}");
            fs::write(&path, before)?;
            ensure_eq!(container.status()?, "created");
            container.delete_force()
        })
        .trial("another root is another's", |host| {
            host.only_wharf("only wharf has gc")?;
            let root = host.new_dir("root")?;
            let crashed = root.join(host.unique("crashed"));
            fs::create_dir(&crashed)?;
            ensure_eq!(gc(host, &["--stopped", "--apply"])?, json!([]));
            ensure!(crashed.exists(), "it was removed from a root that was not asked for");
            let missing = root.join("missing").display().to_string();
            ensure_eq!(host.runtime.must(&["--root", &missing, "gc", "--format", "json"])?.trim(), "[]");
            ensure!(!Path::new(&missing).exists(), "gc makes a root");
            Ok(())
        })
}

fn gc(host: &Host, words: &[&str]) -> Result<Value, Stop> {
    gc_of(host, &host.root().display().to_string(), words)
}

fn gc_of(host: &Host, root: &str, words: &[&str]) -> Result<Value, Stop> {
    let text = host.runtime.must(&[&["--root", root, "gc", "--format", "json"], words].concat())?;
    Ok(serde_json::from_str(&text)?)
}

fn row(told: &Value, id: &str) -> Result<Value, Stop> {
    let found = told.as_array().into_iter().flatten().find(|row| row["id"] == id);
    found.cloned().ok_or_else(|| Stop::failed(format!("gc does not name {id}: {told}")))
}

/// A record that lies on a disk, as that of a host that has started again: the container is gone, and its process id
/// may be anybody's.
fn earlier_boot(host: &Host) -> Outcome {
    host.only_wharf("only wharf has gc")?;
    // What lies in memory is of this boot.
    let root: Persistent = persistent(host)?;
    let must = |words: &[&str]| host.runtime.must(&[&["--root", &*root.path], words].concat());
    let bundle = host.bundle()?.payload(&["sleep"]);
    bundle.save()?;
    must(&["create", "--bundle", bundle.dir_text(), bundle.id()])?;
    let state: Value = serde_json::from_str(&must(&["state", bundle.id()])?)?;
    let pid = nix::unistd::Pid::from_raw(state["pid"].as_i64().unwrap_or_default() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)?;
    nix::sys::wait::waitpid(pid, None)?;
    let mut stranger = std::process::Command::new("/bin/sleep").arg("60").spawn()?;
    let path = Path::new(&root.path).join(bundle.id()).join("record.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path)?)?;
    record["init"]["boot_id"] = json!("00000000-0000-0000-0000-000000000000");
    record["init"]["pid"] = json!(stranger.id());
    fs::write(&path, serde_json::to_vec(&record)?)?;
    let told = gc_of(host, &root.path, &[]).and_then(|told| row(&told, bundle.id()));
    let swept = gc_of(host, &root.path, &["--apply"]).and_then(|told| row(&told, bundle.id()));
    let alive = stranger.try_wait()?.is_none();
    stranger.kill()?;
    stranger.wait()?;
    ensure!(alive, "a stranger was killed");
    let told = told?;
    ensure_eq!((&told["why"], &told["removed"]), (&json!("of an earlier boot"), &json!(false)));
    let cgroup = |hold: &Value| hold.as_str().is_some_and(|hold| hold.contains("cgroup"));
    ensure!(told["holds"].as_array().is_some_and(|holds| holds.iter().any(cgroup)), "{told}");
    ensure_eq!(swept?["removed"], true);
    ensure_eq!(must(&["list", "--quiet"])?, "");
    Ok(())
}

/// `list` and `gc` lock what they look at for a moment, a directory too that `create` has just made and not locked yet. That
/// moment is short, so here somebody else does it all the time.
fn beside_creates(host: &Host) -> Outcome {
    host.only_wharf("only wharf has gc")?;
    let bundle = host.bundle()?.payload(&["sleep"]);
    bundle.save()?;
    let over = std::sync::atomic::AtomicBool::new(false);
    let go_on = || !over.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        let collecting = scope.spawn(|| -> Outcome {
            while go_on() {
                host.runtime.must(&["gc", "--apply"])?;
            }
            Ok(())
        });
        let looking = scope.spawn(|| {
            while go_on() {
                for dir in fs::read_dir(host.root()).into_iter().flatten().flatten() {
                    if let Ok(dir) = fs::File::open(dir.path()) {
                        drop(Flock::lock(dir, FlockArg::LockSharedNonblock));
                    }
                }
            }
        });
        let made = (0..40).try_for_each(|number| {
            let id = format!("{}-{number}", bundle.id());
            host.runtime.must(&["create", "--bundle", bundle.dir_text(), &id])?;
            host.runtime.must(&["delete", "--force", &id]).map(drop)
        });
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        collecting.join().map_err(|_| Stop::failed("a thread ended early"))??;
        looking.join().map_err(|_| Stop::failed("a thread ended early"))?;
        made
    })
}
