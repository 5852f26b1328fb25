//! list: the containers of one --root.

use crate::exit_record;
use harness::{Feature, Stop, Value, ensure, ensure_eq, json};

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
        .trial("A2.6: as JSON it tells what says whether somebody still uses a container", |host| {
            host.only_wharf("others do not tell")?;
            host.needs_controller("memory")?;
            let words = ["spin", "200", ";", "hold", "20"];
            let plain = host.start(&host.bundle()?.payload(&words))?;
            let watched = json!({"dev.wharf.exit-record": "watcher"});
            let watched = host.start(&host.bundle()?.set("/annotations", watched).payload(&words))?;
            plain.lines(2)?;
            watched.lines(2)?;
            let rows = || -> Result<[Value; 2], Stop> {
                let listed: Value = serde_json::from_str(&host.runtime.must(&["list", "--format", "json"])?)?;
                let of = |id: &str| listed.as_array().into_iter().flatten().find(|row| row["id"] == id).cloned();
                Ok([of(plain.id()), of(watched.id())].map(Option::unwrap_or_default))
            };
            for container in [&plain, &watched] {
                let (cpu, _) = exit_record::counted_by_hand(host, container.pid()?)?;
                let row = &rows()?[usize::from(container.id() == watched.id())];
                let (after, _) = exit_record::counted_by_hand(host, container.pid()?)?;
                let told = row["cpuTime"].as_u64().unwrap_or(0);
                ensure!(cpu >= 5_000 && (cpu..=after).contains(&told), "{cpu} µs by hand, then {after}: {row}");
                let memory = row["memory"].as_u64().unwrap_or(0);
                ensure!((20 << 20..40 << 20).contains(&memory), "20 MiB are held: {row}");
            }
            let [first, second] = rows()?;
            // Nobody notes it of a container that nobody is to watch: that would cost every start and exec.
            ensure!(first.get("started").is_none() && first.get("lastExec").is_none(), "{first}");
            ensure!(second["started"].as_str() > second["created"].as_str(), "{second}");
            ensure!(second.get("lastExec").is_none(), "{second}");
            for _ in 0..2 {
                let before = rows()?[1]["lastExec"].as_str().map(str::to_owned);
                watched.exec(&[], &["/bin/payload", "nothing"])?;
                plain.exec(&[], &["/bin/payload", "nothing"])?;
                let [first, second] = rows()?;
                ensure!(second["lastExec"].as_str() > before.as_deref().or(second["started"].as_str()), "{second}");
                ensure!(first.get("lastExec").is_none(), "{first}");
            }
            plain.delete_force()?;
            watched.delete_force()
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
