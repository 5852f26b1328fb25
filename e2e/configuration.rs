//! The configuration file: where it comes from, what is said of mistakes in it, and what they do not break.

use harness::{Feature, Finished, Host, Outcome, Stop, Value, ensure, ensure_eq};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn trials() -> Feature {
    Feature::new("configuration")
        .trial("it comes from --config, before WHARF_CONFIG", |host| {
            only_wharf(host)?;
            let (first, second) = (file(host, r#"{"root": "/first"}"#)?, file(host, r#"{"root": "/second"}"#)?);
            let root = |variable: Option<&Path>, words: &[&OsStr]| -> Result<String, Stop> {
                let shown = call(host, None, variable, &[words, &["config".as_ref(), "show".as_ref()]].concat())?;
                ensure_eq!(shown.code(), Some(0), "{shown}");
                let line = shown.stdout.lines().find(|line| line.starts_with("root ")).unwrap_or_default();
                Ok(line.split_whitespace().skip(1).collect::<Vec<_>>().join(" "))
            };
            let option = [OsStr::new("--config"), first.as_os_str()];
            ensure_eq!(root(Some(&second), &option)?, format!("{}:1:10 /first", first.display()));
            ensure_eq!(root(Some(&second), &[])?, format!("{}:1:10 /second", second.display()));
            let typed = [OsStr::new("--root"), OsStr::new("/typed")];
            ensure_eq!(root(Some(&second), &typed)?, "--root /typed");
            Ok(())
        })
        .trial("it never comes from the working directory, and no bundle's config.json is taken for it", |host| {
            only_wharf(host)?;
            let bundle = host.bundle()?.payload(&["exit", "7"]);
            bundle.save()?;
            let run = |words: &[&str]| {
                let mut command = host.runtime.command();
                command.args(words).args(["run", bundle.id()]).current_dir(bundle.dir());
                host.runtime.spawn_command(command)?.finish()
            };
            let finished = run(&[])?;
            ensure_eq!(finished.code(), Some(7), "{finished}");
            let refused = run(&["--config", "config.json"])?;
            ensure!(refused.last_line().contains("never comes from the working directory"), "{refused}");
            let config = bundle.dir().join("config.json");
            let refused = run(&["--config", &config.to_string_lossy()])?;
            ensure!(refused.last_line().contains("this is the config.json of a bundle"), "{refused}");
            Ok(())
        })
        .trial("check tells every mistake with line, column and a suggestion", |host| {
            only_wharf(host)?;
            let path = file(host, "{\n  \"routng\": [],\n  \"default_backend\": \"rnuc\"\n}")?;
            let checked = call(host, None, Some(&path), &["config".as_ref(), "check".as_ref()])?;
            ensure_eq!(checked.code(), Some(1), "{checked}");
            for expected in [
                "line 2 column 3: unknown key \"routng\" [routng] (did you mean \"routing\"?)",
                "line 3 column 22: unknown backend \"rnuc\" [default_backend] (did you mean \"runc\"?)",
            ] {
                ensure!(checked.stdout.contains(expected), "{expected:?} is missing: {checked}");
            }
            let good = file(host, r#"{"routing": [{"match": {"id": "a*"}, "backend": "native"}]}"#)?;
            let checked = call(host, None, None, &["config".as_ref(), "check".as_ref(), good.as_os_str()])?;
            ensure_eq!(checked.code(), Some(0), "{checked}");
            ensure_eq!(checked.stdout.trim(), format!("{}: good: 1 rule, 0 runtimes", good.display()));
            Ok(())
        })
        .trial("a broken one makes no container, and leaves those that run to every verb", |host| {
            only_wharf(host)?;
            let bundle = host.bundle()?.payload(&["sleep"]);
            let container = host.start(&bundle)?;
            let broken = file(host, "{ \"routing\": [ }")?;
            let verb = |words: &[&str]| {
                let mut command = host.runtime.command();
                command.env("WHARF_CONFIG", &broken).args(words);
                host.runtime.spawn_command(command)?.finish()
            };
            let refused = verb(&["create", "--bundle", bundle.dir_text(), &host.unique("c")])?;
            ensure!(refused.code() == Some(1) && refused.last_line().contains("line 1 column 16"), "{refused}");
            let state = verb(&["state", bundle.id()])?;
            ensure!(state.code() == Some(0) && state.stdout.contains("\"running\""), "{state}");
            ensure_eq!(verb(&["kill", bundle.id(), "KILL"])?.code(), Some(0));
            container.wait_for_status("stopped")?;
            ensure_eq!(verb(&["delete", bundle.id()])?.code(), Some(0));
            // Where the records are is in the file that cannot be read.
            let lost = call(host, None, Some(&broken), &["state".as_ref(), bundle.id().as_ref()])?;
            ensure!(lost.code() == Some(1) && lost.last_line().contains(&*broken.to_string_lossy()), "{lost}");
            container.delete_force()
        })
        .trial("a mistake in a rule does not hide the containers of the root that the file names", |host| {
            only_wharf(host)?;
            let bundle = host.bundle()?.payload(&["sleep"]);
            let container = host.start(&bundle)?;
            let root = host.root();
            let path = file(host, &format!("{{\"root\": {root:?}, \"routing\": [{{\"match\": 7}}]}}"))?;
            let state = call(host, None, Some(&path), &["state".as_ref(), bundle.id().as_ref()])?;
            ensure!(state.code() == Some(0) && state.stdout.contains("\"running\""), "{state}");
            container.delete_force()
        })
        .trial("one that is not there costs one failed open", |host| {
            only_wharf(host)?;
            if Path::new("/etc/wharf/config.json").exists() {
                return Err(Stop::skipped("this host has /etc/wharf/config.json"));
            }
            if !Path::new("/usr/bin/strace").exists() {
                return Err(Stop::skipped("strace is not installed"));
            }
            let trace = host.dir().join("trace");
            let mut command = Command::new("strace");
            command.args(["-f", "-e", "trace=%file", "-o"]).arg(&trace).arg(host.runtime.program());
            command.arg("--root").arg(host.root()).arg("list").env_remove("WHARF_CONFIG");
            host.runtime.spawn_command(command)?.finish()?;
            let trace = fs::read_to_string(trace)?;
            let calls: Vec<&str> = trace.lines().filter(|line| line.contains("/etc/wharf")).collect();
            ensure!(calls.len() == 1 && calls[0].contains("ENOENT"), "{calls:?}");
            Ok(())
        })
        .trial("one of nexcage is converted, and its catch-all matches", |host| {
            only_wharf(host)?;
            let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/nexcage.json");
            let words = ["config", "import", "--map", "lxc=native", &old.to_string_lossy()].map(str::to_owned);
            let words: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
            let imported = call(host, None, None, &words)?;
            ensure_eq!(imported.code(), Some(0), "{imported}");
            for left in
                ["runtime.terminal (line 5): not carried over: ", "proxmox.legacy_api (line 12): not carried over: "]
            {
                ensure!(imported.stderr.contains(left), "{left:?} is missing: {imported}");
            }
            let new = file(host, &imported.stdout)?;
            let bundle = host.bundle()?;
            bundle.save()?;
            for (id, rule, backend) in [("net-1", 1, "crun"), ("cache-7", 2, "runc"), ("anything", 3, "native")] {
                let words = ["route", "explain", "--format", "json", "--bundle", bundle.dir_text(), id];
                let mut command = host.runtime.command();
                command.env("WHARF_CONFIG", &new).args(words);
                let told = host.runtime.spawn_command(command)?.finish()?;
                let told: Value = serde_json::from_str(&told.stdout)?;
                let tried = &told["rules"][rule - 1];
                ensure_eq!(tried["matches"], true, "rule {rule} for {id}: {told}");
                ensure_eq!(tried["backend"], backend, "rule {rule}");
            }
            Ok(())
        })
}

fn only_wharf(host: &Host) -> Outcome {
    host.only_wharf("only wharf has such a configuration")
}

/// A configuration file of this trial.
fn file(host: &Host, text: &str) -> Result<PathBuf, Stop> {
    let path = host.dir().join(host.unique("config.json"));
    fs::write(&path, text)?;
    Ok(path)
}

/// Without `--root`.
fn call(host: &Host, dir: Option<&Path>, variable: Option<&Path>, words: &[&OsStr]) -> Result<Finished, Stop> {
    let mut command = Command::new(host.runtime.program());
    command.args(words).env_remove("WHARF_CONFIG").current_dir(dir.unwrap_or(Path::new("/")));
    command.envs(variable.map(|path| ("WHARF_CONFIG", path)));
    host.runtime.spawn_command(command)?.finish()
}
