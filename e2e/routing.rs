//! Rules choose the backend at `create`; from then on the record decides, whatever becomes of the rules.

use harness::{Bundle, Feature, Finished, Host, Outcome, Stop, Value, ensure, ensure_eq, json};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

/// Keeps its containers as other runtimes do, in ROOT/ID, and runs nothing.
const OTHER: &str = r#"#!/bin/sh
while [ "$1" != --root ]; do shift; done
root=$2; shift 6; verb=$1
case $verb in kill) id=$2 ;; *) for id; do :; done ;; esac
case $verb in
create) mkdir "$root/$id" && echo created > "$root/$id/status" ;;
state) echo "{\"status\":\"$(cat "$root/$id/status")\",\"pid\":0}" ;;
start) echo running > "$root/$id/status" ;;
kill) echo stopped > "$root/$id/status" ;;
delete) rm -r "$root/$id" ;;
esac
"#;

pub(crate) fn trials() -> Feature {
    Feature::new("routing")
        .trial("the first rule that matches chooses, by every property that a rule can name", every_property)
        .trial("an annotation that no rule names chooses nothing, and one that is not trusted makes no rule", |host| {
            only_wharf(host)?;
            let hostile =
                json!({"org.example.wanted": "other", "org.example.backend": "other", "wharf.backend": "other"});
            let bundle = host.bundle()?.set("/annotations", hostile).payload(&["sleep"]);
            bundle.save()?;
            let rules = json!([{"match": {"id": "no-such"}, "backend": "other"}]);
            ensure_eq!(backend_of(host, &bundle, &configuration(host, &rules, &[])?)?, "native");
            let rules = json!([{"match": {"annotations": {"org.example.wanted": "other"}}, "backend": "other"}]);
            let refused = create(host, &bundle, &configuration(host, &rules, &[])?)?;
            let expected = "the annotation \"org.example.wanted\" is not among trusted_annotations";
            ensure!(refused.code() == Some(1) && refused.last_line().contains(expected), "{refused}");
            ensure_eq!(backend_of(host, &bundle, &configuration(host, &rules, &["org.example.wanted"])?)?, "other");
            Ok(())
        })
        .trial("a backend that is absent makes no container unless its rule names a fallback", |host| {
            only_wharf(host)?;
            let bundle = host.bundle()?.payload(&["sleep"]);
            bundle.save()?;
            let rules = json!([{"name": "strict", "match": {}, "backend": "/nowhere/runtime"}]);
            let refused = create(host, &bundle, &configuration(host, &rules, &[])?)?;
            ensure!(refused.code() == Some(1), "{refused}");
            ensure!(refused.last_line().contains("required by rule 1 \"strict\""), "{refused}");
            ensure_eq!(fs::read_dir(host.root())?.count(), 0, "entries below --root");
            let rules = json!([{"match": {}, "backend": "/nowhere/runtime", "fallback": "native"}]);
            let path = configuration(host, &rules, &[])?;
            ensure_eq!(create(host, &bundle, &path)?.code(), Some(0));
            let record: Value = serde_json::from_slice(&fs::read(host.root().join(bundle.id()).join("record.json"))?)?;
            ensure_eq!(record["backend"], "native");
            ensure_eq!(record["rule"]["fallback_for"], "/nowhere/runtime");
            ensure_eq!(record["rule"]["number"], 1);
            ensure!(record["route"].as_str().is_some_and(|why| why.contains("native instead of")), "{record}");
            host.runtime.must(&["delete", "--force", bundle.id()])?;
            Ok(())
        })
        .trial("a backend that this build does not have is an error of the configuration", |host| {
            only_wharf(host)?;
            let bundle = host.bundle()?;
            bundle.save()?;
            let rules = json!([{"match": {"id": "x"}, "backend": "qm", "fallback": "native"}]);
            let refused = create(host, &bundle, &configuration(host, &rules, &[])?)?;
            ensure!(
                refused.last_line().contains("the backend \"qm\" (machines of Proxmox VE) is not in this build"),
                "{refused}"
            );
            Ok(())
        })
        .trial("containers stay where they are when rules change, break or vanish, and a delegate is upgraded", pinned)
        .trial("route explain tells what is pinned and what would happen to a new container", |host| {
            only_wharf(host)?;
            let bundle = host.bundle()?.payload(&["sleep"]);
            bundle.save()?;
            let path = configuration(host, &json!([{"name": "all", "match": {"id": "*"}, "backend": "other"}]), &[])?;
            ensure_eq!(create(host, &bundle, &path)?.code(), Some(0));
            let changed = configuration(host, &json!([{"match": {"id": "never"}, "backend": "other"}]), &[])?;
            let text = with(host, &changed, &["route", "explain", bundle.id()])?;
            ensure!(text.stdout.starts_with("pinned     other ("), "{text}");
            ensure!(text.stdout.contains("matches \"*\""), "{text}");
            let no = format!("  1 -> other: no: id {:?} does not match \"never\"\nif new     native\n", bundle.id());
            ensure!(text.stdout.contains(&no), "{text}");
            let gone = with(host, &changed, &["route", "explain", "no-such-container"])?;
            ensure!(gone.code() == Some(1) && gone.last_line().ends_with("does not exist"), "{gone}");
            host.runtime.must(&["delete", "--force", bundle.id()])?;
            Ok(())
        })
        .trial("list shows the containers of all backends, and on which they are", |host| {
            only_wharf(host)?;
            let (own, others) = (host.bundle()?.payload(&["sleep"]), host.bundle()?.payload(&["sleep"]));
            others.save()?;
            let container = host.create(&own)?;
            let path = configuration(host, &json!([{"match": {"id": others.id()}, "backend": "other"}]), &[])?;
            ensure_eq!(create(host, &others, &path)?.code(), Some(0));
            let listed: Value = serde_json::from_str(&host.runtime.must(&["list", "--format", "json"])?)?;
            for (id, backend) in [(own.id(), "native"), (others.id(), "other")] {
                let entry = listed.as_array().into_iter().flatten().find(|entry| entry["id"] == id);
                ensure_eq!(entry.map(|entry| &entry["backend"]), Some(&Value::from(backend)), "{listed}");
                ensure_eq!(entry.map(|entry| &entry["status"]), Some(&Value::from("created")), "{listed}");
            }
            let table = host.runtime.must(&["list"])?;
            ensure!(table.lines().next().is_some_and(|head| head.ends_with("BACKEND")), "{table}");
            ensure!(table.lines().any(|line| line.starts_with(others.id()) && line.ends_with("other")), "{table}");
            host.runtime.must(&["delete", "--force", others.id()])?;
            container.delete_force()
        })
}

fn only_wharf(host: &Host) -> Outcome {
    host.only_wharf("only wharf has rules")
}

/// The script as a program of this trial.
fn other(host: &Host) -> Result<PathBuf, Stop> {
    let path = host.dir().join("other");
    if !path.exists() {
        // Renamed into place: a fork elsewhere may hold the first file open for writing, and its exec would fail.
        let new = host.dir().join("other.new");
        fs::write(&new, OTHER)?;
        fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        fs::rename(&new, &path)?;
    }
    Ok(path)
}

/// With the runtime `other`.
fn configuration(host: &Host, rules: &Value, trusted: &[&str]) -> Result<PathBuf, Stop> {
    let path = host.dir().join(host.unique("config.json"));
    let runtime = json!({"path": other(host)?.to_string_lossy(), "args": ["--verbose"]});
    let text = json!({"runtimes": {"other": runtime}, "trusted_annotations": trusted, "routing": rules});
    fs::write(&path, text.to_string())?;
    Ok(path)
}

fn with(host: &Host, configuration: &Path, words: &[&str]) -> Result<Finished, Stop> {
    let mut command = host.runtime.command();
    command.env("WHARF_CONFIG", configuration).args(words);
    host.runtime.spawn_command(command)?.finish()
}

fn create(host: &Host, bundle: &Bundle, configuration: &Path) -> Result<Finished, Stop> {
    with(host, configuration, &["create", "--bundle", bundle.dir_text(), bundle.id()])
}

/// Creates and deletes it.
fn backend_of(host: &Host, bundle: &Bundle, configuration: &Path) -> Result<String, Stop> {
    let finished = create(host, bundle, configuration)?;
    ensure_eq!(finished.code(), Some(0), "{finished}");
    let state: Value = serde_json::from_str(&host.runtime.must(&["state", bundle.id()])?)?;
    host.runtime.must(&["delete", "--force", bundle.id()])?;
    Ok(state["backend"].as_str().unwrap_or_default().to_owned())
}

fn every_property(host: &Host) -> Outcome {
    only_wharf(host)?;
    let bundle = host
        .bundle()?
        .set("/hostname", json!("frigate"))
        .set("/annotations", json!({"org.example.kind": "fast/ship"}))
        .payload(&["sleep"]);
    bundle.save()?;
    let cgroup = bundle.config["linux"]["cgroupsPath"].as_str().unwrap_or_default().to_owned();
    let parent = match cgroup.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((parent, _)) => parent,
        None => "",
    };
    let trusted = ["org.example.kind"];
    for (matches, differs) in [
        (json!({"id": bundle.id()}), json!({"id": "other-*"})),
        (json!({"hostname": ["brig", "fri*"]}), json!({"hostname": "brig"})),
        (
            json!({"annotations": {"org.example.kind": "re:(fast|slow)/[a-z]+"}}),
            json!({"annotations": {"org.example.kind": "fast"}}),
        ),
        (json!({"bundle": bundle.dir_text()}), json!({"bundle": "/nowhere/*"})),
        (json!({"uid": 0}), json!({"uid": ["1-4294967295"]})),
        (json!({"argv0": host.runtime.name()}), json!({"argv0": "wharf-other"})),
        (json!({"id": "*", "hostname": "frigate"}), json!({"id": "*", "hostname": "brig"})),
        (json!({}), json!({"cgroup_parent": "/no/such/parent"})),
    ] {
        for (conditions, expected) in [(matches, "other"), (differs, "native")] {
            let rules = json!([{"match": conditions, "backend": "other"}, {"match": {}, "backend": "native"}]);
            let seen = backend_of(host, &bundle, &configuration(host, &rules, &trusted)?)?;
            ensure_eq!(seen, expected, "{conditions}");
        }
    }
    if !parent.is_empty() {
        let rules = json!([{"match": {"cgroup_parent": parent}, "backend": "other"}]);
        ensure_eq!(backend_of(host, &bundle, &configuration(host, &rules, &[])?)?, "other", "cgroup parent {parent}");
    }
    // A link's name: the program is the same.
    let rules = json!([{"match": {"argv0": "wharf-other"}, "backend": "other"}]);
    let path = configuration(host, &rules, &[])?;
    let mut command = host.runtime.command();
    command.arg0("/usr/local/bin/wharf-other").env("WHARF_CONFIG", &path);
    command.args(["create", "--bundle", bundle.dir_text(), bundle.id()]);
    let finished = host.runtime.spawn_command(command)?.finish()?;
    ensure_eq!(finished.code(), Some(0), "{finished}");
    ensure!(host.runtime.must(&["state", bundle.id()])?.contains("\"other\""), "called as wharf-other");
    host.runtime.must(&["delete", "--force", bundle.id()])?;
    Ok(())
}

fn pinned(host: &Host) -> Outcome {
    only_wharf(host)?;
    let path = configuration(host, &json!([{"match": {"id": "*o-*"}, "backend": "other"}]), &[])?;
    let bundles = [
        host.bundle()?.with_id(&host.unique("o-")).payload(&["sleep"]),
        host.bundle()?.with_id(&host.unique("n-")).payload(&["sleep"]),
    ];
    for bundle in &bundles {
        bundle.save()?;
        let finished = create(host, bundle, &path)?;
        ensure_eq!(finished.code(), Some(0), "{finished}");
    }
    let backends = ["other", "native"];
    let check = |moment: &str, status: &str| -> Outcome {
        for (bundle, backend) in bundles.iter().zip(backends) {
            let state = with(host, &path, &["state", bundle.id()])?;
            ensure_eq!(state.code(), Some(0), "{moment}: {state}");
            let state: Value = serde_json::from_str(&state.stdout)?;
            ensure_eq!((&state["backend"], &state["status"]), (&json!(backend), &json!(status)), "{moment}");
        }
        Ok(())
    };
    let turned = json!([{"match": {"id": "*n-*"}, "backend": "other"}, {"match": {}, "backend": "native"}]);
    fs::rename(configuration(host, &turned, &[])?, &path)?;
    check("the rules are the other way round", "created")?;
    for bundle in &bundles {
        let started = with(host, &path, &["start", bundle.id()])?;
        ensure_eq!(started.code(), Some(0), "{started}");
    }
    fs::write(&path, "no configuration")?;
    check("the file is broken", "running")?;
    // Another program by the same name, as an upgrade leaves it.
    let new = host.dir().join("other.upgraded");
    fs::copy(other(host)?, &new)?;
    fs::rename(&new, other(host)?)?;
    fs::remove_file(&path)?;
    check("the file is gone and the delegate is a new one", "running")?;
    for bundle in &bundles {
        ensure_eq!(with(host, &path, &["kill", bundle.id(), "KILL"])?.code(), Some(0));
    }
    let begun = std::time::Instant::now();
    while check("killed", "stopped").is_err() {
        ensure!(begun.elapsed().as_secs() < 20, "they do not stop");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    // Without its program, the record says who is missing.
    let away = host.dir().join("other.away");
    fs::rename(other(host)?, &away)?;
    let refused = host.runtime.call(&["state", bundles[0].id()])?;
    ensure!(refused.code() == Some(1) && refused.last_line().contains("No such file or directory"), "{refused}");
    fs::rename(&away, host.dir().join("other"))?;
    for bundle in &bundles {
        ensure_eq!(with(host, &path, &["delete", bundle.id()])?.code(), Some(0));
    }
    ensure_eq!(fs::read_dir(host.root())?.count(), 0, "entries left below --root");
    Ok(())
}
