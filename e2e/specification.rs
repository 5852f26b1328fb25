//! What the public conformance suites assert of the specification and no feature has for its own.

use harness::{Container, Feature, ensure, ensure_eq, json};

pub(crate) fn trials() -> Feature {
    Feature::new("specification")
        .trial("every verb without an id is refused and makes nothing", |host| {
            let bundle = host.bundle()?;
            bundle.save()?;
            for call in [
                vec!["create", "--bundle", bundle.dir_text()],
                vec!["start"],
                vec!["state"],
                vec!["kill"],
                vec!["delete"],
            ] {
                let said = host.runtime.call(&call)?;
                ensure!(said.code() != Some(0), "{said}");
                if host.runtime.name() == "wharf" {
                    ensure!(said.code() == Some(2) && said.stdout.is_empty(), "{said}");
                }
            }
            ensure_eq!(host.runtime.must(&["list", "--quiet"])?, "");
            Ok(())
        })
        .trial("delete of a created container is refused and leaves it to be started", |host| {
            host.except("runc", "deletes it")?;
            host.except("crun", "deletes it")?;
            let container = host.create(&host.bundle()?.payload(&["say", "here"]))?;
            let said = container.call("delete", &[])?;
            ensure!(said.code() != Some(0) && said.stderr.contains("created"), "{said}");
            ensure_eq!(container.status()?, "created");
            container.start()?;
            ensure_eq!(container.lines(1)?[0]["said"], json!(["here"]));
            container.wait_for_status("stopped")?;
            container.delete()
        })
        .trial("start of a stopped container is refused and runs nothing again", |host| {
            let bundle = host.bundle()?.file("/var/runs", "")?.payload(&["append", "/var/runs", "once"]);
            let container = host.start(&bundle)?;
            container.wait_for_status("stopped")?;
            ensure!(container.call("start", &[])?.code() != Some(0), "a stopped container was started");
            ensure_eq!(container.status()?, "stopped");
            ensure_eq!(std::fs::read_to_string(bundle.rootfs().join("var/runs"))?.trim(), "once");
            container.delete()
        })
        .trial("kill of a stopped container leaves it stopped", |host| {
            let container = host.start(&host.bundle()?.payload(&["nothing"]))?;
            container.wait_for_status("stopped")?;
            ensure!(container.call("kill", &[])?.code() != Some(0), "a stopped container was killed");
            ensure_eq!(container.status()?, "stopped");
            container.delete()
        })
        .trial("delete of a running container is refused and leaves it running", |host| {
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            let pid = container.pid()?;
            ensure!(container.call("delete", &[])?.code() != Some(0), "a running container was deleted");
            ensure_eq!((container.status()?.as_str(), container.pid()?), ("running", pid));
            container.delete_force()
        })
        .trial("properties that nobody knows are passed over, at every level", |host| {
            let mut bundle = host.bundle()?.payload(&["say", "here"]);
            for at in ["/unknown", "/process/unknown", "/root/unknown", "/linux/unknown", "/mounts/0/unknown"] {
                bundle = bundle.set(at, json!({"of": ["no", "meaning", 1]}));
            }
            let [said] = host.lines(&bundle)?;
            ensure_eq!(said["said"], json!(["here"]));
            Ok(())
        })
        .trial("an annotation that nobody knows, and one without a value, are no fault", |host| {
            let bundle = host
                .bundle()?
                .set("/annotations", json!({"org.example.unheard-of": "x", "org.example.empty": ""}))
                .payload(&["sleep"]);
            let container = host.create(&bundle)?;
            ensure_eq!(container.state()?["annotations"]["org.example.empty"], "");
            container.delete_force()
        })
        .trial("a version of the specification that is younger within 1 is taken", |host| {
            host.except("crun", "1.8 knows 1.0 only")?;
            for version in ["1.0.0", "1.0.2-dev", "1.1.0", "1.2.1", "1.3.0"] {
                let bundle = host.bundle()?.set("/ociVersion", json!(version)).payload(&["say", "here"]);
                let [said] = host.lines(&bundle)?;
                ensure_eq!(said["said"], json!(["here"]), "version {version}");
            }
            Ok(())
        })
        .trial("a mask, and a read-only path, below another one do no harm", |host| {
            let bundle = host
                .bundle()?
                .file("/var/outer/inner/secret", "do not read")?
                .file("/var/kept/inner/file", "do not write")?
                .set("/linux/maskedPaths", json!(["/var/outer", "/var/outer/inner", "/var/outer/inner/secret"]))
                .set("/linux/readonlyPaths", json!(["/var/kept", "/var/kept/inner", "/var/kept/inner/file"]))
                .payload(&["list", "/var/outer", ";", "append", "/var/kept/inner/file", "x"]);
            let [list, append] = host.lines(&bundle)?;
            ensure_eq!(list["names"], json!([]));
            ensure_eq!(append.errno(), "EROFS");
            Ok(())
        })
        .trial("a mask that is a link masks what it leads to", |host| {
            let bundle = host
                .bundle()?
                .file("/etc/secret", "do not read")?
                .symlink("../etc/secret", "/var/link")?
                .set("/linux/maskedPaths", json!(["/var/link"]))
                .payload(&["read", "/etc/secret", ";", "read", "/var/link"]);
            let [secret, link] = host.lines(&bundle)?;
            ensure_eq!((&secret["text"], &link["text"]), (&json!(""), &json!("")));
            Ok(())
        })
        .trial("a group that is named twice is no fault", |host| {
            let bundle =
                host.bundle()?.set("/process/user/additionalGids", json!([102, 183, 102])).payload(&["report"]);
            let mut seen: Vec<u64> = host.report(&bundle)?["groups"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|gid| gid.as_u64())
                .collect();
            seen.sort();
            seen.dedup();
            ensure_eq!(seen, [102, 183]);
            Ok(())
        })
        .trial("with --no-pivot the payload sees the bundle's root and nothing beyond", |host| {
            let bundle = host.bundle()?.file("/etc/mark", "inside")?.payload(&[
                "read",
                "/etc/mark",
                ";",
                "list",
                "/",
                ";",
                "read",
                "/../../../../etc/mark",
            ]);
            let container = Container::create(host, &bundle, &["--no-pivot"])?;
            container.start()?;
            let lines = container.lines(3)?;
            ensure_eq!((&lines[0]["text"], &lines[2]["text"]), (&json!("inside"), &json!("inside")));
            let names = lines[1].list("/names");
            ensure!(!names.contains(&"boot") && names.contains(&"proc"), "the root shows {names:?}");
            container.wait_for_status("stopped")?;
            container.delete()
        })
}
