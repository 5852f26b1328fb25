//! Typed values in the text form of GVariant, as annotations hold them: `uint64 100`, `'text'`, `['a', 'b']`, `@au []`.
//!
//! Of <https://docs.gtk.org/glib/gvariant-text-format.html>: numbers, booleans, texts, byte strings, arrays, tuples,
//! variants, and both ways to give a type. Dictionaries and maybes are no properties of a unit, and are refused.

use super::value::Value;

/// What a text says before its type is settled.
enum Said {
    Bool(bool),
    Number(String),
    Text(String),
    Bytes(Vec<u8>),
    Array(Vec<Said>),
    Tuple(Vec<Said>),
    Variant(Box<Said>),
    Typed(String, Box<Said>),
}

const KEYWORDS: [(&str, &str); 12] = [
    ("boolean", "b"),
    ("byte", "y"),
    ("int16", "n"),
    ("uint16", "q"),
    ("int32", "i"),
    ("uint32", "u"),
    ("int64", "x"),
    ("uint64", "t"),
    ("double", "d"),
    ("string", "s"),
    ("objectpath", "o"),
    ("signature", "g"),
];
/// How deep values may be inside of others.
const DEEPEST: u32 = 16;

/// Reads one value, all of the text.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut reader = Reader { text, at: 0, depth: 0 };
    let said = reader.value()?;
    reader.blanks();
    if reader.at < text.len() {
        return Err(format!("{:?} comes after the value", &text[reader.at..]));
    }
    let signature = said.signature()?;
    said.typed(&signature)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn take(&mut self, what: char) -> bool {
        self.blanks();
        let found = self.rest().starts_with(what);
        self.at += if found { what.len_utf8() } else { 0 };
        found
    }

    fn word(&mut self, is_part: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|letter| !is_part(letter)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn value(&mut self) -> Result<Said, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("values are too deep inside of others".to_owned());
        }
        let value = self.one();
        self.depth -= 1;
        value
    }

    fn one(&mut self) -> Result<Said, String> {
        self.blanks();
        let Some(first) = self.rest().chars().next() else { return Err("a value is missing".to_owned()) };
        match first {
            '\'' | '"' => self.quoted().map(|bytes| Said::Text(bytes.into_iter().collect())),
            '[' => self.list('[', ']').map(|(all, _)| Said::Array(all)),
            '(' => {
                let (all, comma) = self.list('(', ')')?;
                // As in GVariant: (1,) is a tuple, (1) is nothing.
                if all.len() == 1 && !comma {
                    Err("a tuple of one is written (x,)".to_owned())
                } else {
                    Ok(Said::Tuple(all))
                }
            }
            '<' => {
                self.take('<');
                let inside = self.value()?;
                if self.take('>') { Ok(Said::Variant(Box::new(inside))) } else { Err("a > is missing".to_owned()) }
            }
            '@' => {
                self.take('@');
                let signature = self.word(|letter| letter.is_ascii_alphanumeric() || "()".contains(letter));
                if signature.len() > 255 || one_type(signature.as_bytes()) != Some(signature.len()) {
                    return Err(format!("@{signature} is no type that a property has"));
                }
                Ok(Said::Typed(signature.to_owned(), Box::new(self.value()?)))
            }
            '{' => Err("a dictionary is no property of a unit".to_owned()),
            _ if first.is_ascii_digit() || "+-.".contains(first) => Ok(Said::Number(
                self.word(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter)).to_owned(),
            )),
            _ => {
                let word = self.word(|letter| letter.is_ascii_alphanumeric() || letter == '_');
                match word {
                    "true" => Ok(Said::Bool(true)),
                    "false" => Ok(Said::Bool(false)),
                    "inf" | "nan" => Ok(Said::Number(word.to_owned())),
                    "b" if self.rest().starts_with(['\'', '"']) => self.byte_string().map(Said::Bytes),
                    "just" | "nothing" => Err("a maybe is no property of a unit".to_owned()),
                    _ => match KEYWORDS.iter().find(|(keyword, _)| *keyword == word) {
                        Some((_, signature)) => Ok(Said::Typed((*signature).to_owned(), Box::new(self.value()?))),
                        None => Err(format!("{:?} is no value", self.text)),
                    },
                }
            }
        }
    }

    /// What is between two brackets, and whether a comma was last.
    fn list(&mut self, open: char, close: char) -> Result<(Vec<Said>, bool), String> {
        self.take(open);
        let (mut all, mut comma) = (Vec::new(), false);
        loop {
            if self.take(close) {
                return Ok((all, comma));
            }
            if !all.is_empty() && !comma {
                return Err(format!("a , or {close} is missing"));
            }
            all.push(self.value()?);
            comma = self.take(',');
        }
    }

    fn quoted(&mut self) -> Result<Vec<char>, String> {
        let mut letters = self.rest().chars();
        let quote = letters.next();
        let mut found = Vec::new();
        loop {
            let Some(letter) = letters.next() else { return Err("a text has no end".to_owned()) };
            match letter {
                _ if Some(letter) == quote => break,
                '\\' => {
                    let Some(escape) = letters.next() else { return Err("a text has no end".to_owned()) };
                    let digits = match escape {
                        'a' => Ok('\x07'),
                        'b' => Ok('\x08'),
                        'f' => Ok('\x0c'),
                        'n' => Ok('\n'),
                        'r' => Ok('\r'),
                        't' => Ok('\t'),
                        'v' => Ok('\x0b'),
                        'u' => Err(4),
                        'U' => Err(8),
                        other => Ok(other),
                    };
                    found.push(match digits {
                        Ok(letter) => letter,
                        Err(count) => {
                            let hex: String = letters.by_ref().take(count).collect();
                            let number = u32::from_str_radix(&hex, 16).ok().filter(|_| hex.len() == count);
                            number.and_then(char::from_u32).ok_or(format!("\\{escape}{hex} is no character"))?
                        }
                    });
                }
                '\0' => return Err("a text holds a NUL".to_owned()),
                other => found.push(other),
            }
        }
        self.at = self.text.len() - letters.as_str().len();
        Ok(found)
    }

    /// `b'...'`: bytes with a NUL after them; three octal digits after a backslash are one.
    fn byte_string(&mut self) -> Result<Vec<u8>, String> {
        let rest = self.rest().as_bytes();
        let quote = rest[0];
        let (mut at, mut bytes) = (1, Vec::new());
        loop {
            let byte = *rest.get(at).ok_or("a byte string has no end")?;
            at += 1;
            match byte {
                _ if byte == quote => break,
                b'\\' => {
                    let octal = rest.get(at..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
                    let octal = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
                    let escape = *rest.get(at).ok_or("a byte string has no end")?;
                    bytes.push(match (octal, escape) {
                        (Some(value), _) => value,
                        (None, b'n') => b'\n',
                        (None, b't') => b'\t',
                        (None, b'r') => b'\r',
                        (None, other) => other,
                    });
                    at += if octal.is_some() { 3 } else { 1 };
                }
                other => bytes.push(other),
            }
        }
        self.at += at;
        bytes.push(0);
        Ok(bytes)
    }
}

/// The length of the first whole type.
fn one_type(signature: &[u8]) -> Option<usize> {
    match signature.first()? {
        b'a' => Some(1 + one_type(&signature[1..])?),
        b'(' => {
            let mut at = 1;
            while *signature.get(at)? != b')' {
                at += one_type(&signature[at..])?;
            }
            Some(at + 1)
        }
        one => b"bynqiuxtdsogv".contains(one).then_some(1),
    }
}

impl Said {
    /// Its type, as far as it says one; GVariant's own choice else.
    fn signature(&self) -> Result<String, String> {
        Ok(match self {
            Said::Typed(signature, _) => signature.clone(),
            Said::Bool(_) => "b".to_owned(),
            Said::Number(digits) if is_double(digits) => "d".to_owned(),
            Said::Number(_) => "i".to_owned(),
            Said::Text(_) => "s".to_owned(),
            Said::Bytes(_) => "ay".to_owned(),
            Said::Variant(_) => "v".to_owned(),
            Said::Array(all) => {
                // One that says its type speaks for all.
                let speaker = all.iter().find(|one| one.is_explicit()).or(all.first());
                let speaker = speaker.ok_or("the type of an empty array is not known: @au []")?;
                format!("a{}", speaker.signature()?)
            }
            Said::Tuple(all) => {
                format!("({})", all.iter().map(Said::signature).collect::<Result<Vec<_>, _>>()?.concat())
            }
        })
    }

    fn is_explicit(&self) -> bool {
        match self {
            Said::Typed(..) => true,
            Said::Array(all) | Said::Tuple(all) => all.iter().any(Said::is_explicit),
            _ => false,
        }
    }

    fn typed(self, signature: &str) -> Result<Value, String> {
        let first = signature.chars().next().unwrap_or_default();
        let wrong = |what: &str| Err(format!("{what} is not of the type {signature}"));
        match (self, first) {
            (Said::Typed(own, said), _) if own == signature => said.typed(&own),
            (Said::Typed(own, _), _) => wrong(&format!("a value of the type {own}")),
            (Said::Bool(value), 'b') => Ok(Value::Bool(value)),
            (Said::Number(digits), _) => number(&digits, first).map_or_else(|| wrong(&digits), Ok),
            (Said::Text(text), 's') => Ok(Value::Text(text)),
            (Said::Text(text), 'o') if is_object_path(&text) => Ok(Value::ObjectPath(text)),
            (Said::Text(text), 'g') if is_signature(&text) => Ok(Value::Signature(text)),
            (Said::Text(text), _) => wrong(&format!("{text:?}")),
            (Said::Bytes(bytes), 'a') if signature == "ay" => Ok(Value::bytes(&bytes)),
            (Said::Variant(inside), 'v') => {
                let signature = inside.signature()?;
                Ok(Value::Variant(Box::new(inside.typed(&signature)?)))
            }
            (Said::Array(all), 'a') => {
                let element = &signature[1..];
                let values = all.into_iter().map(|one| one.typed(element)).collect::<Result<Vec<_>, _>>()?;
                Ok(Value::Array(element.to_owned(), values))
            }
            (Said::Tuple(all), '(') => {
                let mut rest = &signature[1..signature.len() - 1];
                let mut parts = Vec::new();
                for one in all {
                    let Some(length) = one_type(rest.as_bytes()) else { return wrong("a tuple") };
                    parts.push(one.typed(&rest[..length])?);
                    rest = &rest[length..];
                }
                if rest.is_empty() && !parts.is_empty() { Ok(Value::Tuple(parts)) } else { wrong("a tuple") }
            }
            (Said::Bool(value), _) => wrong(&value.to_string()),
            (Said::Bytes(_), _) => wrong("a byte string"),
            (Said::Variant(_), _) => wrong("a variant"),
            (Said::Array(_), _) => wrong("an array"),
            (Said::Tuple(_), _) => wrong("a tuple"),
        }
    }
}

fn is_double(digits: &str) -> bool {
    let hex = digits.trim_start_matches(['+', '-']).starts_with("0x");
    matches!(digits, "inf" | "nan" | "-inf" | "+inf") || !hex && digits.contains(['.', 'e', 'E'])
}

/// Decimal, `0x` and `0` octal, as strtoull(3) reads them.
fn number(digits: &str, kind: char) -> Option<Value> {
    if kind == 'd' {
        return digits.parse().ok().map(Value::Double);
    }
    let (negative, bare) = match digits.strip_prefix('-') {
        Some(bare) => (true, bare),
        None => (false, digits.strip_prefix('+').unwrap_or(digits)),
    };
    let (bare, radix) = match bare.strip_prefix("0x").or(bare.strip_prefix("0X")) {
        Some(bare) => (bare, 16),
        None if bare.len() > 1 && bare.starts_with('0') => (&bare[1..], 8),
        None => (bare, 10),
    };
    if bare.starts_with(['+', '-']) {
        return None;
    }
    let size = i128::from(u64::from_str_radix(bare, radix).ok()?);
    let value = if negative { -size } else { size };
    Some(match kind {
        'y' => Value::Byte(value.try_into().ok()?),
        'n' => Value::Int16(value.try_into().ok()?),
        'q' => Value::Uint16(value.try_into().ok()?),
        'i' => Value::Int32(value.try_into().ok()?),
        'u' => Value::Uint32(value.try_into().ok()?),
        'x' => Value::Int64(value.try_into().ok()?),
        't' => Value::Uint64(value.try_into().ok()?),
        _ => return None,
    })
}

fn is_object_path(text: &str) -> bool {
    text == "/"
        || text.strip_prefix('/').is_some_and(|rest| {
            let part =
                |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            rest.split('/').all(part)
        })
}

fn is_signature(text: &str) -> bool {
    if text.len() > 255 {
        return false;
    }
    let mut rest = text.as_bytes();
    while let Some(length) = one_type(rest) {
        rest = &rest[length..];
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_with_their_types() {
        let text = |text: &str| Value::Text(text.to_owned());
        for (from, expected) in [
            ("true", Value::Bool(true)),
            (" 7 ", Value::Int32(7)),
            ("-0x10", Value::Int32(-16)),
            ("010", Value::Int32(8)),
            ("uint64 18446744073709551615", Value::Uint64(u64::MAX)),
            ("@t 5", Value::Uint64(5)),
            ("byte 0xff", Value::Byte(255)),
            ("int16 -3", Value::Int16(-3)),
            ("1.5", Value::Double(1.5)),
            ("double 2", Value::Double(2.0)),
            ("'inactive-or-failed'", text("inactive-or-failed")),
            (r#""it's \"\u00e9\n""#, text("it's \"\u{e9}\n")),
            ("objectpath '/a/b_1'", Value::ObjectPath("/a/b_1".into())),
            ("signature 'a(sv)'", Value::Signature("a(sv)".into())),
            ("['a', \"b\"]", Value::Array("s".into(), vec![text("a"), text("b")])),
            ("[1, uint32 2]", Value::Array("u".into(), vec![Value::Uint32(1), Value::Uint32(2)])),
            ("@au []", Value::Array("u".into(), vec![])),
            ("b'a\\101'", Value::bytes(b"aA\0")),
            ("[byte 1, 2]", Value::bytes(&[1, 2])),
            ("<'x'>", Value::Variant(Box::new(text("x")))),
            ("@a(st) [('/dev/x', 9)]", {
                let one = Value::Tuple(vec![text("/dev/x"), Value::Uint64(9)]);
                Value::Array("(st)".into(), vec![one])
            }),
            ("('a',)", Value::Tuple(vec![text("a")])),
        ] {
            assert_eq!(parse(from), Ok(expected), "{from}");
        }
    }

    #[test]
    fn what_is_malformed_is_refused_and_never_breaks() {
        for text in [
            "",
            " ",
            "'",
            "'a",
            "a",
            "uint64",
            "uint64 -1",
            "byte 256",
            "int32 3000000000",
            "3000000000",
            "1 2",
            "[",
            "[]",
            "[1",
            "[1 2]",
            "[1,,2]",
            "[1, 'a']",
            "(1)",
            "(1",
            "{}",
            "{'a': 1}",
            "just 1",
            "nothing",
            "@",
            "@z 1",
            "@a 1",
            "@as 1",
            "@(s 1",
            "uint32 'a'",
            "string 1",
            "<1",
            "b'",
            "b'\\",
            "0x",
            "--1",
            "0x-1",
            "1e",
            "'\\u12'",
            "'\\ud800'",
            "objectpath 'a'",
            "signature 'a'",
            "@u uint64 1",
            "()",
            "boolean 1",
            "@b 'x'",
        ] {
            assert!(parse(text).is_err(), "{text}: {:?}", parse(text));
        }
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse(&format!("{}1{}", "<".repeat(17), ">".repeat(17))).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_it(text in "[ @a-z0-9'\"\\[\\](){}<>,.:\\\\+-]{0,40}|.{0,20}") {
            let _ = parse(&text);
        }
    }
}
