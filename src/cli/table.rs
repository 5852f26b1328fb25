//! The words of the command line, as data: parsing, help and the scan for the verb read the same table.

/// One option. Without a value name it is a switch.
#[derive(Debug)]
pub(super) struct Opt {
    pub(super) long: &'static str,
    pub(super) short: Option<char>,
    pub(super) value: Option<&'static str>,
    /// The only values allowed; empty means any. A switch that has them may be left alone, set, and set to false.
    pub(super) among: &'static [&'static str],
    /// May be given more than once, and all are meant.
    pub(super) many: bool,
    pub(super) help: &'static str,
}

/// One verb and what may follow it.
#[derive(Debug)]
pub(super) struct Words {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) opts: &'static [&'static [Opt]],
    pub(super) operands: &'static [Operand],
    /// What all words after the operands are, options or not.
    pub(super) rest: Option<Operand>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Operand {
    pub(super) name: &'static str,
    pub(super) required: bool,
    pub(super) help: &'static str,
}

const fn switch(long: &'static str, short: Option<char>, help: &'static str) -> Opt {
    Opt { long, short, value: None, among: &[], many: false, help }
}

/// A switch of which `=false` is something else than to leave it out.
const fn either(long: &'static str, short: Option<char>, help: &'static str) -> Opt {
    Opt { long, short, value: None, among: &["true", "false"], many: false, help }
}

const fn value(long: &'static str, short: Option<char>, value: &'static str, help: &'static str) -> Opt {
    Opt { long, short, value: Some(value), among: &[], many: false, help }
}

const fn choice(
    long: &'static str,
    short: Option<char>,
    name: &'static str,
    among: &'static [&'static str],
    help: &'static str,
) -> Opt {
    Opt { long, short, value: Some(name), among, many: false, help }
}

const fn each(long: &'static str, short: Option<char>, value: &'static str, help: &'static str) -> Opt {
    Opt { long, short, value: Some(value), among: &[], many: true, help }
}

const ID: Operand = Operand { name: "container-id", required: true, help: "Name of the container" };
const COMMAND: Operand = Operand { name: "command", required: false, help: "The command with its arguments" };
const SIGNAL: Operand =
    Operand { name: "signal", required: false, help: "Name or number of the signal [default: SIGTERM]" };

/// Options before the verb.
pub(super) const GLOBALS: &[Opt] = &[
    value("root", None, "DIR", "Directory of the containers' records [default: /run/wharf or $XDG_RUNTIME_DIR/wharf]"),
    value(
        "backend",
        None,
        "NAME",
        "Where create and run put the container: native, vm, crun, runc or an absolute path",
    ),
    value("log", None, "FILE", "Append the log to FILE instead of writing it to stderr"),
    choice("log-format", None, "FORMAT", &["text", "json"], "Form of the log [default: text]"),
    choice(
        "log-level",
        None,
        "LEVEL",
        &["error", "warn", "warning", "info", "debug"],
        "What is logged [default: error]",
    ),
    switch("debug", None, "Same as --log-level debug"),
    value("config", None, "FILE", "Configuration [default: $WHARF_CONFIG or /etc/wharf/config.json, where it exists]"),
    choice(
        "rootless",
        None,
        "WHEN",
        &["true", "false", "auto"],
        "Handed on to another runtime; natively it changes nothing",
    ),
    switch("timings", None, "Tell where the time of this command went, in the log"),
    value(
        "trace",
        None,
        "FILE",
        "Add the same to FILE, in the form that trace viewers read, with each step of the init",
    ),
    switch("systemd-cgroup", None, "Let systemd make the cgroup (only where the backend can)"),
    value("criu", None, "PATH", "Absolute path of criu, for checkpoint and restore [default: where it is installed]"),
    switch("version", Some('v'), "Print the version"),
];

const CREATE: &[Opt] = &[
    value("bundle", Some('b'), "DIR", "Directory of config.json [default: the working directory]"),
    value("console-socket", None, "PATH", "Unix socket that receives the terminal's master end"),
    value("pidfd-socket", None, "PATH", "Unix socket that receives a pidfd of the container's init"),
    value("pid-file", None, "FILE", "File to write the process id to"),
    switch("no-pivot", None, "Enter the root file system without pivot_root(2), for a root on a ramdisk"),
    switch("no-new-keyring", None, "Keep the caller's session keyring"),
    value("preserve-fds", None, "N", "Pass on N descriptors from number 3 on [default: 0]"),
];

const RUN: &[Opt] = &[
    switch("detach", Some('d'), "Return when the container has started"),
    switch("keep", None, "Do not delete the container when it has ended"),
    switch("no-subreaper", None, "Do not adopt orphaned processes (wharf never does)"),
];

const UPDATE: &[Opt] = &[
    value("resources", Some('r'), "FILE", "Read linux.resources as JSON from FILE, or from stdin where it is -"),
    value("blkio-weight", None, "WEIGHT", "Weight of block I/O, 10 to 1000"),
    value("cpu-period", None, "MICROSECONDS", "Length of a period of CPU time"),
    value("cpu-quota", None, "MICROSECONDS", "CPU time in a period; -1 for no limit"),
    value("cpu-burst", None, "MICROSECONDS", "CPU time that may be saved up for a burst"),
    value("cpu-share", None, "SHARES", "Weight of CPU time, 2 to 262144"),
    value("cpu-rt-period", None, "MICROSECONDS", "Length of a period of realtime scheduling"),
    value("cpu-rt-runtime", None, "MICROSECONDS", "Realtime in a period"),
    value("cpu-idle", None, "0|1", "Whether it runs only when nothing else does"),
    value("cpuset-cpus", None, "LIST", "CPUs to run on, as 0-3,7"),
    value("cpuset-mems", None, "LIST", "Memory nodes to use"),
    value("memory", None, "BYTES", "Memory; -1 for no limit"),
    value("memory-reservation", None, "BYTES", "Memory that is left to it when the host is short"),
    value("memory-swap", None, "BYTES", "Memory and swap together; -1 for no limit"),
    value("kernel-memory", None, "BYTES", "Refused: kernels no longer limit kernel memory apart"),
    value("kernel-memory-tcp", None, "BYTES", "Memory of TCP buffers (cgroup v1)"),
    value("pids-limit", None, "NUMBER", "Processes and threads; -1 for no limit"),
    value("l3-cache-schema", None, "SCHEMA", "Refused: Intel RDT is not supported"),
    value("mem-bw-schema", None, "SCHEMA", "Refused: Intel RDT is not supported"),
];

const EXEC: &[Opt] = &[
    value("process", Some('p'), "FILE", "Read the process from this JSON file instead of taking the container's own"),
    switch("tty", Some('t'), "Give it a terminal"),
    value("user", Some('u'), "UID[:GID]", "Run as this user, by number"),
    each("additional-gids", Some('g'), "N", "Add a supplementary group"),
    value("cwd", None, "WORD", "Working directory in the container"),
    each("env", Some('e'), "NAME=VALUE", "Set a variable of the environment"),
    each("cap", Some('c'), "CAPABILITY", "Add a capability"),
    value("apparmor", None, "WORD", "AppArmor profile"),
    value("process-label", None, "WORD", "SELinux label"),
    either("no-new-privs", None, "Set no_new_privs, or leave it unset, whatever the process says"),
    value("preserve-fds", None, "N", "Pass on N descriptors from number 3 on [default: 0]"),
    switch("ignore-paused", None, "In a paused container wait until it is resumed"),
    each("cgroup", None, "[CONTROLLER:]PATH", "Run in this cgroup, which is below the container's"),
    switch("detach", Some('d'), "Return when the command runs"),
    value("pid-file", None, "FILE", "File to write the process id to"),
    value("exit-record", None, "FILE", "File that tells how it ended and what it used, as JSON"),
    value("console-socket", None, "PATH", "Unix socket that receives the terminal's master end"),
    value("pidfd-socket", None, "PATH", "Unix socket that receives a pidfd of the process"),
    switch("no-subreaper", None, "Do not adopt orphaned processes (wharf never does)"),
];

/// What checkpoint and restore have in common.
const IMAGES: &[Opt] = &[
    value("image-path", None, "DIR", "Directory of the images [default: ./checkpoint]"),
    value("name", None, "WORD", "Name of the checkpoint, which is kept where all of them are"),
    value("work-path", None, "DIR", "Directory of criu's log [default: that of the images]"),
    switch("tcp-established", None, "Keep established TCP connections"),
    switch("ext-unix-sk", None, "Keep unix sockets whose other end is outside"),
    switch("shell-job", None, "Keep a terminal and a session that are a shell's"),
    switch("file-locks", None, "Keep locks of files"),
    switch("lazy-pages", None, "Bring memory over when it is used (userfaultfd(2))"),
    switch("auto-dedup", None, "Keep each page of memory in one of the images only"),
    choice(
        "manage-cgroups-mode",
        None,
        "MODE",
        &["soft", "full", "strict", "ignore"],
        "What becomes of cgroups inside the container [default: soft]",
    ),
    EMPTY_NAMESPACE,
];

/// Go's flags take more than one.
const EMPTY_NAMESPACE: Opt = Opt {
    long: "empty-ns",
    short: None,
    value: Some("KIND"),
    among: &["network"],
    many: true,
    help: "Restore this namespace empty; a network namespace always is",
};

const CHECKPOINT: &[Opt] = &[
    value("parent-path", None, "DIR", "Images of an earlier --pre-dump, relative to --image-path"),
    switch("leave-running", None, "Let the container run on"),
    switch("pre-dump", None, "Write memory alone, and let the container run on"),
    switch("tcp-skip-in-flight", None, "Leave TCP connections out that are not established yet"),
    switch("link-remap", None, "Give open files that were unlinked a name for as long"),
    value("status-fd", None, "N", "Descriptor that gets a NUL byte when --lazy-pages is ready"),
    value("page-server", None, "ADDRESS:PORT", "Where memory is sent instead of into images"),
    choice("disk", None, "KIND", &["zfs", "none"], "What is done about the disk [default: zfs with --name, else none]"),
    switch("check", None, "Tell what would fail, and do nothing"),
];

const RESTORE: &[Opt] = &[
    value(
        "bundle",
        Some('b'),
        "DIR",
        "Directory of config.json [default: the working directory; with --name the checkpoint's]",
    ),
    value("console-socket", None, "PATH", "Unix socket that receives the terminal's master end"),
    value("pid-file", None, "FILE", "File to write the process id to"),
    switch("detach", Some('d'), "Return when the container runs"),
    switch("no-pivot", None, "Refused: criu enters the root file system by pivot_root(2)"),
    switch("no-subreaper", None, "Do not adopt orphaned processes (wharf never does)"),
    value("lsm-profile", None, "TYPE:NAME", "AppArmor profile or SELinux label in place of the one in the images"),
    value("lsm-mount-context", None, "WORD", "SELinux label of mounts in place of the one in the images"),
    value("as", None, "NEW-ID", "Restore a new container of this name, beside the one that was checkpointed"),
    value("count", None, "N", "Restore N new containers, whose names end in -1 to -N"),
    switch(
        "rollback",
        None,
        "Make the datasets themselves what they were, instead of clones: what was written since is lost",
    ),
    switch("verify", None, "Compare the digests of memory's pages too, which takes its time"),
];

/// Every verb, in the order of help.
pub(super) const VERBS: &[Words] = &[
    Words {
        name: "create",
        about: "Make a container that waits to be started",
        opts: &[CREATE],
        operands: &[ID],
        rest: None,
    },
    Words { name: "start", about: "Let a created container run its process", opts: &[], operands: &[ID], rest: None },
    Words { name: "state", about: "Print a container's state as JSON", opts: &[], operands: &[ID], rest: None },
    Words {
        name: "kill",
        about: "Send a signal to a container's init process",
        opts: &[&[switch("all", Some('a'), "Signal every process of the container")]],
        operands: &[ID, SIGNAL],
        rest: None,
    },
    Words {
        name: "delete",
        about: "Remove all that a stopped container holds",
        opts: &[&[switch("force", Some('f'), "Kill it first; succeed where there is none")]],
        operands: &[ID],
        rest: None,
    },
    Words {
        name: "run",
        about: "Create and start a container, and wait for it",
        opts: &[CREATE, RUN],
        operands: &[ID],
        rest: None,
    },
    Words {
        name: "exec",
        about: "Run one more command in a container",
        opts: &[EXEC],
        operands: &[ID],
        rest: Some(COMMAND),
    },
    Words {
        name: "wait",
        about: "Wait for a container's end, and exit as its process did",
        opts: &[&[choice(
            "format",
            Some('f'),
            "FORMAT",
            &["text", "json"],
            "text: only the exit code; json: print the exit record too, and exit with 0 [default: text]",
        )]],
        operands: &[ID],
        rest: None,
    },
    Words {
        name: "checkpoint",
        about: "Write a running container's memory down, and end it",
        opts: &[IMAGES, CHECKPOINT],
        operands: &[ID],
        rest: None,
    },
    Words {
        name: "restore",
        about: "Make a container of a checkpoint, and wait for it",
        opts: &[IMAGES, RESTORE],
        operands: &[ID],
        rest: None,
    },
    Words { name: "pause", about: "Stop every process of a container", opts: &[], operands: &[ID], rest: None },
    Words { name: "resume", about: "Let a paused container go on", opts: &[], operands: &[ID], rest: None },
    Words {
        name: "ps",
        about: "List the processes of a container",
        opts: &[&[choice("format", Some('f'), "FORMAT", &["table", "json"], "Form of the list [default: table]")]],
        operands: &[ID],
        rest: Some(Operand {
            name: "ps-options",
            required: false,
            help: "Options for ps(1), which makes the table then",
        }),
    },
    Words {
        name: "events",
        about: "Tell what a container uses, as JSON",
        opts: &[&[
            switch("stats", None, "Tell once"),
            value("interval", None, "DURATION", "Time between two lines, as 5s or 1m30s [default: 5s]"),
            switch("all", Some('a'), "Of every container that has processes, with --stats"),
            choice(
                "format",
                Some('f'),
                "FORMAT",
                &["json", "prometheus"],
                "prometheus: text for a scrape, with --stats [default: json]",
            ),
        ]],
        operands: &[Operand { required: false, ..ID }],
        rest: None,
    },
    Words { name: "update", about: "Change the limits of a container", opts: &[UPDATE], operands: &[ID], rest: None },
    Words {
        name: "list",
        about: "List the containers below --root",
        opts: &[&[
            choice("format", Some('f'), "FORMAT", &["table", "json"], "Form of the list [default: table]"),
            switch("quiet", Some('q'), "Print only the ids"),
        ]],
        operands: &[],
        rest: None,
    },
    Words {
        name: "checkpoints",
        about: "List, show, remove, export, import or thin out the checkpoints that are kept by name",
        opts: &[&[
            switch("apply", None, "For prune: remove what it tells"),
            value("from", None, "WORD", "For export: only what has changed on disk since this checkpoint"),
            value("output", Some('o'), "FILE", "For export: a new file, instead of stdout"),
            value("input", Some('i'), "FILE", "For import: instead of stdin"),
            choice("format", Some('f'), "FORMAT", &["table", "json"], "Form of the list [default: table]"),
        ]],
        operands: &[
            Operand { name: "action", required: true, help: "list, show, remove, export, import or prune" },
            Operand {
                name: "container-id",
                required: false,
                help: "Name of the container; list, prune and import do without",
            },
            Operand {
                name: "checkpoint",
                required: false,
                help: "Name of the checkpoint, for show, remove and export",
            },
        ],
        rest: None,
    },
    Words {
        name: "gc",
        about: "Tell what dead containers have left below --root, or remove it",
        opts: &[&[
            switch("apply", None, "Remove it"),
            switch(
                "stopped",
                None,
                "Containers that have stopped, too; whoever made them may still want to delete them",
            ),
            choice("format", Some('f'), "FORMAT", &["table", "json"], "Form of the list [default: table]"),
        ]],
        operands: &[],
        rest: None,
    },
    Words {
        name: "spec",
        about: "Write a config.json to begin with",
        opts: &[&[
            value("bundle", Some('b'), "DIR", "Where to write it [default: the working directory]"),
            switch("rootless", None, "For a container of an ordinary user"),
        ]],
        operands: &[],
        rest: None,
    },
    Words {
        name: "plan",
        about: "Tell what becomes of each property of a bundle; make nothing",
        opts: &[&[
            value("bundle", Some('b'), "DIR", "Directory of config.json [default: the working directory]"),
            choice("format", Some('f'), "FORMAT", &["text", "json"], "Form of the answer [default: text]"),
        ]],
        operands: &[Operand {
            name: "container-id",
            required: false,
            help: "Name that the container would have [default: planned]",
        }],
        rest: None,
    },
    Words { name: "features", about: "Print what wharf supports as JSON", opts: &[], operands: &[], rest: None },
    Words {
        name: "doctor",
        about: "Tell what this host can and cannot do for containers, why not, and what to do",
        opts: &[&[choice("format", Some('f'), "FORMAT", &["table", "json"], "Form of the answer [default: table]")]],
        operands: &[],
        rest: None,
    },
    Words {
        name: "config",
        about: "Check the configuration, show what is in effect, or convert one of nexcage",
        opts: &[&[
            choice("format", Some('f'), "FORMAT", &["text", "json"], "Form of what show prints [default: text]"),
            value("map", None, "OLD=NEW,...", "For import: backends that are called otherwise here"),
        ]],
        operands: &[
            Operand { name: "action", required: true, help: "check, show or import" },
            Operand { name: "file", required: false, help: "For check and import: a file that is not in effect" },
        ],
        rest: None,
    },
    Words {
        name: "route",
        about: "Explain where a container goes, and why",
        opts: &[&[
            value("bundle", Some('b'), "DIR", "Bundle to judge instead of the one of the container's record"),
            value("argv0", None, "NAME", "Judge as if wharf were called by this name"),
            choice("format", Some('f'), "FORMAT", &["text", "json"], "Form of the answer [default: text]"),
        ]],
        operands: &[
            Operand { name: "action", required: true, help: "explain" },
            Operand { name: "container-id", required: false, help: "Name of the container; it need not exist" },
        ],
        rest: None,
    },
];

/// Options that may also stand behind the verb.
pub(super) const ANYWHERE: &[&str] = &["timings", "trace"];

/// Verbs of other runtimes that are known and refused by name.
pub(super) const LATER: &[&str] = &[];

pub(super) fn global(long: &str) -> Option<&'static Opt> {
    GLOBALS.iter().find(|opt| opt.long == long)
}

pub(super) fn verb(name: &str) -> Option<&'static Words> {
    VERBS.iter().find(|words| words.name == name)
}

impl Words {
    /// How many words that are no options come before the first that is not ours to understand. A command's own options
    /// begin behind its name.
    pub(super) fn before_rest(&self) -> usize {
        self.operands.len() + usize::from(self.rest.is_some_and(|rest| rest.name == COMMAND.name))
    }

    /// Whether the next word is the value of this option.
    pub(super) fn takes_next(&self, word: &str) -> bool {
        if let Some(long) = word.strip_prefix("--") {
            return self.opt(long).is_some_and(|opt| opt.value.is_some());
        }
        // In `-tu 5` the first letter that takes a value takes all that follows it.
        let opt = |letter| self.opts.iter().flat_map(|opts| opts.iter()).find(|opt| opt.short == Some(letter));
        let mut letters = word.chars().skip(1);
        let found = letters.find(|letter| opt(*letter).is_none_or(|opt| opt.value.is_some()));
        found.is_some_and(|letter| opt(letter).is_some()) && letters.next().is_none()
    }

    pub(super) fn opt(&self, long: &str) -> Option<&'static Opt> {
        let own = self.opts.iter().flat_map(|opts| opts.iter()).find(|opt| opt.long == long);
        own.or_else(|| ANYWHERE.contains(&long).then(|| global(long)).flatten())
    }
}
