//! Patterns of rules: globs, regular expressions, ranges of user ids. A value matches as a whole or not at all.

use regex_lite::Regex;

/// One pattern, ready to match.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    /// As it was written.
    pub(crate) text: String,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Glob(Vec<Part>),
    Regex(Regex),
    Uids { first: u32, last: u32 },
}

/// A piece of a glob.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Exactly(char),
    /// `?`: one character.
    One,
    /// `*`: any number of characters, slashes too.
    Any,
    /// `[a-z]`, `[!a-z]`.
    Set {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// Why a text is no pattern.
#[derive(Debug)]
pub(crate) struct Bad {
    pub(crate) why: String,
    pub(crate) hint: Option<String>,
}

/// What begins a regular expression.
const REGEX: &str = "re:";

impl Pattern {
    /// A glob, or a regular expression after `re:`.
    pub(crate) fn new(text: &str) -> Result<Self, Bad> {
        let form = match text.strip_prefix(REGEX) {
            Some(expression) => Form::Regex(regex(expression)?),
            None => Form::Glob(glob(text)?),
        };
        Ok(Pattern { text: text.to_owned(), form })
    }

    /// `1000`, or `1000-1999`.
    pub(crate) fn uids(text: &str) -> Result<Self, Bad> {
        let bad = || Bad { why: format!("{text:?} is no user id and no range as \"1000-1999\""), hint: None };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| text.parse::<u32>().map_err(|_| bad());
        let (first, last) = (number(first)?, number(last)?);
        if last < first {
            return Err(bad());
        }
        Ok(Pattern { text: text.to_owned(), form: Form::Uids { first, last } })
    }

    pub(crate) fn matches(&self, value: &str) -> bool {
        match &self.form {
            Form::Glob(parts) => glob_matches(parts, value),
            Form::Regex(regex) => regex.is_match(value),
            Form::Uids { .. } => false,
        }
    }

    pub(crate) fn matches_uid(&self, uid: u32) -> bool {
        matches!(self.form, Form::Uids { first, last } if (first..=last).contains(&uid))
    }
}

/// Anchored at both ends. The dot matches line breaks too, so that `.*` is every value.
fn regex(expression: &str) -> Result<Regex, Bad> {
    let bad = |error: regex_lite::Error| Bad {
        why: format!("the regular expression {expression:?} is wrong: {error}"),
        hint: None,
    };
    // Alone first: what closes a group of ours must not pass.
    Regex::new(expression).map_err(bad)?;
    Regex::new(&format!("^(?s:{expression})$")).map_err(bad)
}

fn glob(text: &str) -> Result<Vec<Part>, Bad> {
    let bad = |why: &str| Bad { why: format!("the glob {text:?} {why}"), hint: None };
    if text == ".*" || text.starts_with('^') || (text.ends_with('$') && !text.ends_with("\\$")) {
        let inner = text.strip_prefix('^').unwrap_or(text);
        let inner = inner.strip_suffix('$').unwrap_or(inner);
        let hint = format!("a regular expression is written \"re:{inner}\"; a glob may say \\^ and \\$");
        return Err(Bad { hint: Some(hint), ..bad("looks like a regular expression") });
    }
    let mut parts = Vec::new();
    let mut rest = text.chars();
    while let Some(letter) = rest.next() {
        parts.push(match letter {
            '*' if parts.last() == Some(&Part::Any) => continue,
            '*' => Part::Any,
            '?' => Part::One,
            '\\' => Part::Exactly(rest.next().ok_or_else(|| bad("ends in a backslash"))?),
            '[' => set(&mut rest).ok_or_else(|| bad("has a [ that is not closed, or a range that is reversed"))?,
            other => Part::Exactly(other),
        });
    }
    Ok(parts)
}

/// After its `[`. A `]` that comes first is one of the set.
fn set(rest: &mut std::str::Chars<'_>) -> Option<Part> {
    let mut negated = false;
    let mut ranges = Vec::new();
    let mut next = rest.next()?;
    if matches!(next, '!' | '^') {
        negated = true;
        next = rest.next()?;
    }
    loop {
        let first = if next == '\\' { rest.next()? } else { next };
        let mut ahead = rest.clone();
        let last = match (ahead.next(), ahead.next()) {
            (Some('-'), Some(last)) if last != ']' => {
                *rest = ahead;
                if last == '\\' { rest.next()? } else { last }
            }
            _ => first,
        };
        if last < first {
            return None;
        }
        ranges.push((first, last));
        next = rest.next()?;
        if next == ']' {
            return Some(Part::Set { negated, ranges });
        }
    }
}

impl Part {
    fn takes(&self, letter: char) -> bool {
        match self {
            Part::Exactly(wanted) => *wanted == letter,
            Part::One | Part::Any => true,
            Part::Set { negated, ranges } => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&letter)) != *negated
            }
        }
    }
}

/// Goes back to the last `*` only: it can always take what an earlier one would have.
fn glob_matches(parts: &[Part], value: &str) -> bool {
    let (mut part, mut rest) = (0, value.chars());
    let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
    loop {
        if parts.get(part) == Some(&Part::Any) {
            part += 1;
            retry = Some((part, rest.clone()));
            continue;
        }
        let mut ahead = rest.clone();
        match (parts.get(part), ahead.next()) {
            (None, None) => return true,
            (Some(wanted), Some(letter)) if wanted.takes(letter) => {
                part += 1;
                rest = ahead;
                continue;
            }
            _ => {}
        }
        // One more character for the last `*`.
        let Some((after, from)) = &mut retry else { return false };
        if from.next().is_none() {
            return false;
        }
        part = *after;
        rest = from.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_the_whole_value() {
        for (glob, yes, no) in [
            ("web-*", &["web-", "web-1", "web-a/b"][..], &["web", "my-web-1", ""][..]),
            ("*", &["", "a", "a\nb/c"], &[]),
            ("a?c", &["abc", "aäc"], &["ac", "abbc"]),
            ("[a-c]x[!0-9]", &["axa", "cx-"], &["dxa", "ax1", "ax"]),
            ("[]x]", &["]", "x"], &["[", ""]),
            (r"a\*[\]]", &["a*]"], &["ab]", "a*"]),
            ("*a*b*c", &["abc", "xxaxxbxxc", "aabbc"], &["abcd", "acb"]),
            ("docker.io/*/nginx:*", &["docker.io/library/nginx:1"], &["dockerXio/library/nginx:1"]),
        ] {
            let pattern = Pattern::new(glob).unwrap();
            yes.iter().for_each(|value| assert!(pattern.matches(value), "{glob} {value}"));
            no.iter().for_each(|value| assert!(!pattern.matches(value), "{glob} {value}"));
        }
    }

    #[test]
    fn regular_expressions_are_anchored_and_the_catch_all_catches_all() {
        for (expression, yes, no) in [
            ("re:.*", &["", "a", "a\nb"][..], &[][..]),
            ("re:a|ab", &["a", "ab"], &["abc", "xa"]),
            ("re:^(kube-ovn-.*|cilium-.*)$", &["cilium-1"], &["my-cilium-1"]),
            ("re:(?i)web", &["WEB"], &["webs"]),
        ] {
            let pattern = Pattern::new(expression).unwrap();
            yes.iter().for_each(|value| assert!(pattern.matches(value), "{expression} {value}"));
            no.iter().for_each(|value| assert!(!pattern.matches(value), "{expression} {value}"));
        }
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        for (text, why) in [
            ("[a", "not closed"),
            ("[z-a]", "reversed"),
            ("a\\", "backslash"),
            (".*", "looks like a regular expression"),
            ("^a", "looks like"),
            ("a$", "looks like"),
            ("re:(", "the regular expression \"(\" is wrong"),
            ("re:a)|(b", "is wrong"),
            ("re:(?x)a # b", "is wrong"),
        ] {
            let bad = Pattern::new(text).unwrap_err();
            assert!(bad.why.contains(why), "{text}: {}", bad.why);
        }
        assert!(Pattern::new("^a.*$").unwrap_err().hint.unwrap().contains("\"re:a.*\""));
        for text in ["", "x", "5-4", "1-", "4294967296"] {
            assert!(Pattern::uids(text).is_err(), "{text}");
        }
    }

    #[test]
    fn user_ids_are_in_a_range() {
        let range = Pattern::uids("1000-1999").unwrap();
        assert!(range.matches_uid(1000) && range.matches_uid(1999) && !range.matches_uid(2000));
        assert!(Pattern::uids("0").unwrap().matches_uid(0));
    }
}
