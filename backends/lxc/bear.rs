//! The birth of a container's first process by LXC's own tools.

use crate::born::{Born, Cradle, DOING, Stander, failed, hand_over, hello};
use crate::config::{self, CONTAINER};
use crate::place::Place;
use crate::stand::{LxcStart, Seat};
use crate::{program, remove, words};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use wharf_core::{Error, Kind, Result};
use wharf_host::Labour;
use wharf_sys::{parcel, process, socket};

/// How long LXC may take to bear, in milliseconds.
const PATIENCE: i32 = 60_000;

pub(crate) fn bear(labour: &Labour<'_>) -> Result<Born> {
    program::check()?;
    let handle = remove::handle(labour.cgroup)?;
    let Some(cgroup) = handle.one_path() else {
        return Err(Error::unsupported("a cgroup path that differs between hierarchies on the lxc backend")
            .because("LXC takes one for all of them")
            .at("linux/cgroupsPath")
            .hint("give an absolute cgroupsPath"));
    };
    let place = Place::of(labour.state_dir)?;
    let born = give_birth(labour, &place, cgroup);
    if born.is_err() {
        let _ = place.remove();
    }
    let mut born = born?;
    born.settle(&handle)?;
    Ok(born)
}

fn give_birth(labour: &Labour<'_>, place: &Place, cgroup: &str) -> Result<Born> {
    place.make(labour.id, &config::text(labour.namespaces, labour.joined, cgroup)?)?;
    place.put_init(labour.program)?;
    remove::handle(labour.cgroup)?.let_inherit()?;
    let fifo = place.fifo()?;
    let (ours, theirs) = socket::pair().map_err(failed)?;
    parcel::tell_senders(&ours).map_err(failed)?;
    let (line, their_line) = socket::pair().map_err(failed)?;
    let log = place.log(labour.id);
    let seat = Seat {
        told: Some((&fifo, None)),
        lxc: Some(LxcStart {
            id: labour.id,
            config: &place.config(labour.id),
            path: &place.lxc,
            socket: &theirs,
            program: &place.init(),
            log: &log,
            has_proc: config::has_proc(labour.namespaces),
        }),
        line: &their_line,
        dir: labour.dir,
        cgroup: labour.cgroup,
        namespaces: labour.namespaces.all_apart(),
    };
    let mut born = Born::new(
        Box::new(OfTools { place: Place { lxc: place.lxc.clone() }, log: log.clone() }),
        Stander::bear(line, &seat)?,
    );
    drop((theirs, their_line));
    let spoken = first_word(&ours, &log).and_then(|init| {
        born.is(init);
        place.take_init_away();
        hand_over(labour, &ours)
    });
    // An init that waits for words ends with the other side, before it is waited for.
    drop(ours);
    spoken.map(|()| born)
}

/// Nobody else has the other end.
fn first_word(ours: &OwnedFd, log: &Path) -> Result<(i32, OwnedFd)> {
    let error = || Error::new(Kind::System, DOING);
    if !process::readable(ours, PATIENCE).map_err(failed)? {
        return Err(error().because(format!("LXC has not done it within {} s", PATIENCE / 1000)));
    }
    let why = || words_of(log).unwrap_or_else(|| "LXC ended without a word".to_owned());
    hello(ours)?.ok_or_else(|| error().because(why()))
}

fn words_of(log: &Path) -> Option<String> {
    let text = std::fs::read(log).ok()?;
    words::first(&String::from_utf8_lossy(&text))
}

struct OfTools {
    place: Place,
    /// Where LXC writes what goes wrong.
    log: PathBuf,
}

impl Cradle for OfTools {
    fn inner(&self) -> &'static str {
        CONTAINER
    }

    fn last_words(&self) -> Option<String> {
        words_of(&self.log)
    }

    fn take_back(&mut self) {
        let _ = self.place.remove();
    }
}
