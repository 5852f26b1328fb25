//! What becomes of each option on the way to another runtime.

pub(crate) struct Row {
    /// "" for the options before the verb.
    pub(crate) verb: &'static str,
    pub(crate) option: &'static str,
    /// DIR is a directory with `file`, a process object.
    pub(crate) typed: &'static str,
    pub(crate) told: Told,
    /// The refusal by a runtime whose help does not have the option.
    pub(crate) lacking: Option<&'static str>,
}

pub(crate) enum Told {
    /// These words more than without the option.
    Words(&'static str),
    /// This and nothing else.
    Instead(&'static str),
    /// A process object, with this in it.
    Object(&'static str),
    /// The same as without: wharf does it.
    Ours,
    /// Never, whatever the runtime has.
    Refused(&'static str),
    /// The verb asks no runtime, or it is the one that every row uses.
    Apart,
}

use Told::{Apart, Instead, Object, Ours, Refused, Words};

const fn row(verb: &'static str, option: &'static str, typed: &'static str, told: Told) -> Row {
    Row { verb, option, typed, told, lacking: None }
}

const fn probed(
    verb: &'static str,
    option: &'static str,
    typed: &'static str,
    told: Told,
    lacking: &'static str,
) -> Row {
    Row { verb, option, typed, told, lacking: Some(lacking) }
}

/// An option of `update`: the resources that the runtime reads.
const fn limit(option: &'static str, typed: &'static str, told: &'static str, lacking: &'static str) -> Row {
    Row { verb: "update", option, typed, told: Instead(told), lacking: Some(lacking) }
}

/// Checkpoints are of native containers.
const NO_MEMORY: Told = Refused("backend: is not supported (ask that runtime itself");

pub(crate) const ROWS: &[Row] = &[
    row("", "root", "", Apart),
    row("", "backend", "", Apart),
    row("", "log", "--log DIR/log", Instead("--root ROOT --log DIR/log --log-format text create --bundle DIR c")),
    row(
        "",
        "log-format",
        "--log-format json --log DIR/log",
        Instead("--root ROOT --log DIR/log --log-format json create --bundle DIR c"),
    ),
    row("", "log-level", "--log-level debug", Instead("--root ROOT --log-format text --debug create --bundle DIR c")),
    row(
        "",
        "debug",
        "--debug --log DIR/log",
        Instead("--root ROOT --log DIR/log --log-format text --debug create --bundle DIR c"),
    ),
    row("", "config", "--config DIR/wharf.json", Ours),
    row("", "rootless", "--rootless auto", Words("--rootless auto")),
    row("", "timings", "--timings", Ours),
    row("", "trace", "--trace DIR/trace", Ours),
    row("", "systemd-cgroup", "--systemd-cgroup", Words("--systemd-cgroup")),
    row("", "criu", "--criu /usr/sbin/criu", Ours),
    row("", "version", "", Apart),
    row("create", "bundle", "", Apart),
    row("create", "console-socket", "--console-socket DIR/s", Words("--console-socket DIR/s")),
    probed(
        "create",
        "pidfd-socket",
        "--pidfd-socket DIR/s",
        Words("--pidfd-socket DIR/s"),
        "create --pidfd-socket on the",
    ),
    row("create", "pid-file", "--pid-file DIR/p", Words("--pid-file DIR/p")),
    probed("create", "no-pivot", "--no-pivot", Words("--no-pivot"), "create --no-pivot on the"),
    probed("create", "no-new-keyring", "--no-new-keyring", Words("--no-new-keyring"), "create --no-new-keyring on the"),
    probed("create", "preserve-fds", "--preserve-fds 1", Words("--preserve-fds 1"), "create --preserve-fds on the"),
    row("run", "bundle", "", Apart),
    row(
        "run",
        "console-socket",
        "--detach --console-socket DIR/s",
        Refused("--console-socket DIR/s: the process has no terminal"),
    ),
    probed(
        "run",
        "pidfd-socket",
        "--pidfd-socket DIR/s",
        Words("--pidfd-socket DIR/s"),
        "create --pidfd-socket on the",
    ),
    row("run", "pid-file", "--pid-file DIR/p", Ours),
    probed("run", "no-pivot", "--no-pivot", Words("--no-pivot"), "create --no-pivot on the"),
    probed("run", "no-new-keyring", "--no-new-keyring", Words("--no-new-keyring"), "create --no-new-keyring on the"),
    probed("run", "preserve-fds", "--preserve-fds 1", Words("--preserve-fds 1"), "create --preserve-fds on the"),
    row("run", "detach", "--detach", Ours),
    row("run", "keep", "--keep", Ours),
    row("run", "no-subreaper", "--no-subreaper", Refused("run --no-subreaper on the")),
    probed("kill", "all", "--all", Words("--all"), "kill --all on the"),
    row("delete", "force", "--force", Ours),
    row(
        "exec",
        "process",
        "--process DIR/file --detach",
        Instead("--root ROOT --log /dev/null --log-format text exec --process DIR/file --detach c"),
    ),
    row("exec", "tty", "--tty --detach", Object("\"terminal\":true")),
    row("exec", "user", "--user 7 --detach", Object("\"user\":{\"gid\":4,\"uid\":7}")),
    row("exec", "additional-gids", "-g 8 --detach", Object("\"additionalGids\":[8]")),
    row("exec", "cwd", "--cwd /x --detach", Object("\"cwd\":\"/x\"")),
    row("exec", "env", "--env A=2 --detach", Object("\"env\":[\"PATH=/bin\",\"A=2\"]")),
    row("exec", "cap", "--cap CAP_KILL --detach", Object("\"CAP_KILL\"")),
    row("exec", "apparmor", "--apparmor p --detach", Object("\"apparmorProfile\":\"p\"")),
    row("exec", "process-label", "--process-label l --detach", Object("\"selinuxLabel\":\"l\"")),
    row("exec", "no-new-privs", "--no-new-privs --detach", Object("\"noNewPrivileges\":true")),
    probed("exec", "preserve-fds", "--preserve-fds 1", Words("--preserve-fds 1"), "exec --preserve-fds on the"),
    probed("exec", "ignore-paused", "--ignore-paused", Words("--ignore-paused"), "exec --ignore-paused on the"),
    probed("exec", "cgroup", "--cgroup a:b", Words("--cgroup a:b"), "exec --cgroup on the"),
    row("exec", "detach", "--detach", Words("--detach")),
    row("exec", "pid-file", "--pid-file DIR/p", Words("--pid-file DIR/p")),
    probed("exec", "exit-record", "--exit-record DIR/r", Words("--exit-record DIR/r"), "exec --exit-record on the"),
    row("exec", "console-socket", "--console-socket DIR/s", Words("--console-socket DIR/s")),
    probed("exec", "pidfd-socket", "--pidfd-socket DIR/s", Words("--pidfd-socket DIR/s"), "exec --pidfd-socket on the"),
    // Neither crun nor runc adopts anybody at exec.
    row("exec", "no-subreaper", "--no-subreaper", Ours),
    row("ps", "format", "--format json", Ours),
    probed(
        "events",
        "stats",
        "--stats",
        Instead("--root ROOT --log /dev/null --log-format text events --stats c"),
        "events on the",
    ),
    probed(
        "events",
        "interval",
        "--interval 2s",
        Instead("--root ROOT --log /dev/null --log-format text events --interval 2000000000ns c"),
        "events on the",
    ),
    // Both are told from what a runtime's own --stats says.
    row("events", "all", "", Apart),
    row("events", "format", "", Apart),
    row("update", "resources", "--resources DIR/limits", Instead(r#"update {"unified":{"a.b":"1"}}"#)),
    limit("blkio-weight", "--blkio-weight 20", r#"update {"blockIO":{"weight":20}}"#, "update --blkio-weight on the"),
    limit("cpu-period", "--cpu-period 5", r#"update {"cpu":{"period":5}}"#, "update --cpu-period on the"),
    limit("cpu-quota", "--cpu-quota 5", r#"update {"cpu":{"quota":5}}"#, "update --cpu-quota on the"),
    limit("cpu-burst", "--cpu-burst 5", r#"update {"cpu":{"burst":5}}"#, "update --cpu-burst on the"),
    limit("cpu-share", "--cpu-share 5", r#"update {"cpu":{"shares":5}}"#, "update --cpu-share on the"),
    limit(
        "cpu-rt-period",
        "--cpu-rt-period 5",
        r#"update {"cpu":{"realtimePeriod":5}}"#,
        "update --cpu-rt-period on the",
    ),
    limit(
        "cpu-rt-runtime",
        "--cpu-rt-runtime 5",
        r#"update {"cpu":{"realtimeRuntime":5}}"#,
        "update --cpu-rt-runtime on the",
    ),
    limit("cpu-idle", "--cpu-idle 1", r#"update {"cpu":{"idle":1}}"#, "update --cpu-idle on the"),
    limit("cpuset-cpus", "--cpuset-cpus 0", r#"update {"cpu":{"cpus":"0"}}"#, "update --cpuset-cpus on the"),
    limit("cpuset-mems", "--cpuset-mems 0", r#"update {"cpu":{"mems":"0"}}"#, "update --cpuset-mems on the"),
    limit("memory", "--memory 5", r#"update {"memory":{"limit":5}}"#, "update --memory on the"),
    limit(
        "memory-reservation",
        "--memory-reservation 5",
        r#"update {"memory":{"reservation":5}}"#,
        "update --memory-reservation on the",
    ),
    limit("memory-swap", "--memory-swap 5", r#"update {"memory":{"swap":5}}"#, "update --memory-swap on the"),
    limit("kernel-memory", "--kernel-memory 5", r#"update {"memory":{"kernel":5}}"#, "update --kernel-memory on the"),
    limit(
        "kernel-memory-tcp",
        "--kernel-memory-tcp 5",
        r#"update {"memory":{"kernelTCP":5}}"#,
        "update --kernel-memory-tcp on the",
    ),
    limit("pids-limit", "--pids-limit 5", r#"update {"pids":{"limit":5}}"#, "update --pids-limit on the"),
    row("update", "l3-cache-schema", "--l3-cache-schema x", Refused("--l3-cache-schema: Intel RDT is not supported")),
    row("update", "mem-bw-schema", "--mem-bw-schema x", Refused("--mem-bw-schema: Intel RDT is not supported")),
    row("wait", "format", "--format json", Refused("its process is known to another runtime")),
    row("list", "format", "--format json", Ours),
    row("list", "quiet", "--quiet", Ours),
    row("gc", "apply", "--apply", Ours),
    row("gc", "stopped", "--stopped", Ours),
    row("gc", "format", "--format json", Ours),
    row("checkpoints", "apply", "", Apart),
    row("checkpoints", "format", "", Apart),
    row("checkpoints", "from", "", Apart),
    row("checkpoints", "input", "", Apart),
    row("checkpoints", "output", "", Apart),
    row("checkpoint", "auto-dedup", "--auto-dedup", NO_MEMORY),
    row("checkpoint", "check", "--check", NO_MEMORY),
    row("checkpoint", "disk", "--disk none", NO_MEMORY),
    row("checkpoint", "empty-ns", "--empty-ns network", NO_MEMORY),
    row("checkpoint", "ext-unix-sk", "--ext-unix-sk", NO_MEMORY),
    row("checkpoint", "file-locks", "--file-locks", NO_MEMORY),
    row("checkpoint", "image-path", "--image-path DIR/images", NO_MEMORY),
    row("checkpoint", "lazy-pages", "--lazy-pages", NO_MEMORY),
    row("checkpoint", "leave-running", "--leave-running", NO_MEMORY),
    row("checkpoint", "link-remap", "--link-remap", NO_MEMORY),
    row("checkpoint", "manage-cgroups-mode", "--manage-cgroups-mode soft", NO_MEMORY),
    row("checkpoint", "name", "--name n", NO_MEMORY),
    row("checkpoint", "page-server", "--page-server 127.0.0.1:9", NO_MEMORY),
    row("checkpoint", "parent-path", "--parent-path p", NO_MEMORY),
    row("checkpoint", "pre-dump", "--pre-dump", NO_MEMORY),
    row("checkpoint", "shell-job", "--shell-job", NO_MEMORY),
    row("checkpoint", "status-fd", "--status-fd 1", NO_MEMORY),
    row("checkpoint", "tcp-established", "--tcp-established", NO_MEMORY),
    row("checkpoint", "tcp-skip-in-flight", "--tcp-skip-in-flight", NO_MEMORY),
    row("checkpoint", "work-path", "--work-path DIR/work", NO_MEMORY),
    row("restore", "as", "", Apart),
    row("restore", "auto-dedup", "", Apart),
    row("restore", "bundle", "", Apart),
    row("restore", "console-socket", "", Apart),
    row("restore", "count", "", Apart),
    row("restore", "detach", "", Apart),
    row("restore", "empty-ns", "", Apart),
    row("restore", "ext-unix-sk", "", Apart),
    row("restore", "file-locks", "", Apart),
    row("restore", "image-path", "", Apart),
    row("restore", "lazy-pages", "", Apart),
    row("restore", "lsm-mount-context", "", Apart),
    row("restore", "lsm-profile", "", Apart),
    row("restore", "manage-cgroups-mode", "", Apart),
    row("restore", "name", "", Apart),
    row("restore", "no-pivot", "", Apart),
    row("restore", "no-subreaper", "", Apart),
    row("restore", "pid-file", "", Apart),
    row("restore", "rollback", "", Apart),
    row("restore", "shell-job", "", Apart),
    row("restore", "tcp-established", "", Apart),
    row("restore", "verify", "", Apart),
    row("restore", "work-path", "", Apart),
    row("spec", "bundle", "", Apart),
    row("spec", "rootless", "", Apart),
    row("plan", "bundle", "", Apart),
    row("plan", "format", "", Apart),
    row("doctor", "format", "", Apart),
    row("config", "format", "", Apart),
    row("config", "map", "", Apart),
    row("route", "bundle", "", Apart),
    row("route", "argv0", "", Apart),
    row("route", "format", "", Apart),
];
