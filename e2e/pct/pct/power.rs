//! start, stop, shutdown, reboot.

use crate::answer::Death;
use crate::args::Words;
use crate::config::Config;
use crate::task::{self, Task, Verdict};
use crate::world::World;
use crate::{ct, ids, lock, lxc, rootfs};
use std::process::{Command, Stdio};
use std::time::Duration;

fn task<'a>(world: &'a World, kind: &'a str, id: u32) -> Task<'a> {
    Task { world, kind, id, result: Verdict::Checked }
}

pub(super) fn start(world: &World, words: Words) -> Result<(), Death> {
    let id = words.id();
    if ct::is_running(world, id) {
        return Err(Death::worker(format!("CT {id} already running")));
    }
    let skip = words.is("skiplock");
    task(world, "vzstart", id).run(|| {
        let _lock = lock::container(world, id, false)?;
        start_locked(world, id, skip)
    })
}

/// With the lock held.
pub(super) fn start_locked(world: &World, id: u32, skip_lock: bool) -> Result<(), Death> {
    let mut config = ct::load(world, id)?;
    if config.current.is("template") {
        return Err(Death::worker("you can't start a CT if it's a template"));
    }
    if !skip_lock {
        ct::check_lock(&config, Some("mounted"))?;
    }
    if ct::is_running(world, id) {
        return Err(Death::worker(format!("CT {id} already running")));
    }
    world.step("start.begin")?;
    if config.has_pending() {
        config.apply_pending();
        ct::save(world, id, &config)?;
    }
    check_ids(world, id, &config)?;
    check_devices(&config)?;
    lxc::write_config(world, id, &config.current)?;
    phase(world, id, &config, "pre-start")?;
    rewrite(world, id, &config)?;
    world.step("start.written")?;
    lxc::start(world, id)?;
    world.step("start.running")?;
    let _ = phase(world, id, &config, "post-start");
    Ok(())
}

/// In a process of its own: the mounts are for nobody else.
fn rewrite(world: &World, id: u32, config: &Config) -> Result<(), Death> {
    if config.current.get("ostype") == Some("unmanaged") {
        return Ok(());
    }
    task::apart(|| rootfs::rewrite(world, id, &config.current))
}

/// §3, unprivileged: the host must give root the range.
fn check_ids(world: &World, id: u32, config: &Config) -> Result<(), Death> {
    let Some(said) = ids::refusal(world, &config.current) else { return Ok(()) };
    let program = said.split(':').next().unwrap_or_default();
    println!("lxc_map_ids: 3701 {program} failed to write mapping \"{said}\"");
    println!("lxc_spawn: 1795 Failed to set up id mapping.");
    Err(Death::worker(format!("startup for container '{id}' failed")))
}

/// §3, devN.
fn check_devices(config: &Config) -> Result<(), Death> {
    for (_, value) in config.current.numbered("dev") {
        let found = crate::property::DEVICE.parse(&value).map_err(Death::worker)?;
        let path = found.get("path").unwrap_or_default();
        if !std::path::Path::new(path).exists() {
            return Err(Death::worker(format!("Device {path} does not exist")));
        }
    }
    Ok(())
}

/// §3, hookscript: `<script> <id> <phase>`.
fn phase(world: &World, id: u32, config: &Config, phase: &str) -> Result<(), Death> {
    let Some(volume) = config.current.get("hookscript") else { return Ok(()) };
    let script = crate::storage::existing(world, volume)?;
    let done = Command::new(&script)
        .args([&id.to_string(), phase])
        .env_clear()
        .env("PATH", "/sbin:/bin:/usr/sbin:/usr/bin")
        .stdin(Stdio::null())
        .status();
    let failed = match done {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => format!("hookscript error for {id} on {phase}: exit code {}", status.code().unwrap_or(255)),
        Err(error) => format!("hookscript error for {id} on {phase}: {error}"),
    };
    match phase {
        "pre-start" => Err(Death::worker(failed)),
        _ => {
            task::warn(failed);
            Ok(())
        }
    }
}

/// §2, above the table: for these verbs a container that is not there does not run.
fn must_run(world: &World, id: u32) -> Result<(), Death> {
    match ct::is_running(world, id) {
        true => Ok(()),
        false => Err(Death::worker(format!("CT {id} not running"))),
    }
}

pub(super) fn stop(world: &World, words: Words) -> Result<(), Death> {
    let id = words.id();
    must_run(world, id)?;
    let skip = words.is("skiplock");
    task(world, "vzstop", id).run(|| {
        let _lock = lock::container(world, id, false)?;
        let config = ct::load(world, id)?;
        if !skip {
            ct::check_lock(&config, Some("mounted"))?;
        }
        must_run(world, id)?;
        world.step("stop.begin")?;
        end(world, id, &config)
    })
}

/// Kills, with its hooks.
fn end(world: &World, id: u32, config: &Config) -> Result<(), Death> {
    let _ = phase(world, id, config, "pre-stop");
    lxc::kill(world, id);
    world.step("stop.killed")?;
    let _ = phase(world, id, config, "post-stop");
    match ct::is_running(world, id) {
        true => Err(Death::worker("container did not stop")),
        false => Ok(()),
    }
}

/// §1, locks: its lock is held for as long as it takes.
pub(super) fn shutdown(world: &World, words: Words) -> Result<(), Death> {
    let id = words.id();
    must_run(world, id)?;
    let timeout = words.get("timeout").and_then(|text| text.parse().ok()).unwrap_or(60);
    let force = words.is("forceStop");
    task(world, "vzshutdown", id).run(|| {
        let _lock = lock::container(world, id, false)?;
        let config = ct::load(world, id)?;
        ct::check_lock(&config, None)?;
        let _ = phase(world, id, &config, "pre-stop");
        let mut command = lxc::tool(world, "lxc-stop", id);
        command.args(["--nokill", "--timeout", &timeout.to_string()]);
        let asked = command.status().map_err(|error| Death::system("run lxc-stop", error))?;
        if asked.success() && lxc::wait_gone(world, id, Duration::from_secs(5)) {
            let _ = phase(world, id, &config, "post-stop");
            return Ok(());
        }
        if force {
            return end(world, id, &config);
        }
        println!(
            "command 'lxc-stop -n {id} --nokill --timeout {timeout}' failed: exit code {}",
            asked.code().unwrap_or(1)
        );
        // §2, shutdown: some five seconds more than the timeout.
        lxc::wait_gone(world, id, world.seconds("shutdown-seconds", 5.0));
        Err(Death::worker("container did not stop"))
    })
}

/// §2: a stop with a kill, then a start; not running is silently well.
pub(super) fn reboot(world: &World, words: Words) -> Result<(), Death> {
    let id = words.id();
    if !ct::is_running(world, id) {
        return Ok(());
    }
    task(world, "vzreboot", id).run(|| {
        let _lock = lock::container(world, id, false)?;
        let config = ct::load(world, id)?;
        ct::check_lock(&config, None)?;
        end(world, id, &config)?;
        start_locked(world, id, false)
    })
}

/// §2, suspend: CRIU's, which fails on most nodes; never a freeze.
pub(super) fn suspend(world: &World, words: Words) -> Result<(), Death> {
    let id = words.id();
    must_run(world, id)?;
    task(world, "vzsuspend", id).run(|| {
        let _lock = lock::container(world, id, false)?;
        println!("command 'lxc-checkpoint -s -n {id} -D /var/lib/vz/dump' failed: exit code 1");
        Err(Death::worker(format!("command 'lxc-checkpoint -s -n {id} -D /var/lib/vz/dump' failed: exit code 1")))
    })
}

pub(super) fn resume(world: &World, words: Words) -> Result<(), Death> {
    let id = words.id();
    ct::load(world, id)?;
    task(world, "vzresume", id).run(|| {
        Err(Death::worker(format!(
            "command 'lxc-checkpoint -r -n {id} --foreground -D /var/lib/vz/dump' failed: exit code 1"
        )))
    })
}
