//! Chooses the backend by the rules, and can say why. Later verbs never ask: the record decides.
//!
//! Rules are tried in order and the first that matches decides. A rule matches when all its conditions hold; a condition
//! holds when one of its patterns matches the whole value. What is not there matches nothing.

mod explain;
mod name;
mod pattern;

#[cfg(test)]
mod tests;

pub(crate) use explain::{Explanation, Pinned};
pub(crate) use name::{Later, Name, Place, Runtime};
pub(crate) use pattern::Pattern;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use wharf_core::{Result, RuleRecord};

/// What a configuration says of routing. The default is that of no configuration.
#[derive(Debug, Default)]
pub(crate) struct Routing {
    /// The configuration file.
    pub(crate) source: Option<String>,
    pub(crate) runtimes: Vec<Runtime>,
    pub(crate) rules: Vec<Rule>,
    /// `proxmox.pct_path`, or that of `proxmox.node_root`
    pub(crate) pct: Option<PathBuf>,
    /// `vm.qemu_path`
    pub(crate) qemu: Option<PathBuf>,
    /// `default_backend`
    pub(crate) default: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: Option<String>,
    /// Where it begins in the file.
    pub(crate) line: usize,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) backend: String,
    /// None: without its backend there is no container.
    pub(crate) fallback: Option<String>,
    /// The container gets a dataset of its own.
    pub(crate) clone: bool,
}

#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) subject: Subject,
    pub(crate) patterns: Vec<Pattern>,
}

/// What a condition looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Id,
    Annotation(String),
    Hostname,
    CgroupParent,
    Bundle,
    Uid,
    Argv0,
}

/// What is known of a container before it exists.
#[derive(Clone, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) id: &'a str,
    pub(crate) annotations: Option<&'a HashMap<String, String>>,
    pub(crate) hostname: Option<&'a str>,
    pub(crate) cgroup_parent: Option<Cow<'a, str>>,
    pub(crate) bundle: Cow<'a, str>,
    /// The caller's. Read only where a rule asks: see [`Routing::asks_for_uid`].
    pub(crate) uid: u32,
    pub(crate) argv0: &'a str,
}

/// A backend was chosen.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) place: Place,
    pub(crate) why: String,
    pub(crate) rule: Option<RuleRecord>,
    /// The rule wants a dataset of its own for it.
    pub(crate) clone: bool,
}

impl Routing {
    pub(crate) fn asks_for_uid(&self) -> bool {
        self.rules.iter().any(|rule| rule.conditions.iter().any(|condition| condition.subject == Subject::Uid))
    }

    /// Every name that may stand for a backend, absolute paths aside.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names = vec!["native".to_owned(), "vm".to_owned()];
        names.extend(self.runtimes.iter().map(|runtime| runtime.name.clone()));
        names.extend(name::KNOWN.iter().map(|known| (*known).to_owned()));
        names.dedup();
        names
    }

    /// What is no mistake and may not be meant: backends that cannot be used on this host, rules that are never reached.
    pub(crate) fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        let mut all: Option<String> = None;
        for (index, rule) in self.rules.iter().enumerate() {
            let title = self.title(index, rule);
            if let Some(all) = &all {
                doubts.push(format!("{title} is never reached: {all} matches every container"));
            } else if rule.matches_all() {
                all = Some(title.clone());
            }
            for name in [Some(&rule.backend), rule.fallback.as_ref()].into_iter().flatten() {
                doubts.extend(self.place(name).err().map(|error| format!("{title}: {error}")));
            }
        }
        doubts.extend(
            self.default.iter().filter_map(|name| Some(format!("default_backend: {}", self.place(name).err()?))),
        );
        doubts
    }

    /// The place of a backend, if it can be used on this host.
    pub(crate) fn place(&self, name: &str) -> Result<Place> {
        let place = name::place(name, &self.runtimes)?;
        match place {
            Place::Vm => self.machines().map(drop)?,
            Place::Pct => self.node().map(drop)?,
            _ => {}
        }
        Ok(place)
    }

    /// The program that makes containers of a Proxmox node.
    pub(crate) fn node(&self) -> Result<PathBuf> {
        name::node(self.pct.as_deref())
    }

    /// The program that makes virtual machines.
    pub(crate) fn machines(&self) -> Result<PathBuf> {
        name::machines(self.qemu.as_deref())
    }

    /// `asked` is `--backend`, which no rule overrules.
    pub(crate) fn choose(&self, asked: Option<&str>, facts: &Facts<'_>) -> Result<Route> {
        if let Some(name) = asked {
            return Ok(Route {
                place: self.place(name)?,
                why: "asked for by --backend".to_owned(),
                rule: None,
                clone: false,
            });
        }
        let matching = self.rules.iter().enumerate().find(|(_, rule)| rule.differs(facts).is_none());
        let Some((index, rule)) = matching else {
            return self.by_default();
        };
        let title = self.title(index, rule);
        let record = |fallback_for: Option<&str>| {
            Some(RuleRecord {
                configuration: self.source.clone().unwrap_or_default(),
                number: index as u32 + 1,
                name: rule.name.clone(),
                fallback_for: fallback_for.map(str::to_owned),
            })
        };
        let why = format!("{title}: {}", rule.tell(facts));
        match (self.place(&rule.backend), &rule.fallback) {
            (Ok(place), _) => Ok(Route { place, why, rule: record(None), clone: rule.clone }),
            (Err(error), Some(fallback)) => Ok(Route {
                place: self.place(fallback).map_err(|error| error.hint(format!("the fallback of {title}")))?,
                why: format!("{why}; {fallback} instead of {}: {error}", rule.backend),
                rule: record(Some(&rule.backend)),
                clone: rule.clone,
            }),
            (Err(error), None) => Err(error.hint(format!("required by {title}, which names no fallback"))),
        }
    }

    fn by_default(&self) -> Result<Route> {
        let rules = if self.rules.is_empty() { "" } else { "no rule matches: " };
        match &self.default {
            None => Ok(Route { place: Place::Native, why: format!("{rules}the default"), rule: None, clone: false }),
            Some(name) => {
                let source = self.source.as_deref().unwrap_or_default();
                let place = self.place(name).map_err(|error| error.hint(format!("default_backend of {source}")))?;
                Ok(Route { place, why: format!("{rules}default_backend of {source}"), rule: None, clone: false })
            }
        }
    }

    /// What messages call a rule.
    fn title(&self, index: usize, rule: &Rule) -> String {
        let name = rule.name.as_ref().map_or(String::new(), |name| format!(" {name:?}"));
        let source = self.source.as_deref().unwrap_or_default();
        format!("rule {}{name} ({source} line {})", index + 1, rule.line)
    }
}

impl Rule {
    /// The first condition that does not hold.
    fn differs(&self, facts: &Facts<'_>) -> Option<&Condition> {
        self.conditions.iter().find(|condition| !condition.holds(facts))
    }

    /// Whether it certainly matches every container.
    fn matches_all(&self) -> bool {
        self.conditions.iter().all(|condition| {
            matches!(condition.subject, Subject::Id | Subject::Bundle | Subject::Argv0)
                && condition.patterns.iter().any(|pattern| matches!(&*pattern.text, "*" | "re:.*"))
        })
    }

    /// Why it matches, or the first reason why it does not.
    fn tell(&self, facts: &Facts<'_>) -> String {
        match self.differs(facts) {
            Some(condition) => condition.tell(facts),
            None if self.conditions.is_empty() => "it has no conditions".to_owned(),
            None => self.conditions.iter().map(|condition| condition.tell(facts)).collect::<Vec<_>>().join(", "),
        }
    }
}

impl Condition {
    /// The pattern that matches.
    fn matching(&self, facts: &Facts<'_>) -> Option<&Pattern> {
        match self.subject {
            Subject::Uid => self.patterns.iter().find(|pattern| pattern.matches_uid(facts.uid)),
            _ => {
                let value = facts.value(&self.subject)?;
                self.patterns.iter().find(|pattern| pattern.matches(&value))
            }
        }
    }

    fn holds(&self, facts: &Facts<'_>) -> bool {
        self.matching(facts).is_some()
    }

    fn tell(&self, facts: &Facts<'_>) -> String {
        let subject = self.subject.words();
        let Some(value) = facts.value(&self.subject) else { return format!("{subject} is not set") };
        match (self.matching(facts), self.patterns.as_slice()) {
            (Some(pattern), _) => format!("{subject} {value:?} matches {:?}", pattern.text),
            (None, [pattern]) => format!("{subject} {value:?} does not match {:?}", pattern.text),
            (None, patterns) => {
                let all: Vec<String> = patterns.iter().map(|pattern| format!("{:?}", pattern.text)).collect();
                format!("{subject} {value:?} matches none of {}", all.join(", "))
            }
        }
    }
}

impl Subject {
    fn words(&self) -> Cow<'static, str> {
        match self {
            Subject::Id => "id".into(),
            Subject::Annotation(key) => format!("annotation {key}").into(),
            Subject::Hostname => "hostname".into(),
            Subject::CgroupParent => "cgroup_parent".into(),
            Subject::Bundle => "bundle".into(),
            Subject::Uid => "uid".into(),
            Subject::Argv0 => "argv0".into(),
        }
    }
}

impl Facts<'_> {
    fn value(&self, subject: &Subject) -> Option<Cow<'_, str>> {
        match subject {
            Subject::Id => Some(self.id.into()),
            Subject::Annotation(key) => Some(self.annotations?.get(key)?.as_str().into()),
            Subject::Hostname => Some(self.hostname?.into()),
            Subject::CgroupParent => self.cgroup_parent.as_deref().map(Cow::from),
            Subject::Bundle => Some(self.bundle.as_ref().into()),
            Subject::Uid => Some(self.uid.to_string().into()),
            Subject::Argv0 => Some(self.argv0.into()),
        }
    }
}

/// The directory of linux.cgroupsPath, or the slice of systemd's form `slice:prefix:name`.
pub(crate) fn cgroup_parent(path: &str) -> Cow<'_, str> {
    match path.split_once(':') {
        Some((slice, _)) if !path.contains('/') => slice.into(),
        _ => match path.trim_end_matches('/').rsplit_once('/') {
            Some(("", _)) => "/".into(),
            Some((parent, _)) => parent.into(),
            None => "".into(),
        },
    }
}

/// The place that a record names. Not looked for: a delegate's program is remembered in the record's private part.
pub(crate) fn recorded(name: &str) -> Place {
    match name {
        "native" => Place::Native,
        "lxc" => Place::Lxc,
        "pct" => Place::Pct,
        "vm" => Place::Vm,
        _ => Place::Delegate { name: name.to_owned(), path: PathBuf::from(name), args: Vec::new() },
    }
}
