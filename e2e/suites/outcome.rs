//! What a test program said, read from TAP or from contest's own lines.

use crate::sandbox::Run;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Fail,
    Skip,
}

/// One test on one runtime.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    /// How often each assertion held, by its text.
    pub(crate) held: BTreeMap<String, usize>,
    pub(crate) failed: usize,
    /// The first thing that went wrong, or why it was skipped.
    pub(crate) why: String,
}

impl Outcome {
    pub(crate) fn fail(why: impl Into<String>) -> Self {
        Outcome { verdict: Verdict::Fail, held: BTreeMap::new(), failed: 0, why: shorten(&why.into()) }
    }

    pub(crate) fn count(&self) -> usize {
        self.held.values().sum()
    }
}

/// A program that speaks the Test Anything Protocol. Several of runtime-tools' report a failure only as a diagnostic
/// named "error" in a plan of no tests: that counts as a failure here.
pub(crate) fn from_tap(run: &Run) -> Outcome {
    let (mut held, mut skipped, mut failures) = (BTreeMap::new(), 0, Vec::new());
    let (mut planned, mut seen, mut complaint) = (None, 0, None);
    for line in run.stdout.lines() {
        if let Some(count) = line.strip_prefix("1..") {
            planned = count.split_whitespace().next().and_then(|count| count.parse::<usize>().ok());
        } else if let Some(rest) = line.strip_prefix("ok ") {
            seen += 1;
            if rest.to_ascii_lowercase().contains("# skip") {
                skipped += 1;
            } else {
                *held.entry(assertion(rest)).or_insert(0) += 1;
            }
        } else if let Some(rest) = line.strip_prefix("not ok ") {
            seen += 1;
            if !rest.to_ascii_lowercase().contains("# todo") {
                failures.push(assertion(rest));
            }
        } else if let Some(text) = line.trim_start().strip_prefix("\"error\": ") {
            complaint.get_or_insert(text.trim_matches(['"', ',']).split("\\nRefer").next().unwrap_or(text).to_owned());
        }
    }
    let last = || run.stderr.lines().rfind(|line| !line.trim().is_empty() && !line.starts_with("exit status"));
    let why = match run.code {
        None => Some("no end in time".to_owned()),
        _ if !failures.is_empty() => Some(failures[0].clone()),
        Some(code) if code != 0 => Some(last().map_or(format!("exit code {code}"), str::to_owned)),
        _ if seen == 0 => complaint,
        // A plan of none before assertions is what one of the programs prints when it forgets to plan.
        _ if planned.is_some_and(|planned| planned != seen && planned != 0) => {
            Some(format!("{seen} assertions of {}", planned.unwrap_or(0)))
        }
        _ => None,
    };
    let verdict = match &why {
        Some(_) => Verdict::Fail,
        None if seen > 0 && skipped == seen => Verdict::Skip,
        None => Verdict::Pass,
    };
    Outcome { verdict, held, failed: failures.len(), why: shorten(&why.unwrap_or_default()) }
}

/// `12 - text` or `12 text`, less the number, which differs where an assertion before is missing.
fn assertion(rest: &str) -> String {
    let text = rest.trim_start_matches(|digit: char| digit.is_ascii_digit()).trim_start();
    text.strip_prefix("- ").unwrap_or(text).trim().to_owned()
}

/// The tests of one group of contest. A group that ended without naming its tests is itself one failed test.
pub(crate) fn from_contest(group: &str, run: &Run) -> BTreeMap<String, Outcome> {
    let mut tests: BTreeMap<String, Outcome> = BTreeMap::new();
    let mut last: Option<String> = None;
    for line in run.stdout.lines() {
        let parts: Vec<&str> = line.splitn(3, " : ").collect();
        let verdict = match parts.last().copied() {
            Some("ok") => Some(Verdict::Pass),
            Some("not ok") => Some(Verdict::Fail),
            Some("skipped") => Some(Verdict::Skip),
            _ => None,
        };
        if let (Some(verdict), 3, Some((number, _))) = (verdict, parts.len(), parts[0].split_once(" / "))
            && number.parse::<usize>().is_ok()
        {
            let name = format!("{group}::{}", parts[1]);
            let held = BTreeMap::from([(parts[1].to_owned(), usize::from(verdict == Verdict::Pass))]);
            let failed = usize::from(verdict == Verdict::Fail);
            tests.insert(name.clone(), Outcome { verdict, held, failed, why: String::new() });
            last = Some(name);
        } else if let Some(test) = last.as_ref().and_then(|name| tests.get_mut(name))
            && test.why.is_empty()
            && !line.starts_with('#')
        {
            test.why = shorten(line);
        }
    }
    if tests.is_empty() {
        let why = match run.code {
            None => "no end in time".to_owned(),
            Some(code) => {
                let panic = run.stderr.lines().find(|line| line.contains("Err` value") || line.starts_with("Error"));
                panic.map_or(format!("exit code {code}, no test named"), str::to_owned)
            }
        };
        tests.insert(group.to_owned(), Outcome::fail(why));
    }
    tests
}

/// One line of at most 200 characters, without the random names that would differ at each run.
fn shorten(text: &str) -> String {
    let words = text.trim().replace('|', "/");
    let words: Vec<&str> = words.split_whitespace().filter(|word| !word.starts_with("time=")).collect();
    words.join(" ").chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(code: i32, stdout: &str) -> Run {
        Run { code: Some(code), stdout: stdout.to_owned(), stderr: "exit status 1\n".to_owned() }
    }

    #[test]
    fn a_tap_program_passes_only_when_all_it_planned_held() {
        let good = from_tap(&run(0, "TAP version 13\nok 1 - a\nok 2 - b # SKIP none\n1..2\n"));
        assert_eq!((good.verdict, good.count(), good.failed), (Verdict::Pass, 1, 0));
        assert_eq!(from_tap(&run(0, "ok 1 - a\n1..2\n")).verdict, Verdict::Fail);
        assert_eq!(from_tap(&run(0, "ok 1 - a\n1..0\n")).verdict, Verdict::Pass);
        assert_eq!(from_tap(&run(1, "ok 1 - a\n1..1\n")).verdict, Verdict::Fail);
        assert_eq!(from_tap(&run(0, "ok 1 # SKIP no device\n1..1\n")).verdict, Verdict::Skip);
        let bad = from_tap(&run(0, "ok 1 - a\nnot ok 2 - b is c\n1..2\n"));
        assert_eq!((bad.verdict, bad.why.as_str(), bad.failed), (Verdict::Fail, "b is c", 1));
    }

    #[test]
    fn a_failure_that_is_only_a_diagnostic_is_one() {
        let hidden = "TAP version 13\n  ---\n  {\n    \"error\": \"Hooks MUST be called\\nRefer to: x\"\n  }\n1..0\n";
        let outcome = from_tap(&run(0, hidden));
        assert_eq!((outcome.verdict, outcome.why.as_str()), (Verdict::Fail, "Hooks MUST be called"));
        assert_eq!(from_tap(&run(0, "TAP version 13\n1..0\n")).verdict, Verdict::Pass);
    }

    #[test]
    fn contest_names_each_test_of_a_group() {
        let text = "# Start group g\n1 / 3 : a : ok\n2 / 3 : b : not ok\n\tit broke\n3 / 3 : c : skipped\n\tno criu\n# End group g\n";
        let tests = from_contest("g", &run(0, text));
        assert_eq!(tests["g::a"].verdict, Verdict::Pass);
        assert_eq!((tests["g::b"].verdict, tests["g::b"].why.as_str()), (Verdict::Fail, "it broke"));
        assert_eq!((tests["g::c"].verdict, tests["g::c"].why.as_str()), (Verdict::Skip, "no criu"));
        let none = from_contest("g", &run(101, ""));
        assert_eq!(none["g"].verdict, Verdict::Fail);
    }
}
