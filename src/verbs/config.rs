//! `config`: checks the configuration, shows what is in effect, converts one of nexcage.

use crate::cli::{ConfigAction, Request};
use crate::config::{self, Configuration, Origin, Setting};
use crate::report;
use crate::route::Place;
use std::path::Path;
use wharf_core::{Error, Kind, Result};

pub(super) fn config(request: &Request, action: &ConfigAction) -> Result<()> {
    match action {
        ConfigAction::Check { file: Some(path) } => check(&Configuration::open(path)?),
        ConfigAction::Check { file: None } => match &request.configuration {
            Some(file) => check(file),
            None => report::print(&format!("{} does not exist: every container is native\n", config::DEFAULT)),
        },
        ConfigAction::Show { json, settings } => show(request, settings, *json),
        ConfigAction::Import { file, renamed } => import(file, renamed),
    }
}

/// Faults end it with an error; what is only not usable on this host is told.
fn check(file: &Configuration) -> Result<()> {
    let shown = file.path.display();
    let faults = file.faults();
    match faults.as_slice() {
        [] => {}
        [_] => return Err(file.routing().err().unwrap_or_else(|| Error::invalid("check the configuration"))),
        several => {
            report::print(&several.iter().map(|fault| format!("{fault}\n")).collect::<String>())?;
            return Err(Error::invalid(format!("configuration {shown}")).because(format!("{} faults", several.len())));
        }
    }
    let routing = file.routing()?;
    let mut text = String::new();
    for note in routing.doubts().into_iter().chain(file.unused()) {
        text.push_str(&format!("{shown}: note: {note}\n"));
    }
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let (rules, runtimes) = (count(routing.rules.len(), "rule"), count(routing.runtimes.len(), "runtime"));
    report::print(&format!("{text}{shown}: good: {rules}, {runtimes}\n"))
}

fn show(request: &Request, effective: &[Setting], json: bool) -> Result<()> {
    let mut settings: Vec<Setting> = effective.to_vec();
    if let Some(file) = &request.configuration {
        file.routing()?;
        for said in file.settings() {
            match settings.iter_mut().find(|setting| setting.key == said.key) {
                // What was typed wins.
                Some(setting) if matches!(setting.origin, Origin::Option { .. }) => {}
                Some(setting) => *setting = said,
                None => settings.push(said),
            }
        }
    }
    let routing = super::facts::routing(request)?;
    for name in routing.names() {
        let key = format!("runtimes.{name}");
        if settings.iter().any(|setting| setting.key == key) {
            continue;
        }
        if let Ok(Place::Delegate { path, .. }) = routing.place(&name) {
            settings.push(Setting { key, value: path.to_string_lossy().into(), origin: Origin::Found });
        }
    }
    if json {
        return report::print(&report::json(&settings)?);
    }
    let lines: Vec<[String; 3]> = settings
        .iter()
        .map(|setting| {
            let value = match &setting.value {
                serde_json::Value::String(text) => text.clone(),
                serde_json::Value::Null => "-".to_owned(),
                other => other.to_string(),
            };
            [setting.key.clone(), setting.origin.to_string(), value]
        })
        .collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0) + 3;
    let (first, second) = (width(0), width(1));
    let text = lines.iter().map(|[key, origin, value]| format!("{key:first$}{origin:second$}{value}\n"));
    report::print(&text.collect::<String>())
}

fn import(path: &Path, renamed: &[(String, String)]) -> Result<()> {
    let doing = format!("read {}", path.display());
    let text = String::from_utf8(wharf_core::read_file(&doing, path)?)
        .map_err(|_| Error::new(Kind::Invalid, doing).because("is not UTF-8"))?;
    let imported = config::import(path, &text, renamed)?;
    report::print(&report::json(&imported.configuration)?)?;
    report::remark(&imported.notes)
}
