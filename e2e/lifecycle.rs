//! The life of a container: create, start, kill, delete, and what state says at each step.

use harness::{Container, Feature, Mounted, Stop, ensure, ensure_eq, json};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub(crate) fn trials() -> Feature {
    Feature::new("lifecycle")
        .trial("a container is created, running, stopped, and gone", |host| {
            let bundle = host.bundle()?.payload(&["touch", "/var/started", ";", "sleep"]);
            let container = host.create(&bundle)?;
            ensure_eq!(container.status()?, "created");
            std::thread::sleep(std::time::Duration::from_millis(50));
            ensure!(!bundle.rootfs().join("var/started").exists(), "the payload ran before start");
            container.start()?;
            ensure_eq!(container.status()?, "running");
            container.lines(1)?;
            ensure!(bundle.rootfs().join("var/started").exists(), "the payload did not run");
            container.kill("KILL")?;
            container.wait_for_status("stopped")?;
            container.delete()?;
            let said = container.call("state", &[])?;
            ensure!(said.code() != Some(0) && said.stderr.contains("does not exist"), "{said}");
            Ok(())
        })
        .trial("state tells version, id, status, pid, bundle and nothing on stderr", |host| {
            let bundle = host.bundle()?.payload(&["sleep"]);
            let container = host.create(&bundle)?;
            let state = container.state()?;
            ensure!(state["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")), "{state}");
            ensure_eq!((&state["id"], &state["status"]), (&json!(bundle.id()), &json!("created")));
            ensure_eq!(state["bundle"], bundle.dir_text());
            let pid = container.pid()?;
            let command = std::fs::read(format!("/proc/{pid}/status"))?;
            ensure!(!command.is_empty(), "no process {pid}");
            ensure_eq!(container.call("state", &[])?.stderr, "");
            container.start()?;
            ensure_eq!(container.pid()?, pid, "start changed the pid");
            if host.runtime.name() == "runc" {
                // runc's start does not wait until the payload is executed.
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline"))?;
            ensure!(line.starts_with("/bin/payload"), "process {pid} is {line:?}");
            container.delete_force()
        })
        .trial("create, start, kill and delete are silent", |host| {
            let bundle = host.bundle()?.payload(&["sleep"]);
            bundle.save()?;
            for call in [
                vec!["create", "--bundle", bundle.dir_text(), bundle.id()],
                vec!["start", bundle.id()],
                vec!["kill", bundle.id(), "KILL"],
            ] {
                let said = host.runtime.call(&call)?;
                ensure!(said.code() == Some(0) && said.stdout.is_empty() && said.stderr.is_empty(), "{said}");
            }
            let said = host.runtime.call(&["delete", "--force", bundle.id()])?;
            ensure!(said.code() == Some(0) && said.stdout.is_empty() && said.stderr.is_empty(), "{said}");
            Ok(())
        })
        .trial("state is true when the payload has ended by itself, and when somebody else killed it", |host| {
            let container = host.start(&host.bundle()?.payload(&["exit", "3"]))?;
            container.wait_for_status("stopped")?;
            container.delete()?;
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            let pid = container.pid()?;
            kill(Pid::from_raw(pid), Signal::SIGKILL)?;
            ensure_eq!(container.reap(pid)?, 128 + 9);
            ensure_eq!(container.status()?, "stopped");
            let state = container.state()?;
            ensure!(state["pid"].is_null() || state["pid"] == 0, "a stopped container has pid {}", state["pid"]);
            container.delete()
        })
        .trial("an ended payload that nobody has waited for is stopped too", |host| {
            let container = host.start(&host.bundle()?.payload(&["exit", "0"]))?;
            // This process is the subreaper and does not wait: the payload stays a zombie.
            container.wait_for_status("stopped")?;
            container.delete()
        })
        .trial("the payload's exit code reaches the subreaper", |host| {
            let bundle = host.bundle()?.payload(&["wait-file", "/tmp/go", ";", "exit", "42"]);
            let container = host.start(&bundle)?;
            let pid = container.pid()?;
            std::fs::write(bundle.rootfs().join("tmp/go"), "")?;
            ensure_eq!(container.reap(pid)?, 42);
            container.delete()
        })
        .trial("a created container that is killed is stopped and can be deleted", |host| {
            let container = host.create(&host.bundle()?.payload(&["touch", "/var/ran"]))?;
            container.kill("KILL")?;
            container.wait_for_status("stopped")?;
            container.delete()
        })
        .trial("a created container can be deleted by force, and its payload never runs", |host| {
            let bundle = host.bundle()?.payload(&["touch", "/var/ran"]);
            let container = host.create(&bundle)?;
            container.delete_force()?;
            ensure!(!bundle.rootfs().join("var/ran").exists(), "the payload ran");
            Ok(())
        })
        .trial("a boot id that is mounted over the kernel's, as in a container of LXC, is taken for one", |host| {
            let file = host.dir().join("boot_id");
            std::fs::write(&file, "12345678-1234-1234-1234-123456789abc\n")?;
            let _mounted = Mounted::over(&file, std::path::Path::new("/proc/sys/kernel/random/boot_id"))?;
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            ensure_eq!(container.status()?, "running");
            container.delete_force()
        })
        .trial("signals arrive by name, with and without SIG, in any case, and by number", |host| {
            for (spelled, name) in [
                ("TERM", "SIGTERM"),
                ("SIGUSR1", "SIGUSR1"),
                ("hup", "SIGHUP"),
                ("sigint", "SIGINT"),
                ("12", "SIGUSR2"),
            ] {
                let container = host.start(&host.bundle()?.payload(&["wait-signal"]))?;
                container.lines(1)?;
                container.kill(spelled)?;
                ensure_eq!(container.lines(2)?[1]["signal"], name);
                container.delete_force()?;
            }
            Ok(())
        })
        .trial("kill without a signal sends SIGTERM", |host| {
            let container = host.start(&host.bundle()?.payload(&["wait-signal"]))?;
            container.lines(1)?;
            ensure_eq!(container.call("kill", &[])?.code(), Some(0));
            ensure_eq!(container.lines(2)?[1]["signal"], "SIGTERM");
            container.delete_force()
        })
        .trial("kill with signal 0 probes", |host| {
            host.except("runc", "1.1 takes no signal 0")?;
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            container.kill("0")?;
            ensure_eq!(container.status()?, "running");
            container.kill("KILL")?;
            container.wait_for_status("stopped")?;
            ensure!(container.call("kill", &["0"])?.code() != Some(0), "a stopped container answered");
            container.delete()
        })
        .trial("an unknown signal is refused and sends nothing", |host| {
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            for wrong in ["WINDY", "99", "9x"] {
                let said = host.runtime.call(&["kill", container.id(), wrong])?;
                ensure!(said.code() != Some(0), "{wrong:?} was taken: {said}");
            }
            ensure_eq!(container.status()?, "running");
            container.delete_force()
        })
        .trial("kill of a stopped container says that it is not running", |host| {
            let container = host.start(&host.bundle()?.payload(&["nothing"]))?;
            container.wait_for_status("stopped")?;
            let said = container.call("kill", &[])?;
            ensure!(said.code() != Some(0) && said.stderr.contains("not running"), "{said}");
            container.delete()
        })
        .trial("kill --all of a stopped container finds nobody, which is no failure; an unknown one is", |host| {
            for namespaced in [true, false] {
                let bundle = host.bundle()?.payload(&["nothing"]);
                let bundle = if namespaced { bundle } else { bundle.without_namespace("pid") };
                let container = host.start(&bundle)?;
                container.wait_for_status("stopped")?;
                for signal in ["KILL", "TERM", "0"] {
                    let said = host.runtime.call(&["kill", "--all", container.id(), signal])?;
                    ensure!(said.code() == Some(0) && said.stderr.is_empty(), "{said}");
                }
                container.delete()?;
                let said = host.runtime.call(&["kill", "--all", bundle.id(), "KILL"])?;
                ensure!(said.code() == Some(1) && said.stderr.contains("does not exist"), "{said}");
            }
            Ok(())
        })
        .trial("kill --all ends every process of a container without a pid namespace", |host| {
            let bundle = host.bundle()?.without_namespace("pid").payload(&["spawn", "/bin/payload", "sleep"]);
            let container = host.start(&bundle)?;
            let pid = container.pid()?;
            wait_for_children(pid)?;
            let said = host.runtime.call(&["kill", "--all", container.id(), "KILL"])?;
            ensure_eq!(said.code(), Some(0), "{said}");
            container.wait_for_status("stopped")?;
            container.delete()
        })
        .trial("delete by force ends every process of a container without a pid namespace", |host| {
            let bundle = host.bundle()?.without_namespace("pid").payload(&["spawn", "/bin/payload", "sleep"]);
            let container = host.start(&bundle)?;
            wait_for_children(container.pid()?)?;
            container.delete_force()
        })
        .trial("a first process that is gone is no more, though its session lives on", |host| {
            let bundle = host.bundle()?.without_namespace("pid").payload(&["spawn", "/bin/payload", "sleep"]);
            let container = host.start(&bundle)?;
            let pid = container.pid()?;
            wait_for_children(pid)?;
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)?;
            ensure_eq!(container.reap(pid)?, 137);
            ensure_eq!(container.status()?, "stopped");
            container.delete()
        })
        .trial("the end of process 1 ends the others of its pid namespace", |host| {
            let bundle = host.bundle()?.payload(&["spawn", "/bin/payload", "sleep"]);
            let container = host.start(&bundle)?;
            wait_for_children(container.pid()?)?;
            container.kill("KILL")?;
            container.wait_for_status("stopped")?;
            container.delete()
        })
        .trial("each verb refuses a status that it does not fit, and says which", |host| {
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            ensure!(container.call("start", &[])?.code() != Some(0), "start of a running container");
            let said = container.call("delete", &[])?;
            ensure!(said.code() != Some(0), "delete of a running container");
            ensure!(said.stderr.contains("running") || said.stderr.contains("not stopped"), "{said}");
            ensure_eq!(container.status()?, "running");
            container.kill("KILL")?;
            container.wait_for_status("stopped")?;
            ensure!(container.call("start", &[])?.code() != Some(0), "start of a stopped container");
            container.delete()
        })
        .trial("a created container is deleted by force alone, and TERM does not reach what waits in it", |host| {
            host.except("runc", "deletes it, and its waiting program ends by TERM")?;
            host.except("crun", "deletes it")?;
            let container = host.create(&host.bundle()?.payload(&["sleep"]))?;
            let said = container.call("delete", &[])?;
            ensure!(said.code() == Some(1) && said.stderr.contains("created"), "{said}");
            container.kill("TERM")?;
            ensure_eq!(container.status()?, "created");
            container.kill("KILL")?;
            container.wait_for_status("stopped")?;
            container.delete()
        })
        .trial("every verb says that an unknown container does not exist", |host| {
            for verb in ["state", "start", "kill", "delete"] {
                let said = host.runtime.call(&[verb, "nobody"])?;
                ensure!(said.code() != Some(0) && said.stderr.contains("does not exist"), "{said}");
            }
            Ok(())
        })
        .trial("delete by force of an unknown container succeeds", |host| {
            ensure_eq!(host.runtime.call(&["delete", "--force", "nobody"])?.code(), Some(0));
            Ok(())
        })
        .trial("an id that is taken is refused and the first container lives on", |host| {
            let bundle = host.bundle()?.payload(&["sleep"]);
            let container = host.start(&bundle)?;
            let said = host.runtime.call(&["create", "--bundle", bundle.dir_text(), bundle.id()])?;
            ensure!(said.code() != Some(0) && said.stderr.contains("exist"), "{said}");
            if host.runtime.name() == "wharf" {
                ensure!(said.stderr.contains(bundle.id()), "{said}");
            }
            ensure_eq!(container.status()?, "running");
            container.delete_force()
        })
        .trial("an id can be used again after delete", |host| {
            let bundle = host.bundle()?.payload(&["sleep"]);
            for _ in 0..3 {
                let container = host.start(&bundle)?;
                container.delete_force()?;
            }
            Ok(())
        })
        .trial("ids of every allowed kind work", |host| {
            let tag = host.tag();
            let long = format!("{tag}{}", "x".repeat(64 - tag.len()));
            for id in [format!("{tag}.with-every_sign+1"), long] {
                let bundle = host.bundle()?.with_id(&id).payload(&["sleep"]);
                let container = Container::create(host, &bundle, &[])?;
                ensure_eq!(container.state()?["id"], id.as_str());
                container.delete_force()?;
            }
            Ok(())
        })
        .trial("options may follow the id, and --option=value is --option value", |host| {
            let bundle = host.bundle()?.payload(&["nothing"]);
            bundle.save()?;
            host.runtime.must(&["run", &format!("--bundle={}", bundle.dir_text()), bundle.id()])?;
            host.except("runc", "stops at the id")?;
            host.runtime.must(&["run", bundle.id(), "--bundle", bundle.dir_text()])?;
            Ok(())
        })
        .trial("without --bundle the working directory is the bundle", |host| {
            let bundle = host.bundle()?.payload(&["say", "here"]);
            bundle.save()?;
            let mut command = host.runtime.command();
            command.current_dir(bundle.dir()).args(["run", bundle.id()]);
            let ran = host.runtime.spawn_command(command)?.finish()?;
            ensure!(ran.code() == Some(0) && ran.stdout.contains("here"), "{ran}");
            Ok(())
        })
        .trial("a bundle that changes after create does not change the container", |host| {
            let bundle = host.bundle()?.payload(&["say", "first"]);
            let container = host.create(&bundle)?;
            let changed = bundle.payload(&["say", "second"]);
            changed.save()?;
            container.start()?;
            let line = container.lines(1)?[0].clone();
            ensure_eq!(line["said"], json!(["first"]));
            container.wait_for_status("stopped")?;
            std::fs::remove_file(changed.dir().join("config.json"))?;
            container.delete()
        })
}

/// Until the process has a child.
fn wait_for_children(pid: i32) -> Result<(), Stop> {
    for _ in 0..2000 {
        let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        if !text.trim().is_empty() {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    Err(Stop::failed(format!("process {pid} has no child")))
}
