//! Where the time of one command goes: phases that follow each other, with nothing between them.
//!
//! A verb says what it enters, wherever that is on its way. Where nobody asks for the times, that is one load.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

static ON: AtomicBool = AtomicBool::new(false);
static RECORDER: Mutex<Option<Recorder>> = Mutex::new(None);

/// What is told of a command.
#[derive(Debug)]
pub struct Times {
    /// When the first phase began.
    pub began: SystemTime,
    /// From there to the end; the phases sum up to it.
    pub total: Duration,
    pub phases: Vec<Slice>,
    /// What other processes did meanwhile.
    pub tracks: Vec<Track>,
}

/// A stretch of time, from the beginning of the first phase on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    pub name: String,
    pub from: Duration,
    pub length: Duration,
}

/// The doings of another process, in points of the real-time clock: in a time namespace no other can be compared.
#[derive(Debug, Default)]
pub struct Track {
    pub pid: i32,
    pub name: &'static str,
    /// Name, beginning, and end in nanoseconds of that clock; where in config.json it was asked for.
    pub slices: Vec<(String, u64, u64, String)>,
}

type Sink = Box<dyn FnOnce(Times) + Send>;
type Source = Box<dyn FnOnce() -> Track + Send>;

struct Recorder {
    began: SystemTime,
    start: Instant,
    entered: Vec<(&'static str, Duration)>,
    /// Whether tracks are told too.
    traced: bool,
    tracks: Vec<Source>,
    sink: Option<Sink>,
}

fn with<T>(work: impl FnOnce(&mut Option<Recorder>) -> T) -> T {
    work(&mut RECORDER.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Begins with the first phase. Until [`report_to`] is called nobody is known who wants to hear of it.
pub fn begin(first: &'static str) {
    let (began, start) = (SystemTime::now(), Instant::now());
    let entered = vec![(first, Duration::ZERO)];
    with(|recorder| *recorder = Some(Recorder { began, start, entered, traced: false, tracks: vec![], sink: None }));
    ON.store(true, Ordering::Relaxed);
}

/// Who is told at the end, and whether of other processes too.
pub fn report_to(traced: bool, sink: impl FnOnce(Times) + Send + 'static) {
    with(|recorder| {
        if let Some(recorder) = recorder {
            recorder.traced = traced;
            recorder.sink = Some(Box::new(sink));
        }
    });
}

/// What was entered before ends here.
#[inline]
pub fn enter(name: &'static str) {
    if ON.load(Ordering::Relaxed) {
        note(name);
    }
}

#[cold]
fn note(name: &'static str) {
    with(|recorder| {
        if let Some(recorder) =
            recorder.as_mut().filter(|recorder| recorder.entered.last().map(|last| last.0) != Some(name))
        {
            recorder.entered.push((name, recorder.start.elapsed()));
        }
    });
}

/// Whether somebody wants to hear what other processes did.
#[inline]
pub fn is_traced() -> bool {
    ON.load(Ordering::Relaxed) && with(|recorder| recorder.as_ref().is_some_and(|recorder| recorder.traced))
}

/// `source` is asked at the end.
pub fn add_track(source: impl FnOnce() -> Track + Send + 'static) {
    with(|recorder| {
        if let Some(recorder) = recorder {
            recorder.tracks.push(Box::new(source));
        }
    });
}

/// The end of the last phase: at the end of the command, or before this process becomes another program.
pub fn finish() {
    if !ON.swap(false, Ordering::Relaxed) {
        return;
    }
    let Some(recorder) = with(Option::take) else { return };
    let total = recorder.start.elapsed();
    let ends = recorder.entered.iter().skip(1).map(|(_, from)| *from).chain([total]);
    let slice = |((name, from), end): (&(&'static str, Duration), Duration)| Slice {
        name: (*name).to_owned(),
        from: *from,
        length: end - *from,
    };
    let phases = recorder.entered.iter().zip(ends).map(slice).collect();
    if let Some(sink) = recorder.sink {
        let tracks = recorder.tracks.into_iter().map(|source| source()).collect();
        sink(Times { began: recorder.began, total, phases, tracks });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn phases_follow_each_other_and_sum_up_to_the_whole() {
        enter("nobody has asked yet");
        begin("first");
        let told = Arc::new(Mutex::new(None));
        let seen = told.clone();
        report_to(true, move |times| *seen.lock().unwrap() = Some(times));
        assert!(is_traced());
        add_track(|| Track { pid: 7, ..Track::default() });
        enter("second");
        enter("second");
        enter("third");
        finish();
        finish();
        enter("nobody asks any more");
        let times = told.lock().unwrap().take().unwrap();
        let names: Vec<&str> = times.phases.iter().map(|phase| phase.name.as_str()).collect();
        assert_eq!(names, ["first", "second", "third"]);
        assert_eq!(times.phases.iter().map(|phase| phase.length).sum::<Duration>(), times.total);
        for pair in times.phases.windows(2) {
            assert_eq!(pair[0].from + pair[0].length, pair[1].from);
        }
        assert_eq!(times.tracks[0].pid, 7);
        assert!(!is_traced());
    }
}
