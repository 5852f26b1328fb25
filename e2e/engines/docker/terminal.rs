//! Terminals: `docker run -it` and `docker exec -it` from a terminal of the test's own.

use super::case;
use super::engine::{Docker, IMAGE};
use crate::engines::Case;
use harness::{Desk, Stop};
use std::process::Command;

/// Waits for the size, which the client tells after the start, then for a line; ends with a code of its own.
const SCRIPT: &str = "test -t 0 && test -t 1 && test -t 2 && echo terminal; \
    until [ \"$(stty size 2>/dev/null)\" = '33 111' ]; do sleep 0.01; done; read word; echo \"got $word\"; exit 23";

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("run -it gives the payload a terminal of the size of ours, and passes both ways", "23", |docker| {
            talk(docker, &["run", "--rm", "-it", IMAGE, "sh", "-c", SCRIPT])
        }),
        case("exec -it gives the process a terminal, and its code is kept", "23", |docker| {
            let id = docker.detached(&[], &["sleep", "1000"])?;
            talk(docker, &["exec", "-it", &id, "sh", "-c", SCRIPT])
        }),
    ]
}

fn talk(docker: &Docker<'_>, words: &[&str]) -> Result<String, Stop> {
    let mut desk = Desk::new(33, 111)?;
    let client = docker.command(words);
    let mut command = Command::new("setsid");
    command.arg("--ctty").arg("--wait").arg(client.get_program()).args(client.get_args());
    for (name, value) in client.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command.stdin(desk.stdio()?).stdout(desk.stdio()?).stderr(desk.stdio()?);
    let mut child = command.spawn()?;
    desk.screen.wait_for("terminal")?;
    desk.screen.write("rope\n")?;
    desk.screen.wait_for("got rope")?;
    Ok(child.wait()?.code().map_or_else(|| "?".to_owned(), |code| code.to_string()))
}
