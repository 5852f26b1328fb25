//! Words that two processes share in memory: what can be said without a system call, when the next one may be forbidden.

use crate::{Errno, Result, check, fd};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

const SIZE: usize = 4096;
/// Rounds of [`Page::wait`]: some seconds at the least, on any processor.
const PATIENCE: u64 = 1 << 30;

/// A page of memory that another process may have too. It stays mapped until the process ends or executes another program.
#[derive(Debug)]
pub struct Page {
    words: *const [AtomicU32; 2],
}

impl Page {
    /// A new page, and the descriptor by which another process gets at it.
    pub fn new() -> Result<(Self, OwnedFd)> {
        let file = fd::memfd(c"page", false)?;
        // SAFETY: plain integers.
        check(unsafe { libc::ftruncate(file.as_raw_fd(), SIZE as libc::off_t) as libc::c_long })?;
        Ok((Self::of(&file)?, file))
    }

    /// The page behind a descriptor from [`Page::new`].
    pub fn of(file: impl AsFd) -> Result<Self> {
        if fd::stat(&file)?.st_size < SIZE as libc::off_t {
            return Err(Errno::EINVAL);
        }
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses, of a file that is that long.
        let address = unsafe {
            libc::mmap(std::ptr::null_mut(), SIZE, protection, libc::MAP_SHARED, file.as_fd().as_raw_fd(), 0)
        };
        if address == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        Ok(Page { words: address.cast_const().cast() })
    }

    fn word(&self, index: usize) -> &AtomicU32 {
        // SAFETY: the mapping is never taken away, is page-aligned, and holds more than two words; all access is atomic.
        unsafe { &(*self.words)[index] }
    }

    /// Word 0 or 1; 0 until somebody says something else.
    pub fn get(&self, index: usize) -> u32 {
        self.word(index).load(Ordering::Acquire)
    }

    pub fn set(&self, index: usize, value: u32) {
        self.word(index).store(value, Ordering::Release);
    }

    /// Waits without a system call until the word is not 0. When nobody says anything for long, the process ends: whoever
    /// was to speak is gone.
    pub fn wait(&self, index: usize) {
        for _ in 0..PATIENCE {
            if self.get(index) != 0 {
                return;
            }
            std::hint::spin_loop();
        }
        trap()
    }
}

/// Ends the process by an instruction that no processor knows: a signal that not even the first process of a pid
/// namespace survives, and no system call.
fn trap() -> ! {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: raises SIGILL, which nobody handles here.
    unsafe {
        std::arch::asm!("ud2", options(noreturn, nomem, nostack));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: raises SIGILL, which nobody handles here.
    unsafe {
        std::arch::asm!("udf #0", options(noreturn, nomem, nostack));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    crate::process::exit_now(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_says_the_other_sees() {
        let (one, file) = Page::new().unwrap();
        let other = Page::of(&file).unwrap();
        assert_eq!(other.get(0), 0);
        one.set(0, 7);
        other.set(1, 8);
        one.wait(1);
        assert_eq!((other.get(0), one.get(1)), (7, 8));
    }
}
