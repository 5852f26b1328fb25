//! Exit codes: none is lost, however short the payload's life is.
//!
//! | environment | meaning |
//! |---|---|
//! | `WHARF_E2E_FULL=1` | 200 of each kind; without it an eighth |

use super::{Containerd, code, with};
use crate::engines::common::share;
use harness::{Feature, Outcome, Stop, ensure_eq};

/// At a time.
const WORKERS: usize = 4;

pub(super) fn trials(feature: Feature) -> Feature {
    feature
        .trial(
            "exit codes and signals are the payload's",
            with(|engine| {
                for (script, wanted) in [
                    ("exit 0", 0),
                    ("exit 1", 1),
                    ("exit 42", 42),
                    ("exit 125", 125),
                    ("exit 126", 126),
                    ("exit 127", 127),
                    ("exit 255", 255),
                ] {
                    code(engine.run(&["--rm"], &engine.host.unique("c"), &["sh", "-c", script])?, wanted)?;
                }
                // The first process of a pid namespace would not end by a signal that it has no handler for.
                let (_, other) = engine.detached(&[], &["sleep", "1000"])?;
                let join = format!("pid:/proc/{other}/ns/pid");
                for (name, wanted) in [("KILL", 137), ("TERM", 143), ("INT", 130)] {
                    let (id, _) = engine.detached(&["--with-ns", &join], &["sleep", "1000"])?;
                    engine.must(&["task", "kill", "--signal", name, &id])?;
                    ensure_eq!(engine.exit_code(&id)?, wanted, "{name}");
                }
                Ok(())
            }),
        )
        .trial("of many short containers at once no exit is lost", with(containers))
        .trial("of many short execs at once no exit is lost", with(execs))
        .trial(
            "a detached payload that ends at once keeps its code",
            with(|engine| {
                for wanted in 0..share(40) as i32 {
                    let id = engine.host.unique("c");
                    let script = format!("exit {wanted}");
                    code(engine.run(&["--detach"], &id, &["sh", "-c", &script])?, 0)?;
                    ensure_eq!(engine.exit_code(&id)?, wanted);
                }
                engine.nothing_left()
            }),
        )
}

fn containers(engine: &Containerd<'_>) -> Outcome {
    let total = share(200);
    for first in (0..total).step_by(WORKERS) {
        let mut running = Vec::new();
        for number in first..(first + WORKERS).min(total) {
            let id = engine.host.unique("c");
            let wanted = number as i32 % 256;
            let script = format!("exit {wanted}");
            let words: &[&str] = if wanted == 0 { &["true"] } else { &["sh", "-c", &script] };
            running.push((wanted, engine.spawn(&engine.run_words(&["--rm"], &id, words))?));
        }
        for (wanted, one) in running {
            code(one.finish()?, wanted)?;
        }
    }
    engine.nothing_left()
}

fn execs(engine: &Containerd<'_>) -> Outcome {
    let (id, _) = engine.detached(&[], &["sleep", "1000"])?;
    let total = share(200);
    for first in (0..total).step_by(WORKERS) {
        let started: Result<Vec<_>, Stop> = (first..(first + WORKERS).min(total))
            .map(|number| {
                let name = format!("x{number}");
                let wanted = number as i32 % 256;
                let script = format!("exit {wanted}");
                Ok((wanted, engine.spawn(&["task", "exec", "--exec-id", &name, &id, "sh", "-c", &script])?))
            })
            .collect();
        for (wanted, one) in started? {
            code(one.finish()?, wanted)?;
        }
    }
    let table = engine.must(&["task", "ps", &id])?;
    ensure_eq!(table.lines().count(), 2, "{table}");
    Ok(())
}
