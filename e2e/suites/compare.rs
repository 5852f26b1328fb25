//! Lays the outcomes of all runtimes beside each other and finds where a peer does better than wharf.

use crate::outcome::{Outcome, Verdict};
use std::collections::BTreeMap;

/// The outcomes of one suite; the first runtime is wharf.
pub(crate) struct Compared {
    pub(crate) suite: &'static str,
    runtimes: usize,
    /// By test, one place for each runtime.
    tests: BTreeMap<String, Vec<Option<Outcome>>>,
    /// The unit each runtime broke off in before it named its tests.
    broken: BTreeMap<(usize, String), Outcome>,
}

impl Compared {
    pub(crate) fn new(suite: &'static str, runtimes: usize) -> Self {
        Compared { suite, runtimes, tests: BTreeMap::new(), broken: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, runtime: usize, unit: &str, outcomes: BTreeMap<String, Outcome>) {
        for (test, outcome) in outcomes {
            if self.suite == "contest" && test == unit {
                self.broken.insert((runtime, test), outcome);
            } else {
                self.tests.entry(test).or_insert_with(|| vec![None; self.runtimes])[runtime] = Some(outcome);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.tests.len()
    }

    pub(crate) fn tests(&self) -> impl Iterator<Item = &String> {
        self.tests.keys()
    }

    pub(crate) fn outcome(&self, test: &str, runtime: usize) -> Outcome {
        let unit = test.split("::").next().unwrap_or(test);
        match &self.tests[test][runtime] {
            Some(outcome) => outcome.clone(),
            None => match self.broken.get(&(runtime, unit.to_owned())) {
                Some(outcome) => outcome.clone(),
                None => Outcome::fail("the suite did not name this test"),
            },
        }
    }

    pub(crate) fn passes(&self, runtime: usize) -> usize {
        self.count(runtime, Verdict::Pass)
    }

    pub(crate) fn count(&self, runtime: usize, verdict: Verdict) -> usize {
        self.tests().filter(|test| self.outcome(test, runtime).verdict == verdict).count()
    }

    /// The numbers of the peers that pass this test.
    pub(crate) fn passing_peers(&self, test: &str) -> Vec<usize> {
        (1..self.runtimes).filter(|peer| self.outcome(test, *peer).verdict == Verdict::Pass).collect()
    }

    /// Each test in which a peer does better than wharf, and how: it passes where wharf does not, or an assertion holds
    /// more often in a test that neither passes.
    pub(crate) fn worse(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for test in self.tests() {
            let ours = self.outcome(test, 0);
            if ours.verdict == Verdict::Pass {
                continue;
            }
            if !self.passing_peers(test).is_empty() {
                found.push((test.clone(), format!("a peer passes; {}", ours.why)));
                continue;
            }
            let better = (1..self.runtimes).find_map(|peer| {
                let theirs = self.outcome(test, peer);
                theirs.held.into_iter().find(|(text, count)| ours.held.get(text).unwrap_or(&0) < count)
            });
            if let Some((text, _)) = better {
                found.push((test.clone(), format!("holds with a peer: {text}")));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::from_tap;
    use crate::sandbox::Run;

    fn said(stdout: &str) -> BTreeMap<String, Outcome> {
        let run = Run { code: Some(0), stdout: stdout.to_owned(), stderr: String::new() };
        BTreeMap::from([("t".to_owned(), from_tap(&run))])
    }

    fn worse(ours: &str, theirs: &str) -> usize {
        let mut compared = Compared::new("runtime-tools", 2);
        compared.add(0, "t", said(ours));
        compared.add(1, "t", said(theirs));
        compared.worse().len()
    }

    #[test]
    fn a_test_that_only_a_peer_passes_is_ours_to_mend() {
        assert_eq!(worse("not ok 1 - a\n1..1\n", "ok 1 - a\n1..1\n"), 1);
        assert_eq!(worse("ok 1 - a\n1..1\n", "not ok 1 - a\n1..1\n"), 0);
        assert_eq!(worse("not ok 1 - a\n1..1\n", "not ok 1 - a\n1..1\n"), 0);
    }

    #[test]
    fn an_assertion_that_holds_only_with_a_peer_is_ours_to_mend_too() {
        assert_eq!(worse("not ok 1 - a\nnot ok 2 - b\n1..2\n", "ok 1 - a\nnot ok 2 - b\n1..2\n"), 1);
        assert_eq!(worse("ok 1 - a\nnot ok 2 - b\n1..2\n", "ok 1 - a\nnot ok 2 - b\n1..2\n"), 0);
    }
}
