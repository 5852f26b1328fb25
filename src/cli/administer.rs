//! The words of `config` and `route`.

use super::request::{Checkpoints, ConfigAction, Explain};
use super::resolve::{format, id, path};
use clap::ArgMatches;
use std::path::PathBuf;
use wharf_core::{Error, Kind, Result};

pub(super) fn configuration(words: &ArgMatches) -> Result<ConfigAction> {
    let file = words.get_one::<String>("file").map(PathBuf::from);
    let usage = |text: &str| Error::new(Kind::Usage, format!("config: {text}"));
    let action = words.get_one::<String>("action").map_or("", String::as_str);
    if words.contains_id("map") && action != "import" {
        return Err(usage("--map is for import alone"));
    }
    if words.contains_id("format") && action != "show" {
        return Err(usage("--format is for show alone"));
    }
    match (action, file) {
        ("check", file) => Ok(ConfigAction::Check { file }),
        ("show", None) => Ok(ConfigAction::Show { json: json(words), settings: Vec::new() }),
        ("show", Some(_)) => Err(usage("show tells what is in effect, and takes no file").hint("give --config FILE")),
        ("import", Some(file)) => {
            let text = words.get_one::<String>("map");
            let pair = |pair: &str| {
                let (old, new) = pair.split_once('=').filter(|(old, new)| !old.is_empty() && !new.is_empty())?;
                Some((old.to_owned(), new.to_owned()))
            };
            let renamed = text.iter().flat_map(|text| text.split(',')).map(|text| {
                pair(text).ok_or_else(|| usage(&format!("--map {text:?} is no pair of names")).hint("as lxc=native"))
            });
            Ok(ConfigAction::Import { file, renamed: renamed.collect::<Result<_>>()? })
        }
        ("import", None) => Err(usage("import needs a file")),
        (other, _) => Err(usage(&format!("unknown action {other:?}")).hint("check, show or import")),
    }
}

pub(super) fn checkpoints(words: &ArgMatches) -> Result<Checkpoints> {
    let usage = |text: &str| Error::new(Kind::Usage, format!("checkpoints: {text}"));
    let action = words.get_one::<String>("action").map_or("", String::as_str);
    let (apply, format) = (words.get_flag("apply"), format(words));
    let of = || words.contains_id("container-id").then(|| id(words)).transpose();
    let name = words.get_one::<String>("checkpoint").cloned();
    if apply && action != "prune" {
        return Err(usage("--apply is for prune alone"));
    }
    let from = words.get_one::<String>("from").cloned();
    let (output, input) = (path(words, "output"), path(words, "input"));
    if (from.is_some() || output.is_some()) && action != "export" {
        return Err(usage("--from and --output are for export alone"));
    }
    if input.is_some() && action != "import" {
        return Err(usage("--input is for import alone"));
    }
    if action == "import" && words.contains_id("container-id") {
        return Err(usage("import takes the names from the archive"));
    }
    if name.is_some() && matches!(action, "list" | "prune") {
        return Err(usage(&format!("{action} takes no name of a checkpoint")));
    }
    let one = || match (of()?, name.clone()) {
        (Some(id), Some(name)) => Ok((id, name)),
        _ => Err(usage(&format!("{action} needs a container id and the name of a checkpoint"))),
    };
    match action {
        "list" => Ok(Checkpoints::List { id: of()?, format }),
        "prune" => Ok(Checkpoints::Prune { id: of()?, apply, format }),
        "show" => one().map(|(id, name)| Checkpoints::Show { id, name }),
        "export" => one().map(|(id, name)| Checkpoints::Export { id, name, from, output }),
        "import" => Ok(Checkpoints::Import { input }),
        "remove" => one().map(|(id, name)| Checkpoints::Remove { id, name }),
        other => Err(usage(&format!("unknown action {other:?}")).hint("list, show, remove, export, import or prune")),
    }
}

pub(super) fn explain(words: &ArgMatches) -> Result<Explain> {
    let usage = |text: &str| Error::new(Kind::Usage, format!("route: {text}"));
    match words.get_one::<String>("action").map_or("", String::as_str) {
        "explain" => {}
        other => return Err(usage(&format!("unknown action {other:?}")).hint("explain")),
    }
    let id = words.contains_id("container-id").then(|| id(words)).transpose()?;
    let bundle = path(words, "bundle");
    if id.is_none() && bundle.is_none() {
        return Err(usage("explain needs a container id, --bundle, or both"));
    }
    let argv0 = words.get_one::<String>("argv0").cloned();
    Ok(Explain { id, bundle, argv0, json: json(words) })
}

fn json(words: &ArgMatches) -> bool {
    words.get_one::<String>("format").is_some_and(|format| format == "json")
}
