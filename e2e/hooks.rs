//! hooks: all six, in their order, places and namespaces.
//!
//! A hook is a shell script of the host's that writes down what it sees and is told; startContainer's is the payload.

use harness::{Bundle, Feature, Host, Stop, Value, ensure, ensure_eq, json};
use std::path::{Path, PathBuf};

const BEFORE_PIVOT: [&str; 3] = ["prestart", "createRuntime", "createContainer"];

/// A shell script of the host's that writes one file per hook: namespaces, stdin, environment, arguments, directory.
fn recorder(host: &Host) -> Result<(PathBuf, PathBuf), Stop> {
    let dir = host.new_dir("hooks")?;
    let script = dir.join("record");
    std::fs::write(
        &script,
        format!(
            "#!/bin/sh\nname=$1\nout={}/$name\n\
             for ns in mnt pid net uts ipc; do readlink /proc/self/ns/$ns; done >$out.namespaces\n\
             cat >$out.state\ntr '\\0' '\\n' </proc/self/environ >$out.environment\necho \"$0 $@\" >$out.arguments\npwd >$out.directory\n\
             ls /proc/self/fd >$out.fds\necho $name >>{}/order\n",
            dir.display(),
            dir.display()
        ),
    )?;
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok((dir, script))
}

fn hook(script: &Path, name: &str) -> Value {
    json!([{"path": script, "args": ["recorder", name], "env": ["COLOUR=blue", "PATH=/usr/bin:/bin"]}])
}

fn order(dir: &Path) -> Vec<String> {
    std::fs::read_to_string(dir.join("order")).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn state(dir: &Path, name: &str) -> Result<Value, Stop> {
    let text = std::fs::read_to_string(dir.join(format!("{name}.state")))?;
    serde_json::from_str(&text).map_err(|error| Stop::failed(format!("stdin of {name}: {error}: {text:?}")))
}

/// The runtime's hooks, which run outside of the root file system.
fn with_hooks(host: &Host, bundle: Bundle, names: &[&str]) -> Result<(PathBuf, Bundle), Stop> {
    let (dir, script) = recorder(host)?;
    let mut bundle = bundle;
    for name in names {
        bundle = bundle.set(&format!("/hooks/{name}"), hook(&script, name));
    }
    Ok((dir, bundle))
}

pub(crate) fn trials() -> Feature {
    Feature::new("hooks")
        .trial("each hook runs once, in the order of the life cycle", |host| {
            host.except("runc", "1.1 runs poststart at create")?;
            let names = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
            let (dir, bundle) = with_hooks(host, host.bundle()?.payload(&["sleep"]), &names)?;
            let container = host.create(&bundle)?;
            ensure_eq!(order(&dir), BEFORE_PIVOT);
            container.start()?;
            ensure_eq!(order(&dir), ["prestart", "createRuntime", "createContainer", "poststart"]);
            container.kill("KILL")?;
            container.wait_for_status("stopped")?;
            ensure_eq!(order(&dir).len(), 4);
            container.delete()?;
            ensure_eq!(order(&dir), names);
            Ok(())
        })
        .trial("the startContainer hook runs inside the container, before the payload", |host| {
            let hooks = json!([{"path": "/bin/payload", "args": ["hook", "report", ";", "touch", "/var/hook-was-here"]}]);
            let bundle =
                host.bundle()?.set("/hooks/startContainer", hooks).payload(&["lstat", "/var/hook-was-here", ";", "sleep"]);
            let container = host.create(&bundle)?;
            ensure!(!bundle.rootfs().join("var/hook-was-here").exists(), "it ran at create");
            container.start()?;
            let mut lines = container.lines(1)?;
            // The hook may share the payload's output, or have none.
            if !lines[0]["pid"].is_null() {
                ensure_eq!(lines[0]["hostname"], "e2e");
                lines = container.lines(3)?;
            }
            let last = lines.last().cloned().ok_or_else(|| Stop::failed("nothing was printed"))?;
            ensure_eq!((last.errno(), last.text("/kind")), ("", "file"));
            container.delete_force()
        })
        .trial("prestart and createRuntime run in the runtime's namespaces, createContainer in the container's", |host| {
            let names = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
            let (dir, bundle) = with_hooks(host, host.bundle()?.payload(&["report", ";", "sleep"]), &names)?;
            let container = host.start(&bundle)?;
            let report = container.lines(1)?[0].clone();
            container.delete_force()?;
            let own: Vec<String> = ["mnt", "pid", "net", "uts", "ipc"]
                .iter()
                .filter_map(|name| std::fs::read_link(format!("/proc/self/ns/{name}")).ok())
                .map(|link| link.to_string_lossy().into_owned())
                .collect();
            let seen = |name: &str| -> Vec<String> {
                let text = std::fs::read_to_string(dir.join(format!("{name}.namespaces"))).unwrap_or_default();
                text.lines().map(str::to_owned).collect()
            };
            for name in ["prestart", "createRuntime", "poststart", "poststop"] {
                ensure_eq!(seen(name), own, "{name}");
            }
            let inside = seen("createContainer");
            ensure_eq!(inside.first().map(String::as_str).unwrap_or_default(), report.text("/namespaces/mnt"), "createContainer");
            ensure_eq!(inside.get(2).map(String::as_str).unwrap_or_default(), report.text("/namespaces/net"), "createContainer");
            Ok(())
        })
        .trial("each hook is told the state on stdin, with the status of its moment and the pid", |host| {
            let names = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
            let bundle = host.bundle()?.payload(&["sleep"]).set("/annotations", json!({"org.example": "yes"}));
            let (dir, bundle) = with_hooks(host, bundle, &names)?;
            let container = host.start(&bundle)?;
            let pid = container.pid()?;
            container.delete_force()?;
            for (name, status) in [("prestart", "created"), ("createRuntime", "creating"), ("createContainer", "creating"), ("poststart", "running"), ("poststop", "stopped")] {
                let state = state(&dir, name)?;
                ensure_eq!(state["id"], bundle.id(), "{name}");
                ensure_eq!(state["bundle"], bundle.dir_text(), "{name}");
                ensure_eq!(state["annotations"]["org.example"], "yes", "{name}");
                ensure!(state["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")), "{name}: {state}");
                // runc calls every hook before start "creating" or "created".
                if host.runtime.name() != "runc" {
                    ensure_eq!(state["status"], status, "{name}");
                }
                if ["prestart", "createRuntime", "poststart"].contains(&name) {
                    ensure_eq!(state["pid"], pid, "{name}");
                }
            }
            Ok(())
        })
        .trial("arguments and environment are those of the config and nothing else", |host| {
            let (dir, bundle) = with_hooks(host, host.bundle()?, &["createRuntime"])?;
            host.run_well(&bundle)?;
            let arguments = std::fs::read_to_string(dir.join("createRuntime.arguments"))?;
            ensure!(arguments.trim().ends_with("record createRuntime"), "{arguments:?}");
            let environment = std::fs::read_to_string(dir.join("createRuntime.environment"))?;
            let mut names: Vec<&str> = environment.lines().filter_map(|line| line.split('=').next()).collect();
            names.sort();
            ensure_eq!(names, ["COLOUR", "PATH"]);
            Ok(())
        })
        .trial("hooks of one kind run one after the other", |host| {
            let (dir, script) = recorder(host)?;
            let each = |name: &str| hook(&script, name)[0].clone();
            let bundle = host.bundle()?.set("/hooks/createRuntime", json!([each("first"), each("second"), each("third")]));
            host.run_well(&bundle)?;
            ensure_eq!(order(&dir), ["first", "second", "third"]);
            Ok(())
        })
        .trial("a hook has standard streams and no descriptor of the runtime's", |host| {
            host.except("runc", "1.1 leaves some open to createContainer hooks")?;
            let (dir, bundle) = with_hooks(host, host.bundle()?, &["createRuntime", "createContainer"])?;
            host.run_well(&bundle)?;
            for name in ["createRuntime", "createContainer"] {
                let fds = std::fs::read_to_string(dir.join(format!("{name}.fds")))?;
                // ls itself holds 3, the directory that it lists.
                let extra: Vec<&str> = fds.lines().filter(|fd| !["0", "1", "2", "3"].contains(fd)).collect();
                ensure!(extra.is_empty(), "{name} has {extra:?} too");
            }
            Ok(())
        })
        .trial("a hook that fails before start undoes the create and is named", |host| {
            for name in BEFORE_PIVOT {
                let hooks = json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo the reason >&2; exit 7"]}]);
                let bundle = host.bundle()?.set(&format!("/hooks/{name}"), hooks).payload(&["touch", "/var/ran"]);
                let said = host.create_fails(&bundle)?;
                ensure!(said.stderr.contains("hook"), "{name}: {said}");
                if host.runtime.name() == "wharf" {
                    ensure!(said.stderr.contains(name) && said.stderr.contains('7'), "{name}: {said}");
                }
                ensure!(!bundle.rootfs().join("var/ran").exists(), "{name}: the payload ran");
                let state = host.runtime.call(&["state", bundle.id()])?;
                ensure!(state.code() != Some(0), "{name}: the container exists");
            }
            Ok(())
        })
        .trial("a startContainer hook that fails keeps the payload from running", |host| {
            let hooks = json!([{"path": "/bin/payload", "args": ["hook", "exit", "3"]}]);
            let bundle = host.bundle()?.set("/hooks/startContainer", hooks).payload(&["touch", "/var/ran"]);
            let ran = host.run(&bundle)?;
            ensure!(ran.code() != Some(0), "{}", ran.finished);
            ensure!(!bundle.rootfs().join("var/ran").exists(), "the payload ran");
            Ok(())
        })
        .trial("poststart and poststop hooks that fail change nothing", |host| {
            let hooks = json!([{"path": "/bin/false", "args": ["false"]}]);
            host.except("runc", "a poststart hook that fails ends the container")?;
            let bundle = host.bundle()?.set("/hooks/poststart", hooks.clone()).set("/hooks/poststop", hooks).payload(&["sleep"]);
            let container = host.create(&bundle)?;
            let _ = container.call("start", &[])?;
            ensure_eq!(container.status()?, "running");
            container.kill("KILL")?;
            container.wait_for_status("stopped")?;
            let _ = container.call("delete", &[])?;
            ensure!(container.call("state", &[])?.code() != Some(0), "the container still exists");
            Ok(())
        })
        .trial("a poststart hook that fails ends a container of version 1.3", |host| {
            host.except("crun", "warns, as before 1.3")?;
            let hooks = json!([{"path": "/bin/false", "args": ["false"]}, {"path": "/bin/touch", "args": ["touch", "/not/reached"]}]);
            let bundle = host.bundle()?.set("/ociVersion", json!("1.3.0")).set("/hooks/poststart", hooks).payload(&["sleep"]);
            let container = host.create(&bundle)?;
            let started = container.call("start", &[])?;
            ensure!(started.code() != Some(0), "start succeeded");
            ensure!(started.stderr.contains("/bin/false") && started.stderr.contains("hooks/poststart/0"), "{started}");
            container.wait_for_status("stopped")?;
            let ran = host.run(&bundle)?;
            ensure!(ran.code() != Some(0), "run succeeded");
            Ok(())
        })
        .trial("a hook beyond its timeout is killed and fails", |host| {
            let hooks = json!([{"path": "/bin/sleep", "args": ["sleep", "20"], "timeout": 1}]);
            let begun = std::time::Instant::now();
            let said = host.create_fails(&host.bundle()?.set("/hooks/createRuntime", hooks))?;
            ensure!(begun.elapsed().as_secs() < 10, "it took {:?}", begun.elapsed());
            ensure!(!said.stderr.is_empty(), "it failed without a word");
            Ok(())
        })
        .trial("a hook that does not exist, and one with a relative path, are refused by name", |host| {
            let missing = json!([{"path": "/not/there"}]);
            let said = host.create_fails(&host.bundle()?.set("/hooks/createRuntime", missing))?;
            ensure!(said.stderr.contains("/not/there"), "{said}");
            host.except("runc", "looks relative paths up")?;
            let relative = json!([{"path": "true"}]);
            host.create_fails(&host.bundle()?.set("/hooks/createRuntime", relative))?;
            Ok(())
        })
        .trial("a hook can change the container's namespaces by the pid it is told", |host| {
            let script = host.new_dir("hooks")?.join("move");
            let text = "#!/bin/sh\npid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/' | head -n 1)\nnsenter -t $pid -n sysctl -q -w net.ipv4.ip_forward=1\n";
            std::fs::write(&script, text)?;
            std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
            let hooks = json!([{"path": script, "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}]);
            let bundle = host
                .bundle()?
                .set("/hooks/createRuntime", hooks)
                .payload(&["read", "/proc/sys/net/ipv4/ip_forward"]);
            if !["/usr/sbin/sysctl", "/sbin/sysctl"].iter().any(|path| Path::new(path).exists()) {
                return Err(Stop::skipped("sysctl is not installed"));
            }
            let [read] = host.lines(&bundle)?;
            ensure_eq!(read["text"], "1\n");
            Ok(())
        })
}
