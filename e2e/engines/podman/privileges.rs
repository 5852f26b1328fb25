//! Who the payload is, what it may do, and what is taken from it.

use super::engine::well;
use super::{Case, case};
use std::fs;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(
            "capabilities, no_new_privs and seccomp by default",
            "as Podman counts them, 0, 0, no_new_privs 0, seccomp 2",
            |podman| {
                let script = "grep . /proc/self/status; sleep 1000";
                podman.start("c", &[], &["sh", "-c", script])?;
                let text = podman.wait_for_log("c", "Seccomp:")?;
                let value = |name: &str| {
                    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
                    line.trim_start_matches(":\t").to_owned()
                };
                let mask = |name: &str| u64::from_str_radix(&value(name), 16).unwrap_or(u64::MAX);
                let wanted = podman.inspect("c", "{{len .EffectiveCaps}}")?.parse::<u32>()?;
                let right = mask("CapEff").count_ones() == wanted
                    && ["CapPrm", "CapBnd"].iter().all(|name| mask(name) == mask("CapEff"));
                let caps = if right { "as Podman counts them".to_owned() } else { format!("{wanted} wanted, {text}") };
                let rest = ["CapInh", "CapAmb"].map(mask);
                Ok(format!(
                    "{caps}, {}, {}, no_new_privs {}, seccomp {}",
                    rest[0],
                    rest[1],
                    value("NoNewPrivs"),
                    value("Seccomp")
                ))
            },
        ),
        case("--cap-drop ALL", "0000000000000000", |podman| {
            podman.sh(&["--cap-drop", "ALL"], "awk '/CapEff|CapBnd/ {print $2}' /proc/self/status | uniq")
        }),
        case("--cap-drop ALL --cap-add NET_RAW,SETUID", "0000000000002080; chown refused", |podman| {
            let script = "awk '/CapEff/ {print $2}' /proc/self/status; chown 1 /tmp 2>/dev/null || echo chown refused";
            let options = ["--cap-drop", "ALL", "--cap-add", "NET_RAW,SETUID"];
            Ok(podman.sh(&options, script)?.replace('\n', "; "))
        }),
        case("--cap-add NET_RAW with --user: effective and ambient", "0000000000002000 0000000000002000", |podman| {
            let script = "echo $(awk '/CapEff|CapAmb/ {print $2}' /proc/self/status)";
            podman.sh(&["--user", "1000", "--cap-drop", "ALL", "--cap-add", "NET_RAW"], script)
        }),
        case("--privileged", "all capabilities, no seccomp, /sys writable, devices of the host", |podman| {
            let script = "awk '/CapEff/ {print $2}' /proc/self/status; awk '/^Seccomp:/ {print $2}' /proc/self/status; \
                awk '$2 == \"/sys\" {print substr($4, 1, 2)}' /proc/mounts; ls /dev | wc -l";
            let seen = podman.sh(&["--privileged"], script)?;
            let all = fs::read_to_string("/proc/self/status")?;
            let all = all.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap_or_default().to_owned();
            let lines: Vec<&str> = seen.lines().collect();
            let devices = lines.get(3).and_then(|count| count.parse::<usize>().ok()).unwrap_or(0);
            Ok(match lines[..] {
                [caps, "0", "rw", _] if caps == all && devices > 16 => {
                    "all capabilities, no seccomp, /sys writable, devices of the host".to_owned()
                }
                _ => format!("{seen} (own capabilities: {all})"),
            })
        }),
        case("--security-opt no-new-privileges", "1", |podman| {
            podman.sh(&["--security-opt", "no-new-privileges"], "awk '/NoNewPrivs/ {print $2}' /proc/self/status")
        }),
        case(
            "AppArmor: Podman's own profile, and none with apparmor=unconfined",
            "containers-default (enforce), unconfined",
            |podman| {
                if !fs::read_to_string("/sys/module/apparmor/parameters/enabled")
                    .is_ok_and(|text| text.starts_with('Y'))
                {
                    return Err(harness::Stop::skipped("this kernel has no AppArmor"));
                }
                let script = "cat /proc/self/attr/current";
                let (own, none) =
                    (podman.sh(&[], script)?, podman.sh(&["--security-opt", "apparmor=unconfined"], script)?);
                // Its name ends with the version of the library that made it.
                let own = own.split_once("default-").map_or(own.clone(), |(name, rest)| {
                    format!("{name}default {}", rest.split_once(' ').map_or(rest, |(_, mode)| mode))
                });
                Ok(format!("{own}, {none}"))
            },
        ),
        case("--security-opt seccomp=unconfined", "0", |podman| {
            podman.sh(&["--security-opt", "seccomp=unconfined"], "awk '/^Seccomp:/ {print $2}' /proc/self/status")
        }),
        case("--security-opt seccomp=FILE: a refused call", "mkdir: Operation not permitted; touch works", |podman| {
            let profile = podman.dir().join("profile.json");
            fs::write(
                &profile,
                r#"{"defaultAction": "SCMP_ACT_ALLOW",
                    "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
                    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}"#,
            )?;
            let option = format!("seccomp={}", profile.display());
            let script = "mkdir /x 2>&1 | grep -o 'Operation not permitted'; touch /y && echo touch works";
            let seen = podman.sh(&["--security-opt", &option], script)?;
            Ok(format!("mkdir: {}", seen.replace('\n', "; ")))
        }),
        case("--security-opt mask and unmask", "masked empty, unmasked full", |podman| {
            let script = "grep -c . /proc/uptime /proc/timer_list 2>/dev/null";
            let seen = podman.sh(
                &["--security-opt", "mask=/proc/uptime", "--security-opt", "unmask=/proc/timer_list"],
                &format!("{script} || true"),
            )?;
            let count = |name: &str| {
                let line = seen.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
                line.parse::<u32>().unwrap_or(0)
            };
            let (masked, unmasked) = (count("/proc/uptime:"), count("/proc/timer_list:"));
            let word = |count| if count == 0 { "empty" } else { "full" };
            Ok(format!("masked {}, unmasked {}", word(masked), word(unmasked)))
        }),
        case("masked and read-only paths by default", "kcore empty, /proc/sys read-only", |podman| {
            let script = "[ $(head -c 1 /proc/kcore 2>/dev/null | wc -c) = 0 ] && echo -n 'kcore empty, '; \
                echo 1 2>/dev/null >/proc/sys/vm/swappiness && echo writable || echo /proc/sys read-only";
            podman.sh(&[], script)
        }),
        case("--user by name: ids and groups", "uid=1000(sailor) gid=1000(sailor) groups=2000(deck)", |podman| {
            let seen = podman.sh(&["--user", "sailor"], "id")?;
            Ok(seen.replace("groups=1000(sailor),2000(deck)", "groups=2000(deck)"))
        }),
        case("--user by numbers", "uid=5 gid=7 home /", |podman| {
            podman.sh(&["--user", "5:7"], "echo uid=$(id -u) gid=$(id -g) home $HOME")
        }),
        case("--group-add", "0 2000 3000", |podman| {
            let groups =
                podman.sh(&["--group-add", "deck", "--group-add", "3000"], "id -G | tr ' ' '\\n' | sort -nu")?;
            Ok(groups.replace('\n', " "))
        }),
        case("--group-add keep-groups: the caller's groups", "0 3333", |podman| {
            let words = podman.words(&["run", "--rm"], &["--group-add", "keep-groups"], &["id", "-G"]);
            let line = format!("exec $PODMAN {}", words.join(" "));
            well(podman.host.program(podman.script(&["setpriv", "--groups", "0,3333"], &line))?.finish()?)
        })
        .unlike("runc", "does not know the annotation that asks for it"),
        case("--userns with mappings: ids inside and outside", "inside 0 0 100000 1000; outside 100000", |podman| {
            let options = ["--uidmap", "0:100000:1000", "--gidmap", "0:100000:1000"];
            podman.start("c", &options, &["sleep", "1000"])?;
            let pid = podman.pid("c")?;
            let map = fs::read_to_string(format!("/proc/{pid}/uid_map"))?;
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let uid = status.lines().find_map(|line| line.strip_prefix("Uid:\t")).unwrap_or_default();
            let words: Vec<&str> = map.split_whitespace().collect();
            Ok(format!("inside 0 {}; outside {}", words.join(" "), uid.split('\t').next().unwrap_or_default()))
        }),
        case("--userns host and --userns auto are not alike", "host: 0, auto: not 0", |podman| {
            let host = podman.sh(&["--userns", "host"], "awk '{print $2}' /proc/self/uid_map")?;
            let auto = podman.run(&["--userns", "auto:size=1000"], &["awk", "{print $2}", "/proc/self/uid_map"])?;
            if auto.stderr.contains("subuid") || auto.stderr.contains("containers") {
                return Err(harness::Stop::skipped("no subordinate ids for the user containers"));
            }
            let auto = well(auto)?;
            Ok(format!("host: {host}, auto: {}", if auto == "0" { "0" } else { "not 0" }))
        }),
        case(
            "--device: the node, and that it can be used",
            "1:5, 8 bytes; another: Operation not permitted",
            |podman| {
                let script = "stat -c %t:%T /dev/nothing; head -c 8 /dev/nothing | wc -c; mknod /tmp/k c 1 2; \
                sh -c ': </tmp/k' 2>&1 | grep -o 'Operation not permitted'";
                let seen = podman.sh(&["--device", "/dev/zero:/dev/nothing", "--cap-add", "MKNOD"], script)?;
                let lines: Vec<&str> = seen.lines().collect();
                Ok(match lines[..] {
                    [node, bytes, refused] => format!("{node}, {bytes} bytes; another: {refused}"),
                    _ => seen,
                })
            },
        ),
        case("--device with r only: writing is refused", "reads, Operation not permitted", |podman| {
            let script =
                "sh -c ': </dev/kmsg' && echo reads; sh -c ': >/dev/kmsg' 2>&1 | grep -o 'Operation not permitted'";
            Ok(podman.sh(&["--device", "/dev/kmsg:/dev/kmsg:r", "--cap-add", "SYSLOG"], script)?.replace('\n', ", "))
        }),
        case("--device-cgroup-rule", "8 bytes", |podman| {
            let options = ["--device-cgroup-rule", "c 1:9 rwm", "--cap-add", "MKNOD"];
            podman.sh(&options, "mknod /tmp/r c 1 9 && head -c 8 /tmp/r | wc -c").map(|seen| format!("{seen} bytes"))
        }),
        case("the devices that every container has", "full null ptmx pts random shm tty urandom zero", |podman| {
            let seen = podman.sh(&[], "ls /dev")?;
            let wanted = ["full", "null", "ptmx", "pts", "random", "shm", "tty", "urandom", "zero"];
            Ok(seen.lines().filter(|name| wanted.contains(name)).collect::<Vec<_>>().join(" "))
        }),
        case("--read-only: the root is, /tmp is not", "root refused, /tmp works, /dev/shm works", |podman| {
            let script = "touch /x 2>/dev/null || echo -n 'root refused, '; touch /tmp/x && echo -n '/tmp works, '; \
                touch /dev/shm/x && echo /dev/shm works";
            podman.sh(&["--read-only"], script)
        }),
        case("--umask", "0077", |podman| podman.sh(&["--umask", "0077"], "umask")),
    ]
}
