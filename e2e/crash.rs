//! A runtime killed after each of its system calls: afterwards `delete --force`, or `gc`, brings the host back to where it
//! was.
//!
//! The runtime process itself is traced, not what it makes, and gets SIGKILL when its k-th call has returned, for every k.
//!
//! | environment | meaning |
//! |---|---|
//! | `WHARF_E2E_FULL=1` | every system call; without it one in eight, chosen by the seed |
//! | `WHARF_E2E_SEED=N` | which ones |

use crate::attack::arena::Runtime;
use harness::{Bundle, ConsoleSocket, Feature, Host, Inventory, Outcome, Stop, ensure};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PTRACE_EVENT_EXEC: i32 = 4;

pub(crate) fn trials() -> Feature {
    Feature::new("crash")
        .trial("create is killed after each system call, and delete --force leaves nothing", |host| {
            every(host, Moment::Create)
        })
        .trial("create is killed after each system call, and gc leaves nothing and harms no other", |host| {
            swept(host, Moment::Create)
        })
        .trial("a delegated create is killed after each system call, and gc leaves nothing", |host| {
            swept(host, Moment::CreateDelegated)
        })
        .trial("delete of a stopped container is killed after each system call, and gc leaves nothing", |host| {
            swept(host, Moment::DeleteStopped)
        })
        .trial("create with a watcher is killed after each system call, and gc leaves nothing", |host| {
            swept(host, Moment::CreateWatched)
        })
        .trial("delete of a container that had a watcher is killed after each system call", |host| {
            host.only_wharf("only wharf has watchers")?;
            every(host, Moment::DeleteWatched)
        })
        .trial("create with a terminal is killed after each system call, and delete --force leaves nothing", |host| {
            every(host, Moment::CreateWithTerminal)
        })
        .trial("a delegated create is killed after each system call, and its container does not exist", |host| {
            host.only_wharf("only wharf hands on")?;
            every(host, Moment::CreateDelegated)
        })
        .trial("delete --force of a created container is killed after each system call", |host| {
            every(host, Moment::DeleteCreated)
        })
        .trial("delete --force of a running container is killed after each system call", |host| {
            every(host, Moment::DeleteRunning)
        })
        .trial("delete of a stopped container is killed after each system call", |host| {
            every(host, Moment::DeleteStopped)
        })
        .trial("exec is killed after each system call, and its process ends with it", |host| every(host, Moment::Exec))
        .trial("start is killed after each system call, and delete --force leaves nothing", |host| {
            every(host, Moment::Start)
        })
}

/// Which call of the runtime is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    Create,
    CreateWithTerminal,
    CreateWatched,
    /// With a program that makes nothing and fails.
    CreateDelegated,
    Start,
    DeleteCreated,
    DeleteRunning,
    DeleteStopped,
    DeleteWatched,
    Exec,
}

/// How a traced call ended.
enum Traced {
    /// It was killed after this many calls; the last one's number, as the kernel counts them.
    Killed { number: String },
    /// It ended by itself.
    Ended { calls: u32, status: WaitStatus },
}

/// What a user does after a crash.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Broom {
    Delete,
    Collect,
}

/// With `gc`, while another container lives, which is not harmed.
fn swept(host: &Host, moment: Moment) -> Outcome {
    host.only_wharf("only wharf has gc")?;
    let other = host.start(&host.bundle()?.payload(&["sleep"]))?;
    every_with(host, moment, Broom::Collect)?;
    ensure!(other.state()?["status"] == "running", "the other container was harmed");
    other.delete_force()
}

fn every(host: &Host, moment: Moment) -> Outcome {
    every_with(host, moment, Broom::Delete)
}

fn every_with(host: &Host, moment: Moment, broom: Broom) -> Outcome {
    let runtime = Runtime::under_test(host);
    let bundle = host.bundle()?.args(&["/bin/attacker", "wait", "60000"]);
    fs::copy(host.payload().with_file_name("attacker"), bundle.rootfs().join("bin/attacker"))?;
    let bundle = match moment {
        Moment::CreateWithTerminal => bundle.set("/process/terminal", harness::json!(true)),
        Moment::CreateWatched | Moment::DeleteWatched => {
            bundle.set("/annotations", harness::json!({"dev.wharf.exit-record": "watcher"}))
        }
        _ => bundle,
    };
    bundle.save()?;
    let start = Inventory::take(host.tag(), &host.root());
    let total = match round(host, &runtime, &bundle, moment, u32::MAX)? {
        Traced::Ended { calls, status: WaitStatus::Exited(_, 0) } => calls,
        Traced::Ended { calls, .. } if moment == Moment::CreateDelegated => calls,
        Traced::Ended { status, .. } => {
            return Err(Stop::failed(format!("the call fails without any crash: {status:?}")));
        }
        Traced::Killed { .. } => return Err(Stop::failed("killed without being asked to")),
    };
    clean(host, &runtime, &bundle, broom, &start)?;
    ensure!(total > 3, "only {total} system calls were seen: the tracing does not work");
    let mut failures = Vec::new();
    let mut killed = 0;
    for k in (1..=total).filter(|k| chosen(*k)) {
        let before = Inventory::take(host.tag(), &host.root());
        let number = match round(host, &runtime, &bundle, moment, k)? {
            Traced::Killed { number } => number,
            Traced::Ended { .. } => "none: it had ended".to_owned(),
        };
        killed += 1;
        if let Err(Stop::Failed(why)) = clean(host, &runtime, &bundle, broom, &before) {
            failures.push(format!("after call {k} of {total} (system call {number}): {why}"));
        }
    }
    println!("crash {moment:?}: {killed} of {total} system calls, {} left something", failures.len());
    ensure!(killed > 0, "no system call was chosen");
    let shown = failures.iter().take(12).cloned().collect::<Vec<_>>().join("\n  ");
    ensure!(failures.is_empty(), "{} of {killed} crashes left something:\n  {shown}", failures.len());
    Ok(())
}

/// All with `WHARF_E2E_FULL`, else about one in eight.
fn chosen(k: u32) -> bool {
    let seed: u64 = std::env::var("WHARF_E2E_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mixed = (u64::from(k) ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    std::env::var_os("WHARF_E2E_FULL").is_some() || (mixed >> 32).is_multiple_of(8)
}

/// Brings a container to the state before the moment, and kills the runtime `k` calls into it.
fn round(host: &Host, runtime: &Runtime<'_>, bundle: &Bundle, moment: Moment, k: u32) -> Result<Traced, Stop> {
    let create = ["create", "--bundle", bundle.dir_text(), bundle.id()];
    if matches!(moment, Moment::Create | Moment::CreateWatched) {
        return traced(host, runtime, &create, k);
    }
    if moment == Moment::CreateWithTerminal {
        // Whoever would have the terminal's other end is gone at the end of the round.
        let socket = ConsoleSocket::new(host)?;
        let to = ["--console-socket", socket.path()];
        return traced(host, runtime, &[&create[..1], &to, &create[1..]].concat(), k);
    }
    if moment == Moment::CreateDelegated {
        let traced = traced(host, runtime, &[&["--backend", "/bin/false"], &create[..]].concat(), k)?;
        unknown(host, runtime, bundle)?;
        return Ok(traced);
    }
    plain(host, runtime, &create)?;
    if matches!(moment, Moment::DeleteRunning | Moment::DeleteStopped | Moment::DeleteWatched | Moment::Exec) {
        plain(host, runtime, &["start", bundle.id()])?;
    }
    if matches!(moment, Moment::DeleteStopped | Moment::DeleteWatched) {
        plain(host, runtime, &["kill", bundle.id(), "KILL"])?;
        let begun = Instant::now();
        while !plain(host, runtime, &["state", bundle.id()])?.contains("\"stopped\"") {
            reap();
            ensure!(begun.elapsed() < Duration::from_secs(5), "the killed container does not stop");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    match moment {
        Moment::Start => traced(host, runtime, &["start", bundle.id()], k),
        Moment::Exec => {
            let traced = traced(host, runtime, &["exec", bundle.id(), "/bin/attacker", "say", "here"], k)?;
            alone(host, runtime, bundle)?;
            Ok(traced)
        }
        Moment::DeleteStopped | Moment::DeleteWatched => traced(host, runtime, &["delete", bundle.id()], k),
        _ => traced(host, runtime, &["delete", "--force", bundle.id()], k),
    }
}

/// A container that no program knows does not exist, and its id is free: what is left of it is collected.
fn unknown(host: &Host, runtime: &Runtime<'_>, bundle: &Bundle) -> Outcome {
    let said = plain(host, runtime, &["state", bundle.id()]);
    ensure!(matches!(&said, Err(Stop::Failed(why)) if why.contains("does not exist")), "state: {said:?}");
    ensure!(!plain(host, runtime, &["list", "--quiet"])?.contains(bundle.id()), "list shows it");
    if host.root().join(bundle.id()).exists() {
        plain(host, runtime, &["create", "--bundle", bundle.dir_text(), bundle.id()])?;
    }
    Ok(())
}

/// Waits until the container has no process but its own: one that joined it has ended with the runtime, or by itself. As
/// long as we have not reaped it, the kernel lets nobody end the container's first process.
fn alone(host: &Host, runtime: &Runtime<'_>, bundle: &Bundle) -> Outcome {
    let begun = Instant::now();
    loop {
        reap();
        let listed = plain(host, runtime, &["ps", "--format", "json", bundle.id()])?;
        if listed.matches(',').count() == 0 && children()? <= 1 {
            return Ok(());
        }
        ensure!(begun.elapsed() < Duration::from_secs(5), "more than one process lives on: {}", listed.trim());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How many children we have, the adopted ones too.
fn children() -> Result<usize, Stop> {
    let own = std::process::id().to_string();
    let is_ours =
        |stat: &str| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.split_whitespace().nth(1) == Some(&own));
    let stats = fs::read_dir("/proc")?.flatten().filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    Ok(stats.filter(|stat| is_ours(stat)).count())
}

/// What a user does after a crash; then the host must be as before.
fn clean(host: &Host, runtime: &Runtime<'_>, bundle: &Bundle, broom: Broom, before: &Inventory) -> Outcome {
    let deleted = match broom {
        Broom::Delete => plain(host, runtime, &["delete", "--force", bundle.id()]),
        Broom::Collect => collect(host, runtime, bundle),
    };
    let begun = Instant::now();
    loop {
        reap();
        let difference = Inventory::take(host.tag(), &host.root()).difference(before);
        if difference.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > Duration::from_secs(2) {
            let said = match deleted {
                Ok(_) => "the call after it succeeded".to_owned(),
                Err(Stop::Failed(why) | Stop::Skipped(why)) => why,
            };
            return Err(Stop::failed(format!("{}; {said}", difference.join(", "))));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `gc` tells what it would remove, and removes that. A container that was completed is none of its concern, nor one that a
/// process of the killed runtime still holds, for the moment until it has ended too.
fn collect(host: &Host, runtime: &Runtime<'_>, bundle: &Bundle) -> Result<String, Stop> {
    let begun = Instant::now();
    loop {
        reap();
        let look = || plain(host, runtime, &["state", bundle.id()]).unwrap_or_default();
        let state = look();
        // One that was not let go dies with its maker, a moment later.
        std::thread::sleep(Duration::from_millis(10));
        if look() != state {
            continue;
        }
        let told = plain(host, runtime, &["gc", "--stopped"])?;
        let named = told.lines().any(|line| line.split_whitespace().next() == Some(bundle.id()));
        if state.contains("\"status\": \"created\"") {
            ensure!(!named, "gc names a living container: {told}");
            plain(host, runtime, &["gc", "--stopped", "--apply"])?;
            ensure!(plain(host, runtime, &["state", bundle.id()])? == state, "gc changes a living container");
            return plain(host, runtime, &["delete", "--force", bundle.id()]);
        }
        if named == host.root().join(bundle.id()).exists() {
            return plain(host, runtime, &["gc", "--stopped", "--apply"]);
        }
        ensure!(begun.elapsed() < Duration::from_secs(2), "gc does not name what is there: {told}{state}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn reap() {
    while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status != WaitStatus::StillAlive) {}
}

fn files(host: &Host) -> (PathBuf, PathBuf) {
    (host.dir().join("crash.out"), host.dir().join("crash.err"))
}

fn plain(host: &Host, runtime: &Runtime<'_>, verb: &[&str]) -> Result<String, Stop> {
    let words = runtime.words(&host.root());
    let (out, err) = files(host);
    let mut child = Command::new(&words[0])
        .args(&words[1..])
        .args(verb)
        .stdin(Stdio::null())
        .stdout(fs::File::create(&out)?)
        .stderr(fs::File::create(&err)?)
        .spawn()?;
    let status = child.wait()?;
    match status.success() {
        true => Ok(fs::read_to_string(out)?),
        false => Err(Stop::failed(format!("{}: {status}: {}", verb.join(" "), fs::read_to_string(err)?.trim_end()))),
    }
}

/// Runs a verb under ptrace and kills the process when its `k`-th system call has returned.
fn traced(host: &Host, runtime: &Runtime<'_>, verb: &[&str], k: u32) -> Result<Traced, Stop> {
    let (out, err) = files(host);
    // The shell stops itself so that it can be seized, then becomes the runtime.
    let child = Command::new("sh")
        .args(["-c", "kill -STOP $$; exec \"$@\"", "sh"])
        .args(runtime.words(&host.root()))
        .args(verb)
        .stdin(Stdio::null())
        .stdout(fs::File::create(out)?)
        .stderr(fs::File::create(err)?)
        .spawn()?;
    let pid = Pid::from_raw(child.id() as i32);
    let stopped = waitpid(pid, Some(WaitPidFlag::WUNTRACED))?;
    ensure!(matches!(stopped, WaitStatus::Stopped(_, Signal::SIGSTOP)), "the shell did not stop: {stopped:?}");
    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACEEXEC | Options::PTRACE_O_EXITKILL;
    ptrace::seize(pid, options)?;
    kill(pid, Signal::SIGCONT)?;
    follow(pid, &runtime.program, k)
}

fn follow(pid: Pid, program: &Path, k: u32) -> Result<Traced, Stop> {
    let program = program.canonicalize()?;
    let (mut counting, mut entered, mut calls) = (false, false, 0);
    loop {
        match waitpid(pid, Some(WaitPidFlag::__WALL))? {
            status @ (WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => return Ok(Traced::Ended { calls, status }),
            WaitStatus::PtraceEvent(_, _, PTRACE_EVENT_EXEC) => {
                let now = fs::read_link(format!("/proc/{pid}/exe"));
                counting = counting || now.is_ok_and(|now| now == program);
                // The next stop is the return of this execve.
                entered = true;
                ptrace::syscall(pid, None)?;
            }
            WaitStatus::PtraceSyscall(_) => {
                entered = !entered;
                if counting && !entered {
                    calls += 1;
                    if calls == k {
                        let text = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
                        let number = text.split(' ').next().unwrap_or_default().to_owned();
                        kill(pid, Signal::SIGKILL)?;
                        waitpid(pid, Some(WaitPidFlag::__WALL))?;
                        return Ok(Traced::Killed { number });
                    }
                }
                ptrace::syscall(pid, None)?;
            }
            WaitStatus::Stopped(_, signal) => ptrace::syscall(pid, Some(signal))?,
            _ => ptrace::syscall(pid, None)?,
        }
    }
}
