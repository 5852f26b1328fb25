//! Options of `docker run`, each seen from inside of the container.

use super::case;
use crate::engines::Case;
use crate::engines::common::code;
use harness::{Stop, json};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("--user, --group-add, --env, --workdir, --hostname hold", "1000 1000 2000 tall /tmp sea", |docker| {
            let options = [
                "--user",
                "sailor",
                "--group-add",
                "harbour",
                "--env",
                "SHIP=tall",
                "--workdir",
                "/tmp",
                "--hostname",
                "sea",
            ];
            let script = "echo $(id -u) $(id -G) $SHIP $PWD $(hostname)";
            docker.prints(&options, &["sh", "-c", script])
        })
        .unlike("crun", "keeps a group that is named twice"),
        case("--read-only with --tmpfs leaves only the tmpfs to write to", "1 0 rw,nosuid,nodev,noexec", |docker| {
            let script = "touch /new 2>/dev/null; a=$?; touch /scratch/new; echo $a $? \
                          $(awk '$2 == \"/scratch\" { print $4 }' /proc/mounts | cut -d, -f1-4)";
            docker.prints(&["--read-only", "--tmpfs", "/scratch"], &["sh", "-c", script])
        }),
        case("--cap-drop and --cap-add change the five sets", "0000000000001001 0000000000001001", |docker| {
            let script = "sed -n 's/^Cap\\(Eff\\|Bnd\\):\t//p' /proc/self/status";
            let options = ["--cap-drop", "ALL", "--cap-add", "CHOWN", "--cap-add", "NET_ADMIN"];
            Ok(docker.prints(&options, &["sh", "-c", script])?.replace('\n', " "))
        }),
        case("--security-opt no-new-privileges holds", "1", |docker| {
            docker.prints(
                &["--security-opt", "no-new-privileges"],
                &["sed", "-n", "s/^NoNewPrivs:\t//p", "/proc/self/status"],
            )
        }),
        case(
            "the default seccomp profile refuses, unconfined allows, a profile of one's own is heeded",
            "2 1, 0 0, 28",
            |docker| {
                // ADDR_NO_RANDOMIZE: what a security module may refuse too, as a new user namespace, would tell nothing.
                let script = "sed -n 's/^Seccomp:\t//p' /proc/self/status; \
                    /payload syscall personality 0x40000 | grep -c EPERM; true";
                let payload = format!("{}:/payload:ro", docker.host.payload().display());
                let seen = |options: &[&str]| -> Result<String, Stop> {
                    let options = [&["--volume", &*payload], options].concat();
                    Ok(docker.prints(&options, &["sh", "-c", script])?.replace('\n', " "))
                };
                let file = docker.host.dir().join("profile.json");
                let rule = json!({ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28 });
                std::fs::write(&file, json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }).to_string())?;
                let own = format!("seccomp={}", file.display());
                let own = docker.run(&["--security-opt", &own], &["mkdir", "/made"])?;
                let told = if own.stderr.contains("No space left on device") { "28" } else { own.stderr.as_str() };
                Ok(format!("{}, {}, {told}", seen(&[])?, seen(&["--security-opt", "seccomp=unconfined"])?))
            },
        ),
        case("--sysctl is set in the container's namespace", "4242", |docker| {
            docker.prints(&["--sysctl", "kernel.shmmni=4242"], &["cat", "/proc/sys/kernel/shmmni"])
        }),
        case("--device adds a device that can be used, others cannot", "8, refused", |docker| {
            // 1:9 is urandom, 1:2 the memory (Documentation/admin-guide/devices.txt).
            let options = ["--device", "/dev/urandom:/dev/chance", "--cap-add", "MKNOD"];
            let script =
                "head -c 8 /dev/chance | wc -c; mknod /tmp/mem c 1 2 && head -c 1 /tmp/mem 2>/dev/null || echo refused";
            Ok(docker.prints(&options, &["sh", "-c", script])?.replace('\n', ", "))
        }),
        case("--init reaps what the payload leaves", "docker-init 0", |docker| {
            if !std::path::Path::new("/usr/bin/docker-init").exists()
                && !std::path::Path::new("/usr/libexec/docker/docker-init").exists()
            {
                return Err(Stop::skipped("docker-init is not installed"));
            }
            let id = docker.detached(&["--init"], &["sh", "-c", "sh -c 'sleep 0.1 &'; sleep 1000"])?;
            std::thread::sleep(std::time::Duration::from_millis(400));
            let script = "echo $(cat /proc/1/comm) $(grep -l 'State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l)";
            Ok(code(docker.exec(&[], &id, &["sh", "-c", script])?, 0)?.stdout.trim().to_owned())
        }),
        case("masked and read-only paths of /proc and /sys hold", "0 1 1", |docker| {
            let script = "cat /proc/keys /proc/timer_list | wc -c; (echo 1 >/proc/sys/vm/swappiness) 2>/dev/null; echo $?; \
                          (echo 1 >/sys/kernel/mm/ksm/run) 2>/dev/null; echo $?";
            Ok(docker.prints(&[], &["sh", "-c", script])?.replace('\n', " "))
        }),
        case("the host's pid, ipc and uts namespaces can be shared", "same same same", |docker| {
            let own = |kind: &str| -> Result<String, Stop> {
                Ok(std::fs::read_link(format!("/proc/self/ns/{kind}"))?.to_string_lossy().into_owned())
            };
            let options = ["--pid", "host", "--ipc", "host", "--uts", "host"];
            let seen = docker
                .prints(&options, &["sh", "-c", "for kind in pid ipc uts; do readlink /proc/self/ns/$kind; done"])?;
            let mut words = Vec::new();
            for (kind, link) in ["pid", "ipc", "uts"].into_iter().zip(seen.lines()) {
                words.push(if own(kind)? == link { "same" } else { "another" });
            }
            Ok(words.join(" "))
        }),
        case("another container's pid, ipc and network namespaces can be shared", "same same same", |docker| {
            let id = docker.detached(&["--ipc", "shareable"], &["sleep", "1000"])?;
            let pid = docker.pid(&id)?;
            let other = format!("container:{id}");
            let options = ["--pid", &other, "--ipc", &other, "--network", &other];
            let seen = docker
                .prints(&options, &["sh", "-c", "for kind in pid ipc net; do readlink /proc/self/ns/$kind; done"])?;
            let mut words = Vec::new();
            for (kind, link) in ["pid", "ipc", "net"].into_iter().zip(seen.lines()) {
                let theirs = std::fs::read_link(format!("/proc/{pid}/ns/{kind}"))?;
                words.push(if theirs.to_string_lossy() == link { "same" } else { "another" });
            }
            Ok(words.join(" "))
        }),
    ]
}
