//! `ctr task checkpoint`, and containers that are made of an image with a checkpoint in it.

use super::{Containerd, Seen};
use crate::engines::case::{Case, Choice};
use crate::engines::common::names;
use harness::{Host, Stop, ensure, wait_until};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Counts in its memory, and in a file that is always whole.
const COUNT: &str = "n=0; while :; do n=$((n + 1)); echo $n > /next; mv /next /count; sleep 0.02; done";

pub(super) fn cases() -> Vec<Case> {
    vec![
        case(
            "checkpoint: task checkpoint: images are written, and it runs on",
            "RUNNING, counts on, its memory",
            |engine| {
                let (id, _) = counting(engine)?;
                let images = engine.host.new_dir("images")?;
                engine.must(&["task", "checkpoint", "--image-path", &images.display().to_string(), &id])?;
                let (pid, status) = engine.task(&id)?;
                let counts = goes_on(pid, counted(pid)?)?;
                let written = images.join("pages-1.img").exists() && images.join("core-1.img").exists();
                Ok(format!("{status}, {counts}, {}", if written { "its memory" } else { "nothing" }))
            },
        ),
        case("checkpoint: task checkpoint --exit: it ends", "images, STOPPED", |engine| {
            let (id, _) = counting(engine)?;
            let images = engine.host.new_dir("images")?;
            engine.must(&["task", "checkpoint", "--exit", "--image-path", &images.display().to_string(), &id])?;
            engine.wait_for(&id, "STOPPED")?;
            let written = if images.join("pages-1.img").exists() { "images" } else { "nothing" };
            Ok(format!("{written}, {}", engine.task(&id)?.1))
        }),
        case(
            "checkpoint: container checkpoint, container restore --live: one more, that goes on",
            "counts on, counts on",
            |engine| {
                let (id, pid) = counting(engine)?;
                let image = "localhost/checkpoint:1";
                engine.must(&["container", "checkpoint", "--rw", "--image", "--task", &id, image])?;
                let last = counted(pid)?;
                let twin = engine.host.unique("r");
                // It waits for the payload.
                let waiting = engine.spawn(&["container", "restore", "--rw", "--live", &twin, image])?;
                wait_until("the restored task", || {
                    let said = waiting.stderr_so_far();
                    ensure!(said.is_empty(), "{said}");
                    Ok(engine.task(&twin).is_ok_and(|(_, status)| status == "RUNNING"))
                })?;
                let other = engine.task(&twin)?.0;
                let both = [goes_on(pid, last)?, goes_on(other, 10)?];
                ensure!(other != pid, "it is the same process");
                engine.must(&["task", "kill", "--signal", "KILL", &twin])?;
                waiting.finish()?;
                // containerd itself leaves what it had handed to the shim.
                for name in names(&engine.dir.join("tmp")).iter().filter(|name| name.starts_with("ctrd-checkpoint")) {
                    fs::remove_dir_all(engine.dir.join("tmp").join(name))?;
                }
                Ok(both.join(", "))
            },
        ),
    ]
}

fn case(name: &'static str, expected: &'static str, look: fn(&Containerd<'_>) -> Result<String, Stop>) -> Case {
    Case::new(name, expected, move |host, choice| engine(host, choice, look).map(Seen::from))
}

/// Where criu is not installed, wharf is led to that of `e2e/criu`; runc has no such option.
fn engine(host: &Host, choice: &Choice<'_>, look: fn(&Containerd<'_>) -> Result<String, Stop>) -> Result<String, Stop> {
    let Some(criu) = crate::checkpoint::criu()? else {
        return Err(Stop::skipped("criu 4 or newer is not installed (e2e/criu gets it)"));
    };
    let mut led = None;
    if !Path::new("/usr/sbin/criu").exists() {
        if choice.peer {
            return Err(Stop::skipped("criu is not installed where it looks"));
        }
        let script = host.new_dir("led")?.join("wharf");
        let text = format!("#!/bin/sh\nexec '{}' --criu '{}' \"$@\"\n", choice.program.display(), criu.display());
        fs::write(&script, text)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        led = Some(script);
    }
    let program = led.as_deref().unwrap_or(choice.program);
    let engine = Containerd::start(host, &Choice { name: choice.name, program, peer: choice.peer })?;
    let seen = look(&engine);
    if matches!(seen, Ok(_) | Err(Stop::Skipped(_))) {
        engine.stop()?;
    }
    seen
}

fn counting(engine: &Containerd<'_>) -> Result<(String, i32), Stop> {
    let (id, pid) = engine.detached(&[], &["sh", "-c", COUNT])?;
    wait_until("its first numbers", || Ok(counted(pid).is_ok_and(|count| count > 10)))?;
    Ok((id, pid))
}

fn counted(pid: i32) -> Result<u64, Stop> {
    Ok(fs::read_to_string(format!("/proc/{pid}/root/count"))?.trim().parse()?)
}

fn goes_on(pid: i32, last: u64) -> Result<String, Stop> {
    let first = counted(pid)?;
    ensure!(first >= last, "it counts {first} after {last}");
    wait_until("it to count on", || Ok(counted(pid)? > first))?;
    Ok("counts on".to_owned())
}
