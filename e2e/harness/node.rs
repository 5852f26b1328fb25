//! A node of Proxmox VE as the double has it: a world of its own, with the programs in it.

use crate::{Finished, Host, Stop, find};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Dropped, everything in it ends.
pub struct Node {
    dir: PathBuf,
}

impl Node {
    pub fn make(host: &Host) -> Result<Self, Stop> {
        Node::make_with(host, &[])
    }

    /// With options of `pct-double make`.
    pub fn make_with(host: &Host, options: &[&str]) -> Result<Self, Stop> {
        if !Path::new("/usr/bin/lxc-start").exists() {
            return Err(Stop::skipped("LXC is not installed"));
        }
        let dir = host.new_dir("node")?;
        let mut command = Command::new(find::pct_double().map_err(Stop::failed)?);
        command.arg("make").arg(&dir).args(options);
        let made = host.program(command)?.finish()?;
        match made.code() {
            Some(0) => Ok(Node { dir }),
            _ => Err(Stop::failed(made.to_string())),
        }
    }

    /// Where its /etc/pve and the rest of it are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// An empty template.
    pub fn template(&self) -> Result<String, Stop> {
        let path = self.dir.join("srv/data/template/cache/empty.tar");
        // The end of a tar is two blocks of zeroes.
        std::fs::write(&path, [0; 1024])?;
        Ok("data:vztmpl/empty.tar".to_owned())
    }

    pub fn program(&self, name: &str) -> Command {
        Command::new(self.dir.join("bin").join(name))
    }

    /// One of its programs, to its end.
    pub fn call(&self, host: &Host, name: &str, words: &[&str]) -> Result<Finished, Stop> {
        let mut command = self.program(name);
        command.args(words).stdin(Stdio::null());
        host.program(command)?.finish()
    }

    /// The same, which must end with 0: what it printed.
    pub fn must(&self, host: &Host, name: &str, words: &[&str]) -> Result<String, Stop> {
        let finished = self.call(host, name, words)?;
        match finished.code() {
            Some(0) => Ok(finished.stdout),
            _ => Err(Stop::failed(finished.to_string())),
        }
    }

    /// The next number that is free.
    pub fn next_id(&self, host: &Host) -> Result<String, Stop> {
        Ok(self.must(host, "pvesh", &["get", "/cluster/nextid"])?.trim().to_owned())
    }

    /// Switches a state of it on: a file in `state`.
    pub fn switch(&self, state: &str, value: &str) -> Result<(), Stop> {
        Ok(std::fs::write(self.dir.join("state").join(state), value)?)
    }

    pub fn switch_off(&self, state: &str) -> Result<(), Stop> {
        Ok(std::fs::remove_file(self.dir.join("state").join(state))?)
    }

    /// `STEP ACTION`: the next failure.
    pub fn fail_at(&self, line: &str) -> Result<(), Stop> {
        Ok(std::fs::write(self.dir.join("fail"), format!("{line}\n"))?)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.program("pct-double").arg("down").stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}
