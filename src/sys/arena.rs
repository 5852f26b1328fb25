//! The memory of a process that lives for a millisecond: taken from one block, given back by exit.
//!
//! musl's allocator asks the kernel for every few pages, which was half of all system calls of a short verb. Here the
//! first [`SIZE`] bytes come from the program's own zero pages, of which the kernel makes only those that are touched.
//! What does not fit goes to the C library's allocator, so a long `list` or `run` does not grow for ever.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A verb with an engine's configuration needs 224 KiB, and a `list` of 1,000 containers as JSON fits; beyond that several
/// threads wait for each other at the C library's lock. A host that hands out no more memory than it has counts all of it to each
/// process (proc_sys_vm(5), `overcommit_memory`).
pub const SIZE: usize = 8 * 1024 * 1024;

#[repr(align(4096))]
struct Block(UnsafeCell<[u8; SIZE]>);

// SAFETY: parts of the block are handed out once, by the atomic in `Arena`.
unsafe impl Sync for Block {}

static BLOCK: Block = Block(UnsafeCell::new([0; SIZE]));

/// Bytes of the block that are in use, all at its beginning.
static USED: AtomicUsize = AtomicUsize::new(0);

/// From now on all memory comes from the C library, which takes it back: for a process that lives long. What was given out
/// stays where it is.
pub fn retire() {
    USED.store(SIZE, Relaxed);
}

/// Has the kernel make the first `size` bytes' pages now, in one call instead of a fault for each (madvise(2),
/// MADV_POPULATE_WRITE). For a verb that is about to need them; where the kernel cannot (before 5.14), the faults do it.
pub fn populate(size: usize) {
    const MADV_POPULATE_WRITE: i32 = 23;
    // SAFETY: the range lies inside the block, which is ours; populating changes no byte of it.
    unsafe {
        libc::madvise(BLOCK.0.get().cast(), size.min(SIZE), MADV_POPULATE_WRITE);
    }
}

/// For `#[global_allocator]`; there is one block, so there must be one arena.
#[derive(Debug)]
pub struct Arena;

impl Arena {
    fn start() -> usize {
        BLOCK.0.get() as usize
    }

    /// Where in the block `pointer` is; none when it came from elsewhere.
    fn offset(pointer: *mut u8) -> Option<usize> {
        (pointer as usize).checked_sub(Self::start()).filter(|offset| *offset < SIZE)
    }

    fn take(layout: Layout) -> Option<*mut u8> {
        let mut used = USED.load(Relaxed);
        loop {
            let offset = (Self::start() + used).next_multiple_of(layout.align()) - Self::start();
            let end = offset.checked_add(layout.size()).filter(|end| *end <= SIZE)?;
            match USED.compare_exchange_weak(used, end, Relaxed, Relaxed) {
                Ok(_) => return Some(BLOCK.0.get().cast::<u8>().wrapping_add(offset)),
                Err(now) => used = now,
            }
        }
    }

    /// Moves the end of the newest part; false when there is a newer one or no room.
    fn resize(offset: usize, old: usize, new: usize) -> bool {
        let Some(end) = offset.checked_add(new).filter(|end| *end <= SIZE) else { return false };
        USED.compare_exchange(offset + old, end, Relaxed, Relaxed).is_ok()
    }
}

// SAFETY: `take` hands out each byte to one caller at a time, aligned as asked; bytes come back only from the end of the
// used part, by whoever owns them; everything else is the system allocator's.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match Self::take(layout) {
            Some(pointer) => pointer,
            // SAFETY: the caller's promise about the layout is passed on.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        match Self::offset(pointer) {
            // Anything but the newest part stays until exit.
            Some(offset) => drop(Self::resize(offset, layout.size(), 0)),
            // SAFETY: it is not ours, so it came from the system allocator with this layout.
            None => unsafe { System.dealloc(pointer, layout) },
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(offset) = Self::offset(pointer) else {
            // SAFETY: as in `dealloc`.
            return unsafe { System.realloc(pointer, layout, size) };
        };
        if size <= layout.size() || Self::resize(offset, layout.size(), size) {
            return pointer;
        }
        // SAFETY: the caller promises that `size`, rounded up to the alignment, is no overflow; both parts are at least
        // as long as what is copied and do not overlap.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                pointer.copy_to_nonoverlapping(new, layout.size());
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_apart_grows_in_place_and_overflows_to_the_system() {
        // The tests of this crate use the system allocator themselves: the block is ours alone.
        let arena = Arena;
        let layout = |size, align| Layout::from_size_align(size, align).unwrap();
        // SAFETY: every pointer is used with the layout that it was made with.
        unsafe {
            let a = arena.alloc(layout(3, 1));
            let b = arena.alloc(layout(64, 64));
            a.write_bytes(1, 3);
            b.write_bytes(2, 64);
            assert_eq!((b as usize % 64, *a, *b), (0, 1, 2));
            let grown = arena.realloc(b, layout(64, 64), 1024);
            assert_eq!(grown, b, "the newest part grows where it is");
            let c = arena.alloc(layout(8, 8));
            let moved = arena.realloc(grown, layout(1024, 64), 2048);
            assert_ne!(moved, grown);
            assert_eq!((*moved, *moved.add(63)), (2, 2), "its bytes move with it");
            arena.dealloc(moved, layout(2048, 64));
            assert_eq!(arena.alloc(layout(2048, 64)), moved, "the newest part is given back");
            let used = USED.load(Relaxed);
            arena.dealloc(c, layout(8, 8));
            assert_eq!(USED.load(Relaxed), used, "an older part is not");
            let big = arena.alloc(layout(SIZE, 1));
            assert!(Arena::offset(big).is_none() && !big.is_null());
            let big = arena.realloc(big, layout(SIZE, 1), SIZE * 2);
            arena.dealloc(big, layout(SIZE * 2, 1));
            retire();
            let small = arena.alloc(layout(1, 1));
            assert!(Arena::offset(small).is_none() && !small.is_null());
            arena.dealloc(small, layout(1, 1));
        }
    }
}
