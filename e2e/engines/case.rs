//! One case: something that an engine is asked to do, and what must be seen of it whichever runtime does it.

use super::table;
use harness::{Feature, Host, Outcome, Stop, due};
use std::path::{Path, PathBuf};

/// What was seen: facts that must be equal with every runtime, and words that may be each runtime's own.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) facts: String,
    pub(crate) words: String,
}

impl From<String> for Seen {
    fn from(facts: String) -> Self {
        Seen { facts, words: String::new() }
    }
}

/// A runtime that an engine is to use.
pub(crate) struct Choice<'a> {
    /// `wharf`, `crun`, `runc`.
    pub(crate) name: &'a str,
    pub(crate) program: &'a Path,
    /// False for the one under test.
    pub(crate) peer: bool,
}

type Look = Box<dyn Fn(&Host, &Choice) -> Result<Seen, Stop> + Send>;

pub(crate) struct Case {
    pub(crate) name: &'static str,
    expected: &'static str,
    look: Look,
    /// Peers that show something else, and why.
    unlike: Vec<(&'static str, &'static str)>,
}

impl Case {
    /// `expected` is what must be seen with the runtime under test.
    pub(crate) fn new(
        name: &'static str,
        expected: &'static str,
        look: impl Fn(&Host, &Choice) -> Result<Seen, Stop> + Send + 'static,
    ) -> Self {
        Case { name, expected, look: Box::new(look), unlike: Vec::new() }
    }

    /// This peer may show something else, for this reason.
    pub(crate) fn unlike(mut self, peer: &'static str, reason: &'static str) -> Self {
        self.unlike.push((peer, reason));
        self
    }

    pub(crate) fn reason(&self, peer: &str) -> Option<&'static str> {
        self.unlike.iter().find(|(name, _)| *name == peer).map(|(_, reason)| *reason)
    }

    fn unexpected(&self, runtime: &str, seen: &Seen) -> String {
        format!("with {runtime}: expected {:?}, seen {:?} {:?}", self.expected, seen.facts, seen.words)
    }

    fn judge(&self, engine: &'static str, host: &Host) -> Outcome {
        let own = Choice { name: host.runtime.name(), program: host.runtime.program(), peer: false };
        let mut row = table::Row::new(self);
        let seen = (self.look)(host, &own)?;
        row.saw(host, own.name, &seen);
        let mut differ = Vec::new();
        for (name, program) in peers(own.name) {
            let seen = (self.look)(host, &Choice { name, program: &program, peer: true });
            match seen {
                Ok(seen) => {
                    row.saw(host, name, &seen);
                    if seen.facts != self.expected && self.reason(name).is_none() {
                        differ.push(self.unexpected(name, &seen));
                    }
                }
                Err(Stop::Skipped(why)) => row.skipped(name, &why),
                Err(Stop::Failed(why)) if self.reason(name).is_some() => row.saw(host, name, &why.into()),
                Err(Stop::Failed(why)) => differ.push(format!("with {name}: {why}")),
            }
        }
        table::record(engine, row);
        if seen.facts != self.expected {
            differ.insert(0, self.unexpected(own.name, &seen));
        }
        if differ.is_empty() { Ok(()) } else { Err(Stop::failed(differ.join("; "))) }
    }
}

/// The trials of an engine, those that are due.
pub(crate) fn feature(engine: &'static str, cases: Vec<Case>) -> Feature {
    cases
        .into_iter()
        .filter(|case| due(case.name, 4))
        .fold(Feature::new(engine), |feature, case| feature.trial(case.name, move |host| case.judge(engine, host)))
}

/// The peers that are installed here, unless they are left alone.
fn peers(own: &str) -> Vec<(&'static str, PathBuf)> {
    if std::env::var("WHARF_E2E_PEERS").is_ok_and(|value| value == "no") {
        return Vec::new();
    }
    let installed = |name: &'static str| {
        let places = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"].map(Path::new);
        let program = places.into_iter().map(|dir| dir.join(name)).find(|path| path.exists())?;
        Some((name, program))
    };
    ["crun", "runc"].into_iter().filter(|name| *name != own).filter_map(installed).collect()
}
