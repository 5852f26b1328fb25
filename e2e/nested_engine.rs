//! An engine within a container: Podman, with wharf as its runtime, in a container of wharf's.

use harness::{Bundle, Feature, Host, Stop, ensure, json};
use std::path::Path;

/// What Podman hands to its own containers, and what it needs itself.
const CAPABILITIES: [&str; 16] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
];

/// Runs in the outer container. On cgroup v2 its own processes make room first: no cgroup has both processes and
/// controllers for those below (cgroups(7)).
const SCRIPT: &str = r#"
set -e
export PATH=/usr/bin:/usr/sbin:/bin:/sbin HOME=/root
if [ -e /sys/fs/cgroup/cgroup.procs ]; then
    mkdir /sys/fs/cgroup/outer
    for pid in $(cat /sys/fs/cgroup/cgroup.procs); do echo $pid >/sys/fs/cgroup/outer/cgroup.procs || true; done
fi
mkdir -p /var/tmp /tmp/image/bin
cp /bin/busybox /tmp/image/bin/
ln -s busybox /tmp/image/bin/sh
ln -s busybox /tmp/image/bin/sleep
tar -C /tmp/image -cf /tmp/image.tar .
engine() {
    podman --network-config-dir /tmp/networks --storage-driver vfs --cgroup-manager cgroupfs --events-backend file --runtime /tmp/wharf "$@"
}
engine import --quiet /tmp/image.tar nested >/dev/null
echo run: $(engine run --rm --network none nested sh -c 'echo $$; exit 0')
engine run --rm --network none nested sh -c 'exit 42' || echo code: $?
engine run --detach --name c --network none --memory 64m --pids-limit 20 nested sleep 1000 >/dev/null
echo exec: $(engine exec c sh -c 'read first </proc/1/comm; echo $first')
echo runtime: $(engine inspect --format '{{.OCIRuntime}}' c)
/tmp/wharf list --quiet | wc -l | sed 's/^/listed: /'
engine stop --time 0 c >/dev/null
engine rm c >/dev/null
echo left: $(engine ps --all --quiet | wc -l)
"#;

pub(crate) fn trials() -> Feature {
    Feature::new("nested_engine").trial("Podman in a container of wharf's runs containers of wharf's", |host| {
        let bundle = outer(host)?;
        let ran = host.run(&bundle)?.finished;
        ensure!(ran.code() == Some(0), "{ran}");
        for line in ["run: 1\n", "code: 42\n", "exec: sleep\n", "runtime: /tmp/wharf\n", "listed: 1\n", "left: 0\n"] {
            ensure!(ran.stdout.contains(line), "no {line:?}: {ran}");
        }
        Ok(())
    })
}

/// With the host's programs, places to write, and a cgroup tree that is the container's own.
fn outer(host: &Host) -> Result<Bundle, Stop> {
    for program in ["/usr/bin/podman", "/usr/bin/conmon", "/bin/busybox"] {
        if !Path::new(program).exists() {
            return Err(Stop::skipped(format!("{program} is not installed")));
        }
    }
    if !Path::new("/lib").is_symlink() {
        return Err(Stop::skipped("/lib is no link to /usr/lib"));
    }
    let mut bundle = host.bundle()?;
    std::fs::remove_dir_all(bundle.rootfs().join("bin"))?;
    for name in ["bin", "sbin", "lib", "lib64"] {
        bundle = bundle.symlink(&format!("usr/{name}"), &format!("/{name}"))?;
    }
    let wharf = host.runtime.program().display().to_string();
    let sets = ["bounding", "effective", "permitted"];
    let bundle = ["/run", "/tmp", "/var"].into_iter().try_fold(bundle, |bundle, place| {
        bundle.directory(place).map(|bundle| bundle.mount(place, "tmpfs", "tmpfs", &["mode=755"]))
    })?;
    Ok(bundle
        .directory("/usr")?
        .mount("/usr", "bind", "/usr", &["rbind", "ro"])
        .mount("/etc", "bind", "/etc", &["rbind", "ro"])
        .mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"])
        .mount("/tmp/wharf", "bind", &wharf, &["bind", "ro"])
        .capabilities(&sets, &CAPABILITIES)
        .namespace("cgroup", None)
        .set("/linux/maskedPaths", json!([]))
        .set("/linux/readonlyPaths", json!([]))
        .set("/linux/resources", json!({"devices": [{"allow": true, "access": "rwm"}]}))
        .args(&["/bin/busybox", "sh", "-c", SCRIPT]))
}
