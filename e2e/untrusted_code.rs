//! Code that nobody trusts: no privileges, no network, and limits that hold, for root's containers and an ordinary user's.

use crate::rootless;
use harness::{Bundle, Feature, Host, Outcome, Stop, Value, ensure, ensure_eq, json, limit};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A network namespace in which nothing was ever configured.
struct EmptyNetwork(Child);

impl EmptyNetwork {
    fn new() -> Result<Self, Stop> {
        let child = Command::new("unshare").args(["--net", "sleep", "600"]).stdin(Stdio::null()).spawn()?;
        let network = EmptyNetwork(child);
        let begun = Instant::now();
        let own = std::fs::read_link("/proc/self/ns/net")?;
        while std::fs::read_link(network.path())? == own {
            ensure!(begun.elapsed() < limit(5), "unshare makes no network namespace");
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(network)
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }
}

impl Drop for EmptyNetwork {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// User 1000 without a capability, a root that cannot be written, a /tmp that can.
fn locked_down(bundle: Bundle) -> Bundle {
    bundle
        .set("/process/user", json!({ "uid": 1000, "gid": 1000 }))
        .set("/process/capabilities", json!({}))
        .set("/process/noNewPrivileges", json!(true))
        .set("/root/readonly", json!(true))
        .mount("/tmp", "tmpfs", "tmpfs", &["nosuid", "nodev", "mode=1777", "size=1m"])
}

/// Runs it, and a set-user-ID program of `owner`, who is root inside.
fn is_powerless(host: &Host, bundle: Bundle, owner: u32, lo_is_down: bool) -> Outcome {
    let suid = bundle.rootfs().join("bin/suid");
    std::fs::copy(host.payload(), &suid)?;
    chown(&suid, Some(owner), Some(owner))?;
    std::fs::set_permissions(&suid, PermissionsExt::from_mode(0o6755))?;
    let bundle = locked_down(bundle).payload(&[
        "report",
        ";",
        "spawn",
        "/bin/suid",
        "report",
        ";",
        "touch",
        "/new",
        ";",
        "touch",
        "/tmp/new",
        ";",
        "read",
        "/proc/self/status",
        ";",
        "read",
        "/sys/class/net/lo/flags",
    ]);
    let [report, suid, root, tmp, status, flags] = host.lines(&bundle)?;
    let status = status.text("/text");
    for line in [
        "Uid:\t1000\t1000\t1000\t1000",
        "Gid:\t1000\t1000\t1000\t1000",
        "NoNewPrivs:\t1",
        "CapInh:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "CapAmb:\t0000000000000000",
    ] {
        ensure!(status.lines().any(|own| own == line), "no {line:?} in {status}");
    }
    let gained: Value = serde_json::from_str(suid.text("/stdout"))?;
    ensure_eq!((&gained["uid"], &gained["gid"]), (&json!([1000, 1000, 1000, 1000]), &json!([1000, 1000, 1000, 1000])));
    ensure_eq!(gained["capabilities"], report["capabilities"]);
    ensure_eq!((root.errno(), tmp.errno()), ("EROFS", ""));
    ensure_eq!(report["interfaces"], json!(["lo"]));
    // IFF_LOOPBACK, without or with IFF_UP.
    ensure_eq!(flags.text("/text").trim(), if lo_is_down { "0x8" } else { "0x9" });
    Ok(())
}

/// Where the files of a container's cgroup are.
fn file(dir: &Path, bundle: &Bundle, name: &str) -> Result<String, Stop> {
    let path = dir.join(bundle.id()).join(name);
    let text = std::fs::read_to_string(&path);
    Ok(text.map_err(|error| Stop::failed(format!("read {}: {error}", path.display())))?.trim().to_owned())
}

/// The value behind a word of a flat file.
fn of(text: &str, word: &str) -> u64 {
    let found = text.lines().find_map(|line| line.strip_prefix(word)?.trim().parse().ok());
    found.unwrap_or(0)
}

/// The quickest of some runs of a neighbour.
fn latency(host: &Host, make: &dyn Fn(&Host) -> Result<Bundle, Stop>) -> Result<Duration, Stop> {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let bundle = make(host)?.payload(&["nothing"]);
        let begun = Instant::now();
        host.run_well(&bundle)?;
        best = best.min(begun.elapsed());
    }
    Ok(best)
}

fn survives_a_fork_bomb(host: &Host, make: &dyn Fn(&Host) -> Result<Bundle, Stop>, dir: &Path) -> Outcome {
    let before = latency(host, make)?;
    let limits = json!({ "pids": { "limit": 64 }, "cpu": { "quota": 50_000, "period": 100_000 } });
    let bundle = make(host)?.set("/linux/resources", limits).payload(&["fork-bomb"]);
    let container = host.start(&bundle)?;
    container.lines(1)?;
    let begun = Instant::now();
    while of(&file(dir, &bundle, "pids.events")?, "max ") == 0 {
        ensure!(begun.elapsed() < limit(20), "the limit is not reached: {}", file(dir, &bundle, "pids.current")?);
        std::thread::sleep(Duration::from_millis(5));
    }
    let alive: u64 = file(dir, &bundle, "pids.current")?.parse()?;
    ensure!((32..=64).contains(&alive), "{alive} processes");
    let during = latency(host, make)?;
    ensure!(during < before * 2 + Duration::from_millis(50), "a neighbour took {during:?}, before {before:?}");
    let pid = container.pid()?;
    let begun = Instant::now();
    container.kill("KILL")?;
    ensure_eq!(container.reap(pid)?, 137);
    container.delete()?;
    ensure!(begun.elapsed() < limit(1), "its end took {:?}", begun.elapsed());
    ensure!(!dir.join(bundle.id()).exists(), "its cgroup is left");
    Ok(())
}

fn survives_a_memory_hog(host: &Host, make: &dyn Fn(&Host) -> Result<Bundle, Stop>, dir: &Path) -> Outcome {
    const LIMIT: u64 = 64 << 20;
    let bundle = make(host)?.set("/linux/resources/memory", json!({ "limit": LIMIT, "swap": LIMIT }));
    let bundle = match host.is_v2() {
        // The hog is not the first process, which must go with it.
        true => bundle.set("/linux/resources/unified", json!({ "memory.oom.group": "1" })).payload(&[
            "spawn",
            "/bin/payload",
            "alloc",
            "256",
            ";",
            "sleep",
        ]),
        false => bundle.payload(&["alloc", "256"]),
    };
    let container = host.create(&bundle)?;
    if host.is_v2() {
        ensure_eq!(file(dir, &bundle, "memory.swap.max")?, "0");
    }
    let pid = container.pid()?;
    container.start()?;
    ensure_eq!(container.reap(pid)?, 137);
    container.wait_for_status("stopped")?;
    let (events, peak) = match host.is_v2() {
        true => ("memory.events", "memory.peak"),
        false => ("memory.oom_control", "memory.max_usage_in_bytes"),
    };
    let events = file(dir, &bundle, events)?;
    ensure!(of(&events, "oom_kill ") > 0, "no kill for want of memory: {events}");
    let peak: u64 = file(dir, &bundle, peak)?.parse()?;
    ensure!((LIMIT / 2..=LIMIT).contains(&peak), "the peak is {peak} bytes");
    ensure_eq!(file(dir, &bundle, "cgroup.procs")?, "", "survivors");
    container.delete()
}

fn gets_half_a_core(host: &Host, make: &dyn Fn(&Host) -> Result<Bundle, Stop>, dir: &Path) -> Outcome {
    let quota = json!({ "quota": 50_000, "period": 100_000 });
    let bundle = make(host)?.set("/linux/resources/cpu", quota).payload(&["say", "go", ";", "spin", "60000"]);
    let container = host.start(&bundle)?;
    container.lines(1)?;
    // Nanoseconds; v1 has them in the hierarchy of cpuacct.
    let used = || -> Result<u64, Stop> {
        match host.is_v2() {
            true => Ok(of(&file(dir, &bundle, "cpu.stat")?, "usage_usec ") * 1000),
            false => {
                let accounts = host.controller_dir("cpuacct").ok_or_else(|| Stop::skipped("no cpuacct here"))?;
                Ok(file(&accounts, &bundle, "cpuacct.usage")?.parse()?)
            }
        }
    };
    std::thread::sleep(Duration::from_millis(300));
    let (begun, first) = (Instant::now(), used()?);
    std::thread::sleep(Duration::from_secs(4));
    let share = (used()? - first) as f64 / begun.elapsed().as_nanos() as f64;
    let throttled = of(&file(dir, &bundle, "cpu.stat")?, "nr_throttled ");
    let stats: Value = serde_json::from_str(&host.runtime.must(&["events", "--stats", bundle.id()])?)?;
    container.delete_force()?;
    let told = stats["data"]["cpu"]["throttling"]["throttledPeriods"].as_u64().unwrap_or(0);
    ensure!(share <= 0.525, "it used {share:.3} of a core");
    if share < 0.475 {
        let load = std::fs::read_to_string("/proc/loadavg")?;
        let busy = load.split(' ').next().and_then(|load| load.parse::<f64>().ok()).unwrap_or(0.0);
        let cores = std::thread::available_parallelism()?.get() as f64;
        ensure!(busy > cores, "it used {share:.3} of a core on an idle host");
        return Err(Stop::skipped(format!("the host is too busy (load {busy}) for more than {share:.3} of a core")));
    }
    ensure!(told >= throttled && throttled > 0, "throttled {throttled} times, told {told}");
    Ok(())
}

fn plain(host: &Host) -> Result<Bundle, Stop> {
    Ok(locked_down(host.bundle()?))
}

fn dir(host: &Host, controller: &str) -> Result<PathBuf, Stop> {
    host.controller_dir(controller)
        .ok_or_else(|| Stop::skipped(format!("this host has no {controller} controller in use")))
}

/// A container of an ordinary user in a cgroup that is his.
fn of_user(host: &Host) -> Result<Bundle, Stop> {
    rootless::bundle(host)
}

pub(crate) fn trials() -> Feature {
    Feature::new("untrusted_code")
        .trial("A3.1: user 1000 has no capability, gains none, writes only /tmp, and sees no network", |host| {
            let network = EmptyNetwork::new()?;
            let bundle = || Ok::<_, Stop>(host.bundle()?.namespace("network", Some(&network.path())));
            is_powerless(host, bundle()?, 0, true)?;
            // That the set-user-ID program would gain something otherwise.
            let suid = bundle()?.set("/process/user/uid", json!(1000)).set("/process/noNewPrivileges", json!(false));
            std::fs::copy(host.payload(), suid.rootfs().join("bin/suid"))?;
            std::fs::set_permissions(suid.rootfs().join("bin/suid"), PermissionsExt::from_mode(0o4755))?;
            let [gained] = host.lines(&suid.args(&["/bin/suid", "report"]))?;
            ensure_eq!(gained["uid"][1], json!(0));
            Ok(())
        })
        .trial("A3.2: a fork bomb stays within its limit, its neighbour goes on, and it ends at once", |host| {
            survives_a_fork_bomb(host, &plain, &dir(host, "pids")?)
        })
        .trial("A3.3: a memory hog is killed at its own limit, and nobody of it survives", |host| {
            survives_a_memory_hog(host, &plain, &dir(host, "memory")?)
        })
        .trial("A3.4: half a core is half a core, and the throttling is counted", |host| {
            gets_half_a_core(host, &plain, &dir(host, "cpu")?)
        })
        .trial("A3.12: A3.1 holds for an ordinary user's container", |host| {
            let user = rootless::user(host)?;
            let _etc = rootless::Etc::ranges(&user, &format!("sailor:{}:65536\n", rootless::BASE))?;
            let bundle = rootless::with_more(rootless::bundle(&user)?, rootless::BASE, 65536);
            is_powerless(&user, bundle, rootless::USER, false)
        })
        .trial("A3.12: A3.2 holds for an ordinary user's container in a cgroup of his", |host| {
            let (user, delegated) = rootless::with_cgroup(host)?;
            survives_a_fork_bomb(&user, &of_user, &delegated.path)
        })
        .trial("A3.12: A3.3 holds for an ordinary user's container in a cgroup of his", |host| {
            let (user, delegated) = rootless::with_cgroup(host)?;
            survives_a_memory_hog(&user, &of_user, &delegated.path)
        })
        .trial("A3.12: A3.4 holds for an ordinary user's container in a cgroup of his", |host| {
            let (user, delegated) = rootless::with_cgroup(host)?;
            gets_half_a_core(&user, &of_user, &delegated.path)
        })
        .trial("A3.12: without a cgroup of his the limits of A3.2 to A3.4 are refused, with what to do", |host| {
            let user = rootless::user(host)?;
            for (controller, limits, at) in [
                ("pids", json!({ "pids": { "limit": 64 } }), "pids/limit"),
                ("memory", json!({ "memory": { "limit": 64 << 20 } }), "memory/limit"),
                ("cpu", json!({ "cpu": { "quota": 50_000, "period": 100_000 } }), "cpu/"),
            ] {
                host.needs_controller(controller)?;
                let bundle = rootless::bundle(&user)?.set("/linux/resources", limits);
                let at = format!("[linux/resources/{at}");
                rootless::refused(&user, &bundle, &["cgroup", &at, "systemd-run --user --scope"])?;
            }
            Ok(())
        })
}
