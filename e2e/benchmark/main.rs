//! Measures wharf beside crun, runc and the floor program, in interleaved rounds, and prints the tables.
#![forbid(unsafe_code)]

mod calls;
mod candidate;
mod crowd;
mod engines;
mod instructions;
mod life;
mod machine;
mod stage;
mod table;

use candidate::{Candidate, Container, Payload};
use stage::{Configuration, Stage};
use std::path::PathBuf;
use std::process::ExitCode;
use table::{Counts, Results};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const USAGE: &str =
    "usage: e2e/bench [--quick] [--write] [--rounds N] [--only NAME[,NAME]] [--instructions] [--alive N]

  --quick     few rounds, 20 instead of 200 containers alive: about a minute
  --write     put the tables into docs/performance.md, between its markers
  --rounds N  rounds of timing for each configuration (60; quick: 8)
  --only …    only these of: crun runc floor wharf, and wharf-crun wharf-runc: wharf with those as its backend
  --alive N   only the table of N containers alive at once (1000 in docs/performance.md)
  --instructions  count user instructions too, by stepping: slow, and given up after twenty million
";

/// At most: an engine takes much longer than a runtime.
const ENGINE_ROUNDS: usize = 20;

struct Options {
    quick: bool,
    instructions: bool,
    write: Option<PathBuf>,
    rounds: usize,
    only: Option<Vec<String>>,
    alive: Option<usize>,
    tools: PathBuf,
    wharf: PathBuf,
}

fn options() -> std::result::Result<Options, String> {
    let mut options = Options {
        quick: false,
        instructions: false,
        write: None,
        rounds: 0,
        only: None,
        alive: None,
        tools: PathBuf::new(),
        wharf: PathBuf::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
        match word.as_str() {
            "--instructions" => options.instructions = true,
            "--quick" => options.quick = true,
            "--write" => options.write = Some("docs/performance.md".into()),
            "--rounds" => options.rounds = value()?.parse().map_err(|_| "--rounds wants a number".to_owned())?,
            "--alive" => options.alive = Some(value()?.parse().map_err(|_| "--alive wants a number".to_owned())?),
            "--only" => options.only = Some(value()?.split(',').map(str::to_owned).collect()),
            "--tools" => options.tools = value()?.into(),
            "--wharf" => options.wharf = value()?.into(),
            _ => return Err(format!("what is {word}?")),
        }
    }
    if options.rounds == 0 {
        options.rounds = if options.quick { 8 } else { 60 };
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(why) => {
            eprint!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match bench(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn bench(options: &Options) -> Result<()> {
    let stage = Stage::raise(&options.tools)?;
    let mut page = String::new();
    page += &machine::describe(&stage);
    let mut candidates = candidate::find(options.only.as_deref(), &options.tools, &options.wharf);
    candidates.retain(|candidate| match try_out(&stage, candidate) {
        Ok(()) => true,
        Err(why) => {
            eprintln!("skipped: {}: {why}", candidate.name);
            false
        }
    });
    if candidates.is_empty() {
        return Err("no candidate works here".into());
    }
    page += &machine::versions(&candidates);
    if let Some(alive) = options.alive {
        page += &crowd::measure(&stage, &candidates, alive, options.rounds.min(30))?;
        println!("{page}");
        return options.write.as_ref().map_or(Ok(()), |file| table::write_between_markers(file, table::CROWD, &page));
    }
    for configuration in [Configuration::Engine, Configuration::Default] {
        let mut results = Results::new(&candidates);
        for round in 0..options.rounds + 1 {
            for candidate in &candidates {
                let costs = life::round(&stage, candidate, configuration)
                    .map_err(|why| format!("{}, round {round}, {}: {why}", candidate.name, configuration.word()))?;
                // The first round warms the caches.
                if round > 0 {
                    results.add(candidate, costs);
                }
            }
        }
        page += &results.tables(configuration);
        let mut counts = Counts::new(&candidates);
        for candidate in &candidates {
            counts.add(
                "system calls",
                candidate,
                calls::count(&stage, candidate, configuration)
                    .map_err(|why| format!("{}, traced: {why}", candidate.name))?,
            );
        }
        if options.instructions {
            for candidate in &candidates {
                counts.add("instructions, 1000", candidate, instructions::count(&stage, candidate, configuration)?);
            }
        }
        page += &counts.table();
        eprintln!("done: {}", configuration.title());
    }
    let alive = if options.quick { 20 } else { 200 };
    page += &crowd(&stage, &candidates, alive, options.rounds)?;
    if let Some(results) = engines::measure(&stage, &candidates, options.rounds.min(ENGINE_ROUNDS))? {
        page += &results.engines();
    }
    println!("{page}");
    match &options.write {
        Some(file) => table::write_between_markers(file, table::BENCH, &page),
        None => Ok(()),
    }
}

/// One life, unmeasured: whether the candidate works here at all.
fn try_out(stage: &Stage, candidate: &Candidate) -> Result<()> {
    for configuration in [Configuration::Default, Configuration::Engine] {
        life::round(stage, candidate, configuration)?;
    }
    Ok(())
}

/// What a create costs while many containers of the same runtime are alive.
fn crowd(stage: &Stage, candidates: &[Candidate], alive: usize, rounds: usize) -> Result<String> {
    let mut results = [Results::new(candidates), Results::new(candidates)];
    for candidate in candidates {
        let mut others = Vec::new();
        for (results, count) in results.iter_mut().zip([0, alive]) {
            while others.len() < count {
                let id = others.len().to_string();
                let other = Container::prepare(stage, candidate, Configuration::Engine, Payload::Waits, &id)?;
                life::create(candidate, &other)?;
                others.push(other);
            }
            let container = Container::prepare(stage, candidate, Configuration::Engine, Payload::Waits, "one-more")?;
            for _ in 0..rounds.min(30) {
                results.add(candidate, vec![(life::Verb::Create, life::create(candidate, &container)?)]);
                life::remove(candidate, &container)?;
            }
        }
        for other in &others {
            life::remove(candidate, other)?;
        }
    }
    Ok(table::crowd(&results, alive))
}
