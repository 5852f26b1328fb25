//! Namespaces: host name, networks, processes, pods, sysctls, and the init that Podman puts in front.

use super::super::common::installed;
use super::engine::{IMAGE, Podman, well};
use super::{Case, case};
use crate::notify_socket::Manager;
use harness::{Stop, ensure, ensure_eq};
use std::fs;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("--hostname", "deck; in /etc/hosts", |podman| {
            let seen = podman.sh(&["--hostname", "deck"], "hostname; grep -c deck /etc/hosts")?;
            Ok(if seen == "deck\n1" { "deck; in /etc/hosts".to_owned() } else { seen })
        }),
        case("--uts host", "the host's name", |podman| {
            let seen = podman.sh(&["--uts", "host"], "hostname")?;
            let own = fs::read_to_string("/proc/sys/kernel/hostname")?;
            Ok(if seen == own.trim() { "the host's name".to_owned() } else { seen })
        }),
        case("--network none: loopback alone", "lo", |podman| podman.sh(&["--network", "none"], "ls /sys/class/net")),
        case("--network host: the host's namespace", "the host's", |podman| {
            same(podman, &["--network", "host"], "net", std::process::id() as i32, "the host's")
        }),
        case(
            "--network bridge: an address, the gateway answers, a published port too",
            "10.88.0.x, 0% loss, hello",
            |podman| {
                let script = "ip link set lo up
                $PODMAN run --detach --name web --cgroup-parent /TAG --publish 8080:80 localhost/e2e:1 \
                    sh -c 'echo hello >/tmp/index.html; httpd -f -p 80 -h /tmp' >/dev/null
                $PODMAN run --rm --cap-add NET_RAW --cgroup-parent /TAG localhost/e2e:1 \
                    sh -c \"ip -4 -o addr show dev eth0 | grep -o '10\\.88\\.0\\.'; ping -c 1 -w 9 10.88.0.1 | grep -o '0% packet loss'\"
                $PODMAN run --rm --cgroup-parent /TAG --network host localhost/e2e:1 \
                    sh -c 'for i in $(seq 50); do wget -q -O - http://127.0.0.1:8080/ && break; sleep 0.1; done'
                $PODMAN rm --force --time 0 web >/dev/null";
                let script = podman.script(&["unshare", "--net", "--mount"], &script.replace("TAG", podman.host.tag()));
                let seen = well(podman.host.program(script)?.finish()?)?;
                Ok(seen.replace("10.88.0.\n", "10.88.0.x, ").replace(" packet", "").replace('\n', ", "))
            },
        ),
        case("--network container: and ns:", "both the same", |podman| {
            podman.start("c", &[], &["sleep", "1000"])?;
            let pid = podman.pid("c")?;
            let first = same(podman, &["--network", "container:c"], "net", pid, "same")?;
            let second = same(podman, &["--network", &format!("ns:/proc/{pid}/ns/net")], "net", pid, "same")?;
            Ok(if first == second && first == "same" {
                "both the same".to_owned()
            } else {
                format!("{first} {second}")
            })
        }),
        case("--pid host: the host's processes", "sees the test itself", |podman| {
            let own = std::process::id();
            podman.sh(&["--pid", "host"], &format!("[ -d /proc/{own} ] && echo sees the test itself"))
        }),
        case("--pid container:", "sleep 4321 seen", |podman| {
            podman.start("c", &[], &["sleep", "4321"])?;
            podman.sh(&["--pid", "container:c"], "tr '\\0' ' ' </proc/1/cmdline; echo seen")
        }),
        case("--pid private: the command is process 1", "1", |podman| podman.sh(&[], "echo $$")),
        case("--ipc host, container: and private", "the host's, the other's, its own", |podman| {
            let own = std::process::id() as i32;
            let host = same(podman, &["--ipc", "host"], "ipc", own, "the host's")?;
            podman.start("c", &["--ipc", "shareable"], &["sleep", "1000"])?;
            let pid = podman.pid("c")?;
            let other = same(podman, &["--ipc", "container:c"], "ipc", pid, "the other's")?;
            let private = same(podman, &["--ipc", "private"], "ipc", own, "the host's")?;
            ensure!(private.starts_with("ipc:"), "private: {private}");
            Ok(format!("{host}, {other}, its own"))
        }),
        case("--userns container:", "the same", |podman| {
            let options = ["--uidmap", "0:100000:1000", "--gidmap", "0:100000:1000"];
            podman.start("c", &options, &["sleep", "1000"])?;
            let pid = podman.pid("c")?;
            same(podman, &["--userns", "container:c", "--network", "none"], "user", pid, "the same")
        }),
        case("--sysctl", "1 and 2048", |podman| {
            let options = ["--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "fs.mqueue.msg_max=2048"];
            podman.sh(&options, "echo $(cat /proc/sys/net/ipv4/ip_forward) and $(cat /proc/sys/fs/mqueue/msg_max)")
        }),
        case("--init: catatonit is process 1, and reaps", "catatonit, 0 zombies", |podman| {
            let script = "(sleep 0.05 & exec sh -c 'exit 0') ; sleep 0.3; basename $(cut -d' ' -f1 /proc/1/cmdline | tr '\\0' '\\n' | head -1); \
                grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l";
            installed("catatonit")?;
            let seen = podman.sh(&["--init"], script)?;
            Ok(seen.replace("catatonit", "x").replace("podman-init", "x").replace("x\n0", "catatonit, 0 zombies"))
        }),
        case(
            "--systemd always: /run a tmpfs, container set, its cgroup writable",
            "tmpfs, container=podman, stop signal 37",
            |podman| {
                let script = "awk '$2 == \"/run\" {print $3}' /proc/mounts; echo container=$container; sleep 1000";
                podman.start("c", &["--systemd", "always"], &["sh", "-c", script])?;
                let log = podman.wait_for_log("c", "container=")?;
                let signal = podman.inspect("c", "{{.Config.StopSignal}}")?.replace("SIGRTMIN+3", "37");
                Ok(format!("{}, stop signal {signal}", log.trim().replace('\n', ", ").replace("oci", "podman")))
            },
        ),
        case("--sdnotify container: READY is the payload's own word", "nothing, then READY=1, running", notified),
        case("--tz, --timezone and localtime are Podman's; the clock is the host's", "same day", |podman| {
            let seen = podman.sh(&[], "date +%s")?.parse::<u64>()?;
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
            Ok(if now.abs_diff(seen) < 3600 { "same day" } else { "another" }.to_owned())
        }),
        case(
            "a pod of two containers: network, ipc and host name shared, processes not",
            "net same, ipc same, uts same, pid not",
            |podman| {
                pod(podman)?;
                let (a, b) = (podman.pid("a")?, podman.pid("b")?);
                let mut seen = Vec::new();
                for kind in ["net", "ipc", "uts", "pid"] {
                    let link = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/{kind}"));
                    seen.push(format!("{kind} {}", if link(a)? == link(b)? { "same" } else { "not" }));
                }
                Ok(seen.join(", "))
            },
        ),
        case("a pod of two containers: one reaches the other over loopback", "hello", |podman| {
            pod(podman)?;
            let words = [
                "run",
                "--rm",
                "--pod",
                "p",
                IMAGE,
                "sh",
                "-c",
                "for i in $(seq 50); do wget -q -O - http://127.0.0.1:8000/ && break; sleep 0.1; done",
            ];
            podman.must(&words)
        }),
        case("a pod: stop, start and remove", "2 stopped, 2 running, none left", |podman| {
            pod(podman)?;
            let count = |state: &str| -> Result<usize, Stop> {
                let text = podman.must(&["ps", "--all", "--format", "{{.Status}} {{.IsInfra}}"])?;
                Ok(text.lines().filter(|line| line.starts_with(state) && line.ends_with("false")).count())
            };
            podman.must(&["pod", "stop", "--time", "0", "p"])?;
            let stopped = count("Exited")?;
            podman.must(&["pod", "start", "p"])?;
            let running = count("Up")?;
            podman.must(&["pod", "rm", "--force", "--time", "0", "p"])?;
            ensure_eq!(podman.must(&["ps", "--all", "--quiet"])?, "");
            Ok(format!("{stopped} stopped, {running} running, none left"))
        }),
        case("a pod of shared processes", "1 first process", |podman| {
            podman.must(&[
                "pod",
                "create",
                "--name",
                "p",
                "--share",
                "pid,net,ipc,uts",
                "--network",
                "none",
                "--cgroup-parent",
                &format!("/{}", podman.host.tag()),
                "--infra-image",
                IMAGE,
                "--infra-command",
                "sleep 1000",
            ])?;
            podman.start("a", &["--pod", "p"], &["sleep", "777"])?;
            let seen = podman.must(&[
                "run",
                "--rm",
                "--pod",
                "p",
                IMAGE,
                "sh",
                "-c",
                "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 777'",
            ])?;
            Ok(format!("{seen} first process"))
        }),
    ]
}

/// `told` where the container's namespace is that of `pid`, else the namespace.
fn same(podman: &Podman, options: &[&str], kind: &str, pid: i32, told: &str) -> Result<String, Stop> {
    let seen = podman.sh(options, &format!("readlink /proc/self/ns/{kind}"))?;
    let other = fs::read_link(format!("/proc/{pid}/ns/{kind}"))?;
    Ok(if seen == other.display().to_string() { told.to_owned() } else { seen })
}

/// A pod `p` of `a`, which serves a page, and `b`.
pub(crate) fn pod(podman: &Podman) -> Result<(), Stop> {
    let parent = format!("/{}", podman.host.tag());
    let words = ["pod", "create", "--name", "p", "--network", "none", "--cgroup-parent", &parent];
    podman.must(&[&words[..], &["--infra-image", IMAGE, "--infra-command", "sleep 1000"]].concat())?;
    let serve = "echo hello >/tmp/index.html; httpd -f -p 127.0.0.1:8000 -h /tmp";
    podman.start("a", &["--pod", "p"], &["sh", "-c", serve])?;
    podman.start("b", &["--pod", "p"], &["sleep", "1000"])
}

/// conmon's socket is the payload's, and Podman passes on what is said there.
fn notified(podman: &Podman) -> Result<String, Stop> {
    let manager = Manager::new(podman.host)?;
    let place = podman.host.new_dir("sign")?;
    let (sign, payload) =
        (format!("{}:/sign", place.display()), format!("{}:/payload:ro", podman.host.payload().display()));
    let options = ["--detach", "--name", "c", "--sdnotify", "container", "--volume", &sign, "--volume", &payload];
    let script = ["/payload", "wait-file", "/sign/go", ";", "notify", "READY=1", ";", "sleep"];
    let words = podman.words(&["run"], &options, &script);
    let mut command = podman.command(&words.iter().map(String::as_str).collect::<Vec<_>>());
    command.env("NOTIFY_SOCKET", &manager.name);
    let running = podman.host.program(command)?;
    podman.wait_for("the container", || {
        Ok((podman.inspect("c", "{{.State.Status}}").ok().as_deref() == Some("running")).then_some(()))
    })?;
    let early = manager.heard(500)?.contains("READY=1");
    std::fs::write(place.join("go"), "")?;
    manager.until(|said| said.contains("READY=1"))?;
    let finished = running.finish()?;
    let status =
        if finished.code() == Some(0) { podman.inspect("c", "{{.State.Status}}")? } else { finished.to_string() };
    Ok(format!("{}, then READY=1, {status}", if early { "READY=1 too early" } else { "nothing" }))
}
