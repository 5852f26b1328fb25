//! `--tty`: a real terminal in front of Podman, and one inside.

use super::engine::Podman;
use super::{Case, case};
use harness::{Desk, Stop};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("run --interactive --tty: a terminal, what is typed, the exit code", "tty, read ahoy, 7", |podman| {
            let script = "tty; read line; echo read $line; exit 7";
            typed(podman, &run(podman, &["--interactive", "--tty", "--rm"], script), &["/dev/pts/0|ahoy\n"])
                .map(|(code, text)| told(&text, &[("/dev/pts/0", "tty"), ("read ahoy", "read ahoy")], code))
        }),
        case("run --interactive --tty: the size of the terminal", "31 97", |podman| {
            let (_, text) =
                typed(podman, &run(podman, &["--interactive", "--tty", "--rm"], "sleep 0.3; stty size"), &[])?;
            Ok(text.lines().find(|line| line.contains(' ')).unwrap_or(&text).trim().to_owned())
        }),
        case("run --interactive --tty: a new size arrives", "40 120", |podman| {
            let script = "echo ready; until stty size | grep '40 120'; do sleep 0.05; done";
            let mut desk = Desk::new(31, 97)?;
            let seated = desk.sit(podman.command(&words(&run(podman, &["--interactive", "--tty", "--rm"], script))))?;
            desk.screen.wait_for("ready")?;
            desk.screen.resize(40, 120)?;
            desk.screen.wait_for("40 120")?;
            seated.end(&mut desk.screen)?;
            Ok("40 120".to_owned())
        }),
        case("run --interactive --tty: ^C is SIGINT to the payload", "interrupted, 3", |podman| {
            let script = "trap 'echo interrupted; exit 3' INT; echo ready; while :; do sleep 0.05; done";
            typed(podman, &run(podman, &["--interactive", "--tty", "--rm"], script), &["ready|\x03"])
                .map(|(code, text)| told(&text, &[("interrupted", "interrupted")], code))
        }),
        case("run --tty: error and output come as one, in order", "a b c, 0", |podman| {
            let (code, text) = typed(podman, &run(podman, &["--tty", "--rm"], "echo a; echo b >&2; echo c"), &[])?;
            Ok(format!("{}, {code}", text.split_whitespace().collect::<Vec<_>>().join(" ")))
        }),
        case(
            "attach to a terminal: what is typed, and the keys that leave it",
            "got ahoy, left 0, running; 5",
            attached,
        ),
        case("run --detach --tty: the log has the terminal's lines", "one two, a terminal", |podman| {
            podman.start(
                "c",
                &["--tty"],
                &["sh", "-c", "echo one; echo two; [ -t 1 ] && echo a terminal; sleep 1000"],
            )?;
            let log = podman.wait_for_log("c", "a terminal")?;
            Ok(log.split_whitespace().collect::<Vec<_>>().join(" ").replace(" a terminal", ", a terminal"))
        }),
        case("exec --interactive --tty: a terminal, what is typed, the exit code", "tty, read ahoy, 9", |podman| {
            podman.start("c", &[], &["sleep", "1000"])?;
            let script = "tty; read line; echo read $line; exit 9";
            let words = ["exec", "--interactive", "--tty", "c", "sh", "-c", script].map(String::from);
            typed(podman, &words, &["/dev/pts/|ahoy\n"])
                .map(|(code, text)| told(&text, &[("/dev/pts/", "tty"), ("read ahoy", "read ahoy")], code))
        }),
        case("exec --interactive --tty: the size of the terminal", "31 97", |podman| {
            podman.start("c", &[], &["sleep", "1000"])?;
            let words = ["exec", "--interactive", "--tty", "c", "sh", "-c", "sleep 0.3; stty size"].map(String::from);
            let (_, text) = typed(podman, &words, &[])?;
            Ok(text.lines().find(|line| line.contains(' ')).unwrap_or(&text).trim().to_owned())
        }),
        case("/dev/console is the terminal", "by the console", |podman| {
            let script = "echo by the console >/dev/console";
            let (_, text) = typed(podman, &run(podman, &["--interactive", "--tty", "--rm"], script), &[])?;
            Ok(text.trim().to_owned())
        }),
        case("--tty with --user: the terminal is the user's", "1000", |podman| {
            let script = "stat -c %u $(tty)";
            let (_, text) =
                typed(podman, &run(podman, &["--interactive", "--tty", "--rm", "--user", "1000"], script), &[])?;
            Ok(text.trim().to_owned())
        }),
        case("--tty with a user namespace", "tty, 0", |podman| {
            let options = ["--interactive", "--tty", "--rm", "--uidmap", "0:100000:1000", "--gidmap", "0:100000:1000"];
            let (code, text) = typed(podman, &run(podman, &options, "tty"), &[])?;
            Ok(told(&text, &[("/dev/pts/0", "tty")], code))
        }),
    ]
}

/// Left by its keys, the container goes on, and can be attached to again.
fn attached(podman: &Podman) -> Result<String, Stop> {
    let script = "while read line; do [ $line != end ] || exit 5; echo got $line; done";
    podman.start("c", &["--interactive", "--tty"], &["sh", "-c", script])?;
    let attach = ["attach", "--detach-keys", "ctrl-x,x", "c"].map(String::from);
    let mut desk = Desk::new(31, 97)?;
    let seated = desk.sit(podman.command(&words(&attach)))?;
    desk.screen.write("ahoy\n")?;
    desk.screen.wait_for("got ahoy")?;
    // Podman knows a key only where it reads that alone.
    desk.screen.write("\x18")?;
    podman.wait_for("the first key to be read", || Ok(desk.is_read()?.then_some(())))?;
    desk.screen.write("x")?;
    let left = seated.end(&mut desk.screen)?;
    let status = podman.inspect("c", "{{.State.Status}}")?;
    typed(podman, &attach, &["|end\n"])?;
    let ended = podman.must(&["wait", "c"])?;
    Ok(format!("got ahoy, left {left}, {status}; {ended}"))
}

fn run(podman: &Podman, options: &[&str], script: &str) -> Vec<String> {
    podman.words(&["run"], options, &["sh", "-c", script])
}

fn words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// Podman at a terminal of 31 rows and 97 columns. Each `WAIT|TYPE` waits for a text and types another one. Gives the
/// exit code and all that was seen.
fn typed(podman: &Podman, line: &[String], steps: &[&str]) -> Result<(i32, String), Stop> {
    let mut desk = Desk::new(31, 97)?;
    let seated = desk.sit(podman.command(&words(line)))?;
    for step in steps {
        let (text, keys) = step.split_once('|').unwrap_or(("", step));
        desk.screen.wait_for(text)?;
        desk.screen.write(keys)?;
    }
    let code = seated.end(&mut desk.screen)?;
    Ok((code, desk.screen.text()))
}

/// What was seen of these, and the exit code.
fn told(text: &str, parts: &[(&str, &str)], code: i32) -> String {
    let seen = parts.iter().filter(|(part, _)| text.contains(part)).map(|(_, name)| name.to_string());
    seen.chain([code.to_string()]).collect::<Vec<_>>().join(", ")
}
