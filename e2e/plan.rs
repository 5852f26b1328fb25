//! `plan`: what becomes of each property of a bundle, the same that `create` says, without making anything.

use harness::{Bundle, Feature, Finished, Host, Stop, Value, ensure, ensure_eq, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

const WHARF_ONLY: &str = "plan is a verb of wharf";

pub(crate) fn trials() -> Feature {
    Feature::new("plan")
        .trial("a bundle that create accepts has nothing refused, and the exit code is 0", |host| {
            host.only_wharf(WHARF_ONLY)?;
            let bundle = host.bundle()?;
            let (said, plan) = plan(host, &bundle, &[])?;
            ensure_eq!(said.code(), Some(0), "{said}");
            ensure_eq!((&plan["accepted"], &plan["backend"]), (&json!(true), &json!("native")));
            for property in ["process/args", "process/user/uid", "mounts/1/options", "root/path", "linux/cgroupsPath"] {
                ensure_eq!(verdict(&plan, property), "applied", "{property}");
            }
            let rows = plan["properties"].as_array().map_or(0, Vec::len);
            ensure_eq!(plan["counts"]["applied"], json!(rows));
            host.create(&bundle)?.delete_force()
        })
        .trial("everything that is refused is told at once; create says the first of it, in the same words", |host| {
            host.only_wharf(WHARF_ONLY)?;
            let bundle = host
                .bundle()?
                .set("/process/env", json!(["PATH=/bin", "one", "two"]))
                .set("/process/cwd", json!("here"))
                .set("/process/oomScoreAdj", json!(5000))
                .set("/linux/resources/memory", json!({ "swappiness": 200 }))
                .set("/linux/intelRdt", json!({ "closID": "x" }))
                .set("/mounts/1/type", json!(""))
                .mount("/more", "tmpfs", "tmpfs", &["tmpcopyup", "fine=?"])
                .mount("relative", "bind", "", &["bind"]);
            let (said, plan) = plan(host, &bundle, &[])?;
            ensure_eq!(said.code(), Some(1), "{said}");
            ensure!(said.stderr.is_empty(), "the answer is on stdout: {said}");
            for property in [
                "process/env",
                "process/cwd",
                "process/oomScoreAdj",
                "linux/resources/memory/swappiness",
                "linux/intelRdt/closID",
                "mounts/1/type",
                "mounts/7/source",
            ] {
                ensure_eq!(verdict(&plan, property), "refused", "{property}: {plan}");
            }
            for property in ["mounts/0/type", "mounts/6/options", "process/args", "hostname"] {
                ensure_eq!(verdict(&plan, property), "applied", "{property}");
            }
            let env = why(&plan, "process/env");
            ensure!(env.contains("process/env/1") && env.contains("process/env/2"), "{env}");
            let created = host.create_fails(&bundle)?;
            let (reason, _) =
                created.last_line().trim_start_matches("wharf: error: ").split_once(" [").unwrap_or_default();
            let rows = plan["properties"].as_array().cloned().unwrap_or_default();
            ensure!(rows.iter().any(|row| row["why"][0] == json!(reason)), "{reason:?} of {created} in {plan}");
            Ok(())
        })
        .trial("what the specification does not know is ignored and shown, and the container runs", |host| {
            host.only_wharf(WHARF_ONLY)?;
            let bundle = host
                .bundle()?
                .set("/swims", json!({ "fast": true }))
                .set("/linux/resources/memory", json!({ "colour": "red" }))
                .set("/mounts/0/flags", json!(7))
                .payload(&["say", "here"]);
            let (said, plan) = plan(host, &bundle, &[])?;
            ensure_eq!(said.code(), Some(0), "{said}");
            for property in ["swims", "linux/resources/memory/colour", "mounts/0/flags"] {
                ensure_eq!(verdict(&plan, property), "ignored", "{property}");
            }
            ensure_eq!(plan["counts"]["ignored"], json!(3));
            ensure_eq!(host.report(&bundle)?["said"], json!(["here"]));
            Ok(())
        })
        .trial("sections of other platforms are refused, also what the types of the specification drop", |host| {
            host.only_wharf(WHARF_ONLY)?;
            for (section, value, property) in [
                ("/vm", json!({ "kernel": { "path": "/k" }, "hwConfig": { "vcpus": 2 } }), "vm"),
                ("/freebsd", json!({ "jail": { "vnet": "new" } }), "freebsd"),
                ("/windows", json!({ "layerFolders": ["C:"] }), "windows"),
                ("/solaris", json!({ "milestone": "m" }), "solaris"),
                ("/zos", json!({ "namespaces": [{ "type": "pid" }] }), "zos"),
            ] {
                let bundle = host.bundle()?.set(section, value);
                let (said, plan) = plan(host, &bundle, &[])?;
                ensure_eq!(said.code(), Some(1), "{said}");
                ensure_eq!(verdict(&plan, property), "refused", "{plan}");
                ensure_eq!(plan["counts"]["refused"], json!(1));
                let created = host.create_fails(&bundle)?;
                ensure!(created.last_line().ends_with(&format!("[{property}]")), "{created}");
            }
            Ok(())
        })
        .trial("what is honoured nearly says how", |host| {
            host.only_wharf(WHARF_ONLY)?;
            let source = host.new_dir("source")?.to_string_lossy().into_owned();
            let bundle = host
                .bundle()?
                .mount("/bound", "bind", &source, &["bind", "size=1m"])
                .set("/process/consoleSize", json!({ "height": 24, "width": 80 }))
                .set(
                    "/linux/seccomp",
                    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                    { "names": ["no_such_call", "mkdir"], "action": "SCMP_ACT_ERRNO" }] }),
                );
            let (said, plan) = plan(host, &bundle, &[])?;
            ensure_eq!(said.code(), Some(0), "{said}");
            ensure_eq!(verdict(&plan, "mounts/6/options"), "approximated");
            ensure!(why(&plan, "mounts/6/options").contains("size=1m"), "{plan}");
            ensure_eq!(verdict(&plan, "linux/seccomp/syscalls/0/names"), "approximated");
            ensure!(why(&plan, "linux/seccomp/syscalls/0/names").contains("no_such_call"), "{plan}");
            ensure_eq!(verdict(&plan, "process/consoleSize/height"), "ignored");
            Ok(())
        })
        .trial("for another runtime everything is handed on, and so it is said", |host| {
            host.only_wharf(WHARF_ONLY)?;
            let bundle = host.bundle()?.set("/swims", json!(1)).set("/process/env", json!(["bad"]));
            bundle.save()?;
            // Any program will do: it is not called.
            let args = ["--backend", "/bin/sh", "plan", "--format=json", "--bundle", bundle.dir_text()];
            let said = host.runtime.call(&args)?;
            ensure_eq!(said.code(), Some(0), "{said}");
            let plan: Value = serde_json::from_str(&said.stdout)?;
            let rows = plan["properties"].as_array().cloned().unwrap_or_default();
            ensure!(rows.len() > 20 && rows.iter().all(|row| row["verdict"] == "handed on"), "{plan}");
            ensure_eq!(verdict(&plan, "swims"), "handed on");
            ensure_eq!(plan["judged_by"], "/bin/sh");
            let text = host.runtime.must(&["--backend", "/bin/sh", "plan", "--bundle", bundle.dir_text()])?;
            let words = "/bin/sh is given config.json as it is and judges it at create";
            ensure!(text.contains(words) && text.contains("is not known here"), "{text}");
            Ok(())
        })
        .trial("the text form lists what is refused first and ends with what create would do", |host| {
            host.only_wharf(WHARF_ONLY)?;
            let bundle = host.bundle()?.set("/process/cwd", json!("here"));
            bundle.save()?;
            let said = host.runtime.call(&["plan", "--bundle", bundle.dir_text()])?;
            ensure_eq!(said.code(), Some(1), "{said}");
            let lines: Vec<&str> = said.stdout.lines().collect();
            ensure!(lines[0].starts_with("bundle ") && lines[1] == "backend  native (the default)", "{said}");
            ensure!(lines[3].starts_with("refused  process/cwd  ") && lines[3].ends_with("must be absolute"), "{said}");
            ensure!(lines[lines.len() - 1].starts_with("create would refuse it: 1 refused, "), "{said}");
            Ok(())
        })
        .trial("a file of the wrong form is one error, as with create", |host| {
            host.only_wharf(WHARF_ONLY)?;
            let bundle = host.bundle()?.set("/process/args", json!("not a list"));
            let created = host.create_fails(&bundle)?;
            let said = host.runtime.call(&["plan", "--bundle", bundle.dir_text()])?;
            ensure_eq!((said.code(), said.stdout.as_str()), (Some(1), ""));
            ensure_eq!(said.stderr, created.stderr);
            Ok(())
        })
        .trial("nothing is made, and an ordinary user without any directory for records can ask", |host| {
            host.only_wharf(WHARF_ONLY)?;
            let bundle = host.bundle()?;
            bundle.save()?;
            let root = host.dir().join("none");
            for user in [0, 1000] {
                let program = host.runtime.program();
                fs::set_permissions(program, fs::Permissions::from_mode(0o755))?;
                let mut command = std::process::Command::new(program);
                if user == 0 {
                    command.arg("--root").arg(&root);
                } else {
                    command.uid(user).gid(user).env_remove("XDG_RUNTIME_DIR");
                }
                command.args(["plan", "--format", "json", "--bundle", bundle.dir_text()]);
                let before = tree(host)?;
                let out = command.output()?;
                ensure_eq!(tree(host)?, before);
                let text = String::from_utf8_lossy(&out.stdout).into_owned();
                let said = String::from_utf8_lossy(&out.stderr).into_owned();
                let plan: Value = serde_json::from_str(&text)
                    .map_err(|error| Stop::failed(format!("user {user}: {error}: {text:?} {said:?}")))?;
                ensure_eq!(plan["backend"], json!("native"));
                ensure_eq!(verdict(&plan, "process/args"), "applied", "user {user}: {plan}");
            }
            Ok(())
        })
}

/// Every file of the trial, by name.
fn tree(host: &Host) -> Result<Vec<std::path::PathBuf>, Stop> {
    let mut found = Vec::new();
    let mut waiting = vec![host.dir().to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                waiting.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// The answer of `plan` in its JSON form.
pub(crate) fn plan(host: &Host, bundle: &Bundle, options: &[&str]) -> Result<(Finished, Value), Stop> {
    bundle.save()?;
    let mut args = options.to_vec();
    args.extend(["plan", "--bundle", bundle.dir_text(), "--format", "json", bundle.id()]);
    let said = host.runtime.call(&args)?;
    let plan = serde_json::from_str(&said.stdout).map_err(|error| Stop::failed(format!("{error}: {said}")))?;
    Ok((said, plan))
}

fn row<'p>(plan: &'p Value, property: &str) -> Option<&'p Value> {
    plan["properties"].as_array()?.iter().find(|row| row["property"] == property)
}

/// The verdict on a property; empty where it has no row.
pub(crate) fn verdict<'p>(plan: &'p Value, property: &str) -> &'p str {
    row(plan, property).and_then(|row| row["verdict"].as_str()).unwrap_or_default()
}

/// Why it is not simply applied.
pub(crate) fn why(plan: &Value, property: &str) -> String {
    let words = row(plan, property).and_then(|row| row["why"].as_array());
    words.into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join("; ")
}
