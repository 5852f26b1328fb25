//! A restored container before its release: its processes stand still, and CRIU waits for our word.

use super::criu::{Criu, Response, request};
use super::explain;
use super::restore::{LOG, doing, loopback_up, run_hooks};
use crate::draft::Judged;
use crate::launch::console::Console;
use crate::launch::{Left, Terminal};
use crate::remove;
use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use wharf_core::{CgroupPaths, Error, Hold, Record, Result};
use wharf_foreground::Relay;
use wharf_sys::namespace::flag;
use wharf_sys::{Errno, libc, process};

pub(crate) struct Restored {
    pub(crate) criu: Criu,
    /// The container's first process, 0 while there is none.
    pub(crate) pid: i32,
    /// With the cgroup as it is.
    pub(crate) record: Record,
    work: OwnedFd,
    place: PathBuf,
    /// Its hooks may have run, so poststop must.
    reached_hooks: bool,
    /// The payload's terminal, in the foreground, and where it goes.
    pub(crate) terminal: Option<(Rc<RefCell<Option<Left>>>, Terminal)>,
    released: bool,
}

/// Who answers CRIU.
pub(crate) struct Speaker<'a> {
    pub(crate) judged: &'a Judged<'a>,
    pub(crate) record: &'a Record,
    pub(crate) console: Option<&'a Console>,
    /// The terminal's master end, in the foreground.
    pub(crate) master: Option<OwnedFd>,
}

impl Restored {
    pub(crate) fn new(criu: Criu, cgroup: CgroupPaths, record: &Record, work: OwnedFd, place: PathBuf) -> Self {
        let record = Record { cgroup, ..record.clone() };
        Restored { criu, pid: 0, record, work, place, reached_hooks: false, terminal: None, released: false }
    }

    /// Until every process is there.
    pub(crate) fn until_restored(&mut self, speaker: &mut Speaker<'_>) -> Result<()> {
        loop {
            let mut response = match self.criu.receive()? {
                Some(response) if response.kind == request::NOTIFY => response,
                other => return Err(self.failed(other)),
            };
            match response.script.as_str() {
                "setup-namespaces" => {
                    self.pid = response.pid;
                    let namespaces = &speaker.judged.container.namespaces;
                    if namespaces.new & flag::NEWNET != 0 {
                        loopback_up(speaker.judged, response.pid)?;
                    }
                    self.reached_hooks = true;
                    run_hooks(speaker.judged, speaker.record, response.pid)?;
                }
                "orphan-pts-master" => speaker.terminal(&mut response)?,
                "post-restore" => {
                    self.pid = response.pid;
                    return Ok(());
                }
                _ => {}
            }
            self.criu.answer(true)?;
        }
    }

    fn finish(&mut self) -> Result<()> {
        self.criu.answer(true)?;
        loop {
            match self.criu.receive()? {
                Some(response) if response.kind == request::NOTIFY => self.criu.answer(true)?,
                Some(response) if response.success => {
                    self.criu.end();
                    return Ok(());
                }
                other => return Err(self.failed(other)),
            }
        }
    }

    fn failed(&mut self, response: Option<Response>) -> Error {
        self.criu.end();
        let work = (self.work.as_fd(), self.place.as_path());
        explain::failed(&doing(&self.record), &self.criu, response.as_ref(), work, LOG)
    }
}

impl Speaker<'_> {
    fn terminal(&mut self, response: &mut Response) -> Result<()> {
        let failed = |errno: Errno| Error::system("receive the container's terminal", errno as i32);
        let master = response.descriptor.take().ok_or_else(|| failed(Errno::EPROTO))?;
        match self.console {
            Some(Console::Socket(handover)) => handover.send(b"/dev/ptmx", &master),
            Some(Console::Here { .. }) => {
                self.master = Some(master);
                Ok(())
            }
            None => Err(failed(Errno::ENOTTY).because("config.json has no terminal").at("process/terminal")),
        }
    }
}

impl Hold for Restored {
    fn release(mut self: Box<Self>) -> Result<()> {
        self.finish()?;
        if let Some((to, (host, master))) = self.terminal.take() {
            let relay = Relay::begin(host, master)
                .map_err(|errno| Error::system("make our own terminal the payload's", errno as i32))?;
            to.replace(Some(Left::Terminal(Box::new(relay))));
        }
        self.released = true;
        Ok(())
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        // It ends what it has restored when nobody speaks with it any more.
        self.criu.end();
        if self.pid != 0 && process::is_child(self.pid) {
            if let Ok(pidfd) = process::pidfd(self.pid) {
                let _ = process::signal(&pidfd, libc::SIGKILL);
            }
            let _ = process::wait(self.pid, 0);
        }
        remove::undo(&self.record, self.reached_hooks);
    }
}
