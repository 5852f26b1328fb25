//! Real engines whose containers go into virtual machines. Each boots several, so they run with `WHARF_E2E_FULL=1` alone.

use crate::engines::case::Choice;
use crate::engines::containerd;
use crate::engines::podman::engine::Podman;
use crate::vm::machines;
use harness::{Feature, Host, Outcome, Stop, ensure, ensure_eq, json};
use std::fs;

pub(crate) fn trials() -> Feature {
    Feature::new("vm under engines")
        .trial("Podman: output, codes, volumes, exec, pause, stop, and nothing of the host through the pid", by_podman)
        .trial(
            "Podman's own network: machines reach each other, and the host and a published port reach them",
            networked,
        )
        .trial("containerd: output, codes, exec, pause, kill", by_containerd)
}

fn long() -> Outcome {
    match std::env::var_os("WHARF_E2E_FULL") {
        Some(_) => Ok(()),
        None => Err(Stop::skipped("boots several machines: WHARF_E2E_FULL=1 runs it")),
    }
}

fn by_podman(host: &Host) -> Outcome {
    long()?;
    let host = machines(host, json!({}))?;
    let podman = Podman::new(&host, &Choice { name: "wharf", program: host.runtime.program(), peer: false })?;
    let volume = host.new_dir("volume")?;
    fs::write(volume.join("f"), "seen")?;
    let (writable, readonly) = (format!("{}:/rw", volume.display()), format!("{}:/ro:ro", volume.display()));
    let script =
        "cat /rw/f; echo new > /rw/g; echo x > /ro/h 2>/dev/null || echo denied; uname -r; echo apart >&2; exit 33";
    let ran = podman.run(&["--volume", &writable, "--volume", &readonly], &["sh", "-c", script])?;
    ensure_eq!(ran.code(), Some(33), "{ran}");
    let lines: Vec<&str> = ran.stdout.lines().collect();
    ensure!(lines.first() == Some(&"seendenied") && ran.stderr.contains("apart"), "{ran}");
    let own = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    ensure!(lines.last().is_some_and(|release| *release != own.trim()), "{ran}");
    ensure_eq!(fs::read_to_string(volume.join("g"))?, "new\n");
    ensure!(!volume.join("h").exists(), "a read-only volume was written to");
    for (command, code) in [("nothing", 127), ("/etc/passwd", 126)] {
        let ran = podman.run(&[], &[command])?;
        ensure_eq!(ran.code(), Some(code), "{ran}");
    }

    let wait = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done";
    podman.start("c", &["--memory", "128m"], &["sh", "-c", wait])?;
    podman.wait_for_log("c", "ready")?;
    ensure_eq!(podman.exec("c", "echo inside")?, "inside");
    let four = podman.call(&["exec", "c", "sh", "-c", "exit 4"])?;
    ensure_eq!(four.code(), Some(4), "{four}");
    ensure_eq!(podman.call(&["exec", "c", "nothing"])?.code(), Some(127));
    podman.must(&["pause", "c"])?;
    ensure_eq!(podman.inspect("c", "{{.State.Status}}")?, "paused");
    podman.must(&["unpause", "c"])?;
    // Both go through the pid, and must find nothing there.
    let copied = host.dir().join("copied");
    for words in [&["cp", "c:/etc/passwd", copied.to_str().unwrap_or_default()][..], &["top", "c"]] {
        let refused = podman.call(words)?;
        ensure!(refused.code() != Some(0) && !copied.exists(), "{refused}");
    }
    podman.must(&["stop", "--time", "10", "c"])?;
    ensure_eq!(podman.inspect("c", "{{.State.ExitCode}}")?, "7");
    podman.must(&["rm", "c"])?;
    ensure!(!podman.known()?, "wharf still knows a container");
    Ok(())
}

fn networked(host: &Host) -> Outcome {
    long()?;
    let host = machines(host, json!({}))?;
    let podman = Podman::new(&host, &Choice { name: "wharf", program: host.runtime.program(), peer: false })?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let serve = "echo from $(hostname -i) > /tmp/f; httpd -p 80 -h /tmp; echo ready; sleep 1000";
    let publish = format!("127.0.0.1:{port}:80");
    podman.start("server", &["--network", "podman", "--publish", &publish], &["sh", "-c", serve])?;
    podman.wait_for_log("server", "ready")?;
    let address = podman.inspect("server", "{{.NetworkSettings.Networks.podman.IPAddress}}")?;
    ensure!(!address.is_empty(), "Podman knows no address");
    let fetched = podman.sh(&["--network", "podman"], &format!("wget -q -O - http://{address}/f; cat /etc/hosts"))?;
    ensure!(fetched.contains("from ") && fetched.contains("127.0.0.1"), "{fetched}");
    for to in [format!("{address}:80"), format!("127.0.0.1:{port}")] {
        let mut stream = std::net::TcpStream::connect(&to)?;
        std::io::Write::write_all(&mut stream, b"GET /f HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer)?;
        ensure!(answer.contains(&format!("from {address}")), "{to}: {answer}");
    }
    podman.must(&["rm", "--force", "--time", "0", "server"])?;
    ensure!(!podman.known()?, "wharf still knows a container");
    Ok(())
}

fn by_containerd(host: &Host) -> Outcome {
    long()?;
    containerd::with(|engine| {
        let id = engine.host.unique("r");
        let ran = engine.run(&["--rm"], &id, &["sh", "-c", "uname -r; echo apart >&2; exit 17"])?;
        let own = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        ensure!(ran.code() == Some(17) && ran.stderr.contains("apart"), "{ran}");
        ensure!(!ran.stdout.is_empty() && !ran.stdout.contains(own.trim()), "{ran}");
        let (id, _) = engine.detached(&[], &["sh", "-c", "while :; do sleep 0.05; done"])?;
        let ran = engine.ctr(&["task", "exec", "--exec-id", "e", &id, "sh", "-c", "echo inside; exit 8"])?;
        ensure!(ran.code() == Some(8) && ran.stdout == "inside\n", "{ran}");
        engine.must(&["task", "pause", &id])?;
        engine.wait_for(&id, "PAUSED")?;
        engine.must(&["task", "resume", &id])?;
        engine.must(&["task", "kill", "--signal", "SIGKILL", &id])?;
        engine.wait_for(&id, "STOPPED")?;
        ensure_eq!(engine.exit_code(&id)?, 137);
        engine.nothing_left()
    })(&machines(host, json!({}))?)
}
