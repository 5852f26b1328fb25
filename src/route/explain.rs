//! Says which rules were tried, why each did or did not match, and what follows. As text and as JSON.

use super::name::LXC;
use super::{Facts, Place, Routing, Subject};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use wharf_core::Error;

/// What would happen to a container, and what happened to it.
#[derive(Debug, Serialize)]
pub(crate) struct Explanation {
    /// What was decided when the container was created; later verbs follow this alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pinned: Option<Pinned>,
    /// None: the bundle cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    facts: Option<Shown>,
    /// None: there is none.
    configuration: Option<String>,
    rules: Vec<Tried>,
    now: Now,
}

#[derive(Debug, Serialize)]
pub(crate) struct Pinned {
    pub(crate) backend: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) program: Option<String>,
    pub(crate) why: String,
    /// RFC 3339.
    pub(crate) created: String,
}

#[derive(Debug, Serialize)]
struct Shown {
    id: String,
    /// Only those that a rule names.
    annotations: BTreeMap<String, String>,
    hostname: Option<String>,
    cgroup_parent: Option<String>,
    bundle: String,
    uid: u32,
    argv0: String,
}

#[derive(Debug, Serialize)]
struct Tried {
    number: usize,
    line: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    backend: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback: Option<String>,
    /// None: a rule before it has matched, or the backend was asked for.
    matches: Option<bool>,
    why: String,
}

#[derive(Debug, Serialize)]
struct Now {
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// Why `create` would fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Explanation {
    pub(crate) fn new(routing: &Routing, asked: Option<&str>, facts: &Facts<'_>, pinned: Option<Pinned>) -> Self {
        let mut decided = asked.map(|_| "not tried: the backend is asked for by --backend");
        let mut rules = Vec::new();
        for (index, rule) in routing.rules.iter().enumerate() {
            let (matches, why) = match decided {
                Some(why) => (None, why.to_owned()),
                None => (Some(rule.differs(facts).is_none()), rule.tell(facts)),
            };
            if matches == Some(true) {
                decided = Some("not tried: a rule before it matches");
            }
            rules.push(Tried {
                number: index + 1,
                line: rule.line,
                name: rule.name.clone(),
                backend: rule.backend.clone(),
                fallback: rule.fallback.clone(),
                matches,
                why,
            });
        }
        let now = match routing.choose(asked, facts) {
            Ok(route) => {
                let (backend, program) = match route.place {
                    Place::Native => ("native".to_owned(), None),
                    Place::Lxc => ("lxc".to_owned(), Some(program(LXC, &[]))),
                    Place::Pct => {
                        ("pct".to_owned(), routing.node().ok().map(|path| program(&path.display().to_string(), &[])))
                    }
                    Place::Vm => ("vm".to_owned(), None),
                    Place::Delegate { name, path, args } => (name, Some(program(&path.display().to_string(), &args))),
                };
                Now { backend: Some(backend), program, why: Some(route.why), error: None }
            }
            Err(error) => Now { backend: None, program: None, why: None, error: Some(error.to_string()) },
        };
        Explanation {
            pinned,
            facts: Some(Shown::new(routing, facts)),
            configuration: routing.source.clone(),
            rules,
            now,
        }
    }

    /// Of a container whose bundle cannot be read: what was decided stands, and nothing can be said of a new one.
    pub(crate) fn of_the_past(routing: &Routing, pinned: Pinned, why: &Error) -> Self {
        let now = Now { backend: None, program: None, why: None, error: Some(why.to_string()) };
        let configuration = routing.source.clone();
        Explanation { pinned: Some(pinned), facts: None, configuration, rules: Vec::new(), now }
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        if let Some(pinned) = &self.pinned {
            writeln!(out, "pinned     {}", backend(&pinned.backend, pinned.program.as_deref()))?;
            writeln!(out, "           {}", pinned.why)?;
            writeln!(out, "           at {}", pinned.created)?;
        }
        if let Some(facts) = &self.facts {
            facts.write(out)?;
            match &self.configuration {
                None => writeln!(out, "rules      none: there is no configuration")?,
                Some(path) if self.rules.is_empty() => writeln!(out, "rules      none in {path}")?,
                Some(path) => writeln!(out, "rules      of {path}")?,
            }
        }
        for rule in &self.rules {
            let name = rule.name.as_ref().map_or(String::new(), |name| format!(" {name:?}"));
            let fallback = rule.fallback.as_ref().map_or(String::new(), |other| format!(", else {other}"));
            let mark = match rule.matches {
                Some(true) => "matches: ",
                Some(false) => "no: ",
                None => "",
            };
            writeln!(out, "  {}{name} -> {}{fallback}: {mark}{}", rule.number, rule.backend, rule.why)?;
        }
        let title = if self.pinned.is_some() { "if new    " } else { "goes to   " };
        match (&self.now.backend, &self.now.error) {
            (Some(name), _) => {
                writeln!(out, "{title} {}", backend(name, self.now.program.as_deref()))?;
                writeln!(out, "           {}", self.now.why.as_deref().unwrap_or_default())
            }
            (None, error) => writeln!(out, "{title} nowhere: {}", error.as_deref().unwrap_or_default()),
        }
    }
}

impl Shown {
    fn new(routing: &Routing, facts: &Facts<'_>) -> Self {
        let named = routing.rules.iter().flat_map(|rule| &rule.conditions).filter_map(|condition| {
            let Subject::Annotation(key) = &condition.subject else { return None };
            Some((key.clone(), facts.value(&condition.subject)?.into_owned()))
        });
        Shown {
            id: facts.id.to_owned(),
            annotations: named.collect(),
            hostname: facts.hostname.map(str::to_owned),
            cgroup_parent: facts.cgroup_parent.as_deref().map(str::to_owned),
            bundle: facts.bundle.to_string(),
            uid: facts.uid,
            argv0: facts.argv0.to_owned(),
        }
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "id         {}", self.id)?;
        writeln!(out, "hostname   {}", self.hostname.as_deref().unwrap_or("-"))?;
        writeln!(out, "cgroup     {}", self.cgroup_parent.as_deref().unwrap_or("-"))?;
        writeln!(out, "bundle     {}", self.bundle)?;
        writeln!(out, "caller     uid {}, as {}", self.uid, self.argv0)?;
        for (key, value) in &self.annotations {
            writeln!(out, "annotation {key} = {value:?}")?;
        }
        Ok(())
    }
}

/// A program with the options that it is given.
pub(crate) fn program(path: &str, args: &[String]) -> String {
    args.iter().fold(path.to_owned(), |line, arg| format!("{line} {arg}"))
}

fn backend(name: &str, program: Option<&str>) -> String {
    match program {
        Some(program) if program != name => format!("{name} ({program})"),
        _ => name.to_owned(),
    }
}
