//! systemd that is not there, says nothing or something else, or knows the name already; and a create that ends in between.

use super::{call, command, create_fails, file, is_gone, needs_systemd, scope, show, start, unit};
use harness::{Bundle, Feature, Finished, Host, Outcome, Stop, ensure, ensure_eq, json, limit};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) fn trials() -> Feature {
    Feature::new("systemd_trouble")
        .trial("without systemd, or beside cgroup v1, it is refused by name", |host| {
            host.only_wharf("has other words")?;
            if needs_systemd(host).is_ok() {
                return Err(Stop::skipped("systemd runs here, with cgroup v2"));
            }
            let bundle = scope(host)?;
            let said = call(host, &["create", "--bundle", bundle.dir_text(), bundle.id()], &bundle)?;
            ensure!(said.code() == Some(1) && said.last_line().contains("--systemd-cgroup: "), "{said}");
            Ok(())
        })
        .trial("a create that fails after its scope is there leaves no unit", |host| {
            needs_systemd(host)?;
            let missing = scope(host)?.args(&["/bin/not-there"]);
            let said = create_fails(host, &missing)?;
            ensure!(said.last_line().contains("/bin/not-there"), "{said}");
            let hook = scope(host)?.set("/hooks/createRuntime", json!([{"path": "/bin/false"}]));
            create_fails(host, &hook)?;
            let limit = scope(host)?.set("/linux/resources/unified", json!({"memory.nonsense": "1"}));
            let said = create_fails(host, &limit)?;
            ensure!(said.last_line().contains("memory.nonsense"), "{said}");
            Ok(())
        })
        .trial("a unit of the same name that has failed is in nobody's way", |host| {
            needs_systemd(host)?;
            let bundle = scope(host)?.payload(&["sleep"]);
            let _ = Command::new("systemd-run")
                .args(["--scope", "--quiet", "--property=RuntimeMaxSec=1", "--unit", &unit(&bundle), "sleep", "60"])
                .output()?;
            wait_for(&bundle, "failed")?;
            let container = start(host, &bundle)?;
            ensure_eq!(show(&unit(&bundle), "ActiveState")?, "active");
            container.delete_force()?;
            is_gone(&bundle)
        })
        .trial("a unit of the same name that lives is left alone, and named", |host| {
            needs_systemd(host)?;
            let bundle = scope(host)?.payload(&["sleep"]);
            let mut other = Command::new("systemd-run")
                .args(["--scope", "--quiet", "--unit", &unit(&bundle), "sleep", "600"])
                .spawn()?;
            wait_for(&bundle, "active")?;
            let said = call(host, &["create", "--bundle", bundle.dir_text(), bundle.id()], &bundle)?;
            let unharmed = other.try_wait()?.is_none() && show(&unit(&bundle), "ActiveState")? == "active";
            other.kill()?;
            other.wait()?;
            ensure!(said.code() != Some(0) && said.last_line().contains(&unit(&bundle)), "{said}");
            ensure!(unharmed, "the other unit was harmed");
            Ok(())
        })
        .trial("a create that is killed anywhere leaves what delete and the next create recover from", |host| {
            needs_systemd(host)?;
            let whole = std::env::var_os("WHARF_E2E_FULL").is_some();
            let begun = Instant::now();
            let first = scope(host)?.payload(&["sleep"]);
            let container = start(host, &first)?;
            let usual = begun.elapsed();
            container.delete_force()?;
            let points = if whole { 40 } else { 8 };
            for point in 0..points {
                let bundle = scope(host)?.payload(&["sleep"]);
                bundle.save()?;
                let running = host
                    .runtime
                    .spawn_command(command(host, &["create", "--bundle", bundle.dir_text(), bundle.id()]))?;
                std::thread::sleep(usual * point / points);
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(running.pid()), nix::sys::signal::SIGKILL);
                running.finish()?;
                let said = host.runtime.call(&["delete", "--force", bundle.id()])?;
                ensure_eq!(said.code(), Some(0), "point {point}: {said}");
                let container = start(host, &bundle)?;
                container.delete_force()?;
                is_gone(&bundle)?;
            }
            Ok(())
        })
        .trial("without a bus systemd is spoken to directly", |host| {
            needs_systemd(host)?;
            let bundle = scope(host)?.payload(&["read", "/proc/self/cgroup"]);
            bundle.save()?;
            let program = host.runtime.program().display();
            let mut hidden = Command::new("unshare");
            hidden.args(["-m", "sh", "-c"]).arg(format!(
                "mount -t tmpfs none /run/dbus && exec {program} --root {} --systemd-cgroup run --bundle {} {}",
                host.root().display(),
                bundle.dir_text(),
                bundle.id()
            ));
            let finished = host.program(hidden)?.finish()?;
            ensure_eq!(finished.code(), Some(0), "{finished}");
            ensure!(finished.stdout.contains(&unit(&bundle)), "{finished}");
            is_gone(&bundle)
        })
        .trial("where nobody is to speak to, that is told at once", |host| {
            needs_systemd(host)?;
            let bundle = scope(host)?;
            let said = with_bus(host, &bundle, "unix:path=/run/not-there")?;
            ensure!(said.last_line().contains("nobody to speak to: /run/not-there is not there"), "{said}");
            ensure!(said.took < limit(5), "{:?}", said.took);
            Ok(())
        })
        .trial(
            "a bus that closes, talks nonsense or says nothing is told as such, and waited for half a minute",
            |host| {
                needs_systemd(host)?;
                let answer = |bytes: &'static [u8]| {
                    move |mut stream: UnixStream| {
                        let _ = stream.read(&mut [0; 64]);
                        let _ = stream.write_all(bytes);
                    }
                };
                let closes = hostile(host, answer(b""))?;
                ensure!(closes.last_line().contains("closed before an answer came"), "{closes}");
                let late = hostile(host, answer(b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\n"))?;
                ensure!(late.last_line().contains("closed before an answer came"), "{late}");
                for bytes in [
                    &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
                    b"DATA\r\nOK 0\r\nHTTP/1.1 400 Bad Request",
                    &[0xff; 9000],
                ] {
                    let garbage = hostile(host, move |mut stream| {
                        let _ = stream.write_all(bytes);
                        // What closes at once may be heard to have closed before it is heard.
                        let _ = stream.read_to_end(&mut Vec::new());
                    })?;
                    ensure!(garbage.last_line().contains("does not speak D-Bus"), "{garbage}");
                }
                let silent = hostile(host, |mut stream| {
                    // Until the other side goes away.
                    let _ = stream.read_to_end(&mut Vec::new());
                })?;
                ensure!(silent.last_line().contains("no answer within 30 seconds"), "{silent}");
                ensure!(silent.took < Duration::from_secs(30) + limit(5), "{:?}", silent.took);
                Ok(())
            },
        )
        .trial("a memory limit below what the set-up needs is told with its name", |host| {
            needs_systemd(host)?;
            let bundle = scope(host)?.set("/linux/resources/memory", json!({"limit": 4096, "swap": 4096}));
            let said = create_fails(host, &bundle)?;
            ensure!(said.last_line().contains("memory.max 4096 is below what the set-up needs"), "{said}");
            ensure!(said.last_line().contains("[linux/resources/memory/limit]"), "{said}");
            Ok(())
        })
        .trial("the scope's own limits bind: pids and memory", |host| {
            needs_systemd(host)?;
            let bundle = scope(host)?.payload(&["sleep"]).set("/linux/resources/pids", json!({"limit": 8}));
            let container = start(host, &bundle)?;
            let [forked] = container.exec_lines(&[], &["fork", "20"])?;
            ensure_eq!(forked["refused"], json!("EAGAIN"));
            ensure!(file(&bundle, "pids.events")? != "max 0", "the kernel has counted no refusal");
            container.delete_force()?;
            let memory = json!({"limit": 40 << 20, "swap": 40 << 20});
            let bundle = scope(host)?.payload(&["alloc", "100"]).set("/linux/resources/memory", memory);
            let finished = call(host, &["run", "--bundle", bundle.dir_text(), bundle.id()], &bundle)?;
            ensure_eq!(finished.code(), Some(137), "{finished}");
            is_gone(&bundle)
        })
}

fn wait_for(bundle: &Bundle, state: &str) -> Outcome {
    let begun = Instant::now();
    while show(&unit(bundle), "ActiveState")? != state {
        ensure!(begun.elapsed() < limit(20), "{} does not become {state}", unit(bundle));
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// `create` with another address for the system's bus; it must fail and leave no unit.
fn with_bus(host: &Host, bundle: &Bundle, address: &str) -> Result<Finished, Stop> {
    bundle.save()?;
    let mut create = command(host, &["create", "--bundle", bundle.dir_text(), bundle.id()]);
    create.env("DBUS_SYSTEM_BUS_ADDRESS", address);
    let said = host.runtime.spawn_command(create)?.finish()?;
    ensure!(said.code() == Some(1), "{said}");
    is_gone(bundle)?;
    Ok(said)
}

/// What `create` says of a bus that does this with each who connects.
fn hostile(host: &Host, act: impl Fn(UnixStream) + Send + 'static) -> Result<Finished, Stop> {
    let path = host.new_dir("bus")?.join("socket");
    let listener = UnixListener::bind(&path)?;
    let other = std::thread::spawn(move || listener.accept().map(|(stream, _)| act(stream)));
    let said = with_bus(host, &scope(host)?, &format!("unix:path={}", path.display()));
    // Where nobody has, so that it ends.
    drop(UnixStream::connect(&path));
    let _ = other.join();
    said
}
