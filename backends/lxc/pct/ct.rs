//! A container of the node: made, started, stopped and destroyed by `pct`, and each of these seen to have happened.

use super::settings::Settings;
use super::tool::{Call, Said, say};
use super::vmid::{self, Held};
use super::{cause, conf};
use std::path::Path;
use std::time::{Duration, Instant};
use wharf_core::{Error, Kind, Result};

/// Between two calls of which the first met a lock.
const PAUSE: Duration = Duration::from_millis(500);
/// How often another number is tried.
const TRIES: usize = 64;

pub(crate) struct Ct<'s> {
    pub(crate) settings: &'s Settings,
    pub(crate) vmid: u32,
}

/// What a new one is made of.
pub(crate) struct Wish<'a> {
    pub(crate) hostname: &'a str,
    pub(crate) mark: &'a str,
    pub(crate) template: &'a Path,
    pub(crate) rootfs: &'a Path,
    pub(crate) unprivileged: bool,
    /// MiB
    pub(crate) memory: u64,
    pub(crate) swap: u64,
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}

impl<'s> Ct<'s> {
    /// Under a number that is free; whoever else took that one in the meantime keeps it.
    pub(crate) fn create(settings: &'s Settings, wish: &Wish<'_>) -> Result<Self> {
        let mut taken = Vec::new();
        while taken.len() < TRIES {
            let held = vmid::hold(settings, &taken)?;
            let ct = Ct { settings, vmid: held.vmid };
            match ct.make(wish, &held)? {
                true => return Ok(ct),
                false => taken.push(held.vmid),
            }
        }
        Err(Error::new(Kind::System, "find a number for the container")
            .because(format!("{TRIES} in a row were taken by others meanwhile"))
            .hint("proxmox.vmid_range in the configuration"))
    }

    /// False where the number is another's by now.
    fn make(&self, wish: &Wish<'_>, _held: &Held) -> Result<bool> {
        let text = |path: &Path| {
            let odd = || Error::unsupported(format!("{} on the pct backend", path.display()));
            let text = path.to_str().ok_or_else(|| odd().because("it is not UTF-8"))?;
            match text.contains([',', '\n', '=']) {
                true => {
                    Err(odd().because("the node's configuration cannot hold a comma, an equals sign or a line's end"))
                }
                false => Ok(text.to_owned()),
            }
        };
        let rootfs = text(wish.rootfs).map_err(|error| error.at("root/path"))?;
        let (vmid, template) = (self.vmid.to_string(), text(wish.template)?);
        let unprivileged = if wish.unprivileged { "1" } else { "0" };
        let (memory, swap) = (wish.memory.to_string(), wish.swap.to_string());
        let words = [
            "create",
            &vmid,
            &template,
            "--ostype",
            "unmanaged",
            "--arch",
            arch(),
            "--unprivileged",
            unprivileged,
            "--hostname",
            wish.hostname,
            "--rootfs",
            &rootfs,
            "--memory",
            &memory,
            "--swap",
            &swap,
            "--tags",
            "wharf",
            "--description",
            wish.mark,
        ];
        let until = Instant::now() + self.settings.timeout;
        loop {
            let said = say(&self.settings.pct, &words, self.settings.timeout)?;
            let text = conf::text(self.settings, self.vmid)?;
            // A create that is broken off leaves nothing but its lock, and we hold the number.
            let broken_off = |text: &str| !said.fine && !cause::is_taken(&said) && text.trim() == "lock: create";
            let is_ours = text.is_some_and(|text| conf::is_marked(&text, wish.mark) || broken_off(&text));
            match (said.fine, is_ours) {
                (true, true) => return Ok(true),
                (false, false) if cause::is_taken(&said) => return Ok(false),
                (true, false) => {
                    return Err(Error::new(Kind::System, format!("create CT {vmid}"))
                        .because("the node says that it has made it, and it is not there")
                        .hint("systemctl status pve-cluster"));
                }
                (false, true) => {
                    let _ = say(&self.settings.pct, &["unlock", &vmid], self.settings.timeout);
                    let _ = self.destroy();
                }
                (false, false) => {}
            }
            if !cause::is_passing(&said) || Instant::now() >= until {
                return Err(cause::of(format!("create CT {vmid}"), &said, self.vmid));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// The same call again, as long as it only meets a lock.
    fn patient(&self, words: &[&str]) -> Result<Said> {
        let until = Instant::now() + self.settings.timeout;
        loop {
            let said = say(&self.settings.pct, words, self.settings.timeout)?;
            if said.fine || !cause::is_passing(&said) || Instant::now() >= until {
                return Ok(said);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Does not wait for it.
    pub(crate) fn start(&self) -> Result<Call> {
        Call::start(&self.settings.pct, &["start", &self.vmid.to_string()])
    }

    /// Ends it and takes it away, with the volumes that bear its number. One that is gone is no failure.
    pub(crate) fn destroy(&self) -> Result<()> {
        let vmid = self.vmid.to_string();
        let words = ["destroy", &vmid, "--force", "1", "--purge", "1", "--destroy-unreferenced-disks", "1"];
        let said = self.patient(&words)?;
        if conf::text(self.settings, self.vmid)?.is_none() {
            // An empty directory is not an empty node.
            vmid::guests(self.settings)?;
            return Ok(());
        }
        Err(cause::of(format!("destroy CT {vmid}"), &said, self.vmid))
    }
}
