//! When an init was done with each of its steps: for a trace.

use super::Slots;
use std::os::fd::{AsRawFd, OwnedFd};
use wharf_core::phases::{self, Track};
use wharf_core::{Error, Result};
use wharf_plan::Plan;
use wharf_steps::{Slot, Step, facts};
use wharf_sys::fd;

/// The file that the init writes them to.
pub(crate) struct Stamps(OwnedFd);

impl Stamps {
    /// None where nobody wants to hear of it.
    pub(crate) fn wanted(slots: &mut Slots) -> Result<Option<Self>> {
        if !phases::is_traced() {
            return Ok(None);
        }
        let file =
            fd::memfd(c"stamps", false).map_err(|errno| Error::system("make a file for a trace", errno as i32))?;
        slots.put(Slot::STAMPS, file.as_raw_fd());
        Ok(Some(Stamps(file)))
    }

    /// They are read at the end of the command.
    pub(crate) fn hand_in(self, name: &'static str, pid: i32, plan: &Plan) {
        let step = |(index, step): (usize, &Step)| (plan.describe(*step), plan.pointer(index).to_owned());
        let words: Vec<(String, String)> = plan.steps().iter().enumerate().map(step).collect();
        phases::add_track(move || {
            let mut file = vec![0; 8 * (words.len() + 1)];
            let length = fd::read_at(&self.0, &mut file, 0).unwrap_or(0);
            let points: Vec<u64> = facts::stamps::read(&file[..length]).collect();
            let slice = |((doing, at), pair): ((String, String), &[u64])| (doing, pair[0], pair[1].max(pair[0]), at);
            Track { pid, name, slices: words.into_iter().zip(points.windows(2)).map(slice).collect() }
        });
    }
}
