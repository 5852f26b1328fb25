//! Commands that cannot be run: Docker's exit codes 125, 126 and 127, and the words that it shows.

use super::case;
use super::engine::Docker;
use crate::engines::{Case, Seen};
use harness::{Finished, Stop};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("a command that is nowhere in PATH", "127, 127", |docker| run(docker, &[], "nothing"))
            .unlike("crun", "its words begin with a capital letter, which Docker's client does not know"),
        case("a command whose file is missing", "127, 127", |docker| run(docker, &[], "/bin/nothing"))
            .unlike("crun", "its words begin with a capital letter, which Docker's client does not know"),
        case("a command that is a directory", "126, 126", |docker| run(docker, &[], "/bin"))
            .unlike("crun", "calls it Operation not permitted"),
        case("a command that is not executable", "126, 126", |docker| run(docker, &[], "/bin/plain"))
            .unlike("crun", "its words begin with a capital letter, which Docker's client does not know"),
        case("a command that its user may not execute", "126, 126", |docker| {
            run(docker, &["--user", "1000"], "/bin/private")
        })
        .unlike("crun", "starts it without a look: a container that ended with 1"),
        case("exec of a command that is nowhere in PATH", "cannot be run", |docker| exec(docker, &[], "nothing")),
        case("exec of a command whose file is missing", "cannot be run", |docker| exec(docker, &[], "/bin/nothing")),
        case("exec of a command that is a directory", "cannot be run", |docker| exec(docker, &[], "/bin")),
        case("exec of a command that is not executable", "cannot be run", |docker| exec(docker, &[], "/bin/plain")),
        case("exec in a container that has ended", "1", |docker| {
            let id = docker.detached(&[], &["true"])?;
            docker.must(&["wait", &id])?;
            Ok(told(&docker.exec(&[], &id, &["true"])?))
        }),
        case("an option that Docker refuses", "125", |docker| Ok(told(&docker.run(&["--memory", "1k"], &["true"])?))),
        case("a working directory that is a file", "125", |docker| {
            let finished = docker.run(&["--workdir", "/etc/passwd"], &["true"])?;
            Ok(told(&finished))
        }),
        case("a user that is not in the image", "125", |docker| {
            Ok(told(&docker.run(&["--user", "nobody-knows"], &["true"])?))
        }),
    ]
}

/// The client's code, and the one that the daemon keeps of the container.
fn run(docker: &Docker<'_>, options: &[&str], command: &str) -> Result<Seen, Stop> {
    let all = [&["run", "--name", "failed"], options, &[super::engine::IMAGE, command]].concat();
    let finished = docker.docker(&all)?;
    let kept = docker.inspect("failed", "{{.State.ExitCode}}")?;
    docker.must(&["rm", "failed"])?;
    docker.nothing_left()?;
    let seen = told(&finished);
    Ok(Seen { facts: format!("{}, {kept}", seen.facts), words: seen.words })
}

fn exec(docker: &Docker<'_>, options: &[&str], command: &str) -> Result<Seen, Stop> {
    let id = docker.detached(&[], &["sleep", "1000"])?;
    let seen = told(&docker.exec(options, &id, &[command])?);
    // Docker 20.10 has 126 for all of them, later ones 127 for what is missing.
    let facts = if ["126", "127"].contains(&seen.facts.as_str()) { "cannot be run".to_owned() } else { seen.facts };
    Ok(Seen { facts, words: seen.words })
}

/// The code as a fact; the client's words, which are each runtime's own.
fn told(finished: &Finished) -> Seen {
    // The client adds a line of its own where the daemon has refused.
    let lines = finished.stderr.lines().chain(finished.stdout.lines());
    let words = lines.filter(|line| !line.starts_with("See '") && !line.starts_with("time=") && !line.is_empty());
    let facts = finished.code().map_or_else(|| "?".to_owned(), |code| code.to_string());
    Seen { facts, words: words.take(1).collect() }
}
