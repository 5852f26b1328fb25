//! A strict double of Proxmox's command line tools, for hosts that are no node: it answers in the words that the real programs
//! were observed to use, keeps its world beneath one directory, and has real LXC underneath.
//!
//! Which program it is, `argv[0]` says: `pct`, `pvesh`, `pvesm`, `pveam`; LXC calls it as a hook; and as `pct-double` it makes
//! and ends worlds. "§" in comments is the section of the contract that an answer was observed for or read in.
#![forbid(unsafe_code)]

mod answer;
mod args;
mod config;
mod ct;
mod hook;
mod ids;
mod keys;
mod lock;
mod lxc;
mod oci;
mod pct;
mod property;
mod pveam;
mod pvesh;
mod pvesm;
mod rootfs;
mod storage;
mod task;
mod world;

use answer::Death;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use world::World;

fn main() -> ExitCode {
    // Whoever calls may have left descriptors open; LXC lives on and must not hold them.
    let _ = wharf_sys::fd::close_by_exec(3);
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_default();
    let name = Path::new(&name).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let words: Vec<OsString> = words.collect();
    match run(&name, &words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(death) => {
            death.say();
            let stale = World::find().ok().and_then(|world| world.number("stale-errno"));
            // §1, exit codes: before any worker they are an errno that something else has left.
            let code = stale.filter(|_| !death.of_task).map_or(death.code, |errno| errno as u8);
            ExitCode::from(code)
        }
    }
}

fn run(name: &str, words: &[OsString]) -> Result<(), Death> {
    if name == world::NAME {
        return world::command(words);
    }
    let world = World::find()?;
    if name == hook::NAME {
        return hook::run(&world, words);
    }
    // §2, time per verb: the real ones take a second.
    std::thread::sleep(world.seconds("slow", 0.0));
    world.check_caller()?;
    match name {
        "pct" => pct::run(&world, words),
        "pvesm" => pvesm::run(&world, words),
        "pveam" => pveam::run(&world, words),
        "pvesh" => pvesh::run(&world, words),
        _ => Err(Death::new(2, format!("{name}: the double has no such program\n"))),
    }
}
