//! Verbs, and what became of them.

use super::frame::Broken;
use crate::network::Interface;
use serde::{Deserialize, Serialize};
use wharf_core::{Error, Kind};

/// What the guest is asked. What it takes besides comes in the parts before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "lowercase")]
pub(crate) enum Verb {
    /// The parts are the guest's config.json.
    Create {
        id: String,
        terminal: bool,
        /// Options of `create`.
        words: Vec<String>,
        /// What the namespace is to have that config.json names.
        network: Option<Vec<Interface>>,
        parts: Parts,
    },
    Start,
    Kill {
        signal: i32,
        all: bool,
    },
    /// The parts are the process object; none where the words have all.
    Exec {
        /// Options of `exec`.
        words: Vec<String>,
        arguments: Vec<String>,
        terminal: bool,
    },
    /// What `events --stats` says, and how many processes the guest's kernel has killed for want of memory.
    Events,
    /// The table of `ps`.
    Ps,
    /// The parts are the resources.
    Update,
}

/// What there is for the guest to mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parts {
    /// Directories of the host.
    pub(crate) share: bool,
    /// The disk with the root file system.
    pub(crate) disk: bool,
}

/// The answer: what was asked for, or why not.
pub(crate) type Outcome = Result<serde_json::Value, Failure>;

/// An [`Error`] on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    kind: String,
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

const KINDS: &[(&str, Kind)] = &[
    ("usage", Kind::Usage),
    ("no-such-container", Kind::NoSuchContainer),
    ("exists", Kind::Exists),
    ("not-running", Kind::NotRunning),
    ("wrong-status", Kind::WrongStatus),
    ("invalid", Kind::Invalid),
    ("unsupported", Kind::Unsupported),
    ("command-not-found", Kind::CommandNotFound),
    ("command-not-executable", Kind::CommandNotExecutable),
    ("system", Kind::System),
];

/// Longest text that is believed.
const LONGEST_TEXT: usize = 4096;

impl Failure {
    pub(crate) fn of(error: &Error) -> Self {
        let kind = KINDS.iter().find(|(_, kind)| *kind == error.kind()).map_or("system", |(name, _)| name);
        Failure {
            kind: kind.to_owned(),
            reason: error.reason(),
            at: error.pointer().map(str::to_owned),
            hint: error.advice().map(str::to_owned),
        }
    }

    /// The same error here. Its words are the other side's: they are made short, and of one line.
    pub(crate) fn into_error(self) -> Error {
        let kind = KINDS.iter().find(|(name, _)| *name == self.kind).map_or(Kind::System, |(_, kind)| *kind);
        let clean = |text: String| -> String {
            text.chars().filter(|letter| !letter.is_control()).take(LONGEST_TEXT).collect()
        };
        let mut error = Error::new(kind, clean(self.reason));
        if let Some(at) = self.at {
            error = error.at(clean(at));
        }
        if let Some(hint) = self.hint {
            error = error.hint(clean(hint));
        }
        error
    }
}

/// Whether an outcome has the form of one.
pub(crate) fn read_outcome(bytes: &[u8]) -> Result<Outcome, Broken> {
    serde_json::from_slice::<Answer>(bytes)
        .map(|answer| match answer {
            Answer::Ok(value) => Ok(value),
            Answer::Err(failure) => Err(failure),
        })
        .map_err(|_| "an answer cannot be read")
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answer {
    Ok(serde_json::Value),
    Err(Failure),
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Ok(value) => Answer::Ok(value),
            Err(failure) => Answer::Err(failure),
        }
    }
}

/// An outcome as bytes, no longer than a frame may be.
pub(crate) fn written(outcome: Outcome) -> Vec<u8> {
    let bytes = serde_json::to_vec(&Answer::from(outcome)).unwrap_or_default();
    if bytes.len() <= super::LONGEST {
        return bytes;
    }
    let failure = Failure::of(&Error::new(Kind::System, "the guest's answer").because("is too long"));
    serde_json::to_vec(&Answer::Err(failure)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_kind_place_and_hint_and_loses_what_a_terminal_would_obey() {
        let error =
            Error::new(Kind::CommandNotFound, "exec \"x\"").because("not\u{1b}[2J found").at("process/args").hint("h");
        let bytes = written(Err(Failure::of(&error)));
        let back = read_outcome(&bytes).unwrap().unwrap_err().into_error();
        assert_eq!(back.kind(), Kind::CommandNotFound);
        assert_eq!(back.to_string(), "exec \"x\": not[2J found [process/args] (h)");
    }

    #[test]
    fn an_answer_is_never_longer_than_a_frame() {
        let long = written(Ok(serde_json::Value::String("x".repeat(100_000))));
        assert!(long.len() < 1000 && read_outcome(&long).unwrap().is_err());
        assert!(read_outcome(b"{}").is_err() && read_outcome(b"").is_err());
    }
}
