//! The set-up lines of the documents: containerd reads them, and tells them back.

use crate::engines::common::{installed, said};
use harness::{Feature, Host, Outcome, Stop, ensure};
use std::process::Command;

const PAGE: &str = include_str!("../../../docs/engines.md");

pub(super) fn trials(feature: Feature) -> Feature {
    feature.trial("the lines of docs/engines.md make a runtime handler", dump)
}

pub(super) fn lines() -> Result<&'static str, Stop> {
    let section = PAGE.split("\n## ").find(|section| section.starts_with("containerd\n"));
    let lines = section.and_then(|section| section.split("```toml\n").nth(1)?.split("```").next());
    lines.ok_or_else(|| Stop::failed("docs/engines.md has no lines for containerd"))
}

fn dump(host: &Host) -> Outcome {
    let file = host.dir().join("config.toml");
    std::fs::write(&file, lines()?)?;
    let mut command = Command::new(installed("containerd")?);
    command.arg("--config").arg(&file).args(["config", "dump"]);
    let told = said(host.program(command)?.finish()?)?;
    let handler = told.split("containerd.runtimes.wharf.options]").nth(1).unwrap_or_default();
    let handler = handler.split("\n\n").next().unwrap_or_default();
    for line in ["BinaryName = \"/usr/local/bin/wharf\"", "SystemdCgroup = false"] {
        ensure!(handler.contains(line), "no {line} in {handler:?}");
    }
    Ok(())
}
