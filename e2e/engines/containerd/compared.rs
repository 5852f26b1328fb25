//! The same calls of ctr with wharf, crun and runc: the codes are equal, the words are each runtime's own.

use super::{Containerd, case};
use crate::engines::case::Choice;
use crate::engines::common::{installed, said};
use crate::engines::{Case, Seen};
use harness::{Finished, Host, Outcome, Stop, ensure};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("run ends with the payload's code", "42", |engine| Ok(told(&run(engine, &[], &["sh", "-c", "exit 42"])?))),
        case("run of a payload that a signal ends", "143", |engine| {
            let (_, other) = engine.detached(&[], &["sleep", "1000"])?;
            // Not the first process of its pid namespace, which would be spared.
            let join = format!("pid:/proc/{other}/ns/pid");
            Ok(told(&run(engine, &["--with-ns", &join], &["sh", "-c", "kill -TERM $$"])?))
        }),
        case("run of a command that is nowhere in PATH", "1", |engine| Ok(told(&run(engine, &[], &["nothing"])?))),
        case("run of a command whose file is missing", "1", |engine| Ok(told(&run(engine, &[], &["/bin/nothing"])?))),
        case("run of a directory", "1", |engine| Ok(told(&run(engine, &[], &["/bin"])?))),
        case("run of a file that is not executable", "1", |engine| Ok(told(&run(engine, &[], &["/bin/plain"])?))),
        case("run in a working directory that is a file", "1", |engine| {
            Ok(told(&run(engine, &["--cwd", "/etc/passwd"], &["true"])?))
        }),
        case("run in a working directory that is missing makes it", "0, /made/on the way", |engine| {
            let finished = run(engine, &["--cwd", "/made/on the way"], &["pwd"])?;
            Ok(format!("{}, {}", finished.code().unwrap_or(-1), finished.stdout.trim()))
        }),
        case("run with a mount whose source is missing", "1", |engine| {
            Ok(told(&run(engine, &["--mount", "type=bind,src=/no/such/place,dst=/hold,options=rbind:ro"], &["true"])?))
        }),
        case("run with a namespace that is not there", "1", |engine| {
            Ok(told(&run(engine, &["--with-ns", "network:/proc/self/ns/nothing"], &["true"])?))
        }),
        case("exec ends with the payload's code", "42", |engine| {
            let (id, _) = engine.detached(&[], &["sleep", "1000"])?;
            Ok(told(&engine.exec(&id, &[], &["sh", "-c", "exit 42"])?))
        }),
        case("exec of a command that is nowhere in PATH", "1", |engine| exec(engine, "nothing")),
        case("exec of a command whose file is missing", "1", |engine| exec(engine, "/bin/nothing")),
        case("exec of a directory", "1", |engine| exec(engine, "/bin")),
        case("exec of a file that is not executable", "1", |engine| exec(engine, "/bin/plain")),
        case("exec in a container that has ended", "1", |engine| {
            let (id, _) = engine.detached(&[], &["true"])?;
            engine.wait_for(&id, "STOPPED")?;
            Ok(told(&engine.exec(&id, &[], &["true"])?))
        }),
        case("exec in a container that is paused", "1", |engine| {
            let (id, _) = engine.detached(&[], &["sleep", "1000"])?;
            engine.must(&["task", "pause", &id])?;
            let seen = told(&engine.exec(&id, &[], &["true"])?);
            engine.must(&["task", "resume", &id])?;
            Ok(seen)
        }),
        case("kill of a container that has ended", "1", |engine| {
            let (id, _) = engine.detached(&[], &["true"])?;
            engine.wait_for(&id, "STOPPED")?;
            Ok(told(&engine.ctr(&["task", "kill", &id])?))
        }),
        case("delete of a running container", "1", |engine| {
            let (id, _) = engine.detached(&[], &["sleep", "1000"])?;
            Ok(told(&engine.ctr(&["task", "delete", &id])?))
        }),
        case("pause of a paused container", "1", |engine| {
            let (id, _) = engine.detached(&[], &["sleep", "1000"])?;
            engine.must(&["task", "pause", &id])?;
            let seen = told(&engine.ctr(&["task", "pause", &id])?);
            engine.must(&["task", "resume", &id])?;
            Ok(seen)
        }),
        case("resume of a running container", "1", |engine| {
            let (id, _) = engine.detached(&[], &["sleep", "1000"])?;
            Ok(told(&engine.ctr(&["task", "resume", &id])?))
        }),
        case("two containers of one id", "1", |engine| {
            let (id, _) = engine.detached(&[], &["sleep", "1000"])?;
            Ok(told(&engine.run(&["--detach"], &id, &["sleep", "1000"])?))
        }),
    ]
}

fn run(engine: &Containerd<'_>, options: &[&str], words: &[&str]) -> Result<Finished, Stop> {
    engine.run(&[&["--rm"], options].concat(), &engine.host.unique("c"), words)
}

fn exec(engine: &Containerd<'_>, command: &str) -> Result<Seen, Stop> {
    let (id, _) = engine.detached(&[], &["sleep", "1000"])?;
    Ok(told(&engine.exec(&id, &[], &[command])?))
}

/// The code as a fact; the client's last words, which are the runtime's.
fn told(finished: &Finished) -> Seen {
    let facts = finished.code().map_or_else(|| "?".to_owned(), |code| code.to_string());
    let words = finished.stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim_start();
    Seen { facts, words: words.strip_prefix("ctr: ").unwrap_or(words).to_owned() }
}

/// Mounts with their options, limits, capabilities, groups, descriptors, devices. Masks differ by design: wharf takes
/// the host's null device, and tmpfs without room. runc leaves signal 32 ignored, and out the link /dev/core where the host
/// has no /proc/kcore.
pub(super) fn inside(host: &Host) -> Outcome {
    let script = "cut -d' ' -f2-4 /proc/self/mounts | sed 's/lowerdir.*//' | grep -vE '^/(proc|sys/firmware)/?[a-z_]* '; \
                  grep -E '^(Cap|Groups|NoNewPrivs|Seccomp:|SigBlk)' /proc/self/status; \
                  cat /proc/self/limits /proc/self/oom_score_adj; umask; env | sort; id; pwd; hostname >/dev/null; \
                  for name in fd stdin stdout stderr ptmx; do readlink /dev/$name; done; \
                  find /dev ! -name core -exec stat -c '%n %F %a %u:%g %t:%T' {} +";
    let all = [&["--seccomp"][..], &["--privileged"], &["--read-only", "--net-host"]];
    let mut seen = Vec::new();
    let own = Choice { name: host.runtime.name(), program: host.runtime.program(), peer: false };
    let runc = installed("runc")?;
    for choice in [own, Choice { name: "runc", program: &runc, peer: true }] {
        let engine = Containerd::start(host, &choice)?;
        let texts: Result<Vec<_>, Stop> =
            all.iter().map(|options| said(run(&engine, options, &["sh", "-c", script])?)).collect();
        seen.push(texts?);
        engine.stop()?;
    }
    for (options, (own, theirs)) in all.iter().zip(seen[0].iter().zip(&seen[1])) {
        let only = |one: &str, other: &str| {
            one.lines().filter(|line| !other.lines().any(|same| same == *line)).map(str::to_owned).collect::<Vec<_>>()
        };
        let (more, less) = (only(own, theirs), only(theirs, own));
        ensure!(more.is_empty() && less.is_empty(), "{options:?}: only with wharf {more:#?}, only with runc {less:#?}");
    }
    Ok(())
}
