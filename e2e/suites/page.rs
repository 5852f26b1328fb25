//! Writes docs/conformance.md: one section for each suite, the other one's kept as it is.

use crate::Runtime;
use crate::compare::Compared;
use crate::outcome::{Outcome, Verdict};
use crate::reasons::{KINDS, Reasons};
use crate::suite::Suite;
use std::fmt::Write;
use std::path::Path;

const HEAD: &str = "# Conformance

Written by `e2e/conformance`, which runs the two public suites of the runtime specification on wharf and, beside it, on
other runtimes: the same tests, the same machine, each test in namespaces of its own with a limit of two minutes. The
command fails while another runtime passes a test that wharf does not. Several tests race with the payload (`killsig`
signals a shell that may not have set its trap yet), so wharf gets up to three tries where a peer passes and no reason is
known. The reasons are kept in `e2e/suites/reasons.tsv`. crun 1.8 is called through an adapter that lowers `ociVersion`
and puts the id last: without it nearly every test would end at its first line.
";

pub(crate) fn write(
    page: &Path,
    suite: &Suite,
    runtimes: &[Runtime],
    compared: &Compared,
    reasons: &Reasons,
) -> Result<(), String> {
    let old = std::fs::read_to_string(page).unwrap_or_default();
    let section = section(&suite.revision(), runtimes, compared, reasons);
    let mut text = HEAD.to_owned();
    for name in ["runtime-tools", "contest"] {
        if name == suite.name() {
            let _ = write!(text, "\n{section}");
        } else if let Some(kept) = kept(&old, name) {
            let _ = write!(text, "\n{kept}");
        }
    }
    std::fs::write(page, text).map_err(|error| format!("write {}: {error}", page.display()))
}

/// The section of this name in the page as it was.
fn kept(old: &str, name: &str) -> Option<String> {
    let begin = old.find(&format!("## {name}\n"))?;
    let rest = &old[begin..];
    let end = rest[3..].find("\n## ").map_or(rest.len(), |at| at + 4);
    Some(rest[..end].to_owned())
}

fn section(revision: &str, runtimes: &[Runtime], compared: &Compared, reasons: &Reasons) -> String {
    let mut text = format!("## {}\n\nRevision {revision}, {}.\n\n", compared.suite, machine());
    text += "| runtime | version | pass | fail | skipped |\n|---|---|---|---|---|\n";
    for (index, runtime) in runtimes.iter().enumerate() {
        let count = |verdict| compared.count(index, verdict);
        let (pass, fail, skip) = (count(Verdict::Pass), count(Verdict::Fail), count(Verdict::Skip));
        let _ = writeln!(text, "| {} | {} | {pass} | {fail} | {skip} |", runtime.name, runtime.version);
    }
    let lags = compared.worse();
    let of = |a_peer_passes: bool| {
        lags.iter().filter(|lag| lag.a_peer_passes == a_peer_passes).map(|lag| lag.test.as_str()).collect::<Vec<_>>()
    };
    let lagging: Vec<&str> = lags.iter().map(|lag| lag.test.as_str()).collect();
    let failing = compared.tests().filter(|test| compared.outcome(test, 0).verdict == Verdict::Fail);
    let common: Vec<&str> = failing.map(String::as_str).filter(|test| !lagging.contains(test)).collect();
    for (title, tests) in [
        ("A peer passes, wharf does not", of(true)),
        ("No runtime passes, and an assertion holds with a peer only", of(false)),
        ("Fails with every runtime", common),
    ] {
        let _ = writeln!(text, "\n### {title}\n");
        if tests.is_empty() {
            text += "None.\n";
            continue;
        }
        text += "| test | kind | why | seen |\n|---|---|---|---|\n";
        for test in tests {
            let kind = reasons.kind(compared.suite, test).unwrap_or("**unexplained**");
            let why = reasons.reason(compared.suite, test).unwrap_or("");
            let seen = compared.outcome(test, 0).why;
            let _ = writeln!(text, "| {test} | {kind} | {why} | {} |", seen.replace('`', "'"));
        }
    }
    text += "\n";
    for (kind, meaning) in KINDS {
        let _ = writeln!(text, "- *{kind}*: {meaning}");
    }
    let _ = write!(text, "\n### Every test\n\nAssertions that held, of those made.\n\n| test |");
    for runtime in runtimes {
        let _ = write!(text, " {} |", runtime.name);
    }
    let _ = writeln!(text, "\n|---{}|", "|---".repeat(runtimes.len()));
    for test in compared.tests() {
        let _ = write!(text, "| {test} |");
        for index in 0..runtimes.len() {
            let _ = write!(text, " {} |", cell(&compared.outcome(test, index)));
        }
        text += "\n";
    }
    text
}

fn cell(outcome: &Outcome) -> String {
    let (held, all) = (outcome.count(), outcome.count() + outcome.failed);
    match outcome.verdict {
        Verdict::Pass if all <= 1 => "pass".to_owned(),
        Verdict::Pass => format!("pass {held}"),
        Verdict::Fail if all <= 1 => "FAIL".to_owned(),
        Verdict::Fail => format!("FAIL {held}/{all}"),
        Verdict::Skip => "skipped".to_owned(),
    }
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cgroup = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "v2" } else { "v1" };
    format!("Linux {} {}, cgroup {cgroup}", read("/proc/sys/kernel/osrelease"), std::env::consts::ARCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_suites_section_is_kept_when_one_is_written() {
        let old = "# C\n\n## runtime-tools\n\na\n### x\n\n## contest\n\nb\n";
        assert_eq!(kept(old, "runtime-tools").unwrap(), "## runtime-tools\n\na\n### x\n\n");
        assert_eq!(kept(old, "contest").unwrap(), "## contest\n\nb\n");
        assert_eq!(kept(old, "other"), None);
    }
}
