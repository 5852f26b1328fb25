//! A container's own dataset: a clone of what keeps the bundle's root file system, made by create, gone with delete.

use super::pool::Pool;
use harness::{Bundle, Feature, Host, Outcome, Runtime, Stop, ensure, ensure_eq, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

pub(crate) fn trials() -> Feature {
    Feature::new("dataset")
        .trial("a container that asks for it runs on a clone, and the bundle's root stays as it was", own)
        .trial("two containers of one bundle do not see each other's files, and a rule can ask for it", two)
        .trial(
            "delete is not stopped by another mount namespace; a process inside is named, and gc removes what it held",
            busy,
        )
        .trial("what cannot be is refused by name, and nothing is left", refused)
        .trial("without zfs, and for a user without permission, it is said what to do", unable)
        .trial("the time of create and delete with a clone", time)
}

/// A bundle whose root file system is a dataset, and the configuration below which pool clones are.
struct Place {
    pool: Pool,
    dataset: String,
    root: PathBuf,
    configuration: PathBuf,
}

fn place(host: &Host, rule: bool) -> Result<Place, Stop> {
    host.only_wharf("only wharf has datasets")?;
    let pool = Pool::new(host, 128)?;
    let (dataset, at) = pool.dataset("image")?;
    let root = at.join("rootfs");
    let from = host.bundle()?;
    let done = Command::new("cp").arg("-a").arg(from.rootfs()).arg(&root).output()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let configuration = host.dir().join("configuration");
    let routing = match rule {
        true => json!([{"match": {}, "backend": "native", "dataset": "clone"}]),
        false => json!([]),
    };
    let text = json!({"storage": {"zfs_dataset": format!("{}/containers", pool.name)}, "routing": routing});
    fs::write(&configuration, text.to_string())?;
    Ok(Place { pool, dataset, root, configuration })
}

impl Place {
    fn bundle(&self, host: &Host, words: &[&str]) -> Result<Bundle, Stop> {
        let bundle = host.bundle()?.payload(words).set("/root/path", json!(self.root));
        Ok(bundle.set("/root/readonly", json!(false)))
    }

    fn cloning(&self, host: &Host, words: &[&str]) -> Result<Bundle, Stop> {
        Ok(self.bundle(host, words)?.set("/annotations", json!({"dev.wharf.dataset": "clone"})))
    }

    fn create(&self, runtime: &Runtime, bundle: &Bundle) -> Result<harness::Finished, Stop> {
        bundle.save()?;
        let configuration = self.configuration.display().to_string();
        runtime.call(&["--config", &configuration, "create", "--bundle", bundle.dir_text(), bundle.id()])
    }

    fn clones(&self) -> Result<String, Stop> {
        self.pool.zfs(&["list", "-H", "-o", "name", "-d", "1", "-r", &format!("{}/containers", self.pool.name)])
    }

    fn has(&self, id: &str) -> Result<bool, Stop> {
        Ok(self.clones()?.lines().any(|line| line.ends_with(&format!("/{id}"))))
    }
}

fn created(done: harness::Finished) -> Outcome {
    ensure!(done.code() == Some(0), "{done}");
    Ok(())
}

fn own(host: &Host) -> Outcome {
    let place = place(host, false)?;
    let bundle = place.cloning(host, &["sleep"])?;
    let id = bundle.id();
    created(place.create(&host.runtime, &bundle)?)?;
    ensure!(place.has(id)?, "{}", place.clones()?);
    let seen = host.root().join(".clones").join(id).join("root/rootfs");
    fs::write(seen.join("written"), "x")?;
    host.runtime.must(&["start", id])?;
    let state: harness::Value = serde_json::from_str(&host.runtime.must(&["state", id])?)?;
    let pid = state["pid"].as_i64().unwrap_or_default();
    ensure!(Path::new(&format!("/proc/{pid}/root/written")).exists(), "the container does not run on the clone");
    ensure!(!place.root.join("written").exists(), "the bundle's own root was written to");
    // Its snapshot has no other purpose.
    let origin = place.pool.zfs(&["list", "-H", "-t", "snapshot", "-o", "name,defer_destroy", "-r", &place.dataset])?;
    ensure!(origin.ends_with("\ton") && origin.lines().count() == 1, "{origin}");
    host.runtime.must(&["delete", "--force", id])?;
    ensure!(!place.has(id)?, "{}", place.clones()?);
    ensure_eq!(place.pool.zfs(&["list", "-H", "-t", "snapshot", "-o", "name", "-r", &place.pool.name])?, "");
    ensure!(!host.root().join(".clones").exists(), "a directory is left");
    ensure!(place.root.join("bin").exists(), "the bundle's root is gone");
    Ok(())
}

fn two(host: &Host) -> Outcome {
    let place = place(host, true)?;
    let (one, two) = (place.bundle(host, &["sleep"])?, place.bundle(host, &["sleep"])?);
    let without = place.bundle(host, &["sleep"])?.set("/annotations", json!({"dev.wharf.dataset": "none"}));
    for bundle in [&one, &two, &without] {
        created(place.create(&host.runtime, bundle)?)?;
    }
    let root = |bundle: &Bundle| host.root().join(".clones").join(bundle.id()).join("root/rootfs");
    fs::write(root(&one).join("mine"), "1")?;
    ensure!(!root(&two).join("mine").exists(), "it is seen by the other");
    ensure!(!place.has(without.id())?, "the annotation is not heard");
    // The same id again.
    let again = place.create(&host.runtime, &one)?;
    ensure!(again.code() == Some(1) && again.stderr.contains("already exists"), "{again}");
    ensure!(root(&one).join("mine").exists(), "a failed create has touched it");
    for bundle in [&one, &two, &without] {
        host.runtime.must(&["delete", "--force", bundle.id()])?;
    }
    ensure_eq!(place.clones()?.lines().count(), 1);
    Ok(())
}

fn busy(host: &Host) -> Outcome {
    let place = place(host, false)?;
    let bundle = place.cloning(host, &["sleep"])?;
    created(place.create(&host.runtime, &bundle)?)?;
    let elsewhere = super::Elsewhere::new()?;
    host.runtime.must(&["delete", "--force", bundle.id()])?;
    let left = fs::read_to_string(format!("/proc/{}/mountinfo", elsewhere.pid()))?;
    ensure!(!left.contains("/containers/"), "it is mounted there: {left}");
    ensure!(!place.has(bundle.id())?, "the clone is left: {}", place.clones()?);
    // A process with its working directory there is another thing.
    created(place.create(&host.runtime, &bundle)?)?;
    let inside = Command::new("sleep")
        .arg("1000")
        .current_dir(host.root().join(".clones").join(bundle.id()).join("root"))
        .spawn()?;
    let inside = super::Elsewhere(inside);
    let deleted = host.runtime.call(&["--log-level", "warn", "delete", "--force", bundle.id()])?;
    ensure_eq!(deleted.code(), Some(0), "{deleted}");
    let pid = format!("working directory of process {} (sleep)", inside.pid());
    ensure!(deleted.stderr.contains(&pid) && deleted.stderr.contains("is left for gc"), "{deleted}");
    ensure!(!place.has(bundle.id())?, "the name is not free: {}", place.clones()?);
    created(place.create(&host.runtime, &bundle)?)?;
    host.runtime.must(&["delete", "--force", bundle.id()])?;
    ensure!(place.clones()?.contains("/.gone-"), "{}", place.clones()?);
    drop(inside);
    let configuration = place.configuration.display().to_string();
    let gc = host.runtime.must(&["--config", &configuration, "gc", "--apply"])?;
    ensure!(gc.contains("/.gone-"), "{gc}");
    ensure_eq!(place.clones()?.lines().count(), 1, "{}", place.clones()?);
    drop(elsewhere);
    Ok(())
}

fn refused(host: &Host) -> Outcome {
    let place = place(host, false)?;
    let set = |dataset: &str| fs::write(&place.configuration, json!({"storage": {"zfs_dataset": dataset}}).to_string());
    let expect = |bundle: &Bundle, words: &str| -> Outcome {
        let done = place.create(&host.runtime, bundle)?;
        ensure!(done.code() == Some(1) && done.stderr.contains(words), "expected {words:?}: {done}");
        ensure!(!host.root().join(bundle.id()).exists(), "a state directory is left");
        Ok(())
    };
    set("e2e-none/containers")?;
    expect(&place.cloning(host, &["sleep"])?, "find dataset e2e-none: there is no such pool")?;
    fs::write(&place.configuration, "{}")?;
    expect(&place.cloning(host, &["sleep"])?, "storage.zfs_dataset is not in the configuration")?;
    set(&format!("{}/containers", place.pool.name))?;
    let plain = host.bundle()?.payload(&["sleep"]).set("/annotations", json!({"dev.wharf.dataset": "clone"}));
    expect(&plain, "it is on tmpfs, not on a dataset of ZFS [annotations/dev.wharf.dataset]")?;
    let odd = host.bundle()?.payload(&["sleep"]).set("/annotations", json!({"dev.wharf.dataset": "copy"}));
    expect(&odd, "is neither clone nor none")?;
    let broken = place.cloning(host, &["sleep"])?.set("/process/cwd", json!("relative"));
    expect(&broken, "cwd")?;
    ensure_eq!(place.pool.zfs(&["list", "-H", "-t", "snapshot", "-o", "name", "-r", &place.pool.name])?, "");
    Ok(())
}

fn unable(host: &Host) -> Outcome {
    let place = place(host, false)?;
    let bundle = place.cloning(host, &["sleep"])?;
    // Where packages put it, for this call alone.
    let (script, empty) = (host.dir().join("wharf"), host.new_dir("empty")?);
    let text = format!(
        "#!/bin/sh\nexec unshare -m sh -c 'mount --bind {} /usr/sbin && exec {} \"$@\"' sh \"$@\"\n",
        empty.display(),
        host.runtime.program().display()
    );
    fs::write(&script, text)?;
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    bundle.save()?;
    let words = ["create", "--bundle", bundle.dir_text(), bundle.id()];
    let mut call = Command::new(script);
    let done = call.arg("--root").arg(host.root()).arg("--config").arg(&place.configuration).args(words).output()?;
    let told = String::from_utf8_lossy(&done.stderr);
    ensure!(told.contains("the program zfs is not installed") && told.contains("zfsutils-linux"), "{told}");
    let user = host.for_user(4000, "")?;
    fs::set_permissions(bundle.dir(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let done = place.create(&user.runtime, &bundle)?;
    let expected = format!("zfs allow -u 4000 snapshot,userprop,destroy,mount,hold,release {}", place.dataset);
    ensure!(done.code() == Some(1) && done.stderr.contains(&expected), "expected {expected:?}: {done}");
    let configuration = place.configuration.display().to_string();
    let doctor = host.runtime.call(&["--config", &configuration, "doctor"])?;
    let line = doctor.stdout.lines().find(|line| line.contains("storage.zfs_dataset"));
    ensure!(line.is_some_and(|line| line.contains(&place.pool.name)), "{doctor}");
    ensure!(doctor.stdout.contains("ZFS in the kernel: "), "{doctor}");
    Ok(())
}

fn time(host: &Host) -> Outcome {
    let place = place(host, false)?;
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..10 {
        let bundle = if round % 2 == 0 { place.cloning(host, &["sleep"])? } else { place.bundle(host, &["sleep"])? };
        let begun = Instant::now();
        created(place.create(&host.runtime, &bundle)?)?;
        let create = begun.elapsed();
        let begun = Instant::now();
        host.runtime.must(&["delete", "--force", bundle.id()])?;
        if round % 2 == 0 {
            times[0].push(create);
            times[1].push(begun.elapsed());
        } else {
            times[2].push(create);
        }
    }
    times.iter_mut().for_each(|times| times.sort());
    let [create, delete, without] = times.map(|times| times[times.len() / 2]);
    eprintln!("dataset: create {create:?}, without a clone {without:?}, delete {delete:?}");
    Ok(())
}
