//! A small process beside a payload that is another's child: it waits for the end, and ends it when its time is over.
//!
//! It is wharf itself, executed anew: what `create` has in memory would stay in memory for as long as the container.

use crate::ending::Ending;
use crate::notes;
use crate::watch::Watch;
use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use wharf_cgroup::{Handle, Layout};
use wharf_core::{CgroupPaths, Error, Record, Result, Sender, WitnessKind, time};
use wharf_sys::namespace::{Side, clone};
use wharf_sys::process::{self, ExecStrings};
use wharf_sys::procfs::Procfs;
use wharf_sys::{CWD, Errno, Fd, event, fd, libc, lot, mount, signal, socket};

/// The name that it is called by.
pub const NAME: &str = "wharf-watcher";
const NAME_C: &CStr = c"wharf-watcher";

/// How long it may take to be ready, in milliseconds.
const READY: i32 = 10_000;
/// What a long wait is made of.
const LONG: Duration = Duration::from_secs(3600);

/// One that has just been started.
pub struct Watcher {
    pid: i32,
    pidfd: OwnedFd,
}

impl Watcher {
    /// Starts one, and returns when it watches. `dir` is the state directory, with the record in it; the container's
    /// first process must still be there.
    pub fn start(dir: BorrowedFd<'_>, record: &Record, lifetime: Option<Duration>) -> Result<Watcher> {
        let failed = |errno: Errno| Error::system("start the watcher", errno as i32);
        let init = record.init.as_ref().ok_or_else(|| failed(Errno::ESRCH))?;
        let payload = process::pidfd(init.pid).map_err(failed)?;
        let (ours, theirs) = socket::pair().map_err(failed)?;
        let words = Words { dir: dir.as_raw_fd(), payload: payload.as_raw_fd(), answer: theirs.as_raw_fd(), lifetime };
        let (pid, pidfd) = match clone(0, None).map_err(failed)? {
            Side::Child => {
                let errno = words.become_watcher().err().unwrap_or(Errno::EIO);
                let _ = fd::write(&theirs, errno.to_string().as_bytes());
                process::exit_now(1)
            }
            Side::Parent { pid, pidfd } => (pid, pidfd),
        };
        drop(theirs);
        let watcher = Watcher { pid, pidfd };
        let mut answer = [0; 1024];
        let told = match process::readable(&ours, READY).map_err(failed)? {
            true => socket::receive(&ours, &mut answer).map_err(failed)?.0,
            false => 0,
        };
        match &answer[..told] {
            b"ready" => Ok(watcher),
            why => {
                let why = if why.is_empty() { "it ended or hung".into() } else { String::from_utf8_lossy(why) };
                watcher.stop();
                Err(Error::system("start the watcher", Errno::ECHILD as i32).because(why))
            }
        }
    }

    /// Nothing is to be watched after all.
    pub fn stop(self) {
        let _ = process::signal(&self.pidfd, libc::SIGKILL);
        let _ = process::wait(self.pid, 0);
    }
}

/// What a watcher is told on its command line.
struct Words {
    dir: i32,
    payload: i32,
    answer: i32,
    lifetime: Option<Duration>,
}

impl Words {
    fn become_watcher(&self) -> Result<(), Errno> {
        // A terminal that hangs up is not ours to die with.
        process::set_session()?;
        signal::reset_all()?;
        let null = fd::openat(CWD, c"/dev/null", libc::O_RDWR, 0)?;
        for number in 0..3 {
            fd::dup_to(Fd(null.as_raw_fd()), number)?;
        }
        let own = Procfs::open()?.open_link(c"self/exe", libc::O_PATH)?;
        fd::close_by_exec(3)?;
        for number in [self.dir, self.payload, self.answer] {
            fd::set_cloexec(Fd(number), false)?;
        }
        let word = |number: u64| CString::new(number.to_string()).unwrap_or_default();
        let lifetime = self.lifetime.map_or(0, |lifetime| lifetime.as_millis() as u64);
        let words = [self.dir as u64, self.payload as u64, self.answer as u64, lifetime].map(word);
        let arguments = ExecStrings::new([NAME_C].into_iter().chain(words.iter().map(CString::as_c_str)));
        Err(process::exec_fd(&own, &arguments, &ExecStrings::new([])))
    }

    fn parse(words: &[OsString]) -> Option<Words> {
        let numbers: Vec<u64> = words.iter().map(|word| word.to_str()?.parse().ok()).collect::<Option<_>>()?;
        let &[dir, payload, answer, lifetime] = numbers.as_slice() else { return None };
        let descriptor = |number: u64| i32::try_from(number).ok();
        Some(Words {
            dir: descriptor(dir)?,
            payload: descriptor(payload)?,
            answer: descriptor(answer)?,
            lifetime: (lifetime > 0).then(|| Duration::from_millis(lifetime)),
        })
    }
}

/// The watcher's own life; its exit code.
pub fn main(words: &[OsString]) -> i32 {
    let Some(words) = Words::parse(words) else { return 2 };
    match Job::begin(&words) {
        Ok(job) => match job.watch() {
            Ok(()) => 0,
            Err(_) => 1,
        },
        Err(error) => {
            let _ = fd::write(Fd(words.answer), error.to_string().as_bytes());
            1
        }
    }
}

struct Job {
    watch: Watch,
    cgroup: CgroupPaths,
    payload: Ending<Fd>,
    lifetime: Option<(Duration, OwnedFd)>,
}

impl Job {
    fn begin(words: &Words) -> Result<Job> {
        let failed = |errno: Errno| Error::system("watch the container", errno as i32);
        let dir = Fd(words.dir);
        let bytes = wharf_sys::dir::read_at(dir.as_fd(), "record.json").map_err(failed)?;
        let record: Record =
            serde_json::from_slice(&bytes).map_err(|error| Error::invalid("read the record").because(error))?;
        let watch = Watch::open(dir, WitnessKind::Watcher, &record.cgroup)?;
        let init = record.init.as_ref().ok_or_else(|| failed(Errno::ESRCH))?;
        let payload = Ending::of(init, Fd(words.payload)).map_err(failed)?;
        mount::fchdir(dir).map_err(failed)?;
        let lifetime = match words.lifetime {
            Some(lifetime) => Some((lifetime, event::names_appear_here().map_err(failed)?)),
            None => None,
        };
        // No file system is to be held by us.
        process::chdir(c"/").map_err(failed)?;
        fd::close(dir);
        fd::write_all(Fd(words.answer), b"ready").map_err(failed)?;
        fd::close(Fd(words.answer));
        process::let_go_of_code();
        lot::close_served();
        Ok(Job { watch, cgroup: record.cgroup, payload, lifetime })
    }

    fn watch(mut self) -> Result<()> {
        let failed = |errno: Errno| Error::system("watch the container", errno as i32);
        self.until_the_end().map_err(failed)?;
        let finished = time::now();
        let ended = self.payload.now();
        let usage = self.watch.usage();
        // Else whoever is to wait for it takes the status first; the kernel keeps it for us then.
        let ended = match ended {
            Some(ended) => ended,
            None => self.payload.afterwards(-1).map_err(failed)?,
        };
        self.watch.close(ended, finished, usage)
    }

    /// Returns when the payload has ended, by itself or because its time was over.
    fn until_the_end(&mut self) -> Result<(), Errno> {
        let mut deadline: Option<Instant> = None;
        loop {
            let left = deadline.map_or(LONG, |deadline| deadline.saturating_duration_since(Instant::now()));
            let beginning = self.lifetime.as_ref().filter(|_| deadline.is_none());
            let beginning = beginning.map(|(_, names)| (names.as_fd(), event::READABLE));
            let [ended, named] = event::wait([Some((self.payload.pidfd().as_fd(), event::READABLE)), beginning], left)?;
            if ended {
                return Ok(());
            }
            if let Some((lifetime, names)) = self.lifetime.as_ref().filter(|_| named) {
                event::forget(names)?;
                if notes::started(&self.watch.dir).is_some() {
                    deadline = Some(Instant::now() + *lifetime);
                }
                lot::close_served();
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                self.end();
                deadline = None;
                self.lifetime = None;
            }
        }
    }

    /// Its time is over: every process of it is killed. What cannot be killed by its cgroup ends with the first process.
    fn end(&self) {
        let _ = crate::note_signal(&self.watch.dir, Sender::Lifetime, libc::SIGKILL);
        let _ = process::signal(self.payload.pidfd(), libc::SIGKILL);
        let _ = Layout::mounted()
            .and_then(|layout| Handle::open(layout, &self.cgroup))
            .and_then(|cgroup| cgroup.kill_all(libc::SIGKILL));
    }
}
