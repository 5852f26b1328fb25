//! The administrator's configuration: where it is found, what it says, and where in the file.
//!
//! Only `create`, `run` and those who explain need all of it. The other verbs read where the records are and where to
//! log, so that a mistake in a rule never keeps a running container from its verbs.

mod import;
mod judge;
mod keys;
mod located;
mod routing;
mod show;

#[cfg(test)]
mod tests;

pub(crate) use import::import;
pub(crate) use show::{Origin, Setting};

use crate::route::Routing;
use judge::{Fault, judge};
use keys::{Form, TOP};
use located::{Node, place};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use wharf_core::{Error, Kind, Level, Result};

/// Read where nothing names another; it may be absent.
pub(crate) const DEFAULT: &str = "/etc/wharf/config.json";

/// Names another file.
pub(crate) const VARIABLE: &str = "WHARF_CONFIG";

/// More than any administrator writes.
const LONGEST: u64 = 1 << 20;

/// A configuration file that has been read.
#[derive(Debug)]
pub(crate) struct Configuration {
    pub(crate) path: PathBuf,
    text: String,
    top: Node,
}

/// What is said of virtual machines.
#[derive(Debug)]
pub(crate) struct Machines<'c> {
    pub(crate) qemu_path: Option<&'c str>,
    pub(crate) kernel: Option<&'c str>,
    pub(crate) modules: Option<&'c str>,
    pub(crate) cache: Option<&'c str>,
    pub(crate) processor: Option<&'c str>,
    /// MiB.
    pub(crate) memory: Option<u64>,
    /// Seconds.
    pub(crate) timeout: Option<u64>,
    pub(crate) root: Option<&'c str>,
    /// MiB.
    pub(crate) disk_size: Option<u64>,
    pub(crate) disks: Option<&'c str>,
}

/// What is said of a Proxmox node.
#[derive(Debug)]
pub(crate) struct Proxmox<'c> {
    pub(crate) root: Option<&'c str>,
    pub(crate) pct_path: Option<&'c str>,
    pub(crate) vmids: Option<(u64, u64)>,
    pub(crate) unprivileged: bool,
    /// Seconds.
    pub(crate) timeout: Option<u64>,
}

impl Proxmox<'_> {
    /// The program, where it is not the usual one.
    pub(crate) fn pct(&self) -> Option<PathBuf> {
        self.pct_path.map(PathBuf::from).or_else(|| self.root.map(|root| Path::new(root).join("bin/pct")))
    }
}

/// What every verb needs.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) root: Option<PathBuf>,
    pub(crate) log: Option<PathBuf>,
    /// `log.format`: true for JSON.
    pub(crate) json: Option<bool>,
    pub(crate) level: Option<Level>,
}

/// The file that `--config` names, else the variable, else the one in /etc if it exists. Never one of the working
/// directory: engines run us inside bundles, whose config.json is another thing.
pub(crate) fn find(option: Option<&Path>, variable: Option<OsString>) -> Result<Option<Configuration>> {
    let variable = variable.filter(|path| !path.is_empty()).map(PathBuf::from);
    let (path, by) = match (option, &variable) {
        (Some(path), _) => (path, "--config"),
        (None, Some(path)) => (path.as_path(), VARIABLE),
        (None, None) => {
            return match read(Path::new(DEFAULT)) {
                Err(Failed::System(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                other => Configuration::new(Path::new(DEFAULT), other).map(Some),
            };
        }
    };
    if !path.is_absolute() {
        return Err(Error::new(Kind::Usage, format!("{by} {}", path.display()))
            .because("the path is not absolute, and a configuration never comes from the working directory"));
    }
    Configuration::open(path).map(Some)
}

enum Failed {
    System(std::io::Error),
    Refused(&'static str),
}

/// A FIFO must not keep us waiting for ever, so the file is opened without that and then looked at.
fn read(path: &Path) -> std::result::Result<String, Failed> {
    const O_NONBLOCK: i32 = 0o4000;
    let mut file = File::options().read(true).custom_flags(O_NONBLOCK).open(path).map_err(Failed::System)?;
    let about = file.metadata().map_err(Failed::System)?;
    if !about.is_file() {
        return Err(Failed::Refused("is not a regular file"));
    }
    // It names programs that run with our rights.
    if about.mode() & 0o002 != 0 {
        return Err(Failed::Refused("everybody may write to it"));
    }
    if about.len() > LONGEST {
        return Err(Failed::Refused("is longer than a megabyte"));
    }
    let mut bytes = Vec::with_capacity(about.len() as usize + 1);
    file.read_to_end(&mut bytes).map_err(Failed::System)?;
    String::from_utf8(bytes).map_err(|_| Failed::Refused("is not UTF-8"))
}

impl Configuration {
    /// Any file, whoever named it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Self::new(path, read(path))
    }

    fn new(path: &Path, text: std::result::Result<String, Failed>) -> Result<Self> {
        let doing = || format!("read configuration {}", path.display());
        let text = text.map_err(|failed| match failed {
            Failed::System(error) => match error.raw_os_error() {
                Some(errno) => Error::system(doing(), errno),
                None => Error::new(Kind::System, doing()).because(error),
            },
            Failed::Refused(why) => Error::invalid(doing()).because(why),
        })?;
        Self::parse(path, text)
    }

    fn parse(path: &Path, text: String) -> Result<Self> {
        let top = located::parse(&text)
            .map_err(|malformed| Error::invalid(at(path, malformed.line, malformed.column)).because(malformed.why))?;
        let found = Configuration { path: path.to_owned(), text, top };
        if let Some(entry) = found.top.entries().iter().find(|entry| entry.key == "ociVersion") {
            let fault = Fault::new(entry.at, "ociVersion", "this is the config.json of a bundle, not of wharf");
            return Err(found.error(&fault));
        }
        Ok(found)
    }

    /// Only `root` and `log` are judged.
    pub(crate) fn options(&self) -> Result<Options> {
        let mut faults = Vec::new();
        if self.top.entries().is_empty() {
            judge(&Form::Object(TOP), &self.top, "", &mut faults);
        }
        for key in TOP.iter().filter(|key| matches!(key.name, "root" | "log")) {
            if let Some(node) = self.top.get(key.name) {
                judge(&key.form, node, key.name, &mut faults);
            }
        }
        self.first(&faults)?;
        let log = |key: &str| self.top.get("log").and_then(|log| log.get(key)).and_then(Node::text);
        Ok(Options {
            root: self.top.get("root").and_then(Node::text).map(PathBuf::from),
            log: log("file").map(PathBuf::from),
            json: log("format").map(|format| format == "json"),
            level: log("level").and_then(Level::parse),
        })
    }

    /// All of it is judged, and the part that chooses a backend returned.
    pub(crate) fn routing(&self) -> Result<Routing> {
        let (routing, faults) = self.judge();
        self.first(&faults)?;
        Ok(routing)
    }

    /// Whether a watcher is wanted for containers that do not say.
    pub(crate) fn exit_record(&self) -> bool {
        self.top.get("exit_record").and_then(Node::text) == Some("watcher")
    }

    /// Where checkpoints are kept by name.
    pub(crate) fn checkpoints(&self) -> Option<PathBuf> {
        self.top.get("storage")?.get("checkpoints").and_then(Node::text).map(PathBuf::from)
    }

    /// How many checkpoints of a container are kept, and for how long.
    pub(crate) fn retention(&self) -> (Option<usize>, Option<std::time::Duration>) {
        let storage = |key| self.top.get("storage").and_then(|storage| storage.get(key));
        let keep = storage("keep").and_then(Node::number).and_then(|number| usize::try_from(number).ok());
        (keep, storage("keep_for").and_then(Node::text).and_then(wharf_core::duration::parse))
    }

    /// Below which dataset containers have their own.
    pub(crate) fn zfs_dataset(&self) -> Option<&str> {
        self.top.get("storage")?.get("zfs_dataset").and_then(Node::text)
    }

    /// The section `vm`.
    pub(crate) fn vm(&self) -> Option<Machines<'_>> {
        let vm = self.top.get("vm")?;
        let text = |key| vm.get(key).and_then(Node::text);
        let number = |key| vm.get(key).and_then(Node::number);
        Some(Machines {
            qemu_path: text("qemu_path"),
            kernel: text("kernel"),
            modules: text("modules"),
            cache: text("cache"),
            processor: text("processor"),
            memory: number("memory"),
            timeout: number("timeout"),
            root: text("root"),
            disk_size: number("disk_size"),
            disks: text("disks"),
        })
    }

    /// The section `proxmox`.
    pub(crate) fn proxmox(&self) -> Option<Proxmox<'_>> {
        let proxmox = self.top.get("proxmox")?;
        let text = |key| proxmox.get(key).and_then(Node::text);
        let number = |index: usize| proxmox.get("vmid_range")?.items().get(index).and_then(Node::number);
        Some(Proxmox {
            root: text("node_root"),
            pct_path: text("pct_path"),
            vmids: number(0).zip(number(1)),
            timeout: proxmox.get("timeout").and_then(Node::number),
            unprivileged: proxmox.get("unprivileged").and_then(Node::switch).unwrap_or(false),
        })
    }

    /// Everything that is wrong, in the order of the file.
    pub(crate) fn faults(&self) -> Vec<Error> {
        self.judge().1.iter().map(|fault| self.error(fault)).collect()
    }

    /// What the file says, leaf by leaf.
    pub(crate) fn settings(&self) -> Vec<Setting> {
        show::settings(self)
    }

    /// Sections and keys that are judged and that no backend of this build reads.
    pub(crate) fn unused(&self) -> Vec<String> {
        let network = self.top.get("network").map(|_| "network".to_owned());
        let proxmox = |key: &&str| self.top.get("proxmox").is_some_and(|proxmox| proxmox.get(key).is_some());
        let of_node = ["qm_path", "node", "storage"].into_iter().filter(proxmox).map(|key| format!("proxmox.{key}"));
        let waiting = network.into_iter().chain(of_node);
        waiting.map(|key| format!("{key} is well-formed, and no backend of this build uses it")).collect()
    }

    fn judge(&self) -> (Routing, Vec<Fault>) {
        let mut faults = Vec::new();
        judge(&Form::Object(TOP), &self.top, "", &mut faults);
        let routing = routing::read(self, &mut faults);
        faults.sort_by_key(|fault| fault.at);
        (routing, faults)
    }

    fn first(&self, faults: &[Fault]) -> Result<()> {
        match faults {
            [] => Ok(()),
            [fault] => Err(self.error(fault)),
            [fault, more @ ..] => {
                let more = format!("{} more: see wharf config check", more.len());
                let hint = fault.hint.as_ref().map_or(more.clone(), |hint| format!("{hint}; {more}"));
                Err(self.error(fault).hint(hint))
            }
        }
    }

    fn error(&self, fault: &Fault) -> Error {
        let (line, column) = place(&self.text, fault.at);
        let error = Error::invalid(at(&self.path, line, column)).because(&fault.why).at(&fault.pointer);
        match &fault.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    fn line(&self, node: &Node) -> usize {
        place(&self.text, node.at).0
    }
}

fn at(path: &Path, line: usize, column: usize) -> String {
    format!("configuration {} line {line} column {column}", path.display())
}
