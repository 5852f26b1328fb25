//! Reads the paths out of Rust source text, well enough for imports.

/// The text with comments, string and character literals turned into spaces.
pub(crate) fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        for byte in &mut out[at..end.max(at)] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(out).unwrap_or_default()
}

/// Where the comment or literal that begins at `at` ends; `at` itself where none begins.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let until = |from: usize, end: &[u8]| {
        let found = bytes[from.min(bytes.len())..].windows(end.len()).position(|window| window == end);
        found.map_or(bytes.len(), |offset| from + offset + end.len())
    };
    if rest.starts_with(b"//") {
        return until(at, b"\n");
    }
    if rest.starts_with(b"/*") {
        return until(at + 2, b"*/");
    }
    let word_before = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if rest[0] == b'r' && (!word_before || bytes[at - 1] == b'b') {
        let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
        if rest.get(1 + hashes) == Some(&b'"') {
            let mut end = vec![b'"'];
            end.extend(std::iter::repeat_n(b'#', hashes));
            return until(at + 2 + hashes, &end);
        }
    }
    if rest[0] == b'"' {
        let mut index = at + 1;
        while index < bytes.len() && bytes[index] != b'"' {
            index += if bytes[index] == b'\\' { 2 } else { 1 };
        }
        return (index + 1).min(bytes.len());
    }
    if rest[0] == b'\'' {
        // A lifetime has no closing quote after one character.
        if rest.get(1) == Some(&b'\\') {
            return until(at + 3, b"'");
        }
        let width = std::str::from_utf8(&rest[1..rest.len().min(5)])
            .or_else(|error| std::str::from_utf8(&rest[1..1 + error.valid_up_to()]))
            .ok()
            .and_then(|text| text.chars().next())
            .map_or(1, char::len_utf8);
        if rest.get(1 + width) == Some(&b'\'') {
            return at + width + 2;
        }
    }
    at
}

/// Every path in the code, `use` groups expanded: `a::{b, c::d}` gives a::b and a::c::d.
pub(crate) fn paths(code: &str) -> Vec<Vec<String>> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let after_use = at > 0 && tokens[at - 1] == "use";
        if after_use || is_word(&tokens[at]) && tokens.get(at + 1).is_some_and(|next| next == "::") {
            at = path_at(&tokens, at, &mut Vec::new(), &mut found).max(at + 1);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one path, or a group of them, and returns where it ended.
fn path_at(tokens: &[String], mut at: usize, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    let depth = prefix.len();
    if tokens.get(at).is_some_and(|token| token == "::") {
        at += 1;
    }
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    let next = path_at(tokens, at, prefix, found);
                    at = next.max(at + 1);
                    while tokens.get(at).is_some_and(|token| token != "," && token != "}") {
                        at += 1;
                    }
                    at += usize::from(tokens.get(at).is_some_and(|token| token == ","));
                }
                prefix.truncate(depth);
                return at + 1;
            }
            Some(word) if is_word(word) => prefix.push(word.to_owned()),
            _ => break,
        }
        at += 1;
        if tokens.get(at).is_none_or(|token| token != "::") {
            break;
        }
        at += 1;
    }
    if prefix.len() > depth {
        found.push(prefix.clone());
    }
    prefix.truncate(depth);
    at
}

/// A name; keywords that can stand before a path that begins with `::` are none.
fn is_word(token: &str) -> bool {
    let keywords = ["as", "break", "dyn", "else", "for", "if", "impl", "in", "match", "mut", "return", "use", "where"];
    token.starts_with(|first: char| first.is_alphabetic() || first == '_') && !keywords.contains(&token)
}

fn tokens(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let length = if first.is_alphanumeric() || first == '_' {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        if !first.is_whitespace() {
            found.push(rest[..length].to_owned());
        }
        rest = &rest[length..];
    }
    found
}
