//! The closed list of what an init can be told to do, and how a step is written down.

/// A NUL-terminated string in the plan's arena, by its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text(pub u32);

/// Bytes in the plan's arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    pub at: u32,
    pub length: u32,
}

/// Consecutive NUL-terminated strings in the plan's arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List {
    pub at: u32,
    pub count: u32,
}

/// Number of a descriptor that the init holds; its table is in the plan's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(pub u8);

impl Slot {
    /// Where a step takes no descriptor.
    pub const NONE: Slot = Slot(u8::MAX);
    /// The socket to the parent.
    pub const PARENT: Slot = Slot(0);
    /// The socket that `start` speaks to.
    pub const START: Slot = Slot(1);
    /// The state as JSON, for hooks that the init runs.
    pub const STATE: Slot = Slot(2);
    /// The root file system's mount.
    pub const ROOT: Slot = Slot(3);
    /// The host's /proc.
    pub const PROC: Slot = Slot(4);
    /// The opened /dev of the container.
    pub const DEV: Slot = Slot(5);
    /// The socket that gets the master end of the payload's terminal.
    pub const CONSOLE: Slot = Slot(6);
    /// The mount of the directory for sd_notify(3).
    pub const NOTIFY: Slot = Slot(7);
    /// What hooks that the init runs have as standard output and error, where that is not the init's own.
    pub const HOOK_STDOUT: Slot = Slot(8);
    pub const HOOK_STDERR: Slot = Slot(9);
    /// Where it says when it was done with each step, for a trace: see `facts::stamps`.
    pub const STAMPS: Slot = Slot(10);
    /// The process whose namespaces are joined, as a pidfd.
    pub const INIT: Slot = Slot(Self::COUNT as u8 - 1);
    /// First slot that the planner gives away.
    pub const FREE: u8 = 11;
    /// First of those for joined namespaces, one for each type there is.
    pub const JOINED: u8 = Self::COUNT as u8 - 8;
    /// How many slots there are.
    pub const COUNT: usize = 64;
}

/// A value with a fixed form on the wire, little endian.
trait Operand: Sized {
    fn put(self, out: &mut Vec<u8>);
    fn take(input: &mut &[u8]) -> Option<Self>;
}

macro_rules! integer_operands {
    ($($kind:ty)*) => {$(
        impl Operand for $kind {
            fn put(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn take(input: &mut &[u8]) -> Option<Self> {
                let (head, tail) = input.split_first_chunk()?;
                *input = tail;
                Some(Self::from_le_bytes(*head))
            }
        }
    )*};
}
integer_operands!(u8 u32 i32 u64);

impl Operand for bool {
    fn put(self, out: &mut Vec<u8>) {
        u8::from(self).put(out);
    }
    fn take(input: &mut &[u8]) -> Option<Self> {
        u8::take(input).map(|byte| byte != 0)
    }
}

impl Operand for Text {
    fn put(self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn take(input: &mut &[u8]) -> Option<Self> {
        u32::take(input).map(Text)
    }
}

impl Operand for Slot {
    fn put(self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn take(input: &mut &[u8]) -> Option<Self> {
        u8::take(input).map(Slot)
    }
}

impl Operand for Bytes {
    fn put(self, out: &mut Vec<u8>) {
        self.at.put(out);
        self.length.put(out);
    }
    fn take(input: &mut &[u8]) -> Option<Self> {
        Some(Bytes { at: u32::take(input)?, length: u32::take(input)? })
    }
}

impl Operand for List {
    fn put(self, out: &mut Vec<u8>) {
        self.at.put(out);
        self.count.put(out);
    }
    fn take(input: &mut &[u8]) -> Option<Self> {
        Some(List { at: u32::take(input)?, count: u32::take(input)? })
    }
}

macro_rules! steps {
    ($($(#[$doc:meta])* $code:literal $name:ident { $($field:ident: $kind:ty),* $(,)? })*) => {
        /// One thing to do. The number before each is its code on the wire and never changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Step {
            $($(#[$doc])* $name { $($field: $kind),* },)*
        }

        impl Step {
            /// Appends the step's form on the wire.
            pub fn put(self, out: &mut Vec<u8>) {
                match self {
                    $(Step::$name { $($field),* } => {
                        out.push($code);
                        $($field.put(out);)*
                    })*
                }
            }

            /// The next step of `input`, which is shortened by it; `None` at the end and for a code that is unknown.
            pub fn take(input: &mut &[u8]) -> Option<Step> {
                match u8::take(input)? {
                    $($code => Some(Step::$name { $($field: <$kind>::take(input)?),* }),)*
                    _ => None,
                }
            }
        }
    };
}

steps! {
    /// setns(2) into the namespace in `slot`; into those that `kind` names, where a process is there.
    1 EnterNamespace { slot: Slot, kind: u64 }
    /// unshare(2).
    2 Unshare { flags: u64 }
    /// Becomes root of the user namespace.
    3 BecomeRoot {}
    /// Bears the rest of the plan's process, as a sibling in new namespaces, tells its pid, and ends.
    4 Bear { flags: u64 }
    /// Tells the parent that a phase is reached.
    5 Report { phase: u8 }
    /// Waits for the parent's word; its death ends the init.
    6 Await {}
    /// Runs a hook from inside; the state is its standard input. No limit where `milliseconds` is -1.
    7 Hook { path: Text, arguments: List, environment: List, milliseconds: i32 }
    /// Changes the propagation of every mount that was inherited.
    8 PropagateAll { flags: u64 }
    /// Copies the mount of a path of the host, detached, into `slot`.
    9 OpenTree { slot: Slot, source: Text, recursive: bool }
    /// Copies the root file system's mount and attaches it over itself, into the slot `ROOT`; a `private` one shares no
    /// mounts with others, whatever the host's do.
    10 OpenRoot { path: Text, private: bool }
    /// mount(2) of a file system on a directory of the root; `plain` forbids symbolic links on the way (CVE-2019-19921).
    11 MountFilesystem { target: Text, kind: Text, source: Text, flags: u64, data: Text, plain: bool }
    /// The same by way of a detached mount, for what mount(2) cannot do in one call, and for one that stays open in
    /// `slot`.
    12 MountDetached { target: Text, kind: Text, source: Text, options: List, attributes: u64, recursive_set: u64, recursive_clear: u64, propagation: u64, copy_up: bool, plain: bool, slot: Slot }
    /// Attaches a copy of a host directory or file; from `slot`, where one is given.
    13 Bind { target: Text, source: Text, slot: Slot, recursive: bool, set: u64, clear: u64, recursive_set: u64, recursive_clear: u64, propagation: u64 }
    /// Changes a mount that is there already.
    14 Remount { target: Text, flags: u64, data: Text }
    /// Opens a directory of the root, made where it is missing.
    15 OpenDirectory { slot: Slot, path: Text }
    /// Makes a device node below an opened directory.
    16 Device { slot: Slot, path: Text, mode: u32, device: u64, uid: u32, gid: u32 }
    /// Makes a symbolic link in an opened directory, unless the name is taken.
    17 Symlink { slot: Slot, name: Text, target: Text }
    /// Makes the directory `name` in an opened directory that nobody else has reached yet, and attaches a copy of a host
    /// directory's mount on it.
    62 BindIn { directory: Slot, name: Text, source: Text }
    /// Changes the mount that the opened directory in `slot` is the top of, and all mounts below it.
    63 ChangeMounts { slot: Slot, set: u64, clear: u64, propagation: u64 }
    18 Hostname { name: Bytes }
    19 Domainname { name: Bytes }
    /// Writes a file below the host's /proc, as the process itself.
    20 WriteProc { path: Text, value: Bytes }
    /// Brings `lo` up.
    21 LoopbackUp {}
    /// Makes the root file system the root, and drops the old one.
    22 Pivot {}
    /// The same without pivot_root(2): for a root on an initramfs, which cannot be pivoted from.
    23 MoveRoot {}
    /// chroot(2), for a container without a mount namespace.
    24 ChangeRoot {}
    /// The root's own propagation, seen from inside.
    25 RootPropagation { flags: u64 }
    26 RootReadonly {}
    /// Makes the mount at a place of the root read-only, and none below it.
    73 MountReadonly { path: Text }
    /// Hides a path: a file behind the host's null device, a directory behind an empty one. Missing ones are left.
    27 Mask { path: Text, label: Text }
    /// Makes a path and all below it read-only. Missing ones are left. `alone`: no mount of the container is below it.
    28 ReadonlyPath { path: Text, alone: bool }
    29 NewSession {}
    30 SessionKeyring { name: Text }
    31 Personality { persona: u64 }
    /// Makes the user the owner of descriptors 0 to 2, so that /dev/stdout and its kin can be opened.
    61 OwnStreams { uid: u32 }
    /// set_mempolicy(2): mode with flags, and a mask of nodes in whole words.
    57 MemoryPolicy { mode: u32, nodes: Bytes }
    32 IoPriority { value: u32 }
    33 Schedule { policy: u32, flags: u64, nice: i32, priority: u32, runtime: u64, deadline: u64, period: u64 }
    34 Umask { mask: u32 }
    /// Supplementary groups: four bytes each, little endian.
    35 Groups { gids: Bytes }
    /// Drops all supplementary groups, unless the user namespace denies setgroups(2).
    64 DropGroups {}
    /// Changes to the working directory as the user, makes it where it is missing and `make` says so, and proves that it
    /// is inside.
    36 WorkingDirectory { path: Text, uid: u32, gid: u32, make: bool }
    /// Finds the payload's executable among `candidates`, as the user.
    37 FindExecutable { name: Text, candidates: List, uid: u32, gid: u32 }
    /// HOME from the container's passwd, for an environment that has none.
    38 Home { uid: u32 }
    /// Waits for `start`; from here on failures are told to it.
    39 WaitStart {}
    40 NoNewPrivileges {}
    /// Loads a seccomp filter of eight bytes an instruction.
    41 Seccomp { program: Bytes, flags: u32 }
    /// Takes every capability that is not in `keep` out of the bounding set.
    42 Bounding { keep: u64 }
    43 Gid { gid: u32 }
    /// Changes the user, keeping the permitted capabilities.
    44 Uid { uid: u32 }
    45 Capabilities { effective: u64, permitted: u64, inheritable: u64 }
    46 Ambient { set: u64 }
    /// Copies the mount of the host's null device, proved to be it, for `Mask`.
    47 OpenNull {}
    /// LISTEN_PID in the environment: the payload's pid as it sees it.
    53 ListenPid {}
    /// Gives the keys that are made from here on a label of SELinux.
    70 KeyLabel { label: Text }
    /// Has the exec go into a label of SELinux.
    71 ExecLabel { label: Text }
    /// Labels what is mounted at a place of the root, for a file system that takes no label as a mount option.
    72 LabelFile { target: Text, label: Text }
    /// Has the exec go into a profile of AppArmor.
    60 ChangeProfile { profile: Text }
    /// Closes every slot but the sockets `PARENT` and `CONSOLE`: no file of the host may be reached through us.
    56 CloseHost {}
    /// Becomes the payload.
    48 Exec { arguments: List, environment: List }
    /// Makes a terminal in the devpts whose root is in `slot`, or else at `path` of the root. Its size stays as it is
    /// where `rows` or `columns` is 0.
    49 OpenTerminal { slot: Slot, path: Text, rows: u32, columns: u32 }
    /// Attaches the terminal on the file `name` of the root's directory `directory`; the file is made where it is
    /// missing, and is no link.
    50 BindTerminal { directory: Text, name: Text }
    /// Sends the terminal's master end to the socket in the slot `CONSOLE`, and keeps none.
    51 SendTerminal {}
    /// Makes the terminal the user's, the session's, and what the descriptors 0, 1 and 2 are.
    52 TakeTerminal { uid: u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_comes_back_as_it_was_written() {
        let steps = [
            Step::Bind {
                target: Text(7),
                source: Text(9),
                slot: Slot(4),
                recursive: true,
                set: 1,
                clear: 2,
                recursive_set: 3,
                recursive_clear: 4,
                propagation: 5,
            },
            Step::Await {},
            Step::Hook {
                path: Text(1),
                arguments: List { at: 2, count: 3 },
                environment: List { at: 4, count: 5 },
                milliseconds: -1,
            },
            Step::Seccomp { program: Bytes { at: 1, length: 2 }, flags: 3 },
        ];
        let mut wire = Vec::new();
        for step in steps {
            step.put(&mut wire);
        }
        let mut input = wire.as_slice();
        for step in steps {
            assert_eq!(Step::take(&mut input), Some(step));
        }
        assert_eq!(Step::take(&mut input), None);
        assert_eq!(Step::take(&mut [200u8].as_slice()), None);
        assert_eq!(Step::take(&mut &wire[..3]), None);
    }
}
