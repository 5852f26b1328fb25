//! What a delegate's container is remembered by, in the record's private part.

use serde_json::json;
use std::path::{Path, PathBuf};
use wharf_core::{Error, Kind, Process, Record, Result};
use wharf_sys::procfs::Procfs;

#[derive(Clone, Debug)]
pub(crate) struct Memory {
    pub(crate) program: PathBuf,
    pub(crate) options: Vec<String>,
    /// The process that becomes the program's `create`. While it lives, a container that is not yet known is not lost.
    creator: Option<Process>,
    /// The container's cgroup, if it is certainly its own.
    pub(crate) cgroup: Option<String>,
    /// Whether its payload has a socket for sd_notify, which `start` is to listen on.
    pub(crate) notify: bool,
}

impl Memory {
    /// The memory of a container that this process is about to create.
    pub(crate) fn new(program: &Path, options: &[String]) -> Result<Self> {
        let pid = wharf_sys::process::pid();
        let creator = identify(pid)?;
        Ok(Memory { program: program.to_owned(), options: options.to_vec(), creator, cgroup: None, notify: false })
    }

    pub(crate) fn value(&self) -> serde_json::Value {
        // A program's path that is no text was refused before.
        json!({
            "program": self.program.to_str(), "options": self.options, "creator": self.creator, "cgroup": self.cgroup,
            "notify": self.notify,
        })
    }

    pub(crate) fn of(record: &Record) -> Result<Self> {
        crate::check_id(record)?;
        let broken = |what: &str| {
            Error::invalid(format!("record of container {}", record.id)).because(format!("private/{what} is missing"))
        };
        let private = record.private.value();
        let program = private.get("program").and_then(|value| value.as_str()).ok_or(broken("program"))?;
        let creator = private.get("creator").cloned().unwrap_or_default();
        let creator = serde_json::from_value(creator).map_err(|error| broken("creator").because(error))?;
        let options = private.get("options").and_then(|value| value.as_array());
        let options = options.into_iter().flatten().filter_map(|value| Some(value.as_str()?.to_owned())).collect();
        let cgroup = private.get("cgroup").and_then(|value| value.as_str()).map(str::to_owned);
        let notify = private.get("notify").and_then(|value| value.as_bool()).unwrap_or_default();
        Ok(Memory { program: PathBuf::from(program), options, creator, cgroup, notify })
    }

    pub(crate) fn creator_lives(&self) -> Result<bool> {
        let Some(creator) = &self.creator else { return Ok(false) };
        Ok(identify(creator.pid)?.as_ref() == Some(creator))
    }
}

/// The process `pid` as it can be recognized later; none when there is no such process.
pub(crate) fn identify(pid: i32) -> Result<Option<Process>> {
    let failed = |errno: wharf_sys::Errno| Error::system(format!("identify process {pid}"), errno as i32);
    let proc = Procfs::open().map_err(failed)?;
    match proc.start_time(pid) {
        Ok(start_time) => {
            let boot_id = proc.boot_id().map_err(failed)?;
            Ok(Some(Process { pid, start_time, boot_id, pidfd_inode: 0 }))
        }
        Err(wharf_sys::Errno::ENOENT | wharf_sys::Errno::ESRCH) => Ok(None),
        Err(errno) => Err(failed(errno)),
    }
}

/// A path that can be written into the record.
pub(crate) fn text<'a>(name: &str, program: &'a Path) -> Result<&'a str> {
    program.to_str().ok_or_else(|| {
        Error::new(Kind::Invalid, format!("use {} as backend {name}", program.display()))
            .because("the path is not UTF-8, so it cannot be recorded")
    })
}
