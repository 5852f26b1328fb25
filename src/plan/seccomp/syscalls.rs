//! Finds the numbers that a system call's name stands for.

use super::Arch;
use super::table::TABLE;

/// The system call does not exist on that architecture.
pub(super) const NONE: u32 = u32::MAX;

/// The first of ARM's own calls (breakpoint, cacheflush, set_tls, …), far above the common ones.
pub(super) const ARM_PRIVATE: u32 = 0xf_0000;

pub(super) struct Entry {
    name: &'static str,
    numbers: [u32; 5],
}

pub(super) const fn entry(name: &'static str, numbers: [u32; 5]) -> Entry {
    Entry { name, numbers }
}

impl Entry {
    /// The number on `arch`; x32's without its bit.
    pub(super) fn number(&self, arch: Arch) -> Option<u32> {
        let number = self.numbers[arch as usize];
        (number != NONE).then_some(number)
    }
}

/// Looks names up. Profiles list them in alphabetical order nearly always, so each search starts at the last hit.
#[derive(Default)]
pub(super) struct Lookup {
    next: usize,
}

impl Lookup {
    pub(super) fn find(&mut self, name: &str) -> Option<&'static Entry> {
        let (mut low, mut high) = (0, TABLE.len());
        if self.next < high && TABLE[self.next].name <= name {
            low = self.next;
            let mut step = 1;
            while low + step < high {
                if TABLE[low + step].name > name {
                    high = low + step;
                    break;
                }
                low += step;
                step *= 2;
            }
        } else if self.next < high {
            high = self.next;
        }
        let at = low + TABLE[low..high].binary_search_by(|entry| entry.name.cmp(name)).ok()?;
        self.next = at + 1;
        Some(&TABLE[at])
    }
}

/// How a 32-bit x86 program may make the same call: `socketcall(2)` or `ipc(2)` with the call's number as first argument.
pub(super) struct Multiplexed {
    /// The number of socketcall or ipc on x86.
    pub(super) through: u32,
    /// What the first argument holds.
    pub(super) call: u64,
    /// Which bits of it count: ipc keeps a version above the 16th, and the kernel ignores it.
    pub(super) mask: u64,
}

/// The second way to `name` on 32-bit x86, where there is one.
pub(super) fn multiplexed(name: &str) -> Option<Multiplexed> {
    let (through, call) = match name {
        "socket" => (102, 1),
        "bind" => (102, 2),
        "connect" => (102, 3),
        "listen" => (102, 4),
        "accept" => (102, 5),
        "getsockname" => (102, 6),
        "getpeername" => (102, 7),
        "socketpair" => (102, 8),
        "send" => (102, 9),
        "recv" => (102, 10),
        "sendto" => (102, 11),
        "recvfrom" => (102, 12),
        "shutdown" => (102, 13),
        "setsockopt" => (102, 14),
        "getsockopt" => (102, 15),
        "sendmsg" => (102, 16),
        "recvmsg" => (102, 17),
        "accept4" => (102, 18),
        "recvmmsg" => (102, 19),
        "sendmmsg" => (102, 20),
        "semop" => (117, 1),
        "semget" => (117, 2),
        "semctl" => (117, 3),
        "semtimedop" => (117, 4),
        "msgsnd" => (117, 11),
        "msgrcv" => (117, 12),
        "msgget" => (117, 13),
        "msgctl" => (117, 14),
        "shmat" => (117, 21),
        "shmdt" => (117, 22),
        "shmget" => (117, 23),
        "shmctl" => (117, 24),
        _ => return None,
    };
    Some(Multiplexed { through, call, mask: if through == 117 { 0xffff } else { u64::MAX } })
}
