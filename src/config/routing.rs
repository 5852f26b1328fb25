//! The part of the configuration that chooses a backend: runtimes, rules, and the default.

use super::Configuration;
use super::judge::{Fault, below};
use super::keys::nearest;
use super::located::Node;
use crate::route::{Condition, Later, Name, Pattern, Routing, Rule, Runtime, Subject};

/// What has the wrong form is left out here: it is among the faults already.
pub(super) fn read(file: &Configuration, faults: &mut Vec<Fault>) -> Routing {
    let top = &file.top;
    let mut routing = Routing { source: Some(file.path.display().to_string()), ..Routing::default() };
    routing.pct = file.proxmox().and_then(|proxmox| proxmox.pct());
    routing.qemu = file.vm().and_then(|vm| vm.qemu_path).map(Into::into);
    for entry in remarkless(top.get("runtimes")) {
        let pointer = format!("runtimes/{}", below("", &entry.0));
        if let Name::Native | Name::Lxc | Name::Pct | Name::Vm | Name::Later(_) = Name::of(&entry.0, &[]) {
            faults.push(Fault::new(entry.1, pointer, format!("{:?} is a backend of wharf's own", entry.0)));
            continue;
        }
        if entry.0.starts_with('/') || entry.0.is_empty() {
            faults.push(Fault::new(entry.1, pointer, "the name of a runtime is empty or a path"));
            continue;
        }
        let path = entry.2.get("path").unwrap_or(entry.2);
        let args = entry.2.get("args").map(Node::items).unwrap_or_default();
        routing.runtimes.push(Runtime {
            name: entry.0,
            path: path.text().unwrap_or_default().into(),
            args: args.iter().filter_map(Node::text).map(str::to_owned).collect(),
        });
    }
    let trusted: Vec<&str> =
        top.get("trusted_annotations").map(Node::items).unwrap_or_default().iter().filter_map(Node::text).collect();
    if let Some(node) = top.get("default_backend") {
        routing.default = backend(node, "default_backend", &routing, faults);
    }
    for (index, node) in top.get("routing").map(Node::items).unwrap_or_default().iter().enumerate() {
        let pointer = format!("routing/{index}");
        let rule = rule(file, node, &pointer, &routing, &trusted, faults);
        routing.rules.push(rule);
    }
    routing
}

/// Key, its place, and the value; without remarks.
fn remarkless(node: Option<&Node>) -> impl Iterator<Item = (String, usize, &Node)> {
    let entries = node.map(Node::entries).unwrap_or_default();
    entries
        .iter()
        .filter(|entry| entry.key != super::keys::REMARK)
        .map(|entry| (entry.key.clone(), entry.at, &entry.node))
}

/// A name that leads to a backend.
fn backend(node: &Node, pointer: &str, routing: &Routing, faults: &mut Vec<Fault>) -> Option<String> {
    let text = node.text()?;
    let fault = Fault::new(node.at, pointer, format!("unknown backend {text:?}"));
    match Name::of(text, &routing.runtimes) {
        Name::Native | Name::Lxc | Name::Pct | Name::Vm | Name::Runtime(_) | Name::Known | Name::Path => {
            return Some(text.to_owned());
        }
        Name::Later(Later { what }) => {
            faults.push(Fault { why: format!("the backend {text:?} ({what}) is not in this build of wharf"), ..fault })
        }
        Name::Unknown => {
            let names = routing.names();
            faults.push(match nearest(text, names.iter().map(String::as_str)) {
                Some(near) => fault.hint(format!("did you mean {near:?}?")),
                None => fault.hint(format!("one of {}, or an absolute path", names.join(", "))),
            });
        }
    }
    None
}

fn rule(
    file: &Configuration,
    node: &Node,
    pointer: &str,
    routing: &Routing,
    trusted: &[&str],
    faults: &mut Vec<Fault>,
) -> Rule {
    let mut conditions = Vec::new();
    for (key, _, value) in remarkless(node.get("match")) {
        let inside = format!("{pointer}/match/{}", below("", &key));
        let subject = match key.as_str() {
            "id" => Subject::Id,
            "hostname" => Subject::Hostname,
            "cgroup_parent" => Subject::CgroupParent,
            "bundle" => Subject::Bundle,
            "argv0" => Subject::Argv0,
            "uid" => Subject::Uid,
            "annotations" => {
                for (name, at, value) in remarkless(Some(value)) {
                    let inside = below(&inside, &name);
                    if !trusted.contains(&name.as_str()) {
                        let why = format!("the annotation {name:?} is not among trusted_annotations");
                        let hint = "an image can set annotations under some engines: list it there if it may choose";
                        faults.push(Fault::new(at, &*inside, why).hint(hint));
                    }
                    let patterns = patterns(value, &inside, false, faults);
                    conditions.push(Condition { subject: Subject::Annotation(name), patterns });
                }
                continue;
            }
            // Judged by the table.
            _ => continue,
        };
        let patterns = patterns(value, &inside, subject == Subject::Uid, faults);
        conditions.push(Condition { subject, patterns });
    }
    let required = node.get("required");
    let fallback = node.get("fallback");
    if let (Some(required), Some(_)) = (required, fallback)
        && matches!(required.value, super::located::Value::Switch(true))
    {
        faults.push(Fault::new(required.at, format!("{pointer}/required"), "a required backend has no fallback"));
    }
    if let (Some(required), None) = (required, fallback)
        && matches!(required.value, super::located::Value::Switch(false))
    {
        faults.push(
            Fault::new(required.at, format!("{pointer}/required"), "a backend that is not required needs a fallback")
                .hint("name the fallback, there is none by default"),
        );
    }
    let named = |key: &str, faults: &mut Vec<Fault>| {
        node.get(key).and_then(|node| backend(node, &format!("{pointer}/{key}"), routing, faults))
    };
    Rule {
        name: node.get("name").and_then(Node::text).map(str::to_owned),
        line: file.line(node),
        conditions,
        backend: named("backend", faults).unwrap_or_default(),
        fallback: named("fallback", faults),
        clone: node.get("dataset").and_then(Node::text) == Some("clone"),
    }
}

fn patterns(node: &Node, pointer: &str, uids: bool, faults: &mut Vec<Fault>) -> Vec<Pattern> {
    let mut found = Vec::new();
    for (index, item) in node.one_or_more().iter().enumerate() {
        let pattern = match (uids, item.text(), item.number()) {
            (true, Some(text), _) => Pattern::uids(text),
            (true, None, Some(number)) => Pattern::uids(&number.to_string()),
            (false, Some(text), _) if !text.is_empty() => Pattern::new(text),
            _ => continue,
        };
        match pattern {
            Ok(pattern) => found.push(pattern),
            Err(bad) => {
                let list = matches!(node.value, super::located::Value::List(_));
                let pointer = if list { format!("{pointer}/{index}") } else { pointer.to_owned() };
                let fault = Fault::new(item.at, pointer, bad.why);
                faults.push(match bad.hint {
                    Some(hint) => fault.hint(hint),
                    None => fault,
                });
            }
        }
    }
    found
}
