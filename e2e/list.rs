//! list: the containers of one --root.

use harness::{Feature, Value, ensure, ensure_eq};

pub(crate) fn trials() -> Feature {
    Feature::new("list")
        .trial("an empty root lists nothing", |host| {
            let parsed: Value = serde_json::from_str(&host.runtime.must(&["list", "--format", "json"])?)?;
            ensure!(parsed.is_null() || parsed.as_array().is_some_and(Vec::is_empty), "{parsed}");
            Ok(())
        })
        .trial("every container is listed with id, pid, status, bundle, owner and time", |host| {
            let (first, second) = (host.bundle()?.payload(&["sleep"]), host.bundle()?.payload(&["sleep"]));
            let created = host.create(&first)?;
            let running = host.start(&second)?;
            let parsed: Value = serde_json::from_str(&host.runtime.must(&["list", "--format", "json"])?)?;
            let of = |id: &str| {
                parsed.as_array().into_iter().flatten().find(|entry| entry["id"] == id).cloned().unwrap_or_default()
            };
            ensure_eq!(parsed.as_array().map(Vec::len), Some(2));
            let (one, two) = (of(first.id()), of(second.id()));
            ensure_eq!((&one["status"], &two["status"]), (&Value::from("created"), &Value::from("running")));
            ensure_eq!((&one["pid"], &two["pid"]), (&Value::from(created.pid()?), &Value::from(running.pid()?)));
            ensure_eq!((&one["bundle"], &one["owner"]), (&Value::from(first.dir_text()), &Value::from("root")));
            ensure!(one["created"].as_str().is_some_and(|time| time.starts_with("20") && time.ends_with('Z')), "{one}");
            created.delete_force()?;
            running.delete_force()
        })
        .trial("the table has a line for each and a head", |host| {
            let bundle = host.bundle()?.payload(&["sleep"]);
            let container = host.create(&bundle)?;
            let table = host.runtime.must(&["list"])?;
            let lines: Vec<&str> = table.lines().collect();
            ensure_eq!(lines.len(), 2);
            ensure!(lines[0].contains("ID") && lines[0].contains("STATUS"), "{table}");
            ensure!(lines[1].contains(bundle.id()) && lines[1].contains("created"), "{table}");
            ensure_eq!(host.runtime.must(&["list", "--quiet"])?.trim(), bundle.id());
            container.delete_force()
        })
        .trial("containers of another root are not listed", |host| {
            let container = host.create(&host.bundle()?.payload(&["sleep"]))?;
            let other = host.new_dir("other")?;
            let mut command = std::process::Command::new(host.runtime.program());
            command.arg("--root").arg(&other).args(["list", "--quiet"]);
            let said = host.runtime.spawn_command(command)?.finish()?;
            ensure_eq!((said.code(), said.stdout.trim()), (Some(0), ""));
            container.delete_force()
        })
}
