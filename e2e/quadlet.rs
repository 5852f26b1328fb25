//! Services that Podman's Quadlet makes of containers, under the system's systemd: readiness, health, limits, restarts.

use crate::systemd::podman::{IMAGE, Podman, turns, wait_until};
use crate::systemd::{show, systemctl};
use harness::{Feature, Host, Outcome, Stop, ensure, ensure_eq};
use std::path::Path;

/// Says that it has begun, waits to be let go on, says that it is ready, and ends with 0 on SIGTERM.
const READY_WHEN_LET: &str = "echo begun >>/v/begun\nuntil test -e /v/go; do sleep 0.1; done\nrm /v/go\n\
                              /payload notify READY=1\nexec /payload wait-signal\n";

pub(crate) fn trials() -> Feature {
    Feature::new("quadlet")
        .trial("Notify=yes: the service is started when the payload says so, restart after restart", restarts)
        .trial("limits of the service hold for a container within it, CgroupsMode=split", split)
        .trial("Notify=healthy: services become active when their health checks pass", healthy)
}

/// A `.container` file of a script in the volume.
fn file(podman: &Podman<'_>, name: &str, container: &str, service: &str) -> (String, String) {
    let (volume, payload) = (podman.volume(), podman.payload());
    let text = format!(
        "[Container]\nImage={IMAGE}\nContainerName={name}\nNetwork=none\nVolume={}:/v\nVolume={}:/payload:ro\n\
         Exec=sh /v/{name}\n{container}\n[Service]\nTimeoutStartSec=infinity\n{service}\n",
        volume.display(),
        payload.display()
    );
    (name.to_owned(), text)
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap_or_default().lines().count()
}

/// Waits until the service is active; one that has failed tells why.
fn wait_active(service: &str) -> Outcome {
    wait_until(&format!("{service} to become active"), || {
        let state = show(service, "ActiveState")?;
        ensure!(state != "failed", "{service} has failed: {}", journal(service)?);
        Ok(state == "active")
    })
}

fn journal(service: &str) -> Result<String, Stop> {
    let output =
        std::process::Command::new("journalctl").args(["--no-pager", "--output=cat", "--unit", service]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn stop(services: &[&str]) -> Outcome {
    systemctl(&[&["stop"], services].concat())?;
    for service in services {
        ensure_eq!(show(service, "ActiveState")?, "inactive", "{}", journal(service)?);
        ensure_eq!(show(service, "Result")?, "success");
        let cgroup = format!("/sys/fs/cgroup/system.slice/{service}");
        ensure!(!Path::new(&cgroup).exists(), "{cgroup} is left");
    }
    Ok(())
}

fn restarts(host: &Host) -> Outcome {
    let mut podman = Podman::new(host)?;
    let name = host.unique("ready");
    let service = format!("{name}.service");
    std::fs::write(podman.volume().join(&name), READY_WHEN_LET)?;
    podman.quadlet(&[file(&podman, &name, "Notify=yes", "")])?;
    let (begun, go) = (podman.volume().join("begun"), podman.volume().join("go"));
    let mut containers = std::collections::BTreeSet::new();
    for turn in 0..=turns(200, 4) {
        // The first one is a start.
        systemctl(&["restart", "--no-block", &service])?;
        wait_until("the payload to begin", || {
            ensure!(show(&service, "ActiveState")? != "failed", "turn {turn}: {}", journal(&service)?);
            Ok(lines(&begun) > turn)
        })?;
        ensure_eq!(show(&service, "ActiveState")?, "activating", "turn {turn}: before the payload is ready");
        std::fs::write(&go, "")?;
        wait_active(&service)?;
        ensure!(!go.exists(), "turn {turn}: active before the payload was ready");
        let pid = show(&service, "MainPID")?;
        ensure_eq!(std::fs::read_to_string(format!("/proc/{pid}/comm"))?.trim(), "conmon");
        containers.insert(podman_cgroups(&service)?);
        ensure_eq!(containers.len(), turn + 1, "containers seen by turn {turn}");
    }
    ensure_eq!(lines(&begun), containers.len());
    stop(&[&service])?;
    let journal = journal(&service)?;
    for words in ["in use", "exist", "Failed"] {
        ensure!(!journal.contains(words), "{words:?} in {journal}");
    }
    podman.nothing_left()
}

/// The one cgroup of a container in a service's.
fn podman_cgroups(service: &str) -> Result<String, Stop> {
    let entries = std::fs::read_dir(format!("/sys/fs/cgroup/system.slice/{service}"))?.flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let found: Vec<String> = names.filter(|name| name.starts_with("libpod-payload-")).collect();
    match &found[..] {
        [one] => Ok(one.clone()),
        _ => Err(Stop::failed(format!("cgroups of containers in {service}: {found:?}"))),
    }
}

fn split(host: &Host) -> Outcome {
    let mut podman = Podman::new(host)?;
    let name = host.unique("split");
    let service = format!("{name}.service");
    std::fs::write(podman.volume().join(&name), "exec /payload wait-signal\n")?;
    let container = "CgroupsMode=split\nPodmanArgs=--memory 60m";
    podman.quadlet(&[file(&podman, &name, container, "MemoryMax=96M\nCPUQuota=40%\nTasksMax=40")])?;
    systemctl(&["start", &service])?;
    let cgroup = format!("/sys/fs/cgroup/system.slice/{service}");
    for (property, shown, file, text) in [
        ("MemoryMax", "100663296", "memory.max", "100663296"),
        ("CPUQuotaPerSecUSec", "400ms", "cpu.max", "40000 100000"),
        ("TasksMax", "40", "pids.max", "40"),
    ] {
        ensure_eq!(show(&service, property)?, shown, "{property}");
        ensure_eq!(std::fs::read_to_string(format!("{cgroup}/{file}"))?.trim(), text, "{file}");
    }
    let payload = podman_cgroups(&service)?;
    let pid = podman.inspect(&name, "{{.State.Pid}}")?;
    let place = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    ensure_eq!(place.trim(), format!("0::/system.slice/{service}/{payload}"));
    ensure_eq!(std::fs::read_to_string(format!("{cgroup}/{payload}/memory.max"))?.trim(), "62914560");
    let mut tree = std::process::Command::new("systemd-cgls");
    tree.args(["--no-pager", "--full", "--unit", &service]);
    let tree = host.program(tree)?.finish()?;
    ensure!(tree.stdout.contains(&payload) && tree.stdout.contains("/payload wait-signal"), "{tree}");
    // The service's limit on tasks binds where the container itself has a much higher one.
    let forked = podman.call(&["exec", &name, "/payload", "fork", "100"])?;
    ensure!(forked.stdout.contains("EAGAIN"), "{forked}");
    // The container's own limit, below that of the service.
    let killed = podman.call(&["exec", &name, "/payload", "alloc", "200"])?;
    ensure_eq!(killed.code(), Some(137), "{killed}");
    ensure!(events(&cgroup, "memory.events", "oom_kill")? > 0, "the kernel has killed nobody");
    ensure_eq!(show(&service, "ActiveState")?, "active");
    stop(&[&service])?;
    podman.nothing_left()
}

fn events(cgroup: &str, file: &str, name: &str) -> Result<u64, Stop> {
    let text = std::fs::read_to_string(format!("{cgroup}/{file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.unwrap_or("0").parse()?)
}

fn healthy(host: &Host) -> Outcome {
    let mut podman = Podman::new(host)?;
    let names: Vec<String> = (0..turns(30, 3)).map(|_| host.unique("healthy")).collect();
    // Thirty checks in a second are more than an emulated guest can make.
    let interval = turns(300, 1);
    let container = format!("Notify=healthy\nHealthCmd=test -e /v/well\nHealthInterval={interval}s\nHealthRetries=100");
    for name in &names {
        let script = format!("echo begun >>/v/begun-{name}\nexec /payload wait-signal\n");
        std::fs::write(podman.volume().join(name), script)?;
    }
    let files: Vec<_> = names.iter().map(|name| file(&podman, name, &container, "")).collect();
    podman.quadlet(&files)?;
    let services: Vec<String> = names.iter().map(|name| format!("{name}.service")).collect();
    let all: Vec<&str> = services.iter().map(String::as_str).collect();
    systemctl(&[&["start", "--no-block"], &all[..]].concat())?;
    for (name, service) in names.iter().zip(&services) {
        wait_until("the payload to begin", || Ok(lines(&podman.volume().join(format!("begun-{name}"))) == 1))?;
        ensure_eq!(show(service, "ActiveState")?, "activating", "{service}, before it is well");
    }
    std::fs::write(podman.volume().join("well"), "")?;
    for service in &services {
        wait_active(service)?;
    }
    let ids: Result<Vec<String>, Stop> = services.iter().map(|service| podman_cgroups(service)).collect();
    let words = ["container", "inspect", "--format", "{{.State.Health.Status}} {{.RestartCount}}"];
    let told = podman.must(&[&words[..], &names.iter().map(String::as_str).collect::<Vec<_>>()].concat())?;
    ensure_eq!(told, vec!["healthy 0"; names.len()].join("\n"));
    stop(&all)?;
    // The timers of the checks are units of the containers' names.
    for id in ids? {
        let pattern = format!("{}*", id.trim_start_matches("libpod-payload-"));
        let left = systemctl(&["list-units", "--all", "--no-legend", &pattern])?;
        ensure!(left.is_empty(), "left: {left}");
    }
    podman.nothing_left()
}
