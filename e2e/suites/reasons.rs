//! Why a test fails with wharf: a table kept by hand, so that a failure without a line in it stands out.

use std::collections::BTreeMap;

/// The kinds of reason, as the table spells them, and what each means on the page.
pub(crate) const KINDS: [(&str, &str); 5] = [
    ("fault", "a fault of wharf's, to be mended"),
    ("environment", "cannot run on this machine"),
    ("suite", "the suite asserts what the specification does not say, or has a fault of its own"),
    ("later", "wharf refuses the feature by name; it is not built yet"),
    ("choice", "wharf differs on purpose"),
];

pub(crate) struct Reasons(BTreeMap<(String, String), (String, String)>);

impl Reasons {
    /// Lines of `suite TAB test TAB kind TAB reason`; a `*` in place of a test of a group stands for all of them.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut table = BTreeMap::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let cells: Vec<&str> = line.split('\t').collect();
            let [suite, test, kind, reason] = cells[..] else {
                return Err(format!("reasons.tsv line {}: four cells are expected", number + 1));
            };
            if !KINDS.iter().any(|(known, _)| *known == kind) {
                return Err(format!("reasons.tsv line {}: unknown kind {kind}", number + 1));
            }
            table.insert((suite.to_owned(), test.to_owned()), (kind.to_owned(), reason.to_owned()));
        }
        Ok(Reasons(table))
    }

    fn find(&self, suite: &str, test: &str) -> Option<&(String, String)> {
        let exact = self.0.get(&(suite.to_owned(), test.to_owned()));
        let group = || test.split_once("::").map(|(group, _)| (suite.to_owned(), format!("{group}::*")));
        exact.or_else(|| self.0.get(&group()?))
    }

    pub(crate) fn kind(&self, suite: &str, test: &str) -> Option<&str> {
        self.find(suite, test).map(|(kind, _)| kind.as_str())
    }

    pub(crate) fn reason(&self, suite: &str, test: &str) -> Option<&str> {
        self.find(suite, test).map(|(_, reason)| reason.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_reasons_is_well_formed_and_a_star_stands_for_a_group() {
        Reasons::parse(include_str!("reasons.tsv")).unwrap();
        let reasons = Reasons::parse("contest\tg::*\tlater\tnot yet\ncontest\tg::a\tsuite\twrong\n").unwrap();
        assert_eq!(reasons.reason("contest", "g::b"), Some("not yet"));
        assert_eq!(reasons.kind("contest", "g::a"), Some("suite"));
        assert_eq!(reasons.kind("contest", "h"), None);
        assert!(Reasons::parse("contest\tg\tperhaps\tx\n").is_err());
    }
}
