//! A config.json of which parts are cut out, and the way back from a place in what is left to the place in the original.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use wharf_core::Remark;

/// Keys and indices from the top, not escaped.
pub(super) type Path = Vec<String>;

/// A JSON pointer (RFC 6901) without its first slash.
pub(super) fn show(path: &[String]) -> String {
    let parts: Vec<String> = path.iter().map(|part| part.replace('~', "~0").replace('/', "~1")).collect();
    parts.join("/")
}

fn parse(pointer: &str) -> Path {
    pointer.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect()
}

/// The original and what is cut out of it.
pub(super) struct Cuts<'a> {
    config: &'a Value,
    /// Effective ids of the caller, whom a map can name.
    ids: (u32, u32),
    /// Places in the original; with what stands there instead, where a bundle must have something.
    cuts: BTreeMap<Path, Option<Value>>,
}

impl<'a> Cuts<'a> {
    pub(super) fn new(config: &'a Value, ids: (u32, u32)) -> Self {
        Cuts { config, ids, cuts: BTreeMap::new() }
    }

    /// What is left.
    pub(super) fn apply(&self) -> Value {
        self.copy(self.config, &mut Vec::new()).unwrap_or_default()
    }

    fn copy(&self, value: &Value, path: &mut Path) -> Option<Value> {
        if let Some(instead) = self.cuts.get(path) {
            return instead.clone();
        }
        let mut each = |key: String, value: &Value| {
            path.push(key);
            let copy = self.copy(value, path);
            path.pop();
            copy
        };
        let mut copy = match value {
            Value::Object(map) => {
                let left = map.iter().filter_map(|(key, value)| Some((key.clone(), each(key.clone(), value)?)));
                Value::Object(left.collect::<Map<String, Value>>())
            }
            Value::Array(items) => {
                let left = items.iter().enumerate().filter_map(|(index, value)| each(index.to_string(), value));
                Value::Array(left.collect())
            }
            other => other.clone(),
        };
        // What had to be there and was not.
        for (place, instead) in &self.cuts {
            if let (Some([key]), Some(instead)) = (place.strip_prefix(path.as_slice()), instead)
                && let Value::Object(map) = &mut copy
            {
                map.entry(key.clone()).or_insert_with(|| instead.clone());
            }
        }
        Some(copy)
    }

    /// The place in the original of a pointer into what is left. A missing property is placed where it would be.
    pub(super) fn place(&self, pointer: &str) -> Path {
        let mut path = Path::new();
        let mut value = Some(self.config);
        for part in parse(pointer) {
            let part = match (value, part.parse::<usize>()) {
                (Some(Value::Array(items)), Ok(index)) => {
                    let mut left = (0..items.len()).filter(|index| {
                        path.push(index.to_string());
                        let is_left = !matches!(self.cuts.get(&path), Some(None));
                        path.pop();
                        is_left
                    });
                    left.nth(index).unwrap_or(items.len() + index).to_string()
                }
                _ => part,
            };
            value = match value {
                Some(Value::Object(map)) => map.get(&part),
                Some(Value::Array(items)) => part.parse().ok().and_then(|index: usize| items.get(index)),
                _ => None,
            };
            path.push(part);
        }
        path
    }

    /// The same remark about the original.
    pub(super) fn original(&self, remark: Remark) -> Remark {
        Remark { pointer: show(&self.place(&remark.pointer)), ..remark }
    }

    /// Whether something was cut out at this place, below it or above it.
    pub(super) fn is_of_our_making(&self, at: &[String]) -> bool {
        self.cuts.keys().any(|cut| cut.starts_with(at) || at.starts_with(cut))
    }

    /// Cuts the place out, or what holds it where it is out already. False where nothing more can be.
    pub(super) fn cut(&mut self, at: &[String]) -> bool {
        let mut path = at;
        loop {
            let instead = needed(&show(path), self.ids);
            let is_there = lookup(self.config, path).is_some();
            if !self.cuts.contains_key(path) && (is_there || instead.is_some()) {
                // What holds it stands for it now.
                self.cuts.retain(|cut, _| !cut.starts_with(path));
                self.cuts.insert(path.to_vec(), instead);
                return true;
            }
            match path {
                [above @ .., _] if above.len() > 1 || needed(&show(above), self.ids).is_some() => path = above,
                // A whole section cut out would raise errors of its own.
                _ => return false,
            }
        }
    }
}

fn lookup<'v>(mut value: &'v Value, path: &[String]) -> Option<&'v Value> {
    for part in path {
        value = match value {
            Value::Object(map) => map.get(part)?,
            Value::Array(items) => items.get(part.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(value)
}

/// What a bundle cannot be without: the least that every backend takes.
fn needed(pointer: &str, (uid, gid): (u32, u32)) -> Option<Value> {
    Some(match pointer {
        "process" => json!({ "cwd": "/", "args": ["/"], "user": { "uid": 0, "gid": 0 } }),
        "process/args" => json!(["/"]),
        "process/cwd" => json!("/"),
        "process/user" => json!({ "uid": 0, "gid": 0 }),
        "root" => json!({ "path": "/" }),
        "root/path" => json!("/"),
        "linux/uidMappings" => json!([{ "containerID": 0, "hostID": uid, "size": 1 }]),
        "linux/gidMappings" => json!([{ "containerID": 0, "hostID": gid, "size": 1 }]),
        _ => return None,
    })
}
