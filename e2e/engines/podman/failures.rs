//! What fails: the exit code, Podman's own verdict (it classifies by the runtime's words), and nothing left behind.

use super::super::common::installed;
use super::engine::Podman;
use super::{Case, Seen, case};
use harness::{Finished, Stop};
use std::fs;

const NOT_FOUND: &str = "127: OCI runtime attempted to invoke a command that was not found";
const DENIED: &str = "126: OCI permission denied";
const START: &str = "126: the start failed";
const LATE: &str = "says that it started, and the container ends with 1";

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case("fails: a command that is in no directory of PATH", NOT_FOUND, |podman| fails(podman, &[], &["nothing"])),
        case("fails: a command that does not exist, by its path", NOT_FOUND, |podman| {
            fails(podman, &[], &["/bin/nothing"])
        }),
        case("fails: a command that is a directory", DENIED, |podman| fails(podman, &[], &["/etc"])),
        case("fails: a command without x permission", DENIED, |podman| fails(podman, &[], &["/bin/no-x"])),
        case("fails: a command without x permission, found in PATH", DENIED, |podman| fails(podman, &[], &["no-x"]))
            .unlike("runc", "takes only executable files of PATH into account"),
        case("fails: a script whose interpreter is missing", START, |podman| fails(podman, &[], &["no-interpreter"]))
            .unlike("crun", LATE)
            .unlike("runc", LATE),
        case("fails: a file that is no program", START, |podman| fails(podman, &[], &["no-format"]))
            .unlike("crun", LATE)
            .unlike("runc", LATE),
        case("fails: a command on a noexec volume", DENIED, |podman| {
            let dir = podman.dir().join("volume");
            fs::create_dir(&dir)?;
            fs::copy("/usr/bin/env", dir.join("env"))?;
            fails(podman, &["--volume", &format!("{}:/v:noexec", dir.display())], &["/v/env"])
        }),
        case("fails: a working directory that is a file", "126: it is not a directory", |podman| {
            fails(podman, &["--workdir", "/etc/passwd"], &["true"])
        }),
        case("fails: a working directory that is missing", "126: it does not exist on container", |podman| {
            fails(podman, &["--workdir", "/nowhere"], &["true"])
        }),
        case("fails: a user that is not in the image", "126: no matching entries in passwd file", |podman| {
            fails(podman, &["--user", "nobody-here"], &["true"])
        }),
        case("fails: a volume whose source is missing", "125: no such file or directory", |podman| {
            fails(podman, &["--volume", "/nowhere/at/all:/v"], &["true"])
        }),
        case("fails: a device that is missing", "125: no such file or directory", |podman| {
            fails(podman, &["--device", "/dev/nowhere"], &["true"])
        }),
        case("fails: a directory mounted on a file", "126: OCI runtime error", |podman| {
            fails(podman, &["--volume", "/tmp:/var/data/kept"], &["true"])
        }),
        case("a volume below /proc is the engine's to allow", "0: no error", |podman| {
            fails(podman, &["--volume", "/tmp:/proc/sys"], &["true"])
        })
        .unlike("runc", "refuses mounts below /proc, but for a few files"),
        case("fails: a sysctl that does not exist", NOT_FOUND, |podman| {
            fails(podman, &["--sysctl", "net.nothing=1"], &["true"])
        }),
        case("fails: a seccomp profile that is no JSON", "125: an error of Podman's own", |podman| {
            let profile = podman.dir().join("profile.json");
            fs::write(&profile, "no JSON")?;
            fails(podman, &["--security-opt", &format!("seccomp={}", profile.display())], &["true"])
        }),
        case("fails: an image that is not there", "125: an error of Podman's own", |podman| {
            let failed = podman.call(&["run", "--rm", "localhost/nothing:1", "true"])?;
            Ok(verdict(&failed))
        }),
        case("fails: run --detach of a missing command", NOT_FOUND, |podman| {
            let words = podman.words(&["run", "--detach"], &[], &["nothing"]);
            Ok(verdict(&podman.call(&words.iter().map(String::as_str).collect::<Vec<_>>())?))
        }),
        case("fails, then works: the same name again", "127, then 0", |podman| {
            let first = podman.run(&["--name", "c"], &["nothing"])?;
            let second = podman.run(&["--name", "c"], &["true"])?;
            Ok(format!("{}, then {}", first.code().unwrap_or(-1), second.code().unwrap_or(-1)))
        }),
    ];
    for (name, expected, command) in [
        ("exit code 0", "0", "exit 0"),
        ("exit code 1", "1", "exit 1"),
        ("exit code 42", "42", "exit 42"),
        ("exit code 125 of the payload itself", "125", "exit 125"),
        ("exit code 126 of the payload itself", "126", "exit 126"),
        ("exit code 127 of the payload itself", "127", "exit 127"),
        ("exit code 137 after SIGKILL from inside", "137", "(sleep 0.2; kill -9 -1) & exec sleep 1000"),
        ("exit code 143 after SIGTERM", "143", "trap - TERM; (sleep 0.2; kill -TERM $$) & exec sleep 1000"),
        ("exit code 139 after SIGSEGV", "139", "(sleep 0.2; kill -SEGV $$) & exec sleep 1000"),
        ("exit code 255", "255", "exit 255"),
    ] {
        cases.push(Case::new(name, expected, move |host, choice| {
            let podman = Podman::new(host, choice)?;
            // Signals of its own namespace do not end a first process, so these are from a payload that is not.
            let options: &[&str] = if command.contains("kill") { &["--init"] } else { &[] };
            if !options.is_empty() {
                installed("catatonit")?;
            }
            let ran = podman.run(options, &["sh", "-c", command])?;
            Ok(ran.code().map(|code| code.to_string()).unwrap_or_default().into())
        }));
    }
    cases
}

fn fails(podman: &Podman, options: &[&str], command: &[&str]) -> Result<Seen, Stop> {
    let ran = podman.run(options, command)?;
    let seen = verdict(&ran);
    match podman.known()? || !podman.must(&["ps", "--all", "--quiet"])?.is_empty() {
        true => Err(Stop::failed(format!("something is left: {ran}"))),
        false => Ok(seen),
    }
}

/// The exit code and what Podman made of the runtime's words; the words themselves beside it.
fn verdict(ran: &Finished) -> Seen {
    let said = ran.stderr.trim();
    let classes = [
        ("OCI runtime attempted to invoke a command that was not found", ""),
        ("OCI permission denied", ""),
        ("OCI runtime error", ""),
        ("no matching entries in passwd file", ""),
        ("does not exist on container", "it does not exist on container"),
        ("exists on container", "it is not a directory"),
        ("start failed: exit status 1", "the start failed"),
        ("no such file or directory", ""),
    ];
    // Between the verb and the verdict stands the container's id.
    let flat: String = said.split(' ').filter(|word| word.trim_matches('`').len() != 64).collect::<Vec<_>>().join(" ");
    let class = match classes.into_iter().find(|(words, _)| flat.contains(words)) {
        _ if ran.code() == Some(0) => "no error",
        Some((words, "")) => words,
        Some((_, meaning)) => meaning,
        None => "an error of Podman's own",
    };
    Seen { facts: format!("{}: {class}", ran.code().unwrap_or(-1)), words: said.replace('\n', " / ") }
}
