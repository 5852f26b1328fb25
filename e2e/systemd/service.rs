//! `run` as a service of systemd's: ready when the payload says so, ended with it, and started again under the same id.

use super::podman::{turns, wait_until};
use super::{needs_systemd, show, systemctl};
use harness::{Feature, Host, Outcome, Stop, ensure, ensure_eq};
use std::path::{Path, PathBuf};
use std::process::Command;

const UNITS: &str = "/run/systemd/system";

pub(crate) fn trials() -> Feature {
    Feature::new("systemd_service")
        .trial(
            "Type=notify: started when the payload says so, restart after restart, with and without a scope",
            restarts,
        )
        .trial("a payload that ends, or cannot be started, is a service that fails with its code", failures)
}

/// A service of `run`, gone when dropped. The trials' own directory is in a mount namespace that services are not in.
struct Service {
    name: String,
    dir: PathBuf,
    id: String,
}

impl Service {
    fn new(host: &Host, payload: &[&str], option: &str) -> Result<Self, Stop> {
        needs_systemd(host)?;
        host.only_wharf("runc waits for ever where the payload ends without a word")?;
        if std::env::var_os("WHARF_E2E_WITHOUT").is_some() {
            return Err(Stop::skipped("services are of a program that lacks no system call"));
        }
        let unit = host.unique("service");
        let dir = Path::new("/var/tmp").join(&unit);
        let made = Service { name: format!("{unit}.service"), dir: dir.clone(), id: unit.clone() };
        let path = match option {
            "" => format!("/{unit}"),
            _ => format!("system.slice:wharf:{unit}"),
        };
        let bundle =
            host.bundle()?.file("/var/begun", "")?.payload(payload).set("/linux/cgroupsPath", harness::json!(path));
        bundle.save()?;
        std::fs::create_dir(&dir)?;
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(bundle.dir()).arg(dir.join("bundle"));
        ensure_eq!(host.program(copy)?.finish()?.code(), Some(0));
        std::fs::copy(host.runtime.program(), dir.join("wharf"))?;
        let place = dir.display();
        std::fs::write(
            Path::new(UNITS).join(&made.name),
            format!(
                "[Service]\nType=notify\nTimeoutStartSec=infinity\n\
                 ExecStart={place}/wharf --root {place}/root {option} run --bundle {place}/bundle {unit}\n"
            ),
        )?;
        systemctl(&["daemon-reload"])?;
        Ok(made)
    }

    fn rootfs(&self) -> PathBuf {
        self.dir.join("bundle/rootfs")
    }

    fn show(&self, property: &str) -> Result<String, Stop> {
        show(&self.name, property)
    }

    fn wait(&self, state: &str) -> Outcome {
        wait_until(&format!("the service to become {state}"), || Ok(self.show("ActiveState")? == state))
    }

    /// Nothing of the container: no record, no cgroup.
    fn nothing_left(&self) -> Outcome {
        let records = std::fs::read_dir(self.dir.join("root"))?.count();
        ensure_eq!(records, 0, "records");
        for path in [format!("/{}", self.id), format!("/system.slice/wharf-{}.scope", self.id)] {
            ensure!(!Path::new(&format!("/sys/fs/cgroup{path}")).exists(), "{path} is left");
        }
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = systemctl(&["stop", &self.name]);
        let _ = systemctl(&["reset-failed", &self.name]);
        let _ = std::fs::remove_file(Path::new(UNITS).join(&self.name));
        let _ = systemctl(&["daemon-reload"]);
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn restarts(host: &Host) -> Outcome {
    let payload = [
        "append",
        "/var/begun",
        "x",
        ";",
        "wait-file",
        "/tmp/go",
        ";",
        "notify",
        "READY=1\nSTATUS=sailing",
        ";",
        "wait-signal",
    ];
    for option in ["", "--systemd-cgroup"] {
        let service = Service::new(host, &payload, option)?;
        let (begun, go) = (service.rootfs().join("var/begun"), service.rootfs().join("tmp/go"));
        let begun = || std::fs::read_to_string(&begun).map_or(0, |text| text.matches('x').count());
        for turn in 0..=turns(100, 3) {
            systemctl(&["restart", "--no-block", &service.name])?;
            wait_until("the payload to begin", || {
                ensure!(service.show("ActiveState")? != "failed", "turn {turn}: it has failed");
                Ok(begun() > turn)
            })?;
            ensure_eq!(service.show("ActiveState")?, "activating", "turn {turn}: before the payload is ready");
            std::fs::write(&go, "")?;
            service.wait("active")?;
            ensure_eq!(service.show("StatusText")?, "sailing");
            std::fs::remove_file(&go)?;
        }
        // The one that systemd has started, whose words it hears.
        let main = std::fs::read_link(format!("/proc/{}/exe", service.show("MainPID")?))?;
        ensure_eq!(main, service.dir.join("wharf"));
        systemctl(&["stop", &service.name])?;
        ensure_eq!((service.show("ActiveState")?.as_str(), service.show("Result")?.as_str()), ("inactive", "success"));
        service.nothing_left()?;
    }
    Ok(())
}

fn failures(host: &Host) -> Outcome {
    for (payload, code) in [(&["notify", "READY=1", ";", "exit", "7"][..], "7"), (&["exit", "9"][..], "9")] {
        let service = Service::new(host, payload, "--systemd-cgroup")?;
        systemctl(&["start", "--no-block", &service.name])?;
        service.wait("failed")?;
        ensure_eq!(service.show("ExecMainStatus")?, code);
        service.nothing_left()?;
    }
    let service = Service::new(host, &["sleep"], "--systemd-cgroup")?;
    std::fs::remove_file(service.rootfs().join("bin/payload"))?;
    systemctl(&["start", "--no-block", &service.name])?;
    service.wait("failed")?;
    ensure_eq!(service.show("ExecMainStatus")?, "127");
    service.nothing_left()
}
