//! A container of a trial: the verbs, what it printed, and its end. Dropped, it is deleted by force.

use crate::runtime::limit;
use crate::{Bundle, Finished, Host, Ran, Report, Stop, Value};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::cell::Cell;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

pub struct Container<'h> {
    host: &'h Host,
    id: String,
    stdout: PathBuf,
    deleted: Cell<bool>,
}

impl<'h> Container<'h> {
    /// `create` with more options; it must succeed.
    pub fn create(host: &'h Host, bundle: &Bundle, options: &[&str]) -> Result<Self, Stop> {
        bundle.save()?;
        let mut args = vec!["create", "--bundle", bundle.dir_text()];
        args.extend_from_slice(options);
        args.push(bundle.id());
        let finished = host.runtime.call(&args)?;
        if finished.code() != Some(0) {
            return Err(Stop::failed(finished.to_string()));
        }
        Ok(Container { host, id: bundle.id().to_owned(), stdout: finished.stdout_file, deleted: Cell::new(false) })
    }

    /// `create` by a command that the trial makes of its words, in an environment of its own; it must succeed.
    pub fn create_by(host: &'h Host, bundle: &Bundle, make: impl FnOnce(&[&str]) -> Command) -> Result<Self, Stop> {
        bundle.save()?;
        let command = make(&["create", "--bundle", bundle.dir_text(), bundle.id()]);
        let finished = host.runtime.spawn_command(command)?.finish()?;
        if finished.code() != Some(0) {
            return Err(Stop::failed(finished.to_string()));
        }
        Ok(Container { host, id: bundle.id().to_owned(), stdout: finished.stdout_file, deleted: Cell::new(false) })
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn start(&self) -> Result<(), Stop> {
        self.host.runtime.must(&["start", &self.id]).map(drop)
    }

    pub fn kill(&self, signal: &str) -> Result<(), Stop> {
        self.host.runtime.must(&["kill", &self.id, signal]).map(drop)
    }

    /// `state`, parsed.
    pub fn state(&self) -> Result<Value, Stop> {
        let text = self.host.runtime.must(&["state", &self.id])?;
        serde_json::from_str(&text).map_err(|error| Stop::failed(format!("state of {}: {error}: {text:?}", self.id)))
    }

    pub fn status(&self) -> Result<String, Stop> {
        Ok(self.state()?["status"].as_str().unwrap_or_default().to_owned())
    }

    pub fn pid(&self) -> Result<i32, Stop> {
        let state = self.state()?;
        match state["pid"].as_i64() {
            Some(pid) if pid > 0 => Ok(pid as i32),
            _ => Err(Stop::failed(format!("state of {} names no process: {state}", self.id))),
        }
    }

    /// Any verb on this container, its end as it is.
    pub fn call(&self, verb: &str, options: &[&str]) -> Result<Finished, Stop> {
        let mut args = vec![verb];
        args.extend_from_slice(options);
        args.push(&self.id);
        self.host.runtime.call(&args)
    }

    /// `exec` with options before the id and the command after it, its end as it is.
    pub fn exec(&self, options: &[&str], command: &[&str]) -> Result<Ran, Stop> {
        let args: Vec<&str> = [&["exec"], options, &[&self.id], command].concat();
        Ok(Ran::new(self.host.runtime.call(&args)?))
    }

    /// What the payload's commands printed, of an `exec` of it that ended with 0.
    pub fn exec_lines<const N: usize>(&self, options: &[&str], words: &[&str]) -> Result<[Report; N], Stop> {
        let ran = self.exec(options, &[&["/bin/payload"], words].concat())?;
        match ran.code() {
            Some(0) => ran.all(),
            _ => Err(Stop::failed(format!("exec in {}: {}", self.id, ran.finished))),
        }
    }

    pub fn wait_for_status(&self, wanted: &str) -> Result<(), Stop> {
        let begun = Instant::now();
        loop {
            let status = self.status()?;
            if status == wanted {
                return Ok(());
            }
            if begun.elapsed() > limit(15) {
                return Err(Stop::failed(format!("{} is {status}, it should have become {wanted}", self.id)));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What the payload has printed so far.
    pub fn printed(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.stdout).unwrap_or_default()).into_owned()
    }

    /// Waits until the payload has printed this many lines, and gives them parsed.
    pub fn lines(&self, count: usize) -> Result<Vec<Report>, Stop> {
        let begun = Instant::now();
        loop {
            let text = self.printed();
            if text.matches('\n').count() >= count {
                return Report::lines(&text);
            }
            if begun.elapsed() > limit(15) {
                return Err(Stop::failed(format!("{} printed {text:?}, {count} lines were expected", self.id)));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for the container's process, which was left to us as the subreaper: its exit code, or 128 + signal.
    pub fn reap(&self, pid: i32) -> Result<i32, Stop> {
        let begun = Instant::now();
        loop {
            match waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, code)) => return Ok(code),
                Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(128 + signal as i32),
                Ok(_) => {}
                Err(errno) => return Err(Stop::failed(format!("wait for process {pid} of {}: {errno}", self.id))),
            }
            if begun.elapsed() > limit(15) {
                return Err(Stop::failed(format!("process {pid} of {} does not end", self.id)));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// `delete`, which must succeed.
    pub fn delete(&self) -> Result<(), Stop> {
        self.host.runtime.must(&["delete", &self.id])?;
        self.deleted.set(true);
        Ok(())
    }

    /// `delete --force`, which must succeed.
    pub fn delete_force(&self) -> Result<(), Stop> {
        self.host.runtime.must(&["delete", "--force", &self.id])?;
        self.deleted.set(true);
        Ok(())
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if !self.deleted.get() {
            let _ = self.host.runtime.call(&["delete", "--force", &self.id]);
        }
    }
}
