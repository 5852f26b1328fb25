//! Descriptors that are closed together: one call for each run of neighbouring numbers, instead of one for each number.

use crate::fd::{self, Fd};
use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::os::fd::{IntoRawFd, OwnedFd};

/// So many that neither a limit of open files nor what is kept in memory by them comes near.
const MANY: usize = 64;

/// Descriptors that have done their work; their numbers are good until the lot is closed. What is put in one after the
/// other has neighbouring numbers, mostly.
#[derive(Debug, Default)]
pub struct Lot(RefCell<Vec<i32>>);

impl Lot {
    pub const fn new() -> Self {
        Lot(RefCell::new(Vec::new()))
    }

    /// Takes a descriptor over.
    pub fn put(&self, descriptor: OwnedFd) -> Fd {
        let number = descriptor.into_raw_fd();
        self.0.borrow_mut().push(number);
        Fd(number)
    }

    /// The same for one that its owner knows by its number alone.
    pub fn put_number(&self, number: Fd) {
        self.0.borrow_mut().push(number.0);
    }

    /// Closes all where they have become many. To be called where none is in use.
    pub fn trim(&self) {
        if self.0.borrow().len() >= MANY {
            self.close();
        }
    }

    /// Closes all.
    pub fn close(&self) {
        let mut numbers = self.0.take();
        numbers.sort_unstable();
        for run in numbers.chunk_by(|one, next| *next == one + 1) {
            let (first, last) = (run[0], run[run.len() - 1]);
            // A single one by the plain call, and all by it where the kernel has no other (before 5.9).
            if run.len() == 1 || fd::close_range(first, last).is_err() {
                run.iter().for_each(|number| fd::close(Fd(*number)));
            }
        }
    }
}

impl Drop for Lot {
    fn drop(&mut self) {
        self.close();
    }
}

thread_local! {
    /// Never dropped: the end of the process closes what is left.
    static SERVED: ManuallyDrop<Lot> = const { ManuallyDrop::new(Lot::new()) };
}

/// For a descriptor that has one thing to do: it is closed some time later, with others, at the latest by the
/// end of the process. Its number is good until [`MANY`] more have come.
pub fn served(descriptor: OwnedFd) -> Fd {
    SERVED.with(|lot| {
        lot.trim();
        lot.put(descriptor)
    })
}

/// Closes what has served, in a process that is about to stay: what is open may keep something else in being.
pub fn close_served() {
    SERVED.with(|lot| lot.close());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lot_closes_its_own_and_no_neighbour() {
        // The numbers are the whole process's, and other tests open files: theirs must stay.
        let open = || fd::memfd(c"lot", false).unwrap();
        let lot = Lot::new();
        let kept: Vec<OwnedFd> = (0..6)
            .map(|_| {
                lot.put(open());
                lot.put(open());
                open()
            })
            .collect();
        let numbers = lot.0.borrow().clone();
        assert!(numbers.iter().all(|number| fd::stat(Fd(*number)).is_ok()));
        lot.trim();
        assert_eq!(lot.0.borrow().len(), 12, "not many");
        lot.close();
        assert!(lot.0.borrow().is_empty());
        assert!(kept.iter().all(|kept| fd::stat(kept).is_ok()));
    }
}
