//! Lays the outcomes of all runtimes beside each other and finds where a peer does better than wharf.

use crate::outcome::{Outcome, Verdict};
use std::collections::BTreeMap;

/// A test in which a peer does better than wharf.
pub(crate) struct Lag {
    pub(crate) test: String,
    pub(crate) why: String,
    /// False where no peer passes the whole test, and only an assertion in it holds with one.
    pub(crate) a_peer_passes: bool,
}

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

    /// A later outcome of the same runtime takes the place of an earlier one, unless it passed.
    pub(crate) fn add(&mut self, runtime: usize, unit: &str, outcomes: BTreeMap<String, Outcome>) {
        for (test, outcome) in outcomes {
            if self.suite == "contest" && test == unit {
                self.broken.insert((runtime, test), outcome);
            } else {
                let place = &mut self.tests.entry(test).or_insert_with(|| vec![None; self.runtimes])[runtime];
                if place.as_ref().is_none_or(|before| before.verdict != Verdict::Pass) {
                    *place = Some(outcome);
                }
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

    /// Each test in which a peer does better than wharf: it passes where wharf does not, or an assertion holds more often
    /// in a test that neither passes.
    pub(crate) fn worse(&self) -> Vec<Lag> {
        self.tests().filter_map(|test| self.lag(test)).collect()
    }

    /// Those of one unit.
    pub(crate) fn lags(&self, unit: &str) -> Vec<Lag> {
        self.tests().filter(|test| test.split("::").next() == Some(unit)).filter_map(|test| self.lag(test)).collect()
    }

    fn lag(&self, test: &str) -> Option<Lag> {
        let ours = self.outcome(test, 0);
        if ours.verdict == Verdict::Pass {
            return None;
        }
        let test = test.to_owned();
        let peers: Vec<Outcome> = (1..self.runtimes).map(|peer| self.outcome(&test, peer)).collect();
        if peers.iter().any(|theirs| theirs.verdict == Verdict::Pass) {
            return Some(Lag { test, why: ours.why, a_peer_passes: true });
        }
        let mut all = peers.into_iter().flat_map(|theirs| theirs.held);
        let (text, _) = all.find(|(text, count)| ours.held.get(text).unwrap_or(&0) < count)?;
        Some(Lag { test, why: format!("holds with a peer: {text}"), a_peer_passes: false })
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
