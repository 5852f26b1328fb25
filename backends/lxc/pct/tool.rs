//! One call of a Proxmox tool: started, waited for no longer than it may take, its words kept apart.

use crate::born::c_path;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use wharf_core::{Error, Kind, Result};
use wharf_sys::namespace::{Side, clone};
use wharf_sys::process::{self, ExecStrings};
use wharf_sys::{CWD, Errno, Fd, fd, libc, signal};

/// More than any of them says.
const LONGEST: usize = 1 << 20;
/// How long a tool that is asked to end may take; it hands that on to its worker.
const GRACE: i32 = 5_000;

/// A tool at work.
pub(crate) struct Call {
    name: String,
    pid: i32,
    pidfd: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    ended: bool,
}

/// What one has said, and whether it takes itself for successful. What it has done is another matter.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) fine: bool,
    /// Of a task this is all of its output; the one line of an error is in `stderr`.
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    pub(crate) fn both(&self) -> String {
        format!("{}\n{}", self.stdout.trim(), self.stderr.trim())
    }
}

/// Says it, and waits for the end.
pub(crate) fn say(program: &Path, words: &[&str], most: Duration) -> Result<Said> {
    Call::start(program, words)?.finish(most)
}

impl Call {
    pub(crate) fn start(program: &Path, words: &[&str]) -> Result<Call> {
        let name = [program.file_name().unwrap_or_default().to_string_lossy().as_ref(), words[0]].join(" ");
        let failed = |errno: Errno| Error::system(format!("call {name}"), errno as i32);
        let (stdout, stderr) = (fd::memfd(c"said", false).map_err(failed)?, fd::memfd(c"said", false).map_err(failed)?);
        let path = c_path(program).map_err(failed)?;
        let arguments = words
            .iter()
            .map(|word| CString::new(*word))
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(|_| Error::invalid(format!("a word for {name}")).because("holds a NUL byte"))?;
        let arguments = ExecStrings::new([path.as_c_str()].into_iter().chain(arguments.iter().map(CString::as_c_str)));
        let environment = ExecStrings::new([c"PATH=/usr/sbin:/usr/bin:/sbin:/bin", c"LC_ALL=C", c"HOME=/root"]);
        match clone(0, None).map_err(failed)? {
            Side::Child => {
                let become_it = || -> std::result::Result<(), Errno> {
                    signal::reset_all()?;
                    // What ends the caller's foreground is not to end a task in the midst.
                    process::set_session()?;
                    let null = fd::openat(CWD, c"/dev/null", libc::O_RDWR, 0)?;
                    let streams = [&null, &stdout, &stderr].map(|stream| fd::duplicate_from(stream, 3));
                    for (stream, target) in streams.into_iter().zip(0..) {
                        fd::dup_to(&stream?, target)?;
                    }
                    fd::close_by_exec(3)?;
                    process::chdir(c"/")?;
                    Err(process::exec(&path, &arguments, &environment))
                };
                let _ = become_it();
                process::exit_now(127)
            }
            Side::Parent { pid, pidfd } => Ok(Call { name, pid, pidfd, stdout, stderr, ended: false }),
        }
    }

    pub(crate) fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    pub(crate) fn finish(mut self, most: Duration) -> Result<Said> {
        let failed = |errno: Errno| Error::system(format!("wait for {}", self.name), errno as i32);
        let limit = i32::try_from(most.as_millis()).unwrap_or(i32::MAX);
        if !process::readable(&self.pidfd, limit).map_err(failed)? {
            let name = self.name.clone();
            self.stop();
            return Err(Error::new(Kind::System, name)
                .because(format!("it has not ended within {} s, and was stopped", most.as_secs()))
                .hint("proxmox.timeout in the configuration; what holds it up is in the node's task list"));
        }
        self.ended = true;
        let fine = process::wait(self.pid, 0).map_err(failed)?.is_some_and(|(_, ended)| ended.code() == 0);
        let text = |file: &OwnedFd| {
            let _ = fd::seek_start(file);
            fd::read_to_end(Fd(file.as_raw_fd()), LONGEST)
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .unwrap_or_default()
        };
        Ok(Said { fine, stdout: text(&self.stdout), stderr: text(&self.stderr) })
    }

    fn stop(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let _ = process::signal(&self.pidfd, libc::SIGTERM);
        if !process::readable(&self.pidfd, GRACE).unwrap_or(false) {
            let _ = process::signal(&self.pidfd, libc::SIGKILL);
        }
        let _ = process::wait(self.pid, 0);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn shell(script: &str, most: u64) -> Result<Said> {
        say(Path::new("/bin/sh"), &["-c", script], Duration::from_millis(most))
    }

    #[test]
    fn words_and_success_are_told_apart() {
        let said = shell("echo out; echo err >&2; exit 3", 10_000).unwrap();
        assert_eq!((said.fine, said.stdout.as_str(), said.stderr.as_str()), (false, "out\n", "err\n"));
        assert!(shell("cat; exit 0", 10_000).unwrap().fine);
        assert!(!say(Path::new("/no/such/tool"), &["list"], Duration::from_secs(10)).unwrap().fine);
    }

    #[test]
    fn one_that_takes_too_long_is_stopped() {
        let began = Instant::now();
        let error = shell("exec sleep 60", 100).unwrap_err();
        assert!(error.to_string().contains("not ended within"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(4));
    }
}
