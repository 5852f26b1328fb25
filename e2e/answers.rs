//! The verbs that only answer: spec, --version, --help.

use harness::{Feature, Value, ensure, ensure_eq};

pub(crate) fn trials() -> Feature {
    Feature::new("answers")
        .trial("spec writes a config.json that runs", |host| {
            let bundle = host.bundle()?;
            let mut command = host.runtime.command();
            command.current_dir(bundle.dir()).arg("spec");
            let said = host.runtime.spawn_command(command)?.finish()?;
            ensure!(said.code() == Some(0) && said.stdout.is_empty() && said.stderr.is_empty(), "{said}");
            let config: Value = serde_json::from_slice(&std::fs::read(bundle.dir().join("config.json"))?)?;
            ensure!(config["process"]["args"].is_array() && config["root"]["path"] == "rootfs", "{config}");
            let mut bundle = bundle;
            let id = bundle.id().to_owned();
            bundle.config = config;
            let bundle = bundle
                .edit(|config| {
                    config["process"]["terminal"] = false.into();
                    // This host may lack the right to raise the limit on files.
                    config["process"]["rlimits"] = harness::json!([]);
                    config["linux"]["cgroupsPath"] = format!("/{id}").into();
                })
                .payload(&["report"]);
            ensure_eq!(host.report(&bundle)?["pid"], 1);
            Ok(())
        })
        .trial("spec does not overwrite a config.json", |host| {
            let bundle = host.bundle()?;
            bundle.save()?;
            let before = std::fs::read(bundle.dir().join("config.json"))?;
            let said = host.runtime.call(&["spec", "--bundle", bundle.dir_text()])?;
            ensure!(said.code() != Some(0) && said.stderr.contains("config.json"), "{said}");
            ensure_eq!(std::fs::read(bundle.dir().join("config.json"))?, before);
            Ok(())
        })
        .trial("version names the program and the version of the spec", |host| {
            let text = host.runtime.must(&["--version"])?;
            ensure!(text.starts_with(host.runtime.name()), "{text:?}");
            ensure!(text.lines().any(|line| line.starts_with("spec: 1.")), "{text:?}");
            Ok(())
        })
        .trial("help lists every verb", |host| {
            let text = host.runtime.must(&["--help"])?;
            for verb in ["create", "start", "state", "kill", "delete", "run", "list", "spec", "features"] {
                ensure!(text.contains(verb), "no {verb} in {text}");
            }
            Ok(())
        })
}
