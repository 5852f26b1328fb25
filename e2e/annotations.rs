//! annotations: remembered and told by `state`, to hooks too (hooks.rs); those that other runtimes act on are applied,
//! refused by name, or have no effect (docs/annotations.md).

use harness::{Bundle, Feature, Finished, Host, Receiver, Stop, Value, ensure, ensure_eq, json};

const RUNC: &str = "knows no annotations of crun's";

pub(crate) fn trials() -> Feature {
    Feature::new("annotations")
        .trial("state tells the annotations of the config", |host| {
            let annotations =
                json!({"org.example.ship": "frigate", "org.example.empty": "", "ä.key": "line\nbreak \"quoted\""});
            let bundle = host.bundle()?.set("/annotations", annotations.clone()).payload(&["sleep"]);
            let container = host.create(&bundle)?;
            ensure_eq!(container.state()?["annotations"], annotations);
            container.start()?;
            ensure_eq!(container.state()?["annotations"], annotations);
            container.delete_force()
        })
        .trial("an annotation with an empty key is refused", |host| {
            host.except("runc", "takes it")?;
            host.create_fails(&host.bundle()?.set("/annotations", json!({"": "x"})))?;
            Ok(())
        })
        .trial("keep_original_groups keeps the caller's groups, in exec too", |host| {
            host.except("runc", RUNC)?;
            for (value, kept) in [("1", true), ("yes", true), ("0", false)] {
                let bundle = annotated(host, "run.oci.keep_original_groups", value)?.payload(&["report", ";", "sleep"]);
                let own = groups_of(host, &bundle)?;
                let expected = if kept { json!([4242, 4243]) } else { json!([]) };
                ensure_eq!(own[0], expected, "first process, {value}");
                ensure_eq!(own[1], expected, "exec, {value}");
            }
            Ok(())
        })
        .trial("additionalGids beside it have no effect", |host| {
            host.except("runc", RUNC)?;
            let bundle = annotated(host, "run.oci.keep_original_groups", "1")?
                .set("/process/user/additionalGids", json!([99]))
                .payload(&["report", ";", "sleep"]);
            ensure_eq!(groups_of(host, &bundle)?[0], json!([4242, 4243]));
            Ok(())
        })
        .trial("hooks write to the files that are named, at their end", |host| {
            host.except("runc", RUNC)?;
            let (out, err) = (host.dir().join("out"), host.dir().join("err"));
            std::fs::write(&out, "before\n")?;
            let mut bundle = host
                .bundle()?
                .set("/annotations", json!({"run.oci.hooks.stdout": out, "run.oci.hooks.stderr": err}))
                .payload(&["nothing"]);
            let program = host.payload().to_string_lossy().into_owned();
            for kind in ["createRuntime", "createContainer", "poststart", "poststop"] {
                let args = json!(["payload", "say", kind, ";", "complain", kind]);
                bundle = bundle.set(&format!("/hooks/{kind}"), json!([{"path": program, "args": args}]));
            }
            // This one runs inside, where the program has another name.
            let args = json!(["payload", "say", "startContainer", ";", "complain", "startContainer"]);
            bundle = bundle.set("/hooks/startContainer", json!([{"path": "/bin/payload", "args": args}]));
            let finished = host.run_well(&bundle)?.finished;
            ensure!(!finished.stdout.contains("said") && finished.stderr.is_empty(), "{finished}");
            let order = ["createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
            let out = std::fs::read_to_string(&out)?;
            ensure!(out.starts_with("before\n"), "{out:?}");
            let said: Vec<_> = out.lines().filter_map(|line| line.parse::<Value>().ok()).collect();
            let said: Vec<_> = said.iter().filter_map(|line| line["said"][0].as_str()).collect();
            ensure_eq!(said, order);
            ensure_eq!(std::fs::read_to_string(&err)?.lines().collect::<Vec<_>>(), order);
            use std::os::unix::fs::PermissionsExt;
            ensure_eq!(std::fs::metadata(&err)?.permissions().mode() & 0o777, 0o600);
            Ok(())
        })
        .trial("a file for hooks that cannot be opened fails the create", |host| {
            host.only_wharf("says less")?;
            let bundle = annotated(host, "run.oci.hooks.stderr", "/not/there/err")?
                .set("/hooks/createRuntime", json!([{"path": "/bin/true"}]));
            let said = host.create_fails(&bundle)?;
            ensure!(said.stderr.contains("/not/there/err"), "{said}");
            ensure!(said.stderr.contains("[annotations/run.oci.hooks.stderr]"), "{said}");
            Ok(())
        })
        .trial("pidfd_receiver is given a pidfd", |host| {
            host.except("runc", RUNC)?;
            let path = host.dir().join("pidfd.sock");
            let receiver = Receiver::listen(&path)?;
            let bundle = annotated(host, "run.oci.pidfd_receiver", &path.to_string_lossy())?.payload(&["sleep"]);
            let container = host.create(&bundle)?;
            let received = receiver.receive()?.0;
            let pidfd = received.descriptor.ok_or_else(|| Stop::failed("no descriptor"))?;
            container.delete_force()?;
            ensure!(wharf_sys::process::readable(&pidfd, 5000)?, "it is not of the container's process");
            Ok(())
        })
        .trial("an unknown system call in the profile is refused where that is asked for", |host| {
            host.except("runc", RUNC)?;
            let profile = json!({"defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["personality", "sail"], "action": "SCMP_ACT_ERRNO"}]});
            let bundle = annotated(host, "run.oci.seccomp_fail_unknown_syscall", "1")?.set("/linux/seccomp", profile);
            let said = host.create_fails(&bundle)?;
            ensure!(said.stderr.contains("sail"), "{said}");
            let bundle = bundle.set("/annotations/run.oci.seccomp_fail_unknown_syscall", json!("0"));
            host.run_well(&bundle).map(drop)
        })
        .trial("those that would change how it runs are refused by name", |host| {
            host.only_wharf("acts on them")?;
            for key in [
                "run.oci.handler",
                "run.oci.seccomp.plugins",
                "run.oci.seccomp_bpf_data",
                "run.oci.timens_offset",
                "run.oci.delegate-cgroup",
                "run.oci.systemd.force_cgroup_v1",
            ] {
                let said = host.create_fails(&annotated(host, key, "x")?)?;
                ensure!(said.stderr.contains(&format!("annotation {key}")), "{said}");
                ensure!(said.stderr.contains(&format!("[annotations/{key}]")), "{said}");
            }
            Ok(())
        })
        .trial("labels of engines are nobody's business, and what has no effect is told at level warn", |host| {
            host.only_wharf("has other words")?;
            let labels = json!({
                "io.podman.annotations.init": "TRUE", "io.container.manager": "libpod",
                "io.kubernetes.cri.container-type": "container", "org.opencontainers.image.stopSignal": "15",
                "org.systemd.property.CPUWeight": "uint64 1", "run.oci.systemd.subgroup": "",
            });
            let bundle = host.bundle()?.set("/annotations", labels).payload(&["nothing"]);
            bundle.save()?;
            let run = ["--log-level", "warn", "run", "--bundle", bundle.dir_text(), bundle.id()];
            let finished = host.runtime.call(&run)?;
            ensure_eq!(finished.code(), Some(0), "{finished}");
            let told: Vec<_> = finished.stderr.lines().filter(|line| line.contains("annotation")).collect();
            ensure!(told.len() == 2 && told[0].contains("org.systemd.property.CPUWeight"), "{finished}");
            ensure!(told[1].contains("run.oci.systemd.subgroup"), "{finished}");
            Ok(())
        })
}

fn annotated(host: &Host, key: &str, value: &str) -> Result<Bundle, Stop> {
    Ok(host.bundle()?.edit(|config| config["annotations"] = json!({ key: value })))
}

/// The supplementary groups of the first process and of one that joins it, both from a caller in groups 4242 and 4243.
fn groups_of(host: &Host, bundle: &Bundle) -> Result<[Value; 2], Stop> {
    bundle.save()?;
    let call = |words: &[&str]| -> Result<Finished, Stop> {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--groups", "4242,4243"]).arg(host.runtime.program()).arg("--root").arg(host.root()).args(words);
        host.runtime.spawn_command(command)?.finish()
    };
    let started = call(&["run", "--detach", "--bundle", bundle.dir_text(), bundle.id()])?;
    ensure_eq!(started.code(), Some(0), "{started}");
    let groups = |text: &str| -> Result<Value, Stop> {
        let line = text.lines().next().unwrap_or_default();
        line.parse::<Value>().map(|report| report["groups"].clone()).map_err(|_| Stop::failed(text.to_owned()))
    };
    let mut first = String::new();
    for _ in 0..2000 {
        first = std::fs::read_to_string(&started.stdout_file)?;
        if first.contains('\n') {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let joined = call(&["exec", bundle.id(), "/bin/payload", "report"])?;
    host.runtime.must(&["delete", "--force", bundle.id()])?;
    Ok([groups(&first)?, groups(&joined.stdout)?])
}
