//! Every property that the JSON schema of runtime-spec defines, by following its references.

use harness::Value;
use std::collections::BTreeMap;

/// The files of `e2e/schema`, by the names that they call each other.
const FILES: [(&str, &str); 13] = [
    ("config-schema.json", include_str!("../schema/config-schema.json")),
    ("config-linux.json", include_str!("../schema/config-linux.json")),
    ("config-freebsd.json", include_str!("../schema/config-freebsd.json")),
    ("config-solaris.json", include_str!("../schema/config-solaris.json")),
    ("config-vm.json", include_str!("../schema/config-vm.json")),
    ("config-windows.json", include_str!("../schema/config-windows.json")),
    ("config-zos.json", include_str!("../schema/config-zos.json")),
    ("defs.json", include_str!("../schema/defs.json")),
    ("defs-linux.json", include_str!("../schema/defs-linux.json")),
    ("defs-freebsd.json", include_str!("../schema/defs-freebsd.json")),
    ("defs-vm.json", include_str!("../schema/defs-vm.json")),
    ("defs-windows.json", include_str!("../schema/defs-windows.json")),
    ("defs-zos.json", include_str!("../schema/defs-zos.json")),
];

/// The paths of all properties that have a value of their own, in the order of the schema: `*` for a key of a map or an
/// index of a list of objects. A list of plain values is one property.
pub(super) fn properties() -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for property in Walk::whole().found {
        if !found.contains(&property) {
            found.push(property);
        }
    }
    found
}

/// The properties that have one of a list of words for a value, and the words. A path that ends with `*` is a list of
/// such words.
pub(super) fn enumerations() -> Vec<(String, Vec<String>)> {
    Walk::whole().enumerations
}

struct Walk {
    files: BTreeMap<&'static str, Value>,
    found: Vec<String>,
    enumerations: Vec<(String, Vec<String>)>,
}

impl Walk {
    fn whole() -> Self {
        let files = FILES.iter().map(|(name, text)| (*name, serde_json::from_str(text).expect("a file of JSON")));
        let mut walk = Walk { files: files.collect(), found: Vec::new(), enumerations: Vec::new() };
        let top = walk.files["config-schema.json"].clone();
        walk.node(&top, "config-schema.json", "");
        walk
    }

    /// Whether the node holds properties of its own; it is one itself if not.
    fn node(&mut self, node: &Value, file: &str, path: &str) -> bool {
        if let Some(reference) = node["$ref"].as_str() {
            let (other, pointer) = reference.split_once('#').expect("a reference with a fragment");
            let file = if other.is_empty() { file } else { other };
            // One file leaves out the first slash.
            let target = self.files[file].pointer(&format!("/{}", pointer.trim_start_matches('/')));
            let target = target.unwrap_or_else(|| panic!("{reference} leads nowhere")).clone();
            return self.node(&target, file, path);
        }
        let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}/{key}") };
        let mut holds = false;
        for parts in ["allOf", "anyOf"] {
            for part in node[parts].as_array().into_iter().flatten() {
                let known = self.found.len();
                if self.node(part, file, path) {
                    holds = true;
                } else {
                    self.found.truncate(known);
                }
            }
        }
        if let Some(properties) = node["properties"].as_object() {
            for (key, value) in properties {
                self.node(value, file, &below(key));
            }
            return true;
        }
        let items = if node["items"].is_array() { &node["items"][0] } else { &node["items"] };
        for (inner, always) in [(items, false), (&node["additionalProperties"], true)] {
            if inner.is_object() {
                let known = self.found.len();
                if self.node(inner, file, &below("*")) || always {
                    return true;
                }
                self.found.truncate(known);
            }
        }
        if let Some(patterns) = node["patternProperties"].as_object() {
            for value in patterns.values() {
                self.node(value, file, &below("*"));
            }
            return true;
        }
        if let Some(words) = node["enum"].as_array() {
            let words = words.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            self.enumerations.push((path.to_owned(), words));
        }
        if !holds {
            self.found.push(path.to_owned());
        }
        holds
    }
}
