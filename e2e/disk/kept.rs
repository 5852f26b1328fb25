//! `checkpoints`: those that are kept by name are listed, shown, removed and thinned out; `gc` knows what is left of them.
//!
//! The checkpoints are of a disk alone, made here by the rooms that wharf makes them with.

use super::pool::Pool;
use super::{find, well};
use harness::{Feature, Finished, Host, Outcome, Stop, Value, ensure, ensure_eq, json};
use std::fs;
use std::path::{Path, PathBuf};
use wharf_core::{CONFIG, ContainerId, DatasetEntry, Digest, Disk, MANIFEST, MANIFEST_VERSION, Manifest, SpecDigest};
use wharf_disk::{Marks, Snapshot, SnapshotName};

pub(crate) fn trials() -> Feature {
    Feature::new("checkpoints")
        .trial("list and show tell what a checkpoint holds, and what of it is gone or damaged", listed)
        .trial("remove takes the snapshots along, and none that something depends on", removed)
        .trial("prune removes by number and by age, what the configuration says, and only with --apply", pruned)
        .trial("an archive is imported as what was exported, whole or continued; a damaged one leaves nothing", moved)
        .trial("gc tells of half-made images and of snapshots whose checkpoint is gone, and removes them", swept)
}

struct Home {
    path: PathBuf,
    configuration: PathBuf,
}

impl Home {
    fn new(host: &Host, storage: Value) -> Result<Home, Stop> {
        host.only_wharf("only wharf has checkpoints")?;
        let (path, configuration) = (host.dir().join("home"), host.dir().join("configuration"));
        let mut storage = storage;
        storage["checkpoints"] = json!(path);
        fs::write(&configuration, json!({ "storage": storage }).to_string())?;
        Ok(Home { path, configuration })
    }

    fn call(&self, host: &Host, words: &[&str]) -> Result<Finished, Stop> {
        let configuration = self.configuration.display().to_string();
        host.runtime.call(&[&["--config", &configuration], words].concat())
    }

    fn json(&self, host: &Host, words: &[&str]) -> Result<Value, Stop> {
        let done = self.call(host, words)?;
        ensure!(done.code() == Some(0), "{done}");
        Ok(serde_json::from_str(&done.stdout)?)
    }

    /// A checkpoint of a disk alone; of nothing where there is no dataset.
    fn make(&self, id: &str, name: &str, created: &str, dataset: Option<&str>) -> Result<Option<Snapshot>, Stop> {
        let path = self.path.join(id).join(name);
        fs::create_dir_all(&path)?;
        let snapshot = dataset.map(|dataset| snapshot(&path, id, name, dataset)).transpose()?;
        let mut digest = Digest::new();
        digest.update(b"{}");
        let entry = |snapshot: &Snapshot| DatasetEntry {
            name: snapshot.dataset.name.clone(),
            guid: snapshot.dataset.guid,
            snapshot: snapshot.name.clone(),
            snapshot_guid: snapshot.guid,
            paths: vec!["root".into()],
            within: Vec::new(),
        };
        let manifest = Manifest {
            version: MANIFEST_VERSION,
            id: id.into(),
            name: Some(name.into()),
            created: created.into(),
            wharf: "0".into(),
            memory: None,
            disk: Some(Disk { kind: "zfs".into(), datasets: snapshot.iter().map(entry).collect() }),
            host: wharf_core::Host { kernel: String::new(), architecture: String::new(), cpu: Vec::new() },
            spec: SpecDigest { sha256: digest.hex() },
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            mounts: Vec::new(),
            descriptors: Vec::new(),
            console: false,
            cgroup: String::new(),
            parent: None,
            seal: String::new(),
        };
        fs::write(path.join(CONFIG), "{}")?;
        let bytes = manifest.to_bytes().map_err(|error| Stop::failed(error.to_string()))?;
        fs::write(path.join(MANIFEST), bytes)?;
        Ok(snapshot)
    }
}

fn snapshot(path: &Path, id: &str, name: &str, dataset: &str) -> Result<Snapshot, Stop> {
    let id = ContainerId::new(id).map_err(|error| Stop::failed(error.to_string()))?;
    // Older than what gc takes for one that is being made.
    let marks = Marks { created: "2026-01-01T00:00:00Z".into(), ..Marks::now(id.as_str(), name).kept_in(path) };
    let taken = well(wharf_disk::take(&[find(dataset)?], &well(SnapshotName::new(&id, name))?, &marks))?;
    well(taken.identify())?.pop().ok_or_else(|| Stop::failed("no snapshot"))
}

const OLD: &str = "2026-01-01T00:00:00Z";

fn listed(host: &Host) -> Outcome {
    let home = Home::new(host, json!({}))?;
    ensure_eq!(home.json(host, &["checkpoints", "list", "--format", "json"])?, json!([]));
    home.make("web", "second", "2026-01-02T00:00:00Z", None)?;
    home.make("web", "first", OLD, None)?;
    home.make("db", "only", OLD, None)?;
    fs::create_dir_all(home.path.join("web/half"))?;
    let edited = home.path.join("db/only").join(MANIFEST);
    fs::write(&edited, fs::read_to_string(&edited)?.replace("/b/rootfs", "/c/rootfs"))?;
    let all = home.json(host, &["checkpoints", "list", "--format", "json"])?;
    let names: Vec<&str> = all.as_array().into_iter().flatten().filter_map(|row| row["name"].as_str()).collect();
    ensure_eq!(names, ["only", "half", "first", "second"]);
    ensure!(all[0]["broken"].as_str().is_some_and(|why| why.contains("changed after it had been written")), "{all}");
    ensure_eq!((&all[1]["broken"], &all[1]["holds"]), (&json!("half-made"), &json!("nothing")));
    ensure_eq!((&all[2]["holds"], &all[2]["broken"]), (&json!("disk only"), &Value::Null));
    let table = home.call(host, &["checkpoints", "list", "web"])?.stdout;
    ensure!(table.starts_with("CONTAINER ") && !table.contains("db ") && table.contains("disk only"), "{table}");
    for (words, expected) in [
        (&["checkpoints", "show", "web", "none"][..], "checkpoint none of container web: there is none in "),
        (&["checkpoints", "show", "web"], "show needs a container id and the name of a checkpoint"),
        (&["checkpoints", "shwo"], "unknown action \"shwo\""),
        (&["checkpoints", "list", "--apply"], "--apply is for prune alone"),
    ] {
        let done = home.call(host, words)?;
        ensure!(done.code() == Some(2) && done.stderr.contains(expected), "{done}");
    }
    Ok(())
}

fn removed(host: &Host) -> Outcome {
    let home = Home::new(host, json!({}))?;
    let pool = Pool::new(host, 128)?;
    let (dataset, _) = pool.dataset("a")?;
    let Some(first) = home.make("web", "first", OLD, Some(&dataset))? else { return Err(Stop::failed("no snapshot")) };
    let clone = format!("{}/b", pool.name);
    let cloned = well(wharf_disk::clone_to(&first, &clone, &Marks::now("copy", "first")))?;
    let shown = home.json(host, &["checkpoints", "show", "web", "first"])?;
    ensure_eq!(shown["snapshots"][0]["name"], first.full());
    ensure_eq!(shown["snapshots"][0]["clones"], json!([clone]));
    let refused = home.call(host, &["checkpoints", "remove", "web", "first"])?;
    let expected = format!("what was restored of it depends on it: {clone} (container copy)");
    ensure!(refused.code() == Some(1) && refused.stderr.contains(&expected), "{refused}");
    ensure_eq!(home.json(host, &["checkpoints", "show", "web", "first"])?["snapshots"][0]["exists"], true);
    well(wharf_disk::destroy(&cloned))?;
    let done = home.call(host, &["checkpoints", "remove", "web", "first"])?;
    ensure_eq!(done.code(), Some(0), "{done}");
    ensure_eq!(pool.zfs(&["list", "-H", "-t", "snapshot", "-o", "name", "-r", &pool.name])?, "");
    ensure!(!home.path.join("web").exists(), "its directory is left");
    // One whose snapshot went by other hands is told, and can be removed.
    let Some(second) = home.make("web", "second", OLD, Some(&dataset))? else {
        return Err(Stop::failed("no snapshot"));
    };
    pool.zfs(&["destroy", &second.full()])?;
    let shown = home.json(host, &["checkpoints", "show", "web", "second"])?;
    ensure_eq!(shown["broken"], format!("its snapshot {} is gone", second.full()));
    ensure_eq!(home.call(host, &["checkpoints", "remove", "web", "second"])?.code(), Some(0));
    Ok(())
}

fn pruned(host: &Host) -> Outcome {
    let home = Home::new(host, json!({"keep": 2, "keep_for": "1h"}))?;
    let now = wharf_core::time::now();
    for (id, name, created) in [
        ("web", "a", OLD),
        ("web", "b", &now),
        ("web", "c", &now),
        ("web", "d", &now),
        ("db", "a", OLD),
        ("db", "b", &now),
    ] {
        home.make(id, name, created, None)?;
    }
    let names = |all: &Value| -> Vec<String> {
        let rows = all.as_array().into_iter().flatten();
        rows.map(|row| format!("{}/{}", row["container"].as_str().unwrap_or(""), row["name"].as_str().unwrap_or("")))
            .collect()
    };
    let told = home.json(host, &["checkpoints", "prune", "--format", "json"])?;
    ensure_eq!(names(&told), ["db/a", "web/a", "web/b"]);
    ensure_eq!(names(&home.json(host, &["checkpoints", "list", "--format", "json"])?).len(), 6);
    home.json(host, &["checkpoints", "prune", "web", "--apply", "--format", "json"])?;
    ensure_eq!(
        names(&home.json(host, &["checkpoints", "list", "--format", "json"])?),
        ["db/a", "db/b", "web/c", "web/d"]
    );
    let without = Home::new(host, json!({}))?.call(host, &["checkpoints", "prune"])?;
    ensure!(without.code() == Some(1) && without.stderr.contains("neither storage.keep nor"), "{without}");
    Ok(())
}

fn swept(host: &Host) -> Outcome {
    let home = Home::new(host, json!({}))?;
    let pool = Pool::new(host, 128)?;
    let (dataset, _) = pool.dataset("a")?;
    for name in ["whole", "gone"] {
        home.make("web", name, OLD, Some(&dataset))?;
    }
    fs::remove_dir_all(home.path.join("web/gone"))?;
    for name in ["half", "young"] {
        fs::create_dir_all(home.path.join("web").join(name))?;
        fs::write(home.path.join("web").join(name).join("pages-1.img"), "x")?;
    }
    for path in ["half/pages-1.img", "half"] {
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
        fs::File::open(home.path.join("web").join(path))?.set_modified(old)?;
    }
    let holds = |all: &Value| -> Vec<String> {
        let rows = all.as_array().into_iter().flatten();
        rows.filter_map(|row| row["holds"][0].as_str().map(str::to_owned)).collect()
    };
    let expected =
        [format!("images {}", home.path.join("web/half").display()), format!("snapshot {dataset}@wharf-web-gone")];
    let told = home.json(host, &["gc", "--format", "json"])?;
    ensure_eq!(holds(&told), expected, "{told}");
    ensure!(home.path.join("web/half").exists(), "it was removed without --apply");
    let told = home.json(host, &["gc", "--apply", "--format", "json"])?;
    ensure_eq!((&told[0]["removed"], &told[1]["removed"]), (&json!(true), &json!(true)));
    ensure_eq!(home.json(host, &["gc", "--format", "json"])?, json!([]));
    ensure!(home.path.join("web/young").exists() && !home.path.join("web/half").exists(), "the wrong one");
    let left = pool.zfs(&["list", "-H", "-t", "snapshot", "-o", "name", "-r", &pool.name])?;
    ensure_eq!(left, format!("{dataset}@wharf-web-whole"));
    Ok(())
}

fn moved(host: &Host) -> Outcome {
    let pool = Pool::new(host, 128)?;
    let home = Home::new(host, json!({"zfs_dataset": format!("{}/there", pool.name)}))?;
    let (dataset, at) = pool.dataset("a")?;
    fs::write(at.join("file"), "one")?;
    let first = home.make("web", "first", OLD, Some(&dataset))?;
    fs::write(at.join("file"), "two")?;
    let second = home.make("web", "second", OLD, Some(&dataset))?;
    let (Some(first), Some(second)) = (first, second) else { return Err(Stop::failed("no snapshot")) };
    let (whole, part) = (host.dir().join("whole"), host.dir().join("part"));
    let text = |path: &Path| path.display().to_string();
    let good = |words: &[&str]| -> Outcome {
        let done = home.call(host, words)?;
        ensure!(done.code() == Some(0), "{done}");
        Ok(())
    };
    good(&["checkpoints", "export", "web", "first", "--output", &text(&whole)])?;
    good(&["checkpoints", "export", "web", "second", "--from", "first", "--output", &text(&part)])?;
    let again = home.call(host, &["checkpoints", "export", "web", "first", "--output", &text(&whole)])?;
    ensure!(again.code() == Some(1) && again.stderr.contains("File exists"), "an archive is written over: {again}");
    let members = std::process::Command::new("tar").arg("tf").arg(&whole).output()?;
    let members = String::from_utf8_lossy(&members.stdout).into_owned();
    ensure_eq!(members, "archive.json\nmanifest.json\nconfig.json\ndisk/0/000001\n");
    let refused = home.call(host, &["checkpoints", "import", "--input", &text(&whole)])?;
    ensure!(refused.code() == Some(1) && refused.stderr.contains("web/first exists"), "{refused}");
    // To another host: nothing of it is here any more.
    good(&["checkpoints", "remove", "web", "first"])?;
    good(&["checkpoints", "remove", "web", "second"])?;
    let orphan = home.call(host, &["checkpoints", "import", "--input", &text(&part)])?;
    ensure!(orphan.stderr.contains("it continues checkpoint first of web, which is not here"), "{orphan}");
    let bytes = fs::read(&whole)?;
    for (name, damaged) in [
        ("short", bytes[..bytes.len() - 2000].to_vec()),
        ("changed", {
            let mut bytes = bytes.clone();
            let middle = bytes.len() - 3000;
            bytes[middle] ^= 0xff;
            bytes
        }),
    ] {
        let file = host.dir().join(name);
        fs::write(&file, damaged)?;
        let done = home.call(host, &["checkpoints", "import", "--input", &text(&file)])?;
        ensure!(done.code() == Some(1), "{name}: {done}");
        ensure!(!home.path.join("web").exists(), "{name}: a directory is left");
        let left = pool.zfs(&["list", "-H", "-o", "name", "-r", &pool.name])?;
        ensure!(!left.contains(".checkpoint-"), "{name}: {left}");
    }
    good(&["checkpoints", "import", "--input", &text(&whole)])?;
    good(&["checkpoints", "import", "--input", &text(&part)])?;
    let shown = home.json(host, &["checkpoints", "show", "web", "second"])?;
    let snapshot = &shown["snapshots"][0];
    ensure_eq!((&snapshot["exists"], &snapshot["guid"]), (&json!(true), &json!(second.guid)));
    let target = format!("{}/there/.checkpoint-{:016x}", pool.name, first.guid);
    ensure!(snapshot["name"].as_str().is_some_and(|name| name.starts_with(&target)), "{shown}");
    let place = host.new_dir("place")?;
    wharf_sys::mount::attach(well(find(&target)?.mount())?, fs::File::open(&place)?)?;
    let content = fs::read_to_string(place.join("file"));
    super::umount(&place);
    ensure_eq!(content?, "two");
    good(&["checkpoints", "remove", "web", "second"])?;
    good(&["checkpoints", "remove", "web", "first"])?;
    let left = pool.zfs(&["list", "-H", "-o", "name", "-r", &pool.name])?;
    ensure!(!left.contains(".checkpoint-"), "{left}");
    Ok(())
}
