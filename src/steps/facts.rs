//! What an init tells of a failure beside the errno.

/// Fact of a working directory that the kernel says is not reachable from the root (CVE-2024-21626).
pub const OUTSIDE: u32 = 1;

/// Fact of a place for terminals where no devpts is.
pub const NO_DEVPTS: u32 = 1;

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER` of seccomp(2): a filter that is loaded so has somebody to be told of system calls,
/// and the init has to give the listener away before it goes on.
pub const FILTER_FLAG_NEW_LISTENER: u32 = 1 << 3;

/// The words of the page that an init shares with who takes its seccomp listener.
pub mod listener_page {
    /// The listener's number in the init, plus one.
    pub const NUMBER: usize = 0;
    /// Not 0 when it has been taken.
    pub const TAKEN: usize = 1;
}

/// Facts of an executable: its mode in the low half.
pub mod executable {
    /// Nothing of that name was found in any directory of PATH.
    pub const NOT_FOUND: u32 = 1 << 16;
    /// The file is on a file system mounted noexec.
    pub const NOEXEC: u32 = 1 << 17;
    /// The facts of the file are known.
    pub const SEEN: u32 = 1 << 18;
}

/// Facts of a hook: what became of it, in the low byte its code or signal.
pub mod hook_end {
    pub const EXITED: u32 = 1 << 8;
    pub const SIGNALED: u32 = 1 << 9;
    pub const TIMED_OUT: u32 = 1 << 10;
}

/// The file in which an init says when it was done: nanoseconds of the real-time clock, eight bytes little endian each.
/// What it does once a seccomp filter is loaded is not in it.
pub mod stamps {
    /// Of the point in time at which `step` began and the ones before it were done.
    pub fn offset(step: u32) -> u64 {
        8 * u64::from(step)
    }

    /// The points in time, as far as the init has come.
    pub fn read(file: &[u8]) -> impl Iterator<Item = u64> {
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or(0);
        file.chunks_exact(8).map(number).take_while(|point| *point != 0)
    }
}
