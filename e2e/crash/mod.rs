//! A runtime killed after each of its system calls: afterwards `delete --force`, or `gc`, brings the host back to where it
//! was.
//!
//! The runtime process itself is traced, not what it makes, and gets SIGKILL when its k-th call has returned, for every k.
//!
//! | environment | meaning |
//! |---|---|
//! | `WHARF_E2E_FULL=1` | every system call; without it one in eight, of checkpoints fewer, chosen by the seed |
//! | `WHARF_E2E_SEED=N` | which ones |

mod kept;
mod living;
mod traced;

use crate::attack::arena::Runtime;
use harness::{Bundle, ConsoleSocket, Feature, Host, Inventory, Outcome, Stop, ensure};
use nix::sys::wait::WaitStatus;
use std::fs;
use std::time::{Duration, Instant};
use traced::{Traced, plain, reap, traced};

pub(crate) fn trials() -> Feature {
    kept::trials(living::trials(Feature::new("crash")))
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
        .trial("run is killed after each system call, and gc leaves nothing", |host| swept(host, Moment::Run))
        .trial("run --keep is killed after each system call, and gc leaves nothing", |host| {
            swept(host, Moment::RunKept)
        })
        .trial("gc --apply is killed after each system call, and the next one leaves nothing", |host| {
            swept(host, Moment::Gc)
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
    Run,
    RunKept,
    /// Of a container that has stopped, and of a state directory without a record.
    Gc,
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
    let neighbours = living::Neighbours::start(host)?;
    every_with(host, moment, Broom::Collect)?;
    neighbours.end()
}

fn every(host: &Host, moment: Moment) -> Outcome {
    every_with(host, moment, Broom::Delete)
}

fn every_with(host: &Host, moment: Moment, broom: Broom) -> Outcome {
    let runtime = Runtime::under_test(host);
    let bundle = host.bundle()?.args(&["/bin/attacker", "wait", "60000"]);
    fs::copy(host.payload().with_file_name("attacker"), bundle.rootfs().join("bin/attacker"))?;
    let bundle = match moment {
        Moment::Run | Moment::RunKept => bundle.args(&["/bin/attacker", "say", "here"]),
        Moment::CreateWithTerminal => bundle.set("/process/terminal", harness::json!(true)),
        Moment::CreateWatched | Moment::DeleteWatched => {
            bundle.set("/annotations", harness::json!({"dev.wharf.exit-record": "watcher"}))
        }
        _ => bundle,
    };
    bundle.save()?;
    let name = format!("{moment:?}");
    let ends_well = |status| matches!(status, WaitStatus::Exited(_, 0)) || moment == Moment::CreateDelegated;
    points(
        host,
        &name,
        ends_well,
        |k| round(host, &runtime, &bundle, moment, k),
        |before| clean(host, &runtime, &bundle, broom, before),
    )
}

/// Kills at every chosen system call: `round` brings about what is to be killed and does it, `clean` judges what is there
/// then and brings the host back to what it was before.
fn points(
    host: &Host,
    name: &str,
    ends_well: impl Fn(WaitStatus) -> bool,
    round: impl Fn(u32) -> Result<Traced, Stop>,
    clean: impl Fn(&Inventory) -> Outcome,
) -> Outcome {
    points_of(host, name, 8, ends_well, round, clean)
}

/// Of so many system calls one, without `WHARF_E2E_FULL`.
fn points_of(
    host: &Host,
    name: &str,
    slice: u32,
    ends_well: impl Fn(WaitStatus) -> bool,
    round: impl Fn(u32) -> Result<Traced, Stop>,
    clean: impl Fn(&Inventory) -> Outcome,
) -> Outcome {
    reap();
    let start = Inventory::take(host.tag(), &host.root());
    let total = match round(u32::MAX)? {
        Traced::Ended { calls, status } if ends_well(status) => calls,
        Traced::Ended { status, .. } => {
            return Err(Stop::failed(format!("the call fails without any crash: {status:?}")));
        }
        Traced::Killed { .. } => return Err(Stop::failed("killed without being asked to")),
    };
    clean(&start)?;
    ensure!(total > 3, "only {total} system calls were seen: the tracing does not work");
    let mut failures = Vec::new();
    let mut killed = 0;
    for k in (1..=total).filter(|k| chosen(*k, slice)) {
        let before = Inventory::take(host.tag(), &host.root());
        let number = match round(k)? {
            Traced::Killed { number } => number,
            Traced::Ended { .. } => "none: it had ended".to_owned(),
        };
        killed += 1;
        if let Err(Stop::Failed(why)) = clean(&before) {
            failures.push(format!("after call {k} of {total} (system call {number}): {why}"));
        }
    }
    println!("crash {name}: {killed} of {total} system calls, {} left something", failures.len());
    ensure!(killed > 0, "no system call was chosen");
    let shown = failures.iter().take(12).cloned().collect::<Vec<_>>().join("\n  ");
    ensure!(failures.is_empty(), "{} of {killed} crashes left something:\n  {shown}", failures.len());
    Ok(())
}

/// All with `WHARF_E2E_FULL`, else about one in `slice`.
fn chosen(k: u32, slice: u32) -> bool {
    let seed: u64 = std::env::var("WHARF_E2E_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mixed = (u64::from(k) ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    std::env::var_os("WHARF_E2E_FULL").is_some() || (mixed >> 32).is_multiple_of(slice.into())
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
    if matches!(moment, Moment::Run | Moment::RunKept) {
        let keep: &[&str] = if moment == Moment::RunKept { &["--keep"] } else { &[] };
        return traced(host, runtime, &[&["run"], keep, &create[1..]].concat(), k);
    }
    plain(host, runtime, &create)?;
    let stopped = matches!(moment, Moment::DeleteStopped | Moment::DeleteWatched | Moment::Gc);
    if stopped || matches!(moment, Moment::DeleteRunning | Moment::Exec) {
        plain(host, runtime, &["start", bundle.id()])?;
    }
    if stopped {
        end(host, runtime, bundle)?;
    }
    match moment {
        Moment::Start => traced(host, runtime, &["start", bundle.id()], k),
        Moment::Exec => {
            let traced = traced(host, runtime, &["exec", bundle.id(), "/bin/attacker", "say", "here"], k)?;
            alone(host, runtime, bundle, 1)?;
            Ok(traced)
        }
        Moment::DeleteStopped | Moment::DeleteWatched => traced(host, runtime, &["delete", bundle.id()], k),
        Moment::Gc => {
            fs::create_dir(host.root().join(host.unique("crashed")))?;
            traced(host, runtime, &["gc", "--stopped", "--apply"], k)
        }
        _ => traced(host, runtime, &["delete", "--force", bundle.id()], k),
    }
}

/// Kills every process of a container.
fn end(host: &Host, runtime: &Runtime<'_>, bundle: &Bundle) -> Outcome {
    plain(host, runtime, &["kill", "--all", bundle.id(), "KILL"])?;
    let begun = Instant::now();
    while !plain(host, runtime, &["state", bundle.id()])?.contains("\"status\": \"stopped\"") {
        reap();
        ensure!(begun.elapsed() < Duration::from_secs(5), "the killed container does not stop");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
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

/// Waits until the container has no process but its own, and we have `most` children: one that joined it has ended with
/// the runtime, or by itself. As long as we have not reaped it, the kernel lets nobody end the container's first process.
fn alone(host: &Host, runtime: &Runtime<'_>, bundle: &Bundle, most: usize) -> Outcome {
    let begun = Instant::now();
    loop {
        reap();
        let listed = plain(host, runtime, &["ps", "--format", "json", bundle.id()])?;
        if listed.matches(',').count() == 0 && children()? <= most {
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
        // A payload that has been let go comes to its end by itself.
        if named == host.root().join(bundle.id()).exists() && !state.contains("\"status\": \"running\"") {
            return plain(host, runtime, &["gc", "--stopped", "--apply"]);
        }
        ensure!(begun.elapsed() < Duration::from_secs(2), "gc does not name what is there: {told}{state}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
