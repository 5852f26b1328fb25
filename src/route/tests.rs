//! Rules against an independent matcher, fallbacks, and what is said of it all, as golden files.

use super::*;
use proptest::prelude::*;

fn condition(subject: Subject, patterns: &[&str]) -> Condition {
    let pattern = |text: &&str| match subject {
        Subject::Uid => Pattern::uids(text).unwrap(),
        _ => Pattern::new(text).unwrap(),
    };
    let patterns = patterns.iter().map(pattern).collect();
    Condition { subject, patterns }
}

fn rule(line: usize, conditions: Vec<Condition>, backend: &str) -> Rule {
    Rule { name: None, line, conditions, backend: backend.to_owned(), fallback: None, clone: false }
}

fn facts<'a>() -> Facts<'a> {
    Facts {
        id: "web-1",
        annotations: None,
        hostname: Some("web"),
        cgroup_parent: Some("/machine.slice".into()),
        bundle: "/var/b".into(),
        uid: 0,
        argv0: "wharf",
    }
}

/// Programs that are on every host.
fn routing(rules: Vec<Rule>) -> Routing {
    let runtime = |name: &str, path: &str| Runtime { name: name.to_owned(), path: path.into(), args: Vec::new() };
    let mut sh = runtime("sh", "/bin/sh");
    sh.args = vec!["--debug".to_owned()];
    Routing {
        pct: None,
        qemu: None,
        source: Some("/etc/wharf/config.json".to_owned()),
        runtimes: vec![sh, runtime("true", "/bin/true"), runtime("gone", "/nowhere/gone")],
        rules,
        default: None,
    }
}

fn name(route: &Route) -> &str {
    match &route.place {
        Place::Native => "native",
        Place::Lxc => "lxc",
        Place::Pct => "pct",
        Place::Vm => "vm",
        Place::Delegate { name, .. } => name,
    }
}

#[test]
fn without_a_configuration_everything_is_native() {
    let route = Routing::default().choose(None, &facts()).unwrap();
    assert_eq!((route.place, route.why.as_str(), route.rule), (Place::Native, "the default", None));
}

#[test]
fn what_is_asked_for_overrules_every_rule() {
    let routing = routing(vec![rule(1, vec![], "true")]);
    let route = routing.choose(Some("native"), &facts()).unwrap();
    assert_eq!((route.place, route.why.as_str()), (Place::Native, "asked for by --backend"));
}

#[test]
fn a_rule_needs_all_its_conditions_and_what_is_not_there_matches_nothing() {
    let all = vec![condition(Subject::Id, &["web-*"]), condition(Subject::Hostname, &["db", "we?"])];
    assert_eq!(name(&routing(vec![rule(1, all, "true")]).choose(None, &facts()).unwrap()), "true");
    let one_fails = vec![condition(Subject::Id, &["web-*"]), condition(Subject::Argv0, &["wharf-vm"])];
    assert_eq!(name(&routing(vec![rule(1, one_fails, "true")]).choose(None, &facts()).unwrap()), "native");
    let absent = vec![condition(Subject::Annotation("a".to_owned()), &["*"])];
    assert_eq!(name(&routing(vec![rule(1, absent, "true")]).choose(None, &facts()).unwrap()), "native");
}

#[test]
fn a_backend_that_cannot_be_used_is_refused_unless_the_rule_names_a_fallback() {
    let mut rules = routing(vec![rule(7, vec![condition(Subject::Id, &["*"])], "gone")]);
    let error = rules.choose(None, &facts()).unwrap_err().to_string();
    assert_eq!(
        error,
        "use backend gone at /nowhere/gone: No such file or directory \
         (required by rule 1 (/etc/wharf/config.json line 7), which names no fallback)"
    );
    rules.rules[0].fallback = Some("true".to_owned());
    let route = rules.choose(None, &facts()).unwrap();
    assert_eq!(name(&route), "true");
    assert!(route.why.ends_with("true instead of gone: use backend gone at /nowhere/gone: No such file or directory"));
    assert_eq!(route.rule.unwrap().fallback_for.as_deref(), Some("gone"));
    rules.rules[0].fallback = Some("gone".to_owned());
    assert!(rules.choose(None, &facts()).unwrap_err().to_string().contains("the fallback of rule 1"));
    rules.rules.clear();
    rules.default = Some("gone".to_owned());
    let error = rules.choose(None, &facts()).unwrap_err().to_string();
    assert!(error.ends_with("(default_backend of /etc/wharf/config.json)"), "{error}");
}

#[test]
fn what_is_never_reached_or_cannot_be_used_here_is_doubted() {
    for all in [vec![], vec![condition(Subject::Id, &["a", "re:.*"]), condition(Subject::Argv0, &["*"])]] {
        let doubts = routing(vec![rule(3, all, "true"), rule(9, vec![], "gone")]).doubts();
        assert_eq!(
            doubts,
            [
                "rule 2 (/etc/wharf/config.json line 9) is never reached: \
                 rule 1 (/etc/wharf/config.json line 3) matches every container",
                "rule 2 (/etc/wharf/config.json line 9): use backend gone at /nowhere/gone: No such file or directory",
            ]
        );
    }
    // A container may have no hostname.
    let some = vec![condition(Subject::Hostname, &["*"])];
    assert!(routing(vec![rule(3, some, "true"), rule(9, vec![], "true")]).doubts().is_empty());
}

#[test]
fn the_cgroup_parent_is_the_directory_or_the_slice() {
    for (path, parent) in [
        ("/machine.slice/libpod-1.scope", "/machine.slice"),
        ("machine.slice:libpod:1", "machine.slice"),
        ("/libpod_parent/libpod-1", "/libpod_parent"),
        ("/c", "/"),
        ("c", ""),
        ("a/b", "a"),
        ("/kubepods/pod:1/c", "/kubepods/pod:1"),
    ] {
        assert_eq!(cgroup_parent(path), parent, "{path}");
    }
}

/// The plainest reading of a glob: every way to cut the value is tried.
fn plainly(glob: &[char], value: &[char]) -> bool {
    match (glob, value) {
        ([], []) => true,
        (['*', rest @ ..], _) => (0..=value.len()).any(|taken| plainly(rest, &value[taken..])),
        (['?', rest @ ..], [_, others @ ..]) => plainly(rest, others),
        (['[', '!', a, '-', b, ']', rest @ ..], [letter, others @ ..]) => {
            !(a <= letter && letter <= b) && plainly(rest, others)
        }
        (['[', a, '-', b, ']', rest @ ..], [letter, others @ ..]) => {
            a <= letter && letter <= b && plainly(rest, others)
        }
        ([exactly, rest @ ..], [letter, others @ ..]) => exactly == letter && plainly(rest, others),
        _ => false,
    }
}

fn letters(text: &str) -> Vec<char> {
    text.chars().collect()
}

fn globs() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => Just("a"), 4 => Just("b"), 2 => Just("/"), 3 => Just("*"), 2 => Just("?"),
        1 => Just("[a-b]"), 1 => Just("[!a-b]"), 1 => Just("ü"),
    ];
    proptest::collection::vec(part, 1..8).prop_map(|parts| parts.concat())
}

type Written = Vec<(usize, Vec<String>)>;

const SUBJECTS: [Subject; 3] = [Subject::Id, Subject::Hostname, Subject::Bundle];

fn written_rules() -> impl Strategy<Value = Vec<Written>> {
    let condition = (0..SUBJECTS.len(), proptest::collection::vec(globs(), 1..3));
    let rule = proptest::collection::vec(condition, 0..3);
    proptest::collection::vec(rule, 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn globs_match_as_when_read_plainly(glob in globs(), value in "[ab/ü]{0,8}") {
        prop_assert_eq!(Pattern::new(&glob).unwrap().matches(&value), plainly(&letters(&glob), &letters(&value)));
    }

    /// Anchored: each alternative for itself must match the whole value.
    #[test]
    fn regular_expressions_match_the_whole_value(expression in "[ab]{0,2}[.]?[*]?[ab]?([|][ab]{1,2})?", value in "[ab]{0,4}") {
        let Ok(pattern) = Pattern::new(&format!("re:{expression}")) else { return Ok(()) };
        let whole = expression.split('|').any(|one| {
            regex_lite::Regex::new(&format!("\\A(?:{one})\\z")).unwrap().is_match(&value)
        });
        prop_assert_eq!(pattern.matches(&value), whole);
    }

    #[test]
    fn the_first_rule_that_matches_decides(
        written in written_rules(), id in "[ab]{1,4}", hostname in proptest::option::of("[ab]{0,3}"), bundle in "/[ab/]{0,4}",
    ) {
        let facts = Facts { id: &id, hostname: hostname.as_deref(), bundle: bundle.as_str().into(), ..facts() };
        let value = |subject: usize| [Some(id.as_str()), hostname.as_deref(), Some(bundle.as_str())][subject];
        let expected = written.iter().position(|conditions| conditions.iter().all(|(subject, globs)| {
            value(*subject).is_some_and(|value| globs.iter().any(|glob| plainly(&letters(glob), &letters(value))))
        }));
        let rules = written.iter().enumerate().map(|(index, conditions)| {
            let conditions = conditions.iter().map(|(subject, globs)| {
                condition(SUBJECTS[*subject].clone(), &globs.iter().map(String::as_str).collect::<Vec<_>>())
            });
            rule(index, conditions.collect(), "true")
        });
        let routing = routing(rules.collect());
        let route = routing.choose(None, &facts).unwrap();
        prop_assert_eq!(route.rule.map(|rule| rule.number as usize - 1), expected);
        prop_assert_eq!(route.place == Place::Native, expected.is_none());
        // What is explained is what is done.
        let told = serde_json::to_value(Explanation::new(&routing, None, &facts, None)).unwrap();
        let matched = told["rules"].as_array().unwrap().iter().position(|rule| rule["matches"] == true);
        prop_assert_eq!(matched, expected);
    }
}

fn pinned() -> Pinned {
    Pinned {
        backend: "runc".to_owned(),
        program: Some("/usr/sbin/runc".to_owned()),
        why: "rule 1 (/etc/wharf/config.json line 3): id \"web-1\" matches \"*\"".to_owned(),
        created: "2026-01-01T00:00:00Z".to_owned(),
    }
}

/// `WHARF_UPDATE=1` writes them anew; read what changed.
#[test]
fn explanations_are_as_in_the_golden_files() {
    let named = |name: &str, mut rule: Rule| {
        rule.name = Some(name.to_owned());
        rule
    };
    let annotations = HashMap::from([
        ("org.example.runtime".to_owned(), "sh \"quoted\"".to_owned()),
        ("org.example.other".to_owned(), "not named by any rule".to_owned()),
    ]);
    let facts = Facts { annotations: Some(&annotations), ..facts() };
    let mixed = || {
        let mut fallback = rule(12, vec![condition(Subject::Argv0, &["wharf"])], "gone");
        fallback.fallback = Some("sh".to_owned());
        vec![
            named("links", rule(3, vec![condition(Subject::Argv0, &["wharf-vm", "re:wharf-[0-9]+"])], "true")),
            rule(6, vec![condition(Subject::Annotation("org.example.runtime".to_owned()), &["true"])], "true"),
            rule(9, vec![condition(Subject::Id, &["web-*"]), condition(Subject::Uid, &["1000-1999"])], "true"),
            fallback,
            rule(15, vec![], "native"),
        ]
    };
    let mut empty = routing(vec![]);
    empty.default = Some("true".to_owned());
    let cases = [
        ("no-configuration", Explanation::new(&Routing::default(), None, &facts, None)),
        ("no-rules", Explanation::new(&empty, None, &facts, None)),
        ("fallback", Explanation::new(&routing(mixed()), None, &facts, None)),
        ("asked-for", Explanation::new(&routing(mixed()), Some("native"), &facts, None)),
        ("pinned-elsewhere", Explanation::new(&routing(mixed()), None, &facts, Some(pinned()))),
        (
            "required",
            Explanation::new(
                &routing(vec![rule(3, vec![condition(Subject::Bundle, &["/var/*"])], "gone")]),
                None,
                &facts,
                None,
            ),
        ),
        (
            "bundle-gone",
            Explanation::of_the_past(&routing(mixed()), pinned(), &wharf_core::Error::system("open bundle /var/b", 2)),
        ),
    ];
    for (name, explanation) in cases {
        let json = serde_json::to_string_pretty(&explanation).unwrap();
        let text = format!("{}\n{json}\n", explanation.text());
        let path = format!("{}/src/route/golden/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("WHARF_UPDATE").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text, "{path}");
    }
}
