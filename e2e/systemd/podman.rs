//! Podman as a host with systemd has it: cgroups by systemd; storage, configuration and programs where its units find them.

use super::{needs_systemd, systemctl};
use crate::engines::podman::engine::{images, well};
use harness::{Finished, Host, Outcome, Stop, ensure, ensure_eq, limit};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

pub(crate) use crate::engines::podman::engine::IMAGE;

const PAUSE: &str = "localhost/pause:1";

/// Where Quadlet finds units that do not outlive a boot.
const QUADLET: &str = "/run/containers/systemd";

/// Dropped, everything of it goes.
pub(crate) struct Podman<'h> {
    pub(crate) host: &'h Host,
    dir: PathBuf,
    units: Vec<String>,
    failed: String,
}

impl<'h> Podman<'h> {
    pub(crate) fn new(host: &'h Host) -> Result<Self, Stop> {
        needs_systemd(host)?;
        if std::env::var_os("WHARF_E2E_WITHOUT").is_some() {
            return Err(Stop::skipped("units start programs that lack no system call"));
        }
        for program in ["podman", "conmon", "nsenter"] {
            crate::engines::common::installed(program)?;
        }
        let images = images(host)?;
        // The trials' own directory is in a mount namespace that units are not in.
        let dir = Path::new("/var/tmp").join(host.tag());
        let podman = Podman { host, dir, units: Vec::new(), failed: failed_units()? };
        let dir = &podman.dir;
        for sub in ["", "v", "networks"] {
            std::fs::create_dir(dir.join(sub))?;
        }
        std::fs::copy(host.runtime.program(), dir.join(host.runtime.name()))?;
        std::fs::copy(host.payload(), dir.join("payload"))?;
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(images).arg(dir.join("images"));
        well(host.program(copy)?.finish()?)?;
        let (place, name) = (dir.display(), host.runtime.name());
        std::fs::write(
            dir.join("storage.conf"),
            format!(
                "[storage]\ndriver = \"overlay\"\ngraphroot = \"{place}/root\"\nrunroot = \"{place}/run\"\n\
                 [storage.options]\nadditionalimagestores = [\"{place}/images\"]\n"
            ),
        )?;
        std::fs::write(
            dir.join("containers.conf"),
            format!(
                "[containers]\nlog_driver = \"k8s-file\"\n[network]\nnetwork_config_dir = \"{place}/networks\"\n[engine]\n\
                 cgroup_manager = \"systemd\"\nruntime = \"{name}\"\nruntime_supports_json = [\"{name}\"]\n\
                 tmp_dir = \"{place}/tmp\"\nevents_logger = \"file\"\nlock_type = \"file\"\npull_policy = \"never\"\n\
                 infra_image = \"{PAUSE}\"\n\
                 [engine.runtimes]\n{name} = [\"{place}/{name}\"]\n"
            ),
        )?;
        // For units, and for the timers of health checks, which are told of no storage.
        let environment = podman.environment();
        let words: Vec<&str> =
            std::iter::once("set-environment").chain(environment.iter().map(String::as_str)).collect();
        systemctl(&words)?;
        Ok(podman)
    }

    fn environment(&self) -> [String; 2] {
        let dir = self.dir.display();
        [format!("CONTAINERS_CONF={dir}/containers.conf"), format!("CONTAINERS_STORAGE_CONF={dir}/storage.conf")]
    }

    /// A directory of the host's that containers may have as a volume.
    pub(crate) fn volume(&self) -> PathBuf {
        self.dir.join("v")
    }

    /// The payload program, for a volume.
    pub(crate) fn payload(&self) -> PathBuf {
        self.dir.join("payload")
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", "1", "--mount", "--", "env"]).args(self.environment());
        command.args(["podman", "--log-level", "error"]).args(words);
        command.current_dir("/").env_remove("NOTIFY_SOCKET").stdin(Stdio::null());
        command
    }

    pub(crate) fn call(&self, words: &[&str]) -> Result<Finished, Stop> {
        self.host.program(self.command(words))?.finish()
    }

    /// A command that must succeed: its stdout, trimmed.
    pub(crate) fn must(&self, words: &[&str]) -> Result<String, Stop> {
        well(self.call(words)?)
    }

    /// A field of a container, as a template.
    pub(crate) fn inspect(&self, name: &str, template: &str) -> Result<String, Stop> {
        self.must(&["container", "inspect", "--format", template, name])
    }

    /// Makes the image of a pod's first container, which does nothing.
    pub(crate) fn infra(&self) -> Outcome {
        let tar = self.dir.join("pause.tar");
        let mut pack = Command::new("tar");
        pack.arg("-C").arg(&self.dir).arg("-cf").arg(&tar).arg("payload");
        well(self.host.program(pack)?.finish()?)?;
        let command = r#"CMD=["/payload","sleep"]"#;
        self.must(&["import", "--quiet", "--change", command, &tar.to_string_lossy(), PAUSE]).map(drop)
    }

    /// Has Quadlet make a service of each name, of the text of a `.container` file.
    pub(crate) fn quadlet(&mut self, files: &[(String, String)]) -> Outcome {
        std::fs::create_dir_all(QUADLET)?;
        for (name, text) in files {
            self.units.push(name.clone());
            std::fs::write(Path::new(QUADLET).join(format!("{name}.container")), text)?;
        }
        systemctl(&["daemon-reload"])?;
        for (name, _) in files {
            let state = super::show(&format!("{name}.service"), "LoadState")?;
            ensure_eq!(state, "loaded", "what Quadlet made of {name}");
        }
        Ok(())
    }

    /// After the last container: no unit has failed meanwhile, and the runtime knows none any more.
    pub(crate) fn nothing_left(&self) -> Outcome {
        ensure_eq!(failed_units()?, self.failed, "failed units");
        let mut list = Command::new(self.dir.join(self.host.runtime.name()));
        list.args(["list", "--format", "json"]);
        let known = well(self.host.program(list)?.finish()?)?;
        ensure!(!known.contains(&self.dir.display().to_string()), "the runtime still has {known}");
        let left = self.must(&["ps", "--all", "--quiet"])?;
        ensure!(left.is_empty(), "Podman still has {left}");
        Ok(())
    }

    /// A slice of this trial alone: a `-` would make a slice inside of another.
    pub(crate) fn parent(&self) -> String {
        format!("{}.slice", self.host.tag().replace('-', "_"))
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        for name in &self.units {
            let _ = systemctl(&["stop", &format!("{name}.service")]);
            let _ = systemctl(&["reset-failed", &format!("{name}.service")]);
            let _ = std::fs::remove_file(Path::new(QUADLET).join(format!("{name}.container")));
        }
        if !self.units.is_empty() {
            let _ = systemctl(&["daemon-reload"]);
        }
        let _ = self.call(&["pod", "rm", "--force", "--all", "--time", "0"]);
        let _ = self.call(&["rm", "--force", "--all", "--time", "0"]);
        let _ = systemctl(&["stop", &self.parent()]);
        let _ = systemctl(&["unset-environment", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF"]);
        let mut clear = Command::new("nsenter");
        let script = format!("umount -l {0}/root/overlay 2>/dev/null; rm -rf {0}", self.dir.display());
        clear.args(["--target", "1", "--mount", "--", "sh", "-c", &script]).stdin(Stdio::null());
        let _ = clear.output();
    }
}

fn failed_units() -> Result<String, Stop> {
    systemctl(&["list-units", "--all", "--no-legend", "--plain", "--state=failed"])
}

/// Waits until it is so, for as long as several calls of Podman can take.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> Result<bool, Stop>) -> Outcome {
    // Many services at once come slowly.
    let (begun, limit) = (Instant::now(), limit(60 * turns(5, 1) as u64));
    while !is_so()? {
        ensure!(begun.elapsed() < limit, "waited in vain for {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    Ok(())
}

/// All of `full` turns with `WHARF_E2E_FULL`, else some.
pub(crate) fn turns(full: usize, some: usize) -> usize {
    if std::env::var_os("WHARF_E2E_FULL").is_some() { full } else { some }
}
