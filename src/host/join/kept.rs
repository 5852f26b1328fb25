//! What `create` keeps of a container for processes that join it later: the bundle may have changed by then, or be gone.
//!
//! ```text
//! exec:    header length:u32 (little endian)  header (JSON)  seccomp filter  process object (JSON)
//! ```
//!
//! The filter is compiled, and the process object is read only by who wants it.

use crate::draft::Judged;
use oci_spec::runtime::Process;
use serde::{Deserialize, Serialize};
use std::os::fd::BorrowedFd;
use wharf_core::{Error, Kind, Result};
use wharf_plan::{Container, Joining};
use wharf_steps::facts::FILTER_FLAG_NEW_LISTENER;
use wharf_sys::{Errno, dir};

/// Name of the file in the state directory.
const FILE: &str = "exec";
/// Version that this build writes, and the only one that it reads.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    version: u32,
    /// `CLONE_NEW*`
    namespaces: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    persona: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    memory_policy: Option<(u32, Vec<u8>)>,
    #[serde(default)]
    no_new_keyring: bool,
    /// Highest capability that the kernel knows.
    last_capability: u32,
    /// Flags and length of the filter, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seccomp: Option<(u32, usize)>,
}

/// The file, read.
pub(super) struct Kept {
    bytes: Vec<u8>,
    header: Header,
    /// Where the filter begins.
    body: usize,
}

/// Writes the file of a container that is being made.
pub(crate) fn write(dir: BorrowedFd<'_>, judged: &Judged<'_>) -> Result<()> {
    let container: &Container = &judged.container;
    let seccomp = container.plan.seccomp();
    let header = Header {
        version: VERSION,
        namespaces: container.namespaces.all_apart(),
        persona: container.plan.persona(),
        memory_policy: container.plan.memory_policy().map(|(mode, nodes)| (mode, nodes.to_vec())),
        no_new_keyring: judged.job.no_new_keyring,
        last_capability: judged.last_capability,
        seccomp: seccomp.map(|(program, flags)| (flags, program.len())),
    };
    let header = serde_json::to_vec(&header).map_err(unwritten)?;
    let mut bytes = Vec::with_capacity(16 * 1024);
    bytes.extend_from_slice(&(header.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&header);
    bytes.extend_from_slice(seccomp.map_or(&[], |(program, _)| program));
    serde_json::to_writer(&mut bytes, judged.job.bundle.spec.process()).map_err(unwritten)?;
    dir::write_at(dir, FILE, &bytes)
        .map_err(|errno| Error::system("keep what later processes of the container need", errno as i32))
}

fn unwritten(error: serde_json::Error) -> Error {
    Error::new(Kind::System, "write down what later processes of the container need").because(error)
}

impl Kept {
    pub(super) fn read(dir: BorrowedFd<'_>, id: &str) -> Result<Self> {
        let doing = || format!("exec in container {id}");
        let bytes = match dir::read_at(dir, FILE) {
            Err(Errno::ENOENT) => {
                return Err(Error::unsupported(doing())
                    .because("its state lacks what a joining process needs")
                    .hint("it was made by an older wharf: create it again"));
            }
            other => other.map_err(|errno| Error::system(format!("{}: read its state", doing()), errno as i32))?,
        };
        let broken = || Error::invalid(doing()).because("its state is damaged");
        let (length, rest) = bytes.split_first_chunk().ok_or_else(broken)?;
        let length = u32::from_le_bytes(*length) as usize;
        let header = rest.get(..length).ok_or_else(broken)?;
        let header: Header = serde_json::from_slice(header).map_err(|error| match version(header) {
            Some(found) if found != VERSION => other_version(&doing(), found),
            _ => broken().because(error),
        })?;
        if header.version != VERSION {
            return Err(other_version(&doing(), header.version));
        }
        let body = 4 + length;
        let kept = Kept { bytes, header, body };
        if kept.bytes.len() < kept.process_at() {
            return Err(broken());
        }
        Ok(kept)
    }

    fn process_at(&self) -> usize {
        self.body + self.header.seccomp.map_or(0, |(_, length)| length)
    }

    /// The container's own process.
    pub(super) fn process(&self) -> Result<Process> {
        serde_json::from_slice(&self.bytes[self.process_at()..])
            .map_err(|error| Error::invalid("read the container's process").because(error))
    }

    pub(super) fn joining(&self, placed_later: bool) -> Joining<'_> {
        Joining {
            namespaces: self.header.namespaces,
            persona: self.header.persona,
            memory_policy: self.header.memory_policy.as_ref().map(|(mode, nodes)| (*mode, nodes.as_slice())),
            seccomp: self.header.seccomp.map(|(flags, length)| (&self.bytes[self.body..self.body + length], flags)),
            placed_later,
        }
    }

    pub(super) fn namespaces(&self) -> u64 {
        self.header.namespaces
    }

    /// The filter tells an agent of system calls.
    pub(super) fn notifies(&self) -> bool {
        self.header.seccomp.is_some_and(|(flags, _)| flags & FILTER_FLAG_NEW_LISTENER != 0)
    }

    pub(super) fn no_new_keyring(&self) -> bool {
        self.header.no_new_keyring
    }

    pub(super) fn last_capability(&self) -> u32 {
        self.header.last_capability
    }
}

fn version(header: &[u8]) -> Option<u32> {
    serde_json::from_slice::<serde_json::Value>(header).ok()?.get("version")?.as_u64()?.try_into().ok()
}

fn other_version(doing: &str, found: u32) -> Error {
    Error::unsupported(doing)
        .because(format!("its state has version {found}, this wharf reads version {VERSION}"))
        .hint("it was made by another wharf")
}
