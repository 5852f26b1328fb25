//! Containers in virtual machines: a Debian kernel that is unpacked, not installed, under emulation. Each trial boots one
//! machine, which takes seconds, so that each looks at many things.

use crate::exec_terminal::detached;
use harness::{ConsoleSocket, Container, Desk, Feature, Host, Outcome, Stop, Value, ensure, ensure_eq, json};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

pub(crate) fn trials() -> Feature {
    let mut feature = Feature::new("vm")
        .trial("what cannot be in a machine is refused by name, and nothing is made", refused)
        .trial("no kernel, one without drivers, no QEMU: one clear error, and nothing is made", missing)
        .trial("a container lives from create to delete, and its machine with it", lives)
        .trial("output apart, standard input, environment, user, limits and exit code", payload);
    // Each boots a machine of its own.
    if std::env::var_os("WHARF_E2E_FULL").is_some() {
        feature = feature
            .trial("a payload's signal is the exit of run, and of a container's stand-in", signals)
            .trial("a command that is missing or not executable is 127 and 126, and nothing is left", commands)
            .trial("bind mounts: directories and files, read-only and read-write", binds)
            .trial("a terminal in the foreground and at a console socket, with its size", terminals)
            .trial("QEMU killed: the record says so, nothing is left", |host| ends(host, Blow::Qemu))
            .trial("the stand-in killed: its machine ends too", |host| ends(host, Blow::StandIn))
            .trial("a guest whose kernel panics: the record says so", |host| ends(host, Blow::Panic))
            .trial("out of memory in the guest: the container's limit ends the payload, and the record says so", memory)
            .trial("a flood that is read slowly arrives whole, and the stand-in stays small", flood);
    }
    feature
}

/// The same host with containers that go into machines.
pub(crate) fn machines(host: &Host, changes: Value) -> Result<Host, Stop> {
    host.only_wharf("other runtimes have no such machines")?;
    if !Path::new("/usr/bin/qemu-system-x86_64").exists() {
        return Err(Stop::skipped("qemu-system-x86 is not installed"));
    }
    let mut vm =
        json!({"kernel": kernel()?, "cache": host.shared_dir("machines")?, "processor": "emulation", "timeout": 120});
    for (key, value) in changes.as_object().into_iter().flatten() {
        vm[key] = value.clone();
    }
    let configuration = host.new_dir("vm")?.join("wharf.json");
    fs::write(&configuration, json!({"vm": vm}).to_string())?;
    host.with_options(&["--config", &configuration.to_string_lossy(), "--backend", "vm"])
}

fn kernel() -> Result<PathBuf, Stop> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernel");
    let found = match script.exists() {
        true => String::from_utf8_lossy(&Command::new(script).arg("--have").output()?.stdout).into_owned(),
        false => String::new(),
    };
    match found.trim() {
        "" => Err(Stop::skipped("there is no kernel for guests (e2e/kernel gets one)")),
        path => Ok(path.into()),
    }
}

fn refused(host: &Host) -> Outcome {
    let host = machines(host, json!({}))?;
    let bundle = || host.bundle();
    let device = json!([{"path": "/dev/loop0", "type": "b", "major": 7, "minor": 0}]);
    let hook = json!([{"path": "/bin/true"}]);
    let all = [
        (bundle()?.without_namespace("network"), "[linux/namespaces]"),
        (
            bundle()?.without_namespace("network").namespace("network", Some("/proc/self/ns/net")),
            "[linux/namespaces/4]",
        ),
        (bundle()?.without_namespace("pid").namespace("pid", Some("/proc/self/ns/pid")), "[linux/namespaces/4]"),
        (bundle()?.set("/linux/devices", device), "[linux/devices/0]"),
        (
            bundle()?.set("/annotations", json!({"run.oci.keep_original_groups": "1"})),
            "[annotations/run.oci.keep_original_groups]",
        ),
        (bundle()?.set("/hooks", json!({"prestart": hook})), "[hooks/prestart]"),
        (bundle()?.mount("/x", "bind", "/tmp", &["rbind", "rshared"]), "[mounts/6]"),
        (bundle()?.mount("/x", "none", "/dev", &["rbind"]), "[mounts/6]"),
        (bundle()?.mount("/x", "ext4", "/dev/sda", &[]), "[mounts/6]"),
        (bundle()?.set("/linux/intelRdt", json!({"closID": "x"})), "[linux/intelRdt]"),
        (bundle()?.set("/vm", json!({"kernel": {"path": "/k"}})), "[vm]"),
    ];
    for (bundle, place) in all {
        let failed = host.create_fails(&bundle)?;
        ensure!(failed.code() == Some(1) && failed.last_line().contains(place), "{place}: {failed}");
    }
    let bundle = bundle()?.set("/process/apparmorProfile", json!("x"));
    bundle.save()?;
    let plan = host.runtime.must(&["plan", "--bundle", bundle.dir_text()])?;
    ensure!(plan.contains("the machine confines it"), "{plan}");
    ensure_eq!(fs::read_dir(host.root())?.count(), 0, "entries left below --root");
    Ok(())
}

fn missing(host: &Host) -> Outcome {
    let empty = host.new_dir("modules")?;
    let no_kernel = host.new_dir("boot")?.join("vmlinuz-none");
    fs::write(&no_kernel, "x")?;
    let own_cache = host.new_dir("cache")?;
    for (changes, words) in [
        (json!({"kernel": "/nowhere/vmlinuz"}), "use kernel /nowhere/vmlinuz: No such file or directory"),
        (json!({"modules": &empty, "cache": &own_cache}), "driver virtio_pci is neither in it nor in"),
        (json!({"qemu_path": "/nowhere/qemu"}), "use backend vm at /nowhere/qemu: No such file or directory"),
        (
            json!({"kernel": &no_kernel, "modules": real_modules()?, "cache": &own_cache}),
            "start the virtual machine: QEMU",
        ),
    ] {
        let host = machines(host, changes)?;
        let failed = host.create_fails(&host.bundle()?)?;
        ensure!(failed.last_line().contains(words), "{words}: {failed}");
        ensure_eq!(fs::read_dir(host.root())?.count(), 0, "entries left below --root");
    }
    Ok(())
}

fn real_modules() -> Result<PathBuf, Stop> {
    let kernel = kernel()?;
    let release = kernel.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("vmlinuz-"));
    let root = kernel.parent().and_then(Path::parent).ok_or_else(|| Stop::failed("no directory"))?;
    Ok(root.join("usr/lib/modules").join(release.unwrap_or_default()))
}

fn lives(host: &Host) -> Outcome {
    let host = machines(host, json!({}))?;
    let bundle = host.bundle()?.payload(&["wait-signal", ";", "exit", "7"]);
    let bundle = bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"]);
    let container = host.create(&bundle)?;
    let state = container.state()?;
    ensure_eq!(
        (&state["status"], &state["annotations"]["dev.wharf.vm.processor"]),
        (&json!("created"), &json!("emulation"))
    );
    let pid = container.pid()?;
    // An engine looks at the container through its pid, and must never see the host.
    ensure_eq!(fs::read_dir(format!("/proc/{pid}/root"))?.count(), 0, "names in the stand-in's root");
    for kind in ["mnt", "uts", "ipc", "net", "cgroup"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}"));
        ensure!(of(&pid.to_string())? != of("self")?, "the stand-in is in the host's {kind} namespace");
    }
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    ensure!(cgroups.contains(bundle.id()), "{cgroups}");
    let again = host.runtime.call(&["create", "--bundle", bundle.dir_text(), bundle.id()])?;
    ensure!(again.code() == Some(1) && again.last_line().contains("exists"), "{again}");
    container.start()?;
    ensure_eq!(container.status()?, "running");

    let call = |words: &[&str]| host.runtime.call(&[&["exec"], words].concat());
    let nine = call(&[bundle.id(), "/bin/payload", "exit", "9"])?;
    ensure_eq!(nine.code(), Some(9), "{nine}");
    for _ in 0..5 {
        // What a process says before the host knows of it arrives too.
        let said = call(&[bundle.id(), "/bin/payload", "print", "at once"])?;
        ensure!(said.code() == Some(0) && said.stdout.starts_with("at once"), "{said}");
    }
    let none = call(&[bundle.id(), "nothing"])?;
    ensure!(none.code() == Some(255) && none.last_line().contains("executable file not found in $PATH"), "{none}");
    let [report] = container.exec_lines(&["--user", "1000:1000", "--cwd", "/tmp", "--env", "A=b c"], &["report"])?;
    ensure_eq!((&report["uid"][0], &report["cwd"]), (&json!(1000), &json!("/tmp")));
    ensure!(report.list("/env").contains(&"A=b c"), "{}", report["env"]);
    // Who kills what stands for a process kills the process.
    let pid_file = host.dir().join("exec.pid");
    let words = ["--detach", "--pid-file", pid_file.to_str().unwrap_or_default(), bundle.id(), "/bin/payload", "sleep"];
    let made = call(&words)?;
    ensure_eq!(made.code(), Some(0), "{made}");
    let joined: i32 = fs::read_to_string(&pid_file)?.trim().parse()?;
    kill(Pid::from_raw(joined), Signal::SIGTERM)?;
    ensure_eq!(container.reap(joined)?, 128 + 15);

    host.runtime.must(&["pause", bundle.id()])?;
    ensure_eq!(container.status()?, "paused");
    let refused = call(&[bundle.id(), "/bin/payload", "exit", "0"])?;
    ensure!(refused.code() == Some(255) && refused.last_line().contains("paused"), "{refused}");
    host.runtime.must(&["resume", bundle.id()])?;
    ensure_eq!(container.status()?, "running");
    let stats = host.runtime.must(&["events", "--stats", bundle.id()])?;
    ensure!(stats.contains("\"memory\""), "{stats}");
    watched(&host, &container)?;

    container.kill("TERM")?;
    ensure_eq!(container.reap(pid)?, 7);
    ensure_eq!(container.status()?, "stopped");
    ensure_eq!(container.state()?["annotations"]["dev.wharf.exit.code"], "7");
    container.delete()
}

/// What the guest tells and changes of the container, by the host's verbs.
fn watched(host: &Host, container: &Container) -> Outcome {
    let id = container.id();
    let table = host.runtime.must(&["ps", id])?;
    ensure!(table.starts_with("UID") && table.contains("/bin/payload wait-signal"), "{table}");
    for (verb, words) in [("ps", &["--format", "json"][..]), ("checkpoint", &[])] {
        let refused = host.runtime.call(&[&[verb], words, &[id]].concat())?;
        ensure!(refused.code() == Some(1) && refused.last_line().contains("on the vm backend"), "{refused}");
    }
    host.runtime.must(&["update", "--pids-limit", "77", "--memory", "200m", "--cpu-quota", "50000", id])?;
    let limits = ["/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/memory.max"];
    let [pids, memory] = container.exec_lines(&[], &["read", limits[0], ";", "read", limits[1]])?;
    ensure!(
        pids.0.to_string().contains("77") && memory.0.to_string().contains(&(200 * MIB).to_string()),
        "{pids:?} {memory:?}"
    );
    for (words, place) in [(["--memory", "400m"], "memory/limit"), (["--cpu-quota", "250000"], "cpu/quota")] {
        let refused = host.runtime.call(&[&["update"][..], &words, &[id]].concat())?;
        ensure!(refused.code() == Some(1) && refused.last_line().contains(place), "{refused}");
    }
    let mut events = host.runtime.command();
    let mut events = events.args(["events", "--interval", "1s", id]).stdout(Stdio::piped()).spawn()?;
    let lines =
        std::io::BufRead::lines(std::io::BufReader::new(events.stdout.take().ok_or_else(|| Stop::failed("no pipe"))?));
    let two: Vec<String> = lines.take(2).collect::<Result<_, _>>()?;
    ensure!(two.iter().all(|line| line.contains("\"stats\"") && line.contains(id)), "{two:?}");
    kill(Pid::from_raw(events.id() as i32), Signal::SIGKILL)?;
    events.wait()?;
    Ok(())
}

fn payload(host: &Host) -> Outcome {
    let host = machines(host, json!({}))?;
    let words = [
        "report",
        ";",
        "read",
        "/proc/sys/kernel/osrelease",
        ";",
        "read",
        "/proc/meminfo",
        ";",
        "read-line",
        ";",
        "flood",
        "stderr",
        "1",
        ";",
        "exit",
        "42",
    ];
    let bundle = host.bundle()?.payload(&words);
    let bundle = bundle.set("/process/user", json!({"uid": 1000, "gid": 1001})).set("/process/cwd", json!("/var"));
    let bundle = bundle
        .push("/process/env", json!("WHERE=guest"))
        .push("/process/env", json!(format!("LONG={}", "x".repeat(100 << 10))))
        .set("/linux/resources/memory", json!({"limit": 100 * MIB}))
        // The guest can make no place for a mount there.
        .set("/root/readonly", json!(true))
        .mount("/made/for/it", "tmpfs", "tmpfs", &["nosuid"]);
    fs::remove_dir(bundle.rootfs().join("proc"))?;
    bundle.save()?;
    let mut command = host.runtime.command();
    command.args(["run", "--bundle", bundle.dir_text(), bundle.id()]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or_else(|| Stop::failed("no pipe"))?.write_all(b"from the host\n")?;
    let out = child.wait_with_output()?;
    let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    ensure_eq!(out.status.code(), Some(42), "{stdout} {stderr}");
    ensure_eq!(stderr.bytes().filter(|byte| *byte == b'x').count() as u64, MIB, "{}", stderr.len());
    ensure!(stdout.contains("from the host"), "{stdout}");
    let report: Value = serde_json::from_str(stdout.lines().next().unwrap_or_default())
        .map_err(|error| Stop::failed(error.to_string()))?;
    ensure_eq!((&report["uid"][0], &report["gid"][0], &report["cwd"]), (&json!(1000), &json!(1001), &json!("/var")));
    ensure!(
        report["env"].to_string().contains("WHERE=guest")
            && report["env"].to_string().len() > 100 << 10
            && report["hostname"] == "e2e",
        "{report}"
    );
    let own = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    ensure!(!stdout.contains(own.trim()), "the host's kernel: {stdout}");
    let total = stdout.split("MemTotal:").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    ensure!(total.is_some_and(|kib| (100 * 1024..232 * 1024).contains(&kib)), "{total:?} KiB of memory");
    Ok(())
}

fn signals(host: &Host) -> Outcome {
    let host = machines(host, json!({}))?;
    let bundle = host.bundle()?.payload(&["kill-self", "SEGV"]);
    // The first process of a pid namespace is deaf to its own signals.
    let ran = host.run(&bundle.without_namespace("pid"))?;
    ensure_eq!(ran.code(), Some(139), "{}", ran.finished);
    let bundle = host.bundle()?.payload(&["sleep"]);
    let container = host.start(&bundle)?;
    let pid = container.pid()?;
    host.runtime.must(&["pause", bundle.id()])?;
    container.kill("KILL")?;
    ensure_eq!(container.reap(pid)?, 137);
    container.delete()
}

fn commands(host: &Host) -> Outcome {
    let host = machines(host, json!({}))?;
    for (command, code) in [("nothing", 127), ("/etc/passwd", 126)] {
        let ran = host.run(&host.bundle()?.args(&[command]))?;
        ensure_eq!(ran.code(), Some(code), "{}", ran.finished);
        ensure_eq!(fs::read_dir(host.root())?.count(), 0, "entries left below --root");
    }
    Ok(())
}

fn binds(host: &Host) -> Outcome {
    let host = machines(host, json!({}))?;
    let (writable, readonly) = (host.new_dir("rw")?, host.new_dir("ro")?);
    fs::write(readonly.join("f"), "seen")?;
    let file = host.dir().join("one-file");
    fs::write(&file, "a file")?;
    let words = [
        "write", "/rw/new", "guest", ";", "chown", "/rw/new", "1234", "99", ";", "read", "/ro/f", ";", "write",
        "/ro/x", "y", ";", "read", "/etc/one", ";", "list", "/root",
    ];
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let bundle = host.bundle()?.payload(&words).capabilities(&["bounding", "effective", "permitted"], &["CAP_CHOWN"]);
    let bundle = bundle.mount("/rw", "bind", &text(&writable), &["rbind"]);
    let bundle = bundle.mount("/ro", "bind", &text(&readonly), &["bind", "ro"]).mount(
        "/etc/one",
        "none",
        &text(&file),
        &["bind", "ro"],
    );
    let [_, _, seen, denied, one, _] = host.lines(&bundle)?;
    ensure!(seen.0.to_string().contains("seen") && one.0.to_string().contains("a file"), "{seen:?} {one:?}");
    ensure_eq!(denied.errno(), "EROFS");
    ensure_eq!(fs::read_to_string(writable.join("new"))?, "guest");
    use std::os::unix::fs::MetadataExt;
    let about = fs::metadata(writable.join("new"))?;
    ensure_eq!((about.uid(), about.gid()), (1234, 99));
    ensure!(!readonly.join("x").exists(), "a read-only mount was written to");
    Ok(())
}

fn terminals(host: &Host) -> Outcome {
    let host = machines(host, json!({}))?;
    let bundle =
        host.bundle()?.payload(&["window", ";", "read-line", ";", "exit", "6"]).set("/process/terminal", json!(true));
    let mut desk = Desk::new(33, 101)?;
    let seated = desk.run(&host, &bundle, |_| {})?;
    desk.screen.wait_for("101")?;
    desk.screen.write("typed\n")?;
    ensure_eq!(seated.end(&mut desk.screen)?, 6);

    let bundle = host.bundle()?.payload(&["terminal", ";", "sleep"]).set("/process/terminal", json!(true));
    let socket = ConsoleSocket::new(&host)?;
    let container = Container::create(&host, &bundle, &["--console-socket", socket.path()])?;
    let mut screen = socket.receive()?;
    container.start()?;
    let line = screen.line()?;
    ensure_eq!((&line["controlling"], &line["leads"]), (&json!(true), &json!(true)));
    let [report] = detached(&host, &container, &["--tty"], &["terminal"])?;
    ensure_eq!(report["controlling"], true);
    container.delete_force()
}

enum Blow {
    Qemu,
    StandIn,
    Panic,
}

fn ends(host: &Host, blow: Blow) -> Outcome {
    let host = machines(host, json!({}))?;
    let words: &[&str] = if matches!(blow, Blow::Panic) {
        &["sleep", "300", ";", "write", "/proc/sysrq-trigger", "c"]
    } else {
        &["sleep"]
    };
    let container = host.start(&host.bundle()?.payload(words))?;
    let pid = container.pid()?;
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let qemu: i32 = children.trim().parse()?;
    let begun = Instant::now();
    let (code, ended, cause) = match blow {
        Blow::Qemu => {
            kill(Pid::from_raw(qemu), Signal::SIGKILL)?;
            (137, json!("signaled"), "QEMU was killed by signal 9")
        }
        Blow::StandIn => {
            kill(Pid::from_raw(pid), Signal::SIGKILL)?;
            (137, json!("unknown"), "")
        }
        Blow::Panic => (255, json!("unknown"), "the guest's kernel panicked: sysrq triggered crash"),
    };
    ensure_eq!(container.reap(pid)?, code);
    ensure!(begun.elapsed() < harness::limit(20), "it took {:?}", begun.elapsed());
    if matches!(blow, Blow::StandIn) {
        // It is adopted then, and waited for by whoever adopts it.
        container.reap(qemu)?;
    }
    while Path::new(&format!("/proc/{qemu}")).exists() {
        ensure!(begun.elapsed() < harness::limit(20), "QEMU is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
    ensure_eq!(container.status()?, "stopped");
    if !cause.is_empty() {
        let exit: Value = serde_json::from_str(&host.runtime.must(&["wait", "--format", "json", container.id()])?)
            .map_err(|error| Stop::failed(error.to_string()))?;
        ensure_eq!((&exit["ended"], &exit["cause"]), (&ended, &json!(cause)), "{exit}");
    }
    container.delete()
}

fn memory(host: &Host) -> Outcome {
    let host = machines(host, json!({}))?;
    let bundle = host.bundle()?.payload(&["wait-signal", ";", "alloc", "100"]);
    let container = host.start(&bundle.set("/linux/resources/memory", json!({"limit": 32 * MIB})))?;
    let pid = container.pid()?;
    container.kill("TERM")?;
    ensure_eq!(container.reap(pid)?, 137);
    let exit: Value = serde_json::from_str(&host.runtime.must(&["wait", "--format", "json", container.id()])?)
        .map_err(|error| Stop::failed(error.to_string()))?;
    ensure_eq!(exit["cause"], "the guest's kernel has killed it for want of memory", "{exit}");
    container.delete()
}

fn flood(host: &Host) -> Outcome {
    use std::io::Read;
    let host = machines(host, json!({}))?;
    let bundle = host.bundle()?.payload(&["flood", "stdout", "8"]);
    bundle.save()?;
    let mut command = host.runtime.command();
    let pid_file = host.dir().join("flood.pid");
    command.args([
        "run",
        "--pid-file",
        pid_file.to_str().unwrap_or_default(),
        "--bundle",
        bundle.dir_text(),
        bundle.id(),
    ]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut out = child.stdout.take().ok_or_else(|| Stop::failed("no pipe"))?;
    let (mut count, mut buffer, mut most) = (0, vec![0; 64 << 10], 0);
    loop {
        let length = out.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        count += buffer[..length].iter().filter(|byte| **byte == b'x').count() as u64;
        std::thread::sleep(Duration::from_millis(2));
        if let Ok(pid) = fs::read_to_string(&pid_file) {
            most = resident(pid.trim()).unwrap_or(0).max(most);
        }
    }
    ensure_eq!(child.wait()?.code(), Some(0));
    ensure_eq!(count, 8 * MIB);
    ensure!(most > 0 && most < 24 * 1024, "the stand-in had {most} KiB");
    Ok(())
}

/// KiB.
fn resident(pid: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.split_whitespace().next()?.parse().ok())
}
