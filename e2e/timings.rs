//! --timings and --trace: where the time of a command went.
//!
//! No trial judges how long something took, but that what was made slow on purpose is told as such.

use crate::seccomp::NEEDED;
use harness::{Bundle, Feature, Finished, Host, Outcome, Stop, Value, ensure, ensure_eq, json};
use std::path::Path;

/// Of a hook that waits, in nanoseconds.
const NAP: u64 = 300_000_000;

pub(crate) fn trials() -> Feature {
    Feature::new("timings")
        .trial("every verb tells its phases, which sum up to the whole", every_verb)
        .trial("what was slow is told as slow", |host| {
            let nap = json!([{"path": "/bin/sleep", "args": ["sleep", "0.3"]}]);
            let bundle = bundle(host)?.set("/hooks/createRuntime", nap);
            bundle.save()?;
            let made = host.runtime.call(&[
                "--timings",
                "--log-format",
                "json",
                "create",
                "-b",
                bundle.dir_text(),
                bundle.id(),
            ])?;
            let times = times(&made)?;
            let hooks = phase(&times, "hooks").ok_or_else(|| Stop::failed(format!("no phase of hooks: {times}")))?;
            let others = times["nanoseconds"].as_u64().unwrap_or(0) - hooks;
            ensure!(hooks >= NAP && hooks > others, "{times}");
            host.runtime.must(&["delete", "--force", bundle.id()])?;
            Ok(())
        })
        .trial("people get a table on stderr, before the failure that ends it, and stdout stays the answer's", |host| {
            let container = host.start(&bundle(host)?)?;
            let told = container.call("state", &["--timings"])?;
            serde_json::from_str::<Value>(&told.stdout).map_err(|error| Stop::failed(format!("{error}: {told}")))?;
            let sum: f64 = told.stderr.lines().skip(1).filter_map(microseconds).sum();
            let whole = told.stderr.lines().next().and_then(microseconds).unwrap_or(0.0);
            ensure!((sum - whole).abs() < 0.01 && whole > 0.0, "{told}");
            let failed = host.runtime.call(&["--timings", "state", "no-such-container"])?;
            ensure!(failed.code() == Some(1) && failed.last_line().contains("does not exist"), "{failed}");
            let head = failed.stderr.lines().next().unwrap_or_default();
            ensure!(head.ends_with("wharf state no-such-container"), "{failed}");
            Ok(())
        })
        .trial("a trace shows a container's whole life, and what each step of its init was asked for by", whole_life)
        .trial("a trace costs a strict profile nothing, and the payload finds no descriptor of it", |host| {
            let trace = host.dir().join("trace");
            let traced = |bundle: Bundle| -> Result<Finished, Stop> {
                bundle.save()?;
                let words = ["--trace", text(&trace), "run", "-b", bundle.dir_text(), bundle.id()];
                let ran = host.runtime.call(&words)?;
                ensure_eq!(ran.code(), Some(0), "{ran}");
                Ok(ran)
            };
            let profile = json!({
                "defaultAction": "SCMP_ACT_KILL_PROCESS", "syscalls": [{"names": NEEDED, "action": "SCMP_ACT_ALLOW"}]
            });
            for privileges in [true, false] {
                let strict = bundle(host)?.set("/linux/seccomp", profile.clone()).payload(&["nothing"]);
                traced(strict.set("/process/noNewPrivileges", json!(privileges)))?;
                let enters = |event: &Value| event["name"].as_str().is_some_and(|name| name.starts_with("pivot_root"));
                ensure!(events(&trace)?.iter().any(enters), "no step of the init");
            }
            let ran = traced(bundle(host)?.payload(&["report"]))?;
            let report: Value = serde_json::from_str(ran.stdout.lines().next().unwrap_or_default())
                .map_err(|error| Stop::failed(format!("{error}: {ran}")))?;
            ensure_eq!(report["fds"].as_object().map(serde_json::Map::len), Some(3), "{}", report["fds"]);
            Ok(())
        })
        .trial("a file that is no trace is refused before anything is made, and left as it is", refused)
        .trial("a trace that cannot be written is told, and the command is done all the same", |host| {
            let container = host.start(&bundle(host)?)?;
            let trace = host.dir().join("trace");
            let file = std::fs::File::create(&trace)?;
            let _held = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive)
                .map_err(|(_, errno)| Stop::failed(errno.to_string()))?;
            let done = host.runtime.call(&["--trace", text(&trace), "state", container.id()])?;
            ensure!(done.code() == Some(0) && done.stderr.contains("keeps it locked"), "{done}");
            Ok(())
        })
        .trial("what stands behind the command of exec is the command's", |host| {
            let container = host.start(&bundle(host)?)?;
            let ran = host.runtime.call(&["exec", container.id(), "/bin/payload", "nothing", "--timings"])?;
            ensure!(!ran.stderr.contains("µs"), "{ran}");
            Ok(())
        })
}

fn bundle(host: &Host) -> Result<Bundle, Stop> {
    host.only_wharf("others have no such option")?;
    Ok(host.bundle()?.payload(&["sleep"]))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

/// Of a line of the table.
fn microseconds(line: &str) -> Option<f64> {
    line.split_whitespace().next()?.parse().ok()
}

/// The one line that a command has logged.
fn times(finished: &Finished) -> Result<Value, Stop> {
    let line = finished.stderr.lines().find(|line| line.contains("\"times\""));
    let line: Option<Value> = line.and_then(|line| serde_json::from_str(line).ok());
    line.map(|line| line["times"].clone()).ok_or_else(|| Stop::failed(format!("no times: {finished}")))
}

fn phase(times: &Value, name: &str) -> Option<u64> {
    times["phases"].as_array()?.iter().find(|phase| phase["name"] == name)?["nanoseconds"].as_u64()
}

fn every_verb(host: &Host) -> Outcome {
    let bundle = bundle(host)?;
    bundle.save()?;
    let (dir, id) = (bundle.dir_text(), bundle.id());
    let calls: &[&[&str]] = &[
        &["plan", "-b", dir],
        &["create", "-b", dir, id],
        &["start", id],
        &["state", id],
        &["list"],
        &["ps", id],
        &["exec", id, "/bin/payload", "nothing"],
        &["events", "--stats", id],
        &["update", "--pids-limit", "50", id],
        &["pause", id],
        &["resume", id],
        &["gc"],
        &["features"],
        &["route", "explain", id],
        &["kill", id, "KILL"],
        &["delete", "--force", id],
    ];
    for call in calls {
        let done = host.runtime.call(&[&["--timings", "--log-format", "json"], *call].concat())?;
        ensure_eq!(done.code(), Some(0), "{done}");
        let times = times(&done)?;
        let phases = times["phases"].as_array().cloned().unwrap_or_default();
        let sum: u64 = phases.iter().filter_map(|phase| phase["nanoseconds"].as_u64()).sum();
        ensure!(times["nanoseconds"] == sum && sum > 0, "{}: {times}", call[0]);
        ensure!(phases.len() >= 3, "{} tells nothing: {times}", call[0]);
        let command = format!("wharf {}", call[0]);
        ensure!(times["command"].as_str().is_some_and(|what| what.starts_with(&command)), "{times}");
    }
    Ok(())
}

/// Every event of a trace, which must be whole JSON.
fn events(trace: &Path) -> Result<Vec<Value>, Stop> {
    let bytes = std::fs::read(trace)?;
    serde_json::from_slice(&bytes).map_err(|error| Stop::failed(format!("{}: {error}", trace.display())))
}

fn whole_life(host: &Host) -> Outcome {
    let bundle = bundle(host)?.set("/hostname", json!("traced"));
    bundle.save()?;
    let (dir, id, trace) = (bundle.dir_text(), bundle.id(), host.dir().join("trace"));
    let option = format!("--trace={}", trace.display());
    let calls: &[&[&str]] = &[
        &["create", "-b", dir, id],
        &["start", id],
        &["exec", id, "/bin/payload", "nothing"],
        &["state", id],
        &["delete", "--force", id],
    ];
    for (index, call) in calls.iter().enumerate() {
        // Before the verb and behind it.
        let (verb, rest) = call.split_first().ok_or_else(|| Stop::failed("no verb"))?;
        let words =
            if index % 2 == 0 { [&[option.as_str(), verb], rest].concat() } else { [&[*verb, &option], rest].concat() };
        host.runtime.must(&words)?;
        ensure!(!events(&trace)?.is_empty(), "{verb} leaves no trace");
    }
    let events = events(&trace)?;
    for call in calls {
        let command = format!("wharf {} {id}", call[0]);
        let of = |event: &&Value| event["ph"] == "X" && event["name"] == command.as_str();
        let whole = events.iter().find(of).ok_or_else(|| Stop::failed(format!("{command} is not in it")))?;
        let inside =
            |event: &&Value| event["ph"] == "X" && event["tid"] == whole["tid"] && event["name"] != whole["name"];
        let sum: f64 = events.iter().filter(inside).filter_map(|event| event["dur"].as_f64()).sum();
        ensure!((sum - whole["dur"].as_f64().unwrap_or(0.0)).abs() < 0.1, "{command}: {sum} of {whole}");
    }
    let step = events.iter().find(|event| event["name"] == "set hostname \"traced\"");
    ensure_eq!(step.map(|step| step["args"]["config.json"].clone()), Some(json!("hostname")));
    let joined = events.iter().find(|event| event["args"]["name"] == "process that joins");
    let thread = joined.map(|named| named["tid"].clone()).unwrap_or_default();
    ensure!(events.iter().any(|event| event["ph"] == "X" && event["tid"] == thread), "no step of the exec");
    Ok(())
}

fn refused(host: &Host) -> Outcome {
    let bundle = bundle(host)?;
    bundle.save()?;
    let other = host.dir().join("notes");
    std::fs::write(&other, "not ours\n")?;
    let directory = host.new_dir("directory")?;
    for (file, why) in [
        (other.as_path(), "what is in it is not a trace that wharf wrote"),
        (&directory, "Is a directory"),
        (Path::new("/dev/null"), "it is not a regular file"),
        (Path::new("/no/such/directory/trace"), "No such file or directory"),
    ] {
        let refused = host.runtime.call(&["--trace", text(file), "create", "-b", bundle.dir_text(), bundle.id()])?;
        let expected = format!("open trace {}: {why}", file.display());
        ensure!(refused.code() == Some(1) && refused.last_line().contains(&expected), "{refused}");
        ensure_eq!(host.runtime.call(&["state", bundle.id()])?.code(), Some(1));
    }
    ensure_eq!(std::fs::read_to_string(&other)?, "not ours\n");
    Ok(())
}
