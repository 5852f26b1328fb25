//! --log and --log-format: one failure, one object, the same words on stderr.

use harness::{Feature, Host, Stop, Value, ensure, ensure_eq};

/// A verb on a container that does not exist, with these global options; what stands in the log.
fn fail(host: &Host, options: &[&str]) -> Result<(String, harness::Finished), Stop> {
    let log = host.dir().join("log");
    let _ = std::fs::remove_file(&log);
    let mut command = host.runtime.command();
    command.arg("--log").arg(&log).args(options).args(["state", "nobody-of-that-name"]);
    let finished = host.runtime.spawn_command(command)?.finish()?;
    ensure!(finished.code() != Some(0), "{finished}");
    Ok((std::fs::read_to_string(&log).unwrap_or_default(), finished))
}

pub(crate) fn trials() -> Feature {
    Feature::new("log_format")
        .trial("a failure is one JSON object of level, msg and time", |host| {
            let (log, finished) = fail(host, &["--log-format", "json"])?;
            ensure_eq!(log.lines().count(), 1, "lines in {log:?}");
            let object: Value =
                serde_json::from_str(&log).map_err(|error| Stop::failed(format!("{error}: {log:?}")))?;
            ensure_eq!(object["level"], "error");
            let text = object["msg"].as_str().unwrap_or_default();
            ensure!(text.contains("does not exist"), "{object}");
            let time = object["time"].as_str().unwrap_or_default().as_bytes();
            let rfc3339 = time.len() >= 20
                && time[4] == b'-'
                && time[7] == b'-'
                && time[10] == b'T'
                && time[13] == b':'
                && time[16] == b':';
            ensure!(rfc3339, "time is not RFC 3339: {object}");
            ensure!(finished.last_line().contains("does not exist"), "{finished}");
            if host.runtime.name() == "wharf" {
                ensure!(finished.stderr.contains(text), "stderr tells something else: {finished} and {object}");
            }
            Ok(())
        })
        .trial("text is the default format", |host| {
            let (log, _) = fail(host, &[])?;
            ensure!(log.contains("does not exist"), "{log:?}");
            ensure!(serde_json::from_str::<Value>(&log).is_err(), "it is JSON: {log:?}");
            let (same, _) = fail(host, &["--log-format", "text"])?;
            ensure!(same.contains("does not exist"), "{same:?}");
            Ok(())
        })
        .trial("options may be written --log-format=json, and after what was there the log goes on", |host| {
            let log = host.dir().join("log");
            for _ in 0..2 {
                let mut command = host.runtime.command();
                command.arg(format!("--log={}", log.display())).args(["--log-format=json", "state", "nobody"]);
                host.runtime.spawn_command(command)?.finish()?;
            }
            let text = std::fs::read_to_string(&log)?;
            ensure_eq!(text.lines().count(), 2, "lines in {text:?}");
            Ok(())
        })
        .trial("what has no effect is told at level warn, and at no other", |host| {
            let bundle =
                host.bundle()?.set("/linux/mountLabel", harness::json!("system_u:object_r:container_file_t:s0"));
            let bundle = bundle.mount("/var/here", "bind", "/", &["bind", "size=1m"]);
            bundle.save()?;
            if host.runtime.name() != "wharf" {
                return Err(Stop::skipped("other runtimes tell it in other ways, or not"));
            }
            if std::path::Path::new("/sys/fs/selinux/enforce").exists() {
                return Err(Stop::skipped("this kernel has SELinux"));
            }
            for (level, expected) in [("warn", 2), ("error", 0)] {
                let log = host.dir().join(level);
                let mut command = host.runtime.command();
                command.arg("--log").arg(&log).args(["--log-level", level, "run", "--bundle"]);
                command.arg(bundle.dir()).arg(bundle.id());
                host.runtime.spawn_command(command)?.finish()?;
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                ensure_eq!(text.lines().count(), expected, "lines at {level}: {text:?}");
                ensure!(expected == 0 || text.contains("mountLabel") && text.contains("size=1m"), "{text:?}");
            }
            Ok(())
        })
        .trial("success logs nothing", |host| {
            let bundle = host.bundle()?;
            bundle.save()?;
            let log = host.dir().join("log");
            let mut command = host.runtime.command();
            command.arg("--log").arg(&log).args([
                "--log-format",
                "json",
                "run",
                "--bundle",
                bundle.dir_text(),
                bundle.id(),
            ]);
            let ran = host.runtime.spawn_command(command)?.finish()?;
            ensure_eq!((ran.code(), ran.stderr.as_str()), (Some(0), ""));
            ensure_eq!(std::fs::read_to_string(&log).unwrap_or_default(), "");
            Ok(())
        })
        .trial("words with quotes and line ends stay one valid object", |host| {
            let log = host.dir().join("log");
            let bundle = host.bundle()?.args(&["/bin/quote\"and\nline"]);
            bundle.save()?;
            let mut command = host.runtime.command();
            command.arg("--log").arg(&log).args([
                "--log-format",
                "json",
                "run",
                "--bundle",
                bundle.dir_text(),
                bundle.id(),
            ]);
            let ran = host.runtime.spawn_command(command)?.finish()?;
            ensure!(ran.code() != Some(0), "{ran}");
            let text = std::fs::read_to_string(&log)?;
            for line in text.lines() {
                ensure!(serde_json::from_str::<Value>(line).is_ok(), "{line:?}");
            }
            if host.runtime.name() == "wharf" {
                ensure_eq!(text.lines().count(), 1);
            }
            Ok(())
        })
        .trial("an unknown format is refused", |host| {
            let mut command = host.runtime.command();
            command.args(["--log-format", "runes", "list"]);
            ensure!(host.runtime.spawn_command(command)?.finish()?.code() != Some(0), "it was taken");
            Ok(())
        })
}
