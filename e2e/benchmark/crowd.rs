//! Many containers alive at once: what it takes to make, list and delete them, and what one more costs then.

use crate::Result;
use crate::candidate::{Candidate, Container, Payload};
use crate::life::{self, Cost};
use crate::stage::{Configuration, DIR, Stage};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use std::fmt::Write;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

const WORKERS: usize = 32;
const LISTS: usize = 15;

/// Of one candidate. Times in milliseconds.
#[derive(Default)]
struct Figures {
    /// Wall and CPU time of `create`, alone and in the crowd: minimum and median.
    alone: [Spread; 2],
    among: [Spread; 2],
    made: f64,
    create: Vec<f64>,
    deleted: f64,
    table: Option<Spread>,
    json: Option<Spread>,
    /// KiB for each container: of the kernel and of file systems in memory.
    memory: f64,
    /// Processes for each container beside its payload.
    processes: f64,
}

#[derive(Clone, Copy, Default)]
struct Spread {
    minimum: f64,
    median: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Spread {
        values.sort_by(f64::total_cmp);
        Spread { minimum: values[0], median: values[values.len() / 2] }
    }
}

pub(crate) fn measure(stage: &Stage, candidates: &[Candidate], alive: usize, rounds: usize) -> Result<String> {
    let mut all = Vec::new();
    for candidate in candidates {
        all.push(one(stage, candidate, alive, rounds).map_err(|why| format!("{}: {why}", candidate.name))?);
        eprintln!("done: {alive} containers of {}", candidate.name);
    }
    Ok(table(candidates, &all, alive, rounds))
}

fn one(stage: &Stage, candidate: &Candidate, alive: usize, rounds: usize) -> Result<Figures> {
    let prepare = |purpose: &str| Container::prepare(stage, candidate, Configuration::Engine, Payload::Waits, purpose);
    let more = prepare("one-more")?;
    let alone = creates(candidate, &more, rounds)?;
    let others: Vec<Container> = (0..alive).map(|number| prepare(&number.to_string())).collect::<Result<_>>()?;
    let before = (memory()?, processes()?);
    let begun = Instant::now();
    let create = by_workers(&others, |container| {
        let took = timed(&candidate.words("create", container))?;
        timed(&candidate.words("start", container))?;
        Ok(took)
    })?;
    let made = begun.elapsed().as_secs_f64() * 1e3;
    let per = |before: f64, after: f64| (after - before) / alive as f64;
    let now = (memory()?, processes()?);
    let (table, json) = match candidate.lists() {
        false => (None, None),
        true => (Some(lists(candidate, &[])?), Some(lists(candidate, &["--format", "json"])?)),
    };
    let among = creates(candidate, &more, rounds)?;
    let begun = Instant::now();
    by_workers(&others, |container| {
        let pid = life::init_pid(container)?;
        kill(pid, Signal::SIGKILL)?;
        waitpid(pid, None)?;
        timed(&candidate.words("delete", container))
    })?;
    Ok(Figures {
        alone,
        among,
        made,
        create,
        deleted: begun.elapsed().as_secs_f64() * 1e3,
        table,
        json,
        memory: per(before.0, now.0),
        processes: per(before.1, now.1) - 1.0,
    })
}

/// Wall and CPU time.
fn creates(candidate: &Candidate, container: &Container, rounds: usize) -> Result<[Spread; 2]> {
    let mut costs: Vec<Cost> = Vec::new();
    for round in 0..rounds + 1 {
        let cost = life::create(candidate, container)?;
        life::remove(candidate, container)?;
        if round > 0 {
            costs.push(cost);
        }
    }
    let spread = |value: fn(&Cost) -> f64| Spread::of(costs.iter().map(|cost| value(cost) / 1e3).collect());
    Ok([spread(|cost| cost.wall), spread(|cost| cost.cpu)])
}

/// What each took, sorted.
fn by_workers(containers: &[Container], work: impl Fn(&Container) -> Result<f64> + Sync) -> Result<Vec<f64>> {
    let next = AtomicUsize::new(0);
    let done: Mutex<(Vec<f64>, Option<String>)> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(container) = containers.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let took = work(container).map_err(|why| why.to_string());
                    let mut done = done.lock().expect("no worker panics");
                    match took {
                        Ok(took) => done.0.push(took),
                        Err(why) => done.1 = Some(why),
                    }
                }
            });
        }
    });
    let (mut took, failed) = done.into_inner().expect("no worker panics");
    took.sort_by(f64::total_cmp);
    match failed {
        Some(why) => Err(why.into()),
        None => Ok(took),
    }
}

/// Milliseconds of wall time.
fn timed(words: &[String]) -> Result<f64> {
    let begun = Instant::now();
    let mut command = Command::new(&words[0]);
    // What lives on would hold a pipe of ours.
    let errors = format!("{DIR}/stderr-{:?}", std::thread::current().id());
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&errors)?);
    let status = command.status()?;
    match status.success() {
        true => Ok(begun.elapsed().as_secs_f64() * 1e3),
        false => Err(format!("{}: {status}: {}", words.join(" "), fs::read_to_string(errors)?.trim()).into()),
    }
}

fn lists(candidate: &Candidate, options: &[&str]) -> Result<Spread> {
    let words: Vec<String> =
        candidate.list().into_iter().chain(options.iter().map(|word| (*word).to_owned())).collect();
    Ok(Spread::of((0..LISTS).map(|_| timed(&words)).collect::<Result<_>>()?))
}

/// KiB that the kernel and the file systems in memory hold. Neither processes' own memory nor the page cache.
fn memory() -> Result<f64> {
    // What has been freed is counted until RCU has let go of it.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let text = fs::read_to_string("/proc/meminfo")?;
    let number = |line: &str| line.split_whitespace().nth(1)?.parse::<f64>().ok();
    let names = ["SUnreclaim:", "KernelStack:", "PageTables:", "Percpu:", "Shmem:"];
    Ok(text.lines().filter(|line| names.iter().any(|name| line.starts_with(name))).filter_map(number).sum())
}

fn processes() -> Result<f64> {
    let numbers =
        fs::read_dir("/proc")?.flatten().filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok());
    Ok(numbers.count() as f64)
}

fn table(candidates: &[Candidate], all: &[Figures], alive: usize, rounds: usize) -> String {
    let mut page = format!(
        "\n## {alive} containers alive at once, made by {WORKERS} workers\n\nThe engine's configuration. Times in ms; \
         of `create` alone and in the crowd the minimum and median of {rounds}, of `list` of {LISTS}.\n\n"
    );
    let names: Vec<&str> = candidates.iter().map(|candidate| candidate.name).collect();
    let _ = writeln!(page, "| | {} |\n|---|{}", names.join(" | "), "---:|".repeat(names.len()));
    let mut row = |title: &str, cell: &dyn Fn(&Figures) -> Option<String>| {
        let cells: Vec<String> = all.iter().map(|one| cell(one).unwrap_or_else(|| "–".to_owned())).collect();
        let _ = writeln!(page, "| {title} | {} |", cells.join(" | "));
    };
    let spread = |spread: Spread| format!("{:.2} / {:.2}", spread.minimum, spread.median);
    let at = |sorted: &[f64], share: f64| sorted[((sorted.len() - 1) as f64 * share) as usize];
    row("create and start all, wall", &|one| Some(format!("{:.0}", one.made)));
    row("one create among them: median / 99 of 100", &|one| {
        Some(format!("{:.1} / {:.1}", at(&one.create, 0.5), at(&one.create, 0.99)))
    });
    row("list, wall", &|one| one.table.map(spread));
    row("list --format json, wall", &|one| one.json.map(spread));
    row("delete all, wall", &|one| Some(format!("{:.0}", one.deleted)));
    row("one more create, wall: none alive", &|one| Some(spread(one.alone[0])));
    row(&format!("one more create, wall: {alive} alive"), &|one| Some(spread(one.among[0])));
    row("one more create, CPU: none alive", &|one| Some(spread(one.alone[1])));
    row(&format!("one more create, CPU: {alive} alive"), &|one| {
        let [before, now] = [one.alone[1], one.among[1]];
        Some(format!("{} ({:.2})", spread(now), now.minimum / before.minimum))
    });
    row("memory of the kernel and of file systems, KiB each", &|one| Some(format!("{:.0}", one.memory)));
    row("processes beside the payload, each", &|one| Some(format!("{:.2}", one.processes.max(0.0))));
    page
}
