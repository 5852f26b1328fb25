//! Every setting in effect, and where it comes from.

use super::Configuration;
use super::keys::{Form, Key, REMARK, TOP};
use super::located::{Node, Value, place};
use serde::Serialize;
use serde_json::Value as Json;
use std::fmt;

/// One setting.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Setting {
    /// As in the file, with dots between the levels.
    pub(crate) key: String,
    pub(crate) value: Json,
    #[serde(flatten)]
    pub(crate) origin: Origin,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "origin", rename_all = "lowercase")]
pub(crate) enum Origin {
    Default,
    /// The option that was typed.
    Option {
        option: &'static str,
    },
    File {
        file: String,
        line: usize,
        column: usize,
    },
    /// Looked for on this host.
    Found,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::Option { option } => f.write_str(option),
            Origin::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Origin::Found => f.write_str("found on this host"),
        }
    }
}

/// What the file says, leaf by leaf, in the order of the table. Lists are one setting each; of rules each is one.
pub(crate) fn settings(file: &Configuration) -> Vec<Setting> {
    let mut found = Vec::new();
    object(file, TOP, &file.top, "", &mut found);
    found
}

fn object(file: &Configuration, keys: &[Key], node: &Node, above: &str, found: &mut Vec<Setting>) {
    for key in keys {
        let Some(node) = node.get(key.name) else { continue };
        let name = dotted(above, key.name);
        match &key.form {
            Form::Object(keys) => object(file, keys, node, &name, found),
            Form::Map(_) => {
                for entry in node.entries().iter().filter(|entry| entry.key != REMARK) {
                    found.push(setting(file, dotted(&name, &entry.key), &entry.node));
                }
            }
            Form::List(Form::Object(_)) => {
                for (index, item) in node.items().iter().enumerate() {
                    found.push(setting(file, format!("{name}.{}", index + 1), item));
                }
            }
            _ => found.push(setting(file, name, node)),
        }
    }
}

fn dotted(above: &str, key: &str) -> String {
    if above.is_empty() { key.to_owned() } else { format!("{above}.{key}") }
}

fn setting(file: &Configuration, key: String, node: &Node) -> Setting {
    let (line, column) = place(&file.text, node.at);
    let origin = Origin::File { file: file.path.display().to_string(), line, column };
    Setting { key, value: json(node), origin }
}

/// Without remarks.
pub(super) fn json(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Switch(switch) => (*switch).into(),
        Value::Number(number) => (*number).into(),
        Value::Text(text) => text.as_str().into(),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Object(entries) => entries
            .iter()
            .filter(|entry| entry.key != REMARK)
            .map(|entry| (entry.key.clone(), json(&entry.node)))
            .collect(),
    }
}
