//! Bundles that ask for a container which cannot be: root, process, command, mounts, namespaces, hooks.

use super::{Broken, Expect::*};
use harness::json;
use std::fs;

pub(super) fn rows() -> Vec<Broken> {
    let row = |name, expect, make| Broken { name, expect, make };
    vec![
        row("root is missing", Refused(&["root"], "root"), |case| case.remove("/root")),
        row("root has no path", Refused(&["path"], "root"), |case| case.remove("/root/path")),
        row(
            "the root file system does not exist",
            Refused(&["nowhere", "No such file or directory"], "root/path"),
            |case| case.set("/root/path", json!("nowhere")),
        ),
        row("the root file system is a file", Refused(&["file", "Not a directory"], "root/path"), |case| {
            fs::write(case.bundle.dir().join("file"), "").expect("a file");
            case.set("/root/path", json!("file"))
        }),
        row("process is missing", Refused(&["process"], "process"), |case| case.remove("/process")),
        row("args is missing", Refused(&["args"], "process/args"), |case| case.remove("/process/args")),
        row("args is empty", Refused(&["args"], "process/args"), |case| case.set("/process/args", json!([]))),
        row("the command is an empty string", Refused(&["args"], "process/args/0"), |case| {
            case.set("/process/args", json!([""]))
        }),
        row("cwd is missing", Refused(&["cwd"], "process"), |case| case.remove("/process/cwd")),
        row("cwd is relative", Refused(&["\"tmp\"", "absolute"], "process/cwd"), |case| {
            case.set("/process/cwd", json!("tmp"))
        }),
        row("cwd is a file", Refused(&["/bin/attacker", "Not a directory"], "process/cwd"), |case| {
            case.set("/process/cwd", json!("/bin/attacker"))
        }),
        row(
            "the command is missing",
            Refused(&["/bin/nothing", "no such file or directory"], "process/args/0"),
            |case| case.set("/process/args", json!(["/bin/nothing"])),
        ),
        row(
            "the command is not in PATH",
            Refused(&["nothing", "executable file not found in $PATH"], "process/args/0"),
            |case| case.set("/process/args", json!(["nothing"])),
        ),
        row("the command is not executable", Refused(&["/bin/plain", "permission denied"], "process/args/0"), |case| {
            case.file("bin/plain", "#!/bin/attacker\n", 0o644).set("/process/args", json!(["/bin/plain"]))
        }),
        row("the command is a directory", Refused(&["/bin", "directory"], "process/args/0"), |case| {
            case.set("/process/args", json!(["/bin"]))
        }),
        row(
            "the command's interpreter is missing",
            Refused(&["/bin/script", "/bin/no-shell"], "process/args/0"),
            |case| case.file("bin/script", "#!/bin/no-shell\n", 0o755).set("/process/args", json!(["/bin/script"])),
        ),
        row("the command is no program", Refused(&["/bin/words"], "process/args/0"), |case| {
            case.file("bin/words", "just words\n", 0o755).set("/process/args", json!(["/bin/words"]))
        }),
        row("a capability is unknown", Refused(&["CAP_EVERYTHING"], "process/capabilities/bounding/0"), |case| {
            case.set("/process/capabilities/bounding", json!(["CAP_EVERYTHING"]))
        }),
        row("a limit is unknown", Refused(&["RLIMIT_PATIENCE"], "process/rlimits/0/type"), |case| {
            case.set("/process/rlimits", json!([{"type": "RLIMIT_PATIENCE", "soft": 1, "hard": 1}]))
        }),
        row("a limit is given twice", Refused(&["RLIMIT_NOFILE"], "process/rlimits/1"), |case| {
            let limit = json!({"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64});
            case.set("/process/rlimits", json!([limit, limit]))
        }),
        row("a soft limit is above the hard one", Refused(&["RLIMIT_NOFILE"], "process/rlimits/0"), |case| {
            case.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 65, "hard": 64}]))
        }),
        row("oomScoreAdj is out of range", Refused(&["5000"], "process/oomScoreAdj"), |case| {
            case.set("/process/oomScoreAdj", json!(5000))
        }),
        row("an AppArmor profile without AppArmor", Refused(&["AppArmor"], "process/apparmorProfile"), |case| {
            case.set("/process/apparmorProfile", json!("no-such-profile"))
        }),
        row("an SELinux label without SELinux", Refused(&["SELinux"], "process/selinuxLabel"), |case| {
            case.set("/process/selinuxLabel", json!("system_u:system_r:container_t:s0"))
        }),
        row("a mount has no destination", Refused(&["destination"], "mounts/6"), |case| {
            case.push("/mounts", json!({"type": "tmpfs", "source": "tmpfs"}))
        }),
        row("a mount's destination is empty", Refused(&["destination"], "mounts/6/destination"), |case| {
            case.push("/mounts", json!({"destination": "", "type": "tmpfs", "source": "tmpfs"}))
        }),
        row("a mount's file system is unknown", Refused(&["floppyfs", "/x", "No such device"], "mounts/6"), |case| {
            case.push("/mounts", json!({"destination": "/x", "type": "floppyfs", "source": "none"}))
        }),
        row("a mount's option is unknown", Refused(&["/x", "bogus=1"], "mounts/6"), |case| {
            case.push(
                "/mounts",
                json!({"destination": "/x", "type": "tmpfs", "source": "tmpfs", "options": ["bogus=1"]}),
            )
        }),
        row(
            "a bind's source is missing",
            Refused(&["/no/such/source", "No such file or directory"], "mounts/6"),
            |case| {
                case.push(
                    "/mounts",
                    json!({"destination": "/x", "type": "bind", "source": "/no/such/source", "options": ["bind"]}),
                )
            },
        ),
        row("/proc is a link in the image", Refused(&["/proc"], "mounts/0"), |case| {
            let path = case.bundle.rootfs().join("proc");
            fs::remove_dir(&path).expect("/proc of the image");
            std::os::unix::fs::symlink("/tmp", path).expect("a link");
            case
        }),
        row("a namespace is unknown", Refused(&["parallel"], "linux/namespaces/5/type"), |case| {
            case.push("/linux/namespaces", json!({"type": "parallel"}))
        }),
        row("a namespace is given twice", Refused(&["pid"], "linux/namespaces/5"), |case| {
            case.push("/linux/namespaces", json!({"type": "pid"}))
        }),
        row(
            "a namespace's path is missing",
            Refused(&["/no/such/ns", "No such file or directory"], "linux/namespaces/1"),
            |case| case.set("/linux/namespaces/1/path", json!("/no/such/ns")),
        ),
        row("a namespace's path is of another type", Refused(&["/proc/self/ns/uts"], "linux/namespaces/1"), |case| {
            case.set("/linux/namespaces/1/path", json!("/proc/self/ns/uts"))
        }),
        row("a namespace's path is no namespace", Refused(&["/dev/null"], "linux/namespaces/1"), |case| {
            case.set("/linux/namespaces/1/path", json!("/dev/null"))
        }),
        row("a uid mapping without a user namespace", Refused(&["user namespace"], "linux/uidMappings"), |case| {
            case.set("/linux/uidMappings", json!([{"containerID": 0, "hostID": 1000, "size": 1}]))
        }),
        row("a hostname without a uts namespace", Refused(&["uts"], "hostname"), |case| case.without_namespace("uts")),
        row("a domain name without a uts namespace", Refused(&["uts"], "domainname"), |case| {
            case.without_namespace("uts").remove("/hostname").set("/domainname", json!("example.org"))
        }),
        row("time offsets without a time namespace", Refused(&["time"], "linux/timeOffsets"), |case| {
            case.set("/linux/timeOffsets", json!({"monotonic": {"secs": 10}}))
        }),
        row("a propagation is unknown", Refused(&["sideways"], "linux/rootfsPropagation"), |case| {
            case.set("/linux/rootfsPropagation", json!("sideways"))
        }),
        row("a masked path is relative", Refused(&["\"proc/keys\"", "absolute"], "linux/maskedPaths/0"), |case| {
            case.set("/linux/maskedPaths", json!(["proc/keys"]))
        }),
        row("a hook's path is relative", Refused(&["\"hook\"", "absolute"], "hooks/prestart/0/path"), |case| {
            case.set("/hooks", json!({"prestart": [{"path": "hook"}]}))
        }),
        row("a hook is missing", Refused(&["/no/such/hook"], "hooks/createRuntime/0"), |case| {
            case.set("/hooks", json!({"createRuntime": [{"path": "/no/such/hook"}]}))
        }),
        row("a hook fails", Refused(&["/bin/sh", "3"], "hooks/createRuntime/0"), |case| {
            case.set("/hooks", json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]}]}))
        }),
        row("a hook takes too long", Refused(&["/bin/sh", "1 s"], "hooks/createRuntime/0"), |case| {
            case.set(
                "/hooks",
                json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "sleep 60"], "timeout": 1}]}),
            )
        }),
        row("a hook's timeout is zero", Refused(&["0"], "hooks/createRuntime/0/timeout"), |case| {
            case.set("/hooks", json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", ":"], "timeout": 0}]}))
        }),
    ]
}
