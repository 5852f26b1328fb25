//! `hooks`: each part of each kind.

use super::row::{Row, equal};
use harness::{Bundle, Host, Stop, Value, ensure, json};
use std::fs;
use std::path::PathBuf;

const KINDS: [[&str; 4]; 6] = [
    ["hooks/prestart/*/path", "hooks/prestart/*/args", "hooks/prestart/*/env", "hooks/prestart/*/timeout"],
    [
        "hooks/createRuntime/*/path",
        "hooks/createRuntime/*/args",
        "hooks/createRuntime/*/env",
        "hooks/createRuntime/*/timeout",
    ],
    [
        "hooks/createContainer/*/path",
        "hooks/createContainer/*/args",
        "hooks/createContainer/*/env",
        "hooks/createContainer/*/timeout",
    ],
    [
        "hooks/startContainer/*/path",
        "hooks/startContainer/*/args",
        "hooks/startContainer/*/env",
        "hooks/startContainer/*/timeout",
    ],
    ["hooks/poststart/*/path", "hooks/poststart/*/args", "hooks/poststart/*/env", "hooks/poststart/*/timeout"],
    ["hooks/poststop/*/path", "hooks/poststop/*/args", "hooks/poststop/*/env", "hooks/poststop/*/timeout"],
];

fn kind(property: &str) -> &str {
    property.split('/').nth(1).unwrap_or_default()
}

/// Where the hook of the host's writes down its arguments and one variable.
fn record(bundle: &Bundle) -> PathBuf {
    bundle.dir().join("record")
}

/// A shell script on the host; for startContainer, which runs inside, the payload.
fn hook(bundle: &Bundle, kind: &str) -> Result<Value, Stop> {
    if kind == "startContainer" {
        return Ok(json!({ "path": "/bin/payload", "args": ["hook", "report"], "env": ["COLOUR=blue"] }));
    }
    let script = bundle.dir().join("hook");
    let record = record(bundle);
    fs::write(&script, format!("#!/bin/sh\necho \"$1 $COLOUR\" >{}\n$2 $3\n", record.display()))?;
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(json!({ "path": script, "args": ["hook", "first"], "env": ["COLOUR=blue", "PATH=/usr/bin:/bin"] }))
}

/// What the hook saw: its first argument and its variable.
fn seen(host: &Host, bundle: &Bundle, kind: &str) -> Result<[String; 2], Stop> {
    let ran = host.run_well(bundle)?;
    if kind == "startContainer" {
        let lines = ran.lines()?;
        let hook = lines.iter().find(|line| line["args"][0] == "hook");
        let hook = hook.ok_or_else(|| Stop::failed("no hook ran"))?;
        let colour = hook.list("/env").into_iter().find_map(|one| one.strip_prefix("COLOUR=").map(str::to_owned));
        return Ok([hook.list("/args")[1].to_owned(), colour.unwrap_or_default()]);
    }
    let text = fs::read_to_string(record(bundle)).map_err(|error| Stop::failed(format!("no hook ran: {error}")))?;
    let (first, colour) = text.trim_end_matches('\n').split_once(' ').unwrap_or_default();
    Ok([first.to_owned(), colour.to_owned()])
}

pub(super) fn rows() -> Vec<Row> {
    KINDS.into_iter().flat_map(|parts| parts.map(row)).collect()
}

fn row(property: &'static str) -> Row {
    let kind = kind(property);
    let set = move |bundle: Bundle, change: fn(&mut Value, bool)| {
        let mut hook = hook(&bundle, kind)?;
        change(&mut hook, kind == "startContainer");
        Ok(bundle.set(&format!("/hooks/{kind}"), json!([hook])))
    };
    let row = Row::new(property).payload(&["say", "here"]);
    let first = if kind == "startContainer" { "report" } else { "first" };
    match property.rsplit('/').next() {
        Some("timeout") => row
            .edit(move |_, bundle| {
                set(bundle, |hook, inside| {
                    hook["args"] =
                        json!(if inside { vec!["hook", "sleep"] } else { vec!["hook", "x", "sleep", "1000"] });
                    hook["timeout"] = json!(1);
                })
            })
            .look(move |host, bundle| {
                // It ends, so the hook was ended; that of the first four kinds is a failure.
                let ran = host.run(bundle)?;
                let warns = matches!(kind, "poststart" | "poststop");
                ensure!(bundle.config["hooks"].is_object(), "no hook");
                match warns {
                    true => equal(fs::read_to_string(record(bundle))?.trim(), "x blue"),
                    false => {
                        ensure!(ran.finished.stderr.contains(&format!("[hooks/{kind}/0]")), "{}", ran.finished);
                        ensure!(ran.finished.stderr.contains("1 s"), "{}", ran.finished);
                        Ok(())
                    }
                }
            }),
        part => {
            let expected = match part {
                Some("args") => [Some(first), None],
                Some("env") => [None, Some("blue")],
                _ => [None, None],
            };
            row.edit(move |_, bundle| set(bundle, |_, _| {})).look(move |host, bundle| {
                let seen = seen(host, bundle, kind)?;
                for (seen, expected) in seen.iter().zip(expected) {
                    ensure!(expected.is_none_or(|expected| seen == expected), "expected {expected:?}, seen {seen:?}");
                }
                Ok(())
            })
        }
    }
}
