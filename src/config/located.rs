//! JSON with the place of every key and value in its text. serde_json judges the syntax.

use serde::Deserializer;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// Deeper than any configuration, and no danger to the stack.
const DEEPEST: u32 = 16;

/// A value and where it begins, in bytes from the beginning of the text.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: usize,
    pub(crate) value: Value,
}

#[derive(Debug)]
pub(crate) enum Value {
    Null,
    Switch(bool),
    /// None: negative, broken or beyond 64 bits.
    Number(Option<u64>),
    Text(String),
    List(Vec<Node>),
    Object(Vec<Entry>),
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// Where the key begins.
    pub(crate) at: usize,
    pub(crate) node: Node,
}

/// What is no JSON, and where: line and column from 1.
#[derive(Debug)]
pub(crate) struct Malformed {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) why: String,
}

impl Node {
    /// The value of a key; none where this is no object or has no such key.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Object(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// A list's items, or the one value itself.
    pub(crate) fn one_or_more(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => std::slice::from_ref(self),
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn number(&self) -> Option<u64> {
        match self.value {
            Value::Number(number) => number,
            _ => None,
        }
    }

    pub(crate) fn switch(&self) -> Option<bool> {
        match self.value {
            Value::Switch(on) => Some(on),
            _ => None,
        }
    }

    /// What kind of value this is, for a message.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Switch(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Object(_) => "an object",
        }
    }
}

/// Line and column, from 1, of an offset; columns count characters.
pub(crate) fn place(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let begin = before.rfind('\n').map_or(0, |end| end + 1);
    (line, before[begin..].chars().count() + 1)
}

/// The whole text as one value.
pub(crate) fn parse(text: &str) -> Result<Node, Malformed> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| malformed(&error, text, 0))?;
    node(text, raw, DEEPEST)
}

/// serde_json tells places from the beginning of what it was given.
fn malformed(error: &serde_json::Error, text: &str, at: usize) -> Malformed {
    let (mut line, mut column) = (error.line(), error.column());
    if at > 0 {
        let (begin, before) = place(text, at);
        column += if line <= 1 { before - 1 } else { 0 };
        line = begin + line.max(1) - 1;
    }
    let said = error.to_string();
    Malformed { line, column: column.max(1), why: said.split(" at line ").next().unwrap_or(&said).to_owned() }
}

fn node(text: &str, raw: &RawValue, depth: u32) -> Result<Node, Malformed> {
    // Both are parts of `text`.
    let at = raw.get().as_ptr() as usize - text.as_ptr() as usize;
    let failed = |error: serde_json::Error| malformed(&error, text, at);
    let Some(depth) = depth.checked_sub(1) else {
        let (line, column) = place(text, at);
        return Err(Malformed { line, column, why: "is nested too deeply".to_owned() });
    };
    let mut json = serde_json::Deserializer::from_str(raw.get());
    let value = match raw.get().as_bytes().first() {
        Some(b'{') => {
            let pairs = json.deserialize_map(Pairs).map_err(failed)?;
            let entry = |(key, value): (&RawValue, &RawValue)| {
                Ok(Entry {
                    at: key.get().as_ptr() as usize - text.as_ptr() as usize,
                    key: serde_json::from_str(key.get()).map_err(failed)?,
                    node: node(text, value, depth)?,
                })
            };
            Value::Object(pairs.into_iter().map(entry).collect::<Result<_, _>>()?)
        }
        Some(b'[') => {
            let items = json.deserialize_seq(Items).map_err(failed)?;
            Value::List(items.into_iter().map(|item| node(text, item, depth)).collect::<Result<_, _>>()?)
        }
        Some(b'"') => Value::Text(serde_json::from_str(raw.get()).map_err(failed)?),
        Some(b't') => Value::Switch(true),
        Some(b'f') => Value::Switch(false),
        Some(b'n') => Value::Null,
        _ => Value::Number(raw.get().parse().ok()),
    };
    Ok(Node { at, value })
}

struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Vec<(&'de RawValue, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(pairs)
    }
}

struct Items;

impl<'de> Visitor<'de> for Items {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_and_value_knows_its_place() {
        let text = "{\n  \"a\": [1, \"zwölf\",\n    {\"b\\u0063\": true}],\n  \"d\": null }";
        let top = parse(text).unwrap();
        let list = top.get("a").unwrap();
        let places: Vec<_> = list.items().iter().map(|item| place(text, item.at)).collect();
        assert_eq!(places, [(2, 9), (2, 12), (3, 5)]);
        assert_eq!((list.items()[0].number(), list.items()[1].text()), (Some(1), Some("zwölf")));
        let inner = &list.items()[2].entries()[0];
        assert_eq!((inner.key.as_str(), place(text, inner.at), place(text, inner.node.at)), ("bc", (3, 6), (3, 17)));
        assert_eq!(place(text, top.entries()[1].at), (4, 3));
    }

    #[test]
    fn what_is_no_json_is_told_with_its_place() {
        for (text, line, column) in
            [("{\n \"a\": 1,\n}", 3, 1), ("", 1, 1), ("{} x", 1, 4), ("{\n\n  \"a\": [1, \"\\ud800\"]}", 3, 19)]
        {
            let error = parse(text).unwrap_err();
            assert_eq!((error.line, error.column), (line, column), "{text}: {}", error.why);
        }
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!(parse(&deep).unwrap_err().why.contains("nested too deeply"));
    }

    #[test]
    fn a_number_that_is_none_of_ours_is_no_number() {
        for text in ["-1", "1.5", "1e3", "99999999999999999999"] {
            assert_eq!(parse(text).unwrap().number(), None, "{text}");
        }
    }
}
