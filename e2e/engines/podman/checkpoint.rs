//! `container checkpoint` and `restore`: on this host, from an archive, by another name, with memory written down before.

use super::engine::{Podman, well};
use crate::engines::case::{Case, Choice, Seen};
use harness::{Host, Outcome, Stop, ensure};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Counts in its memory, and in a file that is always whole.
const COUNT: &str = "n=0; while :; do n=$((n + 1)); echo $n > /next; mv /next /count; sleep 0.02; done";

pub(super) fn cases() -> Vec<Case> {
    vec![
        case(
            "checkpoint and restore: memory and files go on from where they were",
            "exited, counts on, running",
            |podman| {
                let last = counting(podman, "c", &[])?;
                podman.must(&["container", "checkpoint", "c"])?;
                let between = podman.inspect("c", "{{.State.Status}}")?;
                podman.must(&["container", "restore", "c"])?;
                let counts = goes_on(podman, "c", last)?;
                Ok(format!("{between}, {counts}, {}", podman.inspect("c", "{{.State.Status}}")?))
            },
        ),
        case("checkpoint --leave-running: the same process goes on", "counts on, the same process", |podman| {
            let last = counting(podman, "c", &[])?;
            let pid = podman.pid("c")?;
            podman.must(&["container", "checkpoint", "--leave-running", "c"])?;
            let counts = goes_on(podman, "c", last)?;
            Ok(format!("{counts}, {} process", if podman.pid("c")? == pid { "the same" } else { "another" }))
        }),
        case(
            "checkpoint and restore --keep: logs and statistics of both",
            "dump.log stats-dump, restore.log stats-restore",
            |podman| {
                let last = counting(podman, "c", &[])?;
                podman.must(&["container", "checkpoint", "--keep", "c"])?;
                let written = kept(podman, &["dump.log", "stats-dump"])?;
                podman.must(&["container", "restore", "--keep", "c"])?;
                goes_on(podman, "c", last)?;
                Ok(format!("{written}, {}", kept(podman, &["restore.log", "stats-restore"])?))
            },
        ),
        case("checkpoint --print-stats", "criu's times are told", |podman| {
            counting(podman, "c", &[])?;
            let told = podman.must(&["container", "checkpoint", "--print-stats", "c"])?;
            let has =
                ["runtime_checkpoint_duration", "frozen_time", "memwrite_time"].iter().all(|key| told.contains(key));
            Ok(if has { "criu's times are told".to_owned() } else { told })
        }),
        case(
            "checkpoint --export, restore --import: after it was removed",
            "0 containers, counts on, the same id",
            |podman| {
                let last = counting(podman, "c", &[])?;
                let (id, archive) = (podman.inspect("c", "{{.Id}}")?, archive(podman, "a.tar"));
                podman.must(&["container", "checkpoint", "--export", &archive, "c"])?;
                podman.must(&["rm", "--force", "--time", "0", "c"])?;
                let left = podman.must(&["ps", "--all", "--quiet"])?.lines().count();
                podman.must(&["container", "restore", "--import", &archive])?;
                let counts = goes_on(podman, "c", last)?;
                let same = podman.inspect("c", "{{.Id}}")? == id;
                Ok(format!("{left} containers, {counts}, {} id", if same { "the same" } else { "another" }))
            },
        ),
        case(
            "checkpoint --export, restore --import --name: one more beside the first",
            "counts on, counts on, two cgroups",
            |podman| {
                let last = counting(podman, "c", &[])?;
                let archive = archive(podman, "a.tar");
                podman.must(&["container", "checkpoint", "--leave-running", "--export", &archive, "c"])?;
                podman.must(&["container", "restore", "--import", &archive, "--name", "d"])?;
                let both = [goes_on(podman, "c", last)?, goes_on(podman, "d", last)?];
                let cgroup = |name| Ok::<_, Stop>(fs::read_to_string(format!("/proc/{}/cgroup", podman.pid(name)?))?);
                let two = if cgroup("c")? == cgroup("d")? { "one cgroup" } else { "two cgroups" };
                Ok(format!("{}, {two}", both.join(", ")))
            },
        ),
        case("checkpoint --export: a named volume comes with the archive", "in the volume, counts on", |podman| {
            podman.must(&["volume", "create", "v"])?;
            let last = counting(podman, "c", &["--volume", "v:/v"])?;
            podman.exec("c", "echo in the volume > /v/file")?;
            let archive = archive(podman, "a.tar");
            podman.must(&["container", "checkpoint", "--export", &archive, "c"])?;
            podman.must(&["rm", "--force", "--time", "0", "c"])?;
            podman.must(&["volume", "rm", "v"])?;
            podman.must(&["container", "restore", "--import", &archive])?;
            let text = podman.exec("c", "cat /v/file")?;
            Ok(format!("{text}, {}", goes_on(podman, "c", last)?))
        }),
        case("checkpoint --pre-checkpoint, then --with-previous", "running, parent, counts on", |podman| {
            tracks_memory()?;
            let last = counting(podman, "c", &[])?;
            let (before, archive) = (archive(podman, "b.tar"), archive(podman, "a.tar"));
            podman.must(&["container", "checkpoint", "--pre-checkpoint", "--export", &before, "c"])?;
            let between = podman.inspect("c", "{{.State.Status}}")?;
            podman.must(&["container", "checkpoint", "--with-previous", "--export", &archive, "c"])?;
            let names = Command::new("tar").args(["--zstd", "-tf", &archive]).output()?;
            let parent = String::from_utf8_lossy(&names.stdout).contains("checkpoint/parent");
            podman.must(&["rm", "--force", "--time", "0", "c"])?;
            podman.must(&["container", "restore", "--import-previous", &before, "--import", &archive])?;
            let counts = goes_on(podman, "c", last)?;
            Ok(format!("{between}, {}, {counts}", if parent { "parent" } else { "no parent" }))
        }),
        case(
            "checkpoint of a TCP connection: refused, then --tcp-established",
            "not 0, running, exited, it goes on",
            |podman| {
                reads_sockets()?;
                let script = "tail -f /dev/null | nc -l -p 7000 > /got & \
                          until (while :; do echo x; sleep 0.1; done) | nc 127.0.0.1 7000; do sleep 0.2; done";
                podman.start("c", &[], &["sh", "-c", script])?;
                let size = || Ok::<u64, Stop>(podman.exec("c", "wc -c < /got")?.parse()?);
                podman.wait_for("the connection", || Ok((size().unwrap_or(0) > 0).then_some(())))?;
                let refused = podman.call(&["container", "checkpoint", "c"])?;
                let code = if refused.code() == Some(0) { "0" } else { "not 0" };
                let then = podman.inspect("c", "{{.State.Status}}")?;
                podman.must(&["container", "checkpoint", "--tcp-established", "c"])?;
                let ended = podman.inspect("c", "{{.State.Status}}")?;
                podman.must(&["container", "restore", "--tcp-established", "c"])?;
                let last = size()?;
                podman.wait_for("more by the connection", || Ok((size()? > last).then_some(())))?;
                Ok(format!("{code}, {then}, {ended}, it goes on"))
            },
        ),
        case("checkpoint of a terminal: it is there after restore", "before, after, /dev/pts/0", |podman| {
            let script = "trap 'echo after' USR1; echo before; while :; do sleep 0.1; done";
            podman.start("c", &["--tty"], &["sh", "-c", script])?;
            podman.wait_for_log("c", "before")?;
            podman.must(&["container", "checkpoint", "c"])?;
            podman.must(&["container", "restore", "c"])?;
            podman.must(&["kill", "--signal", "USR1", "c"])?;
            let log = podman.wait_for_log("c", "after")?;
            let words = log.split_whitespace().collect::<Vec<_>>().join(", ");
            Ok(format!("{words}, {}", podman.exec("c", "readlink /proc/1/fd/0")?))
        }),
        case("checkpoint and restore: limits and user are as before", "1000, 33554432, 33554432", |podman| {
            has_resources()?;
            podman.start(
                "c",
                &["--user", "sailor", "--memory", "32m"],
                &["sh", "-c", "while :; do sleep 0.1; done"],
            )?;
            let limit = |podman: &Podman| podman.cgroup("c", "memory", "memory.limit_in_bytes", "memory.max");
            let before = limit(podman)?;
            podman.must(&["container", "checkpoint", "c"])?;
            podman.must(&["container", "restore", "c"])?;
            let status = fs::read_to_string(format!("/proc/{}/status", podman.pid("c")?))?;
            let user =
                status.lines().find_map(|line| line.strip_prefix("Uid:\t")?.split('\t').next()).unwrap_or_default();
            Ok(format!("{user}, {before}, {}", limit(podman)?))
        }),
        case("checkpoint and restore: the exit code afterwards", "7", |podman| {
            podman.start("c", &[], &["sh", "-c", "until [ -e /end ]; do sleep 0.02; done; exit 7"])?;
            podman.must(&["container", "checkpoint", "c"])?;
            podman.must(&["container", "restore", "c"])?;
            podman.exec("c", "touch /end")?;
            podman.must(&["wait", "c"])
        }),
    ]
}

/// A case with a criu that works on this kernel.
fn case(name: &'static str, expected: &'static str, look: fn(&Podman) -> Result<String, Stop>) -> Case {
    Case::new(name, expected, move |host, choice| {
        let podman = engine(host, choice)?;
        look(&podman).map(Seen::from)
    })
}

/// Podman and the runtimes find criu by `PATH`, wharf where it is installed. Where there is none, wharf is led to that of
/// `e2e/criu`; the peers have no such option.
fn engine<'h>(host: &'h Host, choice: &Choice) -> Result<Podman<'h>, Stop> {
    let installed = Path::new("/usr/sbin/criu");
    if installed.exists() {
        return Podman::new(host, choice);
    }
    let Some(criu) = crate::checkpoint::criu()? else {
        return Err(Stop::skipped("criu 4 or newer is not installed (e2e/criu gets it)"));
    };
    if choice.peer {
        return Err(Stop::skipped("criu is not installed where it looks"));
    }
    let script = host.new_dir("led")?.join("wharf");
    let text = format!("#!/bin/sh\nexec '{}' --criu '{}' \"$@\"\n", choice.program.display(), criu.display());
    fs::write(&script, text)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let podman = Podman::new(host, &Choice { name: choice.name, program: &script, peer: false })?;
    Ok(podman.finding(criu.parent().unwrap_or(Path::new("/"))))
}

fn tracks_memory() -> Outcome {
    let criu = crate::checkpoint::criu()?.unwrap_or_default();
    match Command::new(criu).args(["check", "--feature", "mem_dirty_track"]).output()?.status.success() {
        true => Ok(()),
        false => Err(Stop::skipped("this kernel does not track which memory has changed")),
    }
}

/// CRIU asks for the limits of other users' processes.
fn has_resources() -> Outcome {
    let status = fs::read_to_string("/proc/self/status")?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap_or_default();
    match u64::from_str_radix(effective, 16)? >> 24 & 1 {
        1 => Ok(()),
        _ => Err(Stop::skipped("this host itself lacks CAP_SYS_RESOURCE")),
    }
}

/// Before criu 4.2 no socket of the Internet can be written down on Linux 6.16 and later.
fn reads_sockets() -> Outcome {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    match (numbers.next(), numbers.next()) >= (Some(6), Some(16)) {
        true => Err(Stop::skipped("criu before 4.2 knows no sockets of Linux 6.16 and later")),
        false => Ok(()),
    }
}

fn counting(podman: &Podman, name: &str, options: &[&str]) -> Result<u64, Stop> {
    podman.start(name, options, &["sh", "-c", COUNT])?;
    podman.wait_for("its first numbers", || Ok(counted(podman, name).ok().filter(|count| *count > 2)))
}

fn counted(podman: &Podman, name: &str) -> Result<u64, Stop> {
    Ok(podman.exec(name, "cat /count")?.parse()?)
}

/// Memory and file are of one moment, and it goes on: one that had begun anew would be where it was before much later.
fn goes_on(podman: &Podman, name: &str, last: u64) -> Result<String, Stop> {
    let first = counted(podman, name)?;
    ensure!(first >= last, "it counts {first} after {last}");
    podman.wait_for("it to count on", || Ok((counted(podman, name)? > first).then_some(())))?;
    Ok("counts on".to_owned())
}

fn archive(podman: &Podman, name: &str) -> String {
    podman.dir().join(name).display().to_string()
}

/// Those of the files that are in the container's own directory.
fn kept(podman: &Podman, names: &[&str]) -> Result<String, Stop> {
    let mut find = Command::new("find");
    find.arg(podman.dir().join("root")).args(["-path", "*/userdata/*", "-type", "f", "-printf", "%f\n"]);
    let found = well(podman.host.program(find)?.finish()?)?;
    let there: Vec<&str> = names.iter().copied().filter(|name| found.lines().any(|line| line == *name)).collect();
    Ok(there.join(" "))
}
