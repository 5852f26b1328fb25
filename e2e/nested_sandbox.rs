//! A sandbox within a container: bubblewrap with user and pid namespaces and a /proc of its own.

use harness::{Bundle, Feature, Host, Outcome, Ran, Stop, Value, ensure, ensure_eq, json};
use std::path::Path;
use std::process::Command;

const BASE: u32 = 231_072;
const PROGRAM: &str = "/usr/bin/bwrap";

/// Debian's package, installed where it is missing.
fn installed() -> Outcome {
    if !Path::new(PROGRAM).exists() {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("install");
        let _ = Command::new(script).arg("bubblewrap").output();
    }
    match Path::new(PROGRAM).exists() && Path::new("/lib").is_symlink() {
        true => Ok(()),
        false => Err(Stop::skipped("bubblewrap is not installed, or /lib is no link to /usr/lib")),
    }
}

/// Masks as engines have them, and a filter that makes no namespaces.
fn by_default(bundle: Bundle) -> Bundle {
    let user = 0x1000_0000;
    masked(bundle).set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [
                { "names": ["unshare", "setns", "mount", "umount2", "pivot_root"], "action": "SCMP_ACT_ERRNO" },
                { "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
                { "names": ["clone"], "action": "SCMP_ACT_ERRNO", "args": [
                    { "index": 0, "value": user, "valueTwo": user, "op": "SCMP_CMP_MASKED_EQ" }
                ] },
            ],
        }),
    )
}

fn masked(bundle: Bundle) -> Bundle {
    bundle
        .set(
            "/linux/maskedPaths",
            json!(["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"]),
        )
        .set("/linux/readonlyPaths", json!(["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]))
}

/// A container of user 1000 in a user namespace of its own, with the host's programs and bubblewrap as its command.
fn sandbox(host: &Host, words: &[&str]) -> Result<Bundle, Stop> {
    installed()?;
    let map = json!([{ "containerID": 0, "hostID": BASE, "size": 65536 }]);
    let mut bundle = host.bundle()?.namespace("user", None).set("/linux/uidMappings", map.clone());
    for name in ["lib", "lib64"] {
        if Path::new("/").join(name).exists() {
            bundle = bundle.symlink(&format!("usr/{name}"), &format!("/{name}"))?;
        }
    }
    let wrap = ["--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"];
    let args: Vec<&str> = [&[PROGRAM], &wrap[..], &["/bin/payload"], words].concat();
    Ok(bundle
        .directory("/usr")?
        .mount("/usr", "bind", "/usr", &["rbind", "ro"])
        .set("/linux/gidMappings", map)
        .set("/process/user", json!({ "uid": 1000, "gid": 1000 }))
        .set("/process/capabilities", json!({}))
        .args(&args))
}

fn refuses(host: &Host, bundle: &Bundle, word: &str) -> Outcome {
    let Ran { finished, .. } = host.run(bundle)?;
    ensure!(finished.code() != Some(0) && finished.stderr.contains("bwrap: "), "{finished}");
    ensure!(finished.stderr.contains(word), "no {word:?}: {finished}");
    Ok(())
}

pub(crate) fn trials() -> Feature {
    Feature::new("nested_sandbox")
        .trial(
            "A2.4: bubblewrap works within a container that is made for nesting, and gains nothing of the host",
            |host| {
                let words = [
                    "report",
                    ";",
                    "read",
                    "/proc/kmsg",
                    ";",
                    "write",
                    "/proc/sysrq-trigger",
                    "x",
                    ";",
                    "write",
                    "/proc/sys/kernel/core_pattern",
                    "x",
                ];
                let [report, kmsg, sysrq, sysctl] = host.lines(&sandbox(host, &words)?)?;
                ensure_eq!((&report["uid"][1], &report["pid"]), (&json!(1000), &json!(2)));
                let own = std::fs::read_link("/proc/self/ns/user")?;
                ensure!(report["namespaces"]["user"] != own.to_string_lossy().as_ref(), "the host's user namespace");
                for (what, said) in [("kmsg", &kmsg), ("sysrq", &sysrq), ("core_pattern", &sysctl)] {
                    ensure!(["EACCES", "EPERM", "EROFS", "ENOENT"].contains(&said.errno()), "{what}: {said:?}");
                }
                Ok(())
            },
        )
        .trial("A2.4: an engine's usual profile refuses it", |host| {
            let bundle = by_default(sandbox(host, &["nothing"])?);
            refuses(host, &bundle, "namespace")
        })
        .trial("A2.4: masks hold: no /proc without them is to be had within", |host| {
            refuses(host, &masked(sandbox(host, &["nothing"])?), "proc")?;
            // The same without a /proc of its own: what is masked stays masked.
            let bundle = masked(sandbox(host, &["stat", "/proc/keys"])?).edit(|config| {
                let args = config["process"]["args"].as_array_mut().expect("a list");
                let at = args.iter().position(|word| word == "--proc").expect("--proc");
                args.drain(at..at + 2);
                args.drain(2..3);
            });
            let [keys] = host.lines(&bundle)?;
            ensure_eq!((&keys["kind"], &keys["major"], &keys["minor"]), (&json!("char"), &json!(1), &json!(3)));
            Ok(())
        })
        .trial("A2.4: its processes are the container's: they end with it", |host| {
            let bundle = sandbox(host, &["say", "here", ";", "sleep"])?;
            let container = host.start(&bundle)?;
            let lines = container.lines(1)?;
            ensure_eq!(lines[0]["said"], Value::from(vec!["here"]));
            let pid = container.pid()?;
            container.kill("KILL")?;
            ensure_eq!(container.reap(pid)?, 137);
            container.delete()
        })
}
