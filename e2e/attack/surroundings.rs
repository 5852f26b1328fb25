//! What lies around a container: cgroups, hooks, the caller's environment, the bundle itself.

use super::arena::{Arena, Runtime, SECRET};
use super::{Attack, Verdict, settle};
use harness::json;
use std::fs;
use std::path::Path;

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack {
            name: "cgroups_path_climbs",
            cve: "path traversal",
            what: "linux.cgroupsPath climbs with `..` above the root of the hierarchy",
            run: |runtime| climbing(runtime, |id| format!("../../../{id}")),
        },
        Attack {
            name: "cgroups_path_climbs_when_absolute",
            cve: "path traversal",
            what: "linux.cgroupsPath is absolute and climbs with `..` above the root of the hierarchy",
            run: |runtime| climbing(runtime, |id| format!("/x/../../../{id}")),
        },
        Attack {
            name: "cgroup_mount_is_written",
            cve: "2023-25809",
            what: "the payload writes to a read-only cgroup mount, to the release agent and to a limit",
            run: cgroup_write,
        },
        Attack {
            name: "environment_of_the_caller_in_hooks",
            cve: "secrets in the environment",
            what: "the caller has a secret in its environment, and a hook without `env` looks for it",
            run: |runtime| hook_environment(runtime, false),
        },
        Attack {
            name: "environment_of_the_caller_beside_env_of_hooks",
            cve: "secrets in the environment",
            what: "the same with a hook that has an `env`",
            run: |runtime| hook_environment(runtime, true),
        },
        Attack {
            name: "environment_of_the_caller_in_the_payload",
            cve: "secrets in the environment",
            what: "the caller has a secret in its environment, and the payload looks for it in its own and in pid 1's",
            run: payload_environment,
        },
        Attack {
            name: "rootfs_is_a_link_to_the_host",
            cve: "path traversal",
            what: "the bundle's rootfs is a link to a directory of the host that is not a root file system",
            run: linked_rootfs,
        },
        Attack {
            name: "state_is_looked_for",
            cve: "path traversal",
            what: "the runtime's own state and record are looked for from inside the container",
            run: state_is_hidden,
        },
    ]
}

fn climbing(runtime: &Runtime<'_>, path: fn(&str) -> String) -> Verdict {
    let mut arena = Arena::new(runtime, &["cat", "/proc/self/cgroup"]);
    arena.config["linux"]["cgroupsPath"] = json!(path(&arena.id));
    let before = arena.inventory();
    let wrapper = format!(
        "\"$@\"; code=$?; for dir in /sys/fs/cgroup/{id} /sys/fs/{id} /sys/{id} /{id}; do if [ -e $dir ]; then echo OUTSIDE $dir; rmdir $dir; fi; done; exit $code",
        id = arena.id
    );
    arena.config["hooks"] = json!({"poststart": [{
        "path": "/bin/sh",
        "args": ["sh", "-c", format!(
            "for dir in /sys/fs/cgroup/{id} /sys/fs/{id} /sys/{id} /{id}; do if [ -e $dir ]; then echo $dir >> {host}/outside; fi; done",
            id = arena.id, host = arena.host().display()
        )]
    }]});
    arena.wrapper = Some(wrapper);
    let ran = arena.run(runtime);
    if ran.out.contains("OUTSIDE") || arena.host().join("outside").exists() {
        return Verdict::Hit("a directory was made outside of the cgroup hierarchies".into());
    }
    settle(&arena, runtime, &before, &ran)
}

fn cgroup_write(runtime: &Runtime<'_>) -> Verdict {
    let mut arena = Arena::new(
        runtime,
        &[
            "ls",
            "/sys/fs/cgroup",
            ";",
            "put",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "1073741824",
            ";",
            "put",
            "/sys/fs/cgroup/memory/cgroup.procs",
            "0",
            ";",
            "put",
            "/sys/fs/cgroup/cgroup.procs",
            "0",
        ],
    );
    arena.mount(json!({
        "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]
    }));
    let before = arena.inventory();
    let ran = arena.run(runtime);
    if ran.out.contains(": done") {
        return Verdict::Hit("a file of a read-only cgroup mount was written".into());
    }
    if ran.alive() && !ran.out.contains("Read-only file system") {
        return Verdict::Void(format!("no cgroup file was there to write: {}", ran.out));
    }
    settle(&arena, runtime, &before, &ran)
}

fn hook_environment(runtime: &Runtime<'_>, own: bool) -> Verdict {
    let mut arena = Arena::new(runtime, &[]);
    let seen = arena.dir.join("seen");
    let mut hook = json!({
        "path": "/bin/sh",
        "args": ["sh", "-c", format!("tr '\\0' '\\n' < /proc/$$/environ > {0}; echo END >> {0}", seen.display())]
    });
    if own {
        hook["env"] = json!(["PATH=/bin:/usr/bin", "OWN=1"]);
    } else {
        // Without PATH only builtins and absolute paths are safe to call.
        let script = format!("/bin/cat /proc/$$/environ > {0}; echo END >> {0}", seen.display());
        hook["args"] = json!(["sh", "-c", script]);
    }
    arena.config["hooks"] = json!({"prestart": [hook]});
    let before = arena.inventory();
    let ran = arena.run(runtime);
    let text = fs::read_to_string(&seen).unwrap_or_default();
    if text.contains(SECRET) {
        return Verdict::Hit("the hook read the caller's secret".into());
    }
    if ran.alive() && !text.contains("END") {
        return Verdict::Void(format!("the hook did not run: {}", ran.said()));
    }
    if ran.alive() && own && !text.contains("OWN=1") {
        return Verdict::Void(format!("the hook did not get its own environment: {text:?}"));
    }
    settle(&arena, runtime, &before, &ran)
}

fn payload_environment(runtime: &Runtime<'_>) -> Verdict {
    let arena = Arena::new(runtime, &["env", ";", "cat", "/proc/1/environ"]);
    let before = arena.inventory();
    let ran = arena.run(runtime);
    if ran.alive() && ran.line("cat /proc/1/environ").is_none_or(|line| !line.contains("PATH=")) {
        return Verdict::Void(format!("the environment could not be read: {}", ran.out));
    }
    settle(&arena, runtime, &before, &ran)
}

/// The host's directory is no root file system: nothing may be made in it.
fn linked_rootfs(runtime: &Runtime<'_>) -> Verdict {
    let mut arena = Arena::new(runtime, &["cat", "/secret"]);
    let link = arena.dir.join("bundle/link");
    std::os::unix::fs::symlink(arena.host(), &link).expect("a link");
    arena.config["root"]["path"] = json!("link");
    arena.config["mounts"] = json!([{"destination": "/made/by/the/runtime", "type": "tmpfs", "source": "tmpfs"}]);
    let before = arena.inventory();
    let ran = arena.run(runtime);
    settle(&arena, runtime, &before, &ran)
}

fn state_is_hidden(runtime: &Runtime<'_>) -> Verdict {
    let mut arena = Arena::new(runtime, &[]);
    let state = arena.root().display().to_string().trim_start_matches('/').to_owned();
    let record = format!("{state}/{}/record.json", arena.id);
    arena = arena.payload(&["reach", &record, ";", "cat", &format!("/{record}"), ";", "cat", "/proc/1/mountinfo"]);
    let before = arena.inventory();
    let ran = arena.run(runtime);
    if ran.out.contains("REACHED") {
        return Verdict::Hit("the payload read its own record".into());
    }
    if Path::new(&format!("/{state}")).join(&arena.id).exists() {
        return Verdict::Hit("the state directory outlived the container".into());
    }
    settle(&arena, runtime, &before, &ran)
}
