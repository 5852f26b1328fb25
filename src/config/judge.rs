//! Judges a configuration by the table of keys: every fault with its place, not only the first.

use super::keys::{Form, Key, REMARK, meant, nearest};
use super::located::{Entry, Node, Value};
use std::path::{Component, Path};

/// Something wrong, and where in the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: usize,
    /// JSON pointer without its first slash.
    pub(super) pointer: String,
    pub(super) why: String,
    pub(super) hint: Option<String>,
}

impl Fault {
    pub(super) fn new(at: usize, pointer: impl Into<String>, why: impl Into<String>) -> Self {
        Fault { at, pointer: pointer.into(), why: why.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Whether the value has the form; patterns and names are only strings here.
pub(super) fn judge(form: &Form, node: &Node, pointer: &str, faults: &mut Vec<Fault>) {
    let mut wrong = |wanted: &str| {
        faults.push(Fault::new(node.at, pointer, format!("{} is needed here, this is {}", wanted, node.kind())));
    };
    match form {
        Form::Text | Form::Pattern => match node.text() {
            None => wrong("a string"),
            Some("") => faults.push(Fault::new(node.at, pointer, "the string is empty")),
            Some(_) => {}
        },
        Form::Path => match node.text() {
            None => wrong("an absolute path"),
            Some(text) => path(text, node, pointer, faults),
        },
        Form::Switch => {
            if !matches!(node.value, Value::Switch(_)) {
                wrong("true or false");
            }
        }
        Form::Number { least, most } => {
            let _ = number(node, *least, *most, pointer, faults);
        }
        Form::Choice(among) => match node.text() {
            None => wrong("a string"),
            Some(text) if among.contains(&text) => {}
            Some(text) => {
                let fault = Fault::new(node.at, pointer, format!("{text:?} is none of {}", among.join(", ")));
                let fault = match nearest(text, among.iter().copied()) {
                    Some(near) => fault.hint(format!("did you mean {near:?}?")),
                    None => fault,
                };
                faults.push(fault);
            }
        },
        Form::Duration => match node.text() {
            None => wrong("a duration, as \"168h\""),
            Some(text) if wharf_core::duration::parse(text).is_some() => {}
            Some(text) => faults.push(Fault::new(node.at, pointer, format!("{text:?} is no duration, as 168h"))),
        },
        Form::Address => match node.text() {
            None => wrong("an IP address"),
            Some(text) if text.parse::<std::net::IpAddr>().is_ok() => {}
            Some(text) => faults.push(Fault::new(node.at, pointer, format!("{text:?} is no IP address"))),
        },
        Form::Range { least, most } => match node.items() {
            [first, last] => {
                let of = |node, faults: &mut Vec<Fault>| number(node, *least, *most, pointer, faults);
                if let (Some(first), Some(last)) = (of(first, faults), of(last, faults))
                    && last < first
                {
                    faults.push(Fault::new(node.at, pointer, "the last number is below the first"));
                }
            }
            _ => wrong("a list of two numbers"),
        },
        Form::Uids => match &node.value {
            Value::Text(_) | Value::Number(Some(_)) => {}
            _ => wrong("a user id or a string as \"1000-1999\""),
        },
        Form::OneOrMore(inner) => {
            if node.items().is_empty() && matches!(node.value, Value::List(_)) {
                faults.push(Fault::new(node.at, pointer, "the list is empty, so nothing could match"));
            }
            for (index, item) in node.one_or_more().iter().enumerate() {
                let inside = match node.value {
                    Value::List(_) => format!("{pointer}/{index}"),
                    _ => pointer.to_owned(),
                };
                judge(inner, item, &inside, faults);
            }
        }
        Form::List(inner) => match &node.value {
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    judge(inner, item, &format!("{pointer}/{index}"), faults);
                }
            }
            _ => wrong("a list"),
        },
        Form::Object(keys) => match &node.value {
            Value::Object(entries) => object(keys, node, entries, pointer, faults),
            _ => wrong("an object"),
        },
        Form::Map(inner) => match &node.value {
            Value::Object(entries) => {
                for entry in unique(entries, pointer, faults) {
                    judge(inner, &entry.node, &below(pointer, &entry.key), faults);
                }
            }
            _ => wrong("an object"),
        },
        Form::PathOr(keys) => match &node.value {
            Value::Text(text) => path(text, node, pointer, faults),
            Value::Object(entries) => object(keys, node, entries, pointer, faults),
            _ => wrong("an absolute path or an object"),
        },
    }
}

fn object(keys: &[Key], node: &Node, entries: &[Entry], pointer: &str, faults: &mut Vec<Fault>) {
    for entry in unique(entries, pointer, faults) {
        let inside = below(pointer, &entry.key);
        match keys.iter().find(|key| key.name == entry.key) {
            Some(key) => judge(&key.form, &entry.node, &inside, faults),
            None => {
                let fault = Fault::new(entry.at, inside, format!("unknown key {:?}", entry.key));
                faults.push(match meant(&entry.key, keys) {
                    Some(key) => fault.hint(format!("did you mean {key:?}?")),
                    None => fault.hint(format!("one of {}", names(keys))),
                });
            }
        }
    }
    for key in keys.iter().filter(|key| key.required && node.get(key.name).is_none()) {
        faults.push(Fault::new(node.at, pointer, format!("{:?} is missing", key.name)).hint(key.about));
    }
}

fn names(keys: &[Key]) -> String {
    keys.iter().map(|key| key.name).collect::<Vec<_>>().join(", ")
}

/// Without the remarks; of a key that stands twice, the first.
fn unique<'n>(entries: &'n [Entry], pointer: &str, faults: &mut Vec<Fault>) -> Vec<&'n Entry> {
    let mut seen: Vec<&Entry> = Vec::new();
    for entry in entries.iter().filter(|entry| entry.key != REMARK) {
        match seen.iter().any(|other| other.key == entry.key) {
            true => faults.push(Fault::new(
                entry.at,
                below(pointer, &entry.key),
                format!("the key {:?} stands here twice", entry.key),
            )),
            false => seen.push(entry),
        }
    }
    seen
}

fn number(node: &Node, least: u64, most: u64, pointer: &str, faults: &mut Vec<Fault>) -> Option<u64> {
    match node.number().filter(|number| (least..=most).contains(number)) {
        Some(number) => Some(number),
        None => {
            faults.push(Fault::new(node.at, pointer, format!("a number from {least} to {most} is needed here")));
            None
        }
    }
}

fn path(text: &str, node: &Node, pointer: &str, faults: &mut Vec<Fault>) {
    let path = Path::new(text);
    if text.contains('\0') {
        faults.push(Fault::new(node.at, pointer, "the path holds a NUL character"));
    } else if !path.is_absolute() {
        faults.push(Fault::new(node.at, pointer, format!("the path {text:?} is not absolute")));
    } else if path.components().any(|part| part == Component::ParentDir) {
        faults.push(Fault::new(node.at, pointer, format!("the path {text:?} has \"..\" in it")));
    }
}

pub(super) fn below(pointer: &str, key: &str) -> String {
    let key = key.replace('~', "~0").replace('/', "~1");
    match pointer.is_empty() {
        true => key,
        false => format!("{pointer}/{key}"),
    }
}
