//! The task verbs (§1): a worker that is forked, whose every word comes out on stdout and in the task's log.

use crate::answer::{Death, WORKER};
use crate::world::World;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{SystemTime, UNIX_EPOCH};
use wharf_sys::namespace::{Side, clone};
use wharf_sys::{fd, process, signal};

/// How a verb takes the end of its task.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Verdict {
    Checked,
    /// §1: rc 0 although it failed; the error goes to stderr.
    Ignored,
}

pub(crate) struct Task<'a> {
    pub(crate) world: &'a World,
    pub(crate) kind: &'a str,
    pub(crate) id: u32,
    pub(crate) result: Verdict,
}

impl Task<'_> {
    /// Does `work` in a worker. The double has one thread, so the worker may do anything.
    pub(crate) fn run(&self, work: impl FnOnce() -> Result<(), Death>) -> Result<(), Death> {
        let failed = |doing: &str, error: &dyn std::fmt::Display| Death::system(doing, error);
        self.world.check_quorum()?;
        let (mut reader, writer) = std::io::pipe().map_err(|error| failed("make a pipe", &error))?;
        let (mut verdict, verdict_writer) = std::io::pipe().map_err(|error| failed("make a pipe", &error))?;
        std::io::stdout().flush().map_err(|error| failed("write", &error))?;
        signal::block_all().map_err(|errno| failed("block signals", &errno))?;
        let signals = signal::descriptor().map_err(|errno| failed("watch signals", &errno))?;
        let (pid, pidfd) = match clone(0, None).map_err(|errno| failed("fork", &errno))? {
            Side::Child => {
                drop((reader, verdict, signals));
                let code = self.work(work, &writer, verdict_writer);
                process::exit_now(code)
            }
            Side::Parent { pid, pidfd } => (pid, pidfd),
        };
        drop((writer, verdict_writer));
        let mut log = self.log(pid);
        let mut interrupts = 0;
        let mut buffer = [0; 4096];
        // Until nobody holds the other end: what the worker leaves behind must not.
        loop {
            let ready = process::ready([reader.as_fd(), signals.as_fd()], 1000).unwrap_or([true, false]);
            if ready[1]
                && let Ok(Some(number)) = signal::take(&signals)
            {
                // SIGINT, SIGQUIT, SIGTERM.
                if [2, 3, 15].contains(&number) {
                    interrupts += 1;
                    let group = nix::unistd::Pid::from_raw(pid);
                    let with = if interrupts > 3 { nix::sys::signal::SIGKILL } else { nix::sys::signal::SIGTERM };
                    let _ = nix::sys::signal::killpg(group, with);
                }
            }
            let ended = !ready[0] && process::readable(&pidfd, 0).unwrap_or(true);
            if !ready[0] && !ended {
                continue;
            }
            if ended {
                break;
            }
            match reader.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(length) => {
                    let mut stdout = std::io::stdout();
                    let _ = stdout.write_all(&buffer[..length]).and_then(|()| stdout.flush());
                    if let Some((file, _)) = &mut log {
                        let _ = file.write_all(&buffer[..length]);
                    }
                }
            }
        }
        let _ = process::readable(&pidfd, -1);
        let _ = process::wait(pid, 0);
        let mut words = String::new();
        let _ = verdict.read_to_string(&mut words);
        let (first, rest) = words.split_once('\n').unwrap_or((words.as_str(), ""));
        let rest = rest.trim_end_matches('\n');
        let end = match first {
            "OK" => "TASK OK".to_owned(),
            "WARNINGS" => format!("TASK WARNINGS: {rest}"),
            "" => "TASK ERROR: unexpected status".to_owned(),
            _ => format!("TASK ERROR: {}", rest.replace('\n', " ")),
        };
        if let Some((mut file, upid)) = log {
            let _ = writeln!(file, "{end}");
            self.index(&upid, end.trim_start_matches("TASK ").trim_start_matches("ERROR: "));
        }
        match (first, self.result) {
            ("OK", _) => Ok(()),
            ("WARNINGS", _) => {
                // §1: rc 0.
                eprintln!("Task finished with {rest} warning(s)!");
                Ok(())
            }
            (said, result) => {
                let words = if said.is_empty() { "unexpected status".to_owned() } else { rest.replace('\n', " ") };
                let mut death = Death::new(WORKER, format!("{words}\n"));
                death.of_task = true;
                if result == Verdict::Ignored {
                    death.say();
                    return Ok(());
                }
                Err(death)
            }
        }
    }

    /// In the worker.
    fn work(
        &self,
        work: impl FnOnce() -> Result<(), Death>,
        writer: &std::io::PipeWriter,
        mut verdict: std::io::PipeWriter,
    ) -> i32 {
        let _ = signal::reset_all();
        let _ = signal::set_mask(0);
        // With a terminal the real one takes its foreground instead.
        let _ = process::set_session();
        for stream in [1, 2] {
            let _ = fd::dup_to(writer, stream);
        }
        let _ = writer.as_raw_fd();
        let done = work();
        let _ = std::io::stdout().flush();
        let warnings = crate::task::warned();
        let (word, code) = match &done {
            Ok(()) if warnings > 0 => (format!("WARNINGS\n{warnings}\n"), 0),
            Ok(()) => ("OK\n".to_owned(), 0),
            Err(death) => (format!("ERROR\n{}\n", death.words()), 255),
        };
        let _ = verdict.write_all(word.as_bytes());
        code
    }

    /// §1, task log: `UPID:<node>:<pid>:<pstart>:<starttime>:<type>:<id>:<user>:`.
    fn log(&self, pid: i32) -> Option<(File, String)> {
        let start = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let born: u64 = stat.rsplit(')').next()?.split_whitespace().nth(19)?.parse().ok()?;
        let node = self.world.node();
        let upid = format!("UPID:{node}:{pid:08X}:{born:08X}:{start:08X}:{}:{}:root@pam:", self.kind, self.id);
        let digit = format!("{start:08X}").pop()?;
        let dir = self.world.path(&format!("var/log/pve/tasks/{digit}"));
        fs::create_dir_all(&dir).ok()?;
        let file = OpenOptions::new().create(true).append(true).open(dir.join(&upid)).ok()?;
        Some((file, upid))
    }

    fn index(&self, upid: &str, status: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let path = self.world.path("var/log/pve/tasks/index");
        if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path) {
            let _ = writeln!(file, "{upid} {now:08X} {status}");
        }
    }
}

thread_local! {
    static WARNED: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// A warning of the worker: said, and counted for the end.
pub(crate) fn warn(text: impl std::fmt::Display) {
    eprintln!("WARN: {text}");
    WARNED.with(|count| count.set(count.get() + 1));
}

fn warned() -> u32 {
    WARNED.with(std::cell::Cell::get)
}

/// Does `work` in a process of its own, whose mounts are nobody else's.
pub(crate) fn apart(work: impl FnOnce() -> Result<(), Death>) -> Result<(), Death> {
    apart_with(|| work().map(|()| String::new())).map(drop)
}

/// The same, with a word of its result.
pub(crate) fn apart_with(work: impl FnOnce() -> Result<String, Death>) -> Result<String, Death> {
    let failed = |doing: &str, error: &dyn std::fmt::Display| Death::system(doing, error);
    let (mut reader, mut writer) = std::io::pipe().map_err(|error| failed("make a pipe", &error))?;
    let _ = std::io::stdout().flush();
    let pid = match clone(0, None).map_err(|errno| failed("fork", &errno))? {
        Side::Child => {
            drop(reader);
            let (code, text) = match work() {
                Ok(text) => (0, text),
                Err(death) => (1, death.words().to_owned()),
            };
            let _ = std::io::stdout().flush();
            let _ = writer.write_all(text.as_bytes());
            process::exit_now(code)
        }
        Side::Parent { pid, .. } => pid,
    };
    drop(writer);
    let mut text = String::new();
    let _ = reader.read_to_string(&mut text);
    match process::wait(pid, 0) {
        Ok(Some((_, ended))) if ended.code() == 0 => Ok(text),
        _ => Err(Death::worker(text)),
    }
}
