//! `process.terminal` with `--console-socket`: the payload's terminal, and who gets its other end.

use harness::{Bundle, ConsoleSocket, Container, Feature, Host, Screen, Stop, ensure, ensure_eq, json};
use nix::sys::termios::OutputFlags;

pub(crate) fn trials() -> Feature {
    Feature::new("terminal")
        .trial("the payload's standard descriptors are a terminal that is its session's", |host| {
            let (container, mut screen) = create(host, &with_terminal(host, &["terminal"])?, &[])?;
            container.start()?;
            let report = screen.line()?;
            ensure_eq!(report["standard"], json!([true, true, true]));
            ensure_eq!(report["names"], json!(["/dev/pts/0", "/dev/pts/0", "/dev/pts/0"]));
            for what in ["controlling", "leads", "foreground", "echo", "canonical"] {
                ensure_eq!(report[what], true, "{what}");
            }
            container.wait_for_status("stopped")
        })
        .trial("/dev/console is that terminal", |host| {
            let bundle =
                with_terminal(host, &["terminal", ";", "append", "/dev/console", "by the console\n", ";", "report"])?;
            let (container, mut screen) = create(host, &bundle, &[])?;
            container.start()?;
            let report = screen.line()?;
            ensure!(report["device"].as_u64().is_some_and(|number| number >> 8 == 136), "{}", report["device"]);
            ensure_eq!(report["console"], report["device"]);
            screen.wait_for("by the console\r\n")?;
            let _ = screen.line()?;
            let report = screen.line()?;
            ensure_eq!(report.mount("/dev/console")["type"], "devpts");
            Ok(())
        })
        .trial("no other descriptor of it reaches the payload", |host| {
            let (container, mut screen) = create(host, &with_terminal(host, &["report"])?, &[])?;
            container.start()?;
            let report = screen.line()?;
            let open: Vec<_> = report["fds"].as_object().into_iter().flatten().map(|(fd, _)| fd.as_str()).collect();
            ensure_eq!(open, ["0", "1", "2"]);
            container.wait_for_status("stopped")
        })
        .trial("it belongs to the payload's user and to the group that the mount says", |host| {
            let bundle = with_terminal(host, &["terminal"])?
                .set("/process/user", json!({ "uid": 1000, "gid": 1000 }))
                .set("/process/capabilities", json!({}));
            let (container, mut screen) = create(host, &bundle, &[])?;
            container.start()?;
            let report = screen.line()?;
            ensure_eq!((&report["uid"], &report["gid"]), (&json!(1000), &json!(5)));
            ensure_eq!(report["mode"], "620");
            ensure_eq!(report["controlling"], true);
            Ok(())
        })
        .trial("what is typed is read, and ^C is SIGINT to the payload", |host| {
            let bundle = with_terminal(host, &["read-line", ";", "wait-signal"])?;
            let (container, mut screen) = create(host, &bundle, &[])?;
            container.start()?;
            ensure_eq!(screen.line()?["ready"], true);
            screen.write("ahoy\n")?;
            ensure_eq!(screen.line()?["line"], "ahoy\n");
            ensure_eq!(screen.line()?["ready"], true);
            screen.write("\x03")?;
            ensure_eq!(screen.line()?["signal"], "SIGINT");
            Ok(())
        })
        .trial("^C reaches the foreground process group alone, and the terminal goes back afterwards", |host| {
            let bundle = with_terminal(host, &["foreground-child", "wait-signal", ";", "terminal"])?;
            let (container, mut screen) = create(host, &bundle, &[])?;
            container.start()?;
            // The child is ready, and its parent has handed it the terminal: who says so first is open.
            let lines = [screen.line()?, screen.line()?];
            ensure!(lines.iter().any(|line| line["ready"] == true), "{lines:?}");
            ensure!(lines.iter().any(|line| line["handed"] == true), "{lines:?}");
            screen.write("\x03")?;
            ensure_eq!(screen.line()?["signal"], "SIGINT");
            ensure_eq!(screen.line()?["code"], 0);
            ensure_eq!(screen.line()?["foreground"], true);
            Ok(())
        })
        .trial("a new window size arrives with SIGWINCH", |host| {
            let (container, mut screen) = create(host, &with_terminal(host, &["wait-window"])?, &[])?;
            container.start()?;
            ensure_eq!(screen.line()?["ready"], true);
            screen.resize(33, 111)?;
            ensure_eq!(screen.line()?["window"], json!([33, 111]));
            Ok(())
        })
        .trial("consoleSize is the size that the payload begins with", |host| {
            let bundle =
                with_terminal(host, &["window"])?.set("/process/consoleSize", json!({ "height": 42, "width": 142 }));
            let (container, mut screen) = create(host, &bundle, &[])?;
            container.start()?;
            screen.wait_for("[42,142]")
        })
        .trial("line ends are translated until the receiver changes that, as with runc", |host| {
            let (container, mut screen) = create(host, &with_terminal(host, &["print", "one\ntwo\n"])?, &[])?;
            ensure!(screen.settings()?.output_flags.contains(OutputFlags::ONLCR), "ONLCR is not set");
            container.start()?;
            screen.wait_for("one\r\ntwo\r\n")
        })
        .trial("hanging up the other end is SIGHUP for the payload", |host| {
            let (container, mut screen) = create(host, &with_terminal(host, &["wait-signal"])?, &[])?;
            let pid = container.pid()?;
            container.start()?;
            ensure_eq!(screen.line()?["ready"], true);
            drop(screen);
            // It cannot say so any more: its report fails.
            container.reap(pid)?;
            container.wait_for_status("stopped")
        })
        .trial("the other end is nobody's but the receiver's", |host| {
            let (container, screen) = create(host, &with_terminal(host, &["sleep"])?, &[])?;
            let pid = container.pid()?;
            let masters = |pid: i32| -> Result<usize, Stop> {
                let links = std::fs::read_dir(format!("/proc/{pid}/fd"))?.flatten();
                Ok(links
                    .filter_map(|entry| std::fs::read_link(entry.path()).ok())
                    .filter(|to| to.ends_with("ptmx"))
                    .count())
            };
            ensure_eq!(masters(pid)?, 0, "in the waiting init");
            container.start()?;
            ensure_eq!(masters(pid)?, 0, "in the payload");
            drop(screen);
            container.delete_force()
        })
        .trial("the payload's end ends it, and its exit code is known", |host| {
            let (container, mut screen) =
                create(host, &with_terminal(host, &["print", "bye", ";", "exit", "7"])?, &[])?;
            let pid = container.pid()?;
            container.start()?;
            ensure_eq!(String::from_utf8_lossy(screen.to_end()?), "bye{\"did\":\"print\"}\r\n");
            ensure_eq!(container.reap(pid)?, 7);
            Ok(())
        })
        .trial("run --detach sends it too", |host| {
            let bundle = with_terminal(host, &["terminal", ";", "sleep"])?;
            bundle.save()?;
            let socket = ConsoleSocket::new(host)?;
            let run =
                ["run", "--detach", "--console-socket", socket.path(), "--bundle", bundle.dir_text(), bundle.id()];
            host.runtime.must(&run)?;
            let mut screen = socket.receive()?;
            ensure_eq!(screen.line()?["controlling"], true);
            host.runtime.must(&["delete", "--force", bundle.id()]).map(drop)
        })
        .trial("with a user namespace it is the payload's as well", |host| {
            let bundle = in_user_namespace(with_terminal(host, &["terminal"])?)?;
            let (container, mut screen) = create(host, &bundle, &[])?;
            container.start()?;
            let report = screen.line()?;
            ensure_eq!((&report["uid"], &report["gid"]), (&json!(0), &json!(5)));
            ensure_eq!(report["names"][0], "/dev/pts/0");
            ensure_eq!(report["console"], report["device"]);
            ensure_eq!(report["controlling"], true);
            Ok(())
        })
        .trial("a devpts that is mounted on the host and bound serves too", |host| {
            let place = host.new_dir("devpts")?;
            let options = Some("newinstance,ptmxmode=0666,mode=0620,gid=5");
            nix::mount::mount(Some("devpts"), &place, Some("devpts"), nix::mount::MsFlags::empty(), options)?;
            let source = place.to_string_lossy().into_owned();
            let bundle = with_terminal(host, &["terminal"])?.edit(|config| {
                let mounts = config["mounts"].as_array_mut().expect("mounts");
                for mount in mounts.iter_mut().filter(|mount| mount["destination"] == "/dev/pts") {
                    *mount =
                        json!({ "destination": "/dev/pts", "type": "bind", "source": source, "options": ["bind"] });
                }
            });
            let outcome = (|| {
                let (container, mut screen) = create(host, &bundle, &[])?;
                container.start()?;
                let report = screen.line()?;
                ensure_eq!(report["names"][0], "/dev/pts/0");
                ensure_eq!(report["console"], report["device"]);
                container.delete_force()
            })();
            nix::mount::umount(&place)?;
            outcome
        })
        .trial("without a devpts it is refused", |host| {
            let bundle = with_terminal(host, &["terminal"])?.edit(|config| {
                let mounts = config["mounts"].as_array_mut().expect("mounts");
                mounts.retain(|mount| mount["destination"] != "/dev/pts");
            });
            refused(host, &bundle, true, "there is no devpts on /dev/pts [process/terminal]")?;
            // A directory of that name is none either.
            refused(host, &bundle.directory("dev/pts")?, true, "there is no devpts on /dev/pts [process/terminal]")
        })
        .trial("without --console-socket create refuses it", |host| {
            let bundle = with_terminal(host, &["terminal"])?;
            refused(host, &bundle, false, "nobody would have its other end [process/terminal]")
        })
        .trial("a console socket without a terminal is refused", |host| {
            refused(host, &host.bundle()?, true, "the process has no terminal [process/terminal]")
        })
        .trial("a console socket in the foreground is refused", |host| {
            let bundle = with_terminal(host, &["terminal"])?;
            bundle.save()?;
            let socket = ConsoleSocket::new(host)?;
            let run = ["run", "--console-socket", socket.path(), "--bundle", bundle.dir_text(), bundle.id()];
            let finished = host.runtime.call(&run)?;
            ensure!(finished.code() != Some(0), "{finished}");
            host.only_wharf("runc words it differently")?;
            ensure!(finished.last_line().contains("is in the foreground [process/terminal]"), "{finished}");
            ensure!(socket.received()?.is_none(), "a terminal was sent");
            Ok(())
        })
        .trial("a console socket where nobody listens is an error with its name", |host| {
            let bundle = with_terminal(host, &["terminal"])?;
            bundle.save()?;
            let path = host.dir().join("nobody").to_string_lossy().into_owned();
            let create = ["create", "--console-socket", &path, "--bundle", bundle.dir_text(), bundle.id()];
            let finished = host.runtime.call(&create)?;
            ensure!(finished.code() != Some(0), "{finished}");
            ensure!(finished.last_line().contains(&path), "{finished}");
            Ok(())
        })
        .trial("a command that is missing is told, and no terminal is sent", |host| {
            host.only_wharf("runc sends it first")?;
            let bundle = with_terminal(host, &[])?.args(&["/bin/missing"]);
            bundle.save()?;
            let socket = ConsoleSocket::new(host)?;
            let create = ["create", "--console-socket", socket.path(), "--bundle", bundle.dir_text(), bundle.id()];
            let finished = host.runtime.call(&create)?;
            ensure!(finished.last_line().contains("/bin/missing"), "{finished}");
            ensure!(socket.received()?.is_none(), "a terminal was sent");
            Ok(())
        })
        .trial("a size beyond what a terminal has is refused with its place", |host| {
            host.only_wharf("runc cuts it")?;
            let bundle =
                with_terminal(host, &["window"])?.set("/process/consoleSize", json!({ "height": 24, "width": 65536 }));
            refused(host, &bundle, true, "is more than 65535 [process/consoleSize/width]")
        })
}

pub(crate) fn with_terminal(host: &Host, words: &[&str]) -> Result<Bundle, Stop> {
    Ok(host.bundle()?.payload(words).set("/process/terminal", json!(true)))
}

pub(crate) fn create<'h>(host: &'h Host, bundle: &Bundle, options: &[&str]) -> Result<(Container<'h>, Screen), Stop> {
    let socket = ConsoleSocket::new(host)?;
    let options = [&["--console-socket", socket.path()], options].concat();
    let container = Container::create(host, bundle, &options)?;
    let screen = socket.receive()?;
    Ok((container, screen))
}

fn refused(host: &Host, bundle: &Bundle, with_socket: bool, words: &str) -> Result<(), Stop> {
    bundle.save()?;
    let socket = ConsoleSocket::new(host)?;
    let mut create = vec!["create", "--bundle", bundle.dir_text(), bundle.id()];
    if with_socket {
        create.splice(1..1, ["--console-socket", socket.path()]);
    }
    let finished = host.runtime.call(&create)?;
    ensure!(finished.code() != Some(0), "it was not refused: {finished}");
    ensure!(socket.received()?.is_none(), "a terminal was sent");
    if host.runtime.name() == "wharf" {
        ensure!(finished.last_line().contains(words), "{words:?} is not in {finished}");
    }
    Ok(())
}

fn in_user_namespace(bundle: Bundle) -> Result<Bundle, Stop> {
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    Ok(bundle.namespace("user", None).set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map))
}
