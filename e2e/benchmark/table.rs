//! Statistics, and the tables as markdown.

use crate::Result;
use crate::candidate::Candidate;
use crate::life::{Cost, Verb};
use crate::stage::Configuration;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// Markers of a file, in the form `<!-- NAME: begin -->`.
pub(crate) const BENCH: &str = "bench";
pub(crate) const CROWD: &str = "crowd";

/// Every cost that was measured, by candidate and verb.
pub(crate) struct Results {
    names: Vec<&'static str>,
    costs: BTreeMap<(usize, Verb), Vec<Cost>>,
}

struct Summary {
    minimum: f64,
    median: f64,
}

fn summary(mut values: Vec<f64>) -> Option<Summary> {
    values.sort_by(f64::total_cmp);
    Some(Summary { minimum: *values.first()?, median: values[values.len() / 2] })
}

impl Results {
    pub(crate) fn new<'a>(candidates: impl IntoIterator<Item = &'a Candidate>) -> Results {
        Results { names: candidates.into_iter().map(|candidate| candidate.name).collect(), costs: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, candidate: &Candidate, costs: Vec<(Verb, Cost)>) {
        let index = self.names.iter().position(|name| *name == candidate.name).expect("a known candidate");
        for (verb, cost) in costs {
            self.costs.entry((index, verb)).or_default().push(cost);
        }
    }

    fn summary(&self, index: usize, verb: Verb, value: impl Fn(&Cost) -> f64) -> Option<Summary> {
        summary(self.costs.get(&(index, verb))?.iter().map(value).collect())
    }

    pub(crate) fn tables(&self, configuration: Configuration) -> String {
        let verbs = &Verb::RUNTIME;
        let mut page = format!("\n## {}\n", configuration.title());
        page += &self.times("Wall time, ms", verbs, |cost| cost.wall);
        page += &self.times("CPU time of all processes, ms", verbs, |cost| cost.cpu);
        page += "\nPage faults of all processes / peak memory of the biggest one in KiB (minimum)\n\n";
        page += &self.head();
        for verb in *verbs {
            page += &self.row(verb, |index| {
                let faults = self.summary(index, verb, |cost| cost.faults as f64)?.minimum;
                let peak = self.summary(index, verb, |cost| cost.peak as f64)?.minimum;
                Some(format!("{faults} / {peak}"))
            });
        }
        page
    }

    /// What engines took from end to end.
    pub(crate) fn engines(&self) -> String {
        let measured = |verb: &Verb| self.costs.keys().any(|(_, with)| with == verb);
        let verbs: Vec<Verb> = Verb::ENGINES.into_iter().filter(measured).collect();
        let mut page = "\n## Engines, from end to end\n".to_owned();
        page += &self.times("Wall time of the client, ms", &verbs, |cost| cost.wall);
        page += &self.times("CPU time of all processes, ms", &verbs, |cost| cost.cpu);
        page
    }

    fn times(&self, title: &str, verbs: &[Verb], value: fn(&Cost) -> f64) -> String {
        let rounds = self.costs.values().map(Vec::len).max().unwrap_or(0);
        let first = self.names.first().copied().unwrap_or_default();
        let mut text = format!("\n{title}: minimum / median of {rounds} rounds, and (minimum beside {first} = 1)\n\n");
        text += &self.head();
        for verb in verbs {
            text += &self.row(*verb, |index| {
                let own = self.summary(index, *verb, value)?;
                let times = format!("{:.2} / {:.2}", own.minimum / 1e3, own.median / 1e3);
                // The first may lack the verb.
                let Some(first) = self.summary(0, *verb, value) else { return Some(times) };
                Some(format!("{times} ({:.2})", own.minimum / first.minimum))
            });
        }
        text
    }

    fn head(&self) -> String {
        format!("| | {} |\n|---|{}\n", self.names.join(" | "), "---:|".repeat(self.names.len()))
    }

    fn row(&self, verb: Verb, cell: impl Fn(usize) -> Option<String>) -> String {
        let cells: Vec<String> =
            (0..self.names.len()).map(|index| cell(index).unwrap_or_else(|| "–".to_owned())).collect();
        format!("| {} | {} |\n", verb.word(), cells.join(" | "))
    }
}

/// None where a count was given up.
pub(crate) type ByVerb = Vec<(Verb, Option<u64>)>;

/// Exact counts, one for each verb.
pub(crate) struct Counts {
    names: Vec<&'static str>,
    counts: Vec<(&'static str, usize, ByVerb)>,
}

impl Counts {
    pub(crate) fn new(candidates: &[Candidate]) -> Counts {
        Counts { names: candidates.iter().map(|candidate| candidate.name).collect(), counts: Vec::new() }
    }

    pub(crate) fn add(&mut self, what: &'static str, candidate: &Candidate, counts: ByVerb) {
        let index = self.names.iter().position(|name| *name == candidate.name).expect("a known candidate");
        self.counts.push((what, index, counts));
    }

    pub(crate) fn table(&self) -> String {
        let mut page = String::new();
        let mut kinds: Vec<&str> = Vec::new();
        for (what, ..) in &self.counts {
            if !kinds.contains(what) {
                kinds.push(what);
            }
        }
        for kind in kinds {
            let title = kind[..1].to_uppercase() + &kind[1..];
            let _ = write!(page, "\n{title}, of all processes\n\n| | {} |\n", self.names.join(" | "));
            let _ = writeln!(page, "|---|{}", "---:|".repeat(self.names.len()));
            for verb in Verb::RUNTIME {
                let cell = |index: usize| {
                    let counts = self.counts.iter().find(|(what, who, _)| *what == kind && *who == index)?;
                    let (_, count) = counts.2.iter().find(|(counted, _)| *counted == verb)?;
                    count.map(|count| count.to_string())
                };
                let cells: Vec<String> =
                    (0..self.names.len()).map(|index| cell(index).unwrap_or_else(|| "–".to_owned())).collect();
                if cells.iter().any(|cell| cell != "–") {
                    let _ = writeln!(page, "| {} | {} |", verb.word(), cells.join(" | "));
                }
            }
        }
        page
    }
}

/// `create` alone and in a crowd of `alive` containers.
pub(crate) fn crowd(results: &[Results; 2], alive: usize) -> String {
    let mut page = format!(
        "\n## create while {alive} containers of the same runtime are alive\n\nThe engine's configuration; CPU time of all processes, minimum / median, ms\n\n"
    );
    page += &results[0].head();
    for (results, count) in results.iter().zip([0, alive]) {
        let cells: Vec<String> = (0..results.names.len())
            .map(|index| match results.summary(index, Verb::Create, |cost| cost.cpu) {
                Some(cpu) => format!("{:.2} / {:.2}", cpu.minimum / 1e3, cpu.median / 1e3),
                None => "–".to_owned(),
            })
            .collect();
        let _ = writeln!(page, "| {count} alive | {} |", cells.join(" | "));
    }
    page
}

/// Replaces what stands between the markers of `file`.
pub(crate) fn write_between_markers(file: &Path, name: &str, page: &str) -> Result<()> {
    let text = std::fs::read_to_string(file)?;
    let [begin, end] = ["begin", "end"].map(|edge| format!("<!-- {name}: {edge} -->"));
    let after = text.find(&begin).ok_or_else(|| format!("{}: no line {begin}", file.display()))? + begin.len();
    let until = text.find(&end).ok_or_else(|| format!("{}: no line {end}", file.display()))?;
    let new = format!("{}\n\n{}\n{}", &text[..after], page.trim_end(), &text[until..]);
    Ok(std::fs::write(file, new)?)
}
