//! What an init tells of a failure beside the errno.

/// Fact of a working directory that the kernel says is not reachable from the root (CVE-2024-21626).
pub const OUTSIDE: u32 = 1;

/// Fact of a place for terminals where no devpts is.
pub const NO_DEVPTS: u32 = 1;

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
