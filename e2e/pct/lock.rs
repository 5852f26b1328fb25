//! The locks of §1: the flock about a container's configuration, and the one about a storage.

use crate::answer::Death;
use crate::world::World;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::{Duration, Instant};

/// Held until it is dropped.
pub(crate) struct Held {
    _lock: Flock<File>,
}

/// §1: 10 s, and 5 s for create.
pub(crate) fn container(world: &World, id: u32, create: bool) -> Result<Held, Death> {
    let limit = world.seconds("lock-seconds", if create { 5.0 } else { 10.0 });
    take(&world.path(&format!("run/lock/lxc/pve-config-{id}.lock")), limit)
}

pub(crate) fn storage(world: &World, storage: &str) -> Result<Held, Death> {
    let limit = world.seconds("storage-lock-seconds", 60.0);
    take(&world.path(&format!("var/lock/pve-manager/pve-storage-{storage}")), limit)
}

fn take(path: &Path, limit: Duration) -> Result<Held, Death> {
    let failed =
        |error: &dyn std::fmt::Display| Death::worker(format!("can't open lock file '{}' - {error}", path.display()));
    let file = OpenOptions::new().append(true).create(true).open(path).map_err(|error| failed(&error))?;
    let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => return Ok(Held { _lock: lock }),
        Err((file, Errno::EWOULDBLOCK)) => file,
        Err((_, errno)) => return Err(failed(&errno)),
    };
    eprint!("trying to acquire lock...");
    let end = Instant::now() + limit;
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => {
                eprintln!(" OK");
                return Ok(Held { _lock: lock });
            }
            Err((file, Errno::EWOULDBLOCK)) => file,
            Err((_, errno)) => return Err(failed(&errno)),
        };
    }
    eprintln!();
    Err(Death::worker(format!("can't lock file '{}' - got timeout", path.display())))
}
