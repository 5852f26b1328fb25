//! A trace in the form of Chrome's trace viewer: one JSON array of events. Every command adds its own, so one file shows
//! a container's whole life.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};
use wharf_core::phases::Times;
use wharf_core::{Error, Kind, Result};
use wharf_sys::dir::{Lock, try_lock};

/// What a trace ends with.
const END: &[u8] = b"\n]\n";

/// How long others may be writing to it.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Trace {
    file: File,
}

impl Trace {
    /// One is made where there is none.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let doing = || format!("open trace {}", path.display());
        let failed = |error: io::Error| match error.raw_os_error() {
            Some(errno) => Error::system(doing(), errno),
            None => Error::new(Kind::System, doing()).because(error),
        };
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(Error::invalid(doing()).because("it is not a regular file"));
        }
        match end(&mut file).map_err(failed)? {
            Some(_) => Ok(Trace { file }),
            None => Err(Error::invalid(doing()).because("what is in it is not a trace that wharf wrote")),
        }
    }

    /// Under a lock: several commands may be at their end.
    pub(super) fn add(mut self, what: &str, times: &Times) -> io::Result<()> {
        let begun = Instant::now();
        while !try_lock(self.file.as_fd(), Lock::Exclusive)? {
            if begun.elapsed() > PATIENCE {
                return Err(io::Error::other("another program keeps it locked"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let Some(at) = end(&mut self.file)? else { return Err(io::Error::other("another program has changed it")) };
        let mut text = Vec::new();
        for (index, event) in events(what, times).iter().enumerate() {
            text.extend_from_slice(if at == 0 && index == 0 { b"[\n" } else { b",\n" });
            serde_json::to_writer(&mut text, event)?;
        }
        text.extend_from_slice(END);
        self.file.seek(SeekFrom::Start(at))?;
        self.file.write_all(&text)
    }
}

/// Where the next event is to be written; none where the file is no trace.
fn end(file: &mut File) -> io::Result<Option<u64>> {
    let length = file.seek(SeekFrom::End(0))?;
    if length == 0 {
        return Ok(Some(0));
    }
    let Some(at) = length.checked_sub(END.len() as u64) else { return Ok(None) };
    let mut last = [0; END.len()];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut last)?;
    Ok((last == END).then_some(at))
}

/// Complete events, and the names of who they are of. Times are in microseconds of the real-time clock.
fn events(what: &str, times: &Times) -> Vec<serde_json::Value> {
    let pid = std::process::id();
    let began = times.began.duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = |duration: Duration| duration.as_nanos() as f64 / 1000.0;
    let name = |kind: &str, thread: i64, name: &str| serde_json::json!({ "ph": "M", "name": kind, "pid": pid, "tid": thread, "args": { "name": name } });
    let event = |thread: i64, name: &str, from: Duration, length: Duration| {
        let (ts, dur) = (micros(from), micros(length));
        serde_json::json!({ "ph": "X", "name": name, "cat": "wharf", "pid": pid, "tid": thread, "ts": ts, "dur": dur })
    };
    let own = i64::from(pid);
    let mut all = vec![name("process_name", own, what), name("thread_name", own, "wharf")];
    all.push(event(own, what, began, times.total));
    all.extend(times.phases.iter().map(|phase| event(own, &phase.name, began + phase.from, phase.length)));
    for track in &times.tracks {
        let thread = i64::from(track.pid);
        all.push(name("thread_name", thread, track.name));
        for (doing, from, to, at) in &track.slices {
            let mut event = event(thread, doing, Duration::from_nanos(*from), Duration::from_nanos(to - from));
            if !at.is_empty() {
                event["args"] = serde_json::json!({ "config.json": at });
            }
            all.push(event);
        }
    }
    all
}
