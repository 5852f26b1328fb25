//! Converts a configuration written for nexcage, and says what could not be carried over and why.

use super::keys::{Form, Key, TOP};
use super::located::{Node, parse, place};
use super::show::json;
use super::{Configuration, judge};
use serde_json::{Map, Value as Json, json};
use std::path::Path;
use wharf_core::{Error, Result};

/// What became of a file.
#[derive(Debug)]
pub(crate) struct Imported {
    pub(crate) configuration: Json,
    /// One sentence for each key that was not carried over, or not as it was.
    pub(crate) notes: Vec<String>,
}

/// Keys with the same meaning there and here.
const SAME: &[(&str, &str)] = &[
    ("runtime.root_path", "root"),
    ("runtime.log_path", "log.file"),
    ("proxmox.pct_path", "proxmox.pct_path"),
    ("proxmox.qm_path", "proxmox.qm_path"),
    ("proxmox.node", "proxmox.node"),
    ("proxmox.storage", "proxmox.storage"),
    ("proxmox.timeout", "proxmox.timeout"),
    ("proxmox.unprivileged", "proxmox.unprivileged"),
    ("storage.zfs_dataset", "storage.zfs_dataset"),
    ("network.bridge", "network.bridge"),
    ("network.dns_servers", "network.dns"),
];

/// Keys without a place here, and why.
const LEFT: &[(&str, &str)] = &[
    ("proxmox.legacy_api", "Proxmox is reached by its own tools on the node, not by its web interface"),
    ("runtime.terminal", "each bundle says it itself, in process.terminal"),
    ("storage.image_path", "images are kept by the engine"),
    ("network.ip", "the engine or Proxmox gives addresses"),
    ("network.gateway", "the engine or Proxmox gives routes"),
    ("security", "each bundle says it itself, in process and linux"),
    ("resources", "each bundle says it itself, in linux.resources"),
    ("data_dir", "there is only root"),
    ("cache_dir", "nothing is cached"),
    ("temp_dir", "nothing is kept outside of root"),
];

/// Where there is a choice of backends, by the older name first.
const RULES: &[&str] = &["container_config.routing", "runtime.routing"];
const DEFAULTS: &[&str] = &[
    "container_config.default_runtime",
    "container_config.default_container_type",
    "runtime.default_runtime",
    "default_runtime",
    "runtime_type",
];
const NAME_PATTERNS: &str = "container_config.crun_name_patterns";
const LEVEL: &str = "runtime.log_level";

/// `renamed`: backends that shall be called otherwise, as `("lxc", "native")`.
pub(crate) fn import(path: &Path, text: &str, renamed: &[(String, String)]) -> Result<Imported> {
    let top = parse(text).map_err(|malformed| {
        Error::invalid(super::at(path, malformed.line, malformed.column)).because(malformed.why)
    })?;
    if top.entries().is_empty() {
        return Err(Error::invalid(format!("configuration {}", path.display())).because("it says nothing"));
    }
    let mut work = Work { text, renamed, out: Json::Object(Map::new()), notes: Vec::new() };
    work.same(&top);
    work.level(&top);
    work.rules(&top);
    work.default(&top);
    work.left(&top, "");
    work.confirm();
    Ok(Imported { configuration: work.out, notes: work.notes })
}

struct Work<'a> {
    text: &'a str,
    renamed: &'a [(String, String)],
    out: Json,
    notes: Vec<String>,
}

fn find<'n>(top: &'n Node, path: &str) -> Option<&'n Node> {
    path.split('.').try_fold(top, |node, key| node.get(key))
}

/// The form that a key of ours has.
fn form(path: &str) -> Option<&'static Form> {
    let mut keys: &'static [Key] = TOP;
    let mut found = None;
    for part in path.split('.') {
        let form = &keys.iter().find(|key| key.name == part)?.form;
        if let Form::Object(inner) = form {
            keys = inner;
        }
        found = Some(form);
    }
    found
}

impl Work<'_> {
    fn note(&mut self, key: &str, node: &Node, why: &str) {
        self.notes.push(format!("{key} (line {}): {why}", place(self.text, node.at).0));
    }

    fn put(&mut self, path: &str, value: Json) {
        let mut node = &mut self.out;
        for part in path.split('.') {
            if !node.is_object() {
                *node = Json::Object(Map::new());
            }
            node = &mut node[part];
        }
        *node = value;
    }

    fn same(&mut self, top: &Node) {
        for (theirs, ours) in SAME {
            let Some(node) = find(top, theirs) else { continue };
            let mut faults = Vec::new();
            if let Some(form) = form(ours) {
                judge::judge(form, node, "", &mut faults);
            }
            match faults.first() {
                Some(fault) => self.note(theirs, node, &format!("not carried over: {}", fault.why)),
                None => self.put(ours, json(node)),
            }
        }
    }

    fn level(&mut self, top: &Node) {
        let Some(node) = find(top, LEVEL) else { return };
        let word = node.text().unwrap_or_default();
        match word.to_ascii_lowercase().as_str() {
            "error" | "fatal" | "critical" | "err" => self.put("log.level", "error".into()),
            "warn" | "warning" => self.put("log.level", "warn".into()),
            "info" => self.put("log.level", "info".into()),
            "debug" | "trace" => self.put("log.level", "debug".into()),
            _ => self.note(LEVEL, node, "not carried over: it is no level"),
        }
    }

    /// The backend's name here.
    fn backend(&mut self, key: &str, node: &Node) -> String {
        let word = node.text().unwrap_or_default();
        if let Some((_, new)) = self.renamed.iter().find(|(old, _)| old == word) {
            let why = format!("the backend {word:?} is called {new:?}, as asked for");
            self.note(key, node, &why);
            return new.clone();
        }
        match word {
            "proxmox-lxc" | "proxmox_lxc" => "lxc".to_owned(),
            "proxmox-vm" | "proxmox_vm" => "vm".to_owned(),
            other => other.to_owned(),
        }
    }

    fn rules(&mut self, top: &Node) {
        let lists: Vec<(&str, &Node)> =
            RULES.iter().filter_map(|key| find(top, key).map(|node| (*key, node))).collect();
        let mut rules = Vec::new();
        if let Some((key, node)) = lists.first() {
            for (index, item) in node.items().iter().enumerate() {
                let key = format!("{key}/{index}");
                let (Some(pattern), Some(runtime)) = (item.get("pattern"), item.get("runtime")) else {
                    self.note(&key, item, "not carried over: pattern or runtime is missing");
                    continue;
                };
                let id = self.pattern(&key, pattern);
                rules.push(json!({ "match": { "id": id }, "backend": self.backend(&key, runtime) }));
            }
        }
        if let Some((key, node)) = lists.get(1) {
            let why = format!("not carried over: there {} is read instead when both are present", lists[0].0);
            self.note(key, node, &why);
        }
        if let Some(node) = find(top, NAME_PATTERNS) {
            let patterns: Vec<String> =
                node.one_or_more().iter().map(|item| self.pattern(NAME_PATTERNS, item)).collect();
            if !patterns.is_empty() {
                rules.push(json!({ "match": { "id": patterns }, "backend": "crun" }));
                let all = rules.iter().position(|rule| matches!(rule["match"]["id"].as_str(), Some("*" | "re:.*")));
                if let Some(all) = all {
                    let why =
                        format!("carried over as the last rule, which none reaches: rule {} matches all", all + 1);
                    self.note(NAME_PATTERNS, node, &why);
                }
            }
        }
        if !rules.is_empty() {
            self.put("routing", rules.into());
        }
    }

    /// There, a pattern was a regular expression only with `^` or `$` at an end, so that `.*` matched nothing.
    fn pattern(&mut self, key: &str, node: &Node) -> String {
        let text = node.text().unwrap_or_default();
        let inner = text.strip_prefix('^').unwrap_or(text);
        let inner = if inner.ends_with("\\$") { inner } else { inner.strip_suffix('$').unwrap_or(inner) };
        if inner.len() != text.len() {
            return format!("re:{inner}");
        }
        if [".*", ".+", "|", "(", "\\"].iter().any(|sign| text.contains(sign)) {
            let why = format!("{text:?} was taken for a glob there and is a regular expression here, as was meant");
            self.note(key, node, &why);
            return format!("re:{text}");
        }
        text.to_owned()
    }

    fn default(&mut self, top: &Node) {
        let mut found = DEFAULTS.iter().filter_map(|key| find(top, key).map(|node| (*key, node)));
        if let Some((key, node)) = found.next() {
            let name = self.backend(key, node);
            self.put("default_backend", name.into());
        }
        for (key, node) in found {
            self.note(key, node, "not carried over: another key says the default already");
        }
    }

    /// Notes everything that nobody above has taken.
    fn left(&mut self, node: &Node, above: &str) {
        for entry in node.entries() {
            let key = if above.is_empty() { entry.key.clone() } else { format!("{above}.{}", entry.key) };
            let taken =
                SAME.iter().map(|(theirs, _)| *theirs).chain(RULES.iter().copied()).chain(DEFAULTS.iter().copied());
            let mut taken = taken.chain([NAME_PATTERNS, LEVEL]);
            let inside = format!("{key}.");
            if let Some((_, why)) = LEFT.iter().find(|(left, _)| *left == key) {
                self.note(&key, &entry.node, &format!("not carried over: {why}"));
            } else if taken.any(|theirs| theirs == key) {
            } else if !entry.node.entries().is_empty()
                && SAME
                    .iter()
                    .map(|(theirs, _)| *theirs)
                    .chain([NAME_PATTERNS])
                    .any(|theirs| theirs.starts_with(&inside))
            {
                self.left(&entry.node, &key);
            } else {
                self.note(&key, &entry.node, "not carried over: the key is not known");
            }
        }
    }

    /// The result is judged as any configuration.
    fn confirm(&mut self) {
        let text = serde_json::to_string(&self.out).unwrap_or_default();
        if let Ok(file) = Configuration::parse(Path::new("the result"), text) {
            for fault in file.judge().1 {
                let hint = fault.hint.map_or(String::new(), |hint| format!(" ({hint})"));
                self.notes.push(format!("to be mended in the result: {}: {}{hint}", fault.pointer, fault.why));
            }
        }
    }
}
