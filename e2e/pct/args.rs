//! The words of a command line against the table of one verb: what it takes, and how a wrong word is answered (§1).

use crate::answer::{Death, STALE};
use std::collections::BTreeMap;
use std::ffi::OsString;

/// What a value must be.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Flag,
    Integer(i64, i64),
    Number(f64, f64),
    Text(usize),
    One(&'static [&'static str]),
    /// A format of its own: the reason, where it does not hold.
    Format(fn(&str) -> Result<(), String>),
}

pub(crate) struct Verb {
    /// With the program's: `pct start`.
    pub(crate) name: &'static str,
    pub(crate) positionals: &'static [(&'static str, Kind)],
    pub(crate) options: &'static [(&'static str, Kind)],
    /// All keys of a container's configuration too.
    pub(crate) keys: bool,
    /// Words behind the last, of which `--` may be the first.
    pub(crate) extra: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Words {
    pub(crate) positionals: Vec<String>,
    pub(crate) options: BTreeMap<String, String>,
    pub(crate) extra: Vec<OsString>,
}

impl Words {
    pub(crate) fn get(&self, option: &str) -> Option<&str> {
        self.options.get(option).map(String::as_str)
    }

    pub(crate) fn is(&self, option: &str) -> bool {
        self.get(option) == Some("1")
    }

    /// The first positional: an id that the table has judged.
    pub(crate) fn id(&self) -> u32 {
        self.positionals.first().and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    pub(crate) fn take(&mut self, option: &str) -> Option<String> {
        self.options.remove(option)
    }
}

impl Verb {
    fn usage(&self) -> String {
        let mut usage = self.name.to_owned();
        for (name, _) in self.positionals {
            usage.push_str(&format!(" <{name}>"));
        }
        if self.extra {
            usage.push_str(" [<extra-args>]");
        }
        usage.push_str(" [OPTIONS]");
        usage
    }

    fn kind(&self, option: &str) -> Option<Kind> {
        let own = self.options.iter().find(|(name, _)| *name == option).map(|(_, kind)| *kind);
        own.or_else(|| self.keys.then(|| crate::keys::kind(option)).flatten())
    }

    pub(crate) fn parse(&self, words: &[OsString]) -> Result<Words, Death> {
        let mut found = Words::default();
        let mut unknown = Vec::new();
        let mut words = words.iter();
        while let Some(raw) = words.next() {
            if raw == "--" {
                found.extra.extend(words.cloned());
                break;
            }
            let word = text(raw, "argument")?;
            let option = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).filter(|name| !name.is_empty());
            let Some(option) = option else {
                if found.positionals.len() == self.positionals.len() && self.extra {
                    found.extra.push(raw.clone());
                } else {
                    found.positionals.push(word);
                }
                continue;
            };
            let (name, given) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (option, None),
            };
            let Some(kind) = self.kind(name) else {
                unknown.push(name.to_owned());
                continue;
            };
            let value = match (given, kind) {
                (Some(value), _) => value,
                // Its value may be left out.
                (None, Kind::Flag) => match words.as_slice().first().and_then(|next| next.to_str()) {
                    Some(next) if boolean(next).is_some() => text(words.next().unwrap_or(raw), name)?,
                    _ => "1".to_owned(),
                },
                (None, _) => match words.next() {
                    Some(value) => text(value, name)?,
                    None => {
                        let said = format!(
                            "Option {name} requires an argument\n400 unable to parse option\n{}\n",
                            self.usage()
                        );
                        return Err(Death::new(STALE, said));
                    }
                },
            };
            found.options.insert(name.to_owned(), value);
        }
        if !unknown.is_empty() {
            let mut said: String = unknown.iter().map(|name| format!("Unknown option: {name}\n")).collect();
            said.push_str(&format!("400 unable to parse option\n{}\n", self.usage()));
            return Err(Death::new(STALE, said));
        }
        let counted = match found.positionals.len().cmp(&self.positionals.len()) {
            std::cmp::Ordering::Less => Some("not enough"),
            std::cmp::Ordering::Greater => Some("too many"),
            std::cmp::Ordering::Equal => None,
        };
        if let Some(how) = counted {
            return Err(Death::new(STALE, format!("400 {how} arguments\n{}\n", self.usage())));
        }
        self.judge(&mut found)?;
        Ok(found)
    }

    fn judge(&self, found: &mut Words) -> Result<(), Death> {
        let mut faults = Vec::new();
        for ((name, kind), value) in self.positionals.iter().zip(&mut found.positionals) {
            if let Err(reason) = judge(*kind, value) {
                faults.push(((*name).to_owned(), reason));
            }
        }
        for (name, value) in &mut found.options {
            if let Some(Err(reason)) = self.kind(name).map(|kind| judge(kind, value)) {
                faults.push((name.clone(), reason));
            }
        }
        if faults.is_empty() {
            return Ok(());
        }
        faults.sort();
        Err(Death::parameters(&faults, &self.usage()))
    }
}

/// Perl's programs take bytes; which ones they bear is not known, so none but UTF-8 is let in here.
fn text(raw: &OsString, what: &str) -> Result<String, Death> {
    raw.to_str().map(str::to_owned).ok_or_else(|| Death::parameter(what, "the double takes no words but UTF-8"))
}

fn boolean(word: &str) -> Option<&'static str> {
    match word {
        "1" | "on" | "yes" | "true" => Some("1"),
        "0" | "off" | "no" | "false" => Some("0"),
        _ => None,
    }
}

fn is_integer(value: &str) -> bool {
    let digits = value.strip_prefix(['+', '-']).unwrap_or(value);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// The reasons of the JSON schema that every parameter is judged by.
pub(crate) fn judge(kind: Kind, value: &mut String) -> Result<(), String> {
    let mistyped = |kind: &str, value: &str| Err(format!("type check ('{kind}') failed - got '{value}'"));
    match kind {
        Kind::Flag => match boolean(value) {
            Some(word) => {
                word.clone_into(value);
                Ok(())
            }
            None => mistyped("boolean", value),
        },
        Kind::Integer(least, most) => {
            if !is_integer(value) {
                return mistyped("integer", value);
            }
            match value.parse::<i64>() {
                Ok(number) if number < least => Err(format!("value must have a minimum value of {least}")),
                Ok(number) if number <= most => Ok(()),
                _ => Err(format!("value must have a maximum value of {most}")),
            }
        }
        Kind::Number(least, most) => match value.parse::<f64>() {
            Ok(number) if !number.is_finite() => mistyped("number", value),
            Ok(number) if number < least => Err(format!("value must have a minimum value of {least}")),
            Ok(number) if number > most => Err(format!("value must have a maximum value of {most}")),
            Ok(_) => Ok(()),
            Err(_) => mistyped("number", value),
        },
        Kind::Text(most) => match value.chars().count() > most {
            true => Err(format!("value may only be {most} characters long")),
            false => Ok(()),
        },
        Kind::One(all) => match all.contains(&value.as_str()) {
            true => Ok(()),
            false => Err(format!("value '{value}' does not have a value in the enumeration '{}'", all.join(", "))),
        },
        Kind::Format(check) => check(value),
    }
}

/// §1, VMID: 100 … 999 999 999, no leading zero.
pub(crate) const VMID: Kind = Kind::Format(vmid);

fn vmid(value: &str) -> Result<(), String> {
    if !is_integer(value) {
        return Err(format!("type check ('integer') failed - got '{value}'"));
    }
    let fits = value.starts_with(|first: char| ('1'..='9').contains(&first)) && (3..=9).contains(&value.len());
    fits.then_some(()).ok_or_else(|| "invalid format - value does not look like a valid VM ID".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Verb = Verb {
        name: "pct start",
        positionals: &[("vmid", VMID)],
        options: &[("debug", Kind::Flag), ("skiplock", Kind::Flag)],
        keys: false,
        extra: false,
    };

    fn parse(words: &[&str]) -> Result<Words, Death> {
        START.parse(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn wrong_words_are_answered_as_section_1_tells() {
        let said = |words: &[&str]| parse(words).map_err(|death| (death.code, death.text)).unwrap_err();
        let usage = "pct start <vmid> [OPTIONS]\n";
        assert_eq!(said(&[]), (2, format!("400 not enough arguments\n{usage}")));
        assert_eq!(said(&["100", "--x"]), (2, format!("Unknown option: x\n400 unable to parse option\n{usage}")));
        let verify = "400 Parameter verification failed.\n";
        let not = "invalid format - value does not look like a valid VM ID";
        assert_eq!(said(&["abc"]), (255, format!("{verify}vmid: type check ('integer') failed - got 'abc'\n{usage}")));
        for id in ["99", "0100", "1000000000"] {
            assert_eq!(said(&[id]), (255, format!("{verify}vmid: {not}\n{usage}")));
        }
    }

    #[test]
    fn a_flag_may_stand_without_its_value() {
        assert!(parse(&["100", "--debug"]).unwrap().is("debug"));
        assert!(!parse(&["--debug", "0", "100"]).unwrap().is("debug"));
        let words = parse(&["--debug", "100"]).unwrap();
        assert_eq!((words.is("debug"), words.id()), (true, 100));
    }
}
