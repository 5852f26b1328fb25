//! Terminals: `ctr run --tty` and `ctr task exec --tty` from a terminal of the test's own.

use super::{Containerd, with};
use harness::{Desk, Feature, Outcome, ensure_eq};
use std::process::Command;

pub(super) fn trials(feature: Feature) -> Feature {
    feature
        .trial("run --tty gives the payload a terminal of the size of ours, and passes both ways", with(run))
        .trial("exec --tty gives the process a terminal, and its code is kept", with(exec))
}

/// A call of ctr at this terminal, which controls its session.
fn at(desk: &Desk, engine: &Containerd<'_>, args: &[&str]) -> Result<Command, harness::Stop> {
    let ctr = engine.ctr_command(args);
    let mut command = Command::new("setsid");
    command.arg("--ctty").arg("--wait").arg(ctr.get_program()).args(ctr.get_args());
    command.stdin(desk.stdio()?).stdout(desk.stdio()?).stderr(desk.stdio()?);
    Ok(command)
}

/// Waits for the size, which the client tells after the start, then for a line; ends with a code of its own.
const SCRIPT: &str = "test -t 0 && test -t 1 && test -t 2 && echo terminal; \
    until [ \"$(stty size 2>/dev/null)\" = '33 111' ]; do sleep 0.01; done; read word; echo \"got $word\"; exit 23";

fn run(engine: &Containerd<'_>) -> Outcome {
    let mut desk = Desk::new(33, 111)?;
    let id = engine.host.unique("t");
    let words = engine.run_words(&["--rm", "--tty"], &id, &["sh", "-c", SCRIPT]);
    let mut child = at(&desk, engine, &words)?.spawn()?;
    desk.screen.wait_for("terminal")?;
    desk.screen.write("rope\n")?;
    desk.screen.wait_for("got rope")?;
    ensure_eq!(child.wait()?.code(), Some(23));
    engine.nothing_left()
}

fn exec(engine: &Containerd<'_>) -> Outcome {
    let (id, _) = engine.detached(&[], &["sleep", "1000"])?;
    let mut desk = Desk::new(33, 111)?;
    let mut child =
        at(&desk, engine, &["task", "exec", "--tty", "--exec-id", "seat", &id, "sh", "-c", SCRIPT])?.spawn()?;
    desk.screen.wait_for("terminal")?;
    desk.screen.write("rope\n")?;
    desk.screen.wait_for("got rope")?;
    ensure_eq!(child.wait()?.code(), Some(23));
    ensure_eq!(engine.task(&id)?.1, "RUNNING");
    Ok(())
}
