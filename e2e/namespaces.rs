//! linux.namespaces: new, by path, and shared with the caller.

use harness::{Feature, Host, Report, Stop, ensure, ensure_eq, json};

/// Type in the config, name below /proc/PID/ns.
const KINDS: [(&str, &str); 6] =
    [("pid", "pid"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("mount", "mnt"), ("cgroup", "cgroup")];

fn own(name: &str) -> Result<String, Stop> {
    Ok(std::fs::read_link(format!("/proc/self/ns/{name}"))?.to_string_lossy().into_owned())
}

fn seen(report: &Report, name: &str) -> String {
    report.text(&format!("/namespaces/{name}")).to_owned()
}

/// A config that does not depend on namespaces which a trial takes away.
fn plain(host: &Host) -> Result<harness::Bundle, Stop> {
    Ok(host.bundle()?.remove("/hostname"))
}

pub(crate) fn trials() -> Feature {
    Feature::new("namespaces")
        .trial("each type that is asked for is a new one", |host| {
            let report = host.report(&host.bundle()?.namespace("cgroup", None))?;
            for (kind, name) in KINDS {
                ensure!(seen(&report, name) != own(name)?, "{kind} is the caller's");
            }
            Ok(())
        })
        .trial("two containers share none of them", |host| {
            let [first, second] = [host.report(&host.bundle()?)?, host.report(&host.bundle()?)?]
                .map(|report| report.0["namespaces"].clone());
            // Identities of namespaces that are gone may be used again, so both must live: compare with a third alive.
            let living = host.start(&host.bundle()?.payload(&["report", ";", "sleep"]))?;
            let alive = living.lines(1)?[0].0["namespaces"].clone();
            for name in ["pid", "net", "ipc", "uts", "mnt"] {
                let other = host.report(&host.bundle()?)?;
                ensure!(other.0["namespaces"][name] != alive[name], "{name} is shared");
            }
            ensure!(first.is_object() && second.is_object(), "no namespaces reported");
            living.delete_force()
        })
        .trial("a type that is not asked for is the caller's", |host| {
            for (kind, name) in KINDS {
                if kind == "mount" {
                    continue;
                }
                let mut bundle = plain(host)?.without_namespace(kind);
                if kind == "pid" {
                    // A pid namespace of the caller's cannot have a proc mounted by a container's own means only.
                    bundle = bundle.payload(&["report"]);
                }
                if kind == "network" {
                    bundle = bundle.edit(|config| {
                        if let Some(list) = config["mounts"].as_array_mut() {
                            list.retain(|mount| mount["type"] != "sysfs")
                        }
                    });
                }
                let report = host.report(&bundle)?;
                ensure_eq!(seen(&report, name), own(name)?, "{kind}");
            }
            Ok(())
        })
        .trial("without a mount namespace the mounts are the host's, and go with the container", |host| {
            let bundle = plain(host)?.without_namespace("mount").mount("/var/there", "tmpfs", "tmpfs", &["size=1m"]);
            let rootfs = format!("{}/rootfs", bundle.dir_text());
            let container = host.start(&bundle.payload(&["report", ";", "sleep"]))?;
            let report = &container.lines(1)?[0];
            ensure_eq!(seen(report, "mnt"), own("mnt")?);
            let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
            ensure!(mounts.contains(&format!(" {rootfs}/var/there ")), "no mount of the container's in {mounts}");
            container.delete_force()?;
            let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
            ensure!(!mounts.contains(&rootfs), "left: {mounts}");
            Ok(())
        })
        .trial("a namespace by path is joined", |host| {
            let holder = host.start(&host.bundle()?.namespace("cgroup", None).payload(&["report", ";", "sleep"]))?;
            let held = holder.lines(1)?[0].clone();
            let pid = holder.pid()?;
            for (kind, name) in KINDS {
                if kind == "mount" {
                    continue;
                }
                let path = format!("/proc/{pid}/ns/{name}");
                let bundle = plain(host)?.namespace(kind, Some(&path));
                let report = host.report(&bundle)?;
                ensure_eq!(seen(&report, name), seen(&held, name), "{kind}");
            }
            holder.delete_force()
        })
        .trial("several namespaces of one holder are joined at once, as in a pod", |host| {
            let holder = host.start(&host.bundle()?.payload(&["report", ";", "sleep"]))?;
            let held = holder.lines(1)?[0].clone();
            let pid = holder.pid()?;
            let mut bundle = plain(host)?;
            for (kind, name) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")] {
                bundle = bundle.namespace(kind, Some(&format!("/proc/{pid}/ns/{name}")));
            }
            let report = host.report(&bundle)?;
            for name in ["net", "ipc", "uts", "pid"] {
                ensure_eq!(seen(&report, name), seen(&held, name), "{name}");
            }
            ensure_eq!(report["hostname"], "e2e");
            ensure!(report["pid"] != 1, "a joined pid namespace has its own process 1");
            ensure!(seen(&report, "mnt") != seen(&held, "mnt"), "mnt is shared");
            holder.delete_force()
        })
        .trial("a network namespace that stays where it is bound is joined", |host| {
            let file = host.dir().join("netns");
            std::fs::write(&file, "")?;
            let holder = host.start(&host.bundle()?.payload(&["report", ";", "sleep"]))?;
            let held = holder.lines(1)?[0].clone();
            let from = format!("/proc/{}/ns/net", holder.pid()?);
            nix::mount::mount(Some(from.as_str()), &file, None::<&str>, nix::mount::MsFlags::MS_BIND, None::<&str>)?;
            holder.delete_force()?;
            let report = host.report(&host.bundle()?.namespace("network", file.to_str()));
            nix::mount::umount2(&file, nix::mount::MntFlags::MNT_DETACH)?;
            ensure_eq!(seen(&report?, "net"), seen(&held, "net"));
            Ok(())
        })
        .trial("the loopback interface of a new network namespace is up", |host| {
            let [listen] = host.lines(&host.bundle()?.payload(&["listen", "80"]))?;
            ensure_eq!(listen.errno(), "");
            let [flags] = host.lines(&host.bundle()?.payload(&["read", "/sys/class/net/lo/flags"]))?;
            let value = u32::from_str_radix(flags.text("/text").trim().trim_start_matches("0x"), 16).unwrap_or(0);
            ensure_eq!(value & 1, 1, "IFF_UP of lo");
            Ok(())
        })
        .trial("without a pid namespace the payload is an ordinary process and its end ends the container", |host| {
            let bundle = plain(host)?.without_namespace("pid").payload(&["report", ";", "sleep"]);
            let container = host.start(&bundle)?;
            let report = container.lines(1)?[0].clone();
            ensure_eq!(report["pid"], container.pid()?);
            container.delete_force()
        })
        .trial("a time namespace has the offsets of its config", |host| {
            host.except("runc", "1.1 has no time namespaces")?;
            let offsets =
                json!({"monotonic": {"secs": 7200, "nanosecs": 5}, "boottime": {"secs": 604800, "nanosecs": 0}});
            let bundle = host.bundle()?.namespace("time", None).set("/linux/timeOffsets", offsets);
            let [report, uptime] = host.lines(&bundle.payload(&["report", ";", "read", "/proc/uptime"]))?;
            ensure!(seen(&report, "time") != own("time")?, "time is the caller's");
            let words: Vec<&str> = report.text("/time_offsets").split_whitespace().collect();
            ensure_eq!(words, ["monotonic", "7200", "5", "boottime", "604800", "0"]);
            let up = |text: &str| text.split('.').next().and_then(|whole| whole.parse::<u64>().ok()).unwrap_or(0);
            let host_up = up(&std::fs::read_to_string("/proc/uptime")?);
            ensure!(up(uptime.text("/text")) >= host_up + 604_000, "uptime {uptime:?} on a host up {host_up} s");
            Ok(())
        })
        .trial("a time namespace by path is joined", |host| {
            host.except("runc", "1.1 has no time namespaces")?;
            let holder = host.start(&host.bundle()?.namespace("time", None).payload(&["report", ";", "sleep"]))?;
            let held = holder.lines(1)?[0].clone();
            let path = format!("/proc/{}/ns/time", holder.pid()?);
            let report = host.report(&host.bundle()?.namespace("time", Some(&path)))?;
            ensure_eq!(seen(&report, "time"), seen(&held, "time"));
            holder.delete_force()
        })
        .trial("a path that is not there, or of another type, is refused by name", |host| {
            let said = host.create_fails(&host.bundle()?.namespace("network", Some("/not/there")))?;
            ensure!(said.stderr.contains("/not/there"), "{said}");
            host.create_fails(&host.bundle()?.namespace("network", Some("/proc/self/ns/ipc")))?;
            host.create_fails(&host.bundle()?.namespace("network", Some("/etc/passwd")))?;
            Ok(())
        })
        .trial("an unknown type, and the same type twice, are refused by name", |host| {
            let said = host.create_fails(&host.bundle()?.namespace("weather", None))?;
            ensure!(said.stderr.contains("weather"), "{said}");
            let twice = host.bundle()?.push("/linux/namespaces", json!({"type": "uts"}));
            host.create_fails(&twice)?;
            Ok(())
        })
}
