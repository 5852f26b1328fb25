//! Attacks: each family of holes that runc, crun and youki had, tried on wharf, and the very same on the peers that are
//! installed.
//!
//! An attack answers with a verdict. It must be able to win: it says [`Verdict::Void`] when it was not really carried
//! out, and that fails the trial as much as a hit.
//!
//! | environment | meaning |
//! |---|---|
//! | `WHARF_E2E_PEERS=no` | leaves the peers alone |
//! | `WHARF_E2E_FULL=1` | more starts for every race |
//! | `WHARF_E2E_ATTACK_TABLE=FILE` | writes the table of docs/attacks.md |

pub(crate) mod arena;
mod descriptors;
mod devices;
mod exec;
mod executable;
mod identity;
mod masks;
mod procfs;
mod race;
mod surroundings;
mod targets;
mod terminal;

use arena::{Arena, Ran, Runtime, SECRET};
use harness::{Feature, Host, Outcome, Stop};
use std::sync::{Mutex, OnceLock};

/// How an attack ended.
#[derive(Debug)]
enum Verdict {
    /// The attacker got what the words say.
    Hit(String),
    /// It was really tried, and the runtime stood.
    Held(String),
    /// It could not be tried.
    Void(String),
}

/// One attack.
struct Attack {
    name: &'static str,
    /// The holes of this kind, by their numbers.
    cve: &'static str,
    /// What the attacker does, in one sentence.
    what: &'static str,
    run: fn(&Runtime<'_>) -> Verdict,
}

fn all() -> Vec<Attack> {
    let mut all = devices::attacks();
    all.extend(procfs::attacks());
    all.extend(masks::attacks());
    all.extend(targets::attacks());
    all.extend(race::attacks());
    all.extend(descriptors::attacks());
    all.extend(executable::attacks());
    all.extend(exec::attacks());
    all.extend(identity::attacks());
    all.extend(surroundings::attacks());
    all.extend(terminal::attacks());
    all
}

/// The trials of all attacks.
pub(crate) fn trials() -> Feature {
    all()
        .into_iter()
        .fold(Feature::new("attack"), |feature, attack| feature.trial(attack.name, move |host| fight(&attack, host)))
}

fn fight(attack: &Attack, host: &Host) -> Outcome {
    let mut proven = Vec::new();
    let peers =
        if std::env::var("WHARF_E2E_PEERS").is_ok_and(|value| value == "no") { vec![] } else { Runtime::peers(host) };
    for peer in peers {
        let verdict = (attack.run)(&peer);
        let word = match &verdict {
            Verdict::Hit(how) => {
                proven.push(format!("{} ({how})", peer.name));
                format!("vulnerable: {how}")
            }
            Verdict::Held(how) => format!("holds: {how}"),
            Verdict::Void(why) => format!("not tried: {why}"),
        };
        println!("attack {}: peer {}: {word}", attack.name, peer.name);
    }
    if proven.is_empty() {
        println!("attack {}: unproven, no peer here has the hole", attack.name);
    }
    let verdict = (attack.run)(&Runtime::under_test(host));
    println!("attack {}: {}: {verdict:?}", attack.name, host.runtime.name());
    record(attack, &proven, &verdict);
    match verdict {
        Verdict::Held(_) => Ok(()),
        Verdict::Hit(how) => Err(Stop::failed(format!("the attack succeeded: {how}"))),
        Verdict::Void(why) => Err(Stop::failed(format!("the attack was not really tried: {why}"))),
    }
}

/// Judges by the host: what changed there is a hit. What ran or was refused has held, if the same bundle without the
/// attack runs at all.
fn settle(arena: &Arena, runtime: &Runtime<'_>, before: &[String], ran: &Ran) -> Verdict {
    let after = arena.inventory();
    let new = after.iter().find(|line| !before.contains(line));
    let gone = before.iter().find(|line| !after.contains(line));
    let inside = |line: &str| arena.anonymous(line);
    if let Some(line) = new.or(gone) {
        return Verdict::Hit(format!("the host's directory was changed: {}", inside(line)));
    }
    if ran.out.contains(SECRET) {
        return Verdict::Hit("a secret file of the host was read".into());
    }
    if ran.timed_out {
        return Verdict::Hit(format!("the runtime hangs ({})", ran.said()));
    }
    if ran.alive() {
        return Verdict::Held("ran, the host untouched".into());
    }
    if ran.code == Some(0) {
        return Verdict::Hit("the payload ran, and its output went elsewhere".into());
    }
    let control = Arena::new(runtime, &[]).run(runtime);
    if !control.alive() {
        return Verdict::Void(format!("not even a good bundle runs: {}", control.said()));
    }
    Verdict::Held(format!("refused: {}", inside(&ran.said())))
}

static ROWS: OnceLock<Mutex<Vec<String>>> = OnceLock::new();

/// Adds a row and writes docs/attacks.md again, when asked to.
fn record(attack: &Attack, proven: &[String], verdict: &Verdict) {
    let Some(path) = std::env::var_os("WHARF_E2E_ATTACK_TABLE") else { return };
    let shown = if proven.is_empty() { "unproven".to_owned() } else { proven.join("; ") };
    let wharf = match verdict {
        Verdict::Held(how) => format!("holds: {how}"),
        Verdict::Hit(how) => format!("**hit**: {how}"),
        Verdict::Void(why) => format!("**not tried**: {why}"),
    };
    let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    let row = format!("| {} | {} | {} | {} | {} |", attack.name, attack.cve, attack.what, cell(&shown), cell(&wharf));
    let mut rows = ROWS.get_or_init(Mutex::default).lock().expect("rows");
    rows.push(row);
    rows.sort();
    let head = "# Attacks\n\nEach row is a trial of `e2e/attack`: the same attack on the peers that were installed and on wharf.\n\
        Written by `WHARF_E2E_ATTACK_TABLE=docs/attacks.md cargo test -p wharf-e2e -- attack:`, as root.\n\
        *Unproven* means that no installed peer fell: the trial shows that the attack was carried out, not that it can win.\n\n\
        | attack | holes of this kind | what is done | proven on | wharf |\n|---|---|---|---|---|\n";
    let _ = std::fs::write(path, format!("{head}{}\n", rows.join("\n")));
}
